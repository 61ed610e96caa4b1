//! `adit storage sweep` frees what the database does not name, and nothing else, whatever goes on
//! beside it.
//!
//! The races and the kills are short here. `ADIT_SWEEP_ROUNDS=200` makes them as long as
//! docs/OPERATIONS.md says that they were run.

mod updates;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::digest::Sha256;
use adit_shared::ids::PackageId;
use adit_shared::objects::{ObjectKey, ObjectStore, Upload};
use adit_shared::store::{NewCollection, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, Machine, StoreKind, eventually, noise, small_collection, text,
    write_collection,
};

/// Everything in one process, or on PostgreSQL, RabbitMQ and S3 where these are here.
async fn site(is_embedded: bool) -> Option<Deployment> {
    let (broker, database, store) = match is_embedded {
        true => (BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder),
        false => (BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3),
    };
    Deployment::new(broker, database, store).await
}

/// How often something is raced or killed.
fn rounds(short: u64) -> u64 {
    std::env::var("ADIT_SWEEP_ROUNDS").map_or(short, |rounds| rounds.parse().unwrap())
}

/// What a sweep has said, and its exit status.
fn swept(output: &Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

fn sweep(machine: &Machine, arguments: &[&str]) -> (Option<i32>, Value) {
    swept(&machine.adit(&["storage", "sweep", "--json"]).args(arguments).output().unwrap())
}

/// How much of each kind was freed: number and bytes.
fn freed(report: &Value) -> Vec<(String, u64, u64)> {
    let kinds = report["freed"].as_object().unwrap().iter();
    let numbers =
        kinds.map(|(kind, freed)| (kind.clone(), freed["count"].as_u64().unwrap(), freed["bytes"].as_u64().unwrap()));
    numbers.filter(|(_, count, _)| *count > 0).collect()
}

async fn listed(objects: &dyn ObjectStore) -> BTreeSet<String> {
    objects.list("").await.unwrap().into_iter().map(|(key, _)| key).collect()
}

fn wish() -> Value {
    json!({"formats": ["txt", "meta"], "layout": "flat"})
}

/// Puts objects and uploads into the store that no row names; gives what a sweep should say of
/// them.
async fn plant(objects: &dyn ObjectStore, package: &Value) -> Vec<(String, u64, u64)> {
    let (id, part) = (&package["id"], bytes::Bytes::from(noise(1, 100)));
    let mut planted = Vec::new();
    let strays: [(&str, &[String]); 3] = [
        (
            "indexes",
            &[
                "indexes/1/v0000000000-00000000000000ff.json".to_owned(),
                "indexes/1/files/0000000000-00000000000000ff-x.term".to_owned(),
                "indexes/1/files/0000000001-00000000000000ff-x.term".to_owned(),
                "indexes/77/files/0000000001-00000000000000ff-x.term".to_owned(),
            ],
        ),
        (
            "packages",
            &[
                "packages/999/0123456789abcdef.zip".to_owned(),
                "packages/999/0123456789abcdef/manifest.json".to_owned(),
                "packages/999/build.json".to_owned(),
                format!("packages/{id}/0123456789abcdef.zip"),
            ],
        ),
        ("packs", &["packs/1/00000000000000ff-txt-00001".to_owned(), "packs/77/00000000000000ff-txt-00001".to_owned()]),
    ];
    for (kind, keys) in strays {
        for key in keys {
            objects.put(key, part.clone()).await.unwrap();
        }
        planted.push((kind.to_owned(), keys.len() as u64, 100 * keys.len() as u64));
    }
    let uploads = ["packages/999/0123456789abcdef.zip", "packs/1/00000000000000ee-txt-00001", "packs/77/x"];
    for key in uploads.map(str::to_owned).into_iter().chain([format!("packages/{id}/0123456789abcdef.zip")]) {
        let upload = objects.create_upload(&key, 8 << 20).await.unwrap();
        objects.put_part(&upload, 1, part.clone()).await.unwrap();
    }
    planted.push(("uploads".to_owned(), 4, 400));
    planted
}

async fn what_no_row_names_goes_and_the_rest_stays(is_embedded: bool) {
    let Some(site) = site(is_embedded).await else { return };
    let (objects, store) = (site.objects().await, site.store().await);
    site.import(&small_collection(site.folder()));
    let running = site.start(&[]);
    let docset = running.docset("c", "mining").await;
    let (package, archive) = running.archive(docset, &wish()).await;
    // Of a packager that also works for another server.
    objects.put("packages/-5/build.json", "{}".into()).await.unwrap();
    objects.put("others/1/x", "x".into()).await.unwrap();
    let before = listed(&*objects).await;
    let planted = plant(&*objects, &package).await;
    let full = listed(&*objects).await;

    let (status, report) = sweep(&site, &["--dry-run"]);
    assert_eq!((status, freed(&report)), (Some(0), planted.clone()), "{report}");
    assert_eq!(listed(&*objects).await, full);
    assert_eq!(objects.list_uploads("").await.unwrap().len(), 4);
    let (status, report) = sweep(&site, &[]);
    assert_eq!((status, freed(&report)), (Some(0), planted), "{report}");
    assert_eq!(listed(&*objects).await, before);
    assert_eq!(objects.list_uploads("").await.unwrap(), Vec::<Upload>::new());
    assert_eq!(site.succeed(&["storage", "sweep"]).trim(), "there is nothing to free");
    site.succeed(&["storage", "check", "--full"]);
    let bytes = running.download(package["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(Sha256::of(&bytes), Sha256::of(&archive));
    assert_eq!(running.search("c", &json!({"query": "mining"})).await["hits"], 5);

    // As when the message that asks for its deletion was lost.
    store.erase_package(PackageId(package["id"].as_i64().unwrap()), None).await.unwrap();
    let (status, report) = sweep(&site, &[]);
    assert_eq!(status, Some(0));
    // Archive, manifest and state, and a receipt where there is a key to sign it.
    assert!(report["freed"]["packages"]["count"].as_u64().unwrap() >= 3, "{report}");
    let left = listed(&*objects).await;
    assert!(!left.iter().any(|key| key.starts_with("packages/") && key != "packages/-5/build.json"), "{left:?}");

    let lease = NewCollection { slug: "c".to_owned(), name: "c".to_owned(), ..NewCollection::default() };
    let lease = store.begin_import(&lease, SystemClock.now_ms(), 30_000).await.unwrap();
    let (status, report) = sweep(&site, &[]);
    assert_eq!((status, &report["busy"]), (Some(75), &json!(["c"])));
    store.abort_import(&lease).await.unwrap();
    running.stop();
}

#[tokio::test]
async fn a_sweep_frees_what_no_row_names_and_nothing_else() {
    what_no_row_names_goes_and_the_rest_stays(true).await;
}

#[tokio::test]
async fn a_sweep_of_a_bucket_frees_what_no_row_names_and_nothing_else() {
    what_no_row_names_goes_and_the_rest_stays(false).await;
}

#[tokio::test]
async fn a_wrong_database_costs_a_store_nothing() {
    let site = site(true).await.unwrap();
    let objects = site.objects().await;
    let folder = small_collection(site.folder());
    site.import(&folder);
    let mut before = listed(&*objects).await;
    assert!(before.remove("database"));
    let database = format!("sqlite://{}/empty.sqlite", site.folder().display());
    let on_wrong = |arguments: &[&str]| {
        let output = site.adit(arguments).env("ADIT_DATABASE_URL", &database).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let import = ["import", folder.to_str().unwrap()];
    // Once as this release leaves a store, once as an earlier one does: it says nothing of its
    // database.
    for _ in 0..2 {
        for verb in [&import[..], &["storage", "sweep"], &import[..]] {
            let (succeeded, err) = on_wrong(verb);
            assert!(!succeeded && err.contains("`adit storage adopt`"), "{verb:?}: {err}");
            assert!(listed(&*objects).await.is_superset(&before), "{verb:?}");
        }
        site.succeed(&["storage", "check", "--full"]);
        assert_eq!(sweep(&site, &[]).0, Some(0));
        fs::remove_file(site.data.join("objects/database")).unwrap();
    }
}

/// Documents of a collection `raced`, whose text says in which round it was written.
fn write_round(folder: &Path, name: &str, round: u64) -> PathBuf {
    let refs = ["doc.1", "doc.2", "doc.3", "doc.4"];
    let of_round = |number: u64| match number {
        // One stays as it is, so that packs are of several imports.
        0 => "Coal that stays. ".repeat(30),
        _ => format!("Coal of round {round}, document {number}. ").repeat(30),
    };
    let documents: Vec<_> = refs.iter().zip(0..).map(|(r, number)| text(r, "On coal", &of_round(number))).collect();
    let parent = folder.join(format!("{name}-{round}"));
    write_collection(&parent, name, &documents)
}

/// Runs a verb that may find the collection taken by another change.
async fn change(machine: &Machine, arguments: &[&str]) -> bool {
    let mut command = tokio::process::Command::from(machine.adit(arguments));
    let output = command.kill_on_drop(true).output().await.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 75)), "{arguments:?}: {}\n{err}", output.status);
    output.status.success()
}

/// Sweeps as often as it should, counting those that found the collection free; then the others may
/// end.
async fn keep_sweeping(site: &Deployment, over: &AtomicBool, others: &[&AtomicU64]) -> (u64, u64) {
    let (mut sweeps, mut busy) = (0, 0);
    let wanted = rounds(10);
    // Each of the others takes part.
    while sweeps < wanted || others.iter().any(|count| count.load(Ordering::Relaxed) < 2) {
        let mut command = tokio::process::Command::from(site.adit(&["storage", "sweep", "--json"]));
        let (status, report) = swept(&command.kill_on_drop(true).output().await.unwrap());
        assert!(matches!(status, Some(0 | 75)), "{report}");
        assert_eq!(report["problems"], json!([]));
        match status {
            Some(75) => busy += 1,
            _ => sweeps += 1,
        }
    }
    over.store(true, Ordering::Relaxed);
    (sweeps, busy)
}

/// Changes the collection time and again, after pauses that vary what meets what.
async fn keep_changing(site: &Deployment, over: &AtomicBool, imports: &AtomicU64, reindexes: &AtomicU64) {
    for round in 1.. {
        let folder = write_round(site.folder(), "raced", round);
        imports.fetch_add(u64::from(change(site, &["import", folder.to_str().unwrap()]).await), Ordering::Relaxed);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
        if round % 3 == 0 {
            reindexes.fetch_add(u64::from(change(site, &["reindex", "raced"]).await), Ordering::Relaxed);
        }
        if over.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..200))).await;
    }
}

