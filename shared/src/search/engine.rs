//! [`Search`] on Tantivy: which versions are open in this process, and the way of a query through the other modules.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use roaring::RoaringBitmap;
use tantivy::{Index, ReloadPolicy, Searcher};
use tokio::sync::OnceCell;

use super::build::Build;
use super::cache::{Cache, index_folder};
use super::collect::{self, Page};
use super::manifest::{self, Manifest};
use super::schema::LAYOUT;
use super::scratch::Scratch;
use super::{IndexBuild, Search, SearchAnswer, SearchError, SearchPage, SearchResult, blocking, query, schema, words};
use crate::ids::CollectionId;
use crate::objects::{ObjectKey, ObjectStore};

/// Versions of a collection that stay open: the newest, and those that miners still page through.
const OPEN_VERSIONS: usize = 3;
/// Memory in bytes that an import's postings may take before they are written to disk as a segment.
const WRITER_MEMORY: usize = 50_000_000;

/// The search engine: Tantivy indexes in an object store, cached on local disk.
#[derive(Debug)]
pub struct TantivySearch {
    cache: Arc<Cache>,
    writer_memory: usize,
    /// By collection, the last used first. A cell makes all who want a version wait for one opening of it.
    versions: Mutex<HashMap<CollectionId, Vec<(i64, VersionCell)>>>,
}

type VersionCell = Arc<OnceCell<Arc<Version>>>;

/// One open version of an index.
struct Version {
    searcher: Searcher,
    manifest: Option<Arc<Manifest>>,
    /// After the searcher, which maps its files.
    _scratch: Option<Scratch>,
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").field("documents", &self.searcher.num_docs()).finish_non_exhaustive()
    }
}

impl TantivySearch {
    /// Searches the indexes in `objects`; `cache` is a folder for copies of their files, which several processes may share and which
    /// may be deleted while none runs.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, cache: PathBuf) -> Self {
        let cache = Arc::new(Cache::new(objects, cache));
        Self { cache, writer_memory: WRITER_MEMORY, versions: Mutex::default() }
    }

    /// Sets the memory in bytes that each build's postings may take (default 50 MB, at least 15 MB): more makes
    /// imports of millions of documents faster.
    #[must_use]
    pub fn with_writer_memory(self, bytes: usize) -> Self {
        Self { writer_memory: bytes, ..self }
    }

    async fn version(&self, collection: CollectionId, corpus_version: i64) -> SearchResult<Arc<Version>> {
        let cell = self.cell(collection, corpus_version);
        if let Some(version) = cell.get() {
            return Ok(Arc::clone(version));
        }
        let version = cell.get_or_try_init(|| self.open(collection, corpus_version)).await.map(Arc::clone);
        if version.is_err() {
            self.close(collection, |other, cell| other == corpus_version && !cell.initialized());
        } else if let Err(error) = self.evict(collection).await {
            tracing::warn!(%error, "files of old search indexes stay in the cache");
        }
        version
    }

    /// The version's cell, moved to the front.
    fn cell(&self, collection: CollectionId, corpus_version: i64) -> VersionCell {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = versions.entry(collection).or_default();
        let known = cells.iter().position(|(version, _)| *version == corpus_version);
        let cell = known.map(|at| cells.remove(at).1).unwrap_or_default();
        cells.insert(0, (corpus_version, Arc::clone(&cell)));
        cells.truncate(OPEN_VERSIONS);
        cell
    }

    fn close(&self, collection: CollectionId, gone: impl Fn(i64, &VersionCell) -> bool) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cells) = versions.get_mut(&collection) {
            cells.retain(|(version, cell)| !gone(*version, cell));
        }
    }

    async fn open(&self, collection: CollectionId, corpus_version: i64) -> SearchResult<Arc<Version>> {
        if corpus_version == 0 {
            // Queries on an empty collection are read and checked like all others.
            return Ok(Arc::new(Version { searcher: empty()?, manifest: None, _scratch: None }));
        }
        let manifest = Manifest::read(&*self.cache.objects, collection, corpus_version).await?;
        let scratch = match self.cache.checkout(collection, &manifest).await {
            // Its files are deleted after its manifest: that says whether the version was forgotten in the meantime.
            Err(SearchError::Objects(error)) => {
                Manifest::read(&*self.cache.objects, collection, corpus_version).await?;
                return Err(error.into());
            }
            other => other?,
        };
        blocking(move || {
            let mut index = Index::open_in_dir(index_folder(&scratch))?;
            index.set_tokenizers(words::tokenizers());
            Ok(Arc::new(Version {
                searcher: searcher(&index)?,
                manifest: Some(Arc::new(manifest)),
                _scratch: Some(scratch),
            }))
        })
        .await
    }

    /// Drops the cached files that no open version needs.
    async fn evict(&self, collection: CollectionId) -> SearchResult<()> {
        let (kept, newest) = {
            let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(cells) = versions.get(&collection) else { return Ok(()) };
            // While a version is being opened, what it needs is not known.
            if cells.iter().any(|(_, cell)| !cell.initialized()) {
                return Ok(());
            }
            let kept = cells.iter().filter_map(|(_, cell)| cell.get()?.manifest.clone()).collect::<Vec<_>>();
            (kept, cells.iter().map(|(version, _)| *version).max().unwrap_or_default())
        };
        if kept.is_empty() { Ok(()) } else { self.cache.evict(collection, kept, newest).await }
    }

    /// Runs `work` with the version's searcher and the query, off the threads that serve connections.
    async fn run<T: Send + 'static>(
        &self,
        collection: CollectionId,
        corpus_version: i64,
        text: &str,
        work: impl FnOnce(&Searcher, &dyn tantivy::query::Query) -> SearchResult<T> + Send + 'static,
    ) -> SearchResult<T> {
        let version = self.version(collection, corpus_version).await?;
        let text = text.to_owned();
        blocking(move || {
            let query = query::parse(version.searcher.index(), &text)?;
            work(&version.searcher, &*query)
        })
        .await
    }
}

