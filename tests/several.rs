//! Several machines on one database and one object store: what one imports the others find, and one that is killed or held up does no harm.

mod proxy;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adit_shared::objects::ObjectStore;
use adit_shared::store::Store as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Child;
use url::Url;

use self::proxy::{Proxy, Rule};
use crate::support::{
    Api, BrokerKind, DatabaseKind, Deployment, Machine, StoreKind, eventually, expect, noise, text, write_collection,
};

/// Machines that share what machines share.
async fn site() -> Option<Deployment> {
    Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3).await
}

async fn keys_below(objects: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    objects.list(prefix).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

/// A folder of the collection `c` with essays of these numbers; `also` is a word that all of them hold.
fn essays(site: &Deployment, numbers: std::ops::Range<u64>, also: &str) -> PathBuf {
    // Enough different words that every file of the index has some length.
    let word = |bytes: &[u8]| format!("w{:08x}", u32::from_le_bytes(bytes.try_into().unwrap()));
    let words = |seed| noise(seed, 12_000).chunks_exact(4).map(word).collect::<Vec<_>>().join(" ");
    let essay = |number| format!("A treatise on mining, {also}. {}", words(number));
    let refs: Vec<String> = numbers.clone().map(|number| format!("essay.{number:02}")).collect();
    let titles: Vec<String> = numbers.clone().map(|number| format!("On pit {number}")).collect();
    let essays: Vec<String> = numbers.map(essay).collect();
    let documents: Vec<_> =
        refs.iter().zip(&titles).zip(&essays).map(|((name, title), essay)| text(name, title, essay)).collect();
    write_collection(site.folder(), "c", &documents)
}

/// A line from a machine to the object store; the machine sees nothing else of it.
async fn line_to_store(site: &Deployment, rule: Rule) -> Proxy {
    let store: Url = site.setting("ADIT_STORE_URL").parse().unwrap();
    let (_, endpoint) = store.query_pairs().find(|(name, _)| name == "endpoint").unwrap();
    Proxy::to(endpoint.strip_prefix("http://").unwrap().to_owned(), rule).await
}

/// Starts an import, which does not outlive the test.
fn start_import(machine: &Machine, folder: &Path, flags: &[&str]) -> Child {
    let mut command = tokio::process::Command::from(machine.adit(&["import", folder.to_str().unwrap()]));
    command.args(flags).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// The index files that a machine has whole.
fn cached(machine: &Machine) -> BTreeSet<String> {
    entries(&machine.data.join("cache/1/files"))
}

/// A machine's private folders of open indexes.
fn scratches(machine: &Machine) -> Vec<PathBuf> {
    let cache = machine.data.join("cache/1");
    let names = entries(&cache).into_iter().filter(|name| name.starts_with("scratch-"));
    names.map(|name| cache.join(name)).collect()
}

fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The answer to a search, without the process's own address in it.
async fn search(api: &Api, body: &Value) -> Value {
    let answer = api.search("c", body).await;
    serde_json::from_str(&answer.to_string().replace(&api.url, "")).unwrap()
}

/// Hits of a query, and the corpus version that they are from.
async fn count(api: &Api, query: &str) -> (u64, u64) {
    let answer = api.search("c", &json!({"query": query, "limit": 0})).await;
    (answer["hits"].as_u64().unwrap(), answer["corpus_version"].as_u64().unwrap())
}

async fn docset(api: &Api, query: &str) -> Value {
    expect(api.post("/api/docsets", &json!({"collection": "c", "query": query})).await, 201).await
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().unwrap().to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_imports_the_others_find_on_their_next_request() {
    let Some(site) = site().await else { return };
    site.machine("importer").import(&essays(&site, 0..30, "first"));
    let (a, b) = (site.machine("a").api(&[]), site.machine("b").api(&[]));
    let pages = |cursor: &Value| json!({"query": "mining", "limit": 4, "facets": ["year"], "cursor": cursor});
    let first = search(&a, &pages(&Value::Null)).await;
    assert_eq!((&first["hits"], &first["corpus_version"]), (&json!(30), &json!(1)));
    assert_eq!(first, search(&b, &pages(&Value::Null)).await);
    let (of_a, of_b) = (docset(&a, "mining").await, docset(&b, "mining").await);
    for field in ["fingerprint", "corpus_version", "size", "bytes"] {
        assert!(!of_a[field].is_null());
        assert_eq!(of_a[field], of_b[field], "{field}");
    }
    // A page may come from another process than the one before.
    let second = search(&b, &pages(&first["next"])).await;
    assert_eq!(second, search(&a, &pages(&first["next"])).await);

    // A third machine has nothing of the version that it builds on.
    site.machine("another importer").import(&essays(&site, 28..32, "changed"));
    for api in [&a, &b] {
        assert_eq!(count(api, "mining").await, (32, 2));
        assert_eq!(count(api, "changed").await, (4, 2));
        assert_eq!(count(api, "first").await, (28, 2));
        // Who has begun to page goes on in the version where they began.
        assert_eq!(search(api, &pages(&first["next"])).await, second);
    }
    assert_eq!(docset(&a, "*").await["fingerprint"], docset(&b, "*").await["fingerprint"]);
    assert_eq!(docset(&a, "first").await["size"], 28, "a docset of the newest version");

    site.machine("third importer").import(&essays(&site, 30..33, "again"));
    for api in [&a, &b] {
        expect(api.post("/api/collections/c/search", &pages(&first["next"])).await, 410).await;
        assert_eq!(count(api, "mining").await, (33, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_killed_while_it_fetched_an_index_starts_clean() {
    let Some(site) = site().await else { return };
    site.machine("importer").import(&essays(&site, 0..30, "first"));
    let all = json!({"query": "mining", "limit": 50, "sort": "ref"});
    let (undisturbed, machine) = (site.machine("undisturbed"), site.machine("killed"));
    let expected = search(&undisturbed.api(&[]), &all).await;

    let line = line_to_store(&site, Rule { request: ("GET", "/files/"), pass: 2, answer: Some(40_000) }).await;
    let api = machine.through(&line.endpoint()).api(&[]);
    let request = tokio::spawn(api.request(Method::POST, "/api/collections/c/search").json(&all).send());
    line.holds().await;
    let partial = || {
        scratches(&machine).iter().flat_map(|scratch| fs::read_dir(scratch).unwrap()).any(|file| {
            let file = file.unwrap();
            file.path().is_file() && file.metadata().unwrap().len() > 0
        })
    };
    eventually("a part of a file is on the disk", async || partial().then_some(())).await;
    drop(api);
    assert!(request.await.unwrap().is_err(), "nothing was answered");
    let whole = cached(&machine);
    assert!(whole.len() < cached(&undisturbed).len() && whole.is_subset(&cached(&undisturbed)));
    assert_eq!(scratches(&machine).len(), 1, "what a killed process leaves");

    let line = line_to_store(&site, Rule { request: ("GET", "/files/"), pass: usize::MAX, answer: None }).await;
    let api = machine.through(&line.endpoint()).api(&[]);
    assert_eq!(scratches(&machine), [] as [PathBuf; 0]);
    assert_eq!(search(&api, &all).await, expected);
    assert_eq!(cached(&machine), cached(&undisturbed));
    assert_eq!(scratches(&machine).len(), 1);
    assert_eq!(line.seen(), cached(&undisturbed).len() - whole.len(), "what was whole is not fetched again");
}

/// Holds up the import of corpus version 2 before its last step: the index's files are stored, the manifest is not.
const LAST_STEP: Rule = Rule { request: ("PUT", "/v0000000002"), pass: 0, answer: None };

#[tokio::test(flavor = "multi_thread")]
async fn of_two_imports_at_once_one_waits_or_is_told_and_nothing_is_lost() {
    let Some(site) = site().await else { return };
    site.machine("importer").import(&essays(&site, 0..3, "old"));
    let line = line_to_store(&site, LAST_STEP).await;
    let mut first = start_import(&site.machine("first").through(&line.endpoint()), &essays(&site, 3..5, "one"), &[]);
    line.holds().await;

    let (second, folder) = (site.machine("second"), essays(&site, 4..7, "two"));
    let told = start_import(&second, &folder, &[]).wait_with_output().await.unwrap();
    assert_eq!(told.status.code(), Some(75));
    let reason = String::from_utf8(told.stderr).unwrap();
    assert!(reason.contains("another import into this collection is running"), "{reason}");
    assert!(reason.contains("try again later, or wait with --wait"), "{reason}");
    let mut waiting = start_import(&second, &folder, &["--wait"]);
    let (mut said, mut more) = (String::new(), String::new());
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    stderr.read_line(&mut said).await.unwrap();
    assert_eq!(said, "another import into c is running; waiting for it\n");

    line.release();
    assert!(first.wait().await.unwrap().success());
    stderr.read_to_string(&mut more).await.unwrap();
    assert!(waiting.wait().await.unwrap().success(), "{more}");
    let api = site.machine("api").api(&[]);
    for (query, hits) in [("mining", 7), ("old", 3), ("one", 1), ("two", 3)] {
        assert_eq!(count(&api, query).await, (hits, 3), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_held_up_for_longer_than_its_lease_changes_nothing() {
    let Some(site) = site().await else { return };
    let importer = site.machine("importer");
    importer.import(&essays(&site, 0..3, "old"));
    let line = line_to_store(&site, LAST_STEP).await;
    let late = start_import(&site.machine("late").through(&line.endpoint()), &essays(&site, 3..5, "late"), &[]);
    line.holds().await;
    signal(&late, "-STOP");
    // Its lease runs out, and another takes its place.
    importer.succeed(&["import", "--wait", essays(&site, 3..6, "winner").to_str().unwrap()]);
    let api = site.machine("api").api(&[]);
    assert_eq!(count(&api, "winner").await, (3, 2));

    line.release();
    signal(&late, "-CONT");
    let late = late.wait_with_output().await.unwrap();
    let said = String::from_utf8(late.stderr).unwrap();
    assert_eq!(late.status.code(), Some(1), "{said}");
    assert!(said.contains("overtaken"), "{said}");
    for api in [&api, &site.machine("fresh").api(&[])] {
        for (query, hits) in [("mining", 6), ("winner", 3), ("late", 0)] {
            assert_eq!(count(api, query).await, (hits, 2), "{query}");
        }
    }

    // The next import removes what the late one could not, and nothing else.
    importer.import(&essays(&site, 6..7, "next"));
    assert_eq!(count(&api, "winner").await, (3, 3));
    let objects = site.objects().await;
    let store = site.store().await;
    let collection = store.collection("c").await.unwrap().unwrap();
    let packs: BTreeSet<String> = store.pack_keys(collection.id).await.unwrap().into_iter().collect();
    assert_eq!(keys_below(&*objects, "packs/").await, packs.into_iter().collect::<Vec<_>>());
    let kept = store.indexes(collection.id, 9).await.unwrap();
    let made_by: Vec<String> = kept.iter().map(|index| index.import.unwrap().to_string()).collect();
    store.close().await;
    for key in keys_below(&*objects, "indexes/").await {
        assert!(made_by.iter().any(|import| key.contains(import)), "{key} is of none of {made_by:?}");
    }
}
