//! `/docsets`: frozen selections, made of a query or of refs; one's own only.

use std::collections::BTreeSet;

use adit_shared::domain::{Collection, Docset, DocsetFingerprint, FormatTotal, Selection};
use adit_shared::ids::{DocsetId, PackageId};
use adit_shared::search::{SearchError, Source};
use adit_shared::store::{FormatTotals, NewDocset};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::{Json, Path, Query};
use crate::paging::{Paging, link_next, write_cursor};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::state::App;
use crate::wire::DocsetView;

/// Unknown refs that a problem lists.
const REFS_SHOWN: usize = 20;
/// What a cursor of this list is made for.
const LIST: &str = "docsets";
/// Longest name of a docset, in characters.
const NAME_LENGTH: usize = 200;

/// A docset to be made: of a query or of refs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocsetRequest {
    /// Slug of the collection.
    collection: String,
    /// Freezes all hits of this query.
    query: Option<Source>,
    /// Freezes the current versions of these works.
    refs: Option<Vec<String>>,
    /// A name for people, 1 to 200 characters other than NUL.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$")]
    name: Option<String>,
}

/// What can be changed of a docset.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocsetPatch {
    /// The new name, 1 to 200 characters other than NUL; null takes it away.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$", required)]
    name: Option<String>,
}

/// A page of docsets, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocsetList {
    docsets: Vec<DocsetView>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
}

/// A docset that the caller may see, or a 404.
pub async fn find(app: &App, caller: &Caller, id: i64) -> ApiResult<Docset> {
    app.store.docset(DocsetId(id), caller.sees()).await?.ok_or_else(|| Problem::not_found("docset"))
}

/// Refuses names that are empty, too long, or cannot be stored.
pub(crate) fn check_name(name: Option<&str>) -> ApiResult<()> {
    match name.map(|name| name.chars().count()) {
        Some(count) if count == 0 || count > NAME_LENGTH => Err(Problem::new(
            Kind::InvalidRequest,
            format!("name must have 1 to {NAME_LENGTH} characters, not {count}"),
        )),
        // PostgreSQL takes no NUL in a text.
        Some(_) if name.is_some_and(|name| name.contains('\0')) => {
            Err(Problem::new(Kind::InvalidRequest, "name must not hold a NUL character"))
        }
        _ => Ok(()),
    }
}

/// Members of a docset-to-be, out of the collection as it stands.
async fn select(
    app: &App,
    request: &DocsetRequest,
    collection: Collection,
) -> ApiResult<Result<RoaringBitmap, SearchError>> {
    match (&request.query, &request.refs) {
        (Some(query), None) => Ok(app.search.matching(collection.index(), &query.read()?).await),
        (None, Some(refs)) => Ok(Ok(resolve(app, &collection, refs).await?)),
        _ => Err(Problem::new(Kind::InvalidRequest, "give exactly one of query and refs")),
    }
}

async fn resolve(app: &App, collection: &Collection, refs: &[String]) -> ApiResult<RoaringBitmap> {
    let found = app.store.resolve_refs(collection.id, collection.corpus_version, refs).await?;
    let unknown: Vec<&str> = refs.iter().filter(|r| !found.contains_key(*r)).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(found.values().map(|id| id.0).collect());
    }
    let detail = format!("{} of {} refs are not in the collection; leave them out", unknown.len(), refs.len());
    Err(Problem::new(Kind::UnknownRefs, detail)
        .with("unknown", unknown.into_iter().take(REFS_SHOWN).collect::<Vec<_>>()))
}

/// Reads the members once for the fingerprint and the totals.
async fn measure(app: &App, members: &RoaringBitmap) -> ApiResult<(DocsetFingerprint, Vec<FormatTotal>)> {
    let mut fingerprint = DocsetFingerprint::default();
    let mut totals = FormatTotals::default();
    let mut stream = app.store.members(members, None, None);
    while let Some(member) = stream.try_next().await? {
        fingerprint.add(member.id, &member.content_hash);
        for file in &member.files {
            totals.add(&file.format, file.size);
        }
    }
    Ok((fingerprint, totals.finish()))
}

