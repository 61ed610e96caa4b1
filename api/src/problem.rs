//! Errors as the client sees them: RFC 9457 problem details. This is the only place where an error becomes HTTP;
//! what must not be seen outside is logged here and replaced by a general text.

use adit_shared::domain::{Document, FileRecord, Holding, InvalidFormat, InvalidLayout, InvalidRecipe};
use adit_shared::integrity::FileDamage;
use adit_shared::messaging::BrokerError;
use adit_shared::objects::ObjectError;
use adit_shared::search::SearchError;
use adit_shared::store::StoreError;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::fair_pool::PoolFull;

/// Media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident $slug:literal $title:literal;)*) => {
        /// The kinds of problems: each has a stable `type` (`urn:adit:problem:<slug>`), a status and a title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name),*];

            /// HTTP status, slug and title.
            #[must_use]
            pub fn parts(self) -> (StatusCode, &'static str, &'static str) {
                match self { $(Self::$name => (StatusCode::$status, $slug, $title),)* }
            }
        }
    };
}

kinds! {
    /// A parameter or member of the body is missing, unknown or out of range.
    InvalidRequest = BAD_REQUEST "invalid-request" "The request is not valid";
    /// The body is not JSON, or not of the wanted shape.
    MalformedJson = BAD_REQUEST "malformed-json" "The body is not the JSON that is wanted here";
    /// The search query cannot be read.
    InvalidQuery = BAD_REQUEST "invalid-query" "The query cannot be read";
    /// The search query or a facet names a field that does not exist.
    UnknownField = BAD_REQUEST "unknown-field" "There is no such field";
    /// A format that no document of the docset has.
    UnknownFormat = BAD_REQUEST "unknown-format" "There is no such format";
    /// A URL that cannot be a webhook.
    InvalidWebhook = BAD_REQUEST "invalid-webhook" "This cannot be a webhook";
    /// Options that do not go together, or not with the layout.
    InvalidRecipe = BAD_REQUEST "invalid-recipe" "There is no such package";
    /// A cursor that was not made by this server, or for another question.
    InvalidCursor = BAD_REQUEST "invalid-cursor" "The cursor is not valid here";
    /// No key, or one that is unknown or revoked.
    Unauthorized = UNAUTHORIZED "unauthorized" "A valid API key is needed";
    /// A key that was valid until a while ago.
    KeyExpired = UNAUTHORIZED "key-expired" "The API key has expired";
    /// The key does not have the scope.
    Forbidden = FORBIDDEN "forbidden" "This key may not do that";
    /// The key is not entitled to the document's files, or nobody is.
    RightsMissing = FORBIDDEN "rights-missing" "The key may not have this document's files";
    /// The document was withdrawn.
    Withdrawn = GONE "withdrawn" "The document was withdrawn";
    /// The files of an old version of a document were freed.
    VersionFreed = GONE "version-freed" "The files of this old version were freed";
    /// A link that carries its own right is wrong, or too old.
    InvalidLink = FORBIDDEN "invalid-link" "The link is wrong or has expired";
    /// Not there, or somebody else's.
    NotFound = NOT_FOUND "not-found" "There is no such thing";
    /// No path of this service. Told from a thing that is not there, so that a client with a wrong base URL takes nothing for gone.
    NoSuchPath = NOT_FOUND "no-such-path" "There is nothing at this path";
    /// The path exists, but not with this method.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed" "This method is not possible here";
    /// None of the accepted media types can be given.
    NotAcceptable = NOT_ACCEPTABLE "not-acceptable" "None of the accepted media types can be given";
    /// The archive is not built yet.
    NotReady = CONFLICT "package-not-ready" "The package is not ready";
    /// The package could not be built.
    PackageFailed = CONFLICT "package-failed" "The package could not be built";
    /// A docset that another is made of was deleted.
    OriginGone = CONFLICT "origin-gone" "What the docset was made of is gone";
    /// The key has as many watches as it may.
    TooManyWatches = CONFLICT "too-many-watches" "There are too many watches";
    /// The key has as many docsets, or as much of packages, as it may.
    LimitReached = CONFLICT "limit-reached" "The key has as much as it may";
    /// The archive was erased.
    Erased = GONE "package-erased" "The archive was erased";
    /// What the cursor points into is gone.
    CursorGone = GONE "cursor-gone" "The cursor has expired";
    /// The service is not asked by this name.
    MisdirectedRequest = MISDIRECTED_REQUEST "misdirected-request" "This is not the host that was asked for";
    /// The body does not arrive.
    BodyStalled = REQUEST_TIMEOUT "body-stalled" "The body arrives too slowly";
    /// The body is too large.
    TooLarge = PAYLOAD_TOO_LARGE "body-too-large" "The body is too large";
    /// The body's media type is not taken.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "This media type is not taken here";
    /// A range outside of the content.
    RangeNotSatisfiable = RANGE_NOT_SATISFIABLE "range-not-satisfiable" "The range lies outside of the content";
    /// A docset would have no members.
    EmptyDocset = UNPROCESSABLE_ENTITY "empty-docset" "The docset would be empty";
    /// Refs that the collection does not have.
    UnknownRefs = UNPROCESSABLE_ENTITY "unknown-refs" "Some refs are not in the collection";
    /// The day's quota is spent.
    QuotaSpent = TOO_MANY_REQUESTS "quota-spent" "The quota is spent";
    /// A client asks for more at once, or in a minute, than is its share.
    TooManyRequests = TOO_MANY_REQUESTS "too-many-requests" "This client asks for too much at once";
    /// What is stored of a file is not what was imported.
    DamagedFile = INTERNAL_SERVER_ERROR "damaged-file" "The stored file is damaged";
    /// Our fault.
    Internal = INTERNAL_SERVER_ERROR "internal" "Something went wrong on our side";
    /// A part of the service is away.
    Unavailable = SERVICE_UNAVAILABLE "unavailable" "A part of the service is away";
    /// The client finds no connection; operators do.
    TooManyConnections = SERVICE_UNAVAILABLE "too-many-connections" "Too many connections are open";
    /// It took too long.
    Timeout = SERVICE_UNAVAILABLE "timeout" "The request took too long";
}

