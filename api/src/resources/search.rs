//! `POST /collections/{slug}/search`: pages of hits with counts and facets, or the whole answer in lines.

mod snippets;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::{Collection, Document, Metric};
use adit_shared::ids::{IndexId, VersionId};
use adit_shared::search::{
    FacetCount, Hit, KEPT_INDEXES, Query, SearchAnswer, SearchError, SearchPage, SearchResult, Sort, Source,
};
use adit_shared::store::StoreResult;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use self::snippets::{Highlight, Snippets, Withheld};
use self::whole::Form;
use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::{Json, Path, whole_number_or_null, word};
use crate::long_answers::hold_until_sent;
use crate::paging::{read_cursor, write_cursor};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::rights;
use crate::search_turn::{run_in_turn, take_answer_place, take_page_place};
use crate::state::App;
use crate::wire::DocumentView;

/// Most hits on one page.
const MAX_LIMIT: u32 = 1000;
/// Hits on a page, where nothing else is said.
const LIMIT: u32 = 20;
/// Hits of a page that takes a place among [`crate::state::Limits::pages`], if it has more: documents of one kilobyte
/// or two each, and as much again when they are written.
const SMALL_PAGE: usize = 100;
/// How deep a search may be paged; beyond that a docset or the whole answer is the better way.
const MAX_DEPTH: u64 = 100_000;

/// What a search has found and where that stands, or why the index has no answer.
type Asked<T> = Result<(IndexId, Position, T), SearchError>;

/// What a cursor of a search is made for.
fn list(collection: &Collection) -> String {
    format!("search of {}", collection.id)
}

/// A search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// What to look for; `*` finds everything. A text in the query language, or an object of the Elasticsearch query DSL.
    query: Source,
    /// Hits on a page, 0 to 1000 (default 20); 0 counts only. Of an answer in lines the first so many, else all.
    #[serde(default, deserialize_with = "whole_number_or_null")]
    #[schema(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// Where to go on: `next` of the page before, with the same query and sort. What else is asked for may differ from page to page.
    cursor: Option<String>,
    /// The order of hits.
    #[serde(default, deserialize_with = "word")]
    sort: Sort,
    /// Fields whose values are to be counted over all hits.
    #[serde(default)]
    facets: Vec<String>,
    /// Whether to show where the words of the query stand.
    highlight: Option<Highlight>,
}

/// A hit.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitView {
    /// BM25 score; null where hits are not sorted by relevance.
    score: Option<f32>,
    #[serde(flatten)]
    document: DocumentView,
    /// Pieces in which words of the query stand, by field; null where they were not asked for.
    snippets: Option<Snippets>,
    /// Reason for which there are no snippets of the text although they were asked for; null where
    /// nothing is withheld.
    text_withheld: Option<Withheld>,
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

/// Where a search goes on. It names the corpus version, so that all pages are cut from one answer,
/// and the sealed question, so that they are of one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Position {
    version: i64,
    offset: u64,
    question: Sha256,
}

/// Reads where a search goes on. Its cursor is sealed: else anybody could ask an older version of
/// texts that were closed, or withdrawn, since.
async fn position(app: &App, request: &SearchRequest, collection: &Collection) -> ApiResult<Position> {
    let (version, signer) = (collection.corpus_version, app.links().await?);
    let seal = |corpus_version| {
        let asked = format!("{:?}\n{}", request.sort, request.query.stored());
        signer.seal_question(IndexId { corpus_version, ..collection.index() }, &asked)
    };
    let Some(cursor) = &request.cursor else { return Ok(Position { version, offset: 0, question: seal(version) }) };
    let position: Position = read_cursor(&list(collection), cursor)?;
    let sealed = position.question.0.ct_eq(&seal(position.version).0);
    if !bool::from(sealed) || position.version > version {
        return Err(Problem::new(Kind::InvalidCursor, "this cursor belongs to another query or order"));
    }
    if position.offset > MAX_DEPTH {
        let detail = format!("a search can be paged to {MAX_DEPTH} hits; make a docset of it");
        return Err(Problem::new(Kind::InvalidCursor, detail));
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

/// Asks the engine for what begins at the request's position in the wanted version.
async fn ask<T>(
    app: &App,
    client: ClientId,
    collection: Collection,
    (request, query): (&SearchRequest, &Query),
    caller: Option<&Caller>,
    engine: impl AsyncFnOnce(IndexId, usize, &Query) -> SearchResult<T>,
) -> ApiResult<Asked<T>> {
    let at = position(app, request, &collection).await?;
    let index = index_of(app, &collection, at.version).await?;
    let query = rights::asked_by(caller.map(|Caller(key)| key), &collection, query.clone());
    let search = engine(index, usize::try_from(at.offset).unwrap_or(usize::MAX), &query);
    match run_in_turn(app, client, index, search).await? {
        // A search that goes on cannot meet another version half-way.
        Err(gone @ SearchError::VersionGone(_)) if request.cursor.is_some() => Err(gone.into()),
        answer => Ok(answer.map(|answer| (index, at, answer))),
    }
}

/// The documents of hits, in the order of these; one that is not there (any more) is left out.
async fn documents(app: &App, hits: &[Hit]) -> StoreResult<Vec<(Hit, Document)>> {
    if hits.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<VersionId> = hits.iter().map(|hit| hit.id).collect();
    let found = app.store.documents(&ids).await?;
    let mut found: BTreeMap<VersionId, Document> = found.into_iter().map(|document| (document.id, document)).collect();
    Ok(hits.iter().filter_map(|hit| Some((*hit, found.remove(&hit.id)?))).collect())
}

/// Searches a collection. With `Accept: text/csv` or `application/x-ndjson` the answer is all hits in their order, one to a line.
#[utoipa::path(post, path = "/api/collections/{slug}/search", operation_id = "search", tag = "search", params(("slug" = String, Path)),
    request_body = SearchRequest,
    responses((status = 200, description = "A page of hits, or all of them",
               headers(("x-total-hits" = u64, description = "Of an answer in lines: exact number of hits"), ("x-corpus-version" = i64, description = "Of an answer in lines: the state of the corpus that was searched")),
               content((SearchResponse = "application/json"), (HitView = "application/x-ndjson"), (String = "text/csv"))),
              (status = 400, description = "The query, a facet or the cursor cannot be used; `position` or `field` says where"),
              (status = 401, description = "Snippets of `text` are wanted without a valid key"),
              (status = 406, description = "Facets or snippets are wanted in lines"),
              (status = 410, description = "The cursor has expired")))]
