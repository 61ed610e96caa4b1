//! The miner who is measured: searches, polls a package and downloads it, in turn, with a short rest after each round.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::generator::{Dice, word};
use super::support::{Client, Server};
use super::{Outcome, SLUG};

/// Rest after each round.
const REST: Duration = Duration::from_millis(50);

/// Time and outcome of one kind of request.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Kind of request.
    pub(crate) name: &'static str,
    times: Vec<Duration>,
    refused: usize,
    failed: usize,
}

impl Figures {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new(), refused: 0, failed: 0 }
    }

    /// Counts the answers that were good.
    pub(crate) fn requests(&self) -> usize {
        self.times.len()
    }

    /// Counts the answers of 429.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// Counts the answers of 5xx and those that did not arrive whole.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// Gives a percentile of the times of good answers; zero where there is none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).copied().unwrap_or_default()
    }

    /// Sends a request and reads its answer to the end.
    async fn measure(&mut self, request: reqwest::RequestBuilder) {
        let began = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            response.bytes().await.map(|_| status)
        };
        match answer.await {
            Ok(status) if status.is_success() => self.times.push(began.elapsed()),
            Ok(status) if status == 429 => self.refused += 1,
            outcome => {
                eprintln!("  the miner's {}: {outcome:?} after {:?}", self.name, began.elapsed());
                self.failed += 1;
            }
        }
    }
}

/// Has a package of a query's hits built.
pub(crate) async fn build(client: &Client, query: &str, wish: &Value) -> Outcome<Value> {
    let package = client.package(client.docset(SLUG, query).await, wish).await;
    if package["status"] == "successful" { Ok(package) } else { Err(package.to_string().into()) }
}

/// A miner with a key and a finished package.
pub(crate) struct Miner {
    client: Client,
    package: Value,
}

impl Miner {
    /// Has the package built that is polled and downloaded.
    pub(crate) async fn prepare(server: &Server, key: &str) -> Outcome<Self> {
        let client = Client::new(&server.url, key);
        let query = format!("{} -ref:hostile*", word(150));
        let package = build(&client, &query, &json!({"formats": ["txt", "meta"], "layout": "bag"})).await?;
        Ok(Self { client, package })
    }

    /// Works for a time; gives the figures of searches, polls and downloads.
    pub(crate) async fn work_for(&self, duration: Duration) -> [Figures; 3] {
        let [mut searches, mut polls, mut downloads] = ["search", "poll", "download"].map(Figures::new);
        let (poll, download) =
            (format!("/api/packages/{}", self.package["id"]), self.package["download"].as_str().unwrap_or_default());
        let mut dice = Dice::new(7, 0, 0);
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let query = format!("{} {}", word(20 + dice.below(200) as usize), word(20 + dice.below(200) as usize));
            let path = format!("/api/collections/{SLUG}/search");
            let body = json!({"query": query, "facets": ["year", "type"]});
            searches.measure(self.client.request(Method::POST, &path).json(&body)).await;
            polls.measure(self.client.request(Method::GET, &poll)).await;
            downloads.measure(self.client.request(Method::GET, download)).await;
            tokio::time::sleep(REST).await;
        }
        [searches, polls, downloads]
    }
}
