//! `POST /collections/{slug}/search`: pages of hits, counts and facets.

use std::collections::{BTreeMap, BTreeSet};

use adit_shared::domain::{Collection, Document, Metric};
use adit_shared::ids::{IndexId, VersionId};
use adit_shared::search::{FacetCount, KEPT_INDEXES, SearchAnswer, SearchError, SearchPage, Sort, Source};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::extract::{Json, Path, whole, word};
use crate::paging::{read_cursor, write_cursor};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::state::App;
use crate::wire::DocumentView;

/// Most hits on one page.
const MAX_LIMIT: u32 = 1000;
/// How deep a search may be paged; beyond that a docset is the better way.
const MAX_DEPTH: u64 = 100_000;

/// What a search has found and where that stands, or why the index has no answer.
type Asked = Result<(Position, SearchAnswer), SearchError>;

/// What a cursor of a search is made for.
fn list(collection: &Collection) -> String {
    format!("search of {}", collection.id)
}

fn default_limit() -> u32 {
    20
}

/// A search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// What to look for; `*` finds everything. A text in the query language, or an object of the Elasticsearch query DSL.
    query: Source,
    /// Hits on a page, 0 to 1000; 0 counts only.
    #[serde(default = "default_limit", deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 1000, default = 20)]
    limit: u32,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// The order of hits.
    #[serde(default, deserialize_with = "word")]
    sort: Sort,
    /// Fields whose values are to be counted over all hits.
    #[serde(default)]
    facets: Vec<String>,
}

/// A hit.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitView {
    /// BM25 score; null where hits are not sorted by relevance.
    score: Option<f32>,
    #[serde(flatten)]
    document: DocumentView,
}

/// The answer to a search.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResponse {
    /// Exact number of hits.
    hits: u64,
    /// This page of them.
    documents: Vec<HitView>,
    /// The most frequent values of each wanted facet.
    facets: BTreeMap<String, Vec<FacetCount>>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
    /// The state of the corpus that was searched.
    corpus_version: i64,
}

/// Where a search goes on. It names the corpus version, so that all pages are cut from one answer.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    version: i64,
    offset: u64,
    query: String,
    sort: Sort,
}

fn position(request: &SearchRequest, collection: &Collection) -> ApiResult<Position> {
    let version = collection.corpus_version;
    let Some(cursor) = &request.cursor else {
        return Ok(Position { version, offset: 0, query: request.query.stored(), sort: request.sort });
    };
    let position: Position = read_cursor(&list(collection), cursor)?;
    if position.query != request.query.stored() || position.sort != request.sort || position.version > version {
        return Err(Problem::new(Kind::InvalidCursor, "this cursor belongs to another query or order"));
    }
    Ok(position)
}

/// The wanted facets, each once: counting costs memory for each of them.
fn check_facets(app: &App, names: &[String]) -> ApiResult<Vec<String>> {
    let known = app.search.facet_fields();
    let wanted: BTreeSet<&String> = names.iter().collect();
    match wanted.iter().find(|name| !known.contains(name)) {
        Some(name) => {
            let detail = format!("there is no facet {name:?}; there are: {}", known.join(", "));
            Err(Problem::new(Kind::UnknownField, detail).with("field", name.as_str()).with("fields", known))
        }
        None => Ok(wanted.into_iter().cloned().collect()),
    }
}

/// The index of the version that a search or its cursor names.
async fn index_of(app: &App, collection: &Collection, version: i64) -> ApiResult<IndexId> {
    if version == collection.corpus_version {
        return Ok(collection.index());
    }
    let kept = app.store.indexes(collection.id, KEPT_INDEXES).await?;
    let index = kept.into_iter().find(|index| index.corpus_version == version);
    index.ok_or_else(|| SearchError::VersionGone(version).into())
}

/// The answer, and where it goes on.
async fn ask(app: &App, collection: Collection, request: &SearchRequest, facets: &[String]) -> ApiResult<Asked> {
    let at = position(request, &collection)?;
    if at.offset > MAX_DEPTH {
        let detail = format!("a search can be paged to {MAX_DEPTH} hits; make a docset of it");
        return Err(Problem::new(Kind::InvalidCursor, detail));
    }
    let query = request.query.read()?;
    let page = SearchPage {
        query: &query,
        sort: request.sort,
        offset: usize::try_from(at.offset).unwrap_or(usize::MAX),
        limit: request.limit as usize,
        facets,
    };
    let index = index_of(app, &collection, at.version).await?;
    match app.search.search(index, page).await {
        // A search that goes on cannot meet another version half-way.
        Err(gone @ SearchError::VersionGone(_)) if request.cursor.is_some() => Err(gone.into()),
        answer => Ok(answer.map(|answer| (at, answer))),
    }
}

/// Searches a collection.
#[utoipa::path(post, path = "/api/collections/{slug}/search", operation_id = "search", tag = "search", params(("slug" = String, Path)),
    request_body = SearchRequest,
    responses((status = 200, description = "A page of hits", body = SearchResponse),
              (status = 400, description = "The query, a facet or the cursor cannot be used; `position` or `field` says where"),
              (status = 410, description = "The cursor has expired")))]
pub async fn search(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(slug): Path<String>,
    Json(request): Json<SearchRequest>,
) -> ApiResult<axum::Json<SearchResponse>> {
    if request.limit > MAX_LIMIT {
        return Err(Problem::new(
            Kind::InvalidRequest,
            format!("limit must be 0 to {MAX_LIMIT}, not {}", request.limit),
        ));
    }
    let facets = check_facets(&app, &request.facets)?;
    let (collection, (at, answer)) =
        collections::ask_newest(&app, &slug, |collection| ask(&app, collection, &request, &facets)).await?;
    app.usage().count(collection.id, caller.map(|Caller(key)| key.id), Metric::Searches, 1);
    let ids: Vec<VersionId> = answer.hits.iter().map(|hit| hit.id).collect();
    let mut found: BTreeMap<VersionId, Document> = match ids.as_slice() {
        [] => BTreeMap::new(),
        ids => app.store.documents(ids).await?.into_iter().map(|document| (document.id, document)).collect(),
    };
    let offset = at.offset + answer.hits.len() as u64;
    let corpus_version = at.version;
    let more = request.limit > 0 && offset <= MAX_DEPTH && !answer.hits.is_empty() && offset < answer.total;
    let view = |score, document| HitView { score, document: DocumentView::new(&app, document, &collection) };
    let documents = answer.hits.iter().filter_map(|hit| Some(view(hit.score, found.remove(&hit.id)?))).collect();
    Ok(axum::Json(SearchResponse {
        hits: answer.total,
        documents,
        facets: answer.facets,
        next: more.then(|| write_cursor(&list(&collection), &Position { offset, ..at })),
        corpus_version,
    }))
}
