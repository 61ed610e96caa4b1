//! Streams a docset's members with their files, page by page, and finds members by ref.

use std::collections::HashMap;
use std::ops::Bound;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use tokio_util::task::AbortOnDropHandle;

use super::documents::has_nul;
use super::files::{Names, files_of_d, parse_files};
use super::rows::{BATCH, Columns as _, Statement, join, made, placeholders};
use super::{Member, SqlStore, StoreError, StoreResult};
use crate::domain::Format;
use crate::ids::{CollectionId, VersionId};

/// Members of one page: few enough to keep memory small, enough to make the cost of a round trip vanish.
const PAGE: usize = 1000;
/// Members of one page with their metadata, which may have many times the length of the rest.
const DESCRIBED_PAGE: usize = 250;

pub(super) fn stream<'a>(
    db: &'a SqlStore,
    members: &'a RoaringBitmap,
    after: Option<VersionId>,
    formats: Option<&'a [Format]>,
) -> BoxStream<'a, StoreResult<Member>> {
    let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.0));
    let ids = members.range((start, Bound::Unbounded));
    pages(db, ids, PAGE, formats, false).map_ok(|(member, _)| member).boxed()
}

pub(super) fn described<'a>(
    db: &'a SqlStore,
    members: &'a RoaringBitmap,
    formats: &'a [Format],
) -> BoxStream<'a, StoreResult<(Member, String)>> {
    pages(db, members.iter(), DESCRIBED_PAGE, Some(formats), true).boxed()
}

/// Members with these ids. While one page is used, the database is at work on the next: in a task of its own, so that a reader who stands still
/// keeps no connection.
fn pages<'a>(
    db: &'a SqlStore,
    mut ids: impl Iterator<Item = u32> + Send + 'a,
    size: usize,
    formats: Option<&'a [Format]>,
    described: bool,
) -> impl Stream<Item = StoreResult<(Member, String)>> + Send + 'a {
    async_stream::try_stream! {
        let mut names = Names::default();
        let mut next = || {
            let page: Vec<u32> = ids.by_ref().take(size).collect();
            if page.is_empty() {
                return None;
            }
            let (db, formats) = (db.clone(), formats.map(<[Format]>::to_vec));
            let reading = async move {
                let row = select(&page, formats.as_deref(), described).fetch_one(&db.read).await?;
                StoreResult::Ok((page, row))
            };
            Some(AbortOnDropHandle::new(tokio::spawn(reading)))
        };
        let mut reading = next();
        while let Some(page) = reading.take() {
            let (page, row) = page.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
            reading = next();
            for member in read_page(db, &mut names, &page, &row).await? {
                yield member;
            }
        }
    }
}

pub(super) async fn by_ref(
    db: &SqlStore,
    collection: CollectionId,
    members: &RoaringBitmap,
    refs: &[&str],
) -> StoreResult<HashMap<String, VersionId>> {
    let refs: Vec<&str> = refs.iter().copied().filter(|text| !has_nul(text)).collect();
    let mut found = HashMap::with_capacity(refs.len());
    for chunk in refs.chunks(BATCH) {
        // All versions of these works: which of them the docset has, its bitmap tells.
        let wanted = placeholders(2, chunk.len());
        let sql = format!("SELECT ref, id FROM documents WHERE collection = $1 AND ref IN ({wanted})");
        let mut statement = made(sql, chunk.len() == BATCH).bind(collection.0);
        for text in chunk {
            statement = statement.bind(*text);
        }
        for row in statement.fetch_all(&db.read).await? {
            let id = VersionId(row.number("id")?);
            if members.contains(id.0) {
                found.insert(row.value("ref")?, id);
            }
        }
    }
    Ok(found)
}

async fn read_page(db: &SqlStore, names: &mut Names, page: &[u32], row: &AnyRow) -> StoreResult<Vec<(Member, String)>> {
    let text: &str = row.try_get::<Option<&str>, _>(0)?.unwrap_or_default();
    let mut read = parse(text).ok_or_else(|| StoreError::Corrupt("a member's row cannot be read".to_owned()))?;
    read.sort_unstable_by_key(|(member, _)| member.id);
    let missing = page.iter().enumerate().find(|&(i, id)| read.get(i).is_none_or(|(member, _)| member.id.0 != *id));
    if let Some((_, id)) = missing {
        // A package must never leave out a member in silence.
        return Err(StoreError::Corrupt(format!("document version {id} is not there")));
    }
    let texts: Vec<&str> = read.iter().map(|(_, text)| text.files).collect();
    let files = parse_files(db, names, &texts).await?;
    let whole =
        |((member, text), files): ((Member, Text<'_>), _)| (Member { files, ..member }, text.metadata.to_owned());
    Ok(read.into_iter().zip(files).map(whole).collect())
}

/// One member's files and metadata, as the database gives them.
struct Text<'a> {
    files: &'a str,
    metadata: &'a str,
}

/// Reads a page as one text, in no order. For each row the driver hands over, two threads must wake each other (SQLite) or a
/// message is decoded (PostgreSQL), which would cost more than all the rest.
///
/// Each member is `<id> <content hash> <length of ref> <length of name> <length of metadata> <ref><name><metadata><files>` and a line feed;
/// lengths are in bytes; the metadata is empty unless it is `described`. A page without gaps is a range of ids, which stays prepared; any other is a list of ids.
fn select<'q>(page: &[u32], formats: Option<&'q [Format]>, described: bool) -> Statement<'q> {
    let (first, last) = (page[0], page[page.len() - 1]);
    let dense = (last - first) as usize + 1 == page.len();
    let condition = if dense { "BETWEEN $1 AND $2".to_owned() } else { format!("IN ({})", join(page)) };
    let wanted = formats.map(|formats| placeholders(if dense { 3 } else { 1 }, formats.len()));
    let metadata = if described { "d.metadata" } else { "''" };
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', d.id, hex(d.content_hash), octet_length(d.ref), octet_length(d.name), octet_length({metadata}), \
         d.ref || d.name || {metadata} || {} || '\n'), '') FROM documents d WHERE d.id {condition}",
        files_of_d(wanted.as_deref())
    );
    let mut statement = made(sql, dense);
    if dense {
        statement = statement.bind(i64::from(first)).bind(i64::from(last));
    }
    for format in formats.unwrap_or_default() {
        statement = statement.bind(format.as_str());
    }
    statement
}

/// The members, without their files, and what the rest says.
fn parse(mut text: &str) -> Option<Vec<(Member, Text<'_>)>> {
    let mut members = Vec::new();
    while !text.is_empty() {
        let mut fields = text.splitn(6, ' ');
        let id = VersionId(fields.next()?.parse().ok()?);
        let content_hash = fields.next()?.parse().ok()?;
        let mut length = || fields.next()?.parse().ok();
        let (ref_length, name_length, metadata_length) = (length()?, length()?, length()?);
        let (r#ref, rest) = fields.next()?.split_at_checked(ref_length)?;
        let (name, rest) = rest.split_at_checked(name_length)?;
        let (metadata, rest) = rest.split_at_checked(metadata_length)?;
        let (files, rest) = rest.split_once('\n')?;
        let member = Member { id, r#ref: r#ref.to_owned(), name: name.to_owned(), content_hash, files: Vec::new() };
        members.push((member, Text { files, metadata }));
        text = rest;
    }
    Some(members)
}
