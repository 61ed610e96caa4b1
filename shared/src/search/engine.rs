//! [`Search`] on Tantivy: which versions are open in this process, and the way of a query through the other modules.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use roaring::RoaringBitmap;
use tantivy::{Executor, Index, ReloadPolicy, Searcher};

use super::build::Build;
use super::cache::{Cache, index_folder};
use super::collect::{self, Page};
use super::control::{SearchControl, SearchLimits};
use super::controlled::ControlledSearch;
use super::manifest::{self, Manifest};
use super::schema::Layout;
use super::scratch::{self, Scratch};
use super::{
    Hit, IndexBuild, IndexDamage, IndexPlan, Language, Query, Search, SearchAnswer, SearchError, SearchPage,
    SearchResult, Sort, blocking, lower, ordered, schema, words,
};
use crate::ids::{CollectionId, IndexId};
use crate::objects::{ObjectKey, ObjectStore};

/// Versions of a collection that stay open: the newest, and those that miners still page through.
const OPEN_VERSIONS: usize = 3;
/// Memory in bytes that an import's postings may take before they are written to disk as a segment.
const WRITER_MEMORY: usize = 50_000_000;

/// Looks at the parts of an index side by side, on threads that all indexes of this process share:
/// one search alone is quicker so. Of several at once each has the one thread that it runs on.
static EXECUTOR: LazyLock<Executor> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    Executor::multi_thread(threads, "search-").unwrap_or_else(|error| {
        tracing::warn!(%error, "there are no threads for searching; each search has one");
        Executor::single_thread()
    })
});

/// The search engine: Tantivy indexes in an object store, cached on local disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TantivySearch {
    cache: Arc<Cache>,
    writer_memory: usize,
    limits: SearchLimits,
    /// Searches that threads work on now.
    running: Arc<AtomicUsize>,
    /// By collection, the last used first.
    slots: Arc<Mutex<HashMap<CollectionId, Vec<Slot>>>>,
}

/// An index that is open, or being opened. All who want it wait for one opening.
#[derive(Debug)]
struct Slot {
    index: IndexId,
    opening: Opening,
    /// Known once it has been read.
    manifest: Arc<OnceLock<Arc<Manifest>>>,
}

type Opening = Shared<BoxFuture<'static, SearchResult<Arc<Version>>>>;

/// One open version of an index.
struct Version {
    searcher: Searcher,
    language: Option<Language>,
    /// After the searcher, which maps its files.
    _scratch: Option<Scratch>,
}

