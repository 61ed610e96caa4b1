//! Streams a docset's members with their files, page by page.

use std::ops::Bound;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;
use sqlx::Row as _;

use super::files::{Names, files_of_d, parse_files};
use super::rows::{Statement, join, made, placeholders};
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
    let row = select(page, formats).fetch_one(&db.read).await?;
    let text: &str = row.try_get::<Option<&str>, _>(0)?.unwrap_or_default();
    let mut read = parse(text).ok_or_else(|| StoreError::Corrupt("a member's row cannot be read".to_owned()))?;
    read.sort_unstable_by_key(|(member, _)| member.id);
    let missing = page.iter().enumerate().find(|&(i, id)| read.get(i).is_none_or(|(member, _)| member.id.0 != *id));
    if let Some((_, id)) = missing {
        // A package must never leave out a member in silence.
        return Err(StoreError::Corrupt(format!("document version {id} is not there")));
    }
    let (mut members, files): (Vec<Member>, Vec<&str>) = read.into_iter().unzip();
    for (member, files) in members.iter_mut().zip(parse_files(db, names, &files).await?) {
        member.files = files;
    }
    Ok(members)
}

/// Reads a page as one text, in no order. For each row the driver hands over, two threads must wake each other (SQLite) or a
/// message is decoded (PostgreSQL), which would cost more than all the rest.
///
/// Each member is `<id> <content hash> <length of ref> <length of name> <ref><name><files>` and a line feed; lengths are in characters.
/// A page without gaps is a range of ids, which stays prepared; any other is a list of ids.
fn select<'q>(page: &[u32], formats: Option<&'q [Format]>) -> Statement<'q> {
    let (first, last) = (page[0], page[page.len() - 1]);
    let dense = (last - first) as usize + 1 == page.len();
    let condition = if dense { "BETWEEN $1 AND $2".to_owned() } else { format!("IN ({})", join(page)) };
    let wanted = formats.map(|formats| placeholders(if dense { 3 } else { 1 }, formats.len()));
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', d.id, hex(d.content_hash), length(d.ref), length(d.name), \
         d.ref || d.name || {} || '\n'), '') FROM documents d WHERE d.id {condition}",
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

/// The members, without their files, and their files' text.
fn parse(mut text: &str) -> Option<Vec<(Member, &str)>> {
    let mut members = Vec::new();
    while !text.is_empty() {
        let mut fields = text.splitn(5, ' ');
        let id = VersionId(fields.next()?.parse().ok()?);
        let content_hash = fields.next()?.parse().ok()?;
        let (ref_length, name_length) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (r#ref, rest) = split_chars(fields.next()?, ref_length)?;
        let (name, rest) = split_chars(rest, name_length)?;
        let (files, rest) = rest.split_once('\n')?;
        let member = Member { id, r#ref: r#ref.to_owned(), name: name.to_owned(), content_hash, files: Vec::new() };
        members.push((member, files));
        text = rest;
    }
    Some(members)
}

fn split_chars(text: &str, count: usize) -> Option<(&str, &str)> {
    let end = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(count)?;
    text.split_at_checked(end)
}
