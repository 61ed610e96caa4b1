//! A small client of the API: JSON in, JSON out, problems as errors. What an answer may be is in
//! [`super::answers`], and who is shown the key in [`super::addresses`].

use std::time::Duration;

use adit_shared::config::{Config, Secret};
use anyhow::{Context as _, bail, ensure};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, IF_RANGE, LOCATION, RANGE};
use reqwest::{RequestBuilder, Response, redirect};
use serde_json::Value;
use url::Url;

use super::addresses::{check_redirect, is_content, is_private, shared_path};
pub(crate) use super::answers::Refusal;
use super::answers::{read_json, read_lines};
use crate::running;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long an answer in JSON may take in all.
const WHOLE: Duration = Duration::from_secs(600);
/// Redirects that a download follows.
const HOPS: usize = 5;

/// Media type of JSON in lines.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Talks to one server with one key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    url: Url,
    key: Option<Secret>,
}

impl Client {
    /// Makes a client of the server that is configured, else of the `adit up` that runs on the data
    /// folder, else of the default address.
    ///
    /// # Errors
    /// If there is a key, and others could read it on its way to the server.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let client = Self::with(&running::api_url(config), config.api_key.clone())?;
        ensure!(
            client.key.is_none() || config.insecure || is_private(&client.url),
            "{} has no TLS, and anybody on the way could read the key; use https, or allow it by --insecure",
            client.base
        );
        Ok(client)
    }

    /// Makes a client of the server at `base`, however that is reached.
    pub(crate) fn with(base: &str, key: Option<Secret>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("adit/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()?;
        let url = Url::parse(base).with_context(|| format!("{base} is no URL"))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), url, key })
    }

    /// GETs JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        read_json(self.send(self.http.get(self.at(path)).timeout(WHOLE)).await?).await
    }

    /// POSTs JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        read_json(self.send(self.http.post(self.at(path)).timeout(WHOLE).json(body)).await?).await
    }

    /// POSTs NDJSON.
    pub(crate) async fn post_lines(&self, path: &str, lines: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.http.post(self.at(path)).timeout(WHOLE).header(CONTENT_TYPE, NDJSON).body(lines);
        read_json(self.send(request).await?).await
    }

    /// PATCHes JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        read_json(self.send(self.http.patch(self.at(path)).timeout(WHOLE).json(body)).await?).await
    }

    /// DELETEs.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.http.delete(self.at(path))).await.map(drop)
    }

    /// GETs NDJSON, line by line.
    pub(crate) async fn get_lines(
        &self,
        path: &str,
        each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        read_lines(self.send(self.http.get(self.at(path)).header(ACCEPT, NDJSON)).await?, each).await
    }

    /// POSTs JSON for an answer in lines of that media type.
    pub(crate) async fn post_for_lines(
        &self,
        path: &str,
        body: &Value,
        media_type: &str,
        each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        read_lines(self.post_for(path, body, media_type).await?, each).await
    }

    /// Gives the path of a link that shares a docset of this server.
    ///
    /// # Errors
    /// If it leads elsewhere; see [`shared_path`].
    pub(crate) fn shared_path(&self, link: &str) -> anyhow::Result<String> {
        shared_path(&self.url, link)
    }

    /// Checks that a file may be fetched from a URL that a bag names: from an address of content on
    /// this server, which is shown the key, or, with `others`, from other servers without it.
    ///
    /// # Errors
    /// With the remedy, if it may not.
    pub(crate) fn check_source(&self, source: &str, others: bool) -> anyhow::Result<()> {
        let url = Url::parse(source).with_context(|| format!("{source} is no URL"))?;
        ensure!(matches!(url.scheme(), "http" | "https"), "only http and https URLs are fetched, not {source}");
        if url.origin() == self.url.origin() {
            ensure!(
                is_content(&self.url, &url),
                "{source} is no address of a file on this server; it is not asked for"
            );
            return Ok(());
        }
        ensure!(
            others,
            "{source} is not on the server {}; name the right one by --url, or have other servers asked without the key by \
             --other-servers",
            self.base
        );
        ensure!(is_private(&url), "{source} has no TLS; from other servers only https is fetched");
        Ok(())
    }

    /// GETs bytes at a path of the server, or at any URL, from an offset on if the content still
    /// has that entity tag. The key is shown at addresses of content on this server alone; so
    /// redirects are followed by hand, and without it. All of it may come compressed, if `gzip`
    /// says so.
    ///
    /// # Errors
    /// [`Refusal`], [`reqwest::Error`], or what is wrong with the URL.
    pub(crate) async fn get_from(&self, url: &str, rest: Option<(u64, &str)>, gzip: bool) -> anyhow::Result<Response> {
        let ranged = |url: Url| match rest {
            Some((offset, tag)) => self.http.get(url).header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, tag),
            None if gzip => self.http.get(url).header(ACCEPT_ENCODING, "gzip"),
            None => self.http.get(url),
        };
        let url = if url.starts_with('/') { self.at(url) } else { url.to_owned() };
        let url = Url::parse(&url).with_context(|| format!("{url} is no URL"))?;
        let mut response = if url.origin() == self.url.origin() {
            ensure!(is_content(&self.url, &url), "{url} is no address of a file; the key is not shown there");
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
            check_redirect(response.url(), &next)?;
            response = elsewhere(ranged(next.clone()), &next).await?;
        }
    }

    /// POSTs JSON, for an answer of another media type.
    pub(crate) async fn post_for(&self, path: &str, body: &Value, media_type: &str) -> anyhow::Result<Response> {
        self.send(self.http.post(self.at(path)).header(ACCEPT, media_type).json(body)).await
    }

    fn at(&self, path: &str) -> String {
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

/// Asks without the key.
async fn elsewhere(request: RequestBuilder, url: &Url) -> anyhow::Result<Response> {
    // A URL may be as good as a key for a while: it is not shown.
    let answer = request.send().await.map_err(reqwest::Error::without_url);
    answer.with_context(|| format!("cannot reach {}", url.host_str().unwrap_or_default()))
}

async fn success(response: Response, of_store: bool) -> anyhow::Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Refusal::read(response, of_store).await.into())
}
