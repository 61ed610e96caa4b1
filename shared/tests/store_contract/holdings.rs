//! What keys have at one time, charges of documents, and docsets that stay for others' packages.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Holding, Holdings, OwnLimit, Role, Status};
use adit_shared::ids::{KeyId, PackageId};
use adit_shared::store::{ChargedTo, SqlStore, StatusUpdate, Store as _, StoreError};
use futures::future::join_all;
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};

use super::allowances::take;
use super::harness::Database;
use super::samples::{format, key, new_docset, new_package, owned_docset};

/// Takes the schema back to what it was before there were limits on holdings.
pub(crate) async fn forget_holdings(old: &mut AnyConnection) {
    for table in ["charges", "role_holdings", "key_holdings", "deleted_docsets"] {
        old.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await.unwrap();
    }
    for index in ["packages_held", "packages_pay_later"] {
        old.execute(AssertSqlSafe(format!("DROP INDEX {index}"))).await.unwrap();
    }
    for column in ["pay_later", "given_up"] {
        old.execute(AssertSqlSafe(format!("ALTER TABLE packages DROP COLUMN {column}"))).await.unwrap();
    }
    old.execute("DELETE FROM _sqlx_migrations WHERE version = 11").await.unwrap();
}

async fn limit(store: &SqlStore, key: KeyId, own: Holdings<OwnLimit>) {
    assert!(store.limit_key_holdings(key, &own).await.unwrap());
}

fn reached(holding: Holding, limit: u64) -> impl Fn(&StoreError) -> bool {
    move |error| matches!(error, StoreError::LimitReached { holding: of, limit: at } if (*of, *at) == (holding, limit))
}

pub(crate) async fn limits_on_holdings_are_of_roles_and_of_keys(db: Database) {
    let miner = key(&db.store, "miner").await;
    let limits = async || db.store.key(miner).await.unwrap().unwrap().holding_limits;
    let new =
        Holdings { docsets: Some(10_000), packages: Some(1000), unfinished: Some(20), stored_bytes: Some(1 << 40) };
    assert_eq!(limits().await, new, "what miners have in a new database");
    assert_eq!(db.store.role_holding_limits(Role::Operator).await.unwrap(), Holdings::default());
    let role = Holdings { docsets: None, packages: Some(0), ..new };
    db.store.limit_role_holdings(Role::Miner, &role).await.unwrap();
    assert_eq!((limits().await, db.store.role_holding_limits(Role::Miner).await.unwrap()), (role, role));
    let own = Holdings { docsets: OwnLimit::AtMost(5), packages: OwnLimit::Unlimited, ..Holdings::default() };
    limit(&db.store, miner, own).await;
    limit(&db.store, miner, own).await;
    assert_eq!(limits().await, Holdings { docsets: Some(5), packages: None, ..role });
    let (shown, _) = db.store.caller(&Sha256::of(b"miner"), 0).await.unwrap().unwrap();
    assert_eq!((shown.own_holding_limits, shown.holding_limits), (own, limits().await));
    db.store.revoke_key(miner, 9).await.unwrap();
    assert!(!db.store.limit_key_holdings(miner, &own).await.unwrap(), "it is revoked");
    assert!(!db.store.limit_key_holdings(KeyId(99), &own).await.unwrap(), "there is none");
    assert_eq!(db.store.key(KeyId(99)).await.unwrap(), None);
}

pub(crate) async fn a_key_makes_no_more_docsets_than_it_may(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let (other, _) = owned_docset(&db.store, "other").await;
    let collection = db.store.docset(docset, None).await.unwrap().unwrap().collection;
    limit(&db.store, owner, Holdings { docsets: OwnLimit::AtMost(5), ..Holdings::default() }).await;
    let second = db.open_again().await;
    let making = (0..20).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { second.clone() };
        tokio::spawn(async move { store.create_docset(&new_docset(owner, collection, [i].into())).await })
    });
    let outcomes: Vec<_> = join_all(making).await.into_iter().map(Result::unwrap).collect();
    let refused: Vec<_> = outcomes.iter().filter_map(|made| made.as_ref().err()).collect();
    assert_eq!(refused.len(), 16, "four, beside the one that was there");
    assert!(refused.into_iter().all(reached(Holding::Docsets, 5)));
    assert!(db.store.create_docset(&new_docset(other, collection, [1].into())).await.is_ok());
    assert_eq!(db.store.holdings(owner, 0).await.unwrap().docsets, 5);
    db.store.delete_docset(docset, Some(owner), 0).await.unwrap().unwrap();
    assert!(db.store.create_docset(&new_docset(owner, collection, [1].into())).await.is_ok());
}

