//! Storage does not grow with updates: a sweep frees the old versions that nothing names.

use std::fs;

use adit_shared::digest::Sha256;
use adit_shared::objects::ObjectStore;
use adit_shared::store::Store;
use reqwest::Method;
use serde_json::json;

use super::{found, named, rounds, site, sweep, text_of, wish, write_round};

/// The bytes of files that are needed, each once, by the documents as the API shows them; and of
/// index and packages.
async fn needed_bytes(objects: &dyn ObjectStore, store: &dyn Store) -> u64 {
    let mut bytes = 0;
    for collection in store.collections().await.unwrap() {
        let usage = store.pack_usage(collection.id).await.unwrap();
        bytes += usage.iter().map(|pack| pack.bytes).sum::<u64>();
    }
    let named = named(objects, store).await;
    let others = objects.list("").await.unwrap().into_iter();
    bytes
        + others.filter(|(key, _)| named.contains(key) && !key.starts_with("packs/")).map(|(_, size)| size).sum::<u64>()
}

async fn stored_bytes(objects: &dyn ObjectStore) -> u64 {
    objects.list("").await.unwrap().iter().map(|(_, size)| size).sum()
}

async fn updates_do_not_let_the_store_grow(is_embedded: bool) {
    let Some(site) = site(is_embedded).await else { return };
    let (objects, store) = (site.objects().await, site.store().await);
    // Each of them waits for a bucket a while.
    let updates = if is_embedded { 50 } else { rounds(15).min(50) };
    let import = |round| {
        let folder = write_round(site.folder(), "raced", round);
        site.import(&folder);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    };
    import(0);
    let running = site.start(&[]);
    let (first, old) = (found(&running, "coal").await, running.docset("raced", "coal").await);
    let held = running.archive(old, &wish()).await;
    import(1);
    let second = found(&running, "coal").await;
    (2..=updates).for_each(import);
    let before = stored_bytes(&*objects).await;
    let (status, dry) = sweep(&site, &["--dry-run"]);
    assert_eq!(status, Some(0));
    // Of each round but the first, which a docset has, and the newest two, that are current or
    // searched.
    assert_eq!(dry["freed"]["versions"]["count"], 3 * (updates - 2), "{dry}");
    let (status, report) = sweep(&site, &[]);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["freed"]["versions"], dry["freed"]["versions"]);
    let (after, needed) = (stored_bytes(&*objects).await, needed_bytes(&*objects, &store).await);
    eprintln!("{updates} updates: {before} bytes, after a sweep {after}, of which {needed} are needed");
    assert!(after * 10 <= needed * 12, "{before} bytes, after a sweep {after}, of which {needed} are needed: {report}");
    site.succeed(&["storage", "check", "--full"]);

    // What a docset has is what it was, and so is a package of it.
    for (version, text) in &first {
        assert_eq!(&text_of(&running, version).await, text);
    }
    let again = running.archive(old, &json!({"formats": ["txt", "meta"], "layout": "flat", "reuse": false})).await;
    assert_eq!(Sha256::of(&again.1), Sha256::of(&held.1));
    // What is in none is told apart from what never was, and its metadata is there.
    for (version, _) in second.iter().filter(|version| !first.contains(version)) {
        assert_eq!(text_of(&running, version).await, Err("urn:adit:problem:version-freed".to_owned()));
        assert_eq!(running.json(&format!("/api/documents/{version}")).await["current"], false);
    }
    let now = found(&running, "coal").await;
    assert!(now.iter().all(|(_, text)| text.is_ok()) && now.len() == 4);
    // Without its docset, the first round goes too, and what comes next finds all that it needs.
    running.request(Method::DELETE, &format!("/api/docsets/{old}")).send().await.unwrap();
    let (_, report) = sweep(&site, &[]);
    assert_eq!(report["freed"]["versions"]["count"], 3, "{report}");
    import(updates + 1);
    site.succeed(&["reindex", "raced"]);
    assert_eq!(running.search("raced", &json!({"query": "coal"})).await["hits"], 4);
    let everything = running.docset("raced", "coal").await;
    assert_eq!(running.archive(everything, &wish()).await.0["documents"]["included"], 4);
    site.succeed(&["storage", "check", "--full"]);
    running.stop();
}

#[tokio::test]
async fn after_many_updates_a_sweep_leaves_little_more_than_is_needed() {
    updates_do_not_let_the_store_grow(true).await;
}

#[tokio::test]
async fn after_many_updates_a_sweep_of_a_bucket_leaves_little_more_than_is_needed() {
    updates_do_not_let_the_store_grow(false).await;
}

/// Of many packs a part is needed: more than are copied at a time.
#[tokio::test]
async fn many_packs_of_which_a_part_is_needed_are_copied_and_nothing_is_written_over() {
    let Some(site) = site(true).await else { return };
    site.import(&write_round(site.folder(), "raced", 0));
    let running = site.start(&[]);
    let mut kept = Vec::new();
    for round in 1..=12 {
        site.import(&write_round(site.folder(), "raced", round));
        running.docset("raced", "\"document 2\"").await;
        kept.extend(found(&running, "\"document 2\"").await);
    }
    assert_eq!(kept.len(), 12);
    let (status, report) = sweep(&site, &[]);
    assert_eq!(status, Some(0), "{report}");
    // Each round has a pack of texts and one of metadata.
    assert!(report["freed"]["packs"]["count"].as_u64().unwrap() > 16, "{report}");
    site.succeed(&["storage", "check", "--full"]);
    for (version, text) in &kept {
        assert_eq!(&text_of(&running, version).await, text);
    }
    running.stop();
}
