//! Watches: what is new after an import becomes a docset, once, and a webhook is told of it by messages that it can check.
//! The tests run on several threads, because the receiver answers while a test waits for a process.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use adit_shared::webhook::WebhookSecret;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, adit, eventually, expect, small, succeed, succeeded, text, within, write_collection};

/// Lets webhooks be on this machine, as an operator would for a network of their own.
const ALLOW: (&str, &str) = ("ADIT_WEBHOOK_ALLOW", "127.0.0.0/8, ::1");

/// What came to a receiver.
#[derive(Clone)]
struct Message {
    path: String,
    headers: HeaderMap,
    body: String,
}

/// An HTTP server that gets messages. It answers with the statuses that it was told, one after the other, then with 204; 0 is no answer at all.
#[derive(Clone, Default)]
struct Receiver {
    port: u16,
    answers: Arc<Mutex<VecDeque<u16>>>,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver =
            Self { port, answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let message = Message {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    receiver.seen.lock().unwrap().push(message);
    let answer = receiver.answers.lock().unwrap().pop_front().unwrap_or(204);
    if answer == 0 {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(answer).unwrap();
    (status, [(header::LOCATION, "/elsewhere")], "x".repeat(100_000)).into_response()
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Checks it as a receiver does: by the secret, over exactly what came.
    fn verify(&self, secret: &str) {
        let secret = WebhookSecret::new(STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
        let timestamp = self.header("webhook-timestamp").parse().unwrap();
        let signature = secret.sign(self.header("webhook-id"), timestamp, self.body.as_bytes());
        assert_eq!(self.header("webhook-signature"), signature);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(timestamp.unsigned_abs()) < 300, "a receiver takes no old messages");
    }
}

/// The collection of [`small`] with one document changed, one unchanged, and new ones.
fn second_state(parent: &Path) -> PathBuf {
    let documents = [
        text("doc.0", "On coal", "A treatise on mining coal, revised."),
        text("doc.1", "On iron", &"A treatise on mining iron. ".repeat(50)),
        text("new.0", "On tin", "Mining tin."),
        text("new.1", "On wheat", "Not a word of it."),
    ];
    write_collection(parent, "c", &documents)
}

fn import(data: &Path, folder: &Path) -> Command {
    let mut command = adit(data);
    command.arg("import").arg(folder).env(ALLOW.0, ALLOW.1);
    command
}

/// A server on a small collection, and a watch for what is mined.
async fn watched(receiver: &Receiver) -> (TempDir, Server, Value) {
    let (dir, server) = small(&[ALLOW]);
    let wish = json!({"query": "mining", "name": "mines", "webhook": receiver.url()});
    let made = expect(server.post("/api/collections/c/watch", &wish).await, 201).await;
    (dir, server, made)
}

async fn shown(server: &Server, watch: &Value) -> Value {
    server.json(&format!("/api/watches/{}", watch["id"])).await
}

async fn refs_of(server: &Server, docset: &Value) -> Vec<String> {
    let members = server.json(&format!("{}/members", docset.as_str().unwrap())).await;
    members["members"].as_array().unwrap().iter().map(|m| m["ref"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_frozen_once_and_the_webhook_is_told_until_it_listens() {
    let receiver = Receiver::start(&[500, 503]).await;
    let (dir, server, made) = watched(&receiver).await;
    let (secret, data) = (made["secret"].as_str().unwrap(), server.data.clone());
    assert_eq!(
        (&made["corpus_version"], &made["query"], &made["name"]),
        (&json!(1), &json!("mining"), &json!("mines"))
    );
    assert!(!shown(&server, &made).await.to_string().contains("whsec"), "the secret is shown once");

    // What was there when the watch was made is not new.
    succeeded(&mut import(&data, &dir.path().join("c-folder")));
    assert_eq!(shown(&server, &made).await["notices"], json!([]));

    let folder = second_state(dir.path());
    succeeded(&mut import(&data, &folder));
    let watch = shown(&server, &made).await;
    let notice = &watch["notices"][0];
    assert_eq!((&watch["corpus_version"], watch["notices"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!(refs_of(&server, &notice["docset"]).await, ["doc.0", "new.0"]);
    let docset = server.json(notice["docset"].as_str().unwrap()).await;
    assert_eq!((&docset["name"], &docset["size"], &docset["corpus_version"]), (&json!("mines"), &json!(2), &json!(2)));
    assert_eq!(docset["origin"]["watch"], json!({"id": made["id"], "query": "mining", "since": 1}));
    // Twice within the import, which the receiver refused; the next attempt is due later.
    assert_eq!((&notice["state"], &notice["attempts"], &notice["status"]), (&json!("pending"), &json!(2), &json!(503)));
    assert!(succeed(&data, &["watches", "deliver"]).contains("0 docset(s) made, 0 webhook(s) told"));
    let delivered = succeeded(adit(&data).args(["watches", "deliver", "--now"]).env(ALLOW.0, ALLOW.1));
    assert!(delivered.contains("0 docset(s) made, 1 webhook(s) told"), "{delivered}");
    let notice = &shown(&server, &made).await["notices"][0];
    assert_eq!(
        (&notice["state"], &notice["attempts"], &notice["status"]),
        (&json!("delivered"), &json!(3), &json!(204))
    );

    let seen = receiver.seen();
    assert_eq!(seen.len(), 3);
    for message in &seen {
        message.verify(secret);
        assert_eq!((message.header("webhook-id"), &message.body), (notice["id"].as_str().unwrap(), &seen[0].body));
        assert_eq!((message.path.as_str(), message.header("content-type")), ("/hook", "application/json"));
    }
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!((&body["type"], &body["timestamp"]), (&json!("watch.found"), &notice["created"]));
    assert_eq!((&body["data"]["docset"]["url"], &body["data"]["docset"]["size"]), (&notice["docset"], &json!(2)));
    assert_eq!(body["data"]["watch"]["url"], made["url"]);

    succeeded(&mut import(&data, &folder));
    assert_eq!((receiver.seen().len(), shown(&server, &made).await["notices"].as_array().unwrap().len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_leaves_its_watches_to_the_next() {
    let receiver = Receiver::start(&[0]).await;
    let (dir, server, made) = watched(&receiver).await;
    let data = server.data.clone();
    let folder = second_state(dir.path());

    // Before they looked: it stands still where it tells its result, which is after the commit.
    let full = full_pipe();
    let mut child = import(&data, &folder).stdout(full.1).spawn().unwrap();
    eventually("the import is committed", async || {
        (server.json("/api/collections/c").await["corpus_version"] == 2).then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(shown(&server, &made).await["notices"], json!([]));

    // While the receiver is told: the docset is made, and nobody knows whether the message arrived.
    let mut child = import(&data, &folder).stdout(Stdio::null()).spawn().unwrap();
    eventually("the receiver is told", async || (!receiver.seen().is_empty()).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let notice = &shown(&server, &made).await["notices"][0];
    assert_eq!(
        (&notice["state"], &notice["attempts"], &notice["corpus_version"]),
        (&json!("pending"), &json!(1), &json!(2))
    );

    succeeded(adit(&data).args(["watches", "deliver", "--now"]).env(ALLOW.0, ALLOW.1));
    succeeded(&mut import(&data, &folder));
    let watch = shown(&server, &made).await;
    assert_eq!((watch["notices"].as_array().unwrap().len(), &watch["notices"][0]["state"]), (1, &json!("delivered")));
    assert_eq!(watch["notices"][0]["docset"], notice["docset"]);
    let ids: Vec<_> = receiver.seen().iter().map(|message| message.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, [notice["id"].as_str().unwrap(); 2], "the receiver can tell that it is the same");
    assert_eq!(server.json("/api/docsets").await["docsets"].as_array().unwrap().len(), 1);

    // And the next version has one of its own.
    let folder = write_collection(dir.path(), "c", &[text("new.2", "On zinc", "Mining zinc.")]);
    succeeded(&mut import(&data, &folder));
    let watch = shown(&server, &made).await;
    assert_eq!(watch["notices"].as_array().unwrap().len(), 2);
    assert_eq!(refs_of(&server, &watch["notices"][0]["docset"]).await, ["new.2"]);
}

/// A pipe that nobody reads and nothing more goes into.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (written, done) = mpsc::channel();
    let mut filling = writer.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = filling.write_all(&[b' '; 65536]);
        let _ = written.send(());
    });
    // Where the pipe is smaller, the writer stands still, which is as full.
    let _ = done.recv_timeout(Duration::from_secs(1));
    (reader, writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_lead_to_public_places_only() {
    let receiver = Receiver::start(&[]).await;
    let (dir, server) = small(&[]);
    let watch = async |webhook: &str| {
        let wish = json!({"query": "mining", "webhook": webhook});
        server.post("/api/collections/c/watch", &wish).await
    };
    for private in [
        receiver.url(),
        "http://[::1]/".into(),
        "http://10.0.0.1/".into(),
        "http://0x7f000001/".into(),
        "ftp://a".into(),
    ] {
        let refused = expect(watch(&private).await, 400).await;
        assert_eq!(refused["type"], "urn:adit:problem:invalid-webhook", "{private}");
    }
    // Where a name leads is seen when it is called.
    let made = expect(watch(&format!("http://localhost:{}/hook", receiver.port)).await, 201).await;
    let output = adit(&server.data).arg("import").arg(second_state(dir.path())).output().unwrap();
    assert!(
        output.status.success(),
        "an import does not fail for a webhook: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let notice = &shown(&server, &made).await["notices"][0];
    assert_eq!((&notice["state"], &notice["status"]), (&json!("pending"), &Value::Null));
    assert!(notice["problem"].as_str().unwrap().contains("no public address"), "{notice}");
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_who_is_gone_is_not_called_again() {
    let receiver = Receiver::start(&[307, 410]).await;
    let (dir, server, made) = watched(&receiver).await;
    succeeded(&mut import(&server.data, &second_state(dir.path())));
    let watch = shown(&server, &made).await;
    assert_eq!((&watch["notices"][0]["state"], &watch["notices"][0]["status"]), (&json!("failed"), &json!(410)));
    assert!(watch["webhook_gone"].is_string());
    let more = write_collection(dir.path(), "c", &[text("new.2", "On zinc", "Mining zinc.")]);
    succeeded(&mut import(&server.data, &more));
    assert_eq!(shown(&server, &made).await["notices"][0]["state"], "silent");
    assert_eq!(receiver.seen().iter().map(|message| message.path.as_str()).collect::<Vec<_>>(), ["/hook", "/hook"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_its_owners() {
    let (_dir, server) = small(&[]);
    let (owner, stranger) = (server.new_key("owner", &[]), server.new_key("stranger", &[]));
    let ask = async |key: &str, method: Method, path: &str, body: Option<Value>| {
        let request = server.request_as(Some(key), method, path);
        let request = if let Some(body) = &body { request.json(body) } else { request };
        within("an answer", request.send()).await.unwrap()
    };
    let wish = Some(json!({"query": "titel:x"}));
    let refused = expect(ask(&owner, Method::POST, "/api/collections/c/watch", wish).await, 400).await;
    assert_eq!(refused["type"], "urn:adit:problem:unknown-field", "a query is tried before it is watched");
    let wish = json!({"query": "mining"});
    let made = expect(ask(&owner, Method::POST, "/api/collections/c/watch", Some(wish.clone())).await, 201).await;
    assert_eq!((&made["secret"], &made["webhook"]), (&Value::Null, &Value::Null));
    let path = format!("/api/watches/{}", made["id"]);
    expect(ask(&stranger, Method::GET, &path, None).await, 404).await;
    expect(ask(&stranger, Method::DELETE, &path, None).await, 404).await;
    assert_eq!(expect(ask(&stranger, Method::GET, "/api/watches", None).await, 200).await["watches"], json!([]));
    let listed = expect(ask(&owner, Method::GET, "/api/watches", None).await, 200).await;
    assert_eq!(listed["watches"][0]["id"], made["id"]);
    for _ in 1..100 {
        expect(ask(&owner, Method::POST, "/api/collections/c/watch", Some(wish.clone())).await, 201).await;
    }
    let full = ask(&owner, Method::POST, "/api/collections/c/watch", Some(wish)).await;
    assert_eq!(expect(full, 409).await["type"], "urn:adit:problem:too-many-watches");
    assert_eq!(ask(&owner, Method::DELETE, &path, None).await.status(), 204);
    expect(ask(&owner, Method::GET, &path, None).await, 404).await;
}
