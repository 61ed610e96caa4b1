//! Packages that hold less than everything: dehydrated ones, deltas and shards give exactly what the full package holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Api, BrokerKind, DatabaseKind, Deployment, Doc, StoreKind, noise, text, unzip, write_collection};

/// Files by their paths.
type Files = BTreeMap<String, Vec<u8>>;

/// A deployment with a server on it, and a folder where a miner works.
struct Site {
    deployment: Deployment,
    api: Api,
    work: PathBuf,
}

impl Site {
    async fn new(store: StoreKind) -> Option<Self> {
        let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, store).await?;
        import(&deployment, &first());
        let api = deployment.up(&[]);
        let work = deployment.folder().join("work");
        fs::create_dir(&work).unwrap();
        Some(Self { deployment, api, work })
    }

    /// A verb of the miner, in the miner's folder.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.deployment.adit(&["--url", &self.api.client.url]);
        command.args(arguments).env("ADIT_API_KEY", &self.api.client.key).current_dir(&self.work);
        command.output().unwrap()
    }

    /// Its standard output, where it must succeed.
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Downloads a package of all formats; gives what the archive holds, below the bag's folder.
    fn package(&self, docset: i64, name: &str, options: &[&str]) -> Files {
        let docset = docset.to_string();
        let wish = ["package", &docset, "--formats", "txt,pdf,meta", "--layout", "bag", "--output", name];
        self.succeed(&[&wish, options].concat());
        in_bag(unzip(&fs::read(self.work.join(name)).unwrap()))
    }

    /// Unpacks an archive into a folder.
    fn unpack(&self, files: &Files, folder: &str) -> PathBuf {
        let folder = self.work.join(folder);
        for (path, content) in files {
            let place = folder.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, content).unwrap();
        }
        folder
    }
}

