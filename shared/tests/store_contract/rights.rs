//! Entitlements, access levels, and what a package has and has not because of them.

use std::collections::BTreeMap;

use adit_shared::domain::{Access, Bits, Clearance};
use adit_shared::ids::{CollectionId, KeyId, VersionId};
use adit_shared::store::{NewDocument, NewPackage, SqlStore, Store as _, StoreError};
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};

use super::harness::Database;
use super::samples::{HOUR, document, file, import, key, new_collection, new_package, owned_docset, totals};

pub(crate) async fn a_key_is_entitled_until_it_is_denied(db: Database) {
    let id = key(&db.store, "miner").await;
    let (press, archive) = ("press".parse().unwrap(), "archive.2".parse().unwrap());
    assert!(db.store.grant(id, &press).await.unwrap());
    assert!(!db.store.grant(id, &press).await.unwrap(), "it is entitled already");
    assert!(db.store.grant(id, &archive).await.unwrap());
    let found = db.store.keys().await.unwrap().remove(0);
    assert_eq!(db.store.caller(&found.hash, 0).await.unwrap(), Some((found.clone(), 0)));
    assert_eq!(Vec::from_iter(found.entitlements), [archive, press.clone()]);

    assert!(db.store.deny(id, &press).await.unwrap());
    assert!(!db.store.deny(id, &press).await.unwrap(), "it has it no more");
    assert_eq!(db.store.keys().await.unwrap()[0].entitlements.len(), 1);
    assert!(matches!(db.store.grant(KeyId(99), &press).await, Err(StoreError::NotFound("key"))));
}

/// Makes the schema one of before there were access levels, entitlements and withdrawals.
pub(crate) async fn forget_rights(old: &mut AnyConnection) {
    for table in ["entitlements", "withdrawals", "clearances"] {
        old.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await.unwrap();
    }
    old.execute("DROP INDEX documents_by_access").await.unwrap();
    for (table, column) in [
        ("documents", "access"),
        ("collections", "access"),
        ("collections", "tdm"),
        ("packages", "withheld_rights"),
        ("packages", "withheld_withdrawn"),
    ] {
        old.execute(AssertSqlSafe(format!("ALTER TABLE {table} DROP COLUMN {column}"))).await.unwrap();
    }
    old.execute("DELETE FROM _sqlx_migrations WHERE version = 7").await.unwrap();
}

