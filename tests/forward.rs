//! Data of an earlier program: it is taken over with its journal and messages, never under a server that still runs on it, and never back.

use std::fs::{self, File};
use std::path::Path;

use adit_shared::digest::Sha256;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::{Client, Server, eventually, run, small_collection, succeed, text, unzip, write_collection};

/// Made by the program of commit 9af49e6: see `tests/forward/make`.
const SCHEMA_12: &[u8] = include_bytes!("forward/schema-12.tar.zst");

/// Unpacks a fixture; gives what it says of itself.
fn unpack(fixture: &[u8], folder: &Path) -> Value {
    let tar = zstd::stream::decode_all(fixture).unwrap();
    tar::Archive::new(&tar[..]).unpack(folder).unwrap();
    serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

/// Runs a verb that must fail; gives what it tells.
fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn schema_version(data: &Path) -> i64 {
    let url = format!("sqlite://{}/adit.sqlite", data.display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let version = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&mut database).await;
    database.close().await.unwrap();
    version.unwrap()
}

#[tokio::test]
async fn a_data_folder_of_an_earlier_program_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let expected = unpack(SCHEMA_12, dir.path());
    let data = dir.path().join("data");
    // Archives of the fixture are older than any usual time.
    let server = Server::start(&data, &[("ADIT_PACKAGE_TTL", "3660d")]);
    assert!(schema_version(&data).await > 12);
    let client = Client::new(&server.url, expected["key"].as_str().unwrap());
    // Its request lay in the journal.
    let waiting = client.finished(expected["waiting"].as_i64().unwrap()).await;
    assert_eq!((&waiting["status"], &waiting["salt"]), (&json!("successful"), &Value::Null), "{waiting}");
    let archive = client.download(waiting["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(waiting["sha256"], Sha256::of(&archive).to_string());
    let content = unzip(&archive).into_values().any(|bytes| String::from_utf8_lossy(&bytes).contains("mining iron"));
    assert!(content);
    let built = client.json(&format!("/api/packages/{}", expected["built"])).await;
    let archive = client.download(built["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(expected["sha256"], Sha256::of(&archive).to_string());

    let later = [text("doc.9", "On tin", "A treatise on mining tin.")];
    succeed(&data, &["import", write_collection(dir.path(), "c", &later).to_str().unwrap()]);
    let docset = client.docset("c", "mining").await;
    let (package, archive) = client.archive(docset, &json!({"formats": ["txt"]})).await;
    assert!(package["salt"].is_string());
    assert_eq!(unzip(&archive).keys().filter(|name| name.ends_with(".txt")).count(), 6);
    succeed(&data, &["storage", "check", "--full"]);
    eventually("no request waits", || async {
        let queues: Value = serde_json::from_str(&succeed(&data, &["queues", "--json"])).unwrap();
        let messages = |queue: &Value| queue["ready"].as_u64().unwrap() + queue["unacknowledged"].as_u64().unwrap();
        let requests = queues.as_array().unwrap().iter().filter(|queue| queue["name"] == "docsets/package");
        (requests.map(messages).sum::<u64>() == 0).then_some(())
    })
    .await;
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_verb_does_not_bring_the_data_of_a_running_earlier_program_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    unpack(SCHEMA_12, dir.path());
    let data = dir.path().join("data");
    // The earlier server holds the folder.
    let lock = File::create(data.join("lock")).unwrap();
    lock.lock().unwrap();
    let backup = dir.path().join("backup");
    let collection = small_collection(dir.path());
    for arguments in [
        ["keys", "list"].as_slice(),
        &["storage", "check"],
        &["storage", "backup", backup.to_str().unwrap()],
        &["import", collection.to_str().unwrap()],
    ] {
        let told = refused(&data, arguments);
        assert!(told.contains("its schema has version 12") && told.contains("stop that server first"), "{told}");
    }
    assert_eq!(schema_version(&data).await, 12);
    drop(lock);
    succeed(&data, &["keys", "list"]);
    assert!(schema_version(&data).await > 12);
}

#[tokio::test]
async fn data_of_a_newer_program_are_refused_with_both_versions_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    succeed(&data, &["keys", "list"]);
    let known = schema_version(&data).await;
    let url = format!("sqlite://{}/adit.sqlite", data.display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of the future', TRUE, x'00', 0)";
    database.execute(newer).await.unwrap();
    database.close().await.unwrap();
    for arguments in [["keys", "list"].as_slice(), &["--listen", "127.0.0.1:0", "up"]] {
        let told = refused(&data, arguments);
        let versions = format!("version 9999, and this program (adit 0.1.0) knows versions up to {known}");
        assert!(told.contains(&versions) && told.contains("restore a backup"), "{told}");
    }
}
