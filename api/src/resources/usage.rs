//! `GET /usage`: reports of use, for operators.

use adit_shared::domain::{Month, UsageReport};
use adit_shared::ids::KeyId;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::extract::Query;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// What a report is wanted of.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// The month (default: this one, UTC).
    #[param(nullable = false, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    month: Option<String>,
    /// Slug of a collection (default: all).
    #[param(nullable = false)]
    collection: Option<String>,
    /// Number of a key (default: all, and use without a key).
    #[param(nullable = false)]
    key: Option<i64>,
}

/// Reports what was used in a month, in the form of a COUNTER Database Report (release 5.1): each collection is a database, the access method is
/// TDM. `adit:` is before metrics that are not COUNTER's. The last seconds may be missing.
#[utoipa::path(get, path = "/api/usage", operation_id = "getUsage", tag = "service", security(("key" = [])), params(UsageQuery),
    responses((status = 200, description = "The report", body = UsageReport), (status = 403), (status = 404, description = "There is no such collection or key")))]
pub async fn get(
    State(app): State<App>,
    _: Caller,
    Query(query): Query<UsageQuery>,
) -> ApiResult<axum::Json<UsageReport>> {
    let now = app.clock.now_ms();
    let month = match query.month {
        Some(month) => month.parse().map_err(|error: String| Problem::new(Kind::InvalidRequest, error))?,
        None => Month::of(now),
    };
    let key = match query.key {
        None => None,
        Some(id) => {
            let key = app.store.keys().await?.into_iter().find(|key| key.id == KeyId(id));
            Some(key.ok_or_else(|| Problem::not_found("key"))?)
        }
    };
    let mut collections = app.store.collections().await?;
    if let Some(slug) = &query.collection {
        collections.retain(|collection| collection.slug == *slug);
        if collections.is_empty() {
            return Err(Problem::not_found("collection"));
        }
    }
    let sums = app.store.usage(&month, key.as_ref().map(|key| key.id)).await?;
    let named = collections.iter().map(|c| (c.id, c.slug.as_str(), c.name.as_str()));
    let name = key.as_ref().map(|key| key.name.as_str());
    Ok(axum::Json(UsageReport::new(&month, named, &sums, name, now)))
}
