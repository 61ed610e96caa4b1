//! Reads the texts of stored documents, in order and with bounded memory: what lies side by side in a pack is fetched at once, and unpacked on all
//! cores.

use std::sync::Arc;

use adit_shared::domain::{Encoding, FileRecord};
use adit_shared::integrity::{FileCheck, FileDamage, FileFault};
use adit_shared::objects::ObjectStore;
use adit_shared::store::{Member, StoreResult};
use anyhow::Context as _;
use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use crate::import::{INDEXED_TEXT, decoded};

/// Most documents that are fetched together.
const BATCH: usize = 256;
/// Fetching begins with the document that brings a batch to so many stored bytes.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes between two texts that are read and thrown away, because another request would take longer.
const MAX_GAP: u64 = 64 * 1024;
/// Stretches of packs that are fetched at once.
const READS: usize = 4;

/// A document with its metadata and, if it has one, its text, or the damage of the stored text.
pub(super) type Described = (Member, Map<String, Value>, Result<Option<String>, FileDamage>);

/// The stored bytes of a document's text, if it has one.
type Fetched = (Member, String, Option<Result<Bytes, FileDamage>>);

/// Adds their texts to documents, whose metadata is JSON as the database has it.
pub(super) fn with_texts<'a>(
    objects: Arc<dyn ObjectStore>,
    members: BoxStream<'a, StoreResult<(Member, String)>>,
) -> BoxStream<'a, anyhow::Result<Described>> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let batches = stream::try_unfold(members, async |mut members| {
        let batch = next_batch(&mut members).await?;
        anyhow::Ok((!batch.is_empty()).then_some((batch, members)))
    });
    let fetched = batches.map_ok(move |batch| fetch(objects.clone(), batch)).try_buffered(2);
    let documents = fetched.map_ok(|batch| stream::iter(batch).map(anyhow::Ok)).try_flatten();
    documents
        .map_ok(async |fetched| {
            tokio::task::spawn_blocking(move || unpack(fetched)).await.context("unpacking broke down")?
        })
        .try_buffered(cores)
        .boxed()
}

async fn next_batch(members: &mut BoxStream<'_, StoreResult<(Member, String)>>) -> StoreResult<Vec<(Member, String)>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some((member, metadata)) = members.try_next().await? else { break };
        bytes += text_of(&member).map_or(0, wanted);
        batch.push((member, metadata));
    }
    Ok(batch)
}

fn text_of(member: &Member) -> Option<&FileRecord> {
    member.files.iter().find(|file| file.format.as_str() == "txt")
}

/// How many stored bytes are enough for what is indexed of the text: what deflate cannot shrink it lengthens by five bytes in 16 KiB at most
/// (RFC 1951, section 3.2.4, and how zlib cuts blocks), before which stands gzip's header.
fn wanted(file: &FileRecord) -> u64 {
    file.place.stored.min(INDEXED_TEXT + INDEXED_TEXT / 1024 + 1024)
}

/// A stretch of a pack, and how many texts it holds.
struct Run<'a> {
    object: &'a str,
    start: u64,
    end: u64,
}

async fn fetch(objects: Arc<dyn ObjectStore>, batch: Vec<(Member, String)>) -> anyhow::Result<Vec<Fetched>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut places = Vec::with_capacity(batch.len());
    for (member, _) in &batch {
        places.push(text_of(member).map(|file| {
            let (object, start, end) = (&*file.place.object, file.place.offset, file.place.offset + wanted(file));
            match runs.last_mut() {
                Some(run) if run.object == object && run.end <= start && start - run.end <= MAX_GAP => run.end = end,
                _ => runs.push(Run { object, start, end }),
            }
            let run = runs.len() - 1;
            let within = start - runs[run].start..end - runs[run].start;
            (run, within)
        }));
    }
    let reads: Vec<_> = runs.iter().map(|run| read(&*objects, run.object, run.start..run.end)).collect();
    let stretches: Vec<_> = stream::iter(reads).buffered(READS).try_collect().await?;
    let mut fetched = Vec::with_capacity(batch.len());
    for ((member, metadata), place) in batch.into_iter().zip(places) {
        let text = match (place, text_of(&member)) {
            (Some((run, within)), Some(file)) => Some(match &stretches[run] {
                Ok(bytes) => Ok(bytes.slice(usize::try_from(within.start)?..usize::try_from(within.end)?)),
                // Others than this one may be what is not there.
                Err(_) => {
                    read(&*objects, &file.place.object, file.place.offset..file.place.offset + wanted(file)).await?
                }
            }),
            _ => None,
        };
        fetched.push((member, metadata, text));
    }
    Ok(fetched)
}

/// Reads a stretch of a pack. That it is damaged is no error.
async fn read(
    objects: &dyn ObjectStore,
    object: &str,
    range: std::ops::Range<u64>,
) -> anyhow::Result<Result<Bytes, FileDamage>> {
    let fault = match objects.get(object, Some(range)).await.map_err(FileFault::from) {
        Ok(bytes) => return Ok(Ok(bytes)),
        Err(fault) => fault,
    };
    match fault {
        FileFault::Damaged(damage) => Ok(Err(damage)),
        // A disk that cannot read one place still tells the length; a store that is away does not.
        FileFault::Store(_) if objects.size(object).await.is_ok() => Ok(Err(FileDamage::Unreadable)),
        FileFault::Store(error) => Err(error).context("the texts of stored documents cannot be read"),
    }
}

/// Blocks on the processor.
fn unpack((member, metadata, stored): Fetched) -> anyhow::Result<Described> {
    let metadata = serde_json::from_str(&metadata)
        .with_context(|| format!("the metadata of {} ({}) in the database is damaged", member.r#ref, member.id))?;
    let text = match stored.zip(text_of(&member)) {
        None => Ok(None),
        Some((bytes, file)) => bytes.and_then(|bytes| text_in(file, &bytes)).map(Some),
    };
    Ok((member, metadata, text))
}

/// The text in stored bytes. Of one so long that not all of it is read, only the form is proved.
fn text_in(file: &FileRecord, bytes: &[u8]) -> Result<String, FileDamage> {
    let is_whole = bytes.len() as u64 == file.place.stored;
    match file.encoding {
        Encoding::Identity => {
            if is_whole {
                FileCheck::prove(file, bytes)?;
            }
            decoded(bytes).map_err(|_| FileDamage::OtherContent)
        }
        Encoding::Gzip => {
            // The decoder proves the content by the trailer, and the record proves the trailer.
            let crc32 = bytes.len().checked_sub(8).and_then(|at| bytes[at..].first_chunk());
            if is_whole && crc32 != Some(&file.crc32.to_le_bytes()) {
                return Err(FileDamage::OtherContent);
            }
            decoded(GzDecoder::new(bytes)).map_err(|_| FileDamage::BrokenMember)
        }
    }
}
