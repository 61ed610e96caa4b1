//! Imports that meet bad folders, other imports and sudden ends.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use adit_shared::store::{SqlStore, Store as _};
use serde_json::{Value, json};

use crate::support::{Server, adit, eventually, expect, run, small, succeed, text, write_collection};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn bad_lines_are_named_and_the_rest_goes_in() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("b", "B", "beta")]);
    let mut lines = fs::read_to_string(folder.join("documents.jsonl")).unwrap();
    lines += "{\"ref\": \"broken\", \n";
    lines += &(json!({"ref": "gone", "files": [{"format": "txt", "path": "files/gone.txt"}]}).to_string() + "\n");
    lines += &(json!({"ref": "a", "files": []}).to_string() + "\n");
    lines += &(json!({"ref": "out", "files": [{"format": "txt", "path": "../outside.txt"}]}).to_string() + "\n");
    lines += &json!({"ref": "last", "files": [{"format": "txt", "path": "files/0.txt"}]}).to_string();
    fs::write(folder.join("documents.jsonl"), lines).unwrap();
    fs::write(dir.path().join("outside.txt"), "secret").unwrap();

    let output = run(&data, &["import", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    for (line, reason) in [(3, "column"), (4, "gone.txt cannot be read"), (5, "earlier line"), (6, "leaves the folder")]
    {
        let place = format!("documents.jsonl:{line}: ");
        let found =
            errors.lines().find(|text| text.starts_with(&place)).unwrap_or_else(|| panic!("{place} in {errors}"));
        assert!(found.contains(reason), "{found}");
    }
    let server = Server::start(&data, &[]);
    let all = expect(server.post("/api/collections/c/search", &json!({"query": "*", "sort": "ref"})).await, 200).await;
    let refs: Vec<&str> = all["documents"].as_array().unwrap().iter().map(|d| d["ref"].as_str().unwrap()).collect();
    assert_eq!(refs, ["a", "b", "last"]);
}

#[test]
fn folders_that_are_no_collections_are_refused_with_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let refused = |folder: &Path| {
        let output = run(&data, &["import", folder.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(refused(&dir.path().join("nowhere")).contains("there is no folder"));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(&empty).contains("collection.json"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"A B\", \"name\": \"x\"}").unwrap();
    assert!(refused(&empty).contains("slug"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"a\"}").unwrap();
    assert!(refused(&empty).contains("missing field `name`"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"a\", \"name\": \"x\"}").unwrap();
    assert!(refused(&empty).contains("documents.jsonl"));
}

#[test]
fn an_unchanged_folder_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("b", "B", "beta")]);
    let first = succeed(&data, &["import", folder.to_str().unwrap()]);
    assert!(first.contains("2 added") && first.contains("corpus version 1"), "{first}");
    let stored = objects_by_kind(&data);
    let second = succeed(&data, &["import", folder.to_str().unwrap()]);
    assert!(second.contains("0 added, 0 updated, 2 unchanged") && second.contains("corpus version 1"), "{second}");
    assert_eq!(objects_by_kind(&data), stored);
}

#[tokio::test]
async fn an_index_that_is_missing_is_said_to_be_away() {
    let (dir, server) = small(&[]);
    let data = server.data.clone();
    assert!(server.stop().success());
    for lost in ["objects/indexes", "cache"] {
        fs::remove_dir_all(data.join(lost)).unwrap();
    }
    let server = Server::start(&data, &[]);
    let query = json!({"collection": "c", "query": "*"});
    let search = server.post("/api/collections/c/search", &json!({"query": "*"})).await;
    for answer in [search, server.post("/api/docsets", &query).await] {
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(expect(answer, 503).await["part"], "search index");
    }
    drop(dir);
}

/// An import of the collection `c` that has closed a pack and staged rows, and waits for more lines.
struct HalfDone {
    child: Child,
    folder: PathBuf,
    _lines: File,
}

impl HalfDone {
    /// Begins it in `folder`, on a data folder with one committed version.
    async fn start(data: &Path, folder: PathBuf) -> Self {
        let before = pack_keys(data).await.len();
        // As long as a pack, and so in one that is closed at once. Only its length takes room on the disk.
        File::create(folder.join("files/long.pdf")).unwrap().set_len(64 * 1024 * 1024).unwrap();
        let pipe = folder.join("documents.jsonl");
        fs::remove_file(&pipe).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut command = adit(data);
        let child = command.arg("import").arg(&folder).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = File::options().write(true).open(&pipe).unwrap();
        let long = json!({"ref": "long", "files": [{"format": "pdf", "path": "files/long.pdf"}]});
        writeln!(lines, "{long}").unwrap();
        for number in 0..1000 {
            let files = json!([{"format": "txt", "path": "files/0.txt"}]);
            writeln!(lines, "{}", json!({"ref": format!("b{number}"), "files": files})).unwrap();
        }
        // Staged rows name the packs that they lie in.
        eventually("rows are staged", async || (pack_keys(data).await.len() > before).then_some(())).await;
        Self { child, folder, _lines: lines }
    }

    /// Sends it a signal and waits for its end.
    fn end(self, signal: &str) -> Output {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        let output = self.child.wait_with_output().unwrap();
        fs::remove_file(self.folder.join("documents.jsonl")).unwrap();
        output
    }
}

/// The packs that the database knows.
async fn pack_keys(data: &Path) -> HashSet<String> {
    let store = SqlStore::open(&format!("sqlite://{}", data.join("adit.sqlite").display())).await.unwrap();
    let collection = store.collection("c").await.unwrap().unwrap();
    let keys = store.pack_keys(collection.id).await.unwrap();
    store.close().await;
    keys
}

/// The objects by kind, with how many there are; unfinished uploads count as a kind.
fn objects_by_kind(data: &Path) -> Vec<(String, usize)> {
    let kinds = fs::read_dir(data.join("objects")).unwrap().flatten().map(|entry| entry.path());
    let mut kinds: Vec<_> =
        kinds.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), count_files(&path))).collect();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn an_interrupted_import_takes_back_what_it_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha")]);
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let (stored, packs) = (objects_by_kind(&data), pack_keys(&data).await);

    let output = HalfDone::start(&data, folder).await.end("-INT");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing was changed"), "{}", stderr(&output));
    assert_eq!((objects_by_kind(&data), pack_keys(&data).await), (stored, packs));
    // Its lease is given up too.
    let again = write_collection(dir.path(), "c", &[text("a", "A", "alpha")]);
    let report = succeed(&data, &["import", again.to_str().unwrap()]);
    assert!(report.contains("1 unchanged; 1 documents in corpus version 1"), "{report}");
}

