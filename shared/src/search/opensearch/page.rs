//! What is asked of an index about a query, and how its answers are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::mapping;
use crate::ids::VersionId;
use crate::search::collect::facets::MAX_VALUES;
use crate::search::schema::{ID, ISSUED, REF};
use crate::search::{FacetCount, Hit, SearchAnswer, SearchError, SearchPage, SearchResult, Sort};

/// Hits that one answer brings of all that match.
const BATCH: usize = 10_000;
/// Values that each shard tells of a facet: the counts of the most frequent are exact as long as none of them is rarer than that in a shard.
const SHARD_VALUES: usize = 10_000;

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

/// The order of hits; the id comes last.
fn order(sort: Sort) -> Value {
    let by_id = json!({ ID: "asc" });
    match sort {
        Sort::Relevance => json!([{ "_score": "desc" }, by_id]),
        Sort::Date => json!([{ ISSUED: { "order": "desc", "mode": "max", "missing": "_last" } }, by_id]),
        Sort::Ref => json!([{ mapping::column(REF): "asc" }, by_id]),
    }
}

/// All hits, some at a time, each time behind the last of those before. An index does not change, so it needs nothing else to be one answer.
#[derive(Debug)]
pub(super) struct Walk {
    body: Value,
    sort: Option<Sort>,
}

impl Walk {
    /// In the order of ids, without weight.
    pub(super) fn by_id(query: &Value) -> Self {
        Self::new(json!({ "bool": { "filter": [query] } }), json!([{ ID: "asc" }]), None)
    }

    /// In an order.
    pub(super) fn in_order(query: Value, sort: Sort) -> Self {
        Self::new(query, order(sort), Some(sort))
    }

    fn new(query: Value, order: Value, sort: Option<Sort>) -> Self {
        let body = json!({
            "query": query, "sort": order, "size": BATCH, "track_total_hits": false, "_source": false,
            "stored_fields": "_none_",
        });
        Self { body, sort }
    }

    /// The body of the next request.
    pub(super) fn body(&self) -> Value {
        self.body.clone()
    }

    /// Gives the hits of an answer to `each`; whether there may be more behind them.
    pub(super) fn take(&mut self, answer: Value, mut each: impl FnMut(Hit)) -> SearchResult<bool> {
        let mut hits = parse(answer)?.hits.hits;
        for found in &hits {
            each(hit(found, self.sort)?);
        }
        let more = hits.len() == BATCH;
        if let Some(last) = hits.pop() {
            self.body["search_after"] = Value::Array(last.sort);
        }
        Ok(more)
    }
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
        hits: hits.hits.iter().map(|found| hit(found, Some(sort))).collect::<SearchResult<_>>()?,
        facets: aggregations.into_iter().map(|(name, counted)| (name, counts(counted))).collect(),
    })
}

fn hit(found: &Sorted, sort: Option<Sort>) -> SearchResult<Hit> {
    let id = found.sort.last().and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let score = || found.sort.first()?.as_f64();
    #[expect(clippy::cast_possible_truncation, reason = "scores are f32 where they are made")]
    let score = (sort == Some(Sort::Relevance)).then(score).flatten().map(|score| score as f32);
    Ok(Hit { id: id.map(VersionId).ok_or_else(|| unreadable("a hit has no id"))?, score })
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
