//! Indexes that are made anew while miners search.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Doc, Server, adit, eventually, expect, run, small, succeed, succeeded, text, write_collection};

/// Documents of the collection `c` that is [`large`] enough for its index to be seen in the making.
const DOCUMENTS: usize = 1500;

/// A data folder with the collection `c`.
fn large(parent: &Path) -> std::path::PathBuf {
    let refs: Vec<String> = (0..DOCUMENTS).map(|number| format!("doc.{number:04}")).collect();
    let content = |number| format!("Shaft {number} was sunk for coal; {} ", number % 7).repeat(200);
    let documents: Vec<Doc<'_>> =
        refs.iter().enumerate().map(|(number, r)| text(r, &format!("Shaft {number}"), &content(number))).collect();
    let folder = write_collection(parent, "c", &documents);
    let data = parent.join("data");
    succeed(&data, &["import", folder.to_str().unwrap()]);
    data
}

/// An `adit reindex c` that has begun to write and stands still.
struct HalfDone(Child);

impl HalfDone {
    async fn start(data: &Path) -> Self {
        let scratch = data.join("cache/1");
        let folders = || {
            let entries = std::fs::read_dir(&scratch).unwrap().flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("scratch-")).count()
        };
        let before = folders();
        let child = adit(data).args(["reindex", "c"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let half_done = Self(child);
        eventually("an index is begun", async || (folders() > before).then_some(())).await;
        half_done.signal("-STOP");
        half_done
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn end(self) -> Output {
        self.0.wait_with_output().unwrap()
    }
}

/// What `query` finds, in which corpus version.
async fn answer(server: &Server, query: &str) -> (Value, i64) {
    let wanted = json!({"query": query, "facets": ["year", "format"], "limit": 20, "sort": "ref"});
    let found = expect(server.post("/api/collections/c/search", &wanted).await, 200).await;
    let documents = found["documents"].as_array().unwrap();
    let ids: Vec<&Value> = documents.iter().map(|document| &document["id"]).collect();
    (json!([found["hits"], ids, found["facets"]]), found["corpus_version"].as_i64().unwrap())
}

#[tokio::test]
async fn searches_go_on_while_an_index_is_made_anew_and_find_the_same_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = large(dir.path());
    let server = Server::start(&data, &[]);
    let (before, version) = answer(&server, "shaft coal").await;
    assert_eq!((version, &before[0]), (1, &json!(DOCUMENTS)));
    let frozen = expect(server.post("/api/docsets", &json!({"collection": "c", "query": "coal"})).await, 201).await;

    let mut reindex = HalfDone::start(&data).await;
    for _ in 0..20 {
        assert_eq!(answer(&server, "shaft coal").await, (before.clone(), 1));
    }
    reindex.signal("-CONT");
    while reindex.0.try_wait().unwrap().is_none() {
        assert_eq!(answer(&server, "shaft coal").await.0, before);
    }
    let output = reindex.end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told.trim(), "c: 1500 documents are indexed anew in corpus version 2");
    assert_eq!(answer(&server, "shaft coal").await, (before.clone(), 2));

    let again = expect(server.post("/api/docsets", &json!({"collection": "c", "query": "coal"})).await, 201).await;
    assert_eq!(again["fingerprint"], frozen["fingerprint"]);
    assert_eq!(expect(server.get(frozen["url"].as_str().unwrap()).await, 200).await, frozen);
    drop(dir);
}

#[tokio::test]
async fn a_killed_reindex_changes_nothing_and_the_next_one_clears_up() {
    let dir = tempfile::tempdir().unwrap();
    let data = large(dir.path());
    let reindex = HalfDone::start(&data).await;
    reindex.signal("-KILL");
    assert_eq!(reindex.end().status.code(), None);
    let refused = run(&data, &["reindex", "c"]);
    assert_eq!(refused.status.code(), Some(75), "{}", String::from_utf8_lossy(&refused.stderr));
    let server = Server::start(&data, &[]);
    assert_eq!(answer(&server, "shaft").await.1, 1);
    assert!(server.stop().success());
    // Its lease runs out by itself.
    let told = succeed(&data, &["reindex", "c", "--wait"]);
    assert!(told.contains("1500 documents are indexed anew in corpus version 2"), "{told}");
    let scratch = std::fs::read_dir(data.join("cache/1")).unwrap().flatten();
    let scratch = scratch.filter(|entry| entry.file_name().to_string_lossy().starts_with("scratch-"));
    assert_eq!(scratch.count(), 0);
    assert_eq!(answer(&Server::start(&data, &[]), "shaft").await.1, 2);
}

/// A folder that brings one document more.
fn small_folder(dir: &tempfile::TempDir) -> std::path::PathBuf {
    write_collection(dir.path(), "c", &[text("doc.9", "On tin", "A treatise on mining tin.")])
}