/// A problem, on its way to the client.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A handler's result.
pub type ApiResult<T> = Result<T, Problem>;

impl Problem {
    /// A problem of a kind, with what happened here and how to go on.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), extensions: Map::new(), headers: Vec::new() }
    }

    /// "There is no such {what}": also for what belongs to others.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// A part of the service is away; try again in some seconds.
    #[must_use]
    pub fn unavailable(part: &str) -> Self {
        Self::new(Kind::Unavailable, format!("the {part} is away; nothing is lost, try again later"))
            .with("part", part)
            .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// Tells why there is no place in a pool that clients share.
    #[must_use]
    pub fn no_place(full: PoolFull, pool: &str) -> Self {
        match full {
            PoolFull::OfClient => {
                let detail = format!("you have your share of the {pool} already; end some of them, or wait");
                Self::new(Kind::TooManyRequests, detail).with("part", pool)
            }
            PoolFull::OfAll => {
                Self::new(Kind::Unavailable, format!("too many {pool} are open; try again later")).with("part", pool)
            }
        }
        .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// Tells that a key has as much as it may, and what it can do.
    fn limit_reached(holding: Holding, limit: u64) -> Self {
        let remedy = match holding {
            Holding::Docsets => "delete some",
            Holding::Packages | Holding::StoredBytes => "delete some, or wait until they expire",
            Holding::Unfinished => "wait until they are finished, or delete some",
        };
        let detail = format!("this key may have {limit} {holding}; {remedy}, or ask the operator for more");
        Self::new(Kind::LimitReached, detail).with("limit", limit).with("of", holding.as_str())
    }

    /// The kind of problem.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds an extension member (RFC 9457, section 3.2).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Tells that a document's file is damaged in the store.
    #[must_use]
    pub fn damaged_file(document: &Document, file: &FileRecord, damage: FileDamage) -> Self {
        let Document { id, r#ref, .. } = document;
        tracing::error!(document = %id, format = %file.format, object = file.place.object, %damage, "a stored file is damaged");
        let detail =
            format!("the {} of document {id} ({ref}) is damaged in the store; the operator can repair it", file.format);
        Self::new(Kind::DamagedFile, detail).with("document", id.0).with("format", file.format.as_str())
    }

    fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(Kind::Internal, "the operator finds the cause in the log under this answer's x-request-id")
    }

    fn away(part: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, part, "a part is away");
        Self::unavailable(part)
    }
}

