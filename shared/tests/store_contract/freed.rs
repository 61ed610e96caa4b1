//! Files of old versions that are freed, and files that move to other packs.

use std::collections::HashSet;

use adit_shared::domain::Place;
use adit_shared::ids::VersionId;
use adit_shared::store::{FileMove, ImportLease, PackUsage, SqlStore, Store as _, StoreError};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, Executor as _};

use super::harness::Database;
use super::samples::{HOUR, format, import, key, new_docset};

/// Undoes the migration that tells databases apart and remembers what was freed.
pub(crate) async fn forget_freed(old: &mut AnyConnection) {
    for statement in ["DROP TABLE identity", "DROP TABLE freed_versions", "ALTER TABLE packs DROP COLUMN gone"] {
        old.execute(statement).await.unwrap();
    }
}

async fn lease(store: &SqlStore) -> ImportLease {
    store.begin_reindex("c", 0, HOUR).await.unwrap()
}

fn members(ids: &[VersionId]) -> RoaringBitmap {
    ids.iter().map(|id| id.0).collect()
}

/// Counts the files of each of some versions.
async fn files(store: &SqlStore, ids: &[VersionId]) -> Vec<usize> {
    let found = store.documents(ids).await.unwrap();
    assert_eq!(found.len(), ids.len(), "the rows of freed versions stay");
    found.iter().map(|document| document.files.len()).collect()
}

pub(crate) async fn old_versions_that_nobody_has_lose_their_files(db: Database) {
    let (collection, first) = import(&db.store, "c", &["a", "b", "gone"], &["txt", "meta"]).await;
    let owner = key(&db.store, "miner").await;
    let held = new_docset(owner, collection.id, members(&first[1..2]));
    let held = db.store.create_docset(&held).await.unwrap();
    let (_, second) = import(&db.store, "c", &["a", "b"], &["txt", "meta"]).await;
    // A withdrawn work has no current version, and may come back.
    db.store.withdraw(collection.id, &["gone".to_owned()], "by order", 0).await.unwrap();
    let withdrawing = lease(&db.store).await;
    db.store.claim_withdrawals(&withdrawing).await.unwrap();
    db.store.commit_reindex(&withdrawing, 1).await.unwrap();
    let (newest, third) = import(&db.store, "c", &["a", "b"], &["txt", "meta"]).await;
    assert_eq!(newest.corpus_version, 4);

    let holder = lease(&db.store).await;
    assert_eq!(db.store.free_old_versions(&holder, 3, true).await.unwrap(), 1);
    assert_eq!(files(&db.store, &first).await, [2, 2, 2], "they were only counted");
    assert_eq!(db.store.free_old_versions(&holder, 3, false).await.unwrap(), 1);
    assert_eq!(files(&db.store, &first).await, [0, 2, 2], "b is in a docset, gone is withdrawn");
    assert_eq!(files(&db.store, &second).await, [2, 2], "they are in corpus version 3");
    assert_eq!(db.store.free_old_versions(&holder, 4, false).await.unwrap(), 2);
    assert_eq!(files(&db.store, &second).await, [0, 0]);
    assert_eq!(files(&db.store, &third).await, [2, 2]);

    let refused = db.store.create_docset(&new_docset(owner, collection.id, members(&second))).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    db.store.create_docset(&new_docset(owner, collection.id, members(&third))).await.unwrap();
    db.store.delete_docset(held.id, None, 0).await.unwrap();
    assert_eq!(db.store.free_old_versions(&holder, 4, false).await.unwrap(), 1);
    assert_eq!(files(&db.store, &first).await, [0, 0, 2]);
    db.store.abort_import(&holder).await.unwrap();
    let late = db.store.free_old_versions(&holder, 4, false).await;
    assert!(matches!(late, Ok(0) | Err(StoreError::ImportOvertaken)), "{late:?}");
}

pub(crate) async fn a_docset_that_is_made_meanwhile_has_all_its_files_or_is_refused(db: Database) {
    let (collection, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    let mut owners = Vec::new();
    for owner in ["one", "two", "three"] {
        owners.push(key(&db.store, owner).await);
    }
    for _ in 0..20 {
        let (before, old) = import(&db.store, "c", &["a"], &["txt"]).await;
        let (now, _) = import(&db.store, "c", &["a"], &["txt"]).await;
        assert_eq!(now.corpus_version, before.corpus_version + 1);
        let holder = lease(&db.store).await;
        let making = owners.iter().map(|owner| {
            let (store, docset) = (db.store.clone(), new_docset(*owner, collection.id, members(&old)));
            tokio::spawn(async move { store.create_docset(&docset).await })
        });
        let making: Vec<_> = making.collect();
        db.store.free_old_versions(&holder, now.corpus_version, false).await.unwrap();
        for made in making {
            match made.await.unwrap() {
                Ok(made) => {
                    assert_eq!(files(&db.store, &old).await, [1]);
                    db.store.delete_docset(made.id, None, 0).await.unwrap();
                }
                Err(StoreError::NotFound(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        db.store.abort_import(&holder).await.unwrap();
    }
}

pub(crate) async fn files_lie_where_they_were_moved(db: Database) {
    let (collection, ids) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    let holder = lease(&db.store).await;
    let documents = db.store.documents(&ids).await.unwrap();
    let from = documents[0].files[0].place.clone();
    let usage = db.store.pack_usage(collection.id).await.unwrap();
    let bytes = from.stored + documents[1].files[0].place.stored;
    assert_eq!(usage, [PackUsage { name: from.object.clone(), files: 2, bytes }]);
    let old = vec![from.object.clone()];
    assert_eq!(db.store.documents_in_packs(&old).await.unwrap(), members(&ids));

    let to = Place { object: "packs/1/moved".to_owned(), offset: 7, stored: from.stored };
    let moved = |document: usize, to: &Place| FileMove {
        document: ids[document],
        format: format("txt"),
        from: documents[document].files[0].place.clone(),
        to: to.clone(),
    };
    db.store.move_files(&holder, &[moved(0, &to)]).await.unwrap();
    let places = async || -> Vec<Place> {
        let all = members(&ids);
        let found: Vec<_> = db.store.members(&all, None, None).try_collect().await.unwrap();
        found.into_iter().map(|member| member.files[0].place.clone()).collect()
    };
    assert_eq!(places().await, [to.clone(), documents[1].files[0].place.clone()]);
    assert_eq!(db.store.drop_packs(&holder, &old).await.unwrap(), Vec::<String>::new(), "the other lies there");
    db.store.move_files(&holder, &[moved(1, &Place { offset: 900, ..to.clone() })]).await.unwrap();
    assert_eq!(db.store.drop_packs(&holder, &old).await.unwrap(), old);
    assert_eq!(db.store.pack_keys(collection.id).await.unwrap(), HashSet::from([to.object.clone()]));
    assert_eq!(db.store.pack_usage(collection.id).await.unwrap()[0].files, 2);
    // The next lease removes what dead imports have staged, and nothing of this.
    db.store.abort_import(&holder).await.unwrap();
    let next = lease(&db.store).await;
    assert_eq!(places().await[0], to);
    let late = db.store.move_files(&holder, &[moved(0, &to)]).await;
    assert!(matches!(late, Err(StoreError::ImportOvertaken)));
    db.store.abort_import(&next).await.unwrap();
}

pub(crate) async fn each_database_has_an_identity_of_its_own(db: Database) {
    let identity = db.store.identity().await.unwrap();
    assert!(identity.len() == 32 && identity.bytes().all(|digit| digit.is_ascii_hexdigit()), "{identity}");
    assert_eq!(db.store.identity().await.unwrap(), identity);
}
