//! Reads the texts of stored documents, in order and with bounded memory: what lies side by side in a pack is fetched at once, and unpacked on all
//! cores.

use std::sync::Arc;

use adit_shared::domain::{Encoding, FileRecord};
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

/// A document with its metadata and, if it has one, its text.
pub(super) type Described = (Member, Map<String, Value>, Option<String>);

/// A stored text, and where it stands in what was fetched.
type Fetched = (Member, String, Option<Bytes>);

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
    let reads: Vec<_> = runs.iter().map(|run| objects.get(run.object, Some(run.start..run.end))).collect();
    let stretches = stream::iter(reads).buffered(READS).try_collect::<Vec<Bytes>>().await;
    let stretches = stretches.context("the texts of stored documents cannot be read")?;
    let cut = |(run, within): (usize, std::ops::Range<u64>)| {
        let (start, end) = (usize::try_from(within.start)?, usize::try_from(within.end)?);
        anyhow::Ok(stretches[run].slice(start..end))
    };
    let texts = places.into_iter().map(|place| place.map(cut).transpose()).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(batch.into_iter().zip(texts).map(|((member, metadata), text)| (member, metadata, text)).collect())
}

/// Blocks on the processor.
fn unpack((member, metadata, stored): Fetched) -> anyhow::Result<Described> {
    let unreadable = || format!("the stored document {} ({}) is damaged", member.r#ref, member.id);
    let metadata = serde_json::from_str(&metadata).with_context(unreadable)?;
    let encoding = text_of(&member).map(|file| file.encoding);
    let text = match stored.zip(encoding) {
        None => None,
        Some((bytes, Encoding::Identity)) => Some(decoded(&*bytes).with_context(unreadable)?),
        Some((bytes, Encoding::Gzip)) => Some(decoded(GzDecoder::new(&*bytes)).with_context(unreadable)?),
    };
    Ok((member, metadata, text))
}
