//! `/packages/{id}/withdrawals`: which documents that a package has were withdrawn since it was asked for.

use adit_shared::store::Member;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::paging::{Paging, link_next, write_cursor};
use crate::problem::{ApiResult, Problem};
use crate::resources::members::{MemberList, MemberView};
use crate::resources::packages::find;
use crate::state::App;

/// Lists the documents of which a package has files and which were withdrawn since it was asked for, in the order of ids: whoever holds the package
/// should delete them there. A package that is asked for anew leaves them out.
#[utoipa::path(get, path = "/api/packages/{id}/withdrawals", operation_id = "listWithdrawals", tag = "packages", security(("key" = [])), params(("id" = i64, Path), Paging),
    responses((status = 200, description = "A page of them", body = MemberList, headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")))))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(paging): Query<Paging>,
) -> ApiResult<Response> {
    let package = find(&app, &caller, id).await?;
    let docset = app.store.docset_of_packages(package.docset).await?.ok_or_else(|| Problem::not_found("package"))?;
    let limit = paging.limit()?;
    let list = format!("withdrawals of {id}");
    let start = paging.position::<u32>(&list)?.map_or(0, |id| id.saturating_add(1));
    let mut members = docset.members - app.store.clearance(package.id).await?.withheld();
    members.remove_range(..start);
    let mut withdrawn = app.store.withdrawn(docset.collection, &members).await?;
    let ids: RoaringBitmap = withdrawn.keys().map(|id| id.0).collect();
    let mut found = app.store.members(&ids, None, Some(&package.recipe.formats));
    let (mut page, mut next) = (Vec::<Member>::new(), None);
    while let Some(member) = found.try_next().await? {
        match page.last() {
            _ if member.files.is_empty() => {}
            Some(last) if page.len() >= limit as usize => {
                next = Some(write_cursor(&list, &last.id.0));
                break;
            }
            _ => page.push(member),
        }
    }
    let view = |member: Member| {
        let withdrawn = withdrawn.remove(&member.id);
        MemberView::new(&app, member).withdrawn(withdrawn)
    };
    let members = page.into_iter().map(view).collect();
    let headers = link_next(&app, &format!("/api/packages/{id}/withdrawals"), limit, next.as_deref());
    Ok((headers, axum::Json(MemberList { members, next })).into_response())
}