impl TantivySearch {
    /// Searches the indexes in `objects`; `cache` is a folder for copies of their files, which several processes may share and which
    /// may be deleted while none runs. Removes what killed processes left half done in it; blocks on the disk for that.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, cache: PathBuf) -> Self {
        if let Err(error) = scratch::sweep_scratch(&cache) {
            tracing::warn!(path = %cache.display(), %error, "what killed processes left in the search cache stays there");
        }
        let cache = Arc::new(Cache::new(objects, cache));
        let (limits, running) = (SearchLimits::default(), Arc::default());
        Self { cache, writer_memory: WRITER_MEMORY, limits, running, slots: Arc::default() }
    }

    /// Sets the bounds on each search.
    #[must_use]
    pub fn with_limits(self, limits: SearchLimits) -> Self {
        Self { limits, ..self }
    }

    /// Counts the searches that threads work on now: also those that nobody waits for any more,
    /// until they end.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Sets the memory in bytes that each build's postings may take (default 50 MB, at least 15 MB): more makes
    /// imports of millions of documents faster.
    #[must_use]
    pub fn with_writer_memory(self, bytes: usize) -> Self {
        Self { writer_memory: bytes, ..self }
    }

    async fn version(&self, index: IndexId) -> SearchResult<Arc<Version>> {
        if index.corpus_version == 0 {
            // Queries on an empty collection are read and checked like all others.
            return Ok(Arc::new(Version { searcher: empty()?, language: None, _scratch: None }));
        }
        self.opening(index).await
    }

    /// The index's opening, moved to the front.
    fn opening(&self, index: IndexId) -> Opening {
        let mut slots = self.slots();
        let slots = slots.entry(index.collection).or_default();
        let known = slots.iter().position(|slot| slot.index == index).map(|at| slots.remove(at));
        let slot = known.unwrap_or_else(|| self.begin(index));
        let opening = slot.opening.clone();
        slots.insert(0, slot);
        slots.truncate(OPEN_VERSIONS);
        opening
    }

    /// Opens an index in a task of its own: whoever asked may give up before a large index is fetched, and the next one who asks finds
    /// more of it. A failed opening is forgotten; those who wait for it share the error, and who comes later tries anew.
    fn begin(&self, index: IndexId) -> Slot {
        let manifest = Arc::default();
        let (search, known) = (self.clone(), Arc::clone(&manifest));
        let task = tokio::spawn(async move {
            let version = search.open(index, &known).await;
            if version.is_err() {
                search.close(index.collection, |slot| Arc::ptr_eq(&slot.manifest, &known));
            } else if let Err(error) = search.evict(index.collection, Vec::new()).await {
                tracing::warn!(%error, "files of old search indexes stay in the cache");
            }
            version
        });
        let opening = task.map(|ended| ended.unwrap_or_else(|error| Err(SearchError::Index(error.to_string()))));
        Slot { index, opening: opening.boxed().shared(), manifest }
    }

    fn close(&self, collection: CollectionId, gone: impl Fn(&Slot) -> bool) {
        if let Some(slots) = self.slots().get_mut(&collection) {
            slots.retain(|slot| !gone(slot));
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<CollectionId, Vec<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, index: IndexId, known: &OnceLock<Arc<Manifest>>) -> SearchResult<Arc<Version>> {
        let objects = &*self.cache.objects;
        let manifest = Manifest::read(objects, index).await?;
        let manifest = known.get_or_init(|| Arc::new(manifest));
        let scratch = match self.cache.checkout(index.collection, manifest).await {
            // Its files are deleted after its manifest: that says whether the version was dropped in the meantime.
            Err(SearchError::Objects(error)) => {
                Manifest::read(objects, index).await?;
                return Err(error.into());
            }
            other => other?,
        };
        let language = manifest.language;
        blocking(move || {
            let mut index = Index::open_in_dir(index_folder(&scratch))?;
            index.set_tokenizers(words::tokenizers(language));
            index.set_executor(EXECUTOR.clone());
            Ok(Arc::new(Version { searcher: searcher(&index)?, language, _scratch: Some(scratch) }))
        })
        .await
    }

    /// Drops the cached files that neither an open index nor one of `kept` needs.
    async fn evict(&self, collection: CollectionId, mut kept: Vec<(IndexId, Arc<Manifest>)>) -> SearchResult<()> {
        for slot in self.slots().get(&collection).into_iter().flatten() {
            match slot.manifest.get() {
                Some(manifest) => kept.push((slot.index, Arc::clone(manifest))),
                // It is being opened, and what it needs is not known yet.
                None => return Ok(()),
            }
        }
        let newest = kept.iter().map(|(index, _)| index.corpus_version).max().unwrap_or_default();
        self.cache.evict(collection, kept.into_iter().map(|(_, manifest)| manifest).collect(), newest).await
    }

    /// Runs `work` with the query on a version, off the threads that serve connections. It ends
    /// when the time for a search is up, and when the future is dropped: with the request whose
    /// time is up or whose client is gone.
    async fn run<T: Send + 'static>(
        &self,
        index: IndexId,
        query: &Query,
        work: impl FnOnce(&ControlledSearch<'_>) -> SearchResult<T> + Send + 'static,
    ) -> SearchResult<T> {
        let version = self.version(index).await?;
        let (query, control) = (query.clone(), SearchControl::new(self.limits.memory));
        let _ends = control.flag().stop_on_drop();
        let running = self.running.clone();
        let search = blocking(move || {
            let counted = Counted::new(running);
            control.check()?;
            let queries = lower::IndexQueries::new(Layout::of(version.language), &control);
            let query = lower::lower(&query, version.language, &queries)?.controlled(&control);
            let (bytes, alone) = (queries.bytes(), counted.is_alone());
            work(&ControlledSearch::new(&version.searcher, query, bytes, alone, &control)?)
        });
        tokio::time::timeout(self.limits.time, search).await.unwrap_or(Err(SearchError::TimedOut))
    }
}

