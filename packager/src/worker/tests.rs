//! The packager whole: requests over the embedded broker, a server on HTTP, archives in a folder.

use std::io;
use std::sync::Mutex;

use adit_shared::clock::ManualClock;
use adit_shared::digest::Sha256;
use adit_shared::domain::{Encoding, Layout};
use adit_shared::ids::PackageId;
use adit_shared::messaging::{BrokerServer, Complete, DeleteRequest, ServerConfig, StatusMessage};
use adit_shared::objects::{Call, ObjectKey, Recorder};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::build::{Build, State as Memory};
use crate::testing::{Corpus, Fused, folder};

const KEY: &str = "the packager's key";

/// What the server answers.
struct Answers {
    manifest: Bytes,
    /// Answers that are refused before the manifest is given.
    trouble: u32,
    /// The manifest's stream does not come to its end.
    hangs: bool,
    /// What the server says of the package when it is asked for the first time, second time, and so on.
    standing: Vec<&'static str>,
    /// The key's role; `None`: the server has no `/me`.
    role: Option<&'static str>,
    /// What happens between the question for the manifest and its answer, once.
    meanwhile: Option<BoxFuture<'static, ()>>,
}

type Shared = Arc<Mutex<Answers>>;

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
        return StatusCode::NOT_FOUND.into_response();
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
    let mut answers = answers.lock().unwrap();
    let status = if answers.standing.len() > 1 { answers.standing.remove(0) } else { answers.standing[0] };
    match status {
        "unknown" => problem(StatusCode::NOT_FOUND, "not-found"),
        "gone" => problem(StatusCode::GONE, "archive-gone"),
        "another's 404" => problem(StatusCode::NOT_FOUND, "no-such-route"),
        "a proxy's 404" => (StatusCode::NOT_FOUND, "<h1>Not Found</h1>").into_response(),
        "a proxy's 410" => (StatusCode::GONE, r#"{"type": "about:blank"}"#).into_response(),
        status => format!(r#"{{"id": 7, "status": "{status}", "terminal": false}}"#).into_response(),
    }
}

fn problem(status: StatusCode, slug: &str) -> Response {
    let body = format!(r#"{{"type": "urn:adit:problem:{slug}", "status": {}}}"#, status.as_u16());
    (status, [("content-type", "application/problem+json")], body).into_response()
}

async fn me(State(answers): State<Shared>) -> Response {
    match answers.lock().unwrap().role {
        Some("away") => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(role) => format!(r#"{{"id": 1, "name": "the key", "role": "{role}"}}"#).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A server, a broker, a store, and perhaps a packager.
struct World {
    corpus: Corpus,
    answers: Shared,
    api: Url,
    server: BrokerServer,
    broker: Broker,
    clock: Arc<ManualClock>,
    objects: Arc<dyn ObjectStore>,
    _folder: tempfile::TempDir,
}

struct Worker {
    stop: CancellationToken,
    run: JoinHandle<Result<(), PackagerError>>,
}

impl Worker {
    async fn stop(self) {
        self.stop.cancel();
        self.run.await.unwrap().unwrap();
    }
}

fn corpus() -> Corpus {
    let mut corpus = Corpus::default();
    for i in 0..20 {
        let text = format!("{i} words ").repeat(400);
        corpus.add(&format!("doc {i}"), &[("txt", text.as_bytes(), Encoding::Identity)]);
    }
    corpus.add("none", &[]);
    corpus
}

impl World {
    async fn new() -> Self {
        let corpus = corpus();
        let answers = Answers {
            manifest: corpus.manifest().into(),
            trouble: 0,
            hangs: false,
            standing: vec!["running"],
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
        let broker = Broker::new(format!("stomp://{}", server.addr()).parse().unwrap());
        let (_folder, objects) = folder().await;
        corpus.store(&*objects).await;
        Self { corpus, answers, api, server, broker, clock: Arc::default(), objects, _folder }
    }

    fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    fn packager(&self) -> Worker {
        self.packager_on(self.objects.clone())
    }

    fn packager_on(&self, objects: Arc<dyn ObjectStore>) -> Worker {
        self.packager_at(Some(self.api.clone()), objects)
    }

    fn packager_at(&self, api: Option<Url>, objects: Arc<dyn ObjectStore>) -> Worker {
        let mut config = PackagerConfig::new(KEY.to_owned(), api);
        config.part_size = 4096;
        config.attempts = 3;
        (config.backoff, config.ask_every) = (Duration::from_millis(1), Duration::from_millis(1));
        config.progress_every = Duration::from_millis(1);
        let stop = CancellationToken::new();
        let run = run(config, self.broker.clone(), objects, self.clock.clone(), stop.clone());
        Worker { stop, run: tokio::spawn(run) }
    }

    async fn ask(&self, body: &str) {
        let message = Outgoing::new(body).header("reply-to", "/queue/package/7").header("traceparent", "00-ab-cd-01");
        self.broker.publish(&Queue::PackageRequests, message).await.unwrap();
    }

    fn request(&self) -> String {
        format!("{}/docsets/5?fmt=txt&package=7", self.api)
    }

    /// Statuses until one is final, in the order of the queue.
    async fn statuses(&self, queue: &str) -> Vec<(u64, StatusMessage)> {
        let mut all = Vec::new();
        let reading = async {
            while !all.last().is_some_and(|(_, last)| is_final(last)) {
                let drained = self.broker.drain(&Queue::Package(queue.to_owned())).await.unwrap().unwrap();
                for message in drained.messages() {
                    let sequence = message.headers.get("sequence").unwrap().parse().unwrap();
                    all.push((sequence, message.text().unwrap().parse().unwrap()));
                }
                drained.ack().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reading).await.expect("a final status within 30 s");
        assert!(all.is_sorted_by_key(|(sequence, _)| *sequence), "{all:?}");
        all
    }

    async fn last(&self) -> StatusMessage {
        self.statuses("7").await.pop().unwrap().1
    }

    async fn complete(&self) -> Complete {
        match self.last().await {
            StatusMessage::Complete(complete) => complete,
            other => panic!("not complete: {other}"),
        }
    }

    async fn failed(&self) -> String {
        match self.last().await {
            StatusMessage::Failed { reason } => reason,
            other => panic!("not failed: {other}"),
        }
    }

    /// Waits until a queue has so many messages, handed out or not.
    async fn wait_for(&self, queue: &Queue, messages: u64) {
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

    async fn keys(&self) -> Vec<String> {
        self.objects.list("packages/").await.unwrap().into_iter().map(|(key, _)| key).collect()
    }

    async fn buried(&self) -> (String, String) {
        let dead = Queue::Dead(Box::new(Queue::PackageRequests));
        self.wait_for(&dead, 1).await;
        self.wait_for(&Queue::PackageRequests, 0).await;
        let mut consumer = self.broker.consume(&dead, 1).await.unwrap();
        let message = consumer.next().await.unwrap().message;
        (message.text().unwrap().to_owned(), message.headers.get("reason").unwrap().to_owned())
    }
}

fn is_final(status: &StatusMessage) -> bool {
    !matches!(status, StatusMessage::Accepted { .. } | StatusMessage::Progress { .. })
}

#[tokio::test]
async fn a_request_becomes_an_archive() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask(&world.request()).await;
    let statuses = world.statuses("7").await;
    assert!(matches!(statuses[0], (1_000_001, StatusMessage::Accepted { .. })), "{statuses:?}");
    assert!(statuses.iter().any(|(_, said)| matches!(said, StatusMessage::Accepted { seconds: Some(1) })));
    let Some((_, StatusMessage::Complete(complete))) = statuses.last() else { panic!("{statuses:?}") };
    assert_eq!(complete.url, format!("{}/packages/7/download", world.api));
    let key = world.keys().await.remove(0);
    let archive = world.objects.get(&key, None).await.unwrap();
    assert_eq!((complete.size, complete.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    assert_eq!((complete.documents, complete.omitted, complete.parts_reused), (Some(20), Some(1), Some(0)));
    world.corpus.assert_holds(&archive, Layout::Flat);
    world.wait_for(&Queue::PackageRequests, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn the_same_request_again_is_answered_at_once() {
    let world = World::new().await;
    let recorder = Recorder::new(world.objects.clone());
    let worker = world.packager_on(Arc::new(recorder.clone()));
    world.ask(&world.request()).await;
    let first = world.complete().await;
    let puts = recorder.counts().of(Call::PutPart);
    world.answer(|answers| answers.manifest = Bytes::from_static(b"no longer to be had"));
    // More often than a request may fail: these succeed.
    for delivery in 2..=6 {
        world.ask(&world.request()).await;
        let (sequence, again) = world.statuses("7").await.pop().unwrap();
        let parts_reused = Some(puts.calls as u32);
        assert_eq!(again, StatusMessage::Complete(Complete { parts_reused, ..first.clone() }));
        assert_eq!(sequence, delivery * 1_000_000 + 1);
    }
    assert_eq!(recorder.counts().of(Call::PutPart), puts);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_buried_and_the_next_one_served() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask("make me a package").await;
    world.ask(&world.request()).await;
    world.complete().await;
    let (body, reason) = world.buried().await;
    assert_eq!(body, "make me a package");
    assert!(reason.contains("URL"), "{reason}");
    worker.stop().await;
}

#[tokio::test]
async fn a_docset_that_the_server_does_not_know_fails_at_once() {
    let world = World::new().await;
    let worker = world.packager();
    let request = format!("{}/docsets/6?fmt=txt&package=7", world.api);
    world.ask(&request).await;
    let reason = world.failed().await;
    assert!(reason.contains("404") && reason.contains("/docsets/6/manifest"), "{reason}");
    assert_eq!(world.buried().await, (request, reason));
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_build_that_fails_leaves_the_archive_that_another_process_has_finished() {
    let world = World::new().await;
    let (objects, plan) = (world.objects.clone(), Arc::new(world.corpus.plan(Layout::Flat, 4096)));
    let elsewhere = async move {
        let build =
            Build::new(objects, PackageId(7), plan, Memory::default(), watch::Sender::default(), Spare::default());
        build.run(CancellationToken::new()).await.unwrap().expect("nobody halts it");
    };
    world.answer(|answers| answers.meanwhile = Some(elsewhere.boxed()));
    let worker = world.packager();
    // The server takes the docset for unknown when it is asked once more.
    world.ask(&format!("{}/docsets/6?fmt=txt&package=7", world.api)).await;
    let complete = world.complete().await;
    let keys = world.keys().await;
    let archive = world.objects.get(&keys[0], None).await.unwrap();
    assert_eq!((complete.size, complete.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    world.wait_for(&Queue::PackageRequests, 0).await;

    // Nor does it fall to a request that nothing can be made of.
    world.ask(&format!("{}/docsets/six?package=7", world.api)).await;
    world.failed().await;
    world.buried().await;
    assert_eq!(world.keys().await, keys);
    worker.stop().await;
}

#[tokio::test]
async fn a_request_that_names_an_old_address_of_the_server_is_built_all_the_same() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask("http://moved.example/api/docsets/5?fmt=txt&package=7").await;
    assert_eq!(world.complete().await.url, format!("{}/packages/7/download", world.api));
    worker.stop().await;
}

#[tokio::test]
async fn a_damaged_document_is_named_and_nothing_is_left() {
    let world = World::new().await;
    let place = &world.corpus.members[11].files[0].place;
    let mut pack = world.corpus.packs[&place.object].clone();
    pack[place.offset as usize + 7] ^= 1;
    world.objects.put(&place.object, pack.into()).await.unwrap();
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.contains("\"doc 11\"") && reason.contains("CRC-32"), "{reason}");
    assert_eq!(world.keys().await, [""; 0]);
    world.buried().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_manifest_that_was_cut_is_asked_for_again() {
    let world = World::new().await;
    let whole = world.corpus.manifest();
    let cut = whole[..whole.len() - 20].to_vec();
    world.answer(|answers| answers.manifest = cut.into());
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.contains("cut after 20 of 21 documents (after 3 attempts)"), "{reason}");
    worker.stop().await;
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let world = World::new().await;
    world.answer(|answers| answers.trouble = 2);
    let worker = world.packager();
    world.ask(&world.request()).await;
    let (sequence, last) = world.statuses("7").await.pop().unwrap();
    assert!(matches!(last, StatusMessage::Complete(_)) && sequence > 3_000_000, "{sequence}: {last}");
    worker.stop().await;
}

#[tokio::test]
async fn a_store_that_stays_away_fails_the_package_after_the_last_attempt() {
    let world = World::new().await;
    let worker = world.packager_on(Arc::new(Fused::new(world.objects.clone(), 0)));
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.ends_with("the fuse has blown (after 3 attempts)"), "{reason}");
    world.buried().await;
    worker.stop().await;
}

#[tokio::test]
async fn attempts_that_ended_with_their_process_count() {
    let world = World::new().await;
    let memory = Memory { attempts: 3, ..Memory::default() };
    memory.save(&*world.objects, PackageId(7)).await.unwrap();
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.starts_with("given up: 3 attempts"), "{reason}");
    assert_eq!(world.keys().await, [""; 0]);
    // That is settled; asked for anew, it is tried anew, and what is said then is newer than all that was said before.
    world.clock.advance(9000);
    world.ask(&world.request()).await;
    let (sequence, last) = world.statuses("7").await.pop().unwrap();
    assert!(matches!(last, StatusMessage::Complete(_)) && sequence > 9_000_000, "{sequence}: {last}");
    worker.stop().await;
}

#[tokio::test]
async fn a_package_that_is_dismissed_or_gone_is_not_built() {
    for standing in [
        vec!["dismissed"],
        vec!["unknown"],
        vec!["gone"],
        vec!["running", "dismissed"],
        vec!["running", "running", "unknown"],
    ] {
        let world = World::new().await;
        world.answer(|answers| answers.standing = standing);
        let worker = world.packager();
        world.ask(&world.request()).await;
        assert_eq!(world.last().await, StatusMessage::Dismissed);
        world.wait_for(&Queue::PackageRequests, 0).await;
        assert_eq!(world.keys().await, [""; 0]);
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_404_that_is_not_the_servers_own_dismisses_nothing() {
    for standing in ["another's 404", "a proxy's 404", "a proxy's 410"] {
        let world = World::new().await;
        world.answer(|answers| answers.standing = vec![standing]);
        let worker = world.packager();
        world.ask(&world.request()).await;
        world.complete().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_miners_key_is_refused_at_the_start() {
    let world = World::new().await;
    world.answer(|answers| answers.role = Some("miner"));
    let reason = world.packager().run.await.unwrap().unwrap_err().to_string();
    assert!(reason.contains("role miner") && reason.contains("--role packager"), "{reason}");
}

#[tokio::test]
async fn a_miners_key_that_is_found_out_later_fails_the_package_and_dismisses_nothing() {
    let world = World::new().await;
    world.answer(|answers| (answers.role, answers.standing) = (Some("miner"), vec!["unknown"]));
    let worker = world.packager_at(None, world.objects.clone());
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.contains("role miner") && reason.contains("--role packager"), "{reason}");
    assert_eq!(world.buried().await.1, reason);
    worker.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_tell_roles_is_served() {
    for role in [None, Some("builder"), Some("operator")] {
        let world = World::new().await;
        world.answer(|answers| answers.role = role);
        let worker = world.packager();
        world.ask(&world.request()).await;
        world.complete().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let world = World::new().await;
    world.answer(|answers| answers.role = Some("away"));
    world.ask(&world.request()).await;
    let worker = world.packager();
    world.failed().await;
    world.answer(|answers| answers.role = Some("packager"));
    world.ask(&world.request()).await;
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_delete_calls_off_the_build_and_removes_what_is_there() {
    let world = World::new().await;
    let delete = || Outgoing::new(DeleteRequest { package: PackageId(7) });
    let worker = world.packager();
    world.ask(&world.request()).await;
    world.complete().await;
    assert_eq!(world.keys().await.len(), 2);
    world.broker.publish(&Queue::Deletes, delete()).await.unwrap();
    world.wait_for(&Queue::Deletes, 0).await;
    assert_eq!(world.keys().await, [""; 0]);

    world.answer(|answers| answers.hangs = true);
    world.ask(&world.request()).await;
    // Its memory is there as soon as it has begun.
    while world.keys().await != [ObjectKey::Build { package: PackageId(7) }.to_string()] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.broker.publish(&Queue::Deletes, delete()).await.unwrap();
    assert_eq!(world.last().await, StatusMessage::Dismissed);
    world.wait_for(&Queue::Deletes, 0).await;
    world.wait_for(&Queue::PackageRequests, 0).await;
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_packager_that_stops_gives_its_work_back() {
    let world = World::new().await;
    world.answer(|answers| answers.hangs = true);
    world.ask(&world.request()).await;
    // More often than a request may fail: being stopped is no failure.
    for turn in 1..=5 {
        let worker = world.packager();
        while Memory::load(&*world.objects, PackageId(7)).await.unwrap().turn < turn {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.stop().await;
        world.wait_for(&Queue::PackageRequests, 1).await;
    }
    world.answer(|answers| answers.hangs = false);
    let worker = world.packager();
    world.complete().await;
    world.wait_for(&Queue::PackageRequests, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_request_without_a_number_is_built_under_one_of_its_own() {
    let world = World::new().await;
    let worker = world.packager();
    let body = format!("{}/docsets/5?fmt=txt", world.api);
    world.broker.publish(&Queue::PackageRequests, Outgoing::new(&body)).await.unwrap();
    // Without reply-to, the statuses go to the queue of the docset's number.
    let Some((_, StatusMessage::Complete(complete))) = world.statuses("5").await.pop() else { panic!("not complete") };
    assert!(complete.url.starts_with("packages/-") && complete.url.ends_with(".zip"), "{}", complete.url);
    let archive = world.objects.get(&complete.url, None).await.unwrap();
    world.corpus.assert_holds(&archive, Layout::Flat);
    worker.stop().await;
}
