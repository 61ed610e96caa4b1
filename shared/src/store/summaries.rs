//! Summaries: what a docset's fingerprint, sums, samples and differences are made of, of many documents in one row, so that a docset of a million
//! documents is measured in some thousand rows. They are written beside the documents (see [`super::staging`]) and never changed.
//!
//! A row is about documents whose ids have no gap between them, at most [`MOST`]. Its data are the formats that occur (their number; of each the length of
//! its name and the name), then of each document the [`WorkHash`], the content hash, and its files: their number; of each the format's
//! place in that list and the decoded length. Numbers are LEB128.

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;

use super::connections::Transaction;
use super::rows::{Columns as _, join, made, query};
use super::{FormatTotals, ImportLease, Member, NewDocument, SqlStore, Store, StoreError, StoreResult, members};
use crate::digest::Sha256;
use crate::domain::{DocsetFingerprint, Format, FormatTotal, WorkHash};
use crate::ids::VersionId;

/// Documents of one row at most; an import stages fewer at once.
const MOST: usize = 4096;
/// Rows that are read at once: about a MiB, as imports stage documents.
const ROWS: usize = 64;
/// To find one document in its row costs a fraction of what reading it by itself does: a row is read where at least one of so many of its
/// documents is wanted.
const SPARSE: u64 = 16;

/// What docsets are made of and compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The document version.
    pub id: VersionId,
    /// Stands for the work.
    pub work: WorkHash,
    /// See [`crate::domain::content_hash`].
    pub content_hash: Sha256,
    /// Its files' formats and decoded lengths, in the order of formats.
    pub files: Vec<(Format, u64)>,
}

