//! `/docsets`: frozen selections; and who may do what with one. How they are made, made anew, compared and shared lives in the files beside.

pub mod create;
pub mod diff;
pub mod lines;
pub mod refresh;
pub mod share;
#[cfg(test)]
mod tests;

use adit_shared::domain::Docset;
use adit_shared::ids::DocsetId;
use adit_shared::search::Source;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::deletes;
use crate::extract::{Json, Path, Query};
use crate::paging::{Paging, cut, link_next};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;
use crate::wire::DocsetView;

/// What a cursor of this list is made for.
const LIST: &str = "docsets";
/// Longest name of a docset, in characters.
const NAME_LENGTH: usize = 200;

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

/// A docset that the caller may read: its own, or one that a link has opened to it (see [`share`]). Whatever only reads a docset finds it so.
pub(crate) async fn readable(app: &App, caller: &Caller, id: i64) -> ApiResult<Option<Docset>> {
    Ok(match caller.sees() {
        Some(reader) => app.store.readable_docset(DocsetId(id), reader, app.clock.now_ms()).await?,
        None => app.store.docset(DocsetId(id), None).await?,
    })
}

/// A docset that the caller may read, or a 404.
pub async fn find(app: &App, caller: &Caller, id: i64) -> ApiResult<Docset> {
    readable(app, caller, id).await?.ok_or_else(|| Problem::not_found("docset"))
}

/// A docset that the caller may change, delete and share, or a 404.
pub async fn find_own(app: &App, caller: &Caller, id: i64) -> ApiResult<Docset> {
    app.store.docset(DocsetId(id), caller.sees()).await?.ok_or_else(|| Problem::not_found("docset"))
}

/// Refuses a query that cannot be stored: PostgreSQL takes no NUL in a text.
pub(crate) fn check_query(query: &Source) -> ApiResult<()> {
    match query.stored().chars().position(|c| c == '\0') {
        Some(position) => {
            let problem = Problem::new(Kind::InvalidQuery, "the query holds a NUL character; leave it out");
            Err(problem.with("position", position))
        }
        None => Ok(()),
    }
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
    let next = cut(LIST, limit, &mut docsets, |docset| docset.id.0);
    let headers = link_next(&app, "/api/docsets", limit, next.as_deref());
    let docsets = docsets.into_iter().map(|docset| DocsetView::new(&app, docset)).collect();
    Ok((headers, axum::Json(DocsetList { docsets, next })))
}

/// Shows a docset.
#[utoipa::path(get, path = "/api/docsets/{id}", operation_id = "getDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "The docset", body = DocsetView)))]
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<axum::Json<DocsetView>> {
    let docset = find(&app, &caller, id).await?;
    Ok(axum::Json(DocsetView::whole(&app, docset).await?))
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
    let docset = find_own(&app, &caller, id).await?;
    Ok(axum::Json(DocsetView::whole(&app, docset).await?))
}

/// Deletes a docset, its links and its owner's packages. Packages that others have asked for, who were let in by a link, stay with them until they
/// expire.
#[utoipa::path(delete, path = "/api/docsets/{id}", operation_id = "deleteDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 204, description = "Deleted")))]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<StatusCode> {
    let docset = find_own(&app, &caller, id).await?;
    // A packager that still builds one of its packages is told, or finds it gone, and gives up.
    app.store.delete_docset(docset.id, caller.sees(), app.clock.now_ms()).await?;
    deletes::send_now(&app).await;
    Ok(StatusCode::NO_CONTENT)
}