pub async fn search(
    State(app): State<App>,
    caller: Option<Caller>,
    client: ClientId,
    Path(slug): Path<String>,
    headers: HeaderMap,
    Json(request): Json<SearchRequest>,
) -> ApiResult<Response> {
    if let Some(limit) = request.limit.filter(|limit| *limit > MAX_LIMIT) {
        return Err(Problem::new(Kind::InvalidRequest, format!("limit must be 0 to {MAX_LIMIT}, not {limit}")));
    }
    let query = request.query.read()?;
    match whole::form(&headers) {
        None => page(&app, (caller.as_ref(), client), &slug, &request, &query).await,
        Some(form) => all(&app, (caller.as_ref(), client), &slug, &request, &query, form).await,
    }
}

async fn page(
    app: &App,
    (caller, client): (Option<&Caller>, ClientId),
    slug: &str,
    request: &SearchRequest,
    query: &Query,
) -> ApiResult<Response> {
    let facets = check_facets(app, &request.facets)?;
    let wish = request.highlight.as_ref().map_or(Ok(None), |highlight| highlight.check_wish(app, caller))?;
    let limit = request.limit.unwrap_or(LIMIT);
    let engine = async |index, offset, query: &Query| {
        let page = SearchPage { query, sort: request.sort, offset, limit: limit as usize, facets: &facets };
        app.search.search(index, page).await
    };
    let (collection, (index, at, answer)): (_, (_, _, SearchAnswer)) =
        collections::ask_newest(app, slug, |collection| ask(app, client, collection, (request, query), caller, engine))
            .await?;
    app.usage().count(collection.id, caller.map(|Caller(key)| key.id), Metric::Searches, 1);
    let offset = at.offset + answer.hits.len() as u64;
    let more = limit > 0 && offset <= MAX_DEPTH && !answer.hits.is_empty() && offset < answer.total;
    let place = if answer.hits.len() > SMALL_PAGE { Some(take_page_place(app, client).await?) } else { None };
    let found = documents(app, &answer.hits).await?;
    let snippets: Vec<(Option<Snippets>, Option<Withheld>)> = match wish {
        Some(wish) => {
            let snippets = snippets::of_hits(app, caller, index, query, wish, &found).await?;
            snippets.into_iter().map(|(snippets, withheld)| (Some(snippets), withheld)).collect()
        }
        None => found.iter().map(|_| (None, None)).collect(),
    };
    let view = |((hit, document), (snippets, text_withheld)): ((Hit, _), _)| HitView {
        score: hit.score,
        document: DocumentView::new(app, document, &collection),
        snippets,
        text_withheld,
    };
    let response = SearchResponse {
        hits: answer.total,
        documents: found.into_iter().zip(snippets).map(view).collect(),
        facets: answer.facets,
        next: more.then(|| write_cursor(&list(&collection), &Position { offset, ..at })),
        corpus_version: at.version,
    };
    let response = axum::Json(response).into_response();
    Ok(match place {
        Some(place) => hold_until_sent(response, place),
        None => response,
    })
}

async fn all(
    app: &App,
    (caller, client): (Option<&Caller>, ClientId),
    slug: &str,
    request: &SearchRequest,
    query: &Query,
    form: Form,
) -> ApiResult<Response> {
    let highlight = request.highlight.as_ref().map_or(Ok(None), |highlight| highlight.check_wish(app, caller))?;
    if !request.facets.is_empty() || highlight.is_some() {
        let detail = "facets and snippets have no place in lines; ask for them with Accept: application/json";
        return Err(Problem::new(Kind::NotAcceptable, detail));
    }
    let engine = async |index, _, query: &Query| app.search.ordered(index, query, request.sort).await;
    let (collection, (_, at, mut hits)) =
        collections::ask_newest(app, slug, |collection| ask(app, client, collection, (request, query), caller, engine))
            .await?;
    app.usage().count(collection.id, caller.map(|Caller(key)| key.id), Metric::Searches, 1);
    let total = hits.len();
    hits.drain(..total.min(usize::try_from(at.offset).unwrap_or(usize::MAX)));
    hits.truncate(request.limit.map_or(usize::MAX, |limit| limit as usize));
    hits.shrink_to_fit();
    let place = take_answer_place(app, client, hits.len())?;
    Ok(whole::answer(app, collection, (hits, place), form, whole::About { total, corpus_version: at.version }))
}

#[cfg(test)]
mod tests;