impl From<Member> for Summary {
    fn from(member: Member) -> Self {
        let Member { id, r#ref, content_hash, files, .. } = member;
        let files = files.into_iter().map(|file| (file.format, file.size)).collect();
        Self { id, work: WorkHash::of(&r#ref), content_hash, files }
    }
}

impl From<&NewDocument> for Summary {
    fn from(document: &NewDocument) -> Self {
        let mut files: Vec<_> = document.files.iter().map(|file| (file.format.clone(), file.size)).collect();
        files.sort();
        let NewDocument { id, ref r#ref, content_hash, .. } = *document;
        Self { id, work: WorkHash::of(r#ref), content_hash, files }
    }
}

/// The fingerprint of a docset with these members, and its files by format.
///
/// # Errors
/// Those of [`Store::summaries`].
pub async fn measure(store: &dyn Store, members: &RoaringBitmap) -> StoreResult<(Sha256, Vec<FormatTotal>)> {
    let mut fingerprint = DocsetFingerprint::default();
    let mut totals = FormatTotals::default();
    let mut chunks = store.summaries(members);
    while let Some(chunk) = chunks.try_next().await? {
        for summary in chunk {
            fingerprint.add(summary.id, &summary.content_hash);
            summary.files.iter().for_each(|(format, bytes)| totals.add(format, *bytes));
        }
    }
    Ok((fingerprint.finish(), totals.finish()))
}

/// The works of these members, in the order of ids.
///
/// # Errors
/// Those of [`Store::summaries`].
pub async fn works(store: &dyn Store, members: &RoaringBitmap) -> StoreResult<Vec<(VersionId, WorkHash)>> {
    let mut works = Vec::with_capacity(usize::try_from(members.len()).unwrap_or_default());
    let mut chunks = store.summaries(members);
    while let Some(chunk) = chunks.try_next().await? {
        works.extend(chunk.iter().map(|summary| (summary.id, summary.work)));
    }
    Ok(works)
}

pub(super) async fn insert(
    lease: &ImportLease,
    documents: &[NewDocument],
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let mut summaries: Vec<Summary> = documents.iter().map(Summary::from).collect();
    summaries.sort_unstable_by_key(|summary| summary.id);
    for run in summaries.chunk_by(|a, b| b.id.0 - a.id.0 == 1).flat_map(|run| run.chunks(MOST)) {
        query("INSERT INTO summaries (first, count, collection, added, data) VALUES ($1, $2, $3, $4, $5)")
            .bind(i64::from(run[0].id.0))
            .bind(run.len() as i64)
            .bind(lease.collection().0)
            .bind(lease.made().corpus_version)
            .bind(encode(run))
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// Some members, in the order of ids.
enum Part {
    /// In these rows.
    Rows(Vec<u32>),
    /// By themselves.
    Members(RoaringBitmap),
}

pub(super) fn stream<'a>(db: &'a SqlStore, members: &'a RoaringBitmap) -> BoxStream<'a, StoreResult<Vec<Summary>>> {
    let chunks = async_stream::try_stream! {
        for part in plan(&spans(db, members).await?, members) {
            match part {
                Part::Rows(rows) => for rows in rows.chunks(ROWS) {
                    yield read_rows(db, rows, members).await?;
                },
                Part::Members(ids) => {
                    let mut chunks = members::stream(db, &ids, None, None).map_ok(Summary::from).try_chunks(MOST);
                    while let Some(chunk) = chunks.try_next().await.map_err(|error| error.1)? {
                        yield chunk;
                    }
                }
            }
        }
    };
    chunks.boxed()
}

/// The first id and the number of documents of each row that may have members, in the order of ids. They come as one text: see [`super::members`].
async fn spans(db: &SqlStore, members: &RoaringBitmap) -> StoreResult<Vec<(u32, u32)>> {
    let (Some(min), Some(max)) = (members.min(), members.max()) else { return Ok(Vec::new()) };
    let listed = query(
        "SELECT COALESCE(string_agg(first || ' ' || count, ';'), '') AS spans FROM summaries \
         WHERE first BETWEEN $1 AND $2",
    );
    let row = listed.bind(i64::from(min) - MOST as i64).bind(i64::from(max)).fetch_one(&db.read).await?;
    let span = |text: &str| {
        let (first, count) = text.split_once(' ')?;
        Some((first.parse().ok()?, count.parse().ok()?))
    };
    let texts = row.value::<&str>("spans")?.split(';').filter(|text| !text.is_empty());
    let mut spans: Vec<(u32, u32)> =
        texts.map(span).collect::<Option<_>>().ok_or_else(|| unreadable("which there are"))?;
    spans.sort_unstable();
    Ok(spans)
}

/// Divides the members into those that are read by rows, and those that are cheaper to read by themselves or have no row.
fn plan(spans: &[(u32, u32)], members: &RoaringBitmap) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rows = Vec::new();
    let mut next = 0;
    let mut skipped = RoaringBitmap::new();
    for &(first, count) in spans {
        let last = first + (count - 1);
        let wanted = members.range_cardinality(first..=last);
        if wanted * SPARSE < u64::from(count) {
            continue;
        }
        skipped.extend(members.range(next..first));
        if !skipped.is_empty() {
            parts.extend((!rows.is_empty()).then(|| Part::Rows(std::mem::take(&mut rows))));
            parts.push(Part::Members(std::mem::take(&mut skipped)));
        }
        rows.push(first);
        next = last.saturating_add(1);
    }
    parts.extend((!rows.is_empty()).then_some(Part::Rows(rows)));
    skipped.extend(members.range(next..));
    parts.extend((!skipped.is_empty()).then_some(Part::Members(skipped)));
    parts
}

async fn read_rows(db: &SqlStore, firsts: &[u32], members: &RoaringBitmap) -> StoreResult<Vec<Summary>> {
    let sql = format!("SELECT first, count, data FROM summaries WHERE first IN ({}) ORDER BY first", join(firsts));
    let rows = made(sql, false).fetch_all(&db.read).await?;
    if rows.len() != firsts.len() {
        return Err(StoreError::Corrupt("document versions are not there any more".to_owned()));
    }
    let mut summaries = Vec::new();
    for row in rows {
        let (first, count) = (row.number("first")?, row.number("count")?);
        let data: &[u8] = row.value("data")?;
        decode(data, first, count, members, &mut summaries).ok_or_else(|| unreadable(&format!("{first} and on")))?;
    }
    Ok(summaries)
}

fn unreadable(which: &str) -> StoreError {
    StoreError::Corrupt(format!("the summaries of document versions cannot be read: {which}"))
}

fn encode(run: &[Summary]) -> Vec<u8> {
    let mut formats: Vec<&Format> =
        run.iter().flat_map(|summary| summary.files.iter().map(|(format, _)| format)).collect();
    formats.sort_unstable();
    formats.dedup();
    let mut data = Vec::with_capacity(run.len() * 64);
    write_number(&mut data, formats.len() as u64);
    for format in &formats {
        write_number(&mut data, format.as_str().len() as u64);
        data.extend_from_slice(format.as_str().as_bytes());
    }
    for summary in run {
        data.extend_from_slice(&summary.work.0);
        data.extend_from_slice(&summary.content_hash.0);
        write_number(&mut data, summary.files.len() as u64);
        for (format, size) in &summary.files {
            // All of them are in the list.
            write_number(&mut data, formats.binary_search(&format).unwrap_or_default() as u64);
            write_number(&mut data, *size);
        }
    }
    data
}

/// Appends those of a row's `count` documents, from the id `first` on, that are members.
fn decode(
    mut data: &[u8],
    first: u32,
    count: u32,
    members: &RoaringBitmap,
    summaries: &mut Vec<Summary>,
) -> Option<()> {
    let data = &mut data;
    let mut formats = Vec::new();
    for _ in 0..read_number(data)? {
        let length = usize::try_from(read_number(data)?).ok()?;
        formats.push(std::str::from_utf8(data.split_off(..length)?).ok()?.parse::<Format>().ok()?);
    }
    for id in (first..).take(count as usize) {
        let (work, rest) = data.split_first_chunk()?;
        let (content_hash, rest) = rest.split_first_chunk()?;
        *data = rest;
        let number = read_number(data)?;
        let mut file = || Some((formats.get(usize::try_from(read_number(data)?).ok()?)?, read_number(data)?));
        if !members.contains(id) {
            (0..number).try_for_each(|_| file().map(drop))?;
            continue;
        }
        let files = (0..number).map(|_| file().map(|(format, size)| (format.clone(), size))).collect::<Option<_>>()?;
        let (work, content_hash) = (WorkHash(*work), Sha256(*content_hash));
        summaries.push(Summary { id: VersionId(id), work, content_hash, files });
    }
    data.is_empty().then_some(())
}

fn write_number(data: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        data.push(number as u8 | 0x80);
        number >>= 7;
    }
    data.push(number as u8);
}

fn read_number(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *data.split_off_first()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte <= 0x7f {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
