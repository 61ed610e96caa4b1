//! A client of the API, as a script of a miner would be.

use reqwest::{Method, RequestBuilder, Response, redirect};
use serde_json::{Value, json};

use super::eventually;

/// The address of a server and the key that it is shown.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) key: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        // The same one as the program's; a second call of a test finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { url: url.to_owned(), key: key.to_owned(), http }
    }

    /// A request with the client's key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        self.http.request(method, url).header("x-api-key", &self.key)
    }

    /// A request with another key, or none.
    pub(crate) fn request_as(&self, key: Option<&str>, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// GETs JSON that must be there.
    pub(crate) async fn json(&self, path: &str) -> Value {
        expect(self.get(path).await, 200).await
    }

    /// The answer to a search.
    pub(crate) async fn search(&self, collection: &str, body: &Value) -> Value {
        expect(self.post(&format!("/api/collections/{collection}/search"), body).await, 200).await
    }

    /// Makes a docset of a query.
    pub(crate) async fn docset(&self, collection: &str, query: &str) -> i64 {
        let docset =
            expect(self.post("/api/docsets", &json!({"collection": collection, "query": query})).await, 201).await;
        docset["id"].as_i64().unwrap()
    }

    /// Asks for a package; gives its number.
    pub(crate) async fn ask(&self, docset: i64, body: &Value) -> i64 {
        let asked = self.post(&format!("/api/docsets/{docset}/packages"), body).await;
        assert!(asked.status().is_success(), "{}", asked.text().await.unwrap());
        let asked: Value = asked.json().await.unwrap();
        asked["id"].as_i64().unwrap()
    }

    /// Asks for a package and polls it to its end.
    pub(crate) async fn package(&self, docset: i64, body: &Value) -> Value {
        self.finished(self.ask(docset, body).await).await
    }

    /// Polls a package until it is terminal.
    pub(crate) async fn finished(&self, package: i64) -> Value {
        eventually("the package is terminal", || async {
            let package = self.json(&format!("/api/packages/{package}")).await;
            (package["terminal"] == true).then_some(package)
        })
        .await
    }

    /// Polls a package until it is terminal, over answers that say 503.
    pub(crate) async fn finished_through_outages(&self, package: i64) -> Value {
        eventually("the package is terminal", || async {
            let answer = self.get(&format!("/api/packages/{package}")).await;
            if answer.status() == 503 {
                return None;
            }
            let package = expect(answer, 200).await;
            (package["terminal"] == true).then_some(package)
        })
        .await
    }

    /// Asks for a package, waits for it, and returns its archive's bytes.
    pub(crate) async fn archive(&self, docset: i64, body: &Value) -> (Value, Vec<u8>) {
        let package = self.package(docset, body).await;
        assert_eq!(package["status"], "successful", "{package}");
        let download = self.download(package["download"].as_str().unwrap()).await;
        let bytes = download.bytes().await.unwrap();
        (package, bytes.to_vec())
    }

    /// The archive at that URL, fetched where the API keeps it: from the API itself, or over its redirect.
    pub(crate) async fn download(&self, url: &str) -> Response {
        let answer = self.get(url).await;
        let answer = match answer.headers().get("location") {
            // The object store is not shown the key.
            Some(location) if answer.status() == 302 => self.http.get(location.to_str().unwrap()).send().await.unwrap(),
            _ => answer,
        };
        assert_eq!(answer.status(), 200, "{}", answer.url());
        answer
    }
}

/// The JSON of an answer that must have that status.
pub(crate) async fn expect(response: Response, status: u16) -> Value {
    let (found, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{url}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
