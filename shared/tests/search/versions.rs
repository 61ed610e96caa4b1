//! Versions of an index: what an import changes and what it leaves, how processes share them, and what accidents do.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_shared::ids::IndexId;
use adit_shared::objects::{Call, ObjectKey, Recorder};
use adit_shared::search::{Search, SearchError, Sort, TantivySearch};
use serde_json::json;
use tokio::sync::watch;

use crate::corpus::{Bench, COLLECTION, Paper, add, files_below, ids, ids_in, index, made_by, page, paper, plan};

fn new_edition() -> Paper {
    paper(9, "jose.00021", json!({"title": "CFD Julia: the 12 steps", "issued": "2021"}), &["txt"], "Now in Julia.")
}

fn cached_files(bench: &Bench, cache: &str) -> Vec<PathBuf> {
    files_below(&bench.cache(cache).join("7/files"))
}

#[tokio::test]
async fn an_old_version_answers_as_before_and_replaced_documents_vanish_from_the_new_one() {
    let bench = Bench::with_papers().await;
    bench.import(2, &[new_edition()], &[(9, 1)]).await;
    for engine in [&bench.search, &bench.other("elsewhere")] {
        assert_eq!(ids(engine, 1, "cfd").await.unwrap(), [1]);
        assert_eq!(ids(engine, 2, "cfd").await.unwrap(), [9]);
        assert_eq!(ids(engine, 2, "ref:jose.00021").await.unwrap(), [9]);
        assert_eq!(ids(engine, 1, "julia").await.unwrap(), [0; 0]);
        assert_eq!(ids(engine, 2, "*").await.unwrap(), [2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(page(engine, 2, "*", Sort::Date, 0, 1).await.unwrap().hits[0].id.0, 9);
    }
}

#[tokio::test]
async fn an_empty_collection_has_no_hits_and_still_reads_queries() {
    let bench = Bench::empty().await;
    assert_eq!(ids(&bench.search, 0, "python OR *").await.unwrap(), [0; 0]);
    assert!(matches!(ids(&bench.search, 0, "titel:x").await, Err(SearchError::UnknownField { .. })));
    assert!(matches!(ids(&bench.search, 0, "a)").await, Err(SearchError::Syntax { position: 1, .. })));
    assert!(matches!(ids(&bench.search, 3, "a").await, Err(SearchError::VersionGone(3))));
    assert!(matches!(bench.search.build(plan(index(3), 4)).await.err(), Some(SearchError::VersionGone(3))));
    bench.import(1, &[], &[]).await;
    assert_eq!(ids(&bench.search, 1, "*").await.unwrap(), [0; 0]);
}

#[tokio::test]
async fn many_small_imports_stay_exact_while_their_segments_are_merged() {
    let bench = Bench::empty().await;
    for version in 1..=20_u32 {
        let text = format!("common word{version}");
        let replaced = if version > 1 && version % 2 == 0 { vec![(version, version - 1)] } else { vec![] };
        bench.import(version, &[paper(version, "x", json!({}), &[], &text)], &replaced).await;
    }
    let other = bench.other("elsewhere");
    for version in [1, 7, 8, 20] {
        let expected: Vec<u32> = (1..=version).filter(|id| id % 2 == 0 || *id == version).collect();
        assert_eq!(ids(&other, version, "common").await.unwrap(), expected);
    }
    assert_eq!(ids(&other, 20, "word20").await.unwrap(), [20]);
    assert_eq!(ids(&other, 20, "word19").await.unwrap(), [0; 0]);
}

#[tokio::test]
async fn many_who_want_a_version_at_once_fetch_each_file_once() {
    let bench = Bench::with_papers().await;
    let recorder = Recorder::new(Arc::clone(&bench.objects));
    let engine = Arc::new(TantivySearch::new(Arc::new(recorder.clone()), bench.cache("cold")));
    let searches = (0..20).map(|_| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { ids(&*engine, 1, "python").await.unwrap() })
    });
    for found in futures::future::join_all(searches).await {
        assert_eq!(found.unwrap(), [1, 2, 3, 8]);
    }
    let fetched = cached_files(&bench, "cold").len() as u64;
    assert!(fetched > 0);
    assert_eq!(recorder.counts().of(Call::Read).calls, fetched);

    // The next version shares all files but those of the new segment and the list of the deleted document.
    bench.import(2, &[new_edition()], &[(9, 1)]).await;
    ids(&*engine, 2, "*").await.unwrap();
    let new = recorder.counts().of(Call::Read).calls - fetched;
    assert_eq!(new, fetched + 1);

    // The process that made a version has its files already.
    let importer = Recorder::new(Arc::clone(&bench.objects));
    let same_cache = TantivySearch::new(Arc::new(importer.clone()), bench.cache("cache"));
    ids(&same_cache, 2, "*").await.unwrap();
    assert_eq!(importer.counts().of(Call::Read).calls, 0);
}

