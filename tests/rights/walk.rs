//! A walk through every operation of the contract with one key, or none, that looks for canaries in every answer.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Method, redirect};
use serde_json::{Value, json};

use super::canaries;
use crate::support::Client;

/// The collection that is walked through.
pub(super) const SLUG: &str = "mix";

/// What others have, which the walk tries to get at too.
#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    pub(super) docset: i64,
    pub(super) package: i64,
    pub(super) fingerprint: String,
    /// Another docset, and the link by which it is shared.
    pub(super) shared: i64,
    pub(super) link: String,
}

/// An answer, with the bodies of where it led to.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

pub(super) struct Walk<'a> {
    url: String,
    key: Option<&'a str>,
    http: reqwest::Client,
    others: Others,
    operator: &'a Client,
    /// Ids of all versions of all documents.
    documents: Vec<i64>,
    /// The own ones.
    docsets: Vec<i64>,
    packages: Vec<Value>,
    /// Canaries by the operation that gave them.
    pub(super) found: BTreeMap<String, BTreeSet<&'static str>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(operator: &'a Client, key: Option<&'a str>, documents: &[i64], others: &Others) -> Self {
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let (others, documents) = (others.clone(), documents.to_vec());
        let url = operator.url.clone();
        Self {
            url,
            key,
            http,
            others,
            operator,
            documents,
            docsets: Vec::new(),
            packages: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    /// Walks through every operation that the server's contract has.
    pub(super) async fn everything(&mut self) {
        let contract = self.get("getContract", "/openapi.json").await.json();
        let link = self.others.link.clone();
        self.look("getShared", &link).await;
        self.post("followShare", &link, &json!({})).await;
        self.make_docsets().await;
        self.make_packages().await;
        let (deletes, others): (Vec<_>, Vec<_>) =
            operations(&contract).into_iter().partition(|id| id.starts_with("delete"));
        // Packages before the docsets with which they go.
        for operation in others.iter().chain(deletes.iter().rev()) {
            self.walk(operation).await;
        }
    }

    async fn make_docsets(&mut self) {
        let refs = json!(["open", "own", "press", "closed", "changed"]);
        for body in [
            json!({"collection": SLUG, "query": "*"}),
            json!({"collection": SLUG, "query": canaries::BAIT, "name": "by a word"}),
            json!({"collection": SLUG, "query": "*", "sample": {"size": 3, "seed": 7}}),
            json!({"collection": SLUG, "from": {"union": [self.others.shared, self.others.docset]}}),
            json!({"collection": SLUG, "refs": refs}),
            json!({"collection": SLUG, "refs": ["own"]}),
        ] {
            let made = self.post("createDocset", "/api/docsets", &body).await;
            self.docsets.extend(made.json()["id"].as_i64());
        }
    }

    /// Packages in every layout and form of it.
    async fn make_packages(&mut self) {
        let all = json!(["txt", "pdf", "xml", "meta"]);
        let docset = self.docsets.first().copied().unwrap_or(self.others.docset);
        let layouts = ["flat", "bag", "tar.zst", "jsonl", "parquet"];
        let mut wishes: Vec<Value> = layouts.iter().map(|layout| json!({"formats": all, "layout": layout})).collect();
        wishes.extend(["flat", "jsonl"].map(|layout| json!({"formats": ["meta"], "layout": layout})));
        wishes.extend(
            ["flat", "bag", "tar.zst"].map(|layout| json!({"layout": layout, "shard_bytes": 1 << 20, "reuse": false})),
        );
        wishes.extend(["none", "gzip"].map(|name| json!({"layout": "jsonl", "formats": all, "compression": name})));
        wishes.push(json!({"formats": all, "layout": "bag", "dehydrated": true}));
        let old = self.docsets.last().copied().unwrap_or(self.others.docset);
        wishes.push(json!({"formats": all, "layout": "bag", "delta_from": {"docset": old}}));
        wishes.push(json!({"formats": all, "layout": "bag", "delta_from": {"docset": self.others.docset}}));
        wishes.push(json!({"formats": all, "layout": "bag", "delta_from": {"package": self.others.package}}));
        let mut asked = Vec::new();
        for wish in &wishes {
            let answer = self.post("createPackage", &format!("/api/docsets/{docset}/packages"), wish).await.json();
            asked.extend(answer["id"].as_i64());
        }
        let path = format!("/api/docsets/{}/packages", self.others.shared);
        let answer = self.post("createPackage", &path, &json!({"formats": all, "layout": "bag"})).await.json();
        asked.extend(answer["id"].as_i64());
        for id in asked {
            // By an operator: packagers do not take in what packagers say.
            let package = self.operator.finished(id).await;
            assert_eq!(package["status"], "successful", "{package}");
            self.packages.push(package);
        }
        let path = format!("/api/docsets/{}/packages", self.others.docset);
        assert!(self.post("createPackage", &path, &json!({})).await.status >= 400, "that is another's docset");
    }

    /// One operation, on everything that there is, with all that may be said with it. Of operations that come to the contract, the walk must learn.
    async fn walk(&mut self, operation: &str) {
        match operation {
            "listCollections" => self.look(operation, "/api/collections").await,
            "getCollection" => self.look(operation, &format!("/api/collections/{SLUG}")).await,
            "getCollectionSchema" => self.look(operation, &format!("/api/collections/{SLUG}/schema")).await,
            "search" => self.search(operation).await,
            "getDocument" => self.each_document(operation, &[""]).await,
            "getDocumentText" => self.each_document(operation, &["/text"]).await,
            "getDocumentFile" => {
                self.each_document(operation, &["/files/txt", "/files/pdf", "/files/xml", "/files/meta"]).await
            }
            "listDocsets" => self.look(operation, "/api/docsets?limit=1").await,
            "getDocset" => self.each_docset(operation, &[""]).await,
            "listMembers" => self.each_docset(operation, &["/members", "/members?limit=1"]).await,
            "listCatalog" => self.each_docset(operation, &["/catalog", "/catalog?limit=1"]).await,
            "estimatePackage" => self.estimate(operation).await,
            "dumpDocset" => self.each_docset(operation, &["/dump", "/dump?fmts=txt,pdf,xml", "/dump?fmt=meta"]).await,
            "getManifest" => self.manifest(operation).await,
            "renameDocset" => self.on_docsets(operation, Method::PATCH, "", Some(json!({"name": "other"}))).await,
            "deleteDocset" => self.on_docsets(operation, Method::DELETE, "", None).await,
            // Both come first: without them there is nothing to walk on.
            "createDocset" | "createPackage" | "getShared" | "followShare" => {
                assert!(self.found.contains_key(operation))
            }
            "diffDocset" => {
                let since = self.all_docsets().into_iter().map(|id| format!("/diff?since={id}")).collect();
                self.each_docset_at(operation, since).await;
            }
            "refreshDocset" => self.on_docsets(operation, Method::POST, "/refresh", None).await,
            "shareDocset" => self.on_docsets(operation, Method::POST, "/share", Some(json!({}))).await,
            "listShares" => self.each_docset(operation, &["/share"]).await,
            "revokeShare" => self.on_docsets(operation, Method::DELETE, "/share/1", None).await,
            "createWatch" => {
                let body = json!({"query": canaries::BAIT});
                self.post(operation, &format!("/api/collections/{SLUG}/watch"), &body).await;
            }
            "listWatches" => self.look(operation, "/api/watches").await,
            "getWatch" => self.look(operation, "/api/watches/1").await,
            "deleteWatch" => {
                let request = self.request(Method::DELETE, "/api/watches/1");
                self.send(operation, request).await;
            }
            "getPackage" | "followPackage" | "listAssets" | "downloadPackage" | "listWithdrawals" => {
                self.each_package(operation).await
            }
            "downloadAsset" | "followLink" => self.assets(operation).await,
            "checkPackage" => self.check_packages(operation).await,
            "deletePackage" => self.delete_packages(operation).await,
            "getUsage" => self.look(operation, &format!("/api/usage?collection={SLUG}")).await,
            "getMe" => self.look(operation, "/api/me").await,
            "getPublicKeys" => self.look(operation, "/.well-known/jwks.json").await,
            "getHealth" => self.look(operation, "/healthz").await,
            "getReadiness" => self.look(operation, "/readyz").await,
            "getMetrics" => self.look(operation, "/metrics").await,
            new => panic!("the contract has an operation {new}; teach this walk all that can be asked by it"),
        }
    }

    async fn search(&mut self, operation: &str) {
        let path = format!("/api/collections/{SLUG}/search");
        for query in ["*", canaries::BAIT, "title:work", "bait beside"] {
            for more in [
                json!({}),
                json!({"highlight": true}),
                json!({"facets": ["subject", "year"], "sort": "ref"}),
                json!({"limit": 2, "sort": "date"}),
            ] {
                let mut body = more.clone();
                body["query"] = json!(query);
                for accept in ["application/x-ndjson", "text/csv"] {
                    let request = self.request(Method::POST, &path).header("accept", accept).json(&body);
                    self.send(operation, request).await;
                }
                let answer = self.post(operation, &path, &body).await.json();
                if let Some(next) = answer["next"].as_str() {
                    body["cursor"] = json!(next);
                    self.post(operation, &path, &body).await;
                }
            }
        }
    }

    async fn each_document(&mut self, operation: &str, below: &[&str]) {
        for id in self.documents.clone() {
            for end in below {
                self.look(operation, &format!("/api/documents/{id}{end}")).await;
            }
        }
    }

    fn all_docsets(&self) -> Vec<i64> {
        self.docsets.iter().copied().chain([self.others.docset, self.others.shared]).collect()
    }

    async fn each_docset(&mut self, operation: &str, below: &[&str]) {
        self.each_docset_at(operation, below.iter().map(|end| (*end).to_owned()).collect()).await;
    }

    async fn each_docset_at(&mut self, operation: &str, below: Vec<String>) {
        for id in self.all_docsets() {
            for end in &below {
                self.look(operation, &format!("/api/docsets/{id}{end}")).await;
            }
        }
    }

    /// What changes docsets is for their owners.
    async fn on_docsets(&mut self, operation: &str, method: Method, end: &str, body: Option<Value>) {
        for id in self.all_docsets() {
            let request = self.request(method.clone(), &format!("/api/docsets/{id}{end}"));
            let request = body.iter().fold(request, |request, body| request.json(body));
            let status = self.send(operation, request).await.status;
            assert!(self.docsets.contains(&id) || status >= 400, "{operation} of another's docset");
        }
    }

    async fn estimate(&mut self, operation: &str) {
        let more = [
            "",
            "&layout=bag",
            "&layout=jsonl&compression=gzip",
            "&layout=parquet",
            "&layout=bag&dehydrated=true",
            "&shard_bytes=1048576",
        ];
        let from = self.docsets.last().copied().unwrap_or(self.others.docset);
        let delta = format!("&layout=bag&delta_from={from}");
        let below: Vec<String> =
            more.iter().chain([&&*delta]).map(|more| format!("/estimate?fmts=txt,pdf,meta{more}")).collect();
        self.each_docset_at(operation, below).await;
    }

    async fn manifest(&mut self, operation: &str) {
        let package = self.packages.first().map_or(self.others.package, |package| package["id"].as_i64().unwrap());
        let base = self.docsets.last().copied().unwrap_or(self.others.docset);
        let mut below = Vec::new();
        for metadata in ["none", "license", "full"] {
            for more in [String::new(), format!("&package={package}"), format!("&base={base}")] {
                below.push(format!("/manifest?fmt=txt,pdf,xml,meta&metadata={metadata}{more}"));
            }
        }
        self.each_docset_at(operation, below).await;
    }

    async fn each_package(&mut self, operation: &str) {
        let end = match operation {
            "getPackage" => "",
            "followPackage" => "/events",
            "listAssets" => "/assets",
            "downloadPackage" => "/download",
            _ => "/withdrawals",
        };
        let ids: Vec<i64> = self.packages.iter().map(|package| package["id"].as_i64().unwrap()).collect();
        for id in ids.into_iter().chain([self.others.package]) {
            self.look(operation, &format!("/api/packages/{id}{end}")).await;
        }
    }

    /// Every asset of the own packages, by each of its names; and what others have, by their names and by the own rights.
    async fn assets(&mut self, operation: &str) {
        for package in self.packages.clone() {
            let (id, own) = (&package["id"], package["fingerprint"].as_str().unwrap());
            let list = self.get("listAssets", &format!("/api/packages/{id}/assets")).await.json();
            for asset in list["assets"].as_array().unwrap() {
                let (name, link) = (asset["name"].as_str().unwrap(), asset["link"].as_str().unwrap());
                if operation == "followLink" {
                    let answer = self.http.get(link).send().await.unwrap();
                    self.take(operation, answer).await;
                    let forged =
                        link.replace(&format!("/packages/{id}/"), &format!("/packages/{}/", self.others.package));
                    let answer = self.http.get(forged).send().await.unwrap();
                    assert_eq!(self.take(operation, answer).await.status, 403);
                    continue;
                }
                self.look(operation, &format!("/api/packages/{id}/assets/{name}")).await;
                self.get(operation, &format!("/api/packages/{own}/assets/{name}")).await;
                // Of equal packages everybody's own is meant.
                let mine = self.packages.iter().any(|package| package["fingerprint"] == self.others.fingerprint);
                let fingerprint = Some(self.others.fingerprint.clone()).filter(|_| !mine);
                for other in fingerprint.into_iter().chain([self.others.package.to_string()]) {
                    let others = name.replace(&own[..12], &self.others.fingerprint[..12]);
                    let answer = self.get(operation, &format!("/api/packages/{other}/assets/{others}")).await;
                    assert!(answer.status >= 400, "{others} is another's");
                }
            }
        }
        let path = match operation {
            "followLink" => format!("/api/links/4102444800-AAAA/packages/{}/manifest.json", self.others.package),
            _ => format!("/api/packages/{}/assets/manifest.json", self.others.package),
        };
        assert!(self.get(operation, &path).await.status >= 400);
    }

    async fn check_packages(&mut self, operation: &str) {
        let ids: Vec<i64> = self.packages.iter().map(|package| package["id"].as_i64().unwrap()).collect();
        for id in ids.into_iter().chain([self.others.package]) {
            let request = self.request(Method::POST, &format!("/api/packages/{id}/check"));
            let status = self.send(operation, request).await.status;
            assert!(id != self.others.package || status >= 400, "{operation} of another's package");
        }
    }

    async fn delete_packages(&mut self, operation: &str) {
        let ids: Vec<i64> = self.packages.iter().map(|package| package["id"].as_i64().unwrap()).collect();
        for id in ids.into_iter().chain([self.others.package]) {
            let request = self.request(Method::DELETE, &format!("/api/packages/{id}"));
            let status = self.send(operation, request).await.status;
            assert!(id != self.others.package || status >= 400, "{operation} of another's package");
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let request = self.http.request(method, url);
        self.key.iter().fold(request, |request, key| request.header("x-api-key", *key))
    }

    async fn get(&mut self, operation: &str, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(operation, request).await
    }

    async fn post(&mut self, operation: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).json(body);
        self.send(operation, request).await
    }

    /// Asks for a path in every way in which the same can be asked for.
    async fn look(&mut self, operation: &str, path: &str) {
        let ways = [
            ("accept", "*/*"),
            ("accept", "application/x-ndjson"),
            ("accept", "application/pdf"),
            ("accept-encoding", "gzip"),
            ("range", "bytes=0-4000"),
        ];
        for (name, value) in ways {
            let request = self.request(Method::GET, path).header(name, value);
            self.send(operation, request).await;
        }
        let request = self.request(Method::HEAD, path);
        self.send(operation, request).await;
    }

    async fn send(&mut self, operation: &str, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        self.take(operation, answer).await
    }

    /// Reads an answer and, where it leads elsewhere, what is there: at the server with the key, at an object store without.
    async fn take(&mut self, operation: &str, mut answer: reqwest::Response) -> Answer {
        let status = answer.status().as_u16();
        while let Some(location) = answer.headers().get("location").filter(|_| answer.status().is_redirection()) {
            let target = answer.url().join(location.to_str().unwrap()).unwrap();
            let own = target.as_str().starts_with(&self.url);
            let request = if own { self.request(Method::GET, target.as_str()) } else { self.http.get(target) };
            answer = request.send().await.unwrap();
        }
        let partial = answer.status() == 206;
        let headers = format!("{:?}", answer.headers());
        let body = answer.bytes().await.unwrap().to_vec();
        let found = self.found.entry(operation.to_owned()).or_default();
        found.extend(canaries::found(headers.as_bytes()));
        // A piece of an archive is no archive; the whole of it is read too.
        found.extend(if partial { canaries::plainly(&body) } else { canaries::found(&body) });
        Answer { status, body }
    }
}

/// The names of all operations of a contract.
pub(super) fn operations(contract: &Value) -> Vec<String> {
    let paths = contract["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<String> =
        operations.filter_map(|operation| Some(operation["operationId"].as_str()?.to_owned())).collect();
    names.sort_unstable();
    names
}
