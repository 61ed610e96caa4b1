//! Sharing a docset: a link opens it to every key that follows it, for reading, until the link expires or is revoked. What such a key may do then
//! is what [`super::find`] is asked for; the rest asks [`super::find_own`].
//!
//! The link proves itself by a signature; whether it still holds, and who has followed it, is known to the database alone, so that to revoke it
//! works at once in all processes.

use adit_shared::clock::rfc3339;
use adit_shared::ids::ShareId;
use adit_shared::store::{Share, StoreResult};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{find, find_own};
use crate::auth::Caller;
use crate::extract::{Json, Path, Query, whole};
use crate::links::Signer;
use crate::paging::{Paging, cut, link_next};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;
use crate::wire::DocsetView;

/// Days that a link is good for.
const DAYS: u32 = 30;
/// The same, at most.
const MAX_DAYS: u32 = 366;
const DAY_MS: i64 = 86_400_000;

fn days() -> u32 {
    DAYS
}

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Days that it is good for.
    #[serde(default = "days", deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 366, default = 30)]
    days: u32,
}

/// A link that opens a docset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Share)]
pub struct ShareView {
    /// Its number.
    id: i64,
    /// Absolute URL of this resource; DELETE revokes the link.
    #[schema(format = "uri")]
    url: String,
    /// The link. Who POSTs to it with a key of its own can read the docset from then on; GET shows what it opens.
    #[schema(format = "uri")]
    link: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    created: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    expires: String,
    /// Keys that have followed it.
    guests: u64,
}

impl ShareView {
    fn new(app: &App, signer: &Signer, share: &Share) -> Self {
        Self {
            id: share.id.0,
            url: app.url(&format!("/api/docsets/{}/share/{}", share.docset, share.id)),
            link: app.url(&format!("/api/shared/{}", signer.share_token(share.salted()))),
            created: rfc3339(share.created),
            expires: rfc3339(share.expires),
            guests: share.guests,
        }
    }
}

/// A page of a docset's links.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShareList {
    /// By number; expired ones too.
    shares: Vec<ShareView>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
}

/// Makes a link that opens the docset to those who have it: they can read it, and ask for packages of it.
#[utoipa::path(post, path = "/api/docsets/{id}/share", operation_id = "shareDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)), request_body = ShareRequest,
    responses((status = 201, description = "The link", body = ShareView, headers(("location" = String, description = "The link's own resource"), ("cache-control" = String)))))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Json(request): Json<ShareRequest>,
) -> ApiResult<Response> {
    if !(1..=MAX_DAYS).contains(&request.days) {
        let detail = format!("days must be 1 to {MAX_DAYS}, not {}", request.days);
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    let docset = find_own(&app, &caller, id).await?;
    let now = app.clock.now_ms();
    let share = app.store.create_share(docset.id, now, now + i64::from(request.days) * DAY_MS).await?;
    let view = ShareView::new(&app, &app.links().await?, &share);
    let location = app.path(&format!("/api/docsets/{id}/share/{}", share.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location.as_str()), SECRET], axum::Json(view)).into_response())
}

/// It holds rights.
const SECRET: (header::HeaderName, &str) = (header::CACHE_CONTROL, "private, no-store");

/// Lists the docset's links.
#[utoipa::path(get, path = "/api/docsets/{id}/share", operation_id = "listShares", tag = "docsets", security(("key" = [])), params(("id" = i64, Path), Paging),
    responses((status = 200, description = "A page of links", body = ShareList, headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)"), ("cache-control" = String)))))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(paging): Query<Paging>,
) -> ApiResult<Response> {
    let docset = find_own(&app, &caller, id).await?;
    let limit = paging.limit()?;
    let list = format!("shares of {id}");
    let after = paging.position::<i64>(&list)?.map(ShareId);
    let mut shares = app.store.shares(docset.id, after, limit + 1).await?;
    let next = cut(&list, limit, &mut shares, |share| share.id.0);
    let link = link_next(&app, &format!("/api/docsets/{id}/share"), limit, next.as_deref());
    let signer = app.links().await?;
    let shares = shares.iter().map(|share| ShareView::new(&app, &signer, share)).collect();
    Ok((link, [SECRET], axum::Json(ShareList { shares, next })).into_response())
}

/// Revokes a link: from now on nobody can read the docset by it. Packages that were asked for stay with those who did.
#[utoipa::path(delete, path = "/api/docsets/{id}/share/{share}", operation_id = "revokeShare", tag = "docsets", security(("key" = [])),
    params(("id" = i64, Path), ("share" = i64, Path, description = "The link's number")),
    responses((status = 204, description = "Revoked")))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path((id, share)): Path<(i64, i64)>,
) -> ApiResult<StatusCode> {
    let docset = find_own(&app, &caller, id).await?;
    match app.store.revoke_share(docset.id, ShareId(share)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("link")),
    }
}

/// Shows the docset that a link opens. That lets nobody in yet: POST does.
#[utoipa::path(get, path = "/api/shared/{token}", operation_id = "getShared", tag = "docsets", security(("key" = [])), params(("token" = String, Path, description = "The end of the link")),
    responses((status = 200, description = "The docset", body = DocsetView),
              (status = 403, description = "The link is wrong, has expired, or was revoked; ask its owner for another")))]
pub async fn get(
    State(app): State<App>,
    _caller: Caller,
    Path(token): Path<String>,
) -> ApiResult<axum::Json<DocsetView>> {
    let share = app.links().await?.shared(&token).ok_or_else(refuse)?;
    let docset = app.store.shared_docset(share, app.clock.now_ms()).await?.ok_or_else(refuse)?;
    Ok(axum::Json(DocsetView::whole(&app, docset).await?))
}

/// Follows a link: the caller's key can read the docset from now on, under the docset's own `url`, until the link expires or is revoked.
#[utoipa::path(post, path = "/api/shared/{token}", operation_id = "followShare", tag = "docsets", security(("key" = [])), params(("token" = String, Path, description = "The end of the link")),
    responses((status = 200, description = "The docset", body = DocsetView),
              (status = 403, description = "The link is wrong, has expired, or was revoked; ask its owner for another")))]
pub async fn follow(
    State(app): State<App>,
    caller: Caller,
    Path(token): Path<String>,
) -> ApiResult<axum::Json<DocsetView>> {
    let share = app.links().await?.shared(&token).ok_or_else(refuse)?;
    let opened: StoreResult<_> = app.store.follow_share(share, caller.0.id, app.clock.now_ms()).await;
    let docset = find(&app, &caller, opened?.ok_or_else(refuse)?.0).await?;
    Ok(axum::Json(DocsetView::whole(&app, docset).await?))
}

fn refuse() -> Problem {
    Problem::new(Kind::InvalidLink, "it may have been revoked too; ask the docset's owner for another")
}
