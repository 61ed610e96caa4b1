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
    /// Files are addressed as assets of a package; `refused` needs a key that nobody has.
    async fn start(files: &[(&str, &str)]) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let files = files.iter().map(|(path, text)| (address(path), (*text).to_owned())).collect();
        let files: Arc<Mutex<BTreeMap<String, String>>> = Arc::new(Mutex::new(files));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (served, seen) = (Arc::clone(&files), Arc::clone(&asked));
        let answer = move |request: Request| {
            let path = request.uri().path().to_owned();
            let file = served.lock().unwrap().get(&path).cloned();
            let answer = Response::builder();
            let answer: Result<Response, _> = match file {
                _ if path == address("refused") => answer.status(401).body("{}".into()),
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

/// Where the server has the file of that path.
fn address(path: &str) -> String {
    format!("/api/packages/{}/assets/{}", "0".repeat(64), path.replace('/', "-"))
}

fn list(base: &str, payload: &[(&str, &str)]) -> String {
    payload.iter().map(|(path, text)| format!("{base}{} {} data/{path}\n", address(path), text.len())).collect()
}

/// Nothing beyond the server's own files of known length.
const STRICT: Permissions = Permissions { other_servers: false, untold_bytes: 0 };

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
    let failures = fetch_missing(&server.client(), &bag, STRICT).await.unwrap();
    assert_eq!(failures.faults, [""; 0]);
    assert_eq!(read(folder.path()), full, "exactly the full bag's files");
    let asked = ["b.txt", "z/deep.txt"].map(|path| (address(path), true));
    assert_eq!(server.asked(), asked, "what is there, and what is empty, is not fetched");
    fetch_missing(&server.client(), &bag, STRICT).await.unwrap();
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn failures_are_told_all_together_and_another_run_fetches_the_rest() {
    let server = Server::start(&PAYLOAD).await;
    server.files.lock().unwrap().insert(address("a.txt"), "xxx".into());
    server.files.lock().unwrap().remove(&address("b.txt"));
    let more = [PAYLOAD.as_slice(), &[("file.txt", "f"), ("nowhere.txt", "n")]].concat();
    let full = bag(&more, &[("bag-info.txt", "info")]);
    let fetch = list(&server.url, &PAYLOAD) + "file:///etc/passwd 1 data/file.txt\n" + &server.url + "/c 1 data/c\n";
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&full, &fetch));
    let bag = Bag::find(folder.path()).unwrap();
    let failures = fetch_missing(&server.client(), &bag, STRICT).await.unwrap();
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

    server.files.lock().unwrap().extend([(address("a.txt"), "one".into()), (address("b.txt"), "two".into())]);
    write(
        folder.path(),
        &Files::from(["file.txt", "nowhere.txt"].map(|name| (format!("data/{name}"), name[..1].into()))),
    );
    write(folder.path(), &Files::from([(FETCH.into(), list(&server.url, &PAYLOAD).into_bytes())]));
    assert_eq!(fetch_missing(&server.client(), &bag, STRICT).await.unwrap().faults, [""; 0]);
    assert_eq!(server.asked(), ["a.txt", "b.txt"].map(|path| (address(path), true)));
    assert_eq!(read(folder.path()), full);
}

#[tokio::test]
async fn the_key_is_shown_to_its_own_server_alone() {
    let (own, other) = (Server::start(&PAYLOAD).await, Server::start(&PAYLOAD).await);
    let fetch = list(&own.url, &PAYLOAD[..1]) + &list(&other.url, &PAYLOAD[1..]);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&bag(&PAYLOAD, &[]), &fetch));
    let bag = Bag::find(folder.path()).unwrap();
    let refused = fetch_missing(&own.client(), &bag, STRICT).await.unwrap().faults;
    assert!(refused.len() == 3 && refused.iter().all(|fault| fault.contains("--other-servers")), "{refused:?}");
    assert_eq!((own.asked().len(), other.asked().len()), (1, 0), "other servers are asked only by permission");
    fs::remove_file(folder.path().join("data/a.txt")).unwrap();
    let permissions = Permissions { other_servers: true, ..STRICT };
    assert_eq!(fetch_missing(&own.client(), &bag, permissions).await.unwrap().faults, [""; 0]);
    assert_eq!(own.asked(), [(address("a.txt"), true)]);
    assert_eq!(other.asked(), ["b.txt", "z/deep.txt"].map(|path| (address(path), false)));
}

#[tokio::test]
async fn without_the_right_key_not_everything_is_tried() {
    let server = Server::start(&[]).await;
    let names: Vec<String> = (0..100).map(|n| format!("{n:03}.txt")).collect();
    let payload: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let fetch: String =
        names.iter().map(|name| format!("{}{} 1 data/{name}\n", server.url, address("refused"))).collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &dehydrated(&bag(&payload, &[]), &fetch));
    let failures = fetch_missing(&server.client(), &Bag::find(folder.path()).unwrap(), STRICT).await.unwrap();
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
        files.insert(FETCH.into(), format!("{}{} 3 {path}\n", server.url, address("a.txt")).into_bytes());
        write(&dir.path().join("bag"), &files);
        let before = read(dir.path());
        let why =
            fetch_missing(&server.client(), &Bag::find(dir.path()).unwrap(), STRICT).await.unwrap_err().to_string();
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
        fetch_missing(&server.client(), &unpacked, STRICT).await.unwrap();
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

