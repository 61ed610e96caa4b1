//! `/me`: the caller's key, its quota and its use.

use adit_shared::clock::rfc3339;
use adit_shared::domain::{Allowance, Entitlement, Role};
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::problem::ApiResult;
use crate::state::App;

/// Days of use that are shown.
const DAYS: u32 = 31;

/// Use on one day (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub struct DayUsage {
    /// The day.
    #[schema(format = Date, examples("2026-11-21"))]
    date: String,
    /// Documents charged.
    documents: u64,
}

/// A key, as its holder sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// Its number.
    id: i64,
    /// Its name.
    name: String,
    /// What it may do.
    role: Role,
    /// What it is entitled to beyond what is open, sorted. An operator is to everything.
    entitlements: Vec<Entitlement>,
    /// Documents a day; null: unlimited.
    quota: Option<u64>,
    /// Documents left today; null: unlimited.
    remaining: Option<u64>,
    /// Documents charged by day, newest first, of the last 31 days with use.
    usage: Vec<DayUsage>,
}

/// Shows the caller's key, quota and use.
#[utoipa::path(get, path = "/api/me", operation_id = "getMe", tag = "me", security(("key" = [])),
    responses((status = 200, description = "The key", body = Me)))]
pub async fn get(State(app): State<App>, Caller(key): Caller) -> ApiResult<axum::Json<Me>> {
    let usage = app.store.charged(key.id, DAYS).await?;
    let date = |day: i64| rfc3339(day)[..10].to_owned();
    Ok(axum::Json(Me {
        id: key.id.0,
        name: key.name.clone(),
        role: key.role,
        entitlements: key.entitlements.iter().cloned().collect(),
        quota: key.limits.documents,
        remaining: app.quotas().left(&key, Allowance::Documents),
        usage: usage.into_iter().map(|(day, documents)| DayUsage { date: date(day), documents }).collect(),
    }))
}