#[tokio::test]
async fn what_a_search_was_given_up_over_is_fetched_all_the_same() {
    let bench = Bench::with_papers().await;
    let recorder = Recorder::new(Arc::clone(&bench.objects));
    let engine = TantivySearch::new(Arc::new(recorder.clone()), bench.cache("impatient"));
    for _ in 0..5 {
        let _ = tokio::time::timeout(Duration::ZERO, ids(&engine, 1, "python")).await;
    }
    let stored = stored_files(&bench).await.len();
    tokio::time::timeout(Duration::from_secs(60), async {
        while cached_files(&bench, "impatient").len() < stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(ids(&engine, 1, "python").await.unwrap(), [1, 2, 3, 8]);
    assert_eq!(recorder.counts().of(Call::Read).calls, stored as u64);
}

#[tokio::test]
async fn a_cache_that_is_cut_damaged_or_incomplete_repairs_itself() {
    let bench = Bench::with_papers().await;
    ids(&bench.other("broken"), 1, "python").await.unwrap();
    let files = cached_files(&bench, "broken");
    for (i, file) in files.iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        match i % 3 {
            0 => fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
            1 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(file, &bytes).unwrap();
            }
            _ => {}
        }
    }
    let engine = bench.other("broken");
    assert_eq!(ids(&engine, 1, "python").await.unwrap(), [1, 2, 3, 8]);
    assert_eq!(cached_files(&bench, "broken"), files);
    // A whole cache can go while an engine runs.
    fs::remove_dir_all(bench.cache("broken")).unwrap();
    bench.import(2, &[new_edition()], &[(9, 1)]).await;
    assert_eq!(ids(&engine, 1, "python").await.unwrap(), [1, 2, 3, 8]);
    assert_eq!(ids(&engine, 2, "julia").await.unwrap(), [9]);
}

#[tokio::test]
async fn a_damaged_object_is_an_error_that_names_it_and_leaves_nothing_in_the_cache() {
    let bench = Bench::with_papers().await;
    let names = bench.objects.list("indexes/7/files/").await.unwrap();
    let (key, size) = names.iter().find(|(key, _)| key.ends_with(".idx")).unwrap();
    let whole = bench.objects.get(key, None).await.unwrap();
    bench.objects.put(key, vec![0; *size as usize].into()).await.unwrap();
    let engine = bench.other("fresh");
    let error = ids(&engine, 1, "python").await.unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
    assert!(cached_files(&bench, "fresh").iter().all(|path| !path.to_string_lossy().ends_with(".idx")));
    // The error is not kept: once the object is whole, so is the answer.
    bench.objects.put(key, whole).await.unwrap();
    assert_eq!(ids(&engine, 1, "python").await.unwrap(), [1, 2, 3, 8]);
}

#[tokio::test]
async fn a_build_that_is_dropped_leaves_nothing() {
    let bench = Bench::with_papers().await;
    let objects_before = bench.objects.list("").await.unwrap();
    let cache_before = files_below(&bench.cache("cache"));
    let mut build = bench.search.build(plan(index(1), 2)).await.unwrap();
    add(&mut *build, &[new_edition()], &[(9, 1)]).await;
    assert_ne!(files_below(&bench.cache("cache")), cache_before);
    drop(build);
    assert_eq!(bench.objects.list("").await.unwrap(), objects_before);
    assert_eq!(files_below(&bench.cache("cache")), cache_before);
    assert!(matches!(ids(&bench.search, 2, "*").await, Err(SearchError::VersionGone(2))));
    assert_eq!(bench.ids("cfd").await, [1]);
}