fn empty() -> SearchResult<Searcher> {
    searcher(&Index::builder().schema(LAYOUT.schema.clone()).tokenizers(words::tokenizers()).create_in_ram()?)
}

/// A version never changes, so nothing is ever reloaded.
fn searcher(index: &Index) -> SearchResult<Searcher> {
    Ok(index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?.searcher())
}

#[async_trait]
impl Search for TantivySearch {
    async fn search(
        &self,
        collection: CollectionId,
        corpus_version: i64,
        page: SearchPage<'_>,
    ) -> SearchResult<SearchAnswer> {
        let known = schema::facet_names();
        if let Some(field) = page.facets.iter().find(|field| !known.contains(field)) {
            return Err(SearchError::UnknownField { field: field.clone(), known });
        }
        let SearchPage { query, sort, offset, limit, facets } = page;
        let page = Page { sort, offset, limit, facets: facets.to_vec() };
        self.run(collection, corpus_version, query, move |searcher, query| collect::page(searcher, query, &page)).await
    }

    async fn matching(
        &self,
        collection: CollectionId,
        corpus_version: i64,
        query: &str,
    ) -> SearchResult<RoaringBitmap> {
        self.run(collection, corpus_version, query, collect::ids).await
    }

    async fn build(&self, collection: CollectionId, base_version: i64) -> SearchResult<Box<dyn IndexBuild>> {
        let base = match base_version {
            0 => None,
            version => Some(Manifest::read(&*self.cache.objects, collection, version).await?),
        };
        let cache = Arc::clone(&self.cache);
        Ok(Box::new(Build::begin(cache, collection, base_version, base, self.writer_memory).await?))
    }

    async fn forget_before(&self, collection: CollectionId, oldest: i64) -> SearchResult<()> {
        let objects = &*self.cache.objects;
        let (old, kept): (Vec<i64>, Vec<i64>) =
            manifest::versions(objects, collection).await?.into_iter().partition(|version| *version < oldest);
        let mut needed = HashSet::new();
        for version in kept {
            let manifest = Manifest::read(objects, collection, version).await?;
            needed.extend(manifest.files.into_values().map(|file| file.object));
        }
        let manifest_key = |version| ObjectKey::IndexManifest { collection, corpus_version: version }.to_string();
        let keys: Vec<String> = old.into_iter().map(manifest_key).collect();
        objects.delete(&keys).await?;
        // Files of an import that is under way stand on the current version, so they are not below `oldest`.
        let unneeded =
            |name: &String| !needed.contains(name) && manifest::base_version(name).is_some_and(|base| base < oldest);
        let names = manifest::object_names(objects, collection).await?.into_iter().filter(unneeded);
        let keys: Vec<String> =
            names.map(|name| ObjectKey::IndexFile { collection, name: &name }.to_string()).collect();
        objects.delete(&keys).await?;
        self.close(collection, |version, _| version < oldest);
        self.evict(collection).await
    }

    fn fields(&self) -> Vec<String> {
        schema::names()
    }

    fn facet_fields(&self) -> Vec<String> {
        schema::facet_names()
    }
}
