//! What a packager asks of the server that wants a package, over HTTP: the docset's manifest, whether the package is still wanted,
//! and whether its key is one for packagers.

use std::time::Duration;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Content, Layout, Role, Status};
use adit_shared::ids::{DocsetId, PackageId, Salt, SaltedPackage};
use adit_shared::messaging::PackageRequest;
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::error::Fate;
use crate::manifest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a short answer.
const SHORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The kind of problem by which the server says that a path is none of its own: the base URL is wrong, and nothing that is asked for
/// under it is gone.
const NO_SUCH_PATH: &str = "no-such-path";

/// Why the server's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(reqwest::Error),
    /// The key is no header value.
    #[error("the API key has characters that an HTTP header cannot have")]
    Key,
    /// The key is a miner's: to it the packages of others do not exist, and no manifest is given.
    #[error(
        "the API key (ADIT_API_KEY) has the role miner at {0}, a packager's needs the role packager: \
         make one with `adit keys create NAME --role packager`"
    )]
    MinersKey(Url),
    /// The URL of the request has no `…/docsets/{id}` at its end.
    #[error("{0} is not the URL of a docset (…/docsets/{{id}})")]
    NoDocset(String),
    /// No request can be made of what was asked for: that says nothing of the server.
    #[error("the server cannot be asked: {0}")]
    Unaskable(String),
    /// The server is away, or its answer broke off.
    #[error("the server does not answer: {0}")]
    Unreachable(String),
    /// The key is none that the server knows, or may not do what a packager must.
    #[error("the API key (ADIT_API_KEY) is refused at {0}: make one with `adit keys create NAME --role packager`")]
    RefusedKey(Url),
    /// The server, or a proxy before it, answered otherwise than hoped for.
    #[error("the server answered {status} to GET {url}")]
    Status {
        /// The answer.
        status: StatusCode,
        /// What was asked.
        url: String,
        /// Whether it is a problem (RFC 9457) of the server's own, and about what was asked for: a proxy, which says 404 while the server is
        /// being replaced, cannot tell, and nor can the server where the path is wrong.
        own: bool,
        /// When to ask again, where it says so.
        retry_after: Option<Duration>,
    },
}

impl ApiError {
    /// The error for an answer that is no success.
    async fn answered(answer: Response, url: &Url) -> Self {
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let own = problem(answer).await.is_some_and(|kind| kind != NO_SUCH_PATH);
        Self::Status { status, url: url.to_string(), own, retry_after: retry_after.map(Duration::from_secs) }
    }

    /// What becomes of the request: only what the server itself says is final. Everything else passes: a server in trouble, a proxy
    /// that knows nothing of it, and a refused key, which an operator can set right while requests wait.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::NoDocset(_) | Self::MinersKey(_) | Self::Unaskable(_) | Self::Client(_) | Self::Key => Fate::Reject,
            Self::Status { status, own: true, .. } if status.is_client_error() && !is_passing(*status) => Fate::Reject,
            Self::RefusedKey(_) | Self::Unreachable(_) | Self::Status { .. } => Fate::Wait,
        }
    }
}

/// Whether an answer says nothing about what was asked for.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
        )
}

impl From<reqwest::Error> for ApiError {
    fn from(error: reqwest::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        if error.is_builder() { Self::Unaskable(reason) } else { Self::Unreachable(reason) }
    }
}

/// A client of the server's API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: Url,
}

/// The part of a package's record that matters here.
#[derive(Deserialize)]
struct Standing {
    status: Status,
    content: Option<Content>,
    documents: Option<Counted>,
    fingerprint: Option<Sha256>,
    docset: Option<DocsetId>,
    salt: Option<Salt>,
}

#[derive(Deserialize)]
struct Counted {
    requested: u64,
}

/// Whether a package is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is.
    Yes {
        /// The docset's members, as the server's record of the package has them; `None` where it has none.
        documents: Option<u64>,
        /// The package's fingerprint; `None` where the server tells none.
        fingerprint: Option<Sha256>,
        /// The package's salt; `None` where the server tells none.
        salt: Option<Salt>,
    },
    /// Not any more.
    No,
}

impl Wanted {
    /// It is, and nothing else is known of it.
    pub(crate) const UNKNOWN: Self = Self::Yes { documents: None, fingerprint: None, salt: None };
}

impl Standing {
    /// Not once it was dismissed, or the archive erased; nor once another packager has said that it failed, as that was the last word.
    fn is_wanted(&self) -> bool {
        !matches!(self.status, Status::Dismissed | Status::Failed) && self.content != Some(Content::Erased)
    }

