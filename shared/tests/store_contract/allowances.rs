//! Allowances: leases, charges, and what becomes of use from before there were any.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Allowance, Status};
use adit_shared::ids::KeyId;
use adit_shared::store::{ALLOWANCE_LEASE_MS, Exchange, SqlStore, Standing, Store as _, StoreError};
use futures::future::join_all;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use super::harness::Database;
use super::holdings::forget_holdings;
use super::samples::{key, new_package, owned_docset};

const DAY: i64 = 86_400_000;

/// Takes between `least` and `most` of 100 documents of the first day, at the time 10.
pub(crate) fn take(key: KeyId, least: u64, most: u64) -> Exchange {
    Exchange {
        key,
        allowance: Allowance::Documents,
        window: 0,
        limit: Some(100),
        lease: 0,
        unused: 0,
        least,
        most,
        now: 10,
        held_until: 1000,
    }
}

fn standing(taken: u64, held: u64, held_until: i64) -> Standing {
    Standing { taken, held, held_until }
}

pub(crate) async fn an_exchange_grants_what_is_left_and_small_leases_at_the_end(db: Database) {
    let key = key(&db.store, "miner").await;
    let exchange = async |wanted: Exchange| db.store.exchange(&wanted).await.unwrap();
    assert_eq!(exchange(take(key, 101, 101)).await.0, 0, "more than there is");
    assert_eq!(exchange(take(key, 1, 50)).await, (6, standing(6, 5, 1000)), "a sixteenth");
    assert_eq!(exchange(take(key, 1, 3)).await, (3, standing(9, 7, 1000)), "no more than is of use");
    assert_eq!(exchange(take(key, 60, 60)).await, (60, standing(69, 7, 1000)), "what is used at once is not held");
    assert_eq!(exchange(take(key, 1, 50)).await, (1, standing(70, 7, 1000)));
    assert_eq!(exchange(take(key, 31, 31)).await, (0, standing(70, 7, 1000)), "all or nothing");

    let back = Exchange { lease: 5, unused: 4, ..take(key, 0, 0) };
    assert_eq!(exchange(back).await, (0, standing(66, 2, 1000)));
    let renewed = Exchange { lease: 2, unused: 1, held_until: 2000, ..take(key, 1, 50) };
    assert_eq!(exchange(renewed).await, (2, standing(67, 1, 2000)));
    let late = Exchange { now: 2000, ..take(key, 33, 50) };
    assert_eq!(exchange(late).await, (33, standing(100, 0, 2000)), "what has expired is no longer held");
    let too_late = Exchange { lease: 1, unused: 1, now: 3000, ..take(key, 1, 1) };
    assert_eq!(exchange(too_late).await, (1, standing(100, 0, 2000)), "but it may still come back");

    let lowered = Exchange { limit: Some(50), ..take(key, 1, 50) };
    assert_eq!(exchange(lowered).await.0, 0, "a limit that came later");
    let unlimited = Exchange { limit: None, ..take(key, 1, 5_000_000_000) };
    assert_eq!(exchange(unlimited).await.0, 5_000_000_000);
    let next_day = Exchange { window: DAY, ..take(key, 1, 1) };
    assert_eq!(exchange(next_day).await, (1, standing(1, 0, 1000)));
    let requests = Exchange { allowance: Allowance::Requests, ..take(key, 100, 100) };
    assert_eq!(exchange(requests).await.0, 100, "each allowance for itself");

    assert_eq!(db.store.charged(key, 9).await.unwrap(), [(DAY, 1), (0, 5_000_000_100)]);
    assert_eq!(db.store.charged(key, 1).await.unwrap(), [(DAY, 1)]);
    let (_, taken) = db.store.caller(&Sha256::of(b"miner"), DAY).await.unwrap().unwrap();
    assert_eq!(taken, 1);
    let stranger = db.store.exchange(&take(KeyId(99), 1, 1)).await;
    assert!(matches!(stranger, Err(StoreError::NotFound("key"))), "{stranger:?}");
}

pub(crate) async fn a_lease_of_a_clock_that_was_ahead_is_waited_for_by_nobody(db: Database) {
    let key = key(&db.store, "miner").await;
    let exchange = async |wanted: Exchange| db.store.exchange(&wanted).await.unwrap();
    let hours = 5 * 3_600_000;
    let ahead = Exchange { now: hours, held_until: hours + ALLOWANCE_LEASE_MS, ..take(key, 1, 50) };
    assert_eq!(exchange(ahead).await, (6, standing(6, 5, hours + ALLOWANCE_LEASE_MS)));
    let shown = db.store.standing(key, Allowance::Documents, 0).await.unwrap();
    assert_eq!((shown.returnable(10), shown.returnable(hours)), (0, 5));
    assert_eq!(exchange(take(key, 94, 94)).await, (94, standing(100, 0, 1000)), "from now on nothing is held");
}

pub(crate) async fn exchanges_at_once_never_take_more_than_there_is(db: Database) {
    let key = key(&db.store, "miner").await;
    let other = db.open_again().await;
    let taking = (0..60).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move {
            let (granted, _) = store.exchange(&take(key, 1, 3)).await.unwrap();
            let unused = granted.saturating_sub(1) / 2;
            let back = Exchange { lease: granted.saturating_sub(1), unused, ..take(key, 2, 2) };
            granted - unused + store.exchange(&back).await.unwrap().0
        })
    });
    let granted: u64 = join_all(taking).await.into_iter().map(Result::unwrap).sum();
    let standing = db.store.standing(key, Allowance::Documents, 0).await.unwrap();
    assert_eq!((standing.taken, standing.held), (granted, 0));
    assert!((99..=100).contains(&granted), "{granted}: at the end there may be one where two were wanted");
}

