//! Bits rot, and objects go: `adit storage check` names what is damaged, `adit storage repair` heals it, and
//! no collection is locked by it.

use std::fs;
use std::path::{Path, PathBuf};

use adit_shared::objects::ObjectStore;
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, DatabaseKind, Deployment, Doc, Server, StoreKind, adit, expect, noise, run, succeed, succeeded, text,
    write_collection,
};

/// A folder with three documents, short and long, and a data folder into which it was imported.
struct Site {
    dir: tempfile::TempDir,
    folder: PathBuf,
    data: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let long = "Shaft by shaft the coal was won. ".repeat(300);
        let pdf = |r#ref, seed| Doc {
            r#ref,
            metadata: json!({"title": "Plans"}),
            files: vec![("txt", b"A short text.".to_vec()), ("pdf", noise(seed, 200_000))],
        };
        let folder =
            write_collection(dir.path(), "c", &[text("doc.1", "Coal", &long), pdf("doc.2", 2), pdf("doc.3", 3)]);
        let data = dir.path().join("data");
        succeed(&data, &["import", folder.to_str().unwrap()]);
        Self { dir, folder, data }
    }

    /// The only pack of a format.
    fn pack(&self, format: &str) -> PathBuf {
        self.object("packs/1", &format!("-{format}-"))
    }

    /// The last object in a folder of the store whose name has `part` in it.
    fn object(&self, folder: &str, part: &str) -> PathBuf {
        let entries = fs::read_dir(self.data.join("objects").join(folder)).unwrap();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        paths.sort();
        paths.into_iter().rfind(|path| path.file_name().unwrap().to_str().unwrap().contains(part)).unwrap()
    }

    /// The archive of a package.
    fn archive(&self, package: u32) -> PathBuf {
        let folders = fs::read_dir(self.data.join("objects/packages")).unwrap();
        let mut names = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
        let folder = names.find(|name| name.split('-').next() == Some(&package.to_string())).unwrap();
        self.object(&format!("packages/{folder}"), ".zip")
    }

    /// Exit status and findings of a verb.
    fn findings(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = run(&self.data, &[&["storage"], arguments, &["--json"]].concat());
        let findings = serde_json::from_slice(&output.stdout);
        (output.status.code(), findings.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
    }

    /// What is damaged, by kind and, of a file, ref and format.
    fn damages(&self, arguments: &[&str]) -> Vec<String> {
        let (status, findings) = self.findings(arguments);
        let damages = findings["damages"].as_array().unwrap();
        assert_eq!(status, Some(i32::from(!damages.is_empty())), "{findings}");
        assert_eq!(findings["healthy"], damages.is_empty());
        let name = |damage: &Value| match damage["kind"].as_str().unwrap() {
            "file" => format!("{} {}", damage["ref"].as_str().unwrap(), damage["format"].as_str().unwrap()),
            kind => kind.to_owned(),
        };
        damages.iter().map(name).collect()
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, less: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - less).unwrap();
}

fn append(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, [bytes, b"more".to_vec()].concat()).unwrap();
}

/// Changes the places of the first half of a file and the second.
fn swap_halves(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let half = bytes.len() / 2;
    bytes.rotate_left(half);
    fs::write(path, bytes).unwrap();
}

/// Damages the storage of a site.
type Damage = fn(&Site);

/// Damages, and what of them is found.
const DAMAGES: &[(Damage, &[&str])] = &[
    (|site| flip(&site.pack("pdf"), 100), &["doc.2 pdf"]),
    (|site| flip(&site.pack("pdf"), 399_999), &["doc.3 pdf"]),
    (|site| cut(&site.pack("pdf"), 1), &["doc.3 pdf"]),
    (|site| cut(&site.pack("pdf"), 200_001), &["doc.2 pdf", "doc.3 pdf"]),
    (|site| append(&site.pack("pdf")), &["pack"]),
    (|site| fs::remove_file(site.pack("pdf")).unwrap(), &["doc.2 pdf", "doc.3 pdf"]),
    (|site| swap_halves(&site.pack("pdf")), &["doc.2 pdf", "doc.3 pdf"]),
    // In the long text, which is compressed, and in the last of the short ones.
    (|site| flip(&site.pack("txt"), 60), &["doc.1 txt"]),
    (|site| cut(&site.pack("txt"), 3), &["doc.3 txt"]),
    (|site| fs::remove_file(site.pack("txt")).unwrap(), &["doc.1 txt", "doc.2 txt", "doc.3 txt"]),
    (|site| flip(&site.pack("meta"), 20), &["doc.1 meta"]),
    (|site| fs::remove_file(site.pack("meta")).unwrap(), &["doc.1 meta", "doc.2 meta", "doc.3 meta"]),
    (
        |site| assert_eq!(fs::copy(site.pack("pdf"), site.pack("txt")).unwrap(), 400_000),
        &["doc.1 txt", "doc.2 txt", "doc.3 txt", "pack"],
    ),
    (|site| fs::remove_file(site.object("indexes/1", ".json")).unwrap(), &["index"]),
    (|site| cut(&site.object("indexes/1", ".json"), 9), &["index"]),
    (|site| flip(&site.object("indexes/1/files", ".store"), 9), &["index"]),
    (|site| cut(&site.object("indexes/1/files", ".term"), 9), &["index"]),
    (|site| fs::remove_file(site.object("indexes/1/files", ".idx")).unwrap(), &["index"]),
    (|site| fs::remove_dir_all(site.data.join("objects/indexes")).unwrap(), &["index"]),
    // In the first record.
    (|site| flip(&site.data.join("broker/broker.journal"), 20), &["journal"]),
];

