//! What a backup holds that was made while the server worked, and what is there after its return.

use std::path::Path;

use adit_shared::digest::Sha256;
use serde_json::{Value, json};

use crate::support::{Server, adit, small, succeed, text, write_collection};

/// What everything in a docset is packed as.
fn wish() -> Value {
    json!({"formats": ["txt", "meta"], "layout": "flat"})
}

fn back_up(data: &Path, target: &Path) -> String {
    succeed(data, &["storage", "backup", target.to_str().unwrap()])
}

#[tokio::test]
async fn what_was_there_is_there_again_and_what_came_later_is_not() {
    let (dir, server) = small(&[]);
    let docset = server.docset("c", "mining").await;
    let (package, archive) = server.archive(docset, &wish()).await;
    let target = dir.path().join("backup");
    // Imports, docsets and packages go on meanwhile.
    let folder = write_collection(dir.path(), "later", &[text("doc.9", "On tin", "A treatise on mining tin.")]);
    let (data, source) = (server.data.clone(), folder.to_str().unwrap().to_owned());
    let importing = tokio::task::spawn_blocking(move || succeed(&data, &["import", &source]));
    let (data, to) = (server.data.clone(), target.clone());
    let copying = tokio::task::spawn_blocking(move || back_up(&data, &to));
    let mut made = Vec::new();
    while !copying.is_finished() {
        made.push(server.docset("c", "iron OR gold").await);
    }
    let told = copying.await.unwrap();
    assert!(told.contains("objects"), "{told}");
    importing.await.unwrap();
    let later = server.docset("c", "gold").await;
    let (lost, lost_archive) = server.archive(later, &wish()).await;
    assert!(server.stop().success());

    let restored = Server::start(&target, &[]);
    succeed(&target, &["storage", "check", "--full"]);
    assert_eq!(restored.search("c", &json!({"query": "mining"})).await["hits"], 5);
    let same = restored.json(&format!("/api/packages/{}", package["id"])).await;
    assert_eq!(same["sha256"], package["sha256"]);
    let bytes = restored.download(same["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(Sha256::of(&bytes), Sha256::of(&archive));
    assert_eq!(restored.get(&format!("/api/docsets/{later}")).await.status(), 404, "it came after the backup");
    // What takes the numbers of what is lost is not taken for it.
    let new = restored.docset("c", "copper").await;
    let (other, other_archive) = restored.archive(new, &wish()).await;
    assert_ne!(Sha256::of(&other_archive), Sha256::of(&lost_archive));
    assert_eq!(other["sha256"], Sha256::of(&other_archive).to_string());
    assert_ne!(other["sha256"], lost["sha256"]);
    assert!(restored.stop().success());
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_half_copied_stays() {
    let (dir, server) = small(&[]);
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "precious").unwrap();
    let refused = |target: &Path, environment: &[(&str, &str)]| -> String {
        let mut command = adit(&server.data);
        command.args(["storage", "backup", target.to_str().unwrap()]).envs(environment.iter().copied());
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&full, &[]).contains("is not empty"));
    assert!(refused(&server.data.join("in"), &[]).contains("lies in the data folder"));
    let elsewhere = format!("file://{}", dir.path().join("elsewhere").display());
    assert!(refused(&dir.path().join("new"), &[("ADIT_STORE_URL", &elsewhere)]).contains("docs/OPERATIONS.md"));
    assert_eq!(std::fs::read(full.join("file")).unwrap(), b"precious");

    // What a killed backup left is removed by the next one to the same place.
    let left = dir.path().join(".new.adit-unfinished");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("half"), "x").unwrap();
    back_up(&server.data, &dir.path().join("new"));
    let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name.as_encoded_bytes().starts_with(b".new"));
    assert!(names.is_empty(), "{names:?}");
}
