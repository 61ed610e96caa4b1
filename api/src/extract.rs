//! Extractors whose rejections are problem details: JSON bodies, query strings and path parameters.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse_json(&rejection)),
        }
    }
}

fn refuse_json(rejection: &JsonRejection) -> Problem {
    let text = rejection.body_text();
    match (rejection, rejection.status()) {
        (JsonRejection::MissingJsonContentType(_), _) => {
            Problem::new(Kind::UnsupportedMediaType, "send the body as JSON, with Content-Type: application/json")
        }
        (_, StatusCode::PAYLOAD_TOO_LARGE) => {
            Problem::new(Kind::TooLarge, format!("a body may have {} bytes at most", crate::layers::BODY_LIMIT))
        }
        _ => Problem::new(Kind::MalformedJson, text),
    }
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
