//! What docsets are made by: summaries, refs in great number, newest versions; and links that open them.

use std::collections::BTreeSet;

use adit_shared::domain::{DocsetFingerprint, Origin, Sample, Selection, SetOperation, WorkHash};
use adit_shared::ids::{DocsetId, KeyId, Salt, ShareId, VersionId};
use adit_shared::store::{FormatTotals, NewDocset, Share, SqlStore, Store as _, StoreError, Summary, measure, works};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::harness::Database;
use super::samples::{HOUR, document, file, import, key, new_collection, new_docset, owned_docset, stage};

async fn summaries(store: &SqlStore, members: &RoaringBitmap) -> Vec<Summary> {
    store.summaries(members).try_collect::<Vec<_>>().await.unwrap().concat()
}

/// Summaries as the documents' rows tell them.
async fn by_documents(store: &SqlStore, members: &RoaringBitmap) -> Vec<Summary> {
    store.members(members, None, None).map_ok(Summary::from).try_collect().await.unwrap()
}

async fn execute(db: &Database, sql: &str) {
    let mut connection = AnyConnection::connect(&db.url).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

async fn rows(db: &Database) -> i64 {
    let mut connection = AnyConnection::connect(&db.url).await.unwrap();
    let count = connection.fetch_one("SELECT COUNT(*) FROM summaries").await.unwrap().get(0);
    connection.close().await.unwrap();
    count
}

/// Some thousand documents of different shapes in one collection, staged as imports do it, with another collection's between them.
async fn many(db: &Database) -> RoaringBitmap {
    let store = &db.store;
    let lease = store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let mut all = RoaringBitmap::new();
    for (batch, count) in [5000_u32, 1, 300, 300].into_iter().enumerate() {
        let first = store.reserve_versions(count).await.unwrap().0;
        store.reserve_versions(batch as u32).await.unwrap();
        // One of them without an id between, as when a document was not there to take it.
        let documents: Vec<_> = (first..first + count)
            .filter(|id| id % 257 != 0)
            .map(|id| {
                let formats = ["meta", "txt", "pdf"];
                let files =
                    formats.iter().take(id as usize % 4).map(|name| file(name, id, u64::from(id) * 1000)).collect();
                document(VersionId(id), &format!("c{id}"), files)
            })
            .rev()
            .collect();
        all.extend(documents.iter().map(|document| document.id.0));
        store.stage_documents(&lease, &documents).await.unwrap();
        if batch == 1 {
            import(store, "other", &["x", "y"], &["txt"]).await;
        }
    }
    store.commit_import(&lease, 1).await.unwrap();
    all
}

pub(crate) async fn summaries_are_what_the_documents_are(db: Database) {
    let all = many(&db).await;
    let last = all.max().unwrap();
    let shapes: [RoaringBitmap; 7] = [
        RoaringBitmap::new(),
        all.clone(),
        all.iter().step_by(3).collect(),
        all.iter().step_by(400).collect(),
        all.iter().filter(|id| *id < 300 || id % 100 == 0).collect(),
        all.range(4000..).collect(),
        [last].into(),
    ];
    for members in &shapes {
        assert!(summaries(&db.store, members).await == by_documents(&db.store, members).await, "{members:?}");
    }
    // As if half of them had been imported before there were summaries.
    execute(&db, "DELETE FROM summaries WHERE first % 2 = 0").await;
    for members in &shapes {
        assert!(summaries(&db.store, members).await == by_documents(&db.store, members).await, "{members:?}");
    }
    for missing in [last + 1, 0] {
        let members = all.iter().chain([missing]).collect();
        let read = db.store.summaries(&members).try_collect::<Vec<_>>().await;
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "none is left out in silence");
    }
}

pub(crate) async fn a_docset_is_measured_as_its_members_are(db: Database) {
    let all = many(&db).await;
    let (mut fingerprint, mut totals) = (DocsetFingerprint::default(), FormatTotals::default());
    for summary in by_documents(&db.store, &all).await {
        fingerprint.add(summary.id, &summary.content_hash);
        summary.files.iter().for_each(|(format, bytes)| totals.add(format, *bytes));
    }
    assert_eq!(measure(&db.store, &all).await.unwrap(), (fingerprint.finish(), totals.finish()));
    let works = works(&db.store, &all).await.unwrap();
    assert!(works.iter().all(|(id, work)| *work == WorkHash::of(&format!("c{id}"))));
    assert!(works.iter().map(|(id, _)| id.0).eq(all));
}