/// Documents of every kind; some have names that are no file names, and one has an empty text.
fn first() -> Vec<Doc<'static>> {
    let document = |r#ref, words: &str| {
        let mut document = text(r#ref, "A pit", &format!("{words} in the pit of {}. ", r#ref).repeat(20));
        document.files.push(("pdf", noise(r#ref.len() as u64, 500_000)));
        document
    };
    let mut empty = text("empty", "Nothing", "");
    empty.files.truncate(1);
    let names = ["same", "changed", "deleted", "with space", "50% é"];
    names.into_iter().map(|name| document(name, "words")).chain([empty]).collect()
}

/// The same later: one is gone, one has changed, one is new.
fn second() -> Vec<Doc<'static>> {
    let mut documents = first();
    documents.retain(|document| document.r#ref != "deleted");
    let changed = documents.iter_mut().find(|document| document.r#ref == "changed").unwrap();
    changed.files[0].1 = b"other words".to_vec();
    documents.push(text("added", "A new pit", "new words"));
    documents
}

fn import(deployment: &Deployment, documents: &[Doc<'_>]) {
    deployment.import(&write_collection(deployment.folder(), "pits", documents));
}

/// The files of a bag, by their paths in it.
fn in_bag(files: Files) -> Files {
    files.into_iter().map(|(path, content)| (path.split_once('/').unwrap().1.to_owned(), content)).collect()
}

/// All files of a folder.
fn read(folder: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// That two sets of files are the same, told without their bytes.
fn same(found: &Files, expected: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    let other: Vec<_> =
        found.iter().filter(|(path, content)| expected[*path] != **content).map(|(path, _)| path).collect();
    assert!(other.is_empty(), "{other:?} differ");
}

/// Each journey on a folder and on an object store.
macro_rules! on_each_store {
    ($($name:ident, $on_s3:ident: $journey:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $journey(Site::new(StoreKind::Folder).await.unwrap()).await;
            }

            #[tokio::test]
            async fn $on_s3() {
                if let Some(site) = Site::new(StoreKind::S3).await {
                    $journey(site).await;
                }
            }
        )+
    };
}

on_each_store! {
    a_hydrated_bag_is_the_full_bag, a_hydrated_bag_is_the_full_bag_on_s3: hydrate;
    a_base_and_a_delta_are_the_full_bag, a_base_and_a_delta_are_the_full_bag_on_s3: apply;
    shards_are_the_full_package, shards_are_the_full_package_on_s3: unite;
    a_hydrated_bag_of_tables_has_its_shards, a_hydrated_bag_of_tables_has_its_shards_on_s3: hydrate_tables;
}

async fn hydrate(site: Site) {
    let docset = site.api.docset("pits", "*").await;
    let full = site.package(docset, "full.zip", &[]);
    let dry = site.package(docset, "dry.zip", &["--dehydrated"]);
    assert!(dry.contains_key("fetch.txt") && !dry.keys().any(|path| path.starts_with("data/")));
    let said = site.succeed(&["hydrate", "dry.zip"]);
    let bag = said.trim_end().strip_suffix(" is whole").unwrap();
    same(&read(&site.work.join(bag)), &full);

    // Files that are damaged or gone are fetched again, and those alone.
    let folder = site.unpack(&dry, "again");
    site.succeed(&["hydrate", "again"]);
    let damaged = full.keys().find(|path| path.ends_with(".pdf")).unwrap();
    fs::write(folder.join(damaged), "damaged").unwrap();
    let refused = site.run(&["hydrate", "again"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains(&format!("{damaged}: its SHA-256 is not that of manifest-sha256.txt")), "{said}");
    fs::write(folder.join("fetch.txt"), &dry["fetch.txt"]).unwrap();
    site.succeed(&["hydrate", "again"]);
    same(&read(&folder), &full);

    // A key that is of no use is told once, not for every file.
    site.unpack(&dry, "refused");
    let mut command = site.deployment.adit(&["--url", &site.api.client.url, "hydrate", "refused"]);
    let refused = command.env("ADIT_API_KEY", "wrong").current_dir(&site.work).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("put the key into ADIT_API_KEY"), "{said}");
}

async fn hydrate_tables(site: Site) {
    let docset = site.api.docset("pits", "*").await.to_string();
    site.succeed(&["package", &docset, "--formats", "txt", "--layout", "jsonl", "--output", "tables"]);
    let mut files = read(&site.work.join("tables"));
    let archive = files.keys().find(|name| name.ends_with(".zip")).unwrap().clone();
    site.succeed(&["hydrate", &format!("tables/{archive}")]);
    files.retain(|name, _| name.ends_with(".jsonl.zst"));
    let bag = read(&site.work.join("tables").join(archive.trim_end_matches(".zip")));
    let payload = bag.into_iter().filter_map(|(path, bytes)| Some((path.strip_prefix("data/")?.to_owned(), bytes)));
    assert!(!files.is_empty());
    same(&payload.collect(), &files);
}

async fn apply(site: Site) {
    let base = site.api.docset("pits", "*").await;
    let old = site.package(base, "old.zip", &[]);
    import(&site.deployment, &second());
    let docset = site.api.docset("pits", "*").await;
    let full = site.package(docset, "full.zip", &[]);
    let delta = site.package(docset, "delta.zip", &["--delta-from", &format!("docset:{base}")]);
    let payload = |files: &Files| files.keys().filter(|path| path.starts_with("data/")).cloned().collect::<Vec<_>>();
    let changed: Vec<String> = payload(&full).into_iter().filter(|path| old.get(path) != full.get(path)).collect();
    assert_eq!(payload(&delta), changed, "a delta holds what is new, and nothing else");

    let folder = site.unpack(&old, "base");
    let said = site.succeed(&["apply", "delta.zip", "base"]);
    assert!(said.contains(&format!("{} files added or changed", changed.len())), "{said}");
    same(&read(&folder), &full);
    site.succeed(&["apply", "delta.zip", "base"]);
    same(&read(&folder), &full);

    // Without its base, the whole package can be made of the delta alone.
    let bag = site.unpack(&delta, "delta");
    site.succeed(&["hydrate", "delta"]);
    same(&read(&bag), &full);

    let incomplete = site.unpack(&old, "incomplete");
    let missing = payload(&full).into_iter().find(|path| !changed.contains(path)).unwrap();
    fs::remove_file(incomplete.join(&missing)).unwrap();
    let refused = site.run(&["apply", "delta.zip", "incomplete"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains(&format!("{missing}: is missing; `adit hydrate")), "{said}");
}

async fn unite(site: Site) {
    let docset = site.api.docset("pits", "*").await;
    for layout in ["flat", "bag"] {
        let (_, whole) = site.api.archive(docset, &json!({"formats": ["txt", "pdf", "meta"], "layout": layout})).await;
        let id = docset.to_string();
        let shards = format!("shards-{layout}");
        let wish = ["package", &id, "--formats", "txt,pdf,meta", "--layout", layout, "--shard-bytes"];
        site.succeed(&[&wish, ["1048576", "--output", &shards].as_slice()].concat());
        let mut files = Files::new();
        let mut archives = 0;
        for (name, content) in read(&site.work.join(&shards)) {
            if name.ends_with(".zip") {
                archives += 1;
                for (path, content) in unzip(&content) {
                    assert!(files.insert(path.clone(), content).is_none(), "{path} stands in two shards");
                }
            } else if name == "manifest.json" {
                let manifest: Value = serde_json::from_slice(&content).unwrap();
                assert_eq!(manifest["layout"], layout);
            }
        }
        assert!(archives > 1, "{layout}");
        let plain = |files: Files| if layout == "bag" { in_bag(files) } else { files };
        same(&plain(files), &plain(unzip(&whole)));
    }
}
