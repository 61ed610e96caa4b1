//! Extractors whose rejections are problem details: JSON bodies, query strings and path parameters.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use futures::StreamExt as _;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};

use crate::body_budget::BodyAccount;
use crate::listener::BodyStalled;
use crate::problem::{ApiResult, Kind, Problem};

/// Most bytes of a JSON body, where an operation says nothing else.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// Most bytes of the JSON body of a docset, which may list refs.
pub const DOCSET_BODY_LIMIT: usize = 8 * 1024 * 1024;
/// Bytes of a body that is too large which are still read (and dropped): a client that is cut off while it sends sees a
/// broken connection, not the answer.
const DRAINED: usize = 64 * 1024 * 1024;
/// Time for that.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A JSON body of at most `LIMIT` bytes: an object.
#[derive(Debug)]
pub struct Json<T, const LIMIT: usize = BODY_LIMIT>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send the body as JSON, with Content-Type: application/json";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        let account = request.extensions().get::<BodyAccount>().cloned();
        let body = read_body(request.into_body(), LIMIT, account.as_ref()).await?;
        // Every body is an object; serde would take a list of a struct's members too.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::new(Kind::MalformedJson, "send one JSON object"));
        }
        let value = axum::Json::<T>::from_bytes(&body);
        value.map(|json| Self(json.0)).map_err(|rejection| Problem::new(Kind::MalformedJson, rejection.body_text()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = media_type(headers);
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The media type that the body is declared to have: in lower case, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> String {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    declared.unwrap_or_default().trim().to_ascii_lowercase()
}

async fn read_body(body: Body, limit: usize, account: Option<&BodyAccount>) -> ApiResult<Vec<u8>> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(incomplete)?;
        let length = bytes.len() + chunk.len();
        if length > limit {
            drain(stream, length).await;
            return Err(Problem::new(Kind::TooLarge, format!("a body may have {limit} bytes at most")));
        }
        if length > bytes.capacity() {
            let capacity = (2 * length).min(limit);
            account.map_or(Ok(()), |account| account.hold(capacity))?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The problem of a body that does not arrive whole.
pub fn incomplete(error: axum::Error) -> Problem {
    if error.into_inner().is::<BodyStalled>() {
        // The rest of it would be taken for another request.
        return Problem::new(Kind::BodyStalled, "send the body faster, or in several requests")
            .header(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Problem::new(Kind::InvalidRequest, "the body did not arrive whole")
}

/// Reads the rest of a body that is too large, for some seconds.
pub async fn drain(mut stream: BodyDataStream, mut seen: usize) {
    let read = async {
        while let Some(Ok(chunk)) = stream.next().await {
            seen += chunk.len();
            if seen > DRAINED {
                return;
            }
        }
    };
    // A client that takes longer sees its connection closed.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

/// Reads an enum's value from its name alone; serde would take `{"name": null}` too.
pub fn word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

/// The greatest of the whole numbers that JSON carries exactly everywhere (RFC 8259, section 6): 2^53 - 1.
pub const MAX_WHOLE: u64 = (1 << 53) - 1;

/// Reads a whole number, or nothing.
pub fn whole_number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    let number = number.map(|number| whole_up_to(number, u64::from(u32::MAX))).transpose().map_err(D::Error::custom)?;
    Ok(number.map(|number| number as u32))
}

/// Reads a whole number; `20.0` is one too (JSON Schema 2020-12, 4.2.3), and some languages write no other.
pub fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = whole_up_to(f64::deserialize(deserializer)?, u64::from(u32::MAX));
    number.map(|number| number as u32).map_err(D::Error::custom)
}

/// The same up to [`MAX_WHOLE`].
pub fn whole_wide<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    whole_up_to(f64::deserialize(deserializer)?, MAX_WHOLE).map_err(D::Error::custom)
}

/// The same, or nothing.
pub fn whole_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    number.map(|number| whole_up_to(number, MAX_WHOLE)).transpose().map_err(D::Error::custom)
}

/// The same, and not null either.
pub fn whole_not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole_wide(deserializer).map(Some)
}

/// The same in a query string, which is digits.
pub fn digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number > MAX_WHOLE {
        return Err(D::Error::custom(format!("{number} is more than {MAX_WHOLE}")));
    }
    Ok(Some(number))
}

fn whole_up_to(number: f64, max: u64) -> Result<u64, String> {
    if number.fract() != 0.0 || !(0.0..=max as f64).contains(&number) {
        return Err(format!("{number} is no whole number from 0 to {max}"));
    }
    Ok(number as u64)
}

/// The query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|query| Self(query.0))
            .map_err(|rejection| Problem::new(Kind::InvalidRequest, rejection.body_text()))
    }
}

/// Path parameters. What cannot be read as an id names nothing that exists, so it is a 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|_| Problem::new(Kind::NotFound, format!("nothing is at {}", parts.uri.path())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Up,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wish {
        #[serde(deserialize_with = "whole")]
        limit: u32,
        #[serde(deserialize_with = "word")]
        order: Order,
    }

    async fn wish(body: &'static str) -> Option<Wish> {
        let request =
            Request::post("/").header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap();
        Json::<Wish>::from_request(request, &()).await.ok().map(|Json(wish)| wish)
    }

    #[tokio::test]
    async fn a_body_is_an_object_as_the_contract_says() {
        for good in [
            r#"{"limit": 7, "order": "up"}"#,
            " {\"limit\": 7.0, \"order\": \"up\"}",
            r#"{"limit": 0.7e1, "order": "up"}"#,
        ] {
            assert_eq!(wish(good).await, Some(Wish { limit: 7, order: Order::Up }), "{good}");
        }
        for bad in [
            r#"[7, "up"]"#,
            r#"{"limit": 7, "order": {"up": null}}"#,
            r#"{"limit": 7.5, "order": "up"}"#,
            r#"{"limit": -1, "order": "up"}"#,
            r#"{"limit": 4294967296, "order": "up"}"#,
            r#"{"limit": "7", "order": "up"}"#,
            "",
        ] {
            assert_eq!(wish(bad).await, None, "{bad}");
        }
    }
}