/// Makes a docset.
#[utoipa::path(post, path = "/api/docsets", operation_id = "createDocset", tag = "docsets", security(("key" = [])), request_body = DocsetRequest,
    responses((status = 201, description = "The docset", body = DocsetView, headers(("location" = String, description = "The docset"))),
              (status = 404, description = "There is no such collection"),
              (status = 422, description = "It would be empty, or refs are unknown")))]
pub async fn create(State(app): State<App>, caller: Caller, Json(request): Json<DocsetRequest>) -> ApiResult<Response> {
    check_name(request.name.as_deref())?;
    if let Some(position) = request.query.as_ref().and_then(|query| query.stored().chars().position(|c| c == '\0')) {
        let problem = Problem::new(Kind::InvalidQuery, "the query holds a NUL character; leave it out");
        return Err(problem.with("position", position));
    }
    let asked = collections::ask_newest(&app, &request.collection, |collection| select(&app, &request, collection));
    let (collection, members) = asked.await?;
    if members.is_empty() {
        return Err(Problem::new(Kind::EmptyDocset, "nothing matches; try the query with the search first"));
    }
    let (fingerprint, formats) = {
        let _pass = app.pass().await;
        measure(&app, &members).await?
    };
    let docset = NewDocset {
        owner: caller.0.id,
        collection: collection.id,
        name: request.name,
        origin: request.query.map_or(Selection::Refs(members.len()), Selection::Query).into(),
        corpus_version: collection.corpus_version,
        members,
        fingerprint: fingerprint.finish(),
        formats,
        created: app.clock.now_ms(),
    };
    let docset = app.store.create_docset(&docset).await?;
    let location = app.path(&format!("/api/docsets/{}", docset.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(DocsetView::new(&app, docset))).into_response())
}

/// Lists the caller's docsets, newest first.
#[utoipa::path(get, path = "/api/docsets", operation_id = "listDocsets", tag = "docsets", security(("key" = [])), params(Paging),
    responses((status = 200, description = "A page of docsets", body = DocsetList, headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")))))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> ApiResult<(HeaderMap, axum::Json<DocsetList>)> {
    let limit = paging.limit()?;
    let before = paging.position::<i64>(LIST)?.map(DocsetId);
    let mut docsets = app.store.docsets(caller.sees(), before, limit + 1).await?;
    let more = docsets.len() > limit as usize;
    docsets.truncate(limit as usize);
    let next = docsets.last().filter(|_| more).map(|last| write_cursor(LIST, &last.id.0));
    let headers = link_next(&app, "/api/docsets", limit, next.as_deref());
    let docsets = docsets.into_iter().map(|docset| DocsetView::new(&app, docset)).collect();
    Ok((headers, axum::Json(DocsetList { docsets, next })))
}

/// Shows a docset.
#[utoipa::path(get, path = "/api/docsets/{id}", operation_id = "getDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "The docset", body = DocsetView)))]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<axum::Json<DocsetView>> {
    let docset = find(&app, &caller, id).await?;
    Ok(axum::Json(DocsetView::new(&app, docset)))
}

/// Renames a docset; nothing else of it can change.
#[utoipa::path(patch, path = "/api/docsets/{id}", operation_id = "renameDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)), request_body = DocsetPatch,
    responses((status = 200, description = "The docset", body = DocsetView)))]
pub async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Json(patch): Json<DocsetPatch>,
) -> ApiResult<axum::Json<DocsetView>> {
    check_name(patch.name.as_deref())?;
    app.store.rename_docset(DocsetId(id), caller.sees(), patch.name.as_deref()).await?;
    let docset = find(&app, &caller, id).await?;
    Ok(axum::Json(DocsetView::new(&app, docset)))
}

/// Deletes a docset and its packages.
#[utoipa::path(delete, path = "/api/docsets/{id}", operation_id = "deleteDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 204, description = "Deleted")))]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<StatusCode> {
    let docset = find(&app, &caller, id).await?;
    // The objects first: once the rows are gone nobody would remember to delete them. A packager that still builds one of these
    // finds the package gone and gives up.
    let packages = app.store.packages_of(docset.id).await?;
    for package in &packages {
        dispatch::send_delete(&app, package.id).await?;
    }
    let known: BTreeSet<PackageId> = packages.iter().map(|package| package.id).collect();
    for package in app.store.delete_docset(docset.id, caller.sees()).await?.unwrap_or_default() {
        // Asked for in between.
        if !known.contains(&package.id) {
            dispatch::send_delete(&app, package.id).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