/// Makes docsets and packages, deletes most, and reads what the others and the newest corpus
/// version hold.
async fn keep_packaging(client: &Client, over: &AtomicBool, made: &AtomicU64) {
    let mut held: Option<(i64, Vec<u8>)> = None;
    while !over.load(Ordering::Relaxed) {
        let docset = client.docset("raced", "coal").await;
        let (package, bytes) = client.archive(docset, &json!({"formats": ["txt"], "reuse": false})).await;
        assert_eq!(package["sha256"], Sha256::of(&bytes).to_string(), "{package}");
        assert_eq!(package["documents"]["included"], 4, "{package}");
        let gone = client.ask(docset, &json!({"formats": ["meta"], "reuse": false})).await;
        let gone = client.request(Method::DELETE, &format!("/api/packages/{gone}")).send().await.unwrap();
        assert!(gone.status().is_success(), "{}", gone.text().await.unwrap());
        for (version, text) in found(client, "coal").await {
            // Two imports and a sweep may have come between the search and the text.
            let is_freed = |problem| problem == "urn:adit:problem:version-freed";
            assert!(text.clone().err().is_none_or(is_freed), "{version}: {text:?}");
        }
        // One docset is held while others come and go: its versions are moved, and stay what they
        // were.
        if let Some((docset, bytes)) = &held {
            let again = client.archive(*docset, &json!({"formats": ["txt"], "layout": "flat", "reuse": false})).await.1;
            assert_eq!(Sha256::of(&again), Sha256::of(bytes));
        }
        let old = match made.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => {
                let bytes = client.archive(docset, &json!({"formats": ["txt"], "layout": "flat"})).await.1;
                held.replace((docset, bytes)).map(|(docset, _)| docset)
            }
            _ => Some(docset),
        };
        if let Some(old) = old {
            let deleted = client.request(Method::DELETE, &format!("/api/docsets/{old}")).send().await.unwrap();
            assert!(deleted.status().is_success(), "{}", deleted.text().await.unwrap());
        }
    }
}