#[tokio::test]
async fn an_index_that_is_lost_can_be_made_anew_and_imports_go_on_from_it() {
    let (dir, server) = small(&[]);
    let (before, _) = answer(&server, "mining").await;
    let data = server.data.clone();
    assert!(server.stop().success());
    for lost in ["objects/indexes", "cache"] {
        std::fs::remove_dir_all(data.join(lost)).unwrap();
    }
    let refused = run(&data, &["import", small_folder(&dir).to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`adit reindex c`"));
    let told = succeed(&data, &["reindex", "c"]);
    assert_eq!(told.trim(), "c: 5 documents are indexed anew in corpus version 2");
    let server = Server::start(&data, &[]);
    assert_eq!(answer(&server, "mining").await, (before, 2));
    let told = succeed(&data, &["import", small_folder(&dir).to_str().unwrap()]);
    assert!(told.contains("1 added, 0 updated, 0 unchanged; 6 documents in corpus version 3"), "{told}");
    assert_eq!(answer(&server, "mining").await.0[0], 6);
}

#[tokio::test]
async fn another_language_is_analysed_by_once_all_is_indexed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder =
        write_collection(dir.path(), "c", &[text("a", "Deep mining", "Miners mine."), text("b", "B", "Ores.")]);
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, &[]);
    assert_eq!(answer(&server, "title:mines").await.0[0], 0);

    let about = folder.join("collection.json");
    let mut collection: Value = serde_json::from_str(&std::fs::read_to_string(&about).unwrap()).unwrap();
    collection["language"] = json!("en");
    std::fs::write(&about, collection.to_string()).unwrap();
    let told = run(&data, &["import", folder.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("run `adit reindex c`"));
    assert_eq!(answer(&server, "title:mines").await.0[0], 0);

    succeed(&data, &["reindex", "c"]);
    assert_eq!(answer(&server, "title:mines").await, (json!([1, [1], answer(&server, "title:mines").await.0[2]]), 2));
    assert_eq!(answer(&server, "title:=mines").await.0[0], 0);
    assert_eq!(answer(&server, "title:=mining").await.0[0], 1);
}

#[tokio::test]
async fn a_collection_moves_to_an_outside_engine_and_back() {
    let Ok(url) = std::env::var("ADIT_TEST_SEARCH_URL") else { return };
    let prefix = format!("t{:016x}", rand::random::<u64>());
    let url = format!("{url}{}prefix={prefix}", if url.contains('?') { '&' } else { '?' });
    let (dir, server) = small(&[]);
    let queries = ["mining", "text:\"treatise on mining\" AND coal", "year:2020 -gold", "co*", "mineng~1"];
    let mut before = Vec::new();
    for query in queries {
        before.push(answer(&server, query).await.0);
    }
    let data = server.data.clone();
    assert!(server.stop().success());
    let outside = |arguments: &[&str]| succeeded(adit(&data).args(arguments).env("ADIT_SEARCH_URL", &url));
    assert_eq!(outside(&["reindex", "c"]).trim(), "c: 5 documents are indexed anew in corpus version 2");
    let server = Server::start(&data, &[("ADIT_SEARCH_URL", &url)]);
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(answer(&server, query).await, (before.clone(), 2), "{query}");
    }
    expect(server.get("/readyz").await, 200).await;
    let folder = write_collection(dir.path(), "c", &[text("doc.0", "On tin", "A treatise on mining tin.")]);
    let told = outside(&["import", folder.to_str().unwrap()]);
    assert!(told.contains("0 added, 1 updated, 0 unchanged; 5 documents in corpus version 3"), "{told}");
    assert_eq!(answer(&server, "mining").await.0[1], json!([257, 2, 3, 4, 5]));
    let made =
        expect(server.post("/api/docsets", &json!({"collection": "c", "query": "tin OR gold"})).await, 201).await;
    assert_eq!(made["size"], 2);

    assert!(server.stop().success());
    succeed(&data, &["reindex", "c"]);
    let server = Server::start(&data, &[]);
    assert_eq!(answer(&server, "mining").await.0[1], json!([257, 2, 3, 4, 5]));
}

#[tokio::test]
async fn an_outside_engine_that_is_away_is_named() {
    let (_dir, server) = small(&[("ADIT_SEARCH_URL", "opensearch+http://adit:hunter2@127.0.0.1:1")]);
    let search = server.post("/api/collections/c/search", &json!({"query": "*"})).await;
    assert!(search.headers().contains_key("retry-after"));
    assert_eq!(expect(search, 503).await["part"], "search index");
    let ready = expect(server.get("/readyz").await, 503).await;
    assert_eq!((&ready["search index"], &ready["database"]), (&json!("away"), &json!("ok")));
    let key = server.get("/api/me").await;
    expect(key, 200).await;
    let log = std::fs::read_to_string(server.data.join("log.txt")).unwrap();
    assert!(log.contains("search") && !log.contains("hunter2"), "{log}");
}

#[test]
fn a_collection_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&dir.path().join("data"), &["reindex", "jose"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("\"jose\""), "{told}");
}
