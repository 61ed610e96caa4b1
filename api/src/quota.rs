//! Quotas: documents a day and requests a minute for each key.
//!
//! All processes share what is left of them in the database. Each takes leases there, which it then uses up without asking again: at most one
//! exchange a second for each key and allowance while there is plenty. Towards the end leases become small, so that the last ones are taken one
//! by one; and who finds nothing left while others hold leases waits until these have come back or expired. So no more is ever given than there
//! is, and nobody is refused while something is left.
//!
//! While the database takes nothing, keys borrow a little (`loans`).

mod charges;
mod headers;
mod loans;
mod purse;

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_shared::clock::Clock;
use adit_shared::domain::{Allowance, ApiKey, Package};
use adit_shared::ids::KeyId;
use adit_shared::store::{Exchange, Standing, Store, StoreResult};
use axum::http::{HeaderValue, header};
use futures::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::charges::Charges;
use self::purse::{EXPIRES_MS, Ended, Purse, USED_MS};
use crate::dispatch::to_the_end;
use crate::problem::{ApiResult, Kind, Problem};

pub use headers::layer;

/// How often somebody who waits for other processes' leases looks whether they are back.
const RETRY: Duration = Duration::from_millis(50);
/// How often leases are looked through for what is to go back.
const SWEEP: Duration = Duration::from_millis(250);
/// Leases that go back at once.
const SWEPT_AT_ONCE: usize = 8;

/// What this process holds for one key.
#[derive(Debug, Default)]
struct Account {
    documents: Purse,
    requests: Purse,
    /// Whoever has it charges documents that are not known to be charged.
    charging: tokio::sync::Mutex<()>,
}

impl Account {
    fn purse(&self, allowance: Allowance) -> &Purse {
        match allowance {
            Allowance::Documents => &self.documents,
            Allowance::Requests => &self.requests,
        }
    }
}

/// What this process holds for all keys that it serves now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    accounts: Mutex<HashMap<KeyId, Arc<Account>>>,
    charges: Charges,
    /// Told when the first account is opened.
    opened: Notify,
    /// Tells when the database took nothing last, in milliseconds since the epoch.
    failed_at: AtomicI64,
}

/// What came of an exchange.
enum Outcome {
    Granted,
    /// Nothing is left now, but leases may come back until then.
    Wait(i64),
    Spent,
}

