//! Several processes at work on the allowances of one key.

use std::time::Instant;

use adit_shared::clock::ManualClock;
use adit_shared::domain::{Limits, OwnLimit, Role, secret_hash};
use futures::future::join_all;

use super::*;
use crate::testing::World;
use axum::response::IntoResponse as _;

/// 23 hours and 59 minutes after midnight.
const LATE: i64 = 1_700_006_340_000;

/// A clock that goes, from the beginning of a day on: no test begins just before midnight.
#[derive(Debug)]
struct Going(Instant);

impl Clock for Going {
    fn now_ms(&self) -> i64 {
        LATE + 120_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// A process and what stops it.
struct Process {
    quotas: Quotas,
    stop: CancellationToken,
    keeper: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(world: &World, clock: Arc<dyn Clock>) -> Self {
        let quotas = Quotas::new(Arc::new(world.store.clone()), clock);
        let stop = CancellationToken::new();
        let (kept, told) = (quotas.clone(), stop.clone());
        Self { quotas, stop, keeper: tokio::spawn(async move { kept.keep(told).await }) }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.keeper.await.unwrap();
    }
}

async fn key(world: &World, documents: u64, requests: u64) -> ApiKey {
    let key = world.store.create_key("k", Role::Miner, None, &secret_hash("k"), 0).await.unwrap();
    let own = Limits { documents: OwnLimit::AtMost(documents), requests: OwnLimit::AtMost(requests) };
    world.store.limit_key(key.id, &own).await.unwrap();
    world.store.caller(&secret_hash("k"), 0).await.unwrap().unwrap().0
}

async fn takes(quotas: &Quotas, key: &ApiKey, times: usize) -> usize {
    let mut granted = 0;
    for _ in 0..times {
        granted += usize::from(quotas.take(key, Allowance::Documents).await.is_ok());
    }
    granted
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_under_load_give_exactly_what_there_is() {
    let world = World::new().await;
    let key = key(&world, 5000, 1).await;
    let clock = Arc::new(Going(Instant::now()));
    let processes: Vec<_> = (0..3).map(|_| Process::start(&world, clock.clone())).collect();
    let clients = processes.iter().flat_map(|process| {
        (0..40).map(|_| {
            let (quotas, key) = (process.quotas.clone(), key.clone());
            tokio::spawn(async move { takes(&quotas, &key, 60).await })
        })
    });
    let granted: usize = join_all(clients).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(granted, 5000);
    for process in processes {
        process.stop().await;
    }
    let standing = world.store.standing(key.id, Allowance::Documents, LATE + 60_000).await.unwrap();
    assert_eq!((standing.taken, standing.held), (5000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_used_goes_back_in_its_time_and_at_the_end() {
    let world = World::new().await;
    let key = key(&world, 100_000, 1).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let process = Process::start(&world, clock.clone());
    let taken = async || world.store.standing(key.id, Allowance::Documents, LATE - 86_340_000).await.unwrap().taken;
    assert_eq!(takes(&process.quotas, &key, 100).await, 100);
    let held = taken().await - 100;
    assert!(held > 0);
    assert_eq!(process.quotas.left(&key, Allowance::Documents), Some(99_900), "what is held is left");
    clock.advance(USED_MS);
    process.quotas.sweep().await;
    assert_eq!(taken().await, 100);

    assert_eq!(takes(&process.quotas, &key, 100).await, 100);
    assert!(taken().await > 200);
    let quotas = process.quotas.clone();
    process.stop().await;
    assert_eq!(taken().await, 200);
    clock.advance(EXPIRES_MS);
    quotas.sweep().await;
    assert!(quotas.accounts().is_empty(), "who is not served is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_nothing_left_waits_for_what_others_hold() {
    let world = World::new().await;
    let key = key(&world, 10_000, 1).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let holds = Quotas::new(Arc::new(world.store.clone()), clock.clone());
    let wants = Quotas::new(Arc::new(world.store.clone()), clock.clone());
    assert_eq!(takes(&holds, &key, 10).await, 10);
    let left = usize::try_from(holds.account(key.id).documents.end(LATE).unused).unwrap();
    assert!(left > 0);
    // The rest is taken at once, by what is paid from the database directly.
    let rest = Exchange {
        least: 9990 - left as u64,
        most: 9990 - left as u64,
        limit: Some(10_000),
        ..holds.giving_back(key.id, Allowance::Documents, &Ended { window: LATE - 86_340_000, size: 0, unused: 0 })
    };
    assert_eq!(world.store.exchange(&rest).await.unwrap().0, rest.least);

    let waiting = tokio::spawn({
        let (wants, key) = (wants.clone(), key.clone());
        async move { takes(&wants, &key, left + 1).await }
    });
    tokio::task::yield_now().await;
    let ended = Ended { window: LATE - 86_340_000, size: left as u64, unused: left as u64 };
    holds.give_back(key.id, Allowance::Documents, &ended).await.unwrap();
    // What the lease held beside that was used.
    clock.advance(EXPIRES_MS);
    assert_eq!(waiting.await.unwrap(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_its_lease_and_no_more() {
    let world = World::new().await;
    let key = key(&world, 10_000, 1).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let killed = Quotas::new(Arc::new(world.store.clone()), clock.clone());
    assert_eq!(takes(&killed, &key, 500).await, 500);
    drop(killed);
    let other = Process::start(&world, clock.clone());
    let granted = tokio::spawn({
        let (quotas, key) = (other.quotas.clone(), key.clone());
        async move { takes(&quotas, &key, 10_000).await }
    });
    // Until the dead one's lease has expired, nobody is refused.
    while world.store.standing(key.id, Allowance::Documents, LATE - 86_340_000).await.unwrap().taken < 10_000 {
        tokio::task::yield_now().await;
    }
    clock.advance(EXPIRES_MS);
    let lost = 9500 - granted.await.unwrap();
    assert!(lost > 0 && lost < 50, "{lost}: less than half a percent");
}

#[tokio::test]
async fn a_new_window_brings_a_new_allowance() {
    let world = World::new().await;
    let key = key(&world, 3, 2).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let quotas = Quotas::new(Arc::new(world.store.clone()), clock.clone());
    let take = async |allowance| match quotas.take(&key, allowance).await {
        Ok(()) => None,
        Err(problem) => Some(problem.into_response()),
    };
    for left in [1, 0] {
        assert!(take(Allowance::Requests).await.is_none());
        assert_eq!(quotas.left(&key, Allowance::Requests), Some(left));
    }
    clock.advance(500);
    let refused = take(Allowance::Requests).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &HeaderValue::from(60)));
    assert_eq!(takes(&quotas, &key, 5).await, 3);
    clock.advance(59_500);
    assert!(take(Allowance::Requests).await.is_none(), "a new minute, and a new day");
    assert_eq!(quotas.left(&key, Allowance::Documents), Some(3));
    assert_eq!(takes(&quotas, &key, 5).await, 3);
    assert_eq!(world.store.charged(key.id, 9).await.unwrap(), [(LATE + 60_000, 3), (LATE - 86_340_000, 3)]);
}

const FULL_DISK: [&str; 2] = [
    "CREATE TRIGGER full_disk BEFORE INSERT ON allowances BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
    "CREATE TRIGGER full_disk_too BEFORE INSERT ON charges BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
];
const ROOM_AGAIN: [&str; 2] = ["DROP TRIGGER full_disk", "DROP TRIGGER full_disk_too"];

async fn taken(world: &World, key: &ApiKey, allowance: Allowance) -> u64 {
    world.store.standing(key.id, allowance, allowance.window(LATE)).await.unwrap().taken
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_takes_nothing_keys_borrow_a_little_and_it_is_booked_later() {
    let world = World::new().await;
    let key = key(&world, 320, 160).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let process = Process::start(&world, clock.clone());
    assert_eq!(takes(&process.quotas, &key, 3).await, 3);
    let before = taken(&world, &key, Allowance::Documents).await;
    for sql in FULL_DISK {
        world.run_sql(sql).await;
    }
    clock.advance(2_000);
    // A sixteenth of each limit, whether the database has just failed or rests.
    assert_eq!(takes(&process.quotas, &key, 100).await, 20);
    clock.advance(2_000);
    assert_eq!(takes(&process.quotas, &key, 10).await, 0);
    let refused = process.quotas.take(&key, Allowance::Documents).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    process.quotas.take(&key, Allowance::Requests).await.unwrap();
    for sql in ROOM_AGAIN {
        world.run_sql(sql).await;
    }
    clock.advance(2_000);
    assert_eq!(takes(&process.quotas, &key, 1).await, 1);
    process.stop().await;
    assert!(taken(&world, &key, Allowance::Documents).await >= before + 21);
    assert_eq!(taken(&world, &key, Allowance::Requests).await, 1, "booked at the end, at the latest");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_is_left_of_is_not_lent() {
    let world = World::new().await;
    let key = key(&world, 3, 100).await;
    let clock = Arc::new(ManualClock::at(LATE));
    let process = Process::start(&world, clock.clone());
    assert_eq!(takes(&process.quotas, &key, 3).await, 3);
    world.run_sql(FULL_DISK[0]).await;
    clock.advance(2_000);
    assert_eq!(takes(&process.quotas, &key, 3).await, 0);
    process.stop().await;
}
