//! A miner: makes docsets, orders packages, polls, downloads, verifies every file, and deletes
//! some.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_shared::digest::Sha256;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::Stage;
use super::ledger::{Counted, Finding};
use super::model::{Collection, GROUPS, Selection, will_be_withdrawn};
use super::order::Order;
use crate::support::Client;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(60);
/// How long anything may take once the faults have stopped.
const SETTLED: Duration = Duration::from_secs(240);
const FORMATS: [&str; 3] = ["txt", "meta", "pdf"];
const LAYOUTS: [&str; 3] = ["flat", "flat", "bag"];

/// Why an answer was not there.
enum Missing {
    /// It was told to come again, or the connection broke.
    ForNow,
    /// A status that the miner has to judge.
    Status(StatusCode, String),
}

pub(super) struct Miner {
    pub(super) stage: Arc<Stage>,
    pub(super) collections: Vec<Arc<Collection>>,
    pub(super) client: Client,
    /// For what lies elsewhere, and is not shown the key.
    pub(super) outside: reqwest::Client,
    pub(super) dice: StdRng,
    /// Packages that it has deleted. Several orders of equal documents may have led to one.
    pub(super) deleted: BTreeSet<i64>,
}

impl Miner {
    /// Orders packages, one after the other, until all miners together have ordered enough; gives
    /// its own orders.
    pub(super) async fn run(mut self) -> (Self, Vec<Order>) {
        let mut orders = Vec::new();
        while self.stage.claim_order() {
            let collection = self.choose_collection().await;
            let selection = self.select(&collection);
            let Some(mut order) = self.order(collection, &selection).await else { continue };
            self.stage.ledger.count(Counted::Work, "packages ordered");
            if self.finish(&mut order).await {
                self.read_a_file(&order).await;
                if self.dice.random_bool(0.2) {
                    self.delete(&order).await;
                }
            }
            orders.push(order);
        }
        (self, orders)
    }

