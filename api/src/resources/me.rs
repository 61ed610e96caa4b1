//! `/me`: the caller's key, its quotas and its use, and what a package would cost.

use adit_shared::clock::rfc3339;
use adit_shared::domain::{Allowance, ApiKey, Entitlement, Holdings, Limits, OwnLimit, Role, Scope};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::extract::Query;
use crate::problem::ApiResult;
use crate::resources::docsets;
use crate::state::App;

/// Days of use that are shown.
const DAYS: u32 = 31;

/// What is asked beside the key itself.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MeQuery {
    /// A docset: what would a package of it cost?
    #[param(nullable = false)]
    docset: Option<i64>,
}

/// Use on one day (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub struct DayUsage {
    /// The day.
    #[schema(format = Date, examples("2026-11-21"))]
    date: String,
    /// Documents charged.
    documents: u64,
}

/// What a key may use in one window of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Allowance)]
pub struct AllowanceView {
    /// How much; null: unlimited.
    limit: Option<u64>,
    /// Whether the limit is the key's own; else it is its role's.
    own: bool,
    /// What its role has; null: unlimited.
    role_limit: Option<u64>,
    /// Used in this window; null for requests that are unlimited, which are not counted.
    used: Option<u64>,
    /// Left in this window; null: unlimited.
    remaining: Option<u64>,
    /// Length of the window.
    window_seconds: i64,
    /// When the next window begins, RFC 3339.
    #[schema(format = DateTime)]
    reset: String,
}

/// What a key may use.
#[derive(Debug, Serialize, ToSchema)]
pub struct Allowances {
    /// Documents a day (UTC).
    documents: AllowanceView,
    /// Requests a minute.
    requests: AllowanceView,
}

/// What a key has, and may have, at one time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Holding)]
pub struct HoldingView {
    /// How much it may have; null: unlimited.
    limit: Option<u64>,
    /// Whether the limit is the key's own; else it is its role's.
    own: bool,
    /// What its role may have; null: unlimited.
    role_limit: Option<u64>,
    /// What it has.
    used: u64,
}

/// What a key has, and may have, at one time. What is deleted or expires is free again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Holdings)]
pub struct HoldingsView {
    /// Docsets.
    docsets: HoldingView,
    /// Packages that are being built or are there.
    packages: HoldingView,
    /// Packages that are being built or wait for it.
    unfinished: HoldingView,
    /// Bytes of packages that are there, and of those that are being built as far as their size is known.
    stored_bytes: HoldingView,
}

/// What a package of a docset would cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct PackageCost {
    /// The docset.
    docset: i64,
    /// Its documents: what a package costs that the key has not paid for yet. The estimate tells it of a package with its formats and layout.
    cost: u64,
    /// Documents that would be left today; below zero it would be refused; null: unlimited.
    quota_after: Option<i64>,
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
    /// The scopes that it has: those of its role, or those of them that it was given.
    scopes: Vec<Scope>,
    /// When it expires, RFC 3339; null: never.
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// The beginning of the clock hour in which it was last shown, as far as is stored, RFC 3339;
    /// null: not known.
    #[schema(format = DateTime)]
    last_used: Option<String>,
    /// What it is entitled to beyond what is open, sorted. An operator is to everything.
    entitlements: Vec<Entitlement>,
    /// Documents a day; null: unlimited.
    quota: Option<u64>,
    /// Documents left today; null: unlimited.
    remaining: Option<u64>,
    /// What it may use, in full.
    allowances: Allowances,
    /// What it has, and may have, at one time.
    holdings: HoldingsView,
    /// Documents charged by day, newest first, of the last 31 days with use.
    usage: Vec<DayUsage>,
    /// What a package would cost; null where no docset was named.
    package: Option<PackageCost>,
}

/// Shows the caller's key, its scopes, quotas and use.
#[utoipa::path(get, path = "/api/me", operation_id = "getMe", tag = "me", security(("key" = [])), params(MeQuery),
    responses((status = 200, description = "The key", body = Me), (status = 404, description = "There is no such docset")))]
pub async fn get(State(app): State<App>, caller: Caller, Query(query): Query<MeQuery>) -> ApiResult<axum::Json<Me>> {
    let package = match query.docset {
        Some(id) => {
            let cost = docsets::find(&app, &caller, id).await?.size;
            Some(PackageCost { docset: id, cost, quota_after: app.quotas().after(&caller.0, cost) })
        }
        None => None,
    };
    let Caller(key) = caller;
    let usage = charged(&app, &key).await?;
    let role = app.store.role_limits(key.role).await?;
    let holdings = holdings(&app, &key).await?;
    let today = Allowance::Documents.window(app.clock.now_ms());
    let used = usage.first().filter(|(day, _)| *day == today).map_or(0, |(_, documents)| *documents);
    let date = |day: i64| rfc3339(day).chars().take(10).collect();
    Ok(axum::Json(Me {
        scopes: key.scopes().collect(),
        expires: key.expires.map(rfc3339),
        last_used: key.last_used.map(rfc3339),
        entitlements: key.entitlements.iter().cloned().collect(),
        quota: key.limits.documents,
        remaining: app.quotas().left(&key, Allowance::Documents),
        allowances: Allowances {
            documents: AllowanceView { used: Some(used), ..view(&app, &key, &role, Allowance::Documents) },
            requests: view(&app, &key, &role, Allowance::Requests),
        },
        holdings,
        usage: usage.into_iter().map(|(day, documents)| DayUsage { date: date(day), documents }).collect(),
        package,
        id: key.id.0,
        name: key.name,
        role: key.role,
    }))
}

async fn holdings(app: &App, key: &ApiKey) -> ApiResult<HoldingsView> {
    let role = app.store.role_holding_limits(key.role).await?;
    let held = app.store.holdings(key.id, app.clock.now_ms()).await?;
    let Holdings { docsets, packages, unfinished, stored_bytes } = held.map(|holding, used| HoldingView {
        limit: key.holding_limits.of(holding),
        own: key.own_holding_limits.of(holding) != OwnLimit::AsRole,
        role_limit: role.of(holding),
        used,
    });
    Ok(HoldingsView { docsets, packages, unfinished, stored_bytes })
}

/// What was charged by day. What this process holds of today's documents it has not given yet.
async fn charged(app: &App, key: &ApiKey) -> ApiResult<Vec<(i64, u64)>> {
    let today = Allowance::Documents.window(app.clock.now_ms());
    let mut days = app.store.charged(key.id, DAYS).await?;
    if let Some((day, documents)) = days.first_mut()
        && *day == today
    {
        *documents = documents.saturating_sub(app.quotas().unused(key, Allowance::Documents));
    }
    Ok(days)
}

fn view(app: &App, key: &ApiKey, role: &Limits<Option<u64>>, allowance: Allowance) -> AllowanceView {
    let limit = key.limits.of(allowance);
    let remaining = app.quotas().left(key, allowance);
    AllowanceView {
        limit,
        own: key.own_limits.of(allowance) != OwnLimit::AsRole,
        role_limit: role.of(allowance),
        used: limit.zip(remaining).map(|(limit, left)| limit.saturating_sub(left)),
        remaining,
        window_seconds: allowance.seconds(),
        reset: rfc3339(allowance.window_end(app.clock.now_ms())),
    }
}