#[tokio::test]
async fn every_damage_is_found_with_its_documents_and_healed_from_the_folder() {
    let site = Site::new();
    let server = Server::start(&site.data, &[]);
    // Its request is a message of the journal.
    let docset = server.docset("c", "*").await;
    server.ask(docset, &json!({"formats": ["txt"]})).await;
    server.kill();
    assert_eq!(site.damages(&["check", "--full"]), Vec::<String>::new());
    let good = ["txt", "pdf", "meta"].map(|format| fs::read(site.pack(format)).unwrap());
    for (number, (damage, expected)) in DAMAGES.iter().enumerate() {
        damage(&site);
        assert_eq!(site.damages(&["check", "--full"]), *expected, "damage {number}");
        assert_eq!(site.damages(&["repair", site.folder.to_str().unwrap()]), Vec::<String>::new(), "damage {number}");
        assert_eq!(site.damages(&["check", "--full"]), Vec::<String>::new(), "damage {number}");
        assert!(["txt", "pdf", "meta"].map(|format| fs::read(site.pack(format)).unwrap()) == good, "damage {number}");
    }
}

#[test]
fn people_are_told_the_collection_the_ref_and_what_helps() {
    let site = Site::new();
    cut(&site.pack("pdf"), 1);
    let output = run(&site.data, &["storage", "check"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("c: doc.3 (document 3), pdf: its object is cut off before its end"), "{out}");
    assert!(out.contains("3 documents with 8 files in 3 packs, 7 of the files read; 0 packages; 1 damages"), "{out}");
    assert!(err.contains("`adit storage repair FOLDER`"), "{err}");
}

#[test]
fn what_the_store_and_the_database_know_heals_without_a_folder() {
    let site = Site::new();
    // The same PDF comes again with another document, in a pack of a later import.
    let twin = Doc { r#ref: "doc.4", metadata: json!({}), files: vec![("pdf", noise(2, 200_000))] };
    let folder = write_collection(&site.dir.path().join("later"), "c", &[twin]);
    let first = site.pack("pdf");
    succeed(&site.data, &["import", folder.to_str().unwrap()]);
    flip(&first, 100);
    fs::remove_file(site.object("packs/1", "-meta-")).unwrap();
    assert_eq!(site.damages(&["repair"]), Vec::<String>::new());
    flip(&first, 399_999);
    assert_eq!(site.damages(&["repair"]), ["doc.3 pdf"], "of that there is no other copy");
}

#[test]
fn an_intact_copy_of_the_store_heals_too() {
    let site = Site::new();
    let copy = site.dir.path().join("copy/objects/packs/1");
    fs::create_dir_all(&copy).unwrap();
    for format in ["txt", "pdf", "meta"] {
        let pack = site.pack(format);
        fs::copy(&pack, copy.join(pack.file_name().unwrap())).unwrap();
        fs::remove_file(pack).unwrap();
    }
    assert_eq!(site.damages(&["check"]).len(), 8);
    assert_eq!(site.damages(&["repair", site.dir.path().join("copy").to_str().unwrap()]), Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_text_and_a_lost_index_do_not_lock_a_collection() {
    let site = Site::new();
    flip(&site.pack("txt"), 60);
    for lost in ["objects/indexes", "cache"] {
        fs::remove_dir_all(site.data.join(lost)).unwrap();
    }
    let output = run(&site.data, &["reindex", "c"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("doc.1 (document 1): its text is left out"), "{err}");
    assert!(err.contains("1 of them without their text") && err.contains("`adit storage repair FOLDER`"), "{err}");

    let server = Server::start(&site.data, &[]);
    let hits = async |query: &str| {
        let found = server.post("/api/collections/c/search", &json!({"query": query})).await;
        expect(found, 200).await["hits"].as_i64().unwrap()
    };
    assert_eq!((hits("title:coal").await, hits("text:won").await, hits("text:short").await), (1, 0, 2));
    let more = write_collection(&site.dir.path().join("more"), "c", &[text("doc.9", "More", "Iron.")]);
    succeed(&site.data, &["import", more.to_str().unwrap()]);
    succeed(&site.data, &["withdraw", "doc.2", "--collection", "c", "--reason", "wrong"]);
    assert_eq!((hits("text:iron").await, hits("text:short").await), (1, 1));

    assert_eq!(site.damages(&["repair", site.folder.to_str().unwrap()]), Vec::<String>::new());
    succeed(&site.data, &["reindex", "c"]);
    assert_eq!(hits("text:won").await, 1);
}

#[tokio::test]
async fn a_damaged_archive_is_found_and_the_miner_gets_a_good_one_by_asking_again() {
    let site = Site::new();
    let server = Server::start(&site.data, &[]);
    let package = |output: &str| {
        let mut command = adit(&site.data);
        command.env("ADIT_API_KEY", &server.key).current_dir(site.dir.path());
        succeeded(command.args(["--url", &server.url, "package", "1", "--formats", "pdf", "--output", output]));
        fs::read(site.dir.path().join(output)).unwrap()
    };
    server.docset("c", "*").await;
    let good = package("first.zip");
    assert_eq!(site.damages(&["check", "--full"]), Vec::<String>::new());
    flip(&site.archive(1), 5000);
    assert_eq!(site.damages(&["check"]), Vec::<String>::new(), "its length is right");
    assert_eq!(site.damages(&["check", "--full"]), ["package"]);
    assert!(package("second.zip") == good);
    assert_eq!(site.damages(&["check", "--full"]), Vec::<String>::new(), "the damaged one is erased");

    cut(&site.archive(2), 1);
    assert_eq!(site.damages(&["check"]), ["package"]);
    assert!(package("third.zip") == good);

    flip(&site.archive(3), 5000);
    assert_eq!(site.damages(&["repair"]), Vec::<String>::new());
    assert!(package("fourth.zip") == good);
}

/// The first object whose key begins and ends like this.
async fn find_object(objects: &dyn ObjectStore, prefix: &str, end: &str) -> String {
    let found = objects.list(prefix).await.unwrap();
    found.into_iter().map(|(key, _)| key).find(|key| key.ends_with(end)).unwrap()
}

/// Flips a bit of an object in whatever store.
async fn flip_object(objects: &dyn ObjectStore, key: &str, at: usize) {
    let chunks: Vec<Bytes> = objects.read(key, None).await.unwrap().try_collect().await.unwrap();
    let mut bytes = chunks.concat();
    bytes[at] ^= 4;
    objects.put(key, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn damage_on_servers_is_named_and_healed() {
    let parts = (BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3);
    let Some(deployment) = Deployment::new(parts.0, parts.1, parts.2).await else { return };
    let pdf = |r#ref, seed| Doc { r#ref, metadata: json!({}), files: vec![("pdf", noise(seed, 200_000))] };
    let folder = write_collection(deployment.folder(), "c", &[pdf("doc.1", 1), pdf("doc.2", 2)]);
    deployment.import(&folder);
    let (objects, running) = (deployment.objects().await, deployment.start(&[]));
    let verb = |arguments: &[&str]| {
        let output = deployment.adit(&[&["storage"], arguments, &["--json"]].concat()).output().unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        findings["damages"].as_array().unwrap().iter().map(|damage| damage["kind"].clone()).collect::<Vec<_>>()
    };
    let docset = running.docset("c", "*").await;
    let (package, good) = running.archive(docset, &json!({"formats": ["pdf"]})).await;
    assert!(verb(&["check", "--full"]).is_empty());

    let pack = find_object(&*objects, "packs/", "-pdf-00001").await;
    flip_object(&*objects, &pack, 100).await;
    assert_eq!(verb(&["check", "--full"]), ["file"]);
    let statuses = async || {
        let mut statuses = Vec::new();
        for document in 1..=2 {
            statuses.push(running.get(&format!("/api/documents/{document}/files/pdf")).await.status().as_u16());
        }
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(statuses().await, [200, 500]);
    assert!(verb(&["repair", folder.to_str().unwrap()]).is_empty());
    assert_eq!(statuses().await, [200, 200]);

    let archive = find_object(&*objects, "packages/", ".zip").await;
    flip_object(&*objects, &archive, 5000).await;
    assert_eq!(verb(&["check", "--full"]), ["package"]);
    let check = format!("/api/packages/{}/check", package["id"]);
    assert_eq!(running.post(&check, &json!({})).await.status(), 410);
    let (again, bytes) = running.archive(docset, &json!({"formats": ["pdf"]})).await;
    assert!(bytes == good && again["id"] != package["id"]);
    running.stop();
}