pub(crate) async fn minutes_are_forgotten_and_days_are_not(db: Database) {
    let key = key(&db.store, "miner").await;
    for allowance in Allowance::ALL {
        for window in [0, 60_000, 3_600_000] {
            db.store.exchange(&Exchange { allowance, window, ..take(key, 1, 1) }).await.unwrap();
        }
    }
    let taken = async |allowance, window| db.store.standing(key, allowance, window).await.unwrap().taken;
    for (window, minutes) in [(0, 0), (60_000, 0), (3_600_000, 1)] {
        assert_eq!(taken(Allowance::Requests, window).await, minutes);
        assert_eq!(taken(Allowance::Documents, window).await, 1);
    }
}

pub(crate) async fn a_package_is_paid_for_once_or_not_at_all(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let make = async |seed: &str| db.store.create_package(&new_package(owner, docset, seed), true).await.unwrap().0;
    let dear = make("dear").await;
    assert!(!dear.paid);
    let refused = db.store.pay_package(dear.id, &take(owner, 101, 101)).await.unwrap();
    assert_eq!(refused, Some((0, Standing { held_until: 1000, ..Standing::default() })));
    let there = async |id| db.store.package(id, None).await.unwrap().unwrap();
    assert!(!there(dear.id).await.paid);
    assert_eq!(db.store.standing(owner, Allowance::Documents, 0).await.unwrap(), Standing::default());

    let other = db.open_again().await;
    let cheap = make("cheap").await;
    let paying = (0..20).map(|i| {
        let store: SqlStore = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.pay_package(cheap.id, &take(owner, 60, 60)).await.unwrap() })
    });
    let outcomes: Vec<_> = join_all(paying).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(outcomes, [(60, standing(60, 0, 1000))]);
    assert!(there(cheap.id).await.paid);

    for (package, status) in [(&dear, Status::Dismissed), (&cheap, Status::Accepted)] {
        db.store.dismiss_unpaid(package.id, 20).await.unwrap();
        assert_eq!(there(package.id).await.status, status);
    }
    assert_eq!(db.store.pay_package(dear.id, &take(owner, 1, 1)).await.unwrap(), None, "it is not built");
    let free = make("free").await;
    db.store.mark_paid(free.id).await.unwrap();
    assert!(there(free.id).await.paid);
    assert_eq!(db.store.standing(owner, Allowance::Documents, 0).await.unwrap().taken, 60);
}

/// Takes the schema back to what it was before the rights in texts.
pub(crate) async fn forget_text_rights(old: &mut AnyConnection) {
    old.execute("ALTER TABLE collections DROP COLUMN hide_closed_text").await.unwrap();
    old.execute("DELETE FROM _sqlx_migrations WHERE version = 10").await.unwrap();
}

/// Takes the schema back to what it was before there were allowances.
pub(crate) async fn forget_allowances(old: &mut AnyConnection) {
    forget_holdings(old).await;
    for table in ["usage_counts", "allowances", "role_limits"] {
        old.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await.unwrap();
    }
    for (table, column) in [("packages", "paid"), ("api_keys", "per_minute")] {
        old.execute(AssertSqlSafe(format!("ALTER TABLE {table} DROP COLUMN {column}"))).await.unwrap();
    }
    let table = "CREATE TABLE key_usage (api_key BIGINT NOT NULL, day BIGINT NOT NULL, documents BIGINT NOT NULL)";
    old.execute(table).await.unwrap();
    old.execute("DELETE FROM _sqlx_migrations WHERE version = 8").await.unwrap();
}

pub(crate) async fn what_was_used_before_there_were_allowances_stays_used(db: Database) {
    let (owner, docset) = owned_docset(&db.store, "owner").await;
    let make = async |seed: &str| db.store.create_package(&new_package(owner, docset, seed), true).await.unwrap().0;
    let (sent, waits, refused) = (make("sent").await, make("waits").await, make("refused").await);
    db.store.claim_sending(&sent, 11).await.unwrap();
    db.store.dismiss_package(refused.id, None, 12).await.unwrap();
    let mut old = AnyConnection::connect(&db.url).await.unwrap();
    forget_allowances(&mut old).await;
    let used = format!("INSERT INTO key_usage VALUES ({owner}, 0, 3), ({owner}, 20000, 95)");
    old.execute(AssertSqlSafe(used)).await.unwrap();
    old.close().await.unwrap();

    let store = db.open_again().await;
    assert_eq!(store.charged(owner, 9).await.unwrap(), [(20_000 * DAY, 95), (0, 3)]);
    let today = Exchange { window: 20_000 * DAY, ..take(owner, 6, 6) };
    assert_eq!(store.exchange(&today).await.unwrap().0, 0);
    assert_eq!(store.exchange(&Exchange { least: 5, most: 5, ..today }).await.unwrap().0, 5);
    for (package, paid) in [(sent, true), (waits, true), (refused, false)] {
        assert_eq!(store.package(package.id, None).await.unwrap().unwrap().paid, paid);
    }
}
