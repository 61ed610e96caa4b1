//! Loans of allowances while the database answers but takes nothing, on a full disk above all: a
//! small part of a key's limit, in memory, so that miners go on reading. Loans are booked when the
//! database takes them; a process that ends before that forgets them.

use std::collections::BTreeMap;

use adit_shared::domain::Allowance;
use adit_shared::ids::KeyId;
use adit_shared::store::{Exchange, StoreResult};

use super::purse::Purse;
use super::{Ended, Quotas};

/// The part of a limit that one process lends in a window is one of so many.
const PARTS: u64 = 16;
/// The most that it lends in a window.
const MOST: u64 = 1024;
/// For so long, in milliseconds, nobody who can borrow asks a database that took nothing.
const REST_MS: i64 = 1_000;

/// Loans of one allowance that are not booked, by the beginning of their window.
#[derive(Debug, Default)]
pub(super) struct Loans(BTreeMap<i64, u64>);

impl Loans {
    /// Lends one of a window of which so much is left; false if the window's loans are used up.
    pub(super) fn lend(&mut self, limit: Option<u64>, left: u64, window: i64) -> bool {
        let most = limit.map_or(MOST, |limit| (limit / PARTS).clamp(1, MOST)).min(left);
        let lent = self.0.entry(window).or_default();
        let is_lent = *lent < most;
        *lent += u64::from(is_lent);
        is_lent
    }

    /// Counts the loans of a window.
    pub(super) fn count_lent(&self, window: i64) -> u64 {
        self.0.get(&window).copied().unwrap_or_default()
    }

    /// Takes the oldest window's loans out, to be booked.
    pub(super) fn take_oldest(&mut self) -> Option<(i64, u64)> {
        self.0.retain(|_, lent| *lent > 0);
        self.0.pop_first()
    }

    /// Takes back what could not be booked.
    pub(super) fn put_back(&mut self, window: i64, lent: u64) {
        *self.0.entry(window).or_default() += lent;
    }

    /// Tells whether nothing is to be booked.
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|lent| *lent == 0)
    }
}

impl Quotas {
    /// Tells whether the database has taken nothing a moment ago.
    pub(super) fn has_database_failed(&self) -> bool {
        let now = self.now();
        let since = self.0.failed_at.load(std::sync::atomic::Ordering::Relaxed);
        (0..REST_MS).contains(&now.saturating_sub(since))
    }

    /// Remembers that the database takes nothing now.
    pub(super) fn note_database_failure(&self) {
        self.0.failed_at.store(self.now(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Books the loans of a purse; for who has its turn.
    pub(super) async fn book_loans(&self, key: KeyId, allowance: Allowance, purse: &Purse) -> StoreResult<()> {
        while let Some((window, lent)) = purse.take_oldest_loan() {
            let no_lease = Ended { window, size: 0, unused: 0 };
            let booking = Exchange { least: lent, most: lent, ..self.giving_back(key, allowance, &no_lease) };
            match self.0.store.exchange(&booking).await {
                Ok((_, standing)) => purse.learn(window, standing.taken),
                Err(error) => {
                    purse.put_loan_back(window, lent);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