impl Quotas {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            accounts: Mutex::default(),
            charges: Charges::default(),
            opened: Notify::new(),
            failed_at: AtomicI64::new(i64::MIN),
        }))
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<KeyId, Arc<Account>>> {
        // Nobody panics while it is held.
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, key: KeyId) -> Arc<Account> {
        self.0.opened.notify_one();
        self.accounts().entry(key).or_default().clone()
    }

    fn now(&self) -> i64 {
        self.0.clock.now_ms()
    }

    /// Takes one document or request out of what the key may use, or refuses it.
    pub(crate) async fn take(&self, key: &ApiKey, allowance: Allowance) -> ApiResult<()> {
        let limit = key.limits.of(allowance);
        if limit.is_none() && allowance == Allowance::Requests {
            return Ok(());
        }
        let account = self.account(key.id);
        let purse = account.purse(allowance);
        let spend = || {
            let now = self.now();
            purse.spend(allowance.window(now), now)
        };
        if spend() {
            return Ok(());
        }
        // One request asks the database; those that come meanwhile find here what it brought.
        let mut turn = purse.turn.clone().lock_owned().await;
        loop {
            let now = self.now();
            if spend() {
                return Ok(());
            }
            if purse.is_empty(limit, allowance.window(now), now) {
                return Err(self.spent(key, allowance, 1));
            }
            if self.has_database_failed() && purse.borrow(limit, allowance.window(now)) {
                return Ok(());
            }
            let (quotas, account, key_id) = (self.clone(), account.clone(), key.id);
            let exchange = async move {
                let outcome = quotas.exchange(key_id, &account, allowance, limit).await?;
                Ok((outcome, turn))
            };
            // To the end, for what is taken would be lost if the client went away.
            let outcome;
            (outcome, turn) = match to_the_end(exchange).await {
                Err(away) if away.kind() == Kind::Unavailable => {
                    self.note_database_failure();
                    return if purse.borrow(limit, allowance.window(now)) { Ok(()) } else { Err(away) };
                }
                answered => answered?,
            };
            match outcome {
                Outcome::Granted => return Ok(()),
                Outcome::Spent => return Err(self.spent(key, allowance, 1)),
                Outcome::Wait(until) => self.nap(until).await,
            }
        }
    }

    /// Ends the lease of a purse, and takes one, and a lease beyond that.
    async fn exchange(
        &self,
        key: KeyId,
        account: &Account,
        allowance: Allowance,
        limit: Option<u64>,
    ) -> StoreResult<Outcome> {
        let purse = account.purse(allowance);
        self.book_loans(key, allowance, purse).await?;
        let now = self.now();
        let window = allowance.window(now);
        let mut ended = purse.end(now);
        if ended.window != window {
            self.give_back(key, allowance, &ended).await;
            ended = Ended { window, size: 0, unused: 0 };
        }
        let wanted =
            Exchange { limit, least: 1, most: 1 + purse.wish(limit), ..self.giving_back(key, allowance, &ended) };
        let (granted, standing) = self.0.store.exchange(&wanted).await?;
        purse.begin(window, now, granted.saturating_sub(1), &standing);
        Ok(match limit {
            _ if granted > 0 => Outcome::Granted,
            _ if standing.returnable(now) > 0 => Outcome::Wait(standing.held_until),
            limit => {
                purse.is_empty_until(limit.unwrap_or_default(), now + USED_MS);
                Outcome::Spent
            }
        })
    }

    /// An exchange that takes nothing.
    fn giving_back(&self, key: KeyId, allowance: Allowance, ended: &Ended) -> Exchange {
        let now = self.now();
        let Ended { window, size, unused } = *ended;
        let (lease, held_until) = (size, now + EXPIRES_MS);
        Exchange { key, allowance, window, limit: None, lease, unused, least: 0, most: 0, now, held_until }
    }

    /// Gives a lease back. Where that fails it is lost to the key: nobody knows whether it has come back.
    async fn give_back(&self, key: KeyId, allowance: Allowance, ended: &Ended) -> Option<Standing> {
        if ended.size == 0 {
            return None;
        }
        match self.0.store.exchange(&self.giving_back(key, allowance, ended)).await {
            Ok((_, standing)) => Some(standing),
            Err(error) => {
                self.note_database_failure();
                tracing::warn!(%key, %error, lost = ended.unused, "a lease of {} did not go back", allowance.as_str());
                None
            }
        }
    }

    /// Ends the lease of a purse without taking another, and books its loans; for who has its turn.
    async fn settle(&self, key: KeyId, allowance: Allowance, purse: &Purse) {
        if let Err(error) = self.book_loans(key, allowance, purse).await {
            self.note_database_failure();
            tracing::warn!(%key, %error, "what was borrowed of {} is not booked yet", allowance.as_str());
        }
        let ended = purse.end(self.now());
        if let Some(standing) = self.give_back(key, allowance, &ended).await {
            purse.learn(ended.window, standing.taken);
        }
    }

    /// Sleeps a little, not longer than until then.
    async fn nap(&self, until: i64) {
        let left = u64::try_from(until - self.now()).unwrap_or(0).max(1);
        tokio::time::sleep(RETRY.min(Duration::from_millis(left))).await;
    }

    /// Refuses a package whose payment would be deferred, if the key's documents of today would not
    /// pay for it together with those whose payment is deferred already. So that nobody has more
    /// built without paying than a day's documents.
    pub(crate) async fn check_deferred(&self, key: &ApiKey, documents: u64) -> ApiResult<()> {
        if key.limits.documents.is_none() {
            return Ok(());
        }
        let today = Allowance::Documents.window(self.now());
        let unpaid = self.0.store.unpaid_documents(key.id, today).await?;
        self.check(key, documents.saturating_add(unpaid)).await
    }

    /// Refuses a package that the key's documents of today would not pay for, even if all leases came back unused.
    pub(crate) async fn check(&self, key: &ApiKey, documents: u64) -> ApiResult<()> {
        let allowance = Allowance::Documents;
        let Some(limit) = key.limits.documents else { return Ok(()) };
        let now = self.now();
        let standing = self.0.store.standing(key.id, allowance, allowance.window(now)).await?;
        let used = standing.taken.saturating_sub(standing.returnable(now));
        if used.saturating_add(documents) <= limit { Ok(()) } else { Err(self.spent(key, allowance, documents)) }
    }

    /// Charges a package's documents to its owner's quota of today, once whoever pays and how often; tells what was charged now.
    pub(crate) async fn pay(&self, key: &ApiKey, package: &Package) -> ApiResult<u64> {
        let (allowance, documents) = (Allowance::Documents, package.documents.payable());
        let account = self.account(key.id);
        let purse = account.purse(allowance);
        loop {
            let turn = purse.turn.lock().await;
            self.settle(key.id, allowance, purse).await;
            let now = self.now();
            let ended = Ended { window: allowance.window(now), size: 0, unused: 0 };
            let limit = key.limits.documents;
            let charge =
                Exchange { limit, least: documents, most: documents, ..self.giving_back(key.id, allowance, &ended) };
            let Some((granted, standing)) = self.0.store.pay_package(package.id, &charge).await? else {
                return Ok(0);
            };
            purse.learn(charge.window, standing.taken);
            drop(turn);
            if granted == documents {
                return Ok(documents);
            }
            if standing.taken.saturating_sub(standing.returnable(now)) + documents > limit.unwrap_or(u64::MAX) {
                return Err(self.spent(key, allowance, documents));
            }
            self.nap(standing.held_until).await;
        }
    }

    /// Takes in what the database says is taken of a key's documents of a day.
    pub(crate) fn learn(&self, key: &ApiKey, day: i64, taken: u64) {
        if key.limits.documents.is_some() {
            self.account(key.id).documents.learn(day, taken);
        }
    }

    /// What is left of an allowance, as far as this process knows; `None`: unlimited.
    pub(crate) fn left(&self, key: &ApiKey, allowance: Allowance) -> Option<u64> {
        let window = allowance.window(self.now());
        key.limits.of(allowance).map(|limit| self.account(key.id).purse(allowance).left(limit, window))
    }

    /// What would be left of today's documents after a charge, below zero if it is too much; `None`: unlimited.
    pub(crate) fn after(&self, key: &ApiKey, cost: u64) -> Option<i64> {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.left(key, Allowance::Documents).map(|left| whole(left) - whole(cost))
    }

    /// What of a lease in the current window is not used yet.
    pub(crate) fn unused(&self, key: &ApiKey, allowance: Allowance) -> u64 {
        let window = allowance.window(self.now());
        self.account(key.id).purse(allowance).unused(window)
    }

    fn spent(&self, key: &ApiKey, allowance: Allowance, wanted: u64) -> Problem {
        let limit = key.limits.of(allowance).unwrap_or_default();
        let seconds = headers::seconds_left(allowance, self.now());
        let detail = match allowance {
            Allowance::Documents => format!(
                "this would cost {wanted} document(s), more than is left of today's {limit}; the quota is new at 00:00 UTC"
            ),
            Allowance::Requests => {
                format!("this key may make {limit} request(s) a minute; ask again in {seconds} second(s)")
            }
        };
        Problem::new(Kind::QuotaSpent, detail)
            .with("violated-policies", vec![allowance.as_str()])
            .header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Gives back the leases that have had their time, and forgets keys that are no longer served.
    async fn sweep(&self) {
        if self.has_database_failed() {
            return;
        }
        let now = self.now();
        self.save_charges().await;
        self.settle_where(|purse| purse.is_due(now)).await;
        self.accounts().retain(|_, account| {
            Arc::strong_count(account) > 1 || !Allowance::ALL.iter().all(|&of| account.purse(of).is_idle(now))
        });
    }

    async fn settle_where(&self, wanted: impl Fn(&Purse) -> bool) {
        let accounts: Vec<_> = self.accounts().iter().map(|(key, account)| (*key, account.clone())).collect();
        let purses = accounts.iter().flat_map(|(key, account)| Allowance::ALL.map(|of| (*key, of, account.purse(of))));
        let due = purses.filter(|(_, _, purse)| wanted(purse));
        stream::iter(due)
            .for_each_concurrent(SWEPT_AT_ONCE, async |(key, allowance, purse)| {
                // Who has the turn is about to do this itself.
                if let Ok(_turn) = purse.turn.try_lock() {
                    self.settle(key, allowance, purse).await;
                }
            })
            .await;
    }

    /// Gives leases back in their time until `stop`, and then all of them. While no key is served there is nothing to do, and nothing is done.
    pub async fn keep(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.0.opened.notified()).await.is_some() {
            while self.has_work() && stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                self.sweep().await;
            }
        }
        self.save_charges().await;
        self.settle_where(Purse::is_held).await;
    }

    fn has_work(&self) -> bool {
        self.0.charges.are_unsaved() || !self.accounts().is_empty()
    }
}

#[cfg(test)]
mod tests;
