//! `/docsets/{id}/diff`: what came, changed and left since another docset.

use adit_shared::domain::{Difference, Docset};
use adit_shared::ids::{CollectionId, VersionId};
use adit_shared::store::{self, Member};
use async_stream::try_stream;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{find, readable};
use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::{Path, Query};
use crate::paging::{Paging, link_next, write_cursor};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::members::{MemberView, line, ndjson, wants_ndjson};
use crate::state::App;

/// What is wanted of a difference.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// The earlier docset, of the same collection.
    since: i64,
    /// Entries on a page, 1 to 1000 (default 100).
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// How many documents came, changed and left.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiffCounts {
    /// Documents whose work the earlier docset has in no other version that left.
    added: u64,
    /// Documents that came in the place of another version of their work.
    changed: u64,
    /// Documents of the earlier docset that left without another version of their work.
    withdrawn: u64,
}

/// A document that came in the place of another version of its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedView {
    #[serde(flatten)]
    member: MemberView,
    /// The document version that left.
    was: u32,
}

/// A page of a difference: first what was added, then what changed, then what was withdrawn, each in the order of ids.
#[derive(Debug, Serialize, ToSchema)]
pub struct Diff {
    /// Of the whole difference.
    counts: DiffCounts,
    /// Documents that came.
    added: Vec<MemberView>,
    /// Documents that came in the place of others.
    changed: Vec<ChangedView>,
    /// Documents that left.
    withdrawn: Vec<MemberView>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It came.
    Added,
    /// It came in the place of another version.
    Changed,
    /// It left.
    Withdrawn,
}

const CHANGES: [Change; 3] = [Change::Added, Change::Changed, Change::Withdrawn];

/// A line of a difference as NDJSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiffLine {
    /// What became of it.
    change: Change,
    #[serde(flatten)]
    member: MemberView,
    /// Where it changed: the document version that left.
    was: Option<u32>,
}

/// The ids of what became so.
fn ids(difference: &Difference, change: Change) -> RoaringBitmap {
    match change {
        Change::Added => difference.added.clone(),
        Change::Changed => difference.changed.keys().copied().collect(),
        Change::Withdrawn => difference.withdrawn.clone(),
    }
}

async fn difference(app: &App, client: ClientId, docset: &Docset, since: &Docset) -> ApiResult<Difference> {
    let _pass = app.pass(client).await?;
    let came = store::works(&*app.store, &(&docset.members - &since.members)).await?;
    let left = store::works(&*app.store, &(&since.members - &docset.members)).await?;
    Ok(Difference::of(came, left))
}

/// All of it, one document to a line.
fn lines(app: App, collection: CollectionId, difference: Difference) -> Response {
    ndjson(try_stream! {
        for change in CHANGES {
            let ids = ids(&difference, change);
            let mut withdrawn = app.store.withdrawn(collection, &ids).await?;
            let mut members = app.store.members(&ids, None, Some(&[]));
            while let Some(member) = members.try_next().await? {
                let was = difference.changed.get(&member.id.0).copied();
                let withdrawn = withdrawn.remove(&member.id);
                yield line(&DiffLine { change, was, member: MemberView::new(&app, member).withdrawn(withdrawn) })?;
            }
        }
    })
}

async fn page(
    app: &App,
    collection: CollectionId,
    difference: &Difference,
    list: &str,
    paging: &Paging,
) -> ApiResult<Diff> {
    let mut room = paging.limit()? as usize;
    let after = paging.position::<(Change, u32)>(list)?;
    let (mut wanted, mut last, mut more) = (Vec::new(), None, false);
    for change in CHANGES {
        let ids = ids(difference, change);
        let start = match after {
            Some((at, _)) if change < at => continue,
            Some((at, id)) if change == at => id.saturating_add(1),
            _ => 0,
        };
        let here: RoaringBitmap = ids.range(start..).take(room).collect();
        more |= ids.range_cardinality(start..) > here.len();
        room -= here.len() as usize;
        last = here.max().map(|id| (change, id)).or(last);
        let members: Vec<Member> = app.store.members(&here, None, Some(&[])).try_collect().await?;
        let mut withdrawn = app.store.withdrawn(collection, &here).await?;
        let view = |member: Member| {
            let (id, withdrawn) = (member.id, withdrawn.remove(&member.id));
            (id, MemberView::new(app, member).withdrawn(withdrawn))
        };
        wanted.push((change, members.into_iter().map(view).collect::<Vec<_>>()));
    }
    let next = last.filter(|_| more).map(|last| write_cursor(list, &last));
    let counts = DiffCounts {
        added: difference.added.len(),
        changed: difference.changed.len() as u64,
        withdrawn: difference.withdrawn.len(),
    };
    let mut diff = Diff { counts, added: Vec::new(), changed: Vec::new(), withdrawn: Vec::new(), next };
    for (change, members) in wanted {
        let was = |id: VersionId| difference.changed.get(&id.0).copied().unwrap_or_default();
        let members = members.into_iter();
        match change {
            Change::Added => diff.added = members.map(|(_, member)| member).collect(),
            Change::Changed => {
                diff.changed = members.map(|(id, member)| ChangedView { was: was(id), member }).collect()
            }
            Change::Withdrawn => diff.withdrawn = members.map(|(_, member)| member).collect(),
        }
    }
    Ok(diff)
}

/// Tells what came, changed and left since an earlier docset: in pages, or all of it, one document to a line, with `Accept: application/x-ndjson`.
#[utoipa::path(get, path = "/api/docsets/{id}/diff", operation_id = "diffDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path), DiffQuery),
    responses((status = 200, description = "A page, or all of it", headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")),
               content((Diff = "application/json"), (DiffLine = "application/x-ndjson")))))]
pub async fn diff(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<DiffQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let DiffQuery { since, limit, cursor } = query;
    let docset = find(&app, &caller, id).await?;
    let since = readable(&app, &caller, since).await?.ok_or_else(|| Problem::not_found("docset to compare with"))?;
    if since.collection != docset.collection {
        let detail = format!(
            "docset {} is of the collection {}; compare with one of {}",
            since.id, since.collection_slug, docset.collection_slug
        );
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    let paging = Paging { limit, cursor };
    let limit = paging.limit()?;
    let difference = difference(&app, caller.client(), &docset, &since).await?;
    if wants_ndjson(&headers) {
        return Ok(lines(app, docset.collection, difference));
    }
    let diff = page(&app, docset.collection, &difference, &format!("diff of {id} since {}", since.id), &paging).await?;
    let path = format!("/api/docsets/{id}/diff?since={}", since.id);
    let headers = link_next(&app, &path, limit, diff.next.as_deref());
    Ok((headers, axum::Json(diff)).into_response())
}
