//! A small client of the API: JSON in, JSON out, problems as errors.

use adit_shared::config::{Config, Secret};
use anyhow::{Context as _, bail};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::running;

/// Talks to one server with one key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<Secret>,
}

impl Client {
    /// A client of the server that is configured, else of the `adit up` that runs on the data folder, else of the default address.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let base = match &config.public_url {
            Some(url) => url.to_string(),
            None => {
                running::find(&config.data).map_or_else(|| format!("http://{}", config.listen), |running| running.api)
            }
        };
        Self::with(&base, config.api_key.clone())
    }

    /// A client of the server at `base`.
    pub(crate) fn with(base: &str, key: Option<Secret>) -> anyhow::Result<Self> {
        // Redirects to an object store must not carry the key: reqwest drops only the standard headers on a change of host, so
        // the key goes into one of those.
        let http = reqwest::Client::builder().user_agent(concat!("adit/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// GETs JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        json(self.send(self.http.get(self.url(path))).await?).await
    }

    /// POSTs JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.http.post(self.url(path)).json(body)).await?).await
    }

    /// GETs bytes from `offset` on.
    pub(crate) async fn get_from(&self, url: &str, offset: u64) -> anyhow::Result<Response> {
        let mut request = self.http.get(self.url(url));
        if offset > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={offset}-"));
        }
        self.send(request).await
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() }
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        };
        let response = request
            .send()
            .await
            .with_context(|| format!("cannot reach {}; is the server up? (--url names another)", self.base))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem: Value = response.json().await.unwrap_or_default();
        let title = problem["title"].as_str().unwrap_or("the server refused");
        let detail = problem["detail"].as_str().unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED {
            bail!("{title}: {detail}; put the key into ADIT_API_KEY");
        }
        bail!("{title} ({}): {detail}", status.as_u16())
    }
}

async fn json(response: Response) -> anyhow::Result<Value> {
    response.json().await.context("the server's answer is not JSON")
}
