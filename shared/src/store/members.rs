//! Streams a docset's members with their files, page by page.

use std::ops::Bound;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;
use sqlx::Row as _;

use super::files::{Names, files_column, parse_files};
use super::rows::{Columns as _, Statement, join, made, placeholders};
use super::{Member, SqlStore, StoreError, StoreResult};
use crate::domain::Format;
use crate::ids::VersionId;

/// Members of one page: few enough to keep memory small, enough to make the cost of a round trip vanish.
const PAGE: usize = 1000;

pub(super) fn stream<'a>(
    db: &'a SqlStore,
    members: &'a RoaringBitmap,
    after: Option<VersionId>,
    formats: Option<&'a [Format]>,
) -> BoxStream<'a, StoreResult<Member>> {
    let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.0));
    let mut ids = members.range((start, Bound::Unbounded));
    async_stream::try_stream! {
        let mut names = Names::default();
        loop {
            let page: Vec<u32> = ids.by_ref().take(PAGE).collect();
            if page.is_empty() {
                break;
            }
            for member in read_page(db, &mut names, &page, formats).await? {
                yield member;
            }
        }
    }
    .boxed()
}

async fn read_page(
    db: &SqlStore,
    names: &mut Names,
    page: &[u32],
    formats: Option<&[Format]>,
) -> StoreResult<Vec<Member>> {
    let rows = select(page, formats).fetch_all(&db.read).await?;
    let mut members = Vec::with_capacity(page.len());
    let mut files = Vec::with_capacity(page.len());
    for row in &rows {
        let id = VersionId(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default());
        // A dense page is read as one range, with the rows of others in between.
        if page.binary_search(&id.0).is_err() {
            continue;
        }
        let content_hash = row.digest("content_hash")?;
        members.push(Member { id, r#ref: row.try_get(1)?, name: row.try_get(2)?, content_hash, files: Vec::new() });
        files.push(row.try_get(4)?);
    }
    if let Some(missing) = page.iter().enumerate().find(|&(i, &id)| members.get(i).is_none_or(|m| m.id.0 != id)) {
        // A package must never leave out a member in silence.
        let missing = missing.1;
        return Err(StoreError::Corrupt(format!("document version {missing} is not there")));
    }
    for (member, files) in members.iter_mut().zip(parse_files(db, names, &files).await?) {
        member.files = files;
    }
    Ok(members)
}

/// Reads a page by one range of ids where at least half of the range is wanted, else by a list of ids.
fn select<'q>(page: &[u32], formats: Option<&'q [Format]>) -> Statement<'q> {
    let (first, last) = (page[0], page[page.len() - 1]);
    let dense = (last - first) as usize / 2 < page.len();
    let condition = if dense { "BETWEEN $1 AND $2".to_owned() } else { format!("IN ({})", join(page)) };
    let wanted = formats.map(|formats| placeholders(if dense { 3 } else { 1 }, formats.len()));
    let sql = format!(
        "SELECT d.id, d.ref, d.name, d.content_hash, {} FROM documents d WHERE d.id {condition} ORDER BY d.id",
        files_column(wanted.as_deref())
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