#[tokio::test]
async fn two_imports_that_make_one_version_do_not_disturb_each_other() {
    let bench = Bench::with_papers().await;
    let mut one = bench.search.build(plan(index(1), 21)).await.unwrap();
    let mut two = bench.other("elsewhere").build(plan(index(1), 22)).await.unwrap();
    // Both make a list of deleted documents for the same segment, by the same count of operations.
    add(&mut *one, &[new_edition()], &[(9, 1)]).await;
    add(&mut *two, &[Paper { id: 10, ..new_edition() }], &[(10, 2)]).await;
    one.finish().await.unwrap();
    // This one was held up, and writes what it has after the other's commit.
    two.finish().await.unwrap();
    let (won, lost) = (made_by(2, 21), made_by(2, 22));
    for engine in [&bench.search, &bench.other("third")] {
        assert_eq!(ids_in(engine, won, "cfd OR rokem").await.unwrap(), [2, 9]);
        assert_eq!(ids_in(engine, lost, "cfd OR rokem").await.unwrap(), [1, 10]);
    }
    bench.search.retain(COLLECTION, &[index(1), won]).await.unwrap();
    let late = bench.other("late");
    assert_eq!(ids_in(&late, won, "cfd OR rokem").await.unwrap(), [2, 9]);
    assert_eq!(ids(&late, 1, "cfd OR rokem").await.unwrap(), [1, 2]);
    assert!(matches!(ids_in(&late, lost, "*").await, Err(SearchError::VersionGone(2))));
    let orphans = stored_files(&bench).await.into_iter().filter(|key| key.contains("-0000000000000016-")).count();
    assert_eq!(orphans, 0);
}

