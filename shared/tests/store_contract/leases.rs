//! Who may import, and what happens to an import that dies, is overtaken or gives up.

use adit_shared::clock::ALLOWED_SKEW_MS;
use adit_shared::ids::VersionId;
use adit_shared::store::{HeldLease, ImportLease, NewCollection, Store as _, StoreError};
use futures::future::join_all;

use super::harness::Database;
use super::samples::{HOUR, document, file, import, new_collection, stage};

fn refs(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) async fn one_import_holds_a_collection(db: Database) {
    let lease = db.store.begin_import(&new_collection("one"), 1000, 500).await.unwrap();
    assert_eq!((lease.base.corpus_version, lease.base.import), (0, None));
    let second = db.store.begin_import(&new_collection("one"), 1499, 500).await;
    assert!(matches!(second, Err(StoreError::ImportRunning { until_ms: 1500 })));
    db.store.begin_import(&new_collection("other"), 1499, 500).await.unwrap();

    db.store.renew_import(&lease, 1400, 500).await.unwrap();
    let second = db.store.begin_import(&new_collection("one"), 1899, 500).await;
    assert!(matches!(second, Err(StoreError::ImportRunning { until_ms: 1900 })));

    db.store.commit_import(&lease, 1900).await.unwrap();
    let next = db.store.begin_import(&new_collection("one"), 1900, 500).await.unwrap();
    assert_ne!(next.import, lease.import);
    assert!(matches!(db.store.renew_import(&lease, 1900, 500).await, Err(StoreError::ImportOvertaken)));
}

pub(crate) async fn an_overtaken_import_changes_nothing(db: Database) {
    let late = db.store.begin_import(&new_collection("c"), 0, 100).await.unwrap();
    stage(&db.store, &late, &refs(&["lost"]), &["txt"]).await;
    let next = db.store.begin_import(&new_collection("c"), 100, 100).await.unwrap();
    let ids = stage(&db.store, &next, &refs(&["kept"]), &["txt"]).await;

    let new = document(VersionId(77), "late", vec![file("txt", 1, 1)]);
    assert!(matches!(db.store.stage_documents(&late, &[new]).await, Err(StoreError::ImportOvertaken)));
    assert!(matches!(db.store.renew_import(&late, 100, 100).await, Err(StoreError::ImportOvertaken)));
    assert!(matches!(db.store.commit_import(&late, 100).await, Err(StoreError::ImportOvertaken)));
    db.store.abort_import(&late).await.unwrap();

    let collection = db.store.commit_import(&next, 150).await.unwrap();
    assert_eq!((collection.documents, collection.corpus_version), (1, 1));
    let found = db.store.resolve_refs(collection.id, 1, &refs(&["lost", "late", "kept"])).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("kept".to_owned(), ids[0])]);
}

pub(crate) async fn what_a_dead_import_left_is_removed(db: Database) {
    let (_, first) = import(&db.store, "c", &["a"], &["txt"]).await;
    let dead = db.store.begin_import(&new_collection("c"), 0, 100).await.unwrap();
    let left = stage(&db.store, &dead, &refs(&["a", "b"]), &["txt", "pdf"]).await;
    let staged = db.store.pack_keys(dead.collection()).await.unwrap();

    let next = db.store.begin_import(&new_collection("c"), 100, 100).await.unwrap();
    assert_eq!(next.base.corpus_version, 1);
    let kept = db.store.pack_keys(dead.collection()).await.unwrap();
    assert!(kept.is_subset(&staged) && kept.len() < staged.len(), "{kept:?} of {staged:?}");
    assert!(db.store.name_owners(&next, &refs(&["b"])).await.unwrap().is_empty());
    // The same refs and the same packs can be staged again.
    let ids = stage(&db.store, &next, &refs(&["a", "b"]), &["txt", "pdf"]).await;
    let collection = db.store.commit_import(&next, 150).await.unwrap();
    assert_eq!((collection.documents, collection.corpus_version), (2, 2));
    assert!(ids[0] > left[1], "ids of a dead import are not used again");
    let documents = db.store.documents(&[first[0], ids[0]]).await.unwrap();
    assert_eq!(documents[0].superseded, Some(2));
    assert_eq!(documents[1].files.len(), 2);
}

pub(crate) async fn an_aborted_import_leaves_nothing(db: Database) {
    let (before, ids) = import(&db.store, "c", &["a"], &["txt"]).await;
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let left = stage(&db.store, &lease, &refs(&["a", "b"]), &["txt"]).await;
    db.store.abort_import(&lease).await.unwrap();
    db.store.abort_import(&lease).await.unwrap();

    assert_eq!(db.store.collection("c").await.unwrap(), Some(before));
    assert!(db.store.documents(&left).await.unwrap().is_empty());
    assert_eq!(db.store.documents(&ids).await.unwrap()[0].superseded, None);
    assert!(matches!(db.store.commit_import(&lease, 1).await, Err(StoreError::ImportOvertaken)));
    db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
}

pub(crate) async fn a_commit_may_be_asked_for_again(db: Database) {
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    stage(&db.store, &lease, &refs(&["a"]), &["txt"]).await;
    let committed = db.store.commit_import(&lease, 5).await.unwrap();
    assert_eq!(db.store.commit_import(&lease, 6).await.unwrap(), committed);
    db.store.abort_import(&lease).await.unwrap();
    assert_eq!(db.store.collection("c").await.unwrap(), Some(committed));
    // Even when another import has followed: this one has not been overtaken.
    let (newer, _) = import(&db.store, "c", &["b"], &["txt"]).await;
    assert_eq!(db.store.commit_import(&lease, 7).await.unwrap(), newer);
}

