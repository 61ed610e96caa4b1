//! `/docsets/{id}/estimate`: what a package would hold and weigh, before it is built.

use adit_packager::SizeEstimator;
use adit_packager::manifest::Member;
use adit_shared::domain::{Format, Layout, Recipe};
use axum::extract::State;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::ApiResult;
use crate::resources::docsets;
use crate::resources::packages::{split_list, wanted_formats};
use crate::state::App;

/// Bytes a second that an estimate reckons with; the packager itself says better when it accepts.
const ESTIMATED_RATE: u64 = 100 * 1024 * 1024;

/// Formats and layout in a query string.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FormatsQuery {
    /// Formats, separated by commas (default: txt).
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false, example = json!(["txt", "meta"]))]
    fmts: Option<String>,
    /// The same as `fmts`.
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false)]
    fmt: Option<String>,
    /// Layout: flat or bag (default: flat).
    #[param(value_type = Option<Layout>)]
    layout: Option<String>,
}

/// What a package would hold and weigh.
#[derive(Debug, Serialize, ToSchema)]
pub struct Estimate {
    /// Formats, sorted.
    formats: Vec<Format>,
    /// Layout of the archive.
    layout: Layout,
    /// Members of the docset.
    documents: u64,
    /// Members with at least one file in these formats.
    included: u64,
    /// Exact size of the archive.
    bytes: u64,
    /// Seconds that building it may take.
    seconds: u64,
}

/// Tells what a package would hold and weigh: the archive's exact size, before anything is built.
#[utoipa::path(get, path = "/api/docsets/{id}/estimate", operation_id = "estimatePackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path), FormatsQuery),
    responses((status = 200, description = "The estimate", body = Estimate)))]
pub async fn estimate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<FormatsQuery>,
) -> ApiResult<axum::Json<Estimate>> {
    let docset = docsets::find(&app, &caller, id).await?;
    let formats = wanted_formats(&docset, &split_list(query.fmts.as_deref(), query.fmt.as_deref()))?;
    let layout: Layout = query.layout.as_deref().unwrap_or("flat").parse()?;
    let _pass = app.pass().await;
    let recipe = Recipe::new(formats.clone(), layout);
    let mut estimator = SizeEstimator::new(&recipe, None)?;
    let mut included = 0;
    let mut members = app.store.members(&docset.members, None, Some(&formats));
    while let Some(member) = members.try_next().await? {
        included += u64::from(!member.files.is_empty());
        estimator.add(&Member::from(member))?;
    }
    drop(members);
    let bytes = estimator.finish().bytes;
    let seconds = 1 + bytes / ESTIMATED_RATE;
    Ok(axum::Json(Estimate { formats, layout, documents: docset.size, included, bytes, seconds }))
}
