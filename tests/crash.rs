//! What survives a power cut.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use serde_json::json;

use crate::support::{Doc, Server, eventually, expect, noise, succeed, write_collection};

/// Enough parts of 8 MiB that a build is seen at work: 480 MiB.
const DOCUMENTS: usize = 240;
const LENGTH: usize = 2 * 1024 * 1024;

/// Parts that the unfinished upload in the store holds.
fn parts_of(data: &Path) -> usize {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_part = |entry: &DirEntry| entry.path().extension().is_some_and(|extension| extension == "part");
    entries(data.join("objects/.uploads"))
        .map(|upload| entries(upload.path()).filter(is_part).count())
        .max()
        .unwrap_or(0)
}

#[tokio::test]
async fn a_build_that_was_killed_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let refs: Vec<String> = (0..DOCUMENTS).map(|n| format!("doc.{n:04}")).collect();
    let documents: Vec<Doc<'_>> = refs
        .iter()
        .enumerate()
        .map(|(n, r)| Doc {
            r#ref: r,
            metadata: json!({"title": "noise"}),
            files: vec![("pdf", noise(n as u64, LENGTH))],
        })
        .collect();
    let folder = write_collection(dir.path(), "big", &documents);
    drop(documents);
    let data = dir.path().join("data");
    succeed(&data, &["import", folder.to_str().unwrap()]);
    std::fs::remove_dir_all(folder).unwrap();

    let server = Server::start(&data, &[("ADIT_RESEND_AFTER", "1s")]);
    let docset = server.docset("big", "*").await;
    let body = json!({"formats": ["pdf", "meta"], "layout": "bag"});
    let package = expect(server.post(&format!("/api/docsets/{docset}/packages"), &body).await, 202).await;
    let id = package["id"].as_i64().unwrap();
    eventually("some parts are stored", || async { (parts_of(&data) >= 5).then_some(()) }).await;
    server.kill();
    let stored = parts_of(&data);
    assert!(stored >= 5, "the build was interrupted in the middle");

    let server = Server::start(&data, &[("ADIT_RESEND_AFTER", "1s")]);
    let resumed = server.finished(id).await;
    assert_eq!(resumed["status"], "successful", "{resumed}");
    let log = std::fs::read_to_string(data.join("log.txt")).unwrap();
    let reused = log.rsplit_once("parts_reused=").expect("the packager tells how many parts it kept").1;
    let reused: usize = reused.split_whitespace().next().unwrap().parse().unwrap();
    assert!(reused >= stored, "{stored} parts were stored, and only {reused} of them used again");

    let undisturbed =
        server.package(docset, &json!({"formats": ["pdf", "meta"], "layout": "bag", "reuse": false})).await;
    assert_ne!(undisturbed["id"], resumed["id"]);
    assert_eq!(undisturbed["sha256"], resumed["sha256"]);
    let bytes = server.get(resumed["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(resumed["sha256"], Sha256::of(&bytes).to_string());
    assert!(server.stop().success());
}