/// Counts a search for as long as a thread works on it.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(running: Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self(running)
    }

    /// Tells that no other search is worked on.
    fn is_alone(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn empty() -> SearchResult<Searcher> {
    searcher(
        &Index::builder()
            .schema(Layout::of(None).schema.clone())
            .tokenizers(words::tokenizers(None))
            .create_in_ram()?,
    )
}

/// A version never changes, so nothing is ever reloaded.
fn searcher(index: &Index) -> SearchResult<Searcher> {
    Ok(index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?.searcher())
}

#[async_trait]
impl Search for TantivySearch {
    async fn search(&self, index: IndexId, page: SearchPage<'_>) -> SearchResult<SearchAnswer> {
        let known = schema::facet_names();
        if let Some(field) = page.facets.iter().find(|field| !known.contains(field)) {
            return Err(SearchError::UnknownField { field: field.clone(), known });
        }
        let SearchPage { query, sort, offset, limit, facets } = page;
        let page = Page { sort, offset, limit, facets: facets.to_vec() };
        self.run(index, query, move |search| collect::page(search, &page)).await
    }

    async fn matching(&self, index: IndexId, query: &Query) -> SearchResult<RoaringBitmap> {
        self.run(index, query, collect::ids).await
    }

    async fn ordered(&self, index: IndexId, query: &Query, sort: Sort) -> SearchResult<Vec<Hit>> {
        self.run(index, query, move |search| ordered::hits(search, sort)).await
    }

    async fn prepare(&self, index: IndexId) -> SearchResult<()> {
        self.version(index).await.map(drop)
    }

    async fn language(&self, index: IndexId) -> SearchResult<Option<Language>> {
        if index.corpus_version == 0 {
            return Ok(None);
        }
        let open = self.slots().get(&index.collection).and_then(|slots| {
            slots.iter().find(|slot| slot.index == index)?.manifest.get().map(|manifest| manifest.language)
        });
        match open {
            Some(language) => Ok(language),
            None => Ok(Manifest::read(&*self.cache.objects, index).await?.language),
        }
    }

    async fn build(&self, plan: IndexPlan) -> SearchResult<Box<dyn IndexBuild>> {
        Ok(Box::new(Build::begin(Arc::clone(&self.cache), plan, self.writer_memory).await?))
    }

    async fn discard(&self, index: IndexId) -> SearchResult<()> {
        let IndexId { collection, corpus_version, import: Some(import) } = index else { return Ok(()) };
        let objects = &*self.cache.objects;
        objects.delete(&[ObjectKey::IndexManifest(index).to_string()]).await?;
        let own = manifest::object_name(corpus_version - 1, import, "");
        let names = manifest::object_names(objects, collection).await?;
        let own = names.iter().filter(|name| name.starts_with(&own));
        Ok(objects.delete(&manifest::file_keys(collection, own)).await?)
    }

    async fn retain(&self, collection: CollectionId, kept: &[IndexId]) -> SearchResult<()> {
        let Some(newest) = kept.iter().map(|index| index.corpus_version).max() else { return Ok(()) };
        let objects = &*self.cache.objects;
        let mut manifests = Vec::new();
        for index in kept {
            match Manifest::of_any_layout(objects, *index).await {
                // Another import may have dropped an older one by now.
                Err(SearchError::VersionGone(version)) if version < newest => {}
                manifest => manifests.push((*index, Arc::new(manifest?))),
            }
        }
        let keys: HashSet<String> = kept.iter().map(|index| ObjectKey::IndexManifest(*index).to_string()).collect();
        let stored = manifest::stored(objects, collection).await?.into_iter();
        let gone = stored.filter(|(key, version)| *version <= newest && !keys.contains(key)).map(|(key, _)| key);
        objects.delete(&gone.collect::<Vec<_>>()).await?;
        let needed: HashSet<&String> =
            manifests.iter().flat_map(|(_, manifest)| manifest.files.values()).map(|file| &file.object).collect();
        // Files of an import that is under way stand on the newest version, or on one that has come since.
        let unneeded =
            |name: &&String| !needed.contains(name) && manifest::base_version(name).is_some_and(|base| base < newest);
        let names = manifest::object_names(objects, collection).await?;
        objects.delete(&manifest::file_keys(collection, names.iter().filter(unneeded))).await?;
        self.close(collection, |slot| slot.index.corpus_version <= newest && !kept.contains(&slot.index));
        self.evict(collection, manifests).await
    }

    async fn objects_of(&self, index: IndexId) -> SearchResult<Option<Vec<String>>> {
        let manifest = Manifest::of_any_layout(&*self.cache.objects, index).await?;
        let files = manifest.files.values().map(|file| &file.object);
        let mut keys = manifest::file_keys(index.collection, files);
        keys.push(ObjectKey::IndexManifest(index).to_string());
        Ok(Some(keys))
    }

    async fn check(&self, index: IndexId, full: bool) -> SearchResult<Vec<IndexDamage>> {
        manifest::find_damage(&*self.cache.objects, index, full).await
    }

    async fn ping(&self) -> SearchResult<()> {
        Ok(())
    }

    fn fields(&self) -> Vec<String> {
        schema::names()
    }

    fn facet_fields(&self) -> Vec<String> {
        schema::facet_names()
    }
}
