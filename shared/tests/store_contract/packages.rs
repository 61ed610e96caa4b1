//! Packages: made once, moved on by statuses.

use std::collections::HashSet;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Content, Documents, Package, Status};
use adit_shared::ids::{DocsetId, KeyId, PackageId};
use adit_shared::store::{SqlStore, StatusUpdate, Store as _, StoreError};
use futures::future::join_all;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::harness::Database;
use super::samples::{new_package, owned_docset};

fn status(sequence: i64, status: Status) -> StatusUpdate {
    StatusUpdate { sequence, status: Some(status), ..StatusUpdate::default() }
}

async fn made(store: &SqlStore) -> (KeyId, DocsetId, Package) {
    let (owner, docset) = owned_docset(store, "owner").await;
    let (package, new) = store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
    assert!(new);
    (owner, docset, package)
}

/// The package after its request was sent.
async fn sent(store: &SqlStore, package: &Package, now: i64) -> Package {
    assert!(store.claim_sending(package, now).await.unwrap());
    store.package(package.id, None).await.unwrap().unwrap()
}

pub(crate) async fn one_of_many_may_send_a_request(db: Database) {
    let (_, _, package) = made(&db.store).await;
    let other = db.open_again().await;
    let mut package = package;
    for round in 1..=3 {
        let claiming = (0..50).map(|i| {
            let (store, package) = (if i % 2 == 0 { db.store.clone() } else { other.clone() }, package.clone());
            tokio::spawn(async move { store.claim_sending(&package, round * 10).await.unwrap() })
        });
        let won = join_all(claiming).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
        assert_eq!(won, 1);
        let after = db.store.package(package.id, None).await.unwrap().unwrap();
        assert_eq!(after, Package { sent: Some(round * 10), sends: package.sends + 1, ..package });
        package = after;
    }
}

pub(crate) async fn a_claim_that_is_given_back_leaves_no_trace(db: Database) {
    let (_, _, new) = made(&db.store).await;
    let once = sent(&db.store, &new, 11).await;
    db.store.unclaim_sending(&new).await.unwrap();
    assert_eq!(db.store.package(new.id, None).await.unwrap(), Some(new.clone()));
    assert_eq!(sent(&db.store, &new, 11).await, once);

    let twice = sent(&db.store, &once, 12).await;
    db.store.unclaim_sending(&new).await.unwrap();
    assert_eq!(db.store.package(new.id, None).await.unwrap(), Some(twice.clone()), "somebody else has it by now");
    db.store.unclaim_sending(&once).await.unwrap();
    assert_eq!(db.store.package(new.id, None).await.unwrap(), Some(once.clone()));

    let dismissed = db.store.dismiss_package(once.id, None, 20).await.unwrap().unwrap();
    assert!(!db.store.claim_sending(&dismissed, 30).await.unwrap(), "what nobody wants is not sent");
    assert!(!db.store.claim_sending(&Package { id: PackageId(99), ..new }, 30).await.unwrap());
}

pub(crate) async fn equal_requests_share_one_package(db: Database) {
    let (owner, docset, package) = made(&db.store).await;
    let expected = new_package(owner, docset, "1");
    assert_eq!((package.owner, package.docset, &package.recipe), (owner, docset, &expected.recipe));
    assert_eq!((&package.about, package.fingerprint), (&expected.about, expected.fingerprint));
    assert_eq!((package.status, package.content, package.created), (Status::Accepted, Content::None, 10));
    assert_eq!(package.documents, Documents { requested: 2, ..Documents::default() });
    assert_eq!((package.sent, package.sends, package.heard), (None, 0, None));

    let create = async |seed, reuse| db.store.create_package(&new_package(owner, docset, seed), reuse).await.unwrap();
    assert_eq!(create("1", true).await, (package.clone(), false));
    assert!(create("2", true).await.1, "another fingerprint");
    let (forced, new) = create("1", false).await;
    assert!(new && forced.id > package.id);
    assert_eq!(create("1", true).await, (forced, false), "the newest one");

    let (stranger, theirs) = owned_docset(&db.store, "stranger").await;
    let (other, new) = db.store.create_package(&new_package(stranger, theirs, "1"), true).await.unwrap();
    assert!(new, "another owner's package is not shared");
    assert_eq!(db.store.package(other.id, Some(owner)).await.unwrap(), None);
    assert_eq!(db.store.package(other.id, Some(stranger)).await.unwrap(), Some(other));
    assert_eq!(db.store.package(PackageId(99), None).await.unwrap(), None);
}