/// Imports documents with these access levels, as new versions where they are there; gives the ids.
async fn import_with(store: &SqlStore, slug: &str, documents: &[(&str, &str)]) -> (CollectionId, Vec<VersionId>) {
    let lease = store.begin_import(&new_collection(slug), 0, HOUR).await.unwrap();
    let refs: Vec<String> = documents.iter().map(|(r#ref, _)| (*r#ref).to_owned()).collect();
    let current = store.current_documents(&lease, &refs).await.unwrap();
    let first = store.reserve_versions(u32::try_from(documents.len()).unwrap()).await.unwrap();
    let rows = documents.iter().zip(first.0..).map(|((r#ref, access), id)| {
        let old = current.get(*r#ref);
        NewDocument {
            access: access.parse().unwrap(),
            version: old.map_or(1, |old| old.version + 1),
            replaces: old.map(|old| old.id),
            ..document(VersionId(id), r#ref, vec![file("txt", id, 10)])
        }
    });
    let rows: Vec<NewDocument> = rows.collect();
    store.stage_documents(&lease, &rows).await.unwrap();
    let collection = store.commit_import(&lease, 1).await.unwrap();
    (collection.id, rows.iter().map(|row| row.id).collect())
}

fn bitmap(ids: &[VersionId]) -> RoaringBitmap {
    ids.iter().map(|id| id.0).collect()
}

pub(crate) async fn closed_documents_are_told_by_their_access_level(db: Database) {
    let documents =
        [("a", "open"), ("b", "restricted:x"), ("c", "metadata"), ("d", "restricted:x"), ("e", "restricted:y")];
    let (collection, ids) = import_with(&db.store, "c", &documents).await;
    import_with(&db.store, "other", &[("b", "metadata")]).await;
    let closed = async |members: &[VersionId]| -> BTreeMap<String, RoaringBitmap> {
        let closed = db.store.closed(collection, &bitmap(members)).await.unwrap();
        closed.into_iter().map(|(access, ids)| (access.to_string(), ids)).collect()
    };
    let told = |pairs: &[(&str, &[VersionId])]| {
        pairs.iter().map(|(access, ids)| ((*access).to_owned(), bitmap(ids))).collect()
    };
    let all = told(&[("metadata", &ids[2..3]), ("restricted:x", &[ids[1], ids[3]]), ("restricted:y", &ids[4..])]);
    assert_eq!(closed(&ids).await, all);
    assert_eq!(closed(&[ids[0], ids[3]]).await, told(&[("restricted:x", &ids[3..4])]));
    assert_eq!(closed(&ids[..1]).await, told(&[]));
    assert_eq!(closed(&[]).await, told(&[]));
    let stored = db.store.documents(&ids).await.unwrap();
    assert!(stored.iter().zip(documents).all(|(document, (_, access))| document.access.to_string() == access));
}

pub(crate) async fn the_newest_version_decides_who_may_have_all_versions(db: Database) {
    let (_, first) = import_with(&db.store, "c", &[("a", "open"), ("b", "restricted:x"), ("c", "open")]).await;
    let (_, second) = import_with(&db.store, "c", &[("a", "metadata"), ("b", "open")]).await;
    let access = async |ids: &[VersionId]| -> Vec<String> {
        db.store.documents(ids).await.unwrap().into_iter().map(|document| document.access.to_string()).collect()
    };
    assert_eq!(access(&first).await, ["metadata", "open", "open"]);
    assert_eq!(access(&second).await, ["metadata", "open"]);

    // What is staged and not committed decides nothing.
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let old = db.store.current_documents(&lease, &["a".to_owned()]).await.unwrap().remove("a").unwrap();
    assert_eq!(old.access, Access::Metadata);
    let id = db.store.reserve_versions(1).await.unwrap();
    let opened = NewDocument { version: 3, replaces: Some(old.id), ..document(id, "a", Vec::new()) };
    db.store.stage_documents(&lease, &[opened]).await.unwrap();
    assert_eq!(access(&first[..1]).await, ["metadata"]);
    db.store.commit_import(&lease, 1).await.unwrap();
    assert_eq!(access(&[first[0], second[0], id]).await, ["open"; 3]);
}

pub(crate) async fn a_package_keeps_what_was_withheld_of_it(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let clearance = Clearance {
        withdrawn: (0..100_000).collect(),
        rights: [7, u32::MAX].into(),
        restricted: [("x".parse().unwrap(), Bits([8].into()))].into(),
        base: [9].into(),
    };
    let new = NewPackage { clearance: clearance.clone(), ..new_package(owner, docset, "withheld") };
    let (package, _) = db.store.create_package(&new, true).await.unwrap();
    assert_eq!((package.documents.rights, package.documents.withdrawn), (2, 100_000));
    assert_eq!(db.store.clearance(package.id).await.unwrap(), clearance);
    assert_eq!(db.store.package(package.id, None).await.unwrap(), Some(package.clone()));
    let (plain, _) = db.store.create_package(&new_package(owner, docset, "plain"), true).await.unwrap();
    assert!(db.store.clearance(plain.id).await.unwrap().is_empty());

    db.store.delete_docset(docset, None, 50).await.unwrap();
    assert!(db.store.clearance(package.id).await.unwrap().is_empty(), "it goes with its package");
}

pub(crate) async fn a_collection_tells_its_terms(db: Database) {
    let tdm = Some(adit_shared::domain::Tdm { reservation: true, policy: Some("https://example.org/p".to_owned()) });
    let mut described = new_collection("c");
    described.access = "restricted:press".parse().unwrap();
    described.tdm = tdm.clone();
    let lease = db.store.begin_import(&described, 5, HOUR).await.unwrap();
    let collection = db.store.commit_import(&lease, 6).await.unwrap();
    assert_eq!((collection.access, collection.tdm), (described.access, tdm));
    let (collection, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    assert_eq!((collection.access, collection.tdm), (Access::Open, None));
}

pub(crate) async fn a_withdrawn_work_is_current_no_more_from_the_next_version_on(db: Database) {
    let (before, ids) = import(&db.store, "c", &["a", "b", "c"], &["txt", "pdf"]).await;
    let refs = ["b".to_owned(), "c".to_owned()];
    db.store.withdraw(before.id, &refs, "First reason.", 10).await.unwrap();
    db.store.withdraw(before.id, &refs[..1], "Second reason.", 11).await.unwrap();
    let shown = db.store.documents(&ids).await.unwrap();
    let reasons: Vec<_> =
        shown.iter().map(|document| document.withdrawn.clone().map(|it| (it.at, it.reason))).collect();
    assert_eq!(reasons, [None, Some((10, "Second reason.".to_owned())), Some((10, "First reason.".to_owned()))]);
    let some = ["a".to_owned(), refs[0].clone(), "\0".to_owned()];
    assert_eq!(Vec::from_iter(db.store.withdrawn_refs(before.id, &some).await.unwrap()), refs[..1]);
    let among = db.store.withdrawn(before.id, &bitmap(&ids[..2])).await.unwrap();
    assert_eq!(Vec::from_iter(among.keys().copied()), ids[1..2]);
    assert_eq!(db.store.collection("c").await.unwrap().unwrap(), before, "until its index lacks them");

    // An import that dies leaves them to the next.
    let lease = db.store.begin_import(&new_collection("c"), 0, 1).await.unwrap();
    let claimed = db.store.claim_withdrawals(&lease).await.unwrap();
    assert_eq!((&claimed.out[..], claimed.back.len()), (&ids[1..], 0));
    let lease = db.store.begin_import(&new_collection("c"), 5, HOUR).await.unwrap();
    assert_eq!(db.store.claim_withdrawals(&lease).await.unwrap(), claimed);
    let after = db.store.commit_import(&lease, 6).await.unwrap();
    assert_eq!((after.corpus_version, after.documents), (before.corpus_version + 1, 1));
    assert_eq!(after.formats, totals(&[("pdf", 1, 1000), ("txt", 1, 1000)]));
    let found = db.store.resolve_refs(after.id, after.corpus_version, &refs).await.unwrap();
    assert!(found.is_empty());
    assert_eq!(db.store.resolve_refs(after.id, before.corpus_version, &refs).await.unwrap().len(), 2);

    let lease = db.store.begin_import(&new_collection("c"), 7, HOUR).await.unwrap();
    assert!(db.store.claim_withdrawals(&lease).await.unwrap().is_empty(), "it is carried out");
    assert_eq!(db.store.commit_import(&lease, 8).await.unwrap().corpus_version, after.corpus_version);
}

pub(crate) async fn a_withdrawal_that_is_undone_leaves_no_trace(db: Database) {
    let (before, ids) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    let refs = ["b".to_owned()];
    let settle = async || {
        let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
        let claimed = db.store.claim_withdrawals(&lease).await.unwrap();
        (claimed, db.store.commit_import(&lease, 6).await.unwrap())
    };
    // Before it was carried out.
    db.store.withdraw(before.id, &refs, "Why.", 10).await.unwrap();
    db.store.undo_withdrawal(before.id, &refs).await.unwrap();
    assert!(db.store.withdrawn(before.id, &bitmap(&ids)).await.unwrap().is_empty());
    let (claimed, collection) = settle().await;
    assert_eq!((claimed.back, collection.documents), (vec![ids[1]], 2));
    // After that.
    db.store.withdraw(before.id, &refs, "Why.", 10).await.unwrap();
    assert_eq!(settle().await.1.documents, 1);
    db.store.undo_withdrawal(before.id, &refs).await.unwrap();
    let (claimed, collection) = settle().await;
    assert_eq!((claimed.back, claimed.out.len()), (vec![ids[1]], 0));
    assert_eq!((collection.documents, &collection.formats), (before.documents, &before.formats));
    assert_eq!(db.store.documents(&ids[1..]).await.unwrap()[0].superseded, None);
    assert!(settle().await.0.is_empty());
    // What is undone between a claim and its commit comes back with the next.
    db.store.withdraw(before.id, &refs, "Why.", 10).await.unwrap();
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    assert_eq!(db.store.claim_withdrawals(&lease).await.unwrap().out, [ids[1]]);
    db.store.undo_withdrawal(before.id, &refs).await.unwrap();
    assert_eq!(db.store.commit_import(&lease, 6).await.unwrap().documents, 2);
    assert_eq!(settle().await.0.back, [ids[1]]);
}