pub(crate) async fn summaries_go_with_what_was_staged(db: Database) {
    import(&db.store, "c", &["kept"], &["txt"]).await;
    assert_eq!(rows(&db).await, 1);
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    stage(&db.store, &lease, &["aborted".to_owned()], &["txt"]).await;
    assert_eq!(rows(&db).await, 2);
    db.store.abort_import(&lease).await.unwrap();
    assert_eq!(rows(&db).await, 1);
    let dead = db.store.begin_import(&new_collection("c"), 0, 1).await.unwrap();
    stage(&db.store, &dead, &["lost".to_owned()], &["txt"]).await;
    db.store.begin_import(&new_collection("c"), 2, HOUR).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

pub(crate) async fn thousands_of_refs_are_found_at_once(db: Database) {
    let all = many(&db).await;
    let collection = db.store.collection("c").await.unwrap().unwrap();
    let odd = ["", "nul\0", "\"", "\\", "c1 ", "C1", "ü", "x", "\u{1f600}", "c1\n"].map(str::to_owned);
    let refs: Vec<String> = all.iter().map(|id| format!("c{id}")).chain(odd.clone()).collect();
    let found = db.store.resolve_refs(collection.id, 1, &refs).await.unwrap();
    assert_eq!(found.len() as u64, all.len());
    assert!(found.iter().all(|(text, id)| *text == format!("c{id}")));
    let lease = db.store.begin_import(&new_collection("c"), 3, HOUR).await.unwrap();
    let stored: BTreeSet<String> = odd.into_iter().filter(|text| !text.contains('\0')).collect();
    let refs: Vec<String> = stored.iter().cloned().collect();
    let ids = stage(&db.store, &lease, &refs, &["txt"]).await;
    db.store.commit_import(&lease, 4).await.unwrap();
    assert!(
        db.store.resolve_refs(collection.id, 1, &refs).await.unwrap().is_empty(),
        "not in the corpus version before"
    );
    let found = db.store.resolve_refs(collection.id, 2, &refs).await.unwrap();
    assert!(refs.iter().zip(ids).all(|(text, id)| found[text] == id));
}

pub(crate) async fn the_newest_versions_stand_for_their_works(db: Database) {
    let all = many(&db).await;
    let newest = async |version| db.store.newest_versions(version, &all).await.unwrap();
    assert!(newest(1).await == all);
    let lease = db.store.begin_import(&new_collection("c"), 2, HOUR).await.unwrap();
    let changed = stage(&db.store, &lease, &["c1".to_owned(), "c4000".to_owned(), "new".to_owned()], &["txt"]).await;
    db.store.commit_import(&lease, 3).await.unwrap();
    let mut expected = all.clone();
    expected -= RoaringBitmap::from([1, 4000]);
    expected |= RoaringBitmap::from([changed[0].0, changed[1].0]);
    assert!(newest(2).await == expected);
    assert!(newest(1).await == all);
    assert!(db.store.newest_versions(2, &RoaringBitmap::new()).await.unwrap().is_empty());
}

pub(crate) async fn a_docset_says_how_it_was_made(db: Database) {
    let (collection, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    let owner = key(&db.store, "miner").await;
    let object = serde_json::json!({"match": {"title": "it's {}"}});
    let sample = Some(Sample { size: 5, seed: (1 << 53) - 1 });
    for origin in [
        Origin::from(Selection::Query("{ not JSON".into())),
        Selection::Query(serde_json::from_value(object).unwrap()).into(),
        Origin { selection: Selection::Refs(9), sample },
        Selection::From(SetOperation::Difference(vec![DocsetId(2), DocsetId(1)])).into(),
    ] {
        let new = NewDocset { origin, ..new_docset(owner, collection.id, [1].into()) };
        let made = db.store.create_docset(&new).await.unwrap();
        assert_eq!(made.origin, new.origin);
        assert_eq!(db.store.docset(made.id, None).await.unwrap().unwrap().origin, new.origin);
        assert_eq!(db.store.docsets(Some(owner), None, 1).await.unwrap()[0].origin, new.origin);
    }
}

pub(crate) async fn equal_docsets_are_found_for_their_owner(db: Database) {
    let (owner, first) = owned_docset(&db.store, "owner").await;
    let docset = db.store.docset(first, None).await.unwrap().unwrap();
    let again = new_docset(owner, docset.collection, docset.members.clone());
    let second = db.store.create_docset(&again).await.unwrap();
    db.store.create_docset(&new_docset(owner, docset.collection, [7].into())).await.unwrap();
    let stranger = key(&db.store, "stranger").await;
    db.store.create_docset(&NewDocset { owner: stranger, ..again }).await.unwrap();
    let like = db.store.docsets_like(owner, &docset.fingerprint).await.unwrap();
    assert_eq!(like, [second, docset]);
}

pub(crate) async fn a_link_opens_a_docset_until_it_ends(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let (guest, theirs) = owned_docset(&db.store, "guest").await;
    let reads = async |key: KeyId, now| db.store.readable_docset(docset, key, now).await.unwrap();
    let whole = db.store.docset(docset, None).await.unwrap();
    assert_eq!((reads(owner, 0).await, reads(guest, 0).await), (whole.clone(), None));
    let short = db.store.create_share(docset, 10, 100).await.unwrap();
    let long = db.store.create_share(docset, 20, 200).await.unwrap();
    assert_eq!(db.store.shares(docset, None, 9).await.unwrap(), [short.clone(), long.clone()]);
    assert_eq!(db.store.shares(docset, None, 1).await.unwrap(), std::slice::from_ref(&short));
    assert_eq!(db.store.shares(docset, Some(short.id), 9).await.unwrap(), std::slice::from_ref(&long));
    assert_eq!(reads(guest, 30).await, None, "to those who have followed it");
    for salt in [None, Some(Salt(!short.salt.unwrap().0))] {
        let lost = Share { salt, ..short.clone() }.salted();
        assert_eq!(db.store.follow_share(lost, guest, 30).await.unwrap(), None, "a lost link of that number");
        assert_eq!(db.store.shared_docset(lost, 30).await.unwrap(), None);
    }
    assert_eq!(db.store.shared_docset(short.salted(), 30).await.unwrap(), whole);
    for _ in 0..2 {
        assert_eq!(db.store.follow_share(short.salted(), guest, 30).await.unwrap(), Some(docset));
    }
    assert_eq!(db.store.shares(docset, None, 9).await.unwrap()[0].guests, 1);
    assert_eq!(reads(guest, 30).await, whole);
    assert_eq!(db.store.readable_docset(theirs, owner, 30).await.unwrap(), None, "and not the other way round");
    assert_eq!(db.store.docset(docset, Some(guest)).await.unwrap(), None, "it is not the guest's own");
    assert_eq!(reads(guest, 100).await, None, "it has expired");
    assert_eq!(db.store.follow_share(short.salted(), guest, 100).await.unwrap(), None);
    assert_eq!(db.store.follow_share(long.salted(), guest, 100).await.unwrap(), Some(docset));
    assert_eq!(reads(guest, 100).await, whole);
    // What a key has opened rests while the key is not valid.
    db.store.set_key_expiry(owner, Some(100)).await.unwrap();
    assert_eq!(reads(guest, 99).await, whole);
    assert_eq!((reads(guest, 100).await, reads(owner, 100).await), (None, whole.clone()));
    assert_eq!(db.store.follow_share(long.salted(), guest, 100).await.unwrap(), None);
    db.store.set_key_expiry(owner, None).await.unwrap();
    assert_eq!(reads(guest, 100).await, whole);
    assert!(!db.store.revoke_share(theirs, long.id).await.unwrap(), "of another docset");
    assert!(db.store.revoke_share(docset, long.id).await.unwrap());
    assert!(!db.store.revoke_share(docset, long.id).await.unwrap());
    assert_eq!(reads(guest, 100).await, None);
    assert_eq!(db.store.follow_share(long.salted(), guest, 100).await.unwrap(), None);
    db.store.delete_docset(docset, Some(owner), 50).await.unwrap().unwrap();
    assert_eq!(db.store.shares(docset, None, 9).await.unwrap(), []);
    assert_eq!(db.store.follow_share(short.salted(), guest, 30).await.unwrap(), None);
    assert!(db.store.create_share(docset, 0, 100).await.is_err());
    let next = db.store.create_share(theirs, 0, 100).await.unwrap();
    assert!(next.id > long.id && ShareId(0) < next.id, "a link that was revoked is never another's");
    db.store.revoke_key(guest, 5).await.unwrap();
    assert_eq!(db.store.follow_share(next.salted(), owner, 30).await.unwrap(), None, "its owner is revoked");
}
