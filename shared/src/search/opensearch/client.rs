//! One request to the engine and its answer. What is asked for is in the other modules.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::address::Address;
use crate::search::SearchError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole request. What takes longer by its nature is asked for without waiting, and then asked after.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Speaks with an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Nothing,
    Json(Value),
    /// Lines of JSON, as `_bulk` takes them.
    Lines(bytes::Bytes),
}

/// Why a request was not carried out.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The engine is away or has too much to do; trying again may help.
    Away(String),
    /// It will not do this.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its name for the reason, such as `index_not_found_exception`.
        kind: String,
        /// The reason in words.
        reason: String,
    },
}

/// A result of a request.
pub(super) type Asked<T> = Result<T, Fault>;

impl Client {
    pub(super) fn new(address: &Address) -> Result<Self, String> {
        // A second provider could only mean that there is one already.
        _ = rustls::crypto::ring::default_provider().install_default();
        let headers = HeaderMap::from_iter(address.authorization().map(|value| (AUTHORIZATION, value)));
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // Credentials are for this engine alone.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, base: address.base.clone() })
    }

    /// Asks, and reads the answer as JSON.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Body) -> Asked<Value> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = match body {
            Body::Nothing => request,
            Body::Json(body) => request.json(&body),
            Body::Lines(lines) => request.header(CONTENT_TYPE, "application/x-ndjson").body(lines),
        };
        let response = request.send().await.map_err(|error| Fault::Away(in_full(error)))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| Fault::Away(in_full(error)))?;
        if status.is_success() {
            let read = serde_json::from_slice(&bytes);
            return read.map_err(|error| Fault::refused(status, "not_json", format!("the answer is no JSON: {error}")));
        }
        Err(fault(status, &bytes))
    }

    pub(super) async fn get(&self, path: &str) -> Asked<Value> {
        self.ask(Method::GET, path, Body::Nothing).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Asked<Value> {
        self.ask(Method::POST, path, Body::Json(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Asked<Value> {
        self.ask(Method::PUT, path, Body::Json(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Asked<Value> {
        self.ask(Method::DELETE, path, Body::Nothing).await
    }
}

impl Fault {
    fn refused(status: StatusCode, kind: &str, reason: String) -> Self {
        Self::Refused { status: status.as_u16(), kind: kind.to_owned(), reason }
    }

    /// Whether there is no such index.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, kind, .. } if kind == "index_not_found_exception")
    }

    /// Whether there is such an index already.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "resource_already_exists_exception")
    }

    /// Whether the query has more parts than the engine is set to take.
    fn is_too_many(&self) -> bool {
        matches!(self, Self::Refused { kind, reason, .. } if kind.contains("too_many") || reason.contains("maxClauseCount"))
    }
}

/// What the engine says of a request that it did not carry out: `{"error": {"type", "reason", "root_cause": […]}, "status"}`, where the root causes
/// tell more than the whole.
fn fault(status: StatusCode, body: &[u8]) -> Fault {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let cause = [&said["error"]["root_cause"][0], &said["error"]["caused_by"], &said["error"]];
    let cause = cause.into_iter().find(|cause| cause["type"].is_string());
    let text = |member| cause.and_then(|cause| cause[member].as_str()).unwrap_or_default();
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Fault::Away(format!("{status} {}", text("reason"))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if cause.is_none() || text("type") == "security_exception" => {
            Fault::refused(
                status,
                "security_exception",
                format!("{status}: see the user and password in ADIT_SEARCH_URL"),
            )
        }
        _ => Fault::refused(status, text("type"), format!("{status} {}", text("reason"))),
    }
}

/// An error with its causes, and without the URL, which says nothing that the operator does not know.
fn in_full(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    reason
}

impl From<Fault> for SearchError {
    fn from(fault: Fault) -> Self {
        if fault.is_too_many() {
            return Self::Unsupported(
                "the query has more words than the search engine is set to take; write fewer, or ask the operator to raise \
                 indices.query.bool.max_clause_count"
                    .to_owned(),
            );
        }
        match fault {
            Fault::Away(reason) => Self::Away(reason),
            Fault::Refused { kind, reason, .. } => Self::Index(format!("{reason} ({kind})")),
        }
    }
}