    /// Tells whether this is the package that was asked for, and not another one that has got the number
    /// of a lost one: a database that was restored from a backup gives numbers again. A request of an
    /// older server has no salt; then the docset must be the same.
    fn is_of(&self, request: &PackageRequest, package: SaltedPackage) -> bool {
        match (self.salt, package.salt) {
            (Some(told), Some(asked)) => told == asked,
            (Some(_), None) => self.docset.is_none_or(|docset| request.docset_id() == Some(docset)),
            (None, _) => true,
        }
    }
}

/// The part of a key's record that matters here.
#[derive(Deserialize)]
struct Me {
    role: Role,
}

/// The part of a problem (RFC 9457) that matters here.
#[derive(Deserialize)]
struct Problem {
    r#type: String,
}

impl Api {
    /// A client that shows `key` to the server at `base`, and to no other.
    pub(crate) fn new(key: &str, base: Url) -> Result<Self, ApiError> {
        // A second provider is refused, and the first is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut key = HeaderValue::from_str(key).map_err(|_| ApiError::Key)?;
        key.set_sensitive(true);
        let http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), key)]))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // The key is for the server that asked, not for whomever it points at.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ApiError::Client)?;
        Ok(Self { http, base })
    }

    /// The docset of a request as this packager reaches it. The request tells only which docset is
    /// meant: the server may have moved while the request waited, and the key goes nowhere else.
    pub(crate) fn docset(&self, request: &PackageRequest) -> Result<Url, ApiError> {
        let id = request.docset_id().ok_or_else(|| ApiError::NoDocset(request.docset.to_string()))?;
        let mut docset = self.base.clone();
        docset.set_path(&format!("{}/docsets/{id}", self.base.path().trim_end_matches('/')));
        Ok(docset)
    }

    /// The docset's manifest in chunks.
    pub(crate) async fn manifest(
        &self,
        request: &PackageRequest,
        traceparent: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + use<>, ApiError> {
        let mut url = request.docset.clone();
        url.set_path(&format!("{}/manifest", request.docset.path().trim_end_matches('/')));
        let formats: Vec<_> = request.recipe.formats.iter().map(|format| format.as_str()).collect();
        url.query_pairs_mut().append_pair("fmt", &formats.join(","));
        if let Some(package) = request.package {
            url.query_pairs_mut().append_pair("package", &package.id.to_string());
        }
        if let Some(metadata) = metadata(request.recipe.layout) {
            url.query_pairs_mut().append_pair("metadata", metadata);
        }
        if let Some(base) = request.recipe.options.delta_from {
            url.query_pairs_mut().append_pair("base", &base.to_string());
        }
        let mut get = self.http.get(url.clone()).header(ACCEPT, manifest::MEDIA_TYPE);
        if let Some(traceparent) = traceparent {
            get = get.header("traceparent", traceparent);
        }
        let answer = get.send().await?;
        if !answer.status().is_success() {
            return Err(ApiError::answered(answer, &url).await);
        }
        Ok(answer.bytes_stream().map_err(ApiError::from))
    }

    /// Refuses a key that is wrong, or a miner's. Where the server cannot tell, the builds will
    /// see.
    pub(crate) async fn check_known(&self) -> Result<(), ApiError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/me", self.base.path().trim_end_matches('/')));
        match self.check(url).await {
            Err(ApiError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, own: true, .. }) => {
                Err(ApiError::RefusedKey(self.base.clone()))
            }
            Err(error) if error.fate() == Fate::Wait => {
                tracing::warn!(%error, "starting without knowing whether the key is good");
                Ok(())
            }
            checked => checked,
        }
    }

    /// Refuses a miner's key at the server that asks. One that knows nothing of keys (`/me`) has none to refuse.
    ///
    /// # Errors
    /// [`ApiError::MinersKey`]; else those of a server that is away or in trouble, or does not know the key.
    pub(crate) async fn check_key(&self, request: &PackageRequest) -> Result<(), ApiError> {
        self.check(sibling(&request.docset, "me")?).await
    }

    async fn check(&self, url: Url) -> Result<(), ApiError> {
        let answer = self.short(&url).await?;
        match answer.status() {
            status if status.is_success() => match serde_json::from_slice(&answer.bytes().await?) {
                Ok(Me { role: Role::Miner }) => Err(ApiError::MinersKey(url)),
                // What is no key's record here is not ours to judge.
                _ => Ok(()),
            },
            status if is_passing(status) => Err(ApiError::answered(answer, &url).await),
            status => match problem(answer).await.as_deref() {
                Some(NO_SUCH_PATH) => {
                    Err(ApiError::Status { status, url: url.to_string(), own: false, retry_after: None })
                }
                _ => Ok(()),
            },
        }
    }

    /// Asks for a short answer in JSON.
    async fn short(&self, url: &Url) -> Result<Response, ApiError> {
        let get = self.http.get(url.clone()).header(ACCEPT, "application/json");
        Ok(get.timeout(SHORT_TIMEOUT).send().await?)
    }

    /// Asks the server whether it still wants a package: not once that was dismissed, failed or erased, or is unknown, or if the package of that
    /// number is another one now. Only the server itself can say that it is
    /// unknown, by a problem of its own: a proxy before it, which says 404 while the server is being replaced, cannot tell.
    pub(crate) async fn wants(&self, request: &PackageRequest, package: SaltedPackage) -> Result<Wanted, ApiError> {
        let url = sibling(&request.docset, &format!("packages/{}", package.id))?;
        let answer = self.short(&url).await?;
        match answer.status() {
            status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
                if !says_gone(answer).await {
                    tracing::warn!(%status, %url, "that is no answer of the server about the package; building on");
                    return Ok(Wanted::UNKNOWN);
                }
                // To a miner every package of somebody else is unknown.
                self.check_key(request).await?;
                Ok(Wanted::No)
            }
            status if status.is_success() => {
                let standing = answer.json::<Standing>().await?;
                let documents = standing.documents.as_ref().map(|documents| documents.requested);
                let wanted = Wanted::Yes { documents, fingerprint: standing.fingerprint, salt: standing.salt };
                Ok(if standing.is_wanted() && standing.is_of(request, package) { wanted } else { Wanted::No })
            }
            _ => Err(ApiError::answered(answer, &url).await),
        }
    }
}

