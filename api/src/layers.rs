//! What surrounds every handler: request ids, tracing, quotas, a limit of time, compression, CORS, and no panic that cuts a connection.
//! The limit of a body's length is with the only extractor that reads one: see [`crate::extract::Json`].

use std::any::Any;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::{Level, Span};

use crate::long_answers;
use crate::metrics::RequestLabels;
use crate::problem::{Kind, Problem};
use crate::quota;
use crate::state::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps the router; the first layer here is the innermost.
pub fn wrap(router: Router, app: &App) -> Router {
    router
        .layer(middleware::from_fn_with_state(app.clone(), long_answers::layer))
        .layer(middleware::from_fn_with_state(app.clone(), quota::layer))
        .layer(CompressionLayer::new().compress_when(worth_compressing))
        .layer(middleware::from_fn_with_state(app.clone(), within_time))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| panicked(&*panic)))
        .layer(middleware::from_fn_with_state(app.clone(), measure))
        .layer(cors())
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_response(DefaultOnResponse::new().level(Level::INFO)))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
}

fn span(request: &Request) -> Span {
    let id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
}

/// Browsers anywhere may call the API: it is authorised by a key that scripts send themselves, never by cookies.
fn cors() -> CorsLayer {
    let exposed = ["location", "link", "retry-after", "etag", "x-request-id"];
    let download = ["accept-ranges", "content-disposition", "content-range", "repr-digest"];
    let answers = ["x-total-hits", "x-corpus-version"];
    let limits = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods(AnyOrigin)
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::RANGE,
            header::IF_RANGE,
            header::IF_NONE_MATCH,
            HeaderName::from_static(crate::auth::KEY_HEADER),
        ])
        .expose_headers(
            exposed
                .into_iter()
                .chain(download)
                .chain(answers)
                .chain(limits)
                .map(HeaderName::from_static)
                .collect::<Vec<_>>(),
        )
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
    // Any word can be a method: only those of the API get a series of their own.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = known.iter().find(|m| *m == request.method()).map_or("other", Method::as_str).to_owned();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
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
