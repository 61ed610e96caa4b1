use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use adit_shared::config::Secret;
use axum::Router;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;

use super::super::testing::{Files, bag, read, write, zip};
use super::*;

/// A server of files by path, which remembers who showed a key for what.
struct Server {
    url: String,
    files: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
    _task: tokio::task::JoinSet<()>,
}

impl Server {
    /// `/refused` needs a key that nobody has.
    async fn start(files: &[(&str, &str)]) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let files = files.iter().map(|(path, text)| (format!("/{path}"), (*text).to_owned())).collect();
        let files: Arc<Mutex<BTreeMap<String, String>>> = Arc::new(Mutex::new(files));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (served, seen) = (Arc::clone(&files), Arc::clone(&asked));
        let answer = move |request: Request| {
            let path = request.uri().path().to_owned();
            let file = served.lock().unwrap().get(&path).cloned();
            let answer = Response::builder();
            let answer: Result<Response, _> = match file {
                _ if path == "/refused" => answer.status(401).body("{}".into()),
                Some(text) => answer.body(text.into()),
                None => answer.status(404).body("{\"title\":\"Not found\"}".into()),
            };
            seen.lock().unwrap().push((path, request.headers().contains_key(AUTHORIZATION)));
            std::future::ready(answer.unwrap())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { url, files, asked, _task: task }
    }

    fn client(&self) -> Client {
        Client::with(&self.url, Some(Secret::new("key".into()))).unwrap()
    }

    /// What was asked for, in order of path; and forgets it.
    fn asked(&self) -> Vec<(String, bool)> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort_unstable();
        asked
    }
}

/// The bag without its payload, and with a list of where that is.
fn dehydrated(full: &Files, fetch: &str) -> Files {
    let mut files = full.clone();
    files.retain(|path, _| !path.starts_with("data/"));
    files.insert(FETCH.into(), fetch.as_bytes().to_vec());
    files
}

fn list(base: &str, payload: &[(&str, &str)]) -> String {
    payload.iter().map(|(path, text)| format!("{base}/{path} {} data/{path}\n", text.len())).collect()
}

const PAYLOAD: [(&str, &str); 4] = [("a.txt", "one"), ("b.txt", "two"), ("empty.txt", ""), ("z/deep.txt", "three")];

#[tokio::test]
async fn a_dehydrated_bag_becomes_whole() {
    let server = Server::start(&PAYLOAD).await;
    let full = bag(&PAYLOAD, &[("bag-info.txt", "info")]);
    let mut files = dehydrated(&full, &list(&server.url, &PAYLOAD));
    files.insert("data/a.txt".into(), b"one".to_vec());
    files.insert("data/b.txt".into(), b"damaged".to_vec());
    files.insert(TOMBSTONES.into(), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &files);
    let bag = Bag::find(folder.path()).unwrap();
    let failures = fetch_missing(&server.client(), &bag).await.unwrap();
    assert_eq!(failures.faults, [""; 0]);
    assert_eq!(read(folder.path()), full, "exactly the full bag's files");
    let asked = ["/b.txt", "/z/deep.txt"].map(|path| (path.to_owned(), true));
    assert_eq!(server.asked(), asked, "what is there, and what is empty, is not fetched");
    fetch_missing(&server.client(), &bag).await.unwrap();
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn failures_are_told_all_together_and_another_run_fetches_the_rest() {
    let server = Server::start(&PAYLOAD).await;
    server.files.lock().unwrap().insert("/a.txt".into(), "xxx".into());
    server.files.lock().unwrap().remove("/b.txt");
    let more = [PAYLOAD.as_slice(), &[("file.txt", "f"), ("nowhere.txt", "n")]].concat();
    let full = bag(&more, &[("bag-info.txt", "info")]);
    let fetch = list(&server.url, &PAYLOAD) + "file:///etc/passwd 1 data/file.txt\n" + &server.url + "/c 1 data/c\n";
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&full, &fetch));
    let bag = Bag::find(folder.path()).unwrap();
    let failures = fetch_missing(&server.client(), &bag).await.unwrap();
    let expected = [
        "data/a.txt: the server sends other bytes than those that it announces, twice; run it again later",
        "data/b.txt: Not found (404): ",
        "data/c: is in fetch.txt, but not in manifest-sha256.txt",
        "data/file.txt: only http and https URLs are fetched, not file:///etc/passwd",
        "data/nowhere.txt: is missing, and fetch.txt does not tell where it is",
    ];
    assert_eq!(failures.faults, expected);
    assert_eq!(fs::read(folder.path().join("data/z/deep.txt")).unwrap(), b"three", "it goes on past failures");
    assert!(!folder.path().join("data/a.txt").exists(), "what is wrong does not appear");
    assert!(!folder.path().join(FETCHING).exists());
    server.asked();

    server.files.lock().unwrap().extend([("/a.txt".into(), "one".into()), ("/b.txt".into(), "two".into())]);
    write(
        folder.path(),
        &Files::from(["file.txt", "nowhere.txt"].map(|name| (format!("data/{name}"), name[..1].into()))),
    );
    write(folder.path(), &Files::from([(FETCH.into(), list(&server.url, &PAYLOAD).into_bytes())]));
    assert_eq!(fetch_missing(&server.client(), &bag).await.unwrap().faults, [""; 0]);
    assert_eq!(server.asked(), ["/a.txt", "/b.txt"].map(|path| (path.to_owned(), true)));
    assert_eq!(read(folder.path()), full);
}

