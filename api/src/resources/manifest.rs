//! `/docsets/{id}/manifest`: where a docset's files lie, for packagers.

use adit_packager::manifest::{End, Header, Member};
use adit_shared::domain::Format;
use adit_shared::ids::DocsetId;
use async_stream::try_stream;
use axum::extract::State;
use axum::response::Response;
use futures::TryStreamExt as _;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::{ApiResult, Problem};
use crate::resources::members::{line, ndjson};
use crate::state::App;

/// Formats in a query string.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ManifestQuery {
    /// Formats, separated by commas.
    #[param(value_type = Vec<Format>, min_items = 1, style = Form, explode = false, example = json!(["txt", "meta"]))]
    fmt: String,
}

/// Streams a docset's members with the places of their files as NDJSON: a header, a line for each member in the order of
/// ids, and an end line that counts them, so that a stream that was cut off is noticed.
#[utoipa::path(get, path = "/api/docsets/{id}/manifest", operation_id = "getManifest", tag = "packager", security(("key" = [])), params(("id" = i64, Path), ManifestQuery),
    responses((status = 200, description = "The manifest", content_type = "application/x-ndjson", body = String),
              (status = 403)))]
pub async fn manifest(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<ManifestQuery>,
) -> ApiResult<Response> {
    caller.must_be_packager()?;
    let docset = app.store.docset(DocsetId(id), None).await?.ok_or_else(|| Problem::not_found("docset"))?;
    let mut formats = query.fmt.split(',').map(str::parse).collect::<Result<Vec<Format>, _>>()?;
    formats.sort();
    formats.dedup();
    Ok(ndjson(try_stream! {
        yield line(&Header { docset: docset.id, fingerprint: docset.fingerprint, documents: docset.size, formats: formats.clone(), about: None, base: None })?;
        let mut count = 0;
        let mut members = app.store.members(&docset.members, None, Some(&formats));
        while let Some(member) = members.try_next().await? {
            count += 1;
            yield line(&Member::from(member))?;
        }
        yield line(&End { end: count })?;
    }))
}