    /// One of the collections that have documents.
    async fn choose_collection(&mut self) -> Arc<Collection> {
        loop {
            let ready = self.collections.iter().filter(|collection| collection.has_documents());
            if let Some(collection) = ready.choose(&mut self.dice) {
                return Arc::clone(collection);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn select(&mut self, collection: &Collection) -> Selection {
        match self.dice.random_range(0..10) {
            0..2 => Selection::All,
            2..6 => Selection::Group(self.dice.random_range(0..GROUPS)),
            _ => {
                let state = collection.current();
                let lasting = state.keys().filter(|name| !will_be_withdrawn(name)).cloned();
                let count = self.dice.random_range(1..8);
                Selection::Refs(lasting.sample(&mut self.dice, count))
            }
        }
    }

    /// Makes a docset, reads its members, and orders a package of it.
    pub(super) async fn order(&mut self, collection: Arc<Collection>, selection: &Selection) -> Option<Order> {
        let mut body = json!({"collection": collection.slug});
        match selection {
            Selection::All => body["query"] = json!("*"),
            Selection::Group(group) => body["query"] = json!(format!("group{group}")),
            Selection::Refs(refs) => body["refs"] = json!(refs),
        }
        let since = collection.observe();
        let docset = self
            .insist("a docset", 201, |miner| miner.client.request(Method::POST, "/api/docsets").json(&body))
            .await?;
        self.stage.ledger.count(Counted::Work, "docsets");
        let docset = docset["id"].as_i64().unwrap();
        let members = self.members(docset).await?;
        let states = collection.states_with(since, selection, &members);
        if states.is_empty() {
            let text = format!("docset {docset} of {} ({selection:?}) is of no state: {members:?}", collection.slug);
            self.stage.ledger.find(Finding::Lost, text);
            return None;
        }
        let mut formats: Vec<&'static str> = FORMATS.to_vec();
        let has_pdf = states[0].iter().any(|(name, version)| collection.file(name, *version, "pdf").is_some());
        if !has_pdf || self.dice.random_bool(0.4) {
            formats.pop();
        }
        let layout = *LAYOUTS.choose(&mut self.dice).unwrap();
        let ask = json!({"formats": formats, "layout": layout});
        let sure = collection.withdrawn(false);
        let path = format!("/api/docsets/{docset}/packages");
        let package =
            self.insist("a package", 202, |miner| miner.client.request(Method::POST, &path).json(&ask)).await?;
        let withdrawn = [sure, collection.withdrawn(true)];
        let package = package["id"].as_i64().unwrap();
        Some(Order { package, docset, collection, members, states, formats, layout, withdrawn, sha256: None })
    }

    async fn members(&self, docset: i64) -> Option<BTreeSet<String>> {
        let path = format!("/api/docsets/{docset}/members?limit=1000");
        let page = self.insist("members", 200, |miner| miner.client.request(Method::GET, &path)).await?;
        Some(
            page["members"]
                .as_array()
                .unwrap()
                .iter()
                .map(|member| member["ref"].as_str().unwrap().to_owned())
                .collect(),
        )
    }

    /// Polls a package to its end, downloads and verifies it; tells whether all is well.
    async fn finish(&mut self, order: &mut Order) -> bool {
        let Some(package) = self.poll(order.package).await else { return false };
        if package["status"] != "successful" {
            let (id, problem) = (order.package, &package["problem"]);
            self.stage.ledger.find(Finding::Failed, format!("package {id} is {}: {problem}", package["status"]));
            return false;
        }
        order.sha256 = package["sha256"].as_str().map(str::to_owned);
        self.stage.ledger.count(Counted::Work, "packages finished");
        self.download(order, &package).await
    }

    async fn poll(&mut self, id: i64) -> Option<Value> {
        let path = format!("/api/packages/{id}");
        let mut deadline = Deadline::new();
        loop {
            let package =
                self.insist("a package's state", 200, |miner| miner.client.request(Method::GET, &path)).await?;
            if package["terminal"] == true {
                return Some(package);
            }
            if deadline.is_over(&self.stage) {
                self.stage.ledger.find(Finding::Stuck, format!("package {id} is not finished: {package}"));
                return None;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(100..900))).await;
        }
    }

    /// Fetches an archive until it has come whole, and verifies it.
    async fn download(&mut self, order: &Order, package: &Value) -> bool {
        let id = order.package;
        let mut deadline = Deadline::new();
        let bytes = loop {
            match self.fetch(&format!("/api/packages/{id}/download")).await {
                Ok(bytes) => break bytes,
                Err(Missing::Status(status, text)) => {
                    self.stage.ledger.find(Finding::Lost, format!("the archive of package {id}: {status} {text}"));
                    return false;
                }
                Err(Missing::ForNow) if deadline.is_over(&self.stage) => {
                    self.stage.ledger.find(Finding::Stuck, format!("the archive of package {id} cannot be fetched"));
                    return false;
                }
                Err(Missing::ForNow) => {}
            }
            self.stage.ledger.count(Counted::Repeated, "downloads");
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        self.stage.ledger.count(Counted::Work, "downloads");
        let is_right = package["sha256"].as_str().map(str::to_owned) == order.sha256
            && order.sha256 == Some(Sha256::of(&bytes).to_string())
            && package["size"].as_u64() == Some(bytes.len() as u64);
        let problem = if is_right { order.problem(&bytes) } else { Some("other bytes than told".to_owned()) };
        if let Some(problem) = problem {
            self.stage.ledger.find(Finding::WrongBytes, format!("package {id}: {problem}; {package}"));
            return false;
        }
        true
    }

    /// Fetches bytes from the API, or from where it leads to.
    async fn fetch(&self, path: &str) -> Result<Vec<u8>, Missing> {
        let answer =
            self.client.request(Method::GET, path).timeout(REQUEST).send().await.map_err(|_| Missing::ForNow)?;
        let status = answer.status();
        let answer = match answer.headers().get("location").and_then(|location| location.to_str().ok()) {
            Some(location) if status == 302 => {
                let answer = self.outside.get(location).timeout(REQUEST).send().await.map_err(|_| Missing::ForNow)?;
                // The line answers with errors of its own.
                if answer.status().is_server_error() {
                    return Err(Missing::ForNow);
                }
                answer
            }
            _ => answer,
        };
        let (status, url) = (answer.status(), answer.url().clone());
        let body = answer.bytes().await.map_err(|_| Missing::ForNow)?;
        match status.as_u16() {
            200 => Ok(body.to_vec()),
            503 => Err(Missing::ForNow),
            _ => Err(Missing::Status(status, format!("{url}: {}", String::from_utf8_lossy(&body)))),
        }
    }

    /// Reads a file of one of the members, unless it was withdrawn.
    async fn read_a_file(&mut self, order: &Order) {
        let path = format!("/api/docsets/{}/members?limit=1000", order.docset);
        let Some(page) = self.insist("members", 200, |miner| miner.client.request(Method::GET, &path)).await else {
            return;
        };
        let Some(member) = page["members"].as_array().unwrap().choose(&mut self.dice) else { return };
        let name = member["ref"].as_str().unwrap();
        let sure = order.collection.withdrawn(false).contains(name);
        let format = *["txt", "pdf"].choose(&mut self.dice).unwrap();
        match self.fetch(&format!("/api/documents/{}/files/{format}", member["id"])).await {
            Ok(bytes) => {
                let found = Sha256::of(&bytes);
                let is_right =
                    order.states.iter().any(|state| order.collection.file(name, state[name], format) == Some(found));
                if sure || !is_right {
                    let text = format!("file {format} of {name} of {}; withdrawn: {sure}", order.collection.slug);
                    self.stage.ledger.find(Finding::WrongBytes, text);
                }
                self.stage.ledger.count(Counted::Work, "files read");
            }
            Err(Missing::Status(status, text)) => {
                let has_it = order.collection.file(name, order.states[0][name], format).is_some();
                let may_be_gone = order.collection.withdrawn(true).contains(name);
                if status.is_server_error() || (has_it && !may_be_gone) {
                    self.stage.ledger.find(Finding::Lost, format!("file {format} of {name}: {status} {text}"));
                }
            }
            Err(Missing::ForNow) => {}
        }
    }

    async fn delete(&mut self, order: &Order) {
        let path = format!("/api/packages/{}", order.package);
        let deleted = self.insist("a deletion", 200, |miner| miner.client.request(Method::DELETE, &path)).await;
        if deleted.is_none() {
            return;
        }
        self.deleted.insert(order.package);
        self.stage.ledger.count(Counted::Work, "packages deleted");
    }

    /// Looks at an order again, at the end: all that was acknowledged is still so.
    pub(super) async fn look_again(&mut self, order: &mut Order) {
        if self.members(order.docset).await.is_some_and(|members| members != order.members) {
            self.stage.ledger.find(Finding::Lost, format!("docset {} has other members than before", order.docset));
        }
        let path = format!("/api/packages/{}", order.package);
        let Some(package) =
            self.insist("a package's state", 200, |miner| miner.client.request(Method::GET, &path)).await
        else {
            return;
        };
        if self.deleted.contains(&order.package) {
            if package["content"] != "erased" {
                self.stage.ledger.find(Finding::Lost, format!("package {} was deleted, and is there", order.package));
            }
        } else if order.sha256.is_some() {
            self.download(order, &package).await;
        }
    }

    /// Orders a package of all documents of a collection, and sees that it is complete.
    pub(super) async fn take_stock(&mut self, collection: &Arc<Collection>) -> Option<Order> {
        let mut order = self.order(Arc::clone(collection), &Selection::All).await?;
        let is_there = self.finish(&mut order).await;
        if !is_there || order.states != [collection.current()] {
            self.stage.ledger.find(Finding::Lost, format!("{} is not what was imported", collection.slug));
        }
        let body = json!({"query": "*", "limit": 0});
        let path = format!("/api/collections/{}/search", collection.slug);
        let found = self.insist("a search", 200, |miner| miner.client.request(Method::POST, &path).json(&body)).await?;
        if found["hits"] != json!(collection.current().len()) {
            self.stage.ledger.find(Finding::Lost, format!("searches in {} find {}", collection.slug, found["hits"]));
        }
        Some(order)
    }

    /// Repeats a request until it is answered with a success. What else may be answered is that
    /// something is away for now.
    async fn insist(&self, what: &str, status: u16, request: impl Fn(&Self) -> RequestBuilder) -> Option<Value> {
        let mut deadline = Deadline::new();
        loop {
            let answer = match request(self).timeout(REQUEST).send().await {
                Ok(answer) => Some((answer.status(), answer.text().await.ok())),
                Err(_) => None,
            };
            match answer {
                // A package that is there already is 200.
                Some((found, Some(text))) if found == status || (status == 202 && found == 200) => {
                    return Some(serde_json::from_str(&text).unwrap());
                }
                Some((found, None)) if found.is_success() => {}
                None | Some((StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _)) => {}
                Some((found, text)) => {
                    self.stage.ledger.find(Finding::Unexpected, format!("{what}: {found} {text:?}"));
                    return None;
                }
            }
            if deadline.is_over(&self.stage) {
                self.stage.ledger.find(Finding::Stuck, format!("{what} is not to be had"));
                return None;
            }
            self.stage.ledger.count(Counted::Repeated, "requests");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The time that something may take: none of it passes before the faults have stopped.
struct Deadline(Option<Instant>);

impl Deadline {
    fn new() -> Self {
        Self(None)
    }

    fn is_over(&mut self, stage: &Stage) -> bool {
        stage.is_calm() && self.0.get_or_insert_with(Instant::now).elapsed() > SETTLED
    }
}
