//! A world for a packager: an HTTP server, a broker, a store in a folder.

use std::io;
use std::sync::Mutex;

use adit_shared::clock::ManualClock;
use adit_shared::domain::Encoding;
use adit_shared::messaging::{BrokerServer, Complete, ServerConfig, StatusMessage};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
pub(super) use axum::response::Response;
use axum::routing::get;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{Corpus, folder};

/// The trace that requests belong to.
pub(super) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const KEY: &str = "the packager's key";
/// How long a part that is away is waited for, where the test waits for that.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// What the server answers.
pub(super) struct Answers {
    pub(super) manifest: Bytes,
    /// Answers that are refused before the manifest is given.
    pub(super) trouble: u32,
    /// What is answered instead of the manifest.
    pub(super) refusal: Option<fn() -> Response>,
    /// The manifest's stream does not come to its end.
    pub(super) hangs: bool,
    /// What the server says of the package when it is asked for the first time, second time, and so on.
    pub(super) standing: Vec<&'static str>,
    /// The package's fingerprint, where the server tells it.
    pub(super) fingerprint: Option<Sha256>,
    /// The package's salt, where the server tells it.
    pub(super) salt: Option<Salt>,
    /// The key's role; `None`: the server has no `/me`.
    pub(super) role: Option<&'static str>,
    /// What happens between the question for the manifest and its answer, once.
    pub(super) meanwhile: Option<BoxFuture<'static, ()>>,
}

pub(super) type Shared = Arc<Mutex<Answers>>;

async fn manifest(State(answers): State<Shared>, Path(docset): Path<i64>, headers: HeaderMap) -> Response {
    let meanwhile = answers.lock().unwrap().meanwhile.take();
    if let Some(meanwhile) = meanwhile {
        meanwhile.await;
    }
    let mut answers = answers.lock().unwrap();
    if headers.get("x-api-key").map(|key| key.as_bytes()) != Some(KEY.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if docset != 5 {
        return problem(StatusCode::NOT_FOUND, "not-found");
    }
    if let Some(refusal) = answers.refusal {
        return refusal();
    }
    if answers.trouble > 0 {
        answers.trouble -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let chunks = answers.manifest.chunks(100).map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk)));
    let chunks = futures::stream::iter(chunks.collect::<Vec<_>>());
    if answers.hangs { Body::from_stream(chunks.chain(futures::stream::pending())) } else { Body::from_stream(chunks) }
        .into_response()
}

