//! Outside `/api`: the keys that receipts are checked with, liveness, readiness, metrics and the contract itself.

use std::collections::BTreeMap;

use adit_shared::config::MetricsAccess;
use adit_shared::signing::JwkSet;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::client::PeerAddress;
use crate::permissions;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// The process runs.
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = "service", responses((status = 200, description = "`ok`", body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// How a part of the service is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// The part does what it is for.
    Ok,
    /// The part does not answer, or takes nothing.
    Away,
}

/// The parts of the service, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness(BTreeMap<&'static str, PartState>);

/// Every part answers and keeps what it is given; else 503 with the parts that do not.
///
/// They are tried at most once a second, whoever asks.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", tag = "service",
    responses((status = 200, description = "Each part with `ok`", body = Readiness),
              (status = 503, description = "Each part with `ok` or `away`", body = Readiness, headers(("retry-after" = u64)))))]
pub async fn readyz(State(app): State<App>) -> Response {
    let mut status = StatusCode::OK;
    let readiness = app.readiness().find_faults(&app).await.into_iter().map(|(part, error)| {
        if error.is_none() {
            return (part, PartState::Ok);
        }
        status = StatusCode::SERVICE_UNAVAILABLE;
        (part, PartState::Away)
    });
    let readiness = Readiness(readiness.collect());
    let mut response = (status, axum::Json(readiness)).into_response();
    if status != StatusCode::OK {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Counters for Prometheus.
///
/// They are for keys with the scope `usage`, unless the setting `ADIT_METRICS` opens them to
/// clients on the same machine or to everybody.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "service", security(("key" = [])),
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String), (status = 403), (status = 503)))]
pub async fn metrics(
    State(app): State<App>,
    peer: Option<Extension<PeerAddress>>,
    headers: HeaderMap,
) -> ApiResult<([(header::HeaderName, &'static str); 1], String)> {
    // A proxy on this machine asks for others.
    let is_forwarded = headers.contains_key(header::FORWARDED) || headers.contains_key("x-forwarded-for");
    let is_here = peer.is_some_and(|Extension(PeerAddress(address))| address.is_loopback()) && !is_forwarded;
    match app.settings.http.metrics {
        MetricsAccess::Open => {}
        MetricsAccess::Loopback if is_here => {}
        MetricsAccess::Operator | MetricsAccess::Loopback => {
            permissions::demand_outside_api(&app, &headers, "getMetrics").await?;
        }
    }
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], app.metrics.render()))
}

/// How long others may keep the keys. A new key is published before it signs, so what is kept longer does no harm.
const KEYS_AGE: &str = "public, max-age=300";

/// The public keys of this service's packagers.
///
/// A package's receipt (`receipt.jws`) is a JSON Web Signature (RFC 7515) over its `manifest.json`; it names its key by `kid`. Keys stay here
/// after they were replaced, so that older receipts can be checked. Who keeps a copy can check packages offline.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "getPublicKeys", tag = "service",
    responses((status = 200, description = "A JWK set (RFC 7517) of Ed25519 keys (RFC 8037); the one that signs now comes first",
        content_type = "application/jwk-set+json", body = JwkSet, headers(("cache-control" = String, description = "They may be kept for some minutes")))))]
pub async fn public_keys(State(app): State<App>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, KEYS_AGE)];
    (headers, axum::Json(app.settings.public_keys.jwk_set())).into_response()
}

/// Nothing is at this path.
pub async fn nothing_here(uri: axum::http::Uri) -> Problem {
    Problem::new(Kind::NoSuchPath, format!("nothing is at {}; /docs shows what there is", uri.path()))
}

/// The path is there, the method is not.
pub async fn not_this_way(method: axum::http::Method) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is not possible here; the Allow header tells what is"))
}

#[cfg(test)]
mod tests;