/// Whether a 404 or 410 is a problem that tells of a thing that is not there.
async fn says_gone(answer: Response) -> bool {
    let status = answer.status();
    problem(answer).await.is_some_and(|kind| status == StatusCode::GONE || kind == "not-found")
}

/// The kind of problem that an answer tells of, if it is one of the server's own.
async fn problem(answer: Response) -> Option<String> {
    const PROBLEMS: &str = "urn:adit:problem:";
    let media_type = answer.headers().get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    if !media_type.eq_ignore_ascii_case("application/problem+json") {
        return None;
    }
    let Problem { r#type } = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    r#type.strip_prefix(PROBLEMS).map(str::to_owned)
}

/// How much of the members' metadata a layout needs: nothing more is asked for.
fn metadata(layout: Layout) -> Option<&'static str> {
    match layout {
        Layout::Flat => None,
        Layout::Bag | Layout::TarZst => Some("license"),
        Layout::Jsonl | Layout::Parquet => Some("full"),
    }
}

/// URL of the archive of `package` on the server that asked for it.
pub(crate) fn download_url(request: &PackageRequest, package: PackageId) -> Result<Url, ApiError> {
    sibling(&request.docset, &format!("packages/{package}/download"))
}

/// `{api}/docsets/{id}` gives `{api}/{path}`.
fn sibling(docset: &Url, path: &str) -> Result<Url, ApiError> {
    let no_docset = || ApiError::NoDocset(docset.to_string());
    let (api, _) = docset.path().trim_end_matches('/').rsplit_once("/docsets/").ok_or_else(no_docset)?;
    let mut url = docset.clone();
    url.set_query(None);
    url.set_path(&format!("{api}/{path}"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> PackageRequest {
        text.parse().unwrap()
    }

    #[test]
    fn other_resources_stand_beside_the_docset() {
        let url = |text| download_url(&request(text), PackageId(7)).map(String::from);
        assert_eq!(url("http://h:1/api/docsets/5?fmt=txt").unwrap(), "http://h:1/api/packages/7/download");
        assert_eq!(url("https://h/x/docsets/5/?a=b").unwrap(), "https://h/x/packages/7/download");
        assert!(url("http://h/5").is_err());
    }

    #[test]
    fn a_known_server_is_asked_whatever_server_the_request_names() {
        let api = Api::new("key", "http://h:1/x/api/".parse().unwrap()).unwrap();
        for url in ["http://h:1/x/api/docsets/5", "http://h:2/api/docsets/5", "https://elsewhere/docsets/5?fmt=txt&a=b"]
        {
            assert_eq!(api.docset(&request(url)).unwrap().as_str(), "http://h:1/x/api/docsets/5", "{url}");
        }
        assert!(api.docset(&request("http://h:1/x/api/docsets/five")).is_err());
    }
}
