//! Corpus versions that are new by their index.

use adit_shared::store::{Store as _, StoreError};

use super::harness::Database;
use super::samples::{HOUR, import, new_collection, stage};

pub(crate) async fn a_corpus_version_can_be_new_by_its_index_alone(db: Database) {
    let (before, _) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    let lease = db.store.begin_reindex("c", 50, HOUR).await.unwrap();
    assert_eq!(lease.base, before.index());
    assert!(
        matches!(db.store.begin_reindex("c", 51, HOUR).await, Err(StoreError::ImportRunning { until_ms }) if until_ms == 50 + HOUR)
    );
    assert!(matches!(
        db.store.begin_import(&new_collection("c"), 51, HOUR).await,
        Err(StoreError::ImportRunning { .. })
    ));
    assert_eq!(db.store.collection("c").await.unwrap(), Some(before.clone()));

    let after = db.store.commit_reindex(&lease, 60).await.unwrap();
    assert_eq!((after.index(), after.updated), (lease.made(), 60));
    assert_eq!((after.documents, &after.formats), (before.documents, &before.formats));
    assert_eq!(db.store.collection("c").await.unwrap(), Some(after.clone()));
    assert_eq!(db.store.indexes(after.id, 2).await.unwrap(), [after.index(), before.index()]);
    // An answer that was lost.
    assert_eq!(db.store.commit_reindex(&lease, 61).await.unwrap(), after);

    let given_up = db.store.begin_reindex("c", 70, HOUR).await.unwrap();
    db.store.abort_import(&given_up).await.unwrap();
    assert!(matches!(db.store.commit_reindex(&given_up, 80).await, Err(StoreError::ImportOvertaken)));
    assert_eq!(db.store.collection("c").await.unwrap(), Some(after));
    assert!(matches!(db.store.begin_reindex("nowhere", 90, HOUR).await, Err(StoreError::NotFound(_))));
}

pub(crate) async fn an_index_holds_what_is_current(db: Database) {
    let (_, old) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    import(&db.store, "other", &["a"], &["txt"]).await;
    let (_, new) = import(&db.store, "c", &["b", "c"], &["txt"]).await;
    let lease = db.store.begin_reindex("c", 1, HOUR).await.unwrap();
    let indexed: Vec<u32> = db.store.indexed(&lease).await.unwrap().iter().collect();
    assert_eq!(indexed, [old[0].0, new[0].0, new[1].0]);
    db.store.commit_reindex(&lease, 2).await.unwrap();
    let collection = lease.collection();
    let stored: Vec<u32> = db.store.stored_versions(collection).await.unwrap().iter().collect();
    assert_eq!(stored, [old[0].0, old[1].0, new[0].0, new[1].0], "superseded versions too");
    // What an import has staged and not committed has no packs yet.
    let staging = db.store.begin_import(&new_collection("c"), 3, HOUR).await.unwrap();
    let staged = stage(&db.store, &staging, &["d".to_owned()], &["txt"]).await;
    assert!(!db.store.stored_versions(collection).await.unwrap().contains(staged[0].0));
    db.store.abort_import(&staging).await.unwrap();

    let many: Vec<String> = (0..120_000).map(|number| format!("m{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (_, ids) = import(&db.store, "many", &many, &[]).await;
    let lease = db.store.begin_reindex("many", 1, HOUR).await.unwrap();
    assert!(db.store.indexed(&lease).await.unwrap().iter().eq(ids.iter().map(|id| id.0)));
    let empty = db.store.begin_import(&new_collection("empty"), 1, HOUR).await.unwrap();
    assert!(db.store.indexed(&empty).await.unwrap().is_empty());
}
