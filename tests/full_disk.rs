//! A disk that is full under a running server: what can be read is read, what must be written is
//! refused, and when there is room again everything works without a restart.

#![expect(clippy::print_stdout, reason = "a test prints why it is skipped")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use tempfile::TempDir;

use crate::support::{
    Client, Doc, Server, eventually, expect, noise, run, small_collection, succeed, text, write_collection,
};

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

    /// Fills it up to so many bytes.
    fn fill_up_to(&self, room: u64) {
        self.fill();
        let ballast = File::options().write(true).open(self.ballast()).unwrap();
        ballast.set_len(ballast.metadata().unwrap().len().saturating_sub(room)).unwrap();
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

/// Waits until these parts are away, and no others; prints when that was told of each, first and
/// last.
async fn time_parts(client: &Client, told: &str, expected: &[&str]) {
    let began = Instant::now();
    let known = Mutex::new(Vec::new());
    eventually("the parts are told of", || async {
        let found = away(client).await;
        let mut known = known.lock().unwrap();
        if *known != found {
            println!("{told}: {found:?} after {:?}", began.elapsed());
            known.clone_from(&found);
        }
        (found == expected).then_some(())
    })
    .await;
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
        time_parts(&miner, "away", &["database", "message broker", "object store"]).await;
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
        time_parts(&miner, "back", &[]).await;
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

/// All files below a folder, but for those of the test, by name and size.
fn list_files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(list_files(&path));
        } else if !path.ends_with("ballast") {
            files.insert(path.clone(), path.metadata().unwrap().len());
        }
    }
    files
}

/// Bytes of a document that does not compress.
const NOISE: usize = 2 << 20;

/// Writes a collection folder of documents that do not compress.
fn noise_collection(parent: &Path, name: &str, documents: u64) -> String {
    let refs: Vec<String> = (0..documents).map(|n| format!("{name}.{n}")).collect();
    let document =
        |(n, r)| Doc { r#ref: r, metadata: json!({"title": "On noise"}), files: vec![("pdf", noise(n, NOISE))] };
    let documents: Vec<Doc<'_>> = (0..).zip(refs.iter().map(String::as_str)).map(document).collect();
    write_collection(parent, name, &documents).to_str().unwrap().to_owned()
}

/// Runs a verb that must fail because a disk is full, and say so.
fn refuse_full(data: &Path, arguments: &[&str]) {
    let refused = run(data, arguments);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("No space left"), "{arguments:?}: {refused:?}");
}

/// A data folder with small disks of its own for the objects, for indexes and for what a build
/// keeps in temporary files; and a server on it.
struct SmallDisks {
    dir: TempDir,
    objects: SmallDisk,
    cache: SmallDisk,
    temporary: SmallDisk,
    server: Server,
    data: PathBuf,
}

impl SmallDisks {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (data, temporary) = (dir.path().join("data"), dir.path().join("tmp"));
        let objects = SmallDisk::mount(&data.join("objects"), "48m")?;
        let cache = SmallDisk::mount(&data.join("cache"), "16m")?;
        let disk = SmallDisk::mount(&temporary, "1m")?;
        let folder = small_collection(dir.path());
        succeed(&data, &["import", folder.to_str().unwrap()]);
        let server = Server::start(&data, &[("TMPDIR", temporary.to_str().unwrap())]);
        Some(Self { dir, objects, cache, temporary: disk, server, data })
    }

    /// Waits until the log tells that often that a disk is full.
    async fn await_full(&self, times: usize) {
        eventually("a writer meets the full disk", || async {
            let log = std::fs::read_to_string(self.data.join("log.txt")).unwrap();
            (log.matches("No space left").count() >= times).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_import_and_a_reindex_that_meet_a_full_disk_leave_nothing_and_work_later() {
    let Some(disks) = SmallDisks::mount() else { return };
    let (data, store) = (&disks.data, disks.data.join("objects"));
    let big = noise_collection(disks.dir.path(), "big", 4);
    let before = list_files(&store);
    // In the middle of the packs.
    disks.objects.fill_up_to(3 * NOISE as u64);
    refuse_full(data, &["import", &big]);
    assert_eq!(list_files(&store), before);
    disks.objects.free();
    // In the index, which is made on the cache's disk.
    for verb in [&["import", &big][..], &["reindex", "c"]] {
        disks.cache.fill();
        refuse_full(data, verb);
        assert_eq!(list_files(&store), before, "{verb:?}");
        disks.cache.free();
    }
    succeed(data, &["import", &big]);
    succeed(data, &["reindex", "c"]);
    for (collection, documents) in [("c", 5), ("big", 4)] {
        let found = disks.server.search(collection, &json!({"query": "*"})).await;
        assert_eq!(found["hits"], documents);
    }
}

#[tokio::test]
async fn builds_and_searches_that_meet_a_full_disk_come_to_their_end_later() {
    let Some(disks) = SmallDisks::mount() else { return };
    let server = &disks.server;
    succeed(&disks.data, &["import", &noise_collection(disks.dir.path(), "big", 4)]);
    // An index that has to be fetched, and finds no room.
    for collection in std::fs::read_dir(disks.data.join("cache")).unwrap() {
        let files = collection.unwrap().path().join("files");
        std::fs::remove_dir_all(&files).unwrap();
        std::fs::create_dir(&files).unwrap();
    }
    disks.cache.fill();
    let refused = server.post("/api/collections/big/search", &json!({"query": "noise"})).await;
    assert_eq!(expect(refused, 503).await["part"], "search index");
    disks.cache.free();
    assert_eq!(server.search("big", &json!({"query": "noise"})).await["hits"], 4);

    // An upload, and what is planned in temporary files.
    let docset = server.docset("big", "noise").await;
    let wishes = [json!({"formats": ["pdf"]}), json!({"formats": ["pdf"], "layout": "parquet"})];
    for (round, (wish, disk)) in wishes.iter().zip([&disks.objects, &disks.temporary]).enumerate() {
        disk.fill_up_to(if round == 0 { NOISE as u64 } else { 0 });
        let package = server.ask(docset, wish).await;
        disks.await_full(round + 1).await;
        disk.free();
        let built = server.finished(package).await;
        assert_eq!(built["status"], "successful", "{built}");
    }
}
