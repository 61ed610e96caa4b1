//! From checked lines to stored documents: finds what has changed, gives names and ids, writes packs, index and rows.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::domain::{FileRecord, Format, content_hash};
use adit_shared::ids::VersionId;
use adit_shared::names;
use adit_shared::search::{IndexBuild, IndexDocument};
use adit_shared::store::{CurrentDocument, ImportLease, NewCollection, NewDocument};
use anyhow::Context as _;
use futures::{StreamExt as _, stream};

use super::folder::{BATCH_LINES, BadLine, Batch, SourceDocument, SourceFile};
use super::meta;
use super::packs::Packs;
use super::prepare::{Content, Digests, Prepared, measure, prepare};
use crate::services::Services;

/// Text beyond this length is kept and delivered, but not searched.
pub(crate) const INDEXED_TEXT: u64 = 64 * 1024 * 1024;

/// Most documents that a thread examines in a row, and bytes of their files if they are more than one: to hand each over by itself costs as much as to
/// examine a short one.
const JOB: (usize, u64) = (8, 1024 * 1024);

/// What became of the documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) added: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    /// Of withdrawn works, which an import leaves as they are.
    pub(crate) withdrawn: u64,
    pub(crate) bad: u64,
}

/// Takes documents in, batch by batch.
pub(crate) struct Importer<'a> {
    services: &'a Services,
    collection: Arc<NewCollection>,
    lease: &'a ImportLease,
    packs: &'a mut Packs,
    index: &'a mut dyn IndexBuild,
    counts: Counts,
    // Names given in this import, folded, with the hash of the ref that has them.
    given: HashMap<String, Sha256>,
    ids: std::ops::Range<u32>,
    /// Of the batch before: they are staged while the next one is prepared.
    unstaged: Vec<NewDocument>,
}

/// A document whose content is not the stored one.
struct Changed {
    source: SourceDocument,
    name: String,
    current: Option<CurrentDocument>,
    files: Vec<(SourceFile, Prepared)>,
    meta: Prepared,
    hash: Sha256,
    text: Option<String>,
}

enum Examined {
    Unchanged,
    Changed(Box<Changed>),
    Bad(BadLine),
}

impl<'a> Importer<'a> {
    /// An importer into the collection of the lease.
    pub(crate) fn new(
        services: &'a Services,
        collection: &NewCollection,
        lease: &'a ImportLease,
        packs: &'a mut Packs,
        index: &'a mut dyn IndexBuild,
    ) -> Self {
        let (counts, given, ids, unstaged) = (Counts::default(), HashMap::new(), 0..0, Vec::new());
        let collection = Arc::new(collection.clone());
        Self { services, collection, lease, packs, index, counts, given, ids, unstaged }
    }

    fn refuse(&mut self, bad: &BadLine) {
        self.counts.bad += 1;
        super::report_bad(self.counts.bad, bad);
    }

    /// Imports a batch. Files are read and compressed on all cores; packs, index and rows follow in the order of lines.
    pub(crate) async fn take(&mut self, batch: Batch) -> anyhow::Result<()> {
        let (services, lease, before) = (self.services, self.lease, std::mem::take(&mut self.unstaged));
        let staged = async { Ok(services.store.stage_documents(lease, &before).await?) };
        let (rows, ()) = futures::try_join!(self.write_batch(batch), staged)?;
        self.unstaged = rows;
        Ok(())
    }

