//! `/docsets/{id}/members` and `/catalog`: who is in a docset, and their metadata; in pages, or whole as NDJSON.

use adit_packager::manifest;
use adit_shared::domain::{Docset, Withdrawn};
use adit_shared::ids::VersionId;
use adit_shared::store::{Member, StoreError, StoreResult};
use async_stream::try_stream;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, TryStreamExt as _};
use roaring::RoaringBitmap;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::accept;
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::long_answers::LongAnswer;
use crate::paging::{Paging, link_next, write_cursor};
use crate::problem::ApiResult;
use crate::resources::docsets::find;
use crate::state::App;
use crate::wire::Withdrawal;

/// Documents whose metadata is read at once.
const CHUNK: usize = 500;
/// Bytes of NDJSON that leave at once: a chunk of HTTP for each line would cost more than the line.
const SENT_AT_ONCE: usize = 32 * 1024;

/// A member of a docset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberView {
    /// The document version.
    id: u32,
    /// The work's name.
    r#ref: String,
    /// Absolute URL of the document.
    #[schema(format = "uri")]
    url: String,
    /// Whether it was withdrawn: then nobody is given its files.
    withdrawn: Option<Withdrawal>,
}

impl MemberView {
    /// Shows a member.
    #[must_use]
    pub fn new(app: &App, member: Member) -> Self {
        Self {
            id: member.id.0,
            url: app.url(&format!("/api/documents/{}", member.id)),
            r#ref: member.r#ref,
            withdrawn: None,
        }
    }

    /// Shows that it was withdrawn, if it was.
    #[must_use]
    pub fn withdrawn(self, withdrawn: Option<Withdrawn>) -> Self {
        Self { withdrawn: withdrawn.map(Withdrawal::from), ..self }
    }
}

/// A member with its metadata.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatalogEntry {
    #[serde(flatten)]
    member: MemberView,
    /// Dublin Core terms.
    metadata: Map<String, Value>,
}

/// A page of members.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberList {
    pub(crate) members: Vec<MemberView>,
    /// Cursor of the next page; null on the last.
    pub(crate) next: Option<String>,
}

/// A page of a catalog.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalog {
    documents: Vec<CatalogEntry>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
}

/// Whether the client would rather have lines than a page.
pub fn wants_ndjson(headers: &HeaderMap) -> bool {
    let preference = |media_type| accept::preference(headers, header::ACCEPT, media_type);
    preference(manifest::MEDIA_TYPE) > preference("application/json")
}

/// A streamed NDJSON answer of lines that are already encoded.
pub fn ndjson(lines: impl Stream<Item = StoreResult<Bytes>> + Send + 'static) -> Response {
    let chunks = try_stream! {
        let mut lines = std::pin::pin!(lines);
        let mut chunk = BytesMut::with_capacity(SENT_AT_ONCE);
        while let Some(line) = lines.try_next().await? {
            if !chunk.is_empty() && chunk.len() + line.len() > SENT_AT_ONCE {
                yield chunk.split().freeze();
            }
            if line.len() < SENT_AT_ONCE {
                chunk.extend_from_slice(&line);
            } else {
                yield line;
            }
        }
        yield chunk.freeze();
    };
    let chunks: BoxStream<'static, StoreResult<Bytes>> = Box::pin(chunks);
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(manifest::MEDIA_TYPE));
    response.extensions_mut().insert(LongAnswer::Lines);
    response
}

