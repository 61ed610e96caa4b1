//! Watches and their notices.

use adit_shared::domain::Scope;
use adit_shared::ids::{CollectionId, KeyId, VersionId, WatchId};
use adit_shared::store::{Attempt, NewWatch, Notice, NoticeState, SqlStore, Store as _, StoreError, Watch};
use adit_shared::webhook::WebhookSecret;
use roaring::RoaringBitmap;

use super::harness::Database;
use super::samples::{import, key, new_docset};

/// After the import of version 1.
fn new_watch(owner: KeyId, collection: CollectionId) -> NewWatch {
    NewWatch {
        owner,
        collection,
        name: Some("Mine".to_owned()),
        query: "title:\"it's\"".to_owned(),
        webhook: Some(("https://example.org/hook".to_owned(), WebhookSecret::new(vec![7; 32]))),
        corpus_version: 1,
        created: 5,
    }
}

/// A watch that is behind, because of another import.
async fn behind(store: &SqlStore) -> Watch {
    let (collection, _) = import(store, "c", &["a"], &["txt"]).await;
    let owner = key(store, "miner").await;
    let watch = store.create_watch(&new_watch(owner, collection.id), 9).await.unwrap().unwrap();
    import(store, "c", &["b"], &["txt"]).await;
    watch
}

/// What the watch finds in version 2, once.
async fn found(store: &SqlStore, watch: &Watch) -> Notice {
    let docset = new_docset(watch.new.owner, watch.new.collection, [2].into());
    store.advance_watch(watch, 2, Some(&docset)).await.unwrap().unwrap();
    store.notices(watch.id, 10).await.unwrap().remove(0)
}

async fn notice(store: &SqlStore, watch: WatchId) -> Notice {
    store.notices(watch, 10).await.unwrap().remove(0)
}

pub(crate) async fn a_watch_belongs_to_its_owner(db: Database) {
    let store = &db.store;
    let (collection, _) = import(store, "c", &["a"], &["txt"]).await;
    let (owner, stranger) = (key(store, "owner").await, key(store, "stranger").await);
    let loud = new_watch(owner, collection.id);
    let quiet = NewWatch { webhook: None, name: None, ..loud.clone() };
    let first = store.create_watch(&loud, 2).await.unwrap().unwrap();
    let second = store.create_watch(&quiet, 2).await.unwrap().unwrap();
    assert_eq!((&first.new, &second.new, first.collection_slug.as_str()), (&loud, &quiet, "c"));
    assert_eq!(store.create_watch(&quiet, 2).await.unwrap(), None, "it has as many as it may");
    assert!(store.create_watch(&NewWatch { owner: stranger, ..quiet.clone() }, 2).await.unwrap().is_some());
    let nowhere = NewWatch { collection: CollectionId(99), ..quiet.clone() };
    assert!(matches!(store.create_watch(&nowhere, 9).await, Err(StoreError::NotFound(_))));

    assert_eq!(store.watch(first.id, Some(owner)).await.unwrap(), Some(first.clone()));
    assert_eq!(store.watch(first.id, Some(stranger)).await.unwrap(), None);
    assert_eq!(store.watches(Some(owner), None, 9).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.watches(Some(owner), Some(second.id), 9).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.watches(None, None, 9).await.unwrap().len(), 3);
    assert!(!store.delete_watch(first.id, Some(stranger)).await.unwrap());
    assert!(store.delete_watch(first.id, Some(owner)).await.unwrap());
    assert!(!store.delete_watch(first.id, None).await.unwrap());
}

pub(crate) async fn what_is_new_begins_at_one_id(db: Database) {
    let store = &db.store;
    let (collection, _) = import(store, "c", &["a", "b"], &["txt"]).await;
    import(store, "other", &["x"], &["txt"]).await;
    let (_, second) = import(store, "c", &["a", "c"], &["txt"]).await;
    let (_, third) = import(store, "c", &["d"], &["txt"]).await;
    let after = async |version| store.first_added_after(collection.id, version).await.unwrap();
    assert_eq!(after(0).await, Some(VersionId(1)));
    assert_eq!(after(1).await, Some(second[0]));
    assert_eq!(after(2).await, Some(third[0]));
    assert_eq!(after(3).await, None);
}