async fn stored_files(bench: &Bench) -> Vec<String> {
    let files = bench.objects.list("indexes/7/files/").await.unwrap();
    files.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn what_is_discarded_leaves_nothing_and_takes_nothing_of_others() {
    let bench = Bench::with_papers().await;
    let before = bench.objects.list("").await.unwrap();
    let mut lost = bench.search.build(plan(index(1), 22)).await.unwrap();
    add(&mut *lost, &[new_edition()], &[(9, 1)]).await;
    lost.finish().await.unwrap();
    assert_ne!(bench.objects.list("").await.unwrap(), before);
    bench.search.discard(made_by(2, 22)).await.unwrap();
    assert_eq!(bench.objects.list("").await.unwrap(), before);
    // Nothing is there of an import that has not come so far.
    bench.search.discard(made_by(2, 23)).await.unwrap();
    assert_eq!(bench.objects.list("").await.unwrap(), before);
}

#[tokio::test]
async fn only_kept_versions_and_imports_under_way_stay() {
    let bench = Bench::with_papers().await;
    let reader = bench.other("reader");
    ids(&reader, 1, "*").await.unwrap();
    let orphan = ObjectKey::IndexFile { collection: COLLECTION, name: "0000000001-00-orphan.idx" }.to_string();
    bench.objects.put(&orphan, vec![1].into()).await.unwrap();
    bench.import(2, &[new_edition()], &[(9, 1)]).await;
    bench.import(3, &[Paper { id: 10, ..new_edition() }], &[(10, 9)]).await;
    let under_way = ObjectKey::IndexFile { collection: COLLECTION, name: "0000000003-00-under-way.idx" }.to_string();
    let not_committed = ObjectKey::IndexManifest(made_by(4, 41)).to_string();
    for key in [&under_way, &not_committed] {
        bench.objects.put(key, vec![1].into()).await.unwrap();
    }
    let before = bench.objects.list("indexes/").await.unwrap().len();

    bench.search.retain(COLLECTION, &[index(3)]).await.unwrap();
    for version in [1, 2] {
        assert!(matches!(ids(&bench.search, version, "*").await, Err(SearchError::VersionGone(_))));
        assert!(matches!(ids(&bench.other("late"), version, "*").await, Err(SearchError::VersionGone(_))));
    }
    assert_eq!(ids(&bench.other("late"), 3, "*").await.unwrap(), [2, 3, 4, 5, 6, 7, 8, 10]);
    assert_eq!(bench.objects.size(&orphan).await.unwrap(), None);
    for key in [&under_way, &not_committed] {
        assert_eq!(bench.objects.size(key).await.unwrap(), Some(1));
    }
    assert!(bench.objects.list("indexes/").await.unwrap().len() < before);
    // Whoever holds the old version open goes on with it.
    assert_eq!(ids(&reader, 1, "cfd").await.unwrap(), [1]);
    // An engine that has searched nothing has no cache.
    bench.other("new").retain(COLLECTION, &[index(3)]).await.unwrap();
    // A second time there is nothing left to do, and a list that is older than the last import's harms nothing.
    let after = bench.objects.list("").await.unwrap();
    for kept in [&[index(3)][..], &[index(1), index(2), index(3)], &[]] {
        bench.search.retain(COLLECTION, kept).await.unwrap();
        assert_eq!(bench.objects.list("").await.unwrap(), after);
    }
    assert!(matches!(bench.search.retain(COLLECTION, &[index(2)]).await, Err(SearchError::VersionGone(2))));
    assert_eq!(bench.objects.list("").await.unwrap(), after);
}

#[tokio::test]
async fn a_cache_in_which_only_imports_work_does_not_grow() {
    let bench = Bench::empty().await;
    let mut most = 0;
    for version in 1..=12_u32 {
        bench.import(version, &[paper(version, "x", json!({}), &[], "word")], &[(version, version - 1)]).await;
        let kept: Vec<IndexId> = (version.max(2) - 1..=version).map(index).collect();
        bench.search.retain(COLLECTION, &kept).await.unwrap();
        most = most.max(cached_files(&bench, "cache").len());
    }
    // Every version has one segment; two versions are kept.
    let stored = stored_files(&bench).await.len();
    assert_eq!(cached_files(&bench, "cache").len(), stored);
    assert!(most <= 2 * stored, "{most} files were cached at once, {stored} are stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_a_cache_while_versions_come_and_go() {
    let bench = Bench::empty().await;
    let newest = watch::Sender::new(0);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (engine, mut versions) = (bench.other("shared"), newest.subscribe());
            tokio::spawn(async move {
                let mut answers = 0;
                while versions.changed().await.is_ok() {
                    let version = *versions.borrow_and_update();
                    match ids(&engine, version, "word").await {
                        // Two more have come since.
                        Err(SearchError::VersionGone(_)) => {}
                        found => {
                            assert_eq!(found.unwrap(), [version]);
                            answers += 1;
                        }
                    }
                }
                answers
            })
        })
        .collect();
    for version in 1..=30_u32 {
        bench.import(version, &[paper(version, "x", json!({}), &[], "word")], &[(version, version - 1)]).await;
        newest.send_replace(version);
        let kept: Vec<IndexId> = (version.max(2) - 1..=version).map(index).collect();
        bench.search.retain(COLLECTION, &kept).await.unwrap();
    }
    drop(newest);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert!(files_below(&bench.cache("shared/7")).iter().all(|path| !path.to_string_lossy().contains("scratch-")));
}

#[tokio::test]
async fn the_cache_holds_the_last_few_versions_only() {
    let bench = Bench::empty().await;
    let engine = bench.other("reader");
    let mut most = 0;
    for version in 1..=12_u32 {
        // Each version replaces the only document, so no segment is shared for long.
        let replaced = [(version, version - 1)];
        bench.import(version, &[paper(version, "x", json!({}), &[], "word")], &replaced).await;
        assert_eq!(ids(&engine, version, "word").await.unwrap(), [version]);
        most = most.max(cached_files(&bench, "reader").len());
    }
    let stored = bench.objects.list("indexes/7/files/").await.unwrap().len();
    assert!(most < stored / 2, "{most} of {stored} files were cached at once");
    // An older one comes back when it is wanted.
    assert_eq!(ids(&engine, 4, "word").await.unwrap(), [4]);
    drop(engine);
    assert!(files_below(&bench.cache("reader/7")).iter().all(|path| !path.to_string_lossy().contains("scratch-")));
}
