//! Quotas: documents a day (UTC) for each key, charged in the database.

use adit_shared::clock::Clock;
use adit_shared::domain::ApiKey;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

const DAY_MS: i64 = 86_400_000;

/// Days since the epoch, UTC.
#[must_use]
pub fn today(clock: &dyn Clock) -> i64 {
    clock.now_ms().div_euclid(DAY_MS)
}

/// Charges `documents` to the key; the answer's `x-ratelimit-*` headers (none for a key without a quota).
pub async fn charge(app: &App, key: &ApiKey, documents: u64) -> ApiResult<HeaderMap> {
    let day = today(&*app.clock);
    let used = app.store.charge(key.id, day, documents, key.quota).await?;
    let reset = (day + 1) * DAY_MS / 1000;
    match (used, key.quota) {
        (Some(_), None) => Ok(HeaderMap::new()),
        (Some(used), Some(quota)) => Ok(headers(quota, quota.saturating_sub(used), reset)),
        (None, quota) => Err(spent(quota.unwrap_or_default(), documents, reset, app.clock.now_ms() / 1000)),
    }
}

/// Refuses what the key's quota of today would not pay for, without charging it.
pub async fn check(app: &App, key: &ApiKey, documents: u64) -> ApiResult<()> {
    let Some(quota) = key.quota else { return Ok(()) };
    let day = today(&*app.clock);
    let usage = app.store.usage(key.id, 1).await?;
    let used = usage.first().filter(|(used_on, _)| *used_on == day).map_or(0, |(_, used)| *used);
    if used.saturating_add(documents) <= quota {
        return Ok(());
    }
    Err(spent(quota, documents, (day + 1) * DAY_MS / 1000, app.clock.now_ms() / 1000))
}

fn headers(quota: u64, remaining: u64, reset: i64) -> HeaderMap {
    let pairs = [
        ("x-ratelimit-limit", HeaderValue::from(quota)),
        ("x-ratelimit-remaining", HeaderValue::from(remaining)),
        ("x-ratelimit-reset", HeaderValue::from(reset)),
    ];
    pairs.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect()
}

fn spent(quota: u64, documents: u64, reset: i64, now: i64) -> Problem {
    let detail = format!(
        "this would cost {documents} document(s), more than is left of today's {quota}; the quota is new at 00:00 UTC"
    );
    headers(quota, 0, reset)
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .fold(Problem::new(Kind::QuotaSpent, detail), |problem, (name, value)| problem.header(name, value))
        .header(header::RETRY_AFTER, HeaderValue::from((reset - now).max(1)))
}
