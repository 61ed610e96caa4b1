//! What the journeys share: a running `adit up` on a temporary folder, collection folders, an HTTP client, and waiting for conditions.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, redirect};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a condition may take to come true before a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, with an environment that holds no settings of the person who runs the tests.
pub(crate) fn adit(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADIT_")) {
        command.env_remove(name);
    }
    command.arg("--data").arg(data);
    command
}

/// Runs the program to its end.
pub(crate) fn run(data: &Path, arguments: &[&str]) -> Output {
    adit(data).args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
pub(crate) fn succeed(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "adit {arguments:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The last line of standard output.
pub(crate) fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running `adit up`. It is killed when it goes out of scope.
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    pub(crate) url: String,
    pub(crate) key: String,
    child: Child,
    http: reqwest::Client,
}

impl Server {
    /// Starts `adit up` on `data` with further settings, and makes an operator's key.
    pub(crate) fn start(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = adit(data);
        command.args(["--listen", "127.0.0.1:0", "up"]).envs(environment.iter().copied());
        let log = std::fs::File::options().create(true).append(true).open(data.join("log.txt")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let Some(Ok(line)) = lines.next() else {
                let mut log = String::new();
                std::fs::File::open(data.join("log.txt")).unwrap().read_to_string(&mut log).unwrap();
                panic!("adit up ended before it was up:\n{log}");
            };
            if let Some(url) = line.trim().strip_prefix("API ") {
                break url.trim().trim_end_matches("/api").to_owned();
            }
        };
        // Reads on, so that the program never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let key = last_line(&succeed(data, &["keys", "create", "test", "--role", "operator"]));
        // The same one as the program's; a second call of a test finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Self { data: data.to_owned(), url, key, child, http }
    }

    /// Kills the process as a power cut would: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// A new key of that role.
    pub(crate) fn new_key(&self, name: &str, arguments: &[&str]) -> String {
        last_line(&succeed(&self.data, &[&["keys", "create", name], arguments].concat()))
    }

    /// A request with the operator's key.
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

    /// Makes a docset of a query.
    pub(crate) async fn docset(&self, collection: &str, query: &str) -> i64 {
        let docset =
            expect(self.post("/api/docsets", &json!({"collection": collection, "query": query})).await, 201).await;
        docset["id"].as_i64().unwrap()
    }

    /// Asks for a package and polls it to its end.
    pub(crate) async fn package(&self, docset: i64, body: &Value) -> Value {
        let asked = self.post(&format!("/api/docsets/{docset}/packages"), body).await;
        assert!(asked.status().is_success(), "{}", asked.text().await.unwrap());
        let asked: Value = asked.json().await.unwrap();
        self.finished(asked["id"].as_i64().unwrap()).await
    }

    /// Polls a package until it is terminal.
    pub(crate) async fn finished(&self, package: i64) -> Value {
        eventually("the package is terminal", || async {
            let package = self.json(&format!("/api/packages/{package}")).await;
            (package["terminal"] == true).then_some(package)
        })
        .await
    }

    /// Asks for a package, waits for it, and returns its archive's bytes.
    pub(crate) async fn archive(&self, docset: i64, body: &Value) -> (Value, Vec<u8>) {
        let package = self.package(docset, body).await;
        assert_eq!(package["status"], "successful", "{package}");
        let bytes = self.get(package["download"].as_str().unwrap()).await.bytes().await.unwrap();
        (package, bytes.to_vec())
    }

    /// The queues of the embedded broker, seen from outside.
    pub(crate) fn queue(&self, name: &str) -> Option<Value> {
        let queues: Value = serde_json::from_str(&succeed(&self.data, &["queues", "--json"])).unwrap();
        queues.as_array().unwrap().iter().find(|queue| queue["name"] == name).cloned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The JSON of an answer that must have that status.
pub(crate) async fn expect(response: Response, status: u16) -> Value {
    let (found, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{url}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// A document to be written into a collection folder.
pub(crate) struct Doc<'a> {
    pub(crate) r#ref: &'a str,
    pub(crate) metadata: Value,
    pub(crate) files: Vec<(&'a str, Vec<u8>)>,
}

/// A document with a title and a text.
pub(crate) fn text<'a>(r#ref: &'a str, title: &str, text: &str) -> Doc<'a> {
    Doc { r#ref, metadata: json!({"title": title, "issued": "2020-05-01"}), files: vec![("txt", text.into())] }
}

/// Writes a collection folder `name` below `parent`; every file is named by its document's number.
pub(crate) fn write_collection(parent: &Path, name: &str, documents: &[Doc<'_>]) -> PathBuf {
    let folder = parent.join(format!("{name}-folder"));
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let collection = json!({"slug": name, "name": name, "license": "https://creativecommons.org/licenses/by/4.0/"});
    std::fs::write(folder.join("collection.json"), collection.to_string()).unwrap();
    let mut lines = String::new();
    for (number, document) in documents.iter().enumerate() {
        let mut files = Vec::new();
        for (format, content) in &document.files {
            let path = format!("files/{number}.{format}");
            std::fs::write(folder.join(&path), content).unwrap();
            files.push(json!({"format": format, "path": path}));
        }
        lines += &json!({"ref": document.r#ref, "metadata": document.metadata, "files": files}).to_string();
        lines.push('\n');
    }
    std::fs::write(folder.join("documents.jsonl"), lines).unwrap();
    folder
}

/// A data folder with a small collection `c` imported, and a server on it.
pub(crate) fn small(environment: &[(&str, &str)]) -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let words = ["coal", "iron", "copper", "silver", "gold"];
    let refs: Vec<String> = (0..words.len()).map(|i| format!("doc.{i}")).collect();
    let documents: Vec<Doc<'_>> = refs
        .iter()
        .zip(words)
        .map(|(r, word)| text(r, &format!("On {word}"), &format!("A treatise on mining {word}. ").repeat(50)))
        .collect();
    let folder = write_collection(dir.path(), "c", &documents);
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, environment);
    (dir, server)
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*: fast, and more than random enough to be incompressible.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The entries of a ZIP archive by name.
pub(crate) fn unzip(archive: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut entries = std::collections::BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.name().unwrap().into_owned();
        assert!(entries.insert(name.clone(), content).is_none(), "{name} twice");
    }
    entries
}
