//! A disk that is full under a running server: what can be read is read, what must be written is
//! refused, and when there is room again everything works without a restart.

#![expect(clippy::print_stdout, reason = "a test prints why it is skipped")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, eventually, expect, run, small_collection, succeed, text, write_collection};

/// A file system of its own that is soon full. It goes with its value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at that folder, or says why it cannot.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Some(Self(at.to_owned())),
            Ok(refused) => {
                println!("skipped: only root may mount: {}", String::from_utf8_lossy(&refused.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: there is no mount here: {error}");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Fills it to the last page.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let block = vec![1; 64 << 10];
        let mut size = block.len();
        while size > 0 {
            match ballast.write_all(&block[..size]) {
                Ok(()) => {}
                Err(_) => size /= 2,
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may be in use still; it goes when it no longer is.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The parts that `/readyz` says are away.
async fn away(client: &Client) -> Vec<String> {
    let answer = client.get("/readyz").await;
    let status = answer.status().as_u16();
    let parts: Value = expect(answer, status).await;
    let parts = parts.as_object().unwrap().iter();
    let away: Vec<String> = parts.filter(|(_, state)| *state == "away").map(|(part, _)| part.clone()).collect();
    assert_eq!(status == 200, away.is_empty(), "{away:?}");
    away
}

/// Reads of a miner that must work at any time.
async fn read_all(client: &Client, package: &Value) {
    for path in ["/api/collections", "/api/documents/1", "/api/documents/1/text", "/api/documents/2/text"] {
        assert_eq!(client.get(path).await.status(), 200, "{path}");
    }
    let found = client.post("/api/collections/c/search", &json!({"query": "mining"})).await;
    assert_eq!(expect(found, 200).await["hits"], 5);
    assert_eq!(client.json(&format!("/api/packages/{}", package["id"])).await["status"], "successful");
    let archive = client.download(&format!("/api/packages/{}/download", package["id"])).await;
    assert_eq!(archive.bytes().await.unwrap().len() as u64, package["size"].as_u64().unwrap());
}

#[tokio::test]
async fn a_full_disk_ends_nothing_and_needs_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, "48m") else { return };
    let folder = small_collection(dir.path());
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, &[]);
    let miner = Client::new(&server.url, &server.new_key("miner", &["--role", "miner"]));
    let docset = miner.docset("c", "mining").await;
    let (package, _) = miner.archive(docset, &json!({})).await;
    read_all(&miner, &package).await;

    // In the second round what was replaced in the first is full again.
    for (round, recipe) in [json!({"layout": "bag"}), json!({"formats": ["meta"]})].iter().enumerate() {
        disk.fill();
        eventually("every part that writes is named", || async {
            let all = ["database", "message broker", "object store"];
            (away(&miner).await == all).then_some(())
        })
        .await;
        for _ in 0..3 {
            let refused = miner.post(&format!("/api/docsets/{docset}/packages"), recipe).await;
            assert_eq!(refused.status(), 503, "{recipe}");
            let refused = miner.post("/api/docsets", &json!({"collection": "c", "query": "gold"})).await;
            assert_eq!(refused.status(), 503);
            read_all(&miner, &package).await;
        }
        let more = format!("doc.more{round}");
        let changed = write_collection(dir.path(), "more", &[text(&more, "On tin", "A treatise on tin.")]);
        assert!(!run(&data, &["import", changed.to_str().unwrap()]).status.success());
        assert_eq!(miner.request(Method::GET, "/healthz").send().await.unwrap().status(), 200);

        disk.free();
        eventually("every part is back", || async { away(&miner).await.is_empty().then_some(()) }).await;
        let built = miner.package(docset, recipe).await;
        assert_eq!(built["status"], "successful", "{built}");
        succeed(&data, &["import", changed.to_str().unwrap()]);
        read_all(&miner, &package).await;
    }
    assert!(server.stop().success());
    let server = Server::start(&data, &[]);
    let miner = Client::new(&server.url, &miner.key);
    read_all(&miner, &package).await;
    assert!(away(&miner).await.is_empty());
}