    /// Stages what is not staged yet.
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.services.store.stage_documents(self.lease, &std::mem::take(&mut self.unstaged)).await?)
    }

    /// Prepares a batch and writes it to packs and index; gives its rows.
    async fn write_batch(&mut self, batch: Batch) -> anyhow::Result<Vec<NewDocument>> {
        let Batch { documents: mut batch, bad, .. } = batch;
        for bad in &bad {
            self.refuse(bad);
        }
        let refs: Vec<String> = batch.iter().map(|document| document.r#ref.clone()).collect();
        let withdrawn = self.services.store.withdrawn_refs(self.lease.collection(), &refs).await?;
        batch.retain(|document| !withdrawn.contains(&document.r#ref));
        self.counts.withdrawn += withdrawn.len() as u64;
        let mut current = self.services.store.current_documents(self.lease, &refs).await?;
        let names = self.names(&batch, &current).await?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let collection = Arc::clone(&self.collection);
        let named = batch.into_iter().zip(names).map(|(source, name)| (current.remove(&source.r#ref), source, name));
        let mut examined = stream::iter(in_jobs(named.collect()))
            .map(|job| {
                let collection = Arc::clone(&collection);
                tokio::task::spawn_blocking(move || {
                    let examine = |(current, source, name)| examine(source, name, current, &collection);
                    job.into_iter().map(examine).collect::<Vec<_>>()
                })
            })
            .buffered(cores);
        let mut rows = Vec::new();
        while let Some(results) = examined.next().await {
            for result in results.context("preparing a document broke down")? {
                match result {
                    Examined::Unchanged => self.counts.unchanged += 1,
                    Examined::Bad(bad) => self.refuse(&bad),
                    Examined::Changed(changed) => rows.push(self.write(*changed).await?),
                }
            }
        }
        Ok(rows)
    }

    /// What has been done so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The documents' safe names: a work keeps its name through all its versions; a new one gets a name that no other has.
    async fn names(
        &mut self,
        batch: &[SourceDocument],
        current: &HashMap<String, CurrentDocument>,
    ) -> anyhow::Result<Vec<String>> {
        let plain: Vec<String> = batch.iter().map(|document| names::safe_name(&document.r#ref)).collect();
        let folded: Vec<String> = plain.iter().map(|name| names::fold(name)).collect();
        let owners = self.services.store.name_owners(self.lease, &folded).await?;
        let mut names = Vec::with_capacity(batch.len());
        for ((document, plain), folded) in batch.iter().zip(plain).zip(folded) {
            if let Some(current) = current.get(&document.r#ref) {
                names.push(current.name.clone());
                continue;
            }
            let own = Sha256::of(document.r#ref.as_bytes());
            let taken = owners.get(&folded).is_some_and(|owner| *owner != document.r#ref)
                || self.given.get(&folded).is_some_and(|owner| *owner != own);
            let name = if taken { names::distinct_name(&document.r#ref) } else { plain };
            self.given.insert(names::fold(&name), own);
            names.push(name);
        }
        Ok(names)
    }

    async fn next_id(&mut self) -> anyhow::Result<VersionId> {
        if self.ids.is_empty() {
            let VersionId(first) = self.services.store.reserve_versions(BATCH_LINES as u32).await?;
            self.ids = first..first + BATCH_LINES as u32;
        }
        self.ids.next().map(VersionId).context("no id was reserved")
    }

    async fn write(&mut self, changed: Changed) -> anyhow::Result<NewDocument> {
        let Changed { source, name, current, files, meta, hash, text } = changed;
        let id = self.next_id().await?;
        let mut records = Vec::with_capacity(files.len() + 1);
        for (file, prepared) in files {
            records.push(self.store_file(file.format, file.media_type, prepared).await?);
        }
        records.push(self.store_file(Format::meta(), meta::MEDIA_TYPE.to_owned(), meta).await?);
        records.sort_by(|a, b| a.format.cmp(&b.format));
        let replaces = current.as_ref().map(|current| current.id);
        let document = IndexDocument {
            id,
            replaces,
            r#ref: &source.r#ref,
            access: &source.access,
            metadata: &source.metadata,
            formats: records.iter().map(|file| file.format.as_str()).collect(),
            text: text.as_deref(),
        };
        self.index.add(document).await?;
        *(if replaces.is_some() { &mut self.counts.updated } else { &mut self.counts.added }) += 1;
        Ok(NewDocument {
            id,
            r#ref: source.r#ref,
            version: current.map_or(1, |current| current.version + 1),
            folded_name: names::fold(&name),
            name,
            metadata: source.metadata,
            content_hash: hash,
            access: source.access,
            replaces,
            files: records,
        })
    }

    async fn store_file(
        &mut self,
        format: Format,
        media_type: String,
        prepared: Prepared,
    ) -> anyhow::Result<FileRecord> {
        let Prepared { digests: Digests { size, sha256, crc32 }, encoding, deflate_crc32, payload } = prepared;
        let place = self.packs.append(&format, payload).await?;
        Ok(FileRecord { format, media_type, size, sha256, crc32, encoding, deflate_crc32, place })
    }
}

/// A document to be examined: its stored version, what the folder says, and its name.
type Task = (Option<CurrentDocument>, SourceDocument, String);

/// What is handed over to a thread at once.
fn in_jobs(tasks: Vec<Task>) -> Vec<Vec<Task>> {
    let mut jobs: Vec<Vec<Task>> = Vec::new();
    let mut bytes = 0;
    for task in tasks {
        let length: u64 = task.1.files.iter().map(|file| file.length).sum();
        match jobs.last_mut().filter(|job| job.len() < JOB.0 && bytes + length <= JOB.1) {
            Some(job) => {
                job.push(task);
                bytes += length;
            }
            None => {
                jobs.push(vec![task]);
                bytes = length;
            }
        }
    }
    jobs
}

/// Compares a document with its stored version and, if it differs, prepares its files. Blocks on files and the processor.
fn examine(
    source: SourceDocument,
    name: String,
    current: Option<CurrentDocument>,
    collection: &NewCollection,
) -> Examined {
    let line = source.line;
    match try_examine(source, name, current, collection) {
        Ok(examined) => examined,
        Err(error) => Examined::Bad(BadLine { line, reason: format!("{error:#}") }),
    }
}

fn try_examine(
    source: SourceDocument,
    name: String,
    current: Option<CurrentDocument>,
    collection: &NewCollection,
) -> anyhow::Result<Examined> {
    let mut contents = source.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(current) = &current {
        let measured = source.files.iter().zip(&mut contents);
        let digests = measured.map(|(file, content)| measure(content).with_context(|| unreadable(file)));
        let digests = digests.collect::<anyhow::Result<Vec<_>>>()?;
        let meta = measure(&mut render_meta(&source, &digests, collection))?;
        // What `restricted` stands for is the collection's to say, and not in the document's metadata.
        if current.content_hash == hash(&source, &name, &digests, &meta) && current.access == source.access {
            return Ok(Examined::Unchanged);
        }
    }
    let mut files = Vec::with_capacity(source.files.len());
    for (file, content) in source.files.iter().zip(&mut contents) {
        let prepared = prepare(content, &file.media_type).with_context(|| unreadable(file))?;
        files.push((file.clone(), prepared));
    }
    let digests: Vec<Digests> = files.iter().map(|(_, prepared)| prepared.digests).collect();
    let meta = prepare(&mut render_meta(&source, &digests, collection), meta::MEDIA_TYPE)?;
    let hash = hash(&source, &name, &digests, &meta.digests);
    let mut texts = source.files.iter().zip(contents).filter(|(file, _)| file.format.as_str() == "txt");
    let text = texts.next().map(|(file, content)| searched(content).with_context(|| unreadable(file))).transpose()?;
    drop(texts);
    Ok(Examined::Changed(Box::new(Changed { source, name, current, files, meta, hash, text })))
}

fn hash(source: &SourceDocument, name: &str, digests: &[Digests], meta: &Digests) -> Sha256 {
    let format = Format::meta();
    let files = source.files.iter().zip(digests).map(|(f, d)| (&f.format, f.media_type.as_str(), d.size, &d.sha256));
    content_hash(&source.r#ref, name, files.chain([(&format, meta::MEDIA_TYPE, meta.size, &meta.sha256)]))
}

fn render_meta(source: &SourceDocument, digests: &[Digests], collection: &NewCollection) -> Content {
    let mut files: Vec<_> = source.files.iter().zip(digests).collect();
    files.sort_by(|a, b| a.0.format.cmp(&b.0.format));
    let files: Vec<_> =
        files.into_iter().map(|(f, d)| (f.format.to_string(), f.media_type.clone(), d.size, d.sha256)).collect();
    Content::Memory(meta::render(&source.r#ref, &source.metadata, collection, &files))
}

fn unreadable(file: &SourceFile) -> String {
    format!("the file {} cannot be read", file.path.display())
}

fn read(file: &SourceFile) -> anyhow::Result<Content> {
    File::open(&file.path).and_then(Content::read).with_context(|| unreadable(file))
}

/// The text to be searched.
fn searched(content: Content) -> io::Result<String> {
    match content {
        Content::Memory(bytes) => Ok(text_of(bytes)),
        Content::File(mut file) => {
            file.rewind()?;
            decoded(file)
        }
    }
}

/// The text to be searched of a file that is not in memory.
pub(crate) fn decoded(content: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    content.take(INDEXED_TEXT).read_to_end(&mut bytes)?;
    Ok(text_of(bytes))
}

/// What is not UTF-8 is searched with replacement characters; the file itself is kept as it is.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