async fn standing(State(answers): State<Shared>, Path(_): Path<i64>) -> Response {
    let (status, fingerprint, salt) = {
        let answers = &mut *answers.lock().unwrap();
        let standing = &mut answers.standing;
        (if standing.len() > 1 { standing.remove(0) } else { standing[0] }, answers.fingerprint, answers.salt)
    };
    let (fingerprint, salt) = (serde_json::json!(fingerprint), serde_json::json!(salt));
    match status {
        "hangs" => std::future::pending().await,
        "away" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "unknown" => problem(StatusCode::NOT_FOUND, "not-found"),
        "gone" => problem(StatusCode::GONE, "archive-gone"),
        "another path's 404" => problem(StatusCode::NOT_FOUND, "no-such-path"),
        "a proxy's 404" => (StatusCode::NOT_FOUND, "<h1>Not Found</h1>").into_response(),
        "a proxy's 410" => (StatusCode::GONE, r#"{"type": "about:blank"}"#).into_response(),
        "of 999 documents" => r#"{"id": 7, "status": "running", "documents": {"requested": 999}}"#.into_response(),
        status => {
            format!(r#"{{"id": 7, "docset": 5, "status": "{status}", "fingerprint": {fingerprint}, "salt": {salt}}}"#)
                .into_response()
        }
    }
}

pub(super) fn problem(status: StatusCode, slug: &str) -> Response {
    let body = format!(r#"{{"type": "urn:adit:problem:{slug}", "status": {}}}"#, status.as_u16());
    (status, [("content-type", "application/problem+json")], body).into_response()
}

async fn me(State(answers): State<Shared>) -> Response {
    match answers.lock().unwrap().role {
        Some("away") => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some("misplaced") => problem(StatusCode::NOT_FOUND, "no-such-path"),
        Some("refused") => problem(StatusCode::UNAUTHORIZED, "unauthorized"),
        Some(role) => format!(r#"{{"id": 1, "name": "the key", "role": "{role}"}}"#).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A server, a broker, a store, and perhaps a packager.
pub(super) struct World {
    pub(super) corpus: Corpus,
    pub(super) answers: Shared,
    pub(super) api: Url,
    pub(super) server: BrokerServer,
    pub(super) broker: Broker,
    pub(super) clock: Arc<ManualClock>,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) part_size: u64,
    _folder: Option<tempfile::TempDir>,
}

pub(super) struct Worker {
    pub(super) stop: CancellationToken,
    pub(super) run: JoinHandle<Result<(), PackagerError>>,
}

impl Worker {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.run.await.unwrap().unwrap();
    }
}

pub(super) fn corpus() -> Corpus {
    let mut corpus = Corpus::default();
    for i in 0..20 {
        let text = format!("{i} words ").repeat(400);
        corpus.add(&format!("doc {i}"), &[("txt", text.as_bytes(), Encoding::Identity)]);
    }
    corpus.add("none", &[]);
    corpus
}

impl World {
    pub(super) async fn new() -> Self {
        let (folder, objects) = folder().await;
        Self { _folder: Some(folder), ..Self::on(corpus(), objects).await }
    }

    /// A world with that corpus in that store.
    pub(super) async fn on(corpus: Corpus, objects: Arc<dyn ObjectStore>) -> Self {
        let answers = Answers {
            manifest: corpus.manifest().into(),
            trouble: 0,
            refusal: None,
            hangs: false,
            standing: vec!["running"],
            fingerprint: None,
            salt: None,
            role: Some("packager"),
            meanwhile: None,
        };
        let answers = Arc::new(Mutex::new(answers));
        let router = Router::new()
            .route("/api/docsets/{id}/manifest", get(manifest))
            .route("/api/packages/{id}", get(standing))
            .route("/api/me", get(me))
            .with_state(answers.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}/api", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = BrokerServer::start(ServerConfig::default()).await.unwrap();
        let broker = Broker::new(format!("stomp://{}", server.addr().unwrap()).parse().unwrap());
        corpus.store(&*objects).await;
        Self { corpus, answers, api, server, broker, clock: Arc::default(), objects, part_size: 4096, _folder: None }
    }

    /// The same with a broker of its own, as a second packager sees it that holds the same requests.
    pub(super) async fn twin(&self) -> Self {
        let server = BrokerServer::start(ServerConfig::default()).await.unwrap();
        let broker = Broker::new(format!("stomp://{}", server.addr().unwrap()).parse().unwrap());
        let (corpus, answers, api) = (self.corpus.clone(), self.answers.clone(), self.api.clone());
        let (clock, objects, part_size) = (self.clock.clone(), self.objects.clone(), self.part_size);
        Self { corpus, answers, api, server, broker, clock, objects, part_size, _folder: None }
    }

    pub(super) fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    pub(super) fn packager(&self) -> Worker {
        self.packager_on(self.objects.clone())
    }

    pub(super) fn packager_on(&self, objects: Arc<dyn ObjectStore>) -> Worker {
        self.start(objects, |_| ())
    }

    /// A packager with other settings.
    pub(super) fn packager_with(&self, change: impl FnOnce(&mut PackagerConfig)) -> Worker {
        self.start(self.objects.clone(), change)
    }

    fn start(&self, objects: Arc<dyn ObjectStore>, change: impl FnOnce(&mut PackagerConfig)) -> Worker {
        let mut config = PackagerConfig::new(KEY.to_owned(), self.api.clone());
        (config.part_size, config.workers) = (self.part_size, 2);
        (config.attempts, config.patience) = (3, PATIENCE);
        config.longest_backoff = Duration::from_millis(20);
        (config.backoff, config.ask_every) = (Duration::from_millis(1), Duration::from_millis(1));
        config.progress_every = Duration::from_millis(1);
        config.steady_after = Duration::ZERO;
        change(&mut config);
        // What it says before it knows its turn is numbered by the time.
        self.clock.advance(1000);
        let stop = CancellationToken::new();
        let run = run(config, self.broker.clone(), objects, self.clock.clone(), stop.clone());
        Worker { stop, run: tokio::spawn(run) }
    }

    pub(super) async fn ask(&self, body: &str) {
        self.ask_for(PACKAGE, body).await;
    }

    /// Sends a request whose statuses go to the queue of that package.
    pub(super) async fn ask_for(&self, package: SaltedPackage, body: &str) {
        let reply_to = format!("/queue/package/{package}");
        let message = Outgoing::new(body).header("reply-to", reply_to).header("traceparent", TRACEPARENT);
        self.broker.publish(&Queue::PackageRequests, message).await.unwrap();
    }

    /// Hands the request that waits out to somebody who breaks off.
    pub(super) async fn hand_out(&self) {
        let mut consumer = self.broker.consume(&Queue::PackageRequests, 1).await.unwrap();
        assert!(!consumer.next().await.unwrap().redelivered());
    }

    pub(super) fn request(&self) -> String {
        format!("{}/docsets/5?fmt=txt&package=7", self.api)
    }

    /// Statuses until one is final, in the order of the queue.
    pub(super) async fn statuses(&self, queue: &str) -> Vec<(u64, StatusMessage)> {
        let mut all = Vec::new();
        let reading = async {
            while !all.last().is_some_and(|(_, last)| is_final(last)) {
                all.extend(self.waiting(queue).await);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reading).await.expect("a final status within 30 s");
        assert!(all.is_sorted_by_key(|(sequence, _)| *sequence), "{all:?}");
        all
    }

    /// Statuses that wait now.
    pub(super) async fn waiting(&self, queue: &str) -> Vec<(u64, StatusMessage)> {
        loop {
            let drained = self.broker.drain(&Queue::Package(queue.to_owned())).await.unwrap().unwrap();
            let all = drained.messages().iter().map(|message| {
                let sequence = message.headers.get("sequence").unwrap().parse().unwrap();
                (sequence, message.text().unwrap().parse().unwrap())
            });
            let all = all.collect();
            // What is not acknowledged is still there.
            if drained.ack().await.is_ok() {
                return all;
            }
        }
    }

    pub(super) async fn last(&self) -> StatusMessage {
        self.statuses("7").await.pop().unwrap().1
    }

    pub(super) async fn complete(&self) -> Complete {
        match self.last().await {
            StatusMessage::Complete(complete) => complete,
            other => panic!("not complete: {other}"),
        }
    }

    pub(super) async fn failed(&self) -> String {
        match self.last().await {
            StatusMessage::Failed { reason } => reason,
            other => panic!("not failed: {other}"),
        }
    }

    /// Waits until a queue has so many messages, handed out or not.
    pub(super) async fn wait_for(&self, queue: &Queue, messages: u64) {
        let name = queue.logical();
        let waiting = async {
            loop {
                let queues = self.server.queues();
                let info = queues.iter().find(|info| format!("/queue/{}", info.name) == name);
                if info.map_or(0, |info| info.ready + info.unacknowledged) == messages {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the queue to get there within 30 s");
    }

    pub(super) async fn keys(&self) -> Vec<String> {
        self.objects.list("packages/").await.unwrap().into_iter().map(|(key, _)| key).collect()
    }

    pub(super) async fn buried(&self) -> (String, String) {
        let dead = Queue::Dead(Box::new(Queue::PackageRequests));
        self.wait_for(&dead, 1).await;
        self.wait_for(&Queue::PackageRequests, 0).await;
        let mut consumer = self.broker.consume(&dead, 1).await.unwrap();
        let message = consumer.next().await.unwrap().message;
        (message.text().unwrap().to_owned(), message.headers.get("reason").unwrap().to_owned())
    }
}

pub(super) fn is_final(status: &StatusMessage) -> bool {
    !matches!(status, StatusMessage::Accepted { .. } | StatusMessage::Progress { .. })
}
