//! What survives a power cut.

use adit_shared::digest::Sha256;
use serde_json::{Value, json};

use crate::support::{Doc, Server, eventually, expect, noise, succeed, write_collection};

/// Enough parts of 8 MiB that a build is seen at work: 480 MiB.
const DOCUMENTS: usize = 240;
const LENGTH: usize = 2 * 1024 * 1024;

fn parts_of(server_data: &std::path::Path) -> usize {
    // Every finished part of an unfinished upload has its own record beside the data.
    let uploads = server_data.join("objects/.uploads");
    let count = |dir: std::fs::DirEntry| {
        std::fs::read_dir(dir.path()).map_or(0, |entries| {
            entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("part")).count()
        })
    };
    std::fs::read_dir(uploads).map_or(0, |dirs| dirs.flatten().map(count).max().unwrap_or(0))
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
    let build: Value =
        serde_json::from_slice(&std::fs::read(data.join(format!("objects/packages/{id}/build.json"))).unwrap())
            .unwrap();
    assert!(
        build["done"]["parts_reused"].as_u64() >= Some(5),
        "the parts that were stored are not built again: {build}"
    );

    let undisturbed =
        server.package(docset, &json!({"formats": ["pdf", "meta"], "layout": "bag", "reuse": false})).await;
    assert_ne!(undisturbed["id"], resumed["id"]);
    assert_eq!(undisturbed["sha256"], resumed["sha256"]);
    let bytes = server.get(resumed["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(resumed["sha256"], Sha256::of(&bytes).to_string());
    assert!(server.stop().success());
}