async fn finish(store: &SqlStore, package: PackageId, size: u64, expires: i64) {
    let (status, size, expires) = (Some(Status::Successful), Some(size), Some(expires));
    let built = StatusUpdate { sequence: 1, status, size, expires, ..StatusUpdate::default() };
    store.update_package(package, &built, 20).await.unwrap();
}

pub(crate) async fn a_key_has_no_more_packages_than_it_may(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let own = Holdings { unfinished: OwnLimit::AtMost(1), ..Holdings::default() };
    limit(&db.store, owner, own).await;
    let make = async |seed: &str, created| {
        let new = adit_shared::store::NewPackage { created, ..new_package(owner, docset, seed) };
        db.store.create_package(&new, true).await.map(|(package, _)| package.id)
    };
    let first = make("1", 10).await.unwrap();
    assert_eq!(make("1", 10).await.unwrap(), first, "it is there already");
    assert!(reached(Holding::Unfinished, 1)(&make("2", 10).await.unwrap_err()));
    finish(&db.store, first, 700, 100).await;
    let second = make("2", 10).await.unwrap();
    finish(&db.store, second, 300, 200).await;
    let held = Holdings { docsets: 1, packages: 2, unfinished: 0, stored_bytes: 1000 };
    assert_eq!(db.store.holdings(owner, 99).await.unwrap(), held);

    for (limits, holding, most) in [
        (Holdings { packages: OwnLimit::AtMost(2), ..Holdings::default() }, Holding::Packages, 2),
        (Holdings { stored_bytes: OwnLimit::AtMost(1000), ..Holdings::default() }, Holding::StoredBytes, 1000),
    ] {
        limit(&db.store, owner, limits).await;
        assert!(reached(holding, most)(&make("3", 99).await.unwrap_err()));
    }
    assert_eq!(db.store.holdings(owner, 100).await.unwrap(), Holdings { packages: 1, stored_bytes: 300, ..held });
    let third = make("3", 100).await.unwrap();
    assert_eq!(db.store.unfinished_packages(owner, 9).await.unwrap().len(), 1);
    db.store.erase_package(second, None).await.unwrap();
    db.store.dismiss_package(third, None, 101).await.unwrap();
    assert_eq!(db.store.holdings(owner, 100).await.unwrap(), Holdings { docsets: 1, ..Holdings::default() });
}

pub(crate) async fn a_document_is_recorded_as_charged_once(db: Database) {
    let (miner, other) = (key(&db.store, "miner").await, key(&db.store, "other").await);
    let (txt, pdf) = (format("txt"), format("pdf"));
    let to = ChargedTo { key: miner, day: 5, format: &txt };
    let documents: RoaringBitmap = (0..1200).chain([u32::MAX]).collect();
    assert!(db.store.charged_documents(to, &documents).await.unwrap().is_empty());
    let second = db.open_again().await;
    let recording = (0..10).map(|i| {
        let (store, txt) = (if i % 2 == 0 { db.store.clone() } else { second.clone() }, txt.clone());
        let documents = documents.clone();
        tokio::spawn(async move {
            let to = ChargedTo { key: miner, day: 5, format: &txt };
            store.record_charges(to, &documents).await.unwrap().len()
        })
    });
    let recorded: u64 = join_all(recording).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(recorded, documents.len());
    assert_eq!(db.store.charged_documents(to, &documents).await.unwrap(), documents);
    for to in [ChargedTo { key: other, ..to }, ChargedTo { day: 6, ..to }, ChargedTo { format: &pdf, ..to }] {
        assert!(db.store.charged_documents(to, &documents).await.unwrap().is_empty());
        assert_eq!(db.store.record_charges(to, &[7].into()).await.unwrap(), [7].into());
    }
    db.store.forget_charges(6).await.unwrap();
    assert!(db.store.charged_documents(to, &documents).await.unwrap().is_empty());
    assert_eq!(db.store.charged_documents(ChargedTo { day: 6, ..to }, &documents).await.unwrap(), [7].into());
    let stranger = db.store.record_charges(ChargedTo { key: KeyId(99), ..to }, &documents).await;
    assert!(matches!(stranger, Err(StoreError::NotFound("key"))), "{stranger:?}");
}