pub(crate) async fn what_cannot_be_fetched_is_not_reused(db: Database) {
    let (owner, docset, mut package) = made(&db.store).await;
    for end in [Status::Failed, Status::Dismissed, Status::Successful] {
        db.store.update_package(package.id, &status(1, end), 20).await.unwrap();
        db.store.erase_package(package.id, None).await.unwrap();
        let (next, new) = db.store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
        assert!(new, "{end:?}");
        package = next;
    }
    db.store.update_package(package.id, &status(1, Status::Successful), 20).await.unwrap();
    let (found, new) = db.store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
    assert_eq!((found.id, new), (package.id, false));
}

pub(crate) async fn equal_requests_at_once_make_one_package(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let other = db.open_again().await;
    let creating = (0..50).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.create_package(&new_package(owner, docset, "1"), true).await.unwrap() })
    });
    let outcomes: Vec<(Package, bool)> = join_all(creating).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|(_, new)| *new).count(), 1);
    assert_eq!(outcomes.iter().map(|(package, _)| package.id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(db.store.packages_of(docset).await.unwrap().len(), 1);
}

pub(crate) async fn a_package_keeps_the_salt_that_no_other_has(db: Database) {
    let (owner, docset, package) = made(&db.store).await;
    let (other, _) = db.store.create_package(&new_package(owner, docset, "2"), false).await.unwrap();
    assert!(package.salt.is_some() && other.salt.is_some() && package.salt != other.salt);
    assert_eq!(db.store.package(package.id, None).await.unwrap(), Some(package.clone()));
    // Packages of before keep the names that their objects have.
    let mut old = AnyConnection::connect(&db.url).await.unwrap();
    old.execute("UPDATE packages SET salt = NULL").await.unwrap();
    let before = db.store.package(package.id, None).await.unwrap().unwrap();
    assert_eq!(before.salted().to_string(), package.id.to_string());
}

pub(crate) async fn statuses_are_taken_in_by_their_sequence(db: Database) {
    let (_, _, package) = made(&db.store).await;
    let package = sent(&db.store, &package, 11).await;
    let package = sent(&db.store, &package, 12).await;
    let accepted = StatusUpdate { sequence: 0, estimate_seconds: Some(45), ..StatusUpdate::default() };
    let now = db.store.update_package(package.id, &accepted, 20).await.unwrap().unwrap();
    assert_eq!(
        now,
        Package {
            sent: Some(12),
            sends: 2,
            sequence: 0,
            started: Some(20),
            heard: Some(20),
            estimate_seconds: Some(45),
            ..package
        }
    );

    let progress = StatusUpdate {
        sequence: 2,
        status: Some(Status::Running),
        documents: Some(Documents { requested: 2, done: 1, ..Documents::default() }),
        bytes_done: Some(5_000_000_000),
        bytes_total: Some(9_000_000_000),
        percent: Some(55),
        ..StatusUpdate::default()
    };
    let now = db.store.update_package(now.id, &progress, 30).await.unwrap().unwrap();
    assert_eq!((now.status, now.percent, now.heard, now.started), (Status::Running, 55, Some(30), Some(20)));
    assert_eq!((now.bytes_done, now.bytes_total, now.documents.done), (5_000_000_000, Some(9_000_000_000), 1));
    assert_eq!((now.estimate_seconds, now.finished, now.content), (Some(45), None, Content::None));
    for sequence in [2, 1, 0] {
        let late = StatusUpdate { sequence, percent: Some(1), ..StatusUpdate::default() };
        assert_eq!(db.store.update_package(now.id, &late, 31).await.unwrap(), Some(now.clone()));
    }

    let documents = Documents { requested: 2, done: 2, included: Some(1), omitted: Some(1), ..Documents::default() };
    let complete = StatusUpdate {
        documents: Some(documents),
        location: Some("packages/1/x.zip".to_owned()),
        size: Some(9_000_000_000),
        sha256: Some(Sha256::of(b"archive")),
        expires: Some(99),
        ..status(7, Status::Successful)
    };
    let done = db.store.update_package(now.id, &complete, 40).await.unwrap().unwrap();
    assert_eq!((done.status, done.content, done.finished), (Status::Successful, Content::Available, Some(40)));
    assert_eq!((done.documents, done.size, done.sha256), (documents, complete.size, complete.sha256));
    assert_eq!((done.location.clone(), done.expires, done.percent), (complete.location, Some(99), 55));
    assert_eq!(db.store.package(done.id, None).await.unwrap(), Some(done));
    assert_eq!(db.store.update_package(PackageId(99), &status(1, Status::Running), 1).await.unwrap(), None);
}

pub(crate) async fn statuses_out_of_order_end_with_the_newest(db: Database) {
    let (_, _, package) = made(&db.store).await;
    let other = db.open_again().await;
    let mut sequences: Vec<i64> = (1..=50).collect();
    sequences.shuffle(&mut StdRng::seed_from_u64(1));
    let updating = sequences.into_iter().map(|sequence| {
        let store = if sequence % 2 == 0 { db.store.clone() } else { other.clone() };
        let update = StatusUpdate { bytes_done: Some(sequence.unsigned_abs()), ..status(sequence, Status::Running) };
        tokio::spawn(async move { store.update_package(package.id, &update, sequence).await.unwrap().unwrap() })
    });
    for updated in join_all(updating).await {
        let updated = updated.unwrap();
        assert_eq!(updated.sequence.unsigned_abs(), updated.bytes_done, "never half of one and half of another");
    }
    let last = db.store.package(package.id, None).await.unwrap().unwrap();
    assert_eq!((last.sequence, last.bytes_done, last.heard), (50, 50, Some(50)));
}

pub(crate) async fn a_finished_package_stays_as_it_is(db: Database) {
    let (owner, docset, package) = made(&db.store).await;
    let failed = StatusUpdate { problem: Some("no room".to_owned()), ..status(3, Status::Failed) };
    let failed = db.store.update_package(package.id, &failed, 20).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.content, failed.finished), (Status::Failed, Content::None, Some(20)));
    assert_eq!((failed.started, failed.problem.as_deref()), (Some(20), Some("no room")));
    let late = db.store.update_package(package.id, &status(9, Status::Successful), 30).await.unwrap();
    assert_eq!(late, Some(failed.clone()));
    assert_eq!(db.store.dismiss_package(package.id, None, 30).await.unwrap(), Some(failed.clone()));
    assert_eq!(db.store.erase_package(package.id, None).await.unwrap(), Some(failed), "there is nothing to erase");

    let (package, _) = db.store.create_package(&new_package(owner, docset, "1"), true).await.unwrap();
    let dismissed = db.store.dismiss_package(package.id, Some(owner), 40).await.unwrap().unwrap();
    assert_eq!((dismissed.status, dismissed.finished), (Status::Dismissed, Some(40)));
    let late = db.store.update_package(package.id, &status(9, Status::Successful), 50).await.unwrap();
    assert_eq!(late, Some(dismissed));
}

