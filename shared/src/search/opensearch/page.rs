//! What is asked of an index about a query, and how its answers are read.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::mapping;
use crate::ids::VersionId;
use crate::search::collect::facets::MAX_VALUES;
use crate::search::schema::{ID, ISSUED, REF};
use crate::search::{FacetCount, Hit, SearchAnswer, SearchError, SearchPage, SearchResult, Sort};

/// Ids that one answer brings of all that match.
pub(super) const BATCH: usize = 10_000;
/// Values that each shard tells of a facet: the counts of the most frequent are exact as long as none of them is rarer than that in a shard.
const SHARD_VALUES: usize = 10_000;

/// The order of hits, as the engine is told.
fn order(sort: Sort) -> Value {
    let by_id = json!({ ID: "asc" });
    match sort {
        Sort::Relevance => json!([{ "_score": "desc" }, by_id]),
        Sort::Date => json!([{ ISSUED: { "order": "desc", "mode": "max", "missing": "_last" } }, by_id]),
        Sort::Ref => json!([{ mapping::column(REF): "asc" }, by_id]),
    }
}

/// The body of a request for a page.
pub(super) fn of(page: &SearchPage<'_>, query: &Value) -> Value {
    // Beyond the window hits are only counted.
    let end = page.offset.saturating_add(page.limit).min(mapping::WINDOW);
    let from = page.offset.min(end);
    let mut body = json!({
        "query": query, "sort": order(page.sort), "from": from, "size": end - from, "track_total_hits": true,
        "_source": false, "stored_fields": "_none_",
    });
    if !page.facets.is_empty() {
        let counted = |name: &String| {
            let order = json!([{ "_count": "desc" }, { "_key": "asc" }]);
            let (size, shard_size) = (MAX_VALUES, SHARD_VALUES);
            let terms =
                json!({ "field": mapping::column(name), "size": size, "shard_size": shard_size, "order": order });
            (name.clone(), json!({ "terms": terms }))
        };
        body["aggs"] = Value::Object(page.facets.iter().map(counted).collect());
    }
    body
}

/// The body of a request for the next ids of all that match, in their order, behind `after`.
pub(super) fn ids(query: &Value, after: Option<u32>) -> Value {
    let mut body = json!({
        "query": { "bool": { "filter": [query] } }, "sort": [{ ID: "asc" }], "size": BATCH, "track_total_hits": false,
        "_source": false, "stored_fields": "_none_",
    });
    if let Some(after) = after {
        body["search_after"] = json!([after]);
    }
    body
}

/// The body of a request for the next of all hits in that order, behind the one that was sorted by `after`.
pub(super) fn ordered(query: &Value, sort: Sort, after: Option<&Value>) -> Value {
    let mut body = json!({
        "query": query, "sort": order(sort), "size": BATCH, "track_total_hits": false, "_source": false, "stored_fields": "_none_",
    });
    if let Some(after) = after {
        body["search_after"] = after.clone();
    }
    body
}

/// An answer as far as it is wanted; of what is empty in it, the engine then says nothing.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(default)]
    hits: Hits,
    #[serde(default)]
    aggregations: BTreeMap<String, Counted>,
}

#[derive(Deserialize)]
struct Shards {
    failed: u32,
}

#[derive(Default, Deserialize)]
struct Hits {
    total: Option<Total>,
    #[serde(default)]
    hits: Vec<Sorted>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

/// A hit by what it was sorted by; the id comes last.
#[derive(Deserialize)]
struct Sorted {
    sort: Vec<Value>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    key: String,
    doc_count: u64,
}

/// The answer to a request of [`of`].
pub(super) fn read(answer: Value, sort: Sort) -> SearchResult<SearchAnswer> {
    let Answer { hits, aggregations, .. } = parse(answer)?;
    let counts = |counted: Counted| {
        counted.buckets.into_iter().map(|bucket| FacetCount { value: bucket.key, count: bucket.doc_count }).collect()
    };
    Ok(SearchAnswer {
        total: hits.total.ok_or_else(|| unreadable("it counts no hits"))?.value,
        hits: hits.hits.iter().map(|sorted| hit(sorted, sort)).collect::<SearchResult<_>>()?,
        facets: aggregations.into_iter().map(|(name, counted)| (name, counts(counted))).collect(),
    })
}

fn hit(hit: &Sorted, sort: Sort) -> SearchResult<Hit> {
    let score = || hit.sort.first()?.as_f64();
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 where they are made")]
    let score = (sort == Sort::Relevance).then(score).flatten().map(|score| score as f32);
    Ok(Hit { id: VersionId(id(hit)?), score })
}

/// Adds the hits of an answer to a request of [`ordered`]; gives what the last was sorted by, if there may be more behind it.
pub(super) fn read_ordered(answer: Value, sort: Sort, found: &mut Vec<Hit>) -> SearchResult<Option<Value>> {
    let hits = parse(answer)?.hits.hits;
    for sorted in &hits {
        found.push(hit(sorted, sort)?);
    }
    Ok(hits.last().filter(|_| hits.len() == BATCH).map(|last| Value::Array(last.sort.clone())))
}

/// Adds the ids of an answer to a request of [`ids`]; gives the last, if there may be more behind it.
pub(super) fn read_ids(answer: Value, found: &mut RoaringBitmap) -> SearchResult<Option<u32>> {
    let hits = parse(answer)?.hits.hits;
    let mut last = None;
    for hit in &hits {
        let id = id(hit)?;
        found.insert(id);
        last = Some(id);
    }
    Ok(last.filter(|_| hits.len() == BATCH))
}

fn id(hit: &Sorted) -> SearchResult<u32> {
    let id = hit.sort.last().and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| unreadable("a hit has no id"))
}

fn parse(answer: Value) -> SearchResult<Answer> {
    let answer: Answer = serde_json::from_value(answer).map_err(|error| unreadable(&error.to_string()))?;
    match answer.shards.failed {
        0 => Ok(answer),
        failed => Err(SearchError::Away(format!("{failed} shards of the index do not answer"))),
    }
}

fn unreadable(why: &str) -> SearchError {
    SearchError::Index(format!("the search engine's answer cannot be read: {why}"))
}