pub(crate) async fn a_watch_looks_at_a_version_once(db: Database) {
    let store = &db.store;
    let watch = behind(store).await;
    assert_eq!(store.watches_behind(0).await.unwrap(), std::slice::from_ref(&watch));
    let docset = new_docset(watch.new.owner, watch.new.collection, [2].into());
    // Several processes may have seen the row as it was.
    let others = (0..6).map(|_| store.advance_watch(&watch, 2, Some(&docset)));
    let made = futures::future::try_join_all(others).await.unwrap();
    let made: Vec<_> = made.into_iter().flatten().collect();
    let docsets = store.docsets(None, None, 99).await.unwrap();
    assert_eq!(docsets.iter().map(|docset| docset.id).collect::<Vec<_>>(), made);
    assert_eq!(made.len(), 1);
    let notice = notice(store, watch.id).await;
    assert_eq!((notice.docset, notice.documents, notice.corpus_version), (made[0], 1, 2));
    assert_eq!((notice.state, notice.attempts, notice.next_attempt), (NoticeState::Pending, 0, Some(5)));
    assert!(notice.message.starts_with("msg_") && !notice.message.contains('.'));
    assert_eq!(store.watches_behind(0).await.unwrap(), []);

    // Nothing new makes nothing.
    import(store, "c", &["c"], &["txt"]).await;
    let watch = store.watches_behind(0).await.unwrap().remove(0);
    assert_eq!((watch.new.corpus_version, store.advance_watch(&watch, 3, None).await.unwrap()), (2, None));
    assert_eq!(store.docsets(None, None, 99).await.unwrap().len(), 1);
    assert_eq!(store.watches_behind(0).await.unwrap(), []);

    // Nobody sees what a key would be told that may not watch; once it may again, it is.
    import(store, "c", &["d"], &["txt"]).await;
    let owner = watch.new.owner;
    let rests = async |now| {
        let (behind, due) = (store.watches_behind(now).await.unwrap(), store.due_notices(i64::MAX, now).await.unwrap());
        assert_eq!(behind.is_empty(), due.is_empty());
        due.is_empty()
    };
    assert!(!rests(0).await);
    store.set_key_expiry(owner, Some(100)).await.unwrap();
    assert_eq!((rests(99).await, rests(100).await), (false, true));
    store.set_key_expiry(owner, None).await.unwrap();
    for (scopes, resting) in [
        (Some([Scope::Search, Scope::DocsetsWrite].into()), true),
        (Some([Scope::Watches].into()), false),
        (Some([Scope::DocsetsRead, Scope::Watches].into()), false),
        (None, false),
    ] {
        store.set_key_scopes(owner, scopes.as_ref()).await.unwrap();
        assert_eq!(rests(0).await, resting, "{scopes:?}");
    }
    store.revoke_key(owner, 1).await.unwrap();
    assert!(rests(0).await);
}

pub(crate) async fn an_attempt_is_made_by_one_and_counted(db: Database) {
    let store = &db.store;
    let watch = behind(store).await;
    let first = found(store, &watch).await;
    assert_eq!(
        (store.due_notices(4, 0).await.unwrap(), store.due_notices(5, 0).await.unwrap()),
        (vec![], vec![first.clone()])
    );
    let claims = (0..6).map(|_| store.claim_notice(&first, 100));
    let claims = futures::future::try_join_all(claims).await.unwrap();
    assert_eq!(claims.into_iter().filter(|claimed| *claimed).count(), 1);
    // Should its maker never come back, it is due again.
    let claimed = notice(store, watch.id).await;
    assert_eq!((claimed.attempts, store.due_notices(99, 0).await.unwrap().len()), (1, 0));
    assert_eq!(store.due_notices(100, 0).await.unwrap(), std::slice::from_ref(&claimed));

    let problem = "the receiver answered 500".to_owned();
    let failed = Attempt::Failed { status: Some(500), problem: problem.clone(), next: Some(70) };
    store.settle_notice(&claimed, &failed, 60).await.unwrap();
    let again = notice(store, watch.id).await;
    assert_eq!((again.state, again.status, again.next_attempt), (NoticeState::Pending, Some(500), Some(70)));
    assert_eq!(again.problem, Some(problem));

    store.settle_notice(&again, &Attempt::Delivered { status: 204 }, 80).await.unwrap();
    let late = Attempt::Failed { status: None, problem: "late".to_owned(), next: None };
    store.settle_notice(&again, &late, 90).await.unwrap();
    let delivered = notice(store, watch.id).await;
    assert_eq!((delivered.state, delivered.status, delivered.delivered), (NoticeState::Delivered, Some(204), Some(80)));
    assert_eq!((delivered.problem, delivered.next_attempt), (None, None));
    assert!(!store.claim_notice(&again, 100).await.unwrap());
    assert_eq!(store.due_notices(i64::MAX, 0).await.unwrap(), []);
}

