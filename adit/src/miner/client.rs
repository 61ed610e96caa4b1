//! A small client of the API: JSON in, JSON out, problems as errors.

use std::fmt;
use std::time::Duration;

use adit_shared::config::{Config, Secret};
use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, IF_RANGE, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;
use url::{Origin, Url};

use crate::running;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Redirects that a download follows.
const HOPS: usize = 5;

/// Media type of JSON in lines.
const NDJSON: &str = "application/x-ndjson";

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its status.
    pub(crate) status: StatusCode,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The problem details, where the answer holds them.
    pub(crate) problem: Value,
    /// Whether it is of an object store that the server has redirected to.
    of_store: bool,
    message: String,
}

impl Refusal {
    /// Whether the same request may succeed later: the server's own trouble, a timeout, or too many requests. What an object store denies
    /// or has lost the server knows better when it is asked again.
    pub(crate) fn may_pass(&self) -> bool {
        let own = matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let of_store = matches!(self.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        self.status.is_server_error() || own || (self.of_store && of_store)
    }

    /// Reads an answer that is no success: problem details (RFC 9457), where it holds them.
    async fn read(response: Response) -> Self {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The other form, a date, is sent by no server of this API.
        let retry_after = header(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        if let Some(location) = header(LOCATION).filter(|_| status.is_redirection()) {
            let message = format!("the server is at {location} now ({}); name it with --url", status.as_u16());
            return Self { status, retry_after, problem: Value::Null, of_store: false, message };
        }
        let problem: Value = response.json().await.unwrap_or_default();
        let title = problem["title"].as_str().unwrap_or("the server refused");
        let detail = problem["detail"].as_str().unwrap_or_default();
        let message = match status {
            StatusCode::UNAUTHORIZED => {
                format!("{title}: {detail}; put the key into ADIT_API_KEY (it is shown only to the server of --url)")
            }
            _ => format!("{title} ({}): {detail}", status.as_u16()),
        };
        Self { status, retry_after, problem, of_store: false, message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Talks to one server with one key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    origin: Origin,
    key: Option<Secret>,
}

impl Client {
    /// A client of the server that is configured, else of the `adit up` that runs on the data folder, else of the default address.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        Self::with(&running::api_url(config), config.api_key.clone())
    }

    /// A client of the server at `base`.
    pub(crate) fn with(base: &str, key: Option<Secret>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("adit/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()?;
        let origin = Url::parse(base).with_context(|| format!("{base} is no URL"))?.origin();
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), origin, key })
    }

    /// GETs JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        json(self.send(self.http.get(self.url(path))).await?).await
    }

    /// POSTs JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.http.post(self.url(path)).json(body)).await?).await
    }

    /// POSTs NDJSON.
    pub(crate) async fn post_lines(&self, path: &str, lines: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.http.post(self.url(path)).header(CONTENT_TYPE, NDJSON).body(lines);
        json(self.send(request).await?).await
    }

    /// PATCHes JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.http.patch(self.url(path)).json(body)).await?).await
    }

    /// DELETEs.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.http.delete(self.url(path))).await.map(drop)
    }

    /// GETs NDJSON, line by line.
    pub(crate) async fn get_lines(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let response = self.send(self.http.get(self.url(path)).header(ACCEPT, NDJSON)).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        let mut lines = StreamReader::new(bytes).lines();
        while let Some(line) = lines.next_line().await.context("the answer did not come to its end")? {
            each(&line)?;
        }
        Ok(())
    }

    /// The path of a link to this server.
    ///
    /// # Errors
    /// If it leads to another server, which must not see the key.
    pub(crate) fn path_of(&self, link: &str) -> anyhow::Result<String> {
        match link.strip_prefix(&self.base) {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => bail!("the link leads to another server than {}; name that with --url", self.base),
        }
    }

    /// GETs bytes at a path of the server, or at any URL, from an offset on if the content still has that entity tag. The key is shown to
    /// no other server than this one; so redirects are followed by hand. All of it may come compressed, if `gzip` says so.
    ///
    /// # Errors
    /// [`Refusal`], [`reqwest::Error`], or what is wrong with the URL.
    pub(crate) async fn get_from(&self, url: &str, rest: Option<(u64, &str)>, gzip: bool) -> anyhow::Result<Response> {
        let ranged = |url: Url| match rest {
            Some((offset, tag)) => self.http.get(url).header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, tag),
            None if gzip => self.http.get(url).header(ACCEPT_ENCODING, "gzip"),
            None => self.http.get(url),
        };
        let url = if url.starts_with('/') { self.url(url) } else { url.to_owned() };
        let url = Url::parse(&url).with_context(|| format!("{url} is no URL"))?;
        let mut response = if url.origin() == self.origin {
            self.answer(ranged(url)).await?
        } else {
            elsewhere(ranged(url.clone()), &url).await?
        };
        let mut hops = 0;
        loop {
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| response.status().is_redirection()) else {
                let of_store = hops > 0;
                return success(response, of_store).await;
            };
            hops += 1;
            if hops > HOPS {
                bail!("the download was redirected more than {HOPS} times");
            }
            let next = response.url().join(location).context("the server redirects to no URL")?;
            response = elsewhere(ranged(next.clone()), &next).await?;
        }
    }

    /// POSTs JSON, for an answer of another media type.
    pub(crate) async fn post_for(&self, path: &str, body: &Value, media_type: &str) -> anyhow::Result<Response> {
        self.send(self.http.post(self.url(path)).header(ACCEPT, media_type).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        success(self.answer(request).await?, false).await
    }

    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        };
        let answer = request.send().await;
        answer.with_context(|| format!("cannot reach {}; is the server up? (--url names another)", self.base))
    }
}

/// Asks another server than the API.
async fn elsewhere(request: RequestBuilder, url: &Url) -> anyhow::Result<Response> {
    // A URL may be as good as a key for a while: it is not shown.
    let answer = request.send().await.map_err(reqwest::Error::without_url);
    answer.with_context(|| format!("cannot reach {}", url.host_str().unwrap_or_default()))
}

async fn success(response: Response, of_store: bool) -> anyhow::Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Refusal { of_store, ..Refusal::read(response).await }.into())
}

async fn json(response: Response) -> anyhow::Result<Value> {
    response.json().await.context("the server's answer is not JSON")
}
