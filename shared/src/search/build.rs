//! Making the index of a new corpus version on top of an older one.
//!
//! The index is written in a private folder; only what is new in it travels to the object store, and the manifest last. A build that is
//! dropped leaves nothing on disk; what it had stored is removed by [`super::Search::discard`], or later by [`super::Search::retain`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use async_trait::async_trait;
use bytes::Bytes;
use tantivy::index::{IndexMeta, SegmentId, SegmentMeta};
use tantivy::indexer::IndexWriterOptions;
use tantivy::merge_policy::LogMergePolicy;
use tantivy::schema::document::Document;
use tantivy::{Index, IndexWriter, TantivyDocument, Term};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cache::{Cache, disk, index_folder};
use super::manifest::{self, Manifest, StoredFile};
use super::schema::Layout;
use super::scratch::Scratch;
use super::{IndexBuild, IndexDocument, IndexPlan, SearchError, SearchResult, blocking, schema, words};
use crate::ids::VersionId;
use crate::objects::{ObjectKey, ObjectStore, Part, Upload};

/// Text waiting to be indexed, in units of [`UNIT`] bytes: Tantivy bounds its queue by number of documents only, and
/// ten thousand books would not fit in memory.
const WAITING: usize = 4096;
const UNIT: usize = 4096;
/// Most threads that index, each with memory of its own.
const THREADS: usize = 4;
/// Imports of fewer documents leave one segment, however many threads have written it.
const SMALL: u32 = 1000;
/// Segments with more deleted documents than this share are rewritten.
const DELETED_SHARE: f32 = 0.3;
/// Length of an upload's parts in bytes, and of what is held in memory of a file.
const PART: u64 = 8 * 1024 * 1024;

/// An index being made.
pub(super) struct Build {
    cache: Arc<Cache>,
    plan: IndexPlan,
    layout: &'static Layout,
    /// What the base has in the object store already.
    base_files: BTreeMap<String, StoredFile>,
    /// Before `scratch`, so that no thread writes there any more when it is removed.
    writer: IndexWriter<Metered>,
    index: Index,
    scratch: Scratch,
    room: Arc<Semaphore>,
}

impl Build {
    /// Begins on top of the plan's base, or of nothing where that is version 0 or all documents are added afresh.
    ///
    /// # Errors
    /// [`SearchError::Outdated`] where the base has another layout or language.
    pub(super) async fn begin(cache: Arc<Cache>, plan: IndexPlan, memory: usize) -> SearchResult<Self> {
        let manifest = match plan.base.corpus_version {
            0 => None,
            _ if plan.afresh => None,
            _ => Some(Manifest::read(&*cache.objects, plan.base).await?),
        };
        let scratch = match &manifest {
            Some(manifest) if manifest.language != plan.language => return Err(manifest::outdated()),
            Some(manifest) => cache.checkout(plan.base.collection, manifest).await?,
            None => cache.scratch(plan.base.collection).await?,
        };
        let (fresh, layout) = (manifest.is_none(), Layout::of(plan.language));
        let (writer, index, scratch) = blocking(move || {
            let folder = index_folder(&scratch);
            let builder = Index::builder().schema(layout.schema.clone());
            let mut index = if fresh { builder.create_in_dir(&folder)? } else { Index::open_in_dir(&folder)? };
            index.set_tokenizers(words::tokenizers(plan.language));
            let threads = available_parallelism().map_or(1, usize::from).min(THREADS);
            let options = IndexWriterOptions::builder().memory_budget_per_thread(memory).num_merge_threads(1);
            let options = options.num_worker_threads(threads).build();
            let writer = index.writer_with_options(options)?;
            let mut policy = LogMergePolicy::default();
            policy.set_del_docs_ratio_before_merge(DELETED_SHARE);
            writer.set_merge_policy(Box::new(policy));
            Ok((writer, index, scratch))
        })
        .await?;
        let base_files = manifest.map(|manifest| manifest.files).unwrap_or_default();
        let room = Arc::new(Semaphore::new(WAITING));
        Ok(Self { cache, plan, layout, base_files, writer, index, scratch, room })
    }
}

#[async_trait]
impl IndexBuild for Build {
    async fn add(&mut self, document: IndexDocument<'_>) -> SearchResult<()> {
        // With stems and exact forms the text waits twice.
        let copies = if self.plan.language.is_some() { 2 } else { 1 };
        let units = (copies * document.text.map_or(0, str::len) / UNIT + 1).min(WAITING);
        let permits = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|error| SearchError::Index(error.to_string()))?;
        if let Some(replaced) = document.replaces {
            self.remove(replaced).await?;
        }
        self.writer.add_document(Metered { entry: schema::entry(self.layout, &document), _room: room })?;
        Ok(())
    }

    async fn remove(&mut self, id: VersionId) -> SearchResult<()> {
        self.writer.delete_term(Term::from_field_u64(self.layout.id, u64::from(id.0)));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> SearchResult<()> {
        let Self { cache, plan, base_files, mut writer, index, scratch, .. } = *self;
        let meta = blocking(move || {
            let before = index.searchable_segment_ids()?;
            writer.commit()?;
            join_small(&mut writer, &index, &before)?;
            writer.wait_merging_threads()?;
            Ok(index.load_metas()?)
        })
        .await?;
        let manifest = store_new(&cache, plan, &index_folder(&scratch), &meta, base_files).await?;
        manifest.write(&*cache.objects, plan.base.next(plan.import)).await
    }
}