pub(crate) async fn a_package_can_be_paid_for_after_it_was_built(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let later = db.store.create_package(&new_package(owner, docset, "later"), true).await.unwrap().0.id;
    db.store.defer_payment(later).await.unwrap();
    db.store.dismiss_unpaid(later, 11).await.unwrap();
    assert_eq!(db.store.unpaid_documents(owner, 10).await.unwrap(), 2);
    assert_eq!(db.store.unpaid_documents(owner, 11).await.unwrap(), 0, "of those that were asked for since");
    finish(&db.store, later, 10, 100).await;
    let there = async || db.store.package(later, None).await.unwrap().unwrap();
    assert_eq!((there().await.status, there().await.paid), (Status::Successful, false));
    assert_eq!(db.store.pay_package(later, &take(owner, 60, 60)).await.unwrap().unwrap().0, 60);
    assert!(there().await.paid);
    assert_eq!(db.store.pay_package(later, &take(owner, 60, 60)).await.unwrap(), None);
    assert_eq!(db.store.unpaid_documents(owner, 0).await.unwrap(), 0);

    db.store.give_up_package(later, 100).await.unwrap();
    assert_eq!(there().await.given_up, None, "it has expired by itself");
    db.store.give_up_package(later, 99).await.unwrap();
    db.store.give_up_package(later, 98).await.unwrap();
    assert_eq!(there().await.given_up, Some(99));
}

pub(crate) async fn a_deleted_docset_stays_for_packages_of_others(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let guest = key(&db.store, "guest").await;
    let make =
        async |key, seed: &str| db.store.create_package(&new_package(key, docset, seed), true).await.unwrap().0.id;
    let (own, theirs, erased) = (make(owner, "1").await, make(guest, "2").await, make(guest, "3").await);
    for package in [own, theirs, erased] {
        finish(&db.store, package, 10, 100).await;
    }
    db.store.erase_package(erased, None).await.unwrap();
    let share = db.store.create_share(docset, 0, 1000).await.unwrap();
    assert_eq!(db.store.follow_share(share.salted(), guest, 1).await.unwrap(), Some(docset));
    let whole = db.store.docset(docset, None).await.unwrap();
    assert_eq!(db.store.shared_docset(share.salted(), 1).await.unwrap(), whole);
    assert_eq!(db.store.shared_docset(share.salted(), 1000).await.unwrap(), None);

    let deleted = db.store.delete_docset(docset, Some(owner), 50).await.unwrap().unwrap();
    assert_eq!(deleted.iter().map(|package| package.id).collect::<Vec<_>>(), [erased, own]);
    for key in [None, Some(owner)] {
        assert_eq!(db.store.docset(docset, key).await.unwrap(), None);
        assert_eq!(db.store.docsets(key, None, 9).await.unwrap(), []);
        assert_eq!(db.store.delete_docset(docset, key, 51).await.unwrap(), None);
    }
    for key in [owner, guest] {
        assert_eq!(db.store.readable_docset(docset, key, 51).await.unwrap(), None);
    }
    assert_eq!(db.store.docsets_like(owner, &whole.as_ref().unwrap().fingerprint).await.unwrap(), []);
    assert_eq!(db.store.holdings(owner, 51).await.unwrap(), Holdings::default());
    assert_eq!(db.store.shared_docset(share.salted(), 1).await.unwrap(), None);
    assert!(db.store.package(theirs, Some(guest)).await.unwrap().is_some());
    assert_eq!(db.store.docset_of_packages(docset).await.unwrap(), whole);
    assert!(db.store.collection_of_docset(docset).await.unwrap().is_some());

    assert_eq!(db.store.purge_deleted_docsets(99, 9).await.unwrap(), []);
    let purged = db.store.purge_deleted_docsets(100, 9).await.unwrap();
    assert_eq!(purged.iter().map(|package| package.id).collect::<Vec<_>>(), [theirs]);
    assert_eq!(db.store.docset_of_packages(docset).await.unwrap(), None);
    assert_eq!(db.store.package(theirs, None).await.unwrap(), None);
    assert_eq!(db.store.purge_deleted_docsets(100, 9).await.unwrap(), []);
}