/// What a bag names to be fetched: none of it is asked for, or more of it taken than was told, and
/// each is told of.
#[tokio::test]
async fn a_hostile_list_is_told_of_and_not_followed() {
    let own = "0".repeat(64);
    let cases = [
        ("{server}/api/docsets/1/dump?fmts=txt 3", "no address of a file"),
        ("{server}/api/docsets/1/refresh 3", "no address of a file"),
        ("{server}/api/shared/1-x 3", "no address of a file"),
        ("{server}/api/packages/7/assets/../../../docsets/1/dump 3", "no address of a file"),
        ("{server}/api/packages/7/assets/%2e%2e%2fx 3", "no address of a file"),
        ("{server}/api/documents/5/files/txt?x=1 3", "no address of a file"),
        ("http://user:pass@{host}/api/documents/5/files/txt 3", "no address of a file"),
        ("http://169.254.169.254/latest/meta-data 3", "--other-servers"),
        ("ftp://{host}/a.txt 3", "only http and https"),
        ("not-a-url 3", "is no URL"),
        ("{server}/api/packages/{own}/assets/a.txt -", "--untold-bytes"),
        ("{server}/api/packages/{own}/assets/a.txt 2", "other bytes"),
        ("{server}/api/packages/{own}/assets/a.txt 18446744073709551615", "make room"),
    ];
    for (line, told) in cases {
        let server = Server::start(&PAYLOAD).await;
        let host = server.url.trim_start_matches("http://").to_owned();
        let line = line.replace("{server}", &server.url).replace("{host}", &host).replace("{own}", &own);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &dehydrated(&bag(&PAYLOAD[..1], &[]), &format!("{line} data/a.txt\n")));
        let found = fetch_missing(&server.client(), &Bag::find(folder.path()).unwrap(), STRICT).await;
        let faults = found.map_or_else(|error| vec![error.to_string()], |failures| failures.faults);
        assert!(faults.len() == 1 && faults[0].contains(told), "{line}: {faults:?}");
        let asked = server.asked();
        assert!(asked.iter().all(|(path, _)| *path == address("a.txt")), "{line}: {asked:?}");
        assert!(!folder.path().join("data/a.txt").exists());
    }
}

#[tokio::test]
async fn a_file_of_untold_length_is_fetched_up_to_what_the_user_allows() {
    let server = Server::start(&PAYLOAD).await;
    for (untold_bytes, whole) in [(2, false), (3, true)] {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("{}{} - data/a.txt\n", server.url, address("a.txt"));
        write(folder.path(), &dehydrated(&bag(&PAYLOAD[..1], &[]), &line));
        let permissions = Permissions { untold_bytes, ..STRICT };
        let bag = Bag::find(folder.path()).unwrap();
        let faults = fetch_missing(&server.client(), &bag, permissions).await.unwrap().faults;
        assert_eq!(faults.is_empty(), whole, "{faults:?}");
    }
}

/// Archives that mean harm: nothing is left of them, beside or outside.
#[tokio::test]
async fn a_hostile_archive_is_told_of_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("bag.zip");
    let full = bag(&PAYLOAD, &[]);
    for (base, told) in
        [("../", "no path that stays"), ("/", "no path that stays"), (".ssh/", "hidden ones"), ("con/", "every system")]
    {
        zip(&archive, base, &full);
        let why = format!("{:#}", unpack_beside(&archive).unwrap_err());
        assert!(why.contains(told), "{base}: {why}");
        assert_eq!(read(dir.path()).len(), 1, "{base}");
    }
    let bombs = [
        ("zeros", (100 << 20, None, None), "100 times its length"),
        ("a lying directory", (1 << 20, Some(10), None), "cannot be unpacked"),
        ("an absurd length", (10, Some(u32::MAX - 1), None), "100 times its length"),
        ("a device", (10, None, Some(0o020_644)), "a device"),
    ];
    for (what, (zeros, length, mode), told) in bombs {
        fs::write(&archive, hostile_zip(zeros, length, mode)).unwrap();
        assert!(fs::metadata(&archive).unwrap().len() < 1 << 20, "{what} is small on the wire");
        let why = format!("{:#}", unpack_beside(&archive).unwrap_err());
        assert!(why.contains(told), "{what}: {why}");
        assert_eq!(read(dir.path()).len(), 1, "{what}");
    }
}

/// An archive of one file of so many zeros, whose directory tells another length or kind of it.
fn hostile_zip(zeros: usize, length: Option<u32>, mode: Option<u32>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("bag/data/zeros", zip::write::SimpleFileOptions::default()).unwrap();
    for _ in 0..zeros.div_ceil(1 << 20) {
        std::io::Write::write_all(&mut zip, &vec![0; zeros.min(1 << 20)]).unwrap();
    }
    let mut bytes = zip.finish().unwrap().into_inner();
    let header = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    if let Some(length) = length {
        bytes[header + 24..header + 28].copy_from_slice(&length.to_le_bytes());
    }
    if let Some(mode) = mode {
        // Made on Unix (4.4.2), and the mode in the upper half (4.4.15).
        bytes[header + 5] = 3;
        bytes[header + 38..header + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    }
    bytes
}