/// Encodes one line of NDJSON.
pub fn line<T: Serialize>(value: &T) -> StoreResult<Bytes> {
    manifest::line(value).map(Bytes::from).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The ids of a page: `limit` members behind the cursor, and the cursor of the next page.
fn page(docset: &Docset, list: &str, paging: &Paging) -> ApiResult<(u32, RoaringBitmap, Option<String>)> {
    let limit = paging.limit()?;
    let list = format!("{list} of {}", docset.id);
    let after = paging.position::<u32>(&list)?;
    let start = after.map_or(0, |id| id.saturating_add(1));
    let ids: RoaringBitmap = docset.members.range(start..).take(limit as usize).collect();
    let last = ids.max();
    let next = last.filter(|last| docset.members.max() > Some(*last)).map(|last| write_cursor(&list, &last));
    Ok((limit, ids, next))
}

async fn catalog_entries(app: &App, ids: &[VersionId]) -> StoreResult<Vec<CatalogEntry>> {
    let documents = app.store.documents(ids).await?;
    let entry = |document: adit_shared::domain::Document| CatalogEntry {
        member: MemberView {
            id: document.id.0,
            url: app.url(&format!("/api/documents/{}", document.id)),
            r#ref: document.r#ref,
            withdrawn: document.withdrawn.map(Withdrawal::from),
        },
        metadata: document.metadata,
    };
    Ok(documents.into_iter().map(entry).collect())
}

/// Lists a docset's members in the order of ids: pages, or all of them, one to a line, with `Accept: application/x-ndjson`.
#[utoipa::path(get, path = "/api/docsets/{id}/members", operation_id = "listMembers", tag = "docsets", security(("key" = [])), params(("id" = i64, Path), Paging),
    responses((status = 200, description = "A page, or all of them", headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")),
               content((MemberList = "application/json"), (MemberView = "application/x-ndjson")))))]
pub async fn members(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let docset = find(&app, &caller, id).await?;
    let (limit, ids, next) = page(&docset, "members", &paging)?;
    if wants_ndjson(&headers) {
        return Ok(ndjson(try_stream! {
            let mut withdrawn = app.store.withdrawn(docset.collection, &docset.members).await?;
            let mut stream = app.store.members(&docset.members, None, Some(&[]));
            while let Some(member) = stream.try_next().await? {
                let withdrawn = withdrawn.remove(&member.id);
                yield line(&MemberView::new(&app, member).withdrawn(withdrawn))?;
            }
        }));
    }
    let found: Vec<Member> = app.store.members(&ids, None, Some(&[])).try_collect().await?;
    let mut withdrawn = app.store.withdrawn(docset.collection, &ids).await?;
    let view = |member: Member| {
        let withdrawn = withdrawn.remove(&member.id);
        MemberView::new(&app, member).withdrawn(withdrawn)
    };
    let members = found.into_iter().map(view).collect();
    let headers = link_next(&app, &format!("/api/docsets/{id}/members"), limit, next.as_deref());
    Ok((headers, axum::Json(MemberList { members, next })).into_response())
}

/// Lists a docset's members with their metadata: pages, or all of them, one to a line, with `Accept: application/x-ndjson`.
#[utoipa::path(get, path = "/api/docsets/{id}/catalog", operation_id = "listCatalog", tag = "docsets", security(("key" = [])), params(("id" = i64, Path), Paging),
    responses((status = 200, description = "A page, or all of them", headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")),
               content((Catalog = "application/json"), (CatalogEntry = "application/x-ndjson")))))]
pub async fn catalog(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let docset = find(&app, &caller, id).await?;
    let (limit, ids, next) = page(&docset, "catalog", &paging)?;
    if wants_ndjson(&headers) {
        return Ok(ndjson(try_stream! {
            let mut ids = docset.members.iter().map(VersionId);
            loop {
                let chunk: Vec<VersionId> = ids.by_ref().take(CHUNK).collect();
                if chunk.is_empty() {
                    break;
                }
                for entry in catalog_entries(&app, &chunk).await? {
                    yield line(&entry)?;
                }
            }
        }));
    }
    let ids: Vec<VersionId> = ids.iter().map(VersionId).collect();
    let documents = catalog_entries(&app, &ids).await?;
    let headers = link_next(&app, &format!("/api/docsets/{id}/catalog"), limit, next.as_deref());
    Ok((headers, axum::Json(Catalog { documents, next })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_those_who_name_them() {
        let wants = |accept| wants_ndjson(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]));
        for accept in [
            "application/x-ndjson",
            "application/x-ndjson, */*",
            "*/*, application/x-ndjson",
            "application/x-ndjson, application/*",
            "application/json;q=0.9, application/x-ndjson",
        ] {
            assert!(wants(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "application/json",
            "application/json, application/x-ndjson",
            "application/x-ndjson;q=0.5, */*",
            "application/x-ndjson;q=0.5, application/json",
        ] {
            assert!(!wants(accept), "{accept}");
        }
        assert!(!wants_ndjson(&HeaderMap::new()));
    }
}
