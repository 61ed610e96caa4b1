//! Docsets.

use adit_shared::digest::Sha256;
use adit_shared::domain::Docset;
use adit_shared::ids::{CollectionId, DocsetId, KeyId};
use adit_shared::store::{NewDocset, Store as _, StoreError};
use roaring::RoaringBitmap;

use super::harness::Database;
use super::samples::{import, key, new_docset, new_package, owned_docset};

pub(crate) async fn a_docset_comes_back_as_it_was_made(db: Database) {
    let (collection, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    let owner = key(&db.store, "miner").await;
    let shapes: [RoaringBitmap; 5] = [
        RoaringBitmap::new(),
        [0, u32::MAX].into_iter().collect(),
        (5..70_000).collect(),
        (0..200_000).step_by(3).collect(),
        (0..100).map(|i| i * 40_000_000).collect(),
    ];
    for members in shapes {
        let new = NewDocset { name: None, ..new_docset(owner, collection.id, members) };
        let made = db.store.create_docset(&new).await.unwrap();
        let expected = Docset {
            id: made.id,
            owner,
            collection: collection.id,
            collection_slug: "c".to_owned(),
            name: None,
            origin: new.origin,
            size: new.members.len(),
            formats: new.formats,
            fingerprint: new.fingerprint,
            corpus_version: 1,
            members: new.members,
            created: 5,
        };
        assert_eq!(made, expected);
        assert_eq!(db.store.docset(made.id, None).await.unwrap(), Some(expected));
    }
    let new = new_docset(owner, CollectionId(99), RoaringBitmap::new());
    assert!(matches!(db.store.create_docset(&new).await, Err(StoreError::NotFound("collection"))));
    let new = new_docset(KeyId(99), collection.id, RoaringBitmap::new());
    assert!(matches!(db.store.create_docset(&new).await, Err(StoreError::NotFound("key"))));
}

pub(crate) async fn a_docset_belongs_to_its_owner(db: Database) {
    let (owner, id) = owned_docset(&db.store, "owner").await;
    let (stranger, _) = owned_docset(&db.store, "stranger").await;
    assert_eq!(db.store.docset(id, Some(stranger)).await.unwrap(), None);
    assert_eq!(db.store.docset(DocsetId(99), None).await.unwrap(), None);
    assert!(!db.store.rename_docset(id, Some(stranger), Some("Theirs")).await.unwrap());
    assert_eq!(db.store.delete_docset(id, Some(stranger), 50).await.unwrap(), None);

    let name = async || db.store.docset(id, Some(owner)).await.unwrap().unwrap().name;
    assert_eq!(name().await.as_deref(), Some("Mine"));
    assert!(db.store.rename_docset(id, Some(owner), Some("Ours")).await.unwrap());
    assert_eq!(name().await.as_deref(), Some("Ours"));
    assert!(db.store.rename_docset(id, None, None).await.unwrap());
    assert_eq!(name().await, None);
}

pub(crate) async fn docsets_are_listed_newest_first(db: Database) {
    let (owner, first) = owned_docset(&db.store, "owner").await;
    let (stranger, theirs) = owned_docset(&db.store, "stranger").await;
    let docset = db.store.docset(first, None).await.unwrap().unwrap();
    let again = new_docset(owner, docset.collection, docset.members.clone());
    let second = db.store.create_docset(&again).await.unwrap().id;

    let ids = async |owner, before, limit| {
        let listed = db.store.docsets(owner, before, limit).await.unwrap();
        listed.iter().map(|docset| docset.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(owner), None, 10).await, [second, first]);
    assert_eq!(ids(Some(owner), None, 1).await, [second]);
    assert_eq!(ids(Some(owner), Some(second), 10).await, [first]);
    assert_eq!(ids(Some(stranger), None, 10).await, [theirs]);
    assert_eq!(ids(None, None, 10).await, [second, theirs, first]);
    assert_eq!(ids(Some(owner), Some(first), 10).await, []);
    let listed = db.store.docsets(Some(owner), Some(second), 1).await.unwrap().remove(0);
    assert_eq!(listed, Docset { members: RoaringBitmap::new(), ..docset });
}

pub(crate) async fn a_million_members_are_one_small_row(db: Database) {
    let (collection, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    let owner = key(&db.store, "miner").await;
    for members in [(1..=1_000_000).collect::<RoaringBitmap>(), (1..=3_000_000).step_by(3).collect()] {
        let mut new = new_docset(owner, collection.id, RoaringBitmap::new());
        new.fingerprint = Sha256::of(b"large");
        new.members = members;
        let made = db.store.create_docset(&new).await.unwrap();
        let read = db.store.docset(made.id, Some(owner)).await.unwrap().unwrap();
        assert_eq!(read.size, 1_000_000);
        assert!(read.members == new.members);
    }
}

pub(crate) async fn deleting_a_docset_deletes_its_packages(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let (older, _) = db.store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
    let (newer, _) = db.store.create_package(&new_package(owner, docset, "2"), true).await.unwrap();
    assert_eq!(db.store.packages_of(docset).await.unwrap(), [newer.clone(), older.clone()]);

    let deleted = db.store.delete_docset(docset, Some(owner), 50).await.unwrap();
    assert_eq!(deleted, Some(vec![newer, older.clone()]));
    assert_eq!(db.store.docset(docset, None).await.unwrap(), None);
    assert_eq!(db.store.package(older.id, None).await.unwrap(), None);
    assert_eq!(db.store.delete_docset(docset, Some(owner), 50).await.unwrap(), None);
}

pub(crate) async fn no_id_is_used_again(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let (package, _) = db.store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
    let old = db.store.docset(docset, None).await.unwrap().unwrap();
    db.store.delete_docset(docset, None, 50).await.unwrap();
    let new = db.store.create_docset(&new_docset(owner, old.collection, old.members)).await.unwrap();
    assert!(new.id > docset);
    let (again, _) = db.store.create_package(&new_package(owner, new.id, "1"), true).await.unwrap();
    assert!(again.id > package.id);
}
