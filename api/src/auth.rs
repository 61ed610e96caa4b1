//! Who is asking: keys in `X-Api-Key` or `Authorization: Bearer`, roles, and what they may see.

use std::convert::Infallible;

use adit_shared::domain::{Allowance, ApiKey, Role, secret_hash};
use adit_shared::ids::KeyId;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::client::ClientId;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// The header that carries a key.
pub const KEY_HEADER: &str = "x-api-key";

/// The holder of a valid key.
#[derive(Debug, Clone)]
pub struct Caller(pub ApiKey);

impl Caller {
    /// Names the caller as the unit of fairness.
    #[must_use]
    pub fn client(&self) -> ClientId {
        ClientId::Key(self.0.id)
    }

    /// Whose things the caller may see: its own; `None`, everybody's, for an operator.
    #[must_use]
    pub fn sees(&self) -> Option<KeyId> {
        (self.0.role != Role::Operator).then_some(self.0.id)
    }

    /// Like [`Caller::sees`], but a packager sees how every package stands, too: not what is in it.
    #[must_use]
    pub fn sees_package(&self) -> Option<KeyId> {
        (self.0.role == Role::Miner).then_some(self.0.id)
    }

    /// Passes packagers and operators.
    pub fn must_be_packager(&self) -> ApiResult<()> {
        match self.0.role {
            Role::Packager | Role::Operator => Ok(()),
            Role::Miner => Err(Problem::new(Kind::Forbidden, "this needs a key of role packager or operator")),
        }
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    headers.get(KEY_HEADER).and_then(|value| value.to_str().ok()).or_else(bearer).map(str::trim)
}

/// The key that a request shows; `None` without one, or with one that is unknown or revoked.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> ApiResult<Option<ApiKey>> {
    let Some(secret) = presented(headers) else { return Ok(None) };
    let hash = secret_hash(secret);
    let day = Allowance::Documents.window(app.clock.now_ms());
    let Some((key, taken)) = app.store.caller(&hash, day).await? else { return Ok(None) };
    // The look-up compared hashes in the database's own time, which tells nothing of the secret; the last word has a
    // comparison in constant time.
    if !bool::from(key.hash.0.ct_eq(&hash.0)) {
        return Ok(None);
    }
    app.quotas().learn(&key, day, taken);
    Ok(Some(key))
}

/// The key has been looked up, and the request counted, by [`crate::quota::layer`]; here it is only demanded.
impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            let detail = match presented(&parts.headers) {
                None => "send a key in X-Api-Key or Authorization: Bearer; `adit keys create` makes one",
                Some(_) => "this key is unknown or revoked; ask the operator for another",
            };
            Problem::new(Kind::Unauthorized, detail)
        })
    }
}

/// Where anybody may ask, but a key changes the answer.
impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