/// A problem; some kinds have members of their own besides (see docs/API.md).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Stable URN of the kind of problem.
    #[schema(examples("urn:adit:problem:unknown-format"))]
    #[schema(pattern = "^urn:adit:problem:[a-z-]+$")]
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened here, and how to go on.
    pub detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.parts();
        let mut body = Map::new();
        body.insert("type".into(), json!(format!("urn:adit:problem:{slug}")));
        body.insert("title".into(), json!(title));
        body.insert("status".into(), json!(status.as_u16()));
        body.insert("detail".into(), json!(self.detail));
        body.extend(self.extensions);
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.extend(self.headers);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"adit\"");
            headers.entry(header::WWW_AUTHENTICATE).or_insert(challenge);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::LimitReached { holding, limit } => Self::limit_reached(holding, limit),
            StoreError::Unavailable(_) | StoreError::Refused(_) => Self::away("database", &error),
            _ => Self::internal(&error),
        }
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unavailable(_) => Self::away("object store", &error),
            _ => Self::internal(&error),
        }
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        Self::away("message broker", &error)
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        let text = error.to_string();
        match error {
            SearchError::Syntax { position, .. } => Self::new(Kind::InvalidQuery, text).with("position", position),
            SearchError::UnknownField { field, known } => {
                Self::new(Kind::UnknownField, text).with("field", field).with("fields", known)
            }
            SearchError::Unsupported(_) => Self::new(Kind::InvalidQuery, text),
            SearchError::VersionGone(_) => Self::new(
                Kind::CursorGone,
                "the corpus has moved on since this cursor was made; start the search again without it",
            ),
            SearchError::Objects(inner) => inner.into(),
            SearchError::Away(_) | SearchError::Cache(_) => Self::away("search index", &text),
            SearchError::TimedOut => {
                Self::new(Kind::Timeout, text).header(header::RETRY_AFTER, HeaderValue::from_static("5"))
            }
            SearchError::Index(_) | SearchError::Damaged { .. } => Self::internal(&text),
            SearchError::Outdated(_) => {
                tracing::error!("{text}");
                Self::new(Kind::Unavailable, text).with("part", "search index")
            }
        }
    }
}

impl From<InvalidFormat> for Problem {
    fn from(error: InvalidFormat) -> Self {
        Self::new(Kind::UnknownFormat, error.to_string())
    }
}

impl From<InvalidRecipe> for Problem {
    fn from(error: InvalidRecipe) -> Self {
        Self::new(Kind::InvalidRecipe, error.to_string())
    }
}

impl From<InvalidLayout> for Problem {
    fn from(error: InvalidLayout) -> Self {
        Self::new(Kind::InvalidRequest, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_is_shown_as_rfc_9457_wants() {
        let problem = Problem::new(Kind::UnknownFormat, "there are: txt").with("formats", vec!["txt"]);
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({"type": "urn:adit:problem:unknown-format", "title": "There is no such format", "status": 400,
                   "detail": "there are: txt", "formats": ["txt"]})
        );
    }

    #[test]
    fn internals_do_not_reach_the_client() {
        let problem = Problem::from(StoreError::Corrupt("row 7 of secret_table".into()));
        assert!(!problem.detail.contains("secret_table"));
        assert_eq!(Problem::from(StoreError::Unavailable("password".into())).extensions["part"], "database");
    }

    #[test]
    fn types_are_unique() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.parts().1).collect();
        let count = slugs.len();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), count);
    }
}