#[tokio::test]
async fn the_key_is_shown_to_its_own_server_alone() {
    let (own, other) = (Server::start(&PAYLOAD).await, Server::start(&PAYLOAD).await);
    let fetch = list(&own.url, &PAYLOAD[..1]) + &list(&other.url, &PAYLOAD[1..]);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&bag(&PAYLOAD, &[]), &fetch));
    let bag = Bag::find(folder.path()).unwrap();
    assert_eq!(fetch_missing(&own.client(), &bag).await.unwrap().faults, [""; 0]);
    assert_eq!(own.asked(), [("/a.txt".to_owned(), true)]);
    assert_eq!(other.asked(), ["/b.txt", "/z/deep.txt"].map(|path| (path.to_owned(), false)));
}

#[tokio::test]
async fn without_the_right_key_not_everything_is_tried() {
    let server = Server::start(&[]).await;
    let names: Vec<String> = (0..100).map(|n| format!("{n:03}.txt")).collect();
    let payload: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let fetch: String = names.iter().map(|name| format!("{}/refused - data/{name}\n", server.url)).collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&bag(&payload, &[]), &fetch));
    let failures = fetch_missing(&server.client(), &Bag::find(folder.path()).unwrap()).await.unwrap();
    assert!(failures.not_tried > 50 && failures.not_tried + failures.faults.len() == 100, "{failures:?}");
    assert!(failures.faults.iter().all(|fault| fault.contains("ADIT_API_KEY")), "{failures:?}");
    assert!(folder.path().join(FETCH).exists());
}

#[tokio::test]
async fn nothing_is_written_outside_of_the_bag() {
    let server = Server::start(&PAYLOAD).await;
    for path in ["data/../../evil", "../evil", "/evil", "data//evil", "bagit.txt"] {
        let dir = tempfile::tempdir().unwrap();
        let mut files = bag(&PAYLOAD, &[]);
        let line = format!("{}  {path}\n", Sha256::of(b"one"));
        files.get_mut(MANIFEST).unwrap().extend_from_slice(line.as_bytes());
        files.insert(FETCH.into(), format!("{}/a.txt 3 {path}\n", server.url).into_bytes());
        write(&dir.path().join("bag"), &files);
        let before = read(dir.path());
        let why = fetch_missing(&server.client(), &Bag::find(dir.path()).unwrap()).await.unwrap_err().to_string();
        assert!(why.contains("path"), "{why}");
        assert_eq!((read(dir.path()), server.asked()), (before, vec![]), "{path}");
    }
}

#[tokio::test]
async fn an_archive_is_unpacked_beside_itself_once() {
    let server = Server::start(&PAYLOAD).await;
    let full = bag(&PAYLOAD, &[]);
    let files = dehydrated(&full, &list(&server.url, &PAYLOAD));
    for (base, name) in [("bag-0123/", "bag-0123"), ("", "package")] {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("package.zip");
        zip(&archive, base, &files);
        let unpacked = unpack_beside(&archive).unwrap();
        assert_eq!(unpacked.root(), dir.path().join(name));
        fetch_missing(&server.client(), &unpacked).await.unwrap();
        assert_eq!(read(unpacked.root()), full);
        server.asked();
        let again = unpack_beside(&archive).unwrap();
        assert_eq!(read(again.root()), full, "what is there is not begun anew");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        fs::write(again.root().join(MANIFEST), "").unwrap();
        assert!(unpack_beside(&archive).unwrap_err().to_string().contains("is another bag"));
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("evil.zip");
    zip(&archive, "../", &files);
    assert!(unpack_beside(&archive).unwrap_err().to_string().contains("no path that stays"));
    assert_eq!(read(dir.path()).len(), 1);
}
