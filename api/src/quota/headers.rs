//! What the outside sees of quotas: every request that shows a key is counted here, once, and its answer tells what is left.
//!
//! `x-ratelimit-*` tell of documents, as the API has always done; `RateLimit-Policy` and `RateLimit` of both allowances, in the form of
//! draft-ietf-httpapi-ratelimit-headers-11.

use adit_shared::clock::Clock;
use adit_shared::domain::{Allowance, ApiKey};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Quotas;
use crate::auth::{self, Caller};
use crate::client::ClientId;
use crate::state::App;

/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Seconds until an allowance is new, rounded up.
pub(super) fn seconds_left(allowance: Allowance, now: i64) -> i64 {
    (allowance.window_end(now) - now + 999) / 1000
}

/// Finds out who asks, and counts the request. Who shows no key goes on as nobody; a key that is
/// not valid is refused, whatever is asked.
pub async fn layer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    // The service's own pages know no keys.
    if !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    let key = match auth::authenticate(&app, request.headers()).await {
        Ok(Some(key)) => key,
        nobody => {
            // Also who shows a key that is not valid: to look for it is work.
            let client = ClientId::of_request(request.extensions());
            let allowed = app.anonymous().take_request(client, app.clock.now_ms());
            return match allowed.and(nobody) {
                Ok(_) => next.run(request).await,
                Err(problem) => problem.into_response(),
            };
        }
    };
    tracing::Span::current().record("key", key.id.0);
    let mut response = match app.quotas().take(&key, Allowance::Requests).await {
        Ok(()) => {
            request.extensions_mut().insert(ClientId::Key(key.id));
            request.extensions_mut().insert(Caller(key.clone()));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().extend(headers(app.quotas(), &key, &*app.clock));
    response
}

/// What answers to a key tell of its quotas; nothing where they are unlimited.
fn headers(quotas: &Quotas, key: &ApiKey, clock: &dyn Clock) -> HeaderMap {
    let now = clock.now_ms();
    let mut headers = HeaderMap::new();
    let (mut policies, mut standings) = (Vec::new(), Vec::new());
    for allowance in Allowance::ALL {
        let (Some(limit), Some(left)) = (key.limits.of(allowance), quotas.left(key, allowance)) else { continue };
        if allowance == Allowance::Documents {
            let reset = allowance.window_end(now) / 1000;
            headers.insert(HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(limit));
            headers.insert(HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(left));
            headers.insert(HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(reset));
        }
        let (name, window, unit) = (allowance.as_str(), allowance.seconds(), unit(allowance));
        policies.push(format!("\"{name}\";q={};w={window}{unit}", limit.min(MAX_INTEGER)));
        standings.push(format!("\"{name}\";r={};t={}", left.min(MAX_INTEGER), seconds_left(allowance, now)));
    }
    for (name, list) in [("ratelimit-policy", policies), ("ratelimit", standings)] {
        // Names and numbers are valid in a header.
        if let (false, Ok(value)) = (list.is_empty(), HeaderValue::try_from(list.join(", "))) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The draft's registry has no word for documents yet, but without one they would be taken for requests.
fn unit(allowance: Allowance) -> &'static str {
    match allowance {
        Allowance::Documents => ";qu=\"documents\"",
        Allowance::Requests => "",
    }
}