pub(crate) async fn dismissing_and_erasing_are_for_the_owner(db: Database) {
    let (owner, _, package) = made(&db.store).await;
    let stranger = KeyId(owner.0 + 1);
    assert_eq!(db.store.dismiss_package(package.id, Some(stranger), 20).await.unwrap(), None);
    assert_eq!(db.store.package(package.id, None).await.unwrap(), Some(package.clone()));

    let built = db.store.update_package(package.id, &status(1, Status::Successful), 20).await.unwrap().unwrap();
    assert_eq!(db.store.erase_package(package.id, Some(stranger)).await.unwrap(), None);
    assert_eq!(db.store.package(package.id, None).await.unwrap(), Some(built.clone()));
    let erased = db.store.erase_package(package.id, Some(owner)).await.unwrap();
    assert_eq!(erased, Some(Package { content: Content::Erased, ..built }));
    assert_eq!(db.store.erase_package(package.id, Some(owner)).await.unwrap(), erased);
}

pub(crate) async fn expired_packages_are_found(db: Database) {
    let (owner, docset, first) = made(&db.store).await;
    let mut ids = vec![first.id];
    for seed in ["2", "3", "4"] {
        ids.push(db.store.create_package(&new_package(owner, docset, seed), true).await.unwrap().0.id);
    }
    for (id, expires) in ids.iter().zip([Some(300), Some(100), Some(200), None]) {
        let built = StatusUpdate { expires, ..status(1, Status::Successful) };
        db.store.update_package(*id, &built, 20).await.unwrap();
    }
    let expired = async |now, limit| {
        let packages = db.store.expired_packages(now, limit).await.unwrap();
        packages.iter().map(|package| package.id).collect::<Vec<_>>()
    };
    assert_eq!(expired(99, 10).await, []);
    assert_eq!(expired(200, 10).await, [ids[1], ids[2]]);
    assert_eq!(expired(1000, 2).await, [ids[1], ids[2]]);
    db.store.erase_package(ids[1], None).await.unwrap();
    assert_eq!(expired(1000, 10).await, [ids[2], ids[0]]);
    let available = async |after, limit| {
        let packages = db.store.available_packages(after, limit).await.unwrap();
        packages.iter().map(|package| package.id).collect::<Vec<_>>()
    };
    assert_eq!(available(None, 10).await, [ids[0], ids[2], ids[3]]);
    assert_eq!(available(None, 2).await, [ids[0], ids[2]]);
    assert_eq!(available(Some(ids[2]), 10).await, [ids[3]]);
}