pub(crate) async fn a_corpus_version_names_the_import_that_made_it(db: Database) {
    let mut expected = Vec::new();
    for (version, name) in (1..).zip(["a", "b", "a"]) {
        let overtaken = db.store.begin_import(&new_collection("c"), 0, 0).await.unwrap();
        stage(&db.store, &overtaken, &refs(&[name]), &["txt"]).await;
        let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
        assert_eq!(lease.base, overtaken.base);
        stage(&db.store, &lease, &refs(&[name]), &["txt"]).await;
        let made = db.store.commit_import(&lease, 1).await.unwrap();
        assert!(matches!(db.store.commit_import(&overtaken, 2).await, Err(StoreError::ImportOvertaken)));
        // An import without changes makes no version.
        let unchanged = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
        assert_eq!(unchanged.base, lease.made());
        assert_eq!(db.store.commit_import(&unchanged, 3).await.unwrap().index(), made.index());
        assert_eq!((made.index(), made.corpus_version), (lease.made(), version));
        expected.insert(0, lease.made());
    }
    let collection = db.store.collections().await.unwrap().remove(0);
    assert_eq!(collection.index(), expected[0]);
    assert_eq!(db.store.collection_by_id(collection.id).await.unwrap(), Some(collection.clone()));
    assert_eq!(db.store.indexes(collection.id, 2).await.unwrap(), expected[..2]);
    assert_eq!(db.store.indexes(collection.id, 9).await.unwrap(), expected);
    import(&db.store, "other", &["a"], &["txt"]).await;
    assert_eq!(db.store.indexes(collection.id, 9).await.unwrap(), expected);
}

pub(crate) async fn who_begins_while_another_commits_stands_on_what_that_one_made(db: Database) {
    let other = db.open_again().await;
    for round in 0..20 {
        let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
        stage(&db.store, &lease, &refs(&["a"]), &["txt"]).await;
        let next = async {
            loop {
                match other.begin_import(&new_collection("c"), 0, HOUR).await {
                    Err(StoreError::ImportRunning { .. }) => tokio::task::yield_now().await,
                    next => return next.unwrap(),
                }
            }
        };
        let (committed, next) = tokio::join!(db.store.commit_import(&lease, 1), next);
        assert_eq!((committed.unwrap().index(), next.base), (lease.made(), lease.made()), "round {round}");
        other.abort_import(&next).await.unwrap();
    }
}

pub(crate) async fn only_one_of_many_gets_the_lease(db: Database) {
    let other = db.open_again().await;
    let beginning = (0..20).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        let collection = NewCollection { description: format!("of {i}"), ..new_collection("c") };
        tokio::spawn(async move { (i, store.begin_import(&collection, 0, HOUR).await) })
    });
    let outcomes: Vec<_> = join_all(beginning).await.into_iter().map(Result::unwrap).collect();
    let won: Vec<(i32, &ImportLease)> =
        outcomes.iter().filter_map(|(i, outcome)| Some((*i, outcome.as_ref().ok()?))).collect();
    let refused = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::ImportRunning { until_ms: HOUR }));
    assert_eq!(outcomes.iter().filter(|(_, outcome)| refused(outcome)).count(), 19);
    let collection = db.store.collection("c").await.unwrap().unwrap();
    assert_eq!((collection.id, collection.description), (won[0].1.collection(), format!("of {}", won[0].0)));
}

pub(crate) async fn a_lease_further_ahead_than_it_can_be_is_void(db: Database) {
    import(&db.store, "c", &["a"], &["txt"]).await;
    // By a clock that was a day ahead, and an import that was killed.
    let ahead = 86_400_000;
    for _ in 0..2 {
        let killed = db.store.begin_import(&new_collection("c"), ahead, 500).await.unwrap();
        let next = db.store.begin_import(&new_collection("c"), 1000, 500).await.unwrap();
        assert!(matches!(db.store.renew_import(&killed, ahead, 500).await, Err(StoreError::ImportOvertaken)));
        let second = db.store.begin_reindex("c", 1000, 500).await;
        assert!(matches!(second, Err(StoreError::ImportRunning { until_ms: 1500 })), "{second:?}");
        db.store.abort_import(&next).await.unwrap();
    }
    let killed = db.store.begin_reindex("c", ahead, 500).await.unwrap();
    let next = db.store.begin_reindex("c", 1000, 500).await.unwrap();
    assert_ne!(killed.import, next.import);
    db.store.abort_import(&next).await.unwrap();
    // Clocks that differ a little are none that are wrong.
    db.store.begin_import(&new_collection("c"), 1000 + ALLOWED_SKEW_MS, 500).await.unwrap();
    let second = db.store.begin_import(&new_collection("c"), 1000, 500).await;
    assert!(matches!(second, Err(StoreError::ImportRunning { .. })), "{second:?}");
}

pub(crate) async fn a_lease_is_shown_and_can_be_broken(db: Database) {
    assert_eq!(db.store.held_leases().await.unwrap(), []);
    let lease = db.store.begin_import(&new_collection("c"), 1000, 500).await.unwrap();
    let held = HeldLease { slug: "c".to_owned(), import: lease.import, until_ms: 1500 };
    assert_eq!(db.store.held_leases().await.unwrap(), [held]);
    assert_eq!(db.store.break_lease("c").await.unwrap(), Some(lease.import));
    assert_eq!(db.store.break_lease("c").await.unwrap(), None);
    assert!(matches!(db.store.break_lease("other").await, Err(StoreError::NotFound(_))));
    assert_eq!(db.store.held_leases().await.unwrap(), []);
    assert!(matches!(db.store.commit_import(&lease, 1100).await, Err(StoreError::ImportOvertaken)));
    db.store.begin_import(&new_collection("c"), 1100, 500).await.unwrap();
}
