//! What surrounds every handler: request ids, tracing, quotas, rights, a limit of time,
//! compression, what browsers may do, and no panic that cuts a connection. The limit of a body's
//! length is with the only extractor that reads one: see [`crate::extract::Json`].

mod browser;
mod places;

use std::any::Any;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::field::Empty;
use tracing::{Level, Span};

use crate::long_answers;
use crate::metrics::RequestLabels;
use crate::permissions;
use crate::problem::{Kind, Problem};
use crate::quota;
use crate::state::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id of a client's that is taken over.
const MAX_REQUEST_ID: usize = 64;

/// Wraps the router; the first layer here is the innermost.
pub fn wrap(router: Router, app: &App) -> Router {
    router
        .layer(middleware::from_fn_with_state(app.clone(), long_answers::layer))
        .layer(middleware::from_fn(permissions::enforce))
        .layer(middleware::from_fn_with_state(app.clone(), places::account_body))
        .layer(middleware::from_fn(places::keep_reserve))
        .layer(middleware::from_fn_with_state(app.clone(), quota::layer))
        .layer(CompressionLayer::new().compress_when(worth_compressing))
        .layer(middleware::from_fn_with_state(app.clone(), within_time))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| panicked(&*panic)))
        .layer(middleware::from_fn_with_state(app.clone(), measure))
        .layer(browser::cors_layer(&app.settings.http.cors_origins))
        .layer(middleware::from_fn_with_state(app.clone(), browser::check_host))
        .layer(middleware::from_fn(browser::restrain_browsers))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_response(DefaultOnResponse::new().level(Level::INFO)))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::map_request(drop_unfit_request_id))
}

/// Opens the span that all lines of a request stand in. It names the route, not the path, which may
/// be a link that carries a right, and the key by its id, which the quota layer records.
fn span(request: &Request) -> Span {
    let id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", method = known_method(request.method()), route = route(request), key = Empty, id)
}

/// The pattern of the route, such as `/api/documents/{id}`.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str)
}

/// Any word can be a method: only those of the API are named.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Leaves a client's own request id only where it is short and plain: it goes into the log and into
/// the answer.
async fn drop_unfit_request_id(mut request: Request) -> Request {
    let mut ids = request.headers().get_all(&REQUEST_ID).iter();
    let fits = match (ids.next(), ids.next()) {
        (Some(id), None) => is_plain(id.as_bytes()),
        (first, _) => first.is_none(),
    };
    if !fits {
        request.headers_mut().remove(&REQUEST_ID);
    }
    request
}

fn is_plain(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// Only our own text answers: documents come compressed from the packs, archives do not shrink, and an answer with an
/// entity tag must keep the bytes that the tag names.
fn worth_compressing(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = [
        "application/json",
        "application/x-ndjson",
        "application/yaml",
        "text/csv",
        "text/html",
        "text/css",
        "text/javascript",
    ];
    !headers.contains_key(header::ETAG) && text.iter().any(|t| media_type.starts_with(t))
}

async fn within_time(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = app.settings.request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Kind::Timeout,
            format!("no answer within {} seconds; ask for less, or try again", limit.as_secs()),
        )
        .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        .into_response(),
    }
}

async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, route) = (known_method(request.method()).to_owned(), route(&request).to_owned());
    let mut response = next.run(request).await;
    // A key in a header of our own means nothing to caches, so they are told that answers are private.
    let private = HeaderValue::from_static("private, no-cache");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(private);
    app.metrics.answered(&RequestLabels { method, route, status: response.status().as_u16() }, began.elapsed());
    response
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("?"), "a handler panicked");
    Problem::new(Kind::Internal, "the operator finds the cause in the log under this answer's x-request-id")
        .into_response()
}

#[cfg(test)]
mod tests;