async fn nothing_that_is_needed_is_taken(is_embedded: bool) {
    let Some(site) = site(is_embedded).await else { return };
    site.import(&write_round(site.folder(), "raced", 0));
    let running = site.start(&[]);
    let over = AtomicBool::new(false);
    let [imports, reindexes, packages] = [const { AtomicU64::new(0) }; 3];
    let others = [&imports, &reindexes, &packages];
    let sweeping = keep_sweeping(&site, &over, &others);
    let changing = keep_changing(&site, &over, &imports, &reindexes);
    let packaging = keep_packaging(&running, &over, &packages);
    let ((sweeps, busy), ..) = tokio::join!(sweeping, changing, packaging);
    eprintln!(
        "raced {sweeps} sweeps, and {busy} that found the collection taken, against {imports:?} imports, \
         {reindexes:?} reindexes, {packages:?} packages"
    );
    site.succeed(&["storage", "check", "--full"]);
    assert_eq!(running.search("raced", &json!({"query": "coal"})).await["hits"], 4);
    let docset = running.docset("raced", "coal").await;
    assert_eq!(running.archive(docset, &wish()).await.0["documents"]["included"], 4);
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_takes_nothing_from_imports_builds_uploads_and_reindexes() {
    nothing_that_is_needed_is_taken(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_of_a_bucket_takes_nothing_from_imports_builds_uploads_and_reindexes() {
    nothing_that_is_needed_is_taken(false).await;
}

/// The objects that the rows of a database name, by other means than a sweep's.
async fn named(objects: &dyn ObjectStore, store: &dyn Store) -> BTreeSet<String> {
    let mut named = BTreeSet::from(["database".to_owned()]);
    for collection in store.collections().await.unwrap() {
        named.extend(store.pack_keys(collection.id).await.unwrap());
        for index in store.indexes(collection.id, 2).await.unwrap() {
            let (version, import) = (index.corpus_version, index.import.unwrap());
            let key = format!("indexes/{}/v{version:010}-{import}.json", collection.id);
            let manifest: Value = serde_json::from_slice(&objects.get(&key, None).await.unwrap()).unwrap();
            let files = manifest["files"].as_object().unwrap().values();
            let files =
                files.map(|file| format!("indexes/{}/files/{}", collection.id, file["object"].as_str().unwrap()));
            named.extend(files.chain([key]));
        }
    }
    for package in store.available_packages(None, 10_000).await.unwrap() {
        let build = ObjectKey::Build { package: package.salted() }.to_string();
        let of_package = objects.list(build.trim_end_matches("build.json")).await.unwrap();
        let fingerprint = &package.fingerprint.to_string()[..16];
        let is_own = |key: &String| key.ends_with("/build.json") || key.contains(fingerprint);
        named.extend(of_package.into_iter().map(|(key, _)| key).filter(is_own));
    }
    named
}

/// Kills a change of the collection at a moment that is another each time.
async fn kill_a_change(site: &Deployment, store: &dyn Store, round: u64) {
    let folder = write_round(site.folder(), "raced", round);
    let arguments = [vec!["import", folder.to_str().unwrap()], vec!["reindex", "raced"]];
    let mut command = tokio::process::Command::from(site.adit(&arguments[(round % 2) as usize]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    while store.held_leases().await.unwrap().is_empty() && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _ = tokio::time::timeout(Duration::from_millis(rand::random_range(0..60)), child.wait()).await;
    let _ = child.kill().await;
    fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    store.break_lease("raced").await.unwrap();
}

async fn nothing_is_left_after_kills(is_embedded: bool) {
    let Some(site) = site(is_embedded).await else { return };
    site.import(&write_round(site.folder(), "raced", 0));
    let (objects, store) = (site.objects().await, site.store().await);
    let (mut asked, kills) = (Vec::new(), rounds(12));
    for round in 1..=kills {
        // Each second kill is of the servers, in the middle of a package.
        if round % 2 == 1 {
            kill_a_change(&site, &store, round / 2).await;
            continue;
        }
        let running = site.start(&[("ADIT_RESEND_AFTER", "1s")]);
        let docset = running.docset("raced", "coal").await;
        asked.push(running.ask(docset, &json!({"formats": ["txt"], "reuse": false})).await);
        let dismissed = running.ask(docset, &json!({"formats": ["meta"], "reuse": false})).await;
        asked.push(dismissed);
        let dismissed = running.request(Method::DELETE, &format!("/api/packages/{dismissed}"));
        let _ = tokio::time::timeout(Duration::from_millis(rand::random_range(1..150)), dismissed.send()).await;
        running.kill();
    }
    // Messages get lost too: of what was deleted meanwhile nobody hears again.
    let _ = fs::remove_dir_all(site.data.join("broker"));
    kill_a_change(&site, &store, 2 * kills).await;
    let running = site.start(&[("ADIT_RESEND_AFTER", "1s")]);
    for package in asked {
        // Each second one was dismissed, unless the kill came first.
        let status = running.finished(package).await["status"].clone();
        assert!(status == "successful" || status == "dismissed", "{status}");
    }
    eventually("what was dismissed is deleted", || async {
        let waiting = site.waiting("docsets/delete").await + site.waiting("docsets/package").await;
        (waiting == 0).then_some(())
    })
    .await;
    running.stop();
    make_temporary_files_look_old(&site.data.join("objects/.tmp"));
    let (status, report) = sweep(&site, &[]);
    assert_eq!((status, &report["problems"]), (Some(0), &json!([])), "{report}");
    eprintln!("after {kills} kills: {:?}", freed(&report));
    assert_eq!(listed(&*objects).await, named(&*objects, &store).await);
    assert_eq!(objects.list_uploads("").await.unwrap(), Vec::<Upload>::new());
    let temporary = fs::read_dir(site.data.join("objects/.tmp")).into_iter().flatten();
    assert_eq!(temporary.count(), 0);
    site.succeed(&["storage", "check", "--full"]);
}

/// A sweep leaves what was changed a moment ago.
fn make_temporary_files_look_old(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let old = SystemTime::now() - Duration::from_secs(120);
        File::open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
}

#[tokio::test]
async fn after_kills_a_sweep_leaves_nothing_that_no_row_names() {
    nothing_is_left_after_kills(true).await;
}

#[tokio::test]
async fn after_kills_a_sweep_of_a_bucket_leaves_nothing_that_no_row_names() {
    nothing_is_left_after_kills(false).await;
}

/// The text of a document version, or the kind of problem.
async fn text_of(client: &Client, version: &Value) -> Result<String, String> {
    let answer = client.get(&format!("/api/documents/{version}/text")).await;
    let succeeded = answer.status().is_success();
    let body = answer.text().await.unwrap();
    if succeeded { Ok(body) } else { Err(problem(&body)) }
}

fn problem(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap();
    problem["type"].as_str().unwrap().to_owned()
}

/// The document versions that a query finds, with their texts.
async fn found(client: &Client, query: &str) -> Vec<(Value, Result<String, String>)> {
    let answer = client.search("raced", &json!({"query": query, "limit": 100})).await;
    let mut found = Vec::new();
    for hit in answer["documents"].as_array().unwrap() {
        found.push((hit["id"].clone(), text_of(client, &hit["id"]).await));
    }
    found
}
