//! `GET /docsets/{id}/dump`: the package of layout flat, for clients that only know how to ask again.

use adit_shared::domain::{Format, Layout, Recipe, Status};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::problem::ApiResult;
use crate::resources::docsets;
use crate::resources::packages::{AskedPackage, Wish, answer, ask, failure, split_list, wanted_formats};
use crate::state::App;

/// Formats in a query string.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DumpQuery {
    /// Formats, separated by commas (default: txt).
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false, example = json!(["txt", "meta"]))]
    fmts: Option<String>,
    /// The same as `fmts`.
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false)]
    fmt: Option<String>,
}

/// Gives the docset's package of layout flat: builds it where needed, then leads to the archive. The same request is
/// sent until it answers 303. As GET is safe, it charges nothing: a new package is charged when it is fetched first.
#[utoipa::path(get, path = "/api/docsets/{id}/dump", operation_id = "dumpDocset", tag = "packages", security(("key" = [])), params(("id" = i64, Path), DumpQuery),
    responses((status = 202, description = "It is being built; ask again", body = AskedPackage, headers(("location" = String, description = "The package"), ("retry-after" = u64))),
              (status = 303, description = "The archive is ready", headers(("location" = String, description = "The download"))),
              (status = 409, description = "It could not be built, or the key has as much of packages as it may"),
              (status = 429)))]
pub async fn dump(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<DumpQuery>,
) -> ApiResult<Response> {
    let docset = docsets::find(&app, &caller, id).await?;
    let formats = wanted_formats(&docset, &split_list(query.fmts.as_deref(), query.fmt.as_deref()))?;
    let wish = Wish {
        docset,
        recipe: Recipe::new(formats, Layout::Flat),
        base: None,
        reuse: true,
        retry: false,
        pay_later: true,
    };
    let asked = ask(&app, &caller, wish).await?;
    let package = &asked.package;
    match package.status {
        Status::Successful => {
            let location = app.path(&format!("/api/packages/{}/download", package.id));
            Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
        }
        Status::Failed => Err(failure(&app, package)),
        _ => Ok(answer(&app, &caller, &asked, StatusCode::ACCEPTED)),
    }
}