/// Joins the segments that are not among those of `before`, where they are small: else each small import would leave as many as there are threads.
fn join_small(writer: &mut IndexWriter<Metered>, index: &Index, before: &[SegmentId]) -> tantivy::Result<()> {
    let mut new = index.searchable_segment_metas()?;
    new.retain(|segment| !before.contains(&segment.id()));
    if new.len() > 1 && new.iter().map(SegmentMeta::num_docs).sum::<u32>() < SMALL {
        let new: Vec<SegmentId> = new.iter().map(SegmentMeta::id).collect();
        if let Err(error) = writer.merge(&new).wait() {
            tracing::debug!(%error, "new segments stay as they are, or are being joined with others already");
        }
    }
    Ok(())
}

/// Stores the files that the base does not have, and gives the manifest of the whole.
async fn store_new(
    cache: &Cache,
    plan: IndexPlan,
    folder: &Path,
    meta: &IndexMeta,
    mut known: BTreeMap<String, StoredFile>,
) -> SearchResult<Manifest> {
    let IndexPlan { base, import, language, .. } = plan;
    let collection = base.collection;
    let mut files = BTreeMap::new();
    for name in meta.list_segment_files() {
        let path = folder.join(&name);
        let name = name.to_string_lossy().into_owned();
        // The list names every kind of file that a segment can have.
        if !path.exists() {
            continue;
        }
        let file = match known.remove(&name) {
            Some(file) => file,
            None => {
                let object = manifest::object_name(base.corpus_version, import, &name);
                let key = ObjectKey::IndexFile { collection, name: &object }.to_string();
                let (size, crc32) = upload(&*cache.objects, &key, &path).await?;
                cache.adopt(collection, &object, &path);
                StoredFile { object, size, crc32 }
            }
        };
        files.insert(name, file);
    }
    let meta = serde_json::to_value(meta).map_err(|error| SearchError::Index(error.to_string()))?;
    Ok(Manifest::new(language, meta, files))
}

/// Stores a file; gives its length and CRC-32.
async fn upload(objects: &dyn ObjectStore, key: &str, path: &Path) -> SearchResult<(u64, u32)> {
    let size = fs::metadata(path).map_err(|error| disk(path, &error))?.len();
    let mut reader = PartReader {
        file: tokio::fs::File::open(path).await.map_err(|error| disk(path, &error))?,
        crc32: crc32fast::Hasher::new(),
    };
    if size <= PART {
        let bytes = reader.next(path).await?;
        objects.put(key, bytes).await?;
    } else {
        let upload = objects.create_upload(key, PART).await?;
        if let Err(error) = upload_parts(objects, &upload, &mut reader, path).await {
            // The first error is the one to tell; a leftover upload is swept by the store's lifecycle.
            let _ = objects.abort_upload(&upload).await;
            return Err(error);
        }
    }
    Ok((size, reader.crc32.finalize()))
}

async fn upload_parts(
    objects: &dyn ObjectStore,
    upload: &Upload,
    reader: &mut PartReader,
    path: &Path,
) -> SearchResult<()> {
    let mut parts: Vec<Part> = Vec::new();
    for number in 1.. {
        let bytes = reader.next(path).await?;
        if bytes.is_empty() {
            break;
        }
        parts.push(objects.put_part(upload, number, bytes).await?);
    }
    Ok(objects.complete_upload(upload, &parts).await?)
}

struct PartReader {
    file: tokio::fs::File,
    crc32: crc32fast::Hasher,
}

impl PartReader {
    /// The next part; empty at the end.
    async fn next(&mut self, path: &Path) -> SearchResult<Bytes> {
        let mut bytes = Vec::new();
        (&mut self.file).take(PART).read_to_end(&mut bytes).await.map_err(|error| disk(path, &error))?;
        self.crc32.update(&bytes);
        Ok(bytes.into())
    }
}

/// A document that gives its room in the queue back when the indexing thread takes it.
struct Metered {
    entry: TantivyDocument,
    _room: OwnedSemaphorePermit,
}

impl Document for Metered {
    type Value<'a> = <TantivyDocument as Document>::Value<'a>;
    type FieldsValuesIter<'a> = <TantivyDocument as Document>::FieldsValuesIter<'a>;

    fn iter_fields_and_values(&self) -> Self::FieldsValuesIter<'_> {
        self.entry.iter_fields_and_values()
    }

    fn into_tantivy_document(self) -> TantivyDocument {
        self.entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;

    #[tokio::test]
    async fn files_of_any_size_arrive_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let objects = objects::open(&format!("file://{}", folder.path().join("objects").display())).await.unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, PART, PART + 1, 2 * PART] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let stored = upload(&*objects, "indexes/1/files/x", &path).await.unwrap();
            assert_eq!(stored, (size, crc32fast::hash(&bytes)));
            assert!(objects.get("indexes/1/files/x", None).await.unwrap() == bytes);
        }
    }
}