pub(crate) async fn a_notice_of_a_clock_that_was_ahead_is_due(db: Database) {
    const WEEK: i64 = 7 * 86_400_000;
    let store = &db.store;
    let watch = behind(store).await;
    let mut docset = new_docset(watch.new.owner, watch.new.collection, RoaringBitmap::from([2]));
    docset.created = WEEK;
    store.advance_watch(&watch, 2, Some(&docset)).await.unwrap().unwrap();
    let fresh = store.due_notices(0, 0).await.unwrap().remove(0);
    assert_eq!(fresh.wait_ms(0), 0, "nobody can have made it later than now");
    assert_eq!((fresh.wait_ms(WEEK - 5), store.due_notices(WEEK - 5, WEEK - 5).await.unwrap().len()), (5, 0));

    // Claimed, or failed, by a clock that was a week ahead.
    assert!(store.claim_notice(&fresh, WEEK + 60_000).await.unwrap());
    let claimed = store.due_notices(0, 0).await.unwrap().remove(0);
    assert_eq!((claimed.attempts, claimed.wait_ms(0)), (1, 0));
    assert_eq!((claimed.wait_ms(WEEK), store.due_notices(WEEK, WEEK).await.unwrap().len()), (60_000, 0));
}

pub(crate) async fn who_wants_no_more_is_told_no_more(db: Database) {
    let store = &db.store;
    let watch = behind(store).await;
    let first = found(store, &watch).await;
    import(store, "c", &["c"], &["txt"]).await;
    let watch = store.watches_behind(0).await.unwrap().remove(0);
    let docset = new_docset(watch.new.owner, watch.new.collection, RoaringBitmap::from([3]));
    store.advance_watch(&watch, 3, Some(&docset)).await.unwrap().unwrap();
    assert_eq!(store.due_notices(i64::MAX, 0).await.unwrap().len(), 2);

    store.settle_notice(&first, &Attempt::Gone { status: 410 }, 60).await.unwrap();
    let notices = store.notices(watch.id, 9).await.unwrap();
    let seen: Vec<_> = notices.iter().map(|notice| (notice.state, notice.status)).collect();
    assert_eq!(seen, [(NoticeState::Failed, None), (NoticeState::Failed, Some(410))]);
    assert_eq!(store.watch(watch.id, None).await.unwrap().unwrap().gone, Some(60));

    // It goes on to find, in silence.
    import(store, "c", &["d"], &["txt"]).await;
    let watch = store.watches_behind(0).await.unwrap().remove(0);
    let docset = new_docset(watch.new.owner, watch.new.collection, RoaringBitmap::from([4]));
    store.advance_watch(&watch, 4, Some(&docset)).await.unwrap().unwrap();
    assert_eq!(notice(store, watch.id).await.state, NoticeState::Silent);
    assert!(store.delete_watch(watch.id, None).await.unwrap());
    assert_eq!(store.notices(watch.id, 9).await.unwrap(), []);
    assert_eq!(store.docsets(None, None, 9).await.unwrap().len(), 3, "the docsets stay");
}
