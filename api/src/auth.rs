//! Who is asking: keys in `X-Api-Key` or `Authorization: Bearer`, and whose things they see. What
//! they may do is said in [`crate::permissions`].

use std::convert::Infallible;

use adit_shared::clock::rfc3339;
use adit_shared::domain::{Allowance, ApiKey, KeyState, Role, secret_hash};
use adit_shared::ids::KeyId;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
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
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    headers
        .get(KEY_HEADER)
        .and_then(|value| value.to_str().ok())
        .or_else(bearer)
        .map(str::trim)
        .filter(|key| !key.is_empty())
}

/// Finds the key that a request shows; `None` without one.
///
/// # Errors
/// [`Kind::Unauthorized`] for a key that is unknown or revoked, [`Kind::KeyExpired`]; when it ended
/// is told to whoever shows its secret.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> ApiResult<Option<ApiKey>> {
    let Some(secret) = presented(headers) else { return Ok(None) };
    let (hash, now) = (secret_hash(secret), app.clock.now_ms());
    let day = Allowance::Documents.window(now);
    let found = app.store.caller(&hash, day).await?;
    // The look-up compared hashes in the database's own time, which tells nothing of the secret; the last word has a
    // comparison in constant time.
    let Some((key, taken)) = found.filter(|(key, _)| bool::from(key.hash.0.ct_eq(&hash.0))) else {
        return Err(invalid_key(Kind::Unauthorized, "this key is unknown; ask the operator for another".to_owned()));
    };
    match key.state(now) {
        KeyState::Valid => {}
        KeyState::Revoked(at) => {
            let detail = format!("this key was revoked at {}; ask the operator for another", rfc3339(at));
            return Err(invalid_key(Kind::Unauthorized, detail));
        }
        KeyState::Expired(at) => {
            let (id, at) = (key.id, rfc3339(at));
            let detail =
                format!("this key expired at {at}; an operator can renew it: `adit keys set {id} --expires 90d`");
            return Err(invalid_key(Kind::KeyExpired, detail).with("expired", at));
        }
    }
    app.quotas().learn(&key, day, taken);
    app.usage().note_key_use(&key);
    Ok(Some(key))
}

/// Refuses a key that is shown (RFC 6750, section 3.1).
fn invalid_key(kind: Kind, detail: String) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"adit\", error=\"invalid_token\"");
    Problem::new(kind, detail).header(header::WWW_AUTHENTICATE, challenge)
}

/// Demands a key where none is shown.
pub(crate) fn missing_key() -> Problem {
    let detail = "send a key in X-Api-Key or Authorization: Bearer; `adit keys create` makes one";
    Problem::new(Kind::Unauthorized, detail)
}

/// The key has been looked up, and the request counted, by [`crate::quota::layer`]; here it is only
/// demanded. What is wrong with a key that is shown has been said there.
impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(missing_key)
    }
}

/// Where anybody may ask, but a key changes the answer.
impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

#[cfg(test)]
mod tests;