pub(crate) async fn packages_of_one_fingerprint_are_found_for_their_owner(db: Database) {
    let (owner, docset, first) = made(&db.store).await;
    let again = db.store.create_package(&new_package(owner, docset, "1"), false).await.unwrap().0;
    let other = db.store.create_package(&new_package(owner, docset, "2"), true).await.unwrap().0;
    let like = async |owner, package: &Package, limit| {
        let packages = db.store.packages_like(owner, &package.fingerprint, limit).await.unwrap();
        packages.iter().map(|package| package.id).collect::<Vec<_>>()
    };
    let mut same = like(owner, &again, 10).await;
    assert_eq!(same.remove(0), again.id, "the newest first");
    assert_eq!(same, if first.fingerprint == again.fingerprint { vec![first.id] } else { vec![] });
    assert_eq!(like(owner, &other, 1).await, [other.id]);
    assert_eq!(like(KeyId(99), &again, 10).await, []);
}

pub(crate) async fn packages_that_nobody_speaks_of_are_found(db: Database) {
    let (owner, docset, first) = made(&db.store).await;
    let second = db.store.create_package(&new_package(owner, docset, "2"), true).await.unwrap().0;
    let forgotten = async |before| {
        let packages = db.store.forgotten_packages(before, 10).await.unwrap();
        packages.iter().map(|package| package.id).collect::<Vec<_>>()
    };
    let both = first.created.max(second.created) + 1;
    assert_eq!(forgotten(both).await, [first.id, second.id]);
    sent(&db.store, &first, both + 100).await;
    assert_eq!(forgotten(both + 100).await, [second.id]);
    db.store.update_package(second.id, &status(1, Status::Running), both + 200).await.unwrap();
    assert_eq!(forgotten(both + 200).await, [first.id]);
    db.store.dismiss_package(first.id, None, both + 300).await.unwrap();
    assert_eq!(forgotten(both + 400).await, [second.id]);
}

pub(crate) async fn a_package_needs_its_docset_and_owner(db: Database) {
    let (owner, docset, _) = made(&db.store).await;
    let lost = db.store.create_package(&new_package(owner, DocsetId(99), "9"), true).await;
    assert!(matches!(lost, Err(StoreError::NotFound("docset"))), "{lost:?}");
    let lost = db.store.create_package(&new_package(KeyId(99), docset, "9"), true).await;
    assert!(matches!(lost, Err(StoreError::NotFound("key"))), "{lost:?}");
}
