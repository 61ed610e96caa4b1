//! From refs to document versions, many at once: the values go over as one JSON array, and what is found comes back as one text, since
//! each value and each row by itself would cost more than finding it (see [`super::members`]).

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::documents::has_nul;
use super::rows::{Columns as _, join, made, query, to_json};
use super::{SqlStore, StoreError, StoreResult};
use crate::ids::{CollectionId, VersionId};

/// Refs, or ids, of one statement.
const PAGE: usize = 5000;

pub(super) async fn resolve(
    db: &SqlStore,
    collection: CollectionId,
    corpus_version: i64,
    refs: &[String],
) -> StoreResult<HashMap<String, VersionId>> {
    // By a subquery and not by a join: no planner can take it for better to pass over all documents.
    let statement = "SELECT COALESCE(string_agg(r.key || ' ' || (\
             SELECT d.id FROM documents d WHERE d.collection = $1 AND d.ref = r.value AND d.added <= $2 \
             AND (d.superseded IS NULL OR d.superseded > $2)), ' '), '') AS found FROM json_each($3) r";
    let mut refs: Vec<&str> = refs.iter().map(String::as_str).filter(|text| !has_nul(text)).collect();
    // Neighbours in the index are found faster one after the other.
    refs.sort_unstable();
    let mut found = HashMap::with_capacity(refs.len());
    for page in refs.chunks(PAGE) {
        let row =
            query(statement).bind(collection.0).bind(corpus_version).bind(to_json(&page)?).fetch_one(&db.read).await?;
        let numbers = numbers(row.value("found")?)?;
        for pair in numbers.chunks_exact(2) {
            let text = page.get(pair[0] as usize).ok_or_else(unreadable)?;
            found.insert((*text).to_owned(), VersionId(pair[1]));
        }
    }
    Ok(found)
}

pub(super) async fn newest(db: &SqlStore, corpus_version: i64, members: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
    let mut found = RoaringBitmap::new();
    let mut ids = members.iter();
    loop {
        let page: Vec<u32> = ids.by_ref().take(PAGE).collect();
        if page.is_empty() {
            return Ok(found);
        }
        let sql = format!(
            "SELECT COALESCE(string_agg(CAST(CASE WHEN d.superseded IS NULL OR d.superseded > $1 THEN d.id ELSE (\
                 SELECT n.id FROM documents n WHERE n.collection = d.collection AND n.ref = d.ref AND n.added <= $1 \
                 AND (n.superseded IS NULL OR n.superseded > $1)) END AS TEXT), ' '), '') AS found \
             FROM documents d WHERE d.id IN ({})",
            join(&page)
        );
        let row = made(sql, false).bind(corpus_version).fetch_one(&db.read).await?;
        found.extend(numbers(row.value("found")?)?);
    }
}

fn numbers(text: &str) -> StoreResult<Vec<u32>> {
    text.split_ascii_whitespace().map(|number| number.parse().map_err(|_| unreadable())).collect()
}

fn unreadable() -> StoreError {
    StoreError::Corrupt("document versions cannot be read".to_owned())
}