#[tokio::test]
async fn what_a_killed_import_left_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (data, undisturbed) = (dir.path().join("data"), dir.path().join("undisturbed"));
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha")]);
    for data in [&data, &undisturbed] {
        succeed(data, &["import", folder.to_str().unwrap()]);
    }
    let output = HalfDone::start(&data, folder).await.end("-KILL");
    assert_eq!(output.status.code(), None);
    let packs = |data: &Path| count_files(&data.join("objects/packs"));
    assert!(packs(&data) > packs(&undisturbed), "it has closed a pack");

    let again = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("z", "Z", "zeta")]);
    for data in [&data, &undisturbed] {
        // The lease of an import that was killed runs out by itself.
        let report = succeed(data, &["import", "--wait", again.to_str().unwrap()]);
        assert!(report.contains("1 added, 0 updated, 1 unchanged; 2 documents in corpus version 2"), "{report}");
    }
    for kind in ["packs", "indexes"] {
        let count = |data: &Path| count_files(&data.join("objects").join(kind));
        assert_eq!(count(&data), count(&undisturbed), "{kind}");
    }
    assert_eq!(pack_keys(&data).await.len(), packs(&data));
}

/// The collection's own words of itself, with another language.
fn set_language(folder: &Path, language: &str) {
    let place = folder.join("collection.json");
    let mut collection: Value = serde_json::from_str(&fs::read_to_string(&place).unwrap()).unwrap();
    collection["language"] = json!(language);
    fs::write(place, collection.to_string()).unwrap();
}

#[tokio::test]
async fn texts_are_searched_in_the_language_of_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "Mining of texts"), text("b", "B", "Mines")]);
    let import = || run(&data, &["import", folder.to_str().unwrap()]);
    set_language(&folder, "xx");
    let unknown = import();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("\"xx\"") && stderr(&unknown).contains(" en, "), "{}", stderr(&unknown));
    set_language(&folder, "en");
    assert!(import().status.success());
    let hits = async |server: &Server, query: &str| {
        server.search("c", &json!({"query": query, "limit": 0})).await["hits"].as_u64().unwrap()
    };
    {
        let server = Server::start(&data, &[]);
        assert_eq!(server.json("/api/collections/c").await["language"], "en");
        assert_eq!((hits(&server, "mined").await, hits(&server, "=mines").await), (2, 1));
    }

    // Another language needs another index; until then the old one goes on.
    set_language(&folder, "de");
    let mut lines = fs::read_to_string(folder.join("documents.jsonl")).unwrap();
    lines += &json!({"ref": "c", "metadata": {"title": "A mine"}}).to_string();
    fs::write(folder.join("documents.jsonl"), lines).unwrap();
    let changed = import();
    assert!(changed.status.success() && stderr(&changed).contains("adit reindex c"), "{}", stderr(&changed));
    {
        let server = Server::start(&data, &[]);
        assert_eq!(hits(&server, "mined").await, 3);
    }

    // An index of another release is neither searched nor built on.
    let indexes: Vec<PathBuf> =
        fs::read_dir(data.join("objects/indexes")).unwrap().map(|e| e.unwrap().path()).collect();
    for manifest in fs::read_dir(&indexes[0]).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replacen("\"layout\":3", "\"layout\":1", 1)).unwrap();
    }
    let outdated = import();
    assert_eq!(outdated.status.code(), Some(1));
    assert!(stderr(&outdated).contains("adit reindex c"), "{}", stderr(&outdated));
    let server = Server::start(&data, &[]);
    let away = expect(server.post("/api/collections/c/search", &json!({"query": "mine"})).await, 503).await;
    assert!(away["detail"].as_str().unwrap().contains("adit reindex c"), "{away}");
}
