//! What this process holds of one allowance of one key: a lease that requests are paid from without asking the database. Only its bookkeeping
//! lives here; exchanges with the database are the business of [`super`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_shared::store::{ALLOWANCE_LEASE_MS, Standing};

use super::loans::Loans;

/// How long a lease is used, in milliseconds. What is left of it then goes back, for other processes to take.
pub(super) const USED_MS: i64 = 1_000;
/// After so many milliseconds others no longer reckon with it that a lease comes back: its process is taken for dead.
pub(super) const EXPIRES_MS: i64 = ALLOWANCE_LEASE_MS;
/// So many leases, at least, make up a limit: what a killed process takes with it is less than half a percent.
const LEASES: u64 = 256;
/// Largest lease, which is many requests' worth.
const LARGEST: u64 = 4096;

/// The lease, and what is known beside it.
#[derive(Debug, Default)]
struct State {
    /// When the window begins that all this is of.
    window: i64,
    /// What the database said last is taken of the window, the lease too.
    taken: u64,
    /// Size of the lease; 0 is none.
    size: u64,
    /// What is left of it.
    left: u64,
    /// When it was taken.
    since: i64,
    /// Size of the next lease.
    wish: u64,
    /// Until when it is known that nothing is left of this limit.
    spent: Option<(u64, i64)>,
    /// Borrowed while the database took nothing.
    loans: Loans,
}

impl State {
    /// Counts what is left of a limit in a window, loans not counted.
    fn left_of(&self, limit: u64, window: i64) -> u64 {
        if self.window == window { limit.saturating_sub(self.taken.saturating_sub(self.left)) } else { limit }
    }

    /// Whether the last exchange is no older than that, in milliseconds; not if the clock was set back.
    fn is_younger(&self, now: i64, age: i64) -> bool {
        (0..age).contains(&(now - self.since))
    }
}

/// A lease that has ended, to be told to the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// The window that it is of.
    pub(super) window: i64,
    /// Its size; 0 if there was none.
    pub(super) size: u64,
    /// What was not used of it.
    pub(super) unused: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Purse {
    state: Mutex<State>,
    /// Whoever has it may speak to the database about this purse.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Purse {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while it is held; every state of it would do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one out of the lease, if there is one for this window that has something left.
    pub(super) fn spend(&self, window: i64, now: i64) -> bool {
        let mut state = self.state();
        let there = state.left > 0 && state.window == window && state.is_younger(now, USED_MS);
        if there {
            state.left -= 1;
        }
        there
    }

    /// Ends the lease, and decides on the next one's size: twice that of one that was used up in its time, else what was used of it.
    pub(super) fn end(&self, now: i64) -> Ended {
        let mut state = self.state();
        state.wish = if state.left == 0 && state.is_younger(now, USED_MS) {
            (state.wish * 2).clamp(1, LARGEST)
        } else if state.size > 0 {
            state.size - state.left
        } else if state.is_younger(now, 2 * USED_MS) {
            state.wish
        } else {
            0
        };
        let ended = Ended { window: state.window, size: state.size, unused: state.left };
        (state.size, state.left) = (0, 0);
        ended
    }

    /// How large the next lease should be.
    pub(super) fn wish(&self, limit: Option<u64>) -> u64 {
        self.state().wish.min(limit.map_or(LARGEST, |limit| limit / LEASES))
    }

    /// Takes a new lease in, which may be empty.
    pub(super) fn begin(&self, window: i64, now: i64, lease: u64, standing: &Standing) {
        let mut state = self.state();
        let (wish, loans) = (state.wish, std::mem::take(&mut state.loans));
        *state =
            State { window, taken: standing.taken, size: lease, left: lease, since: now, wish, spent: None, loans };
    }

    /// Takes in how things stand in a window, unless the lease makes that known better.
    pub(super) fn learn(&self, window: i64, taken: u64) {
        let mut state = self.state();
        if state.size > 0 || state.window > window {
            return;
        }
        if state.window < window {
            state.spent = None;
        }
        (state.window, state.taken) = (window, taken);
    }

    /// Remembers for a while that nothing is left: many who ask then cost the database nothing.
    pub(super) fn is_empty_until(&self, limit: u64, until: i64) {
        self.state().spent = Some((limit, until));
    }

    /// Tells whether it is known that nothing is left: for [`USED_MS`], however the clock is set.
    pub(super) fn is_empty(&self, limit: Option<u64>, window: i64, now: i64) -> bool {
        let state = self.state();
        state.window == window
            && state.spent.is_some_and(|(of, until)| Some(of) == limit && (until - USED_MS..until).contains(&now))
    }

    /// What is left of a limit in a window, as far as this process knows.
    pub(super) fn left(&self, limit: u64, window: i64) -> u64 {
        let state = self.state();
        state.left_of(limit, window).saturating_sub(state.loans.count_lent(window))
    }

    /// Borrows one while the database takes nothing, if there is any left.
    pub(super) fn borrow(&self, limit: Option<u64>, window: i64) -> bool {
        let mut state = self.state();
        let left = limit.map_or(u64::MAX, |limit| state.left_of(limit, window));
        state.loans.lend(limit, left, window)
    }

    /// Takes the oldest window's loans out, to be booked.
    pub(super) fn take_oldest_loan(&self) -> Option<(i64, u64)> {
        self.state().loans.take_oldest()
    }

    /// Takes back what could not be booked.
    pub(super) fn put_loan_back(&self, window: i64, lent: u64) {
        self.state().loans.put_back(window, lent);
    }

    /// What is left of the lease, if it is of that window.
    pub(super) fn unused(&self, window: i64) -> u64 {
        let state = self.state();
        if state.window == window { state.left } else { 0 }
    }

    /// Tells whether there is a lease that has had its time, or something to be booked.
    pub(super) fn is_due(&self, now: i64) -> bool {
        let state = self.state();
        (state.size > 0 && !state.is_younger(now, USED_MS)) || !state.loans.is_empty()
    }

    /// Tells whether there is a lease, or something to be booked.
    pub(super) fn is_held(&self) -> bool {
        let state = self.state();
        state.size > 0 || !state.loans.is_empty()
    }

    /// Whether nothing is held, and was not for so long that nothing need be remembered.
    pub(super) fn is_idle(&self, now: i64) -> bool {
        let state = self.state();
        state.size == 0 && state.loans.is_empty() && !state.is_younger(now, EXPIRES_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exchanges as [`super::super::Quotas`] does where everything wished for is granted; gives the lease's size.
    fn exchange(purse: &Purse, limit: Option<u64>, now: i64) -> u64 {
        purse.end(now);
        let lease = purse.wish(limit);
        purse.begin(0, now, lease, &Standing { taken: 1 + lease, ..Standing::default() });
        lease
    }

    fn use_up(purse: &Purse, now: i64) -> u64 {
        (0..).take_while(|_| purse.spend(0, now)).count() as u64
    }

    #[test]
    fn leases_grow_with_use_up_to_a_small_part_of_the_limit() {
        let purse = Purse::default();
        let sizes: Vec<u64> = (0..8)
            .map(|now| {
                let size = exchange(&purse, Some(10_000), 1_000_000 + now);
                assert_eq!(use_up(&purse, 1_000_000 + now), size);
                size
            })
            .collect();
        assert_eq!(sizes, [0, 1, 2, 4, 8, 16, 32, 39]);
        // A limit of a few is taken one by one.
        assert_eq!(exchange(&purse, Some(255), 1_000_010), 0);
    }

    #[test]
    fn what_is_used_seldom_is_not_leased() {
        let purse = Purse::default();
        for second in 1000..1005 {
            assert_eq!(exchange(&purse, None, second * 2000), 0);
        }
    }

    #[test]
    fn a_lease_is_used_for_a_second_and_the_next_is_as_large_as_what_was_used() {
        let purse = Purse::default();
        let now = 1_000_000;
        for _ in 0..5 {
            exchange(&purse, None, now);
            use_up(&purse, now);
        }
        assert_eq!(exchange(&purse, None, now), 16);
        for _ in 0..5 {
            assert!(purse.spend(0, now + USED_MS - 1));
        }
        assert!(!purse.spend(60_000, now), "it is of another window");
        assert!(!purse.is_due(now + USED_MS - 1) && purse.is_due(now + USED_MS));
        assert!(!purse.spend(0, now + USED_MS));
        assert!(!purse.spend(0, now - 1), "the clock was set back");
        assert_eq!(purse.end(now + USED_MS), Ended { window: 0, size: 16, unused: 11 });
        assert_eq!(purse.wish(None), 5);
        assert_eq!(purse.end(now + USED_MS), Ended { window: 0, size: 0, unused: 0 });
        assert_eq!(purse.wish(None), 5, "after it was given back, too");
    }

    #[test]
    fn what_is_left_counts_the_lease() {
        let purse = Purse::default();
        assert_eq!(purse.left(100, 0), 100);
        purse.learn(0, 30);
        assert_eq!((purse.left(100, 0), purse.left(20, 0)), (70, 0));
        purse.begin(0, 5, 10, &Standing { taken: 41, ..Standing::default() });
        purse.spend(0, 5);
        assert_eq!(purse.left(100, 0), 68);
        purse.learn(0, 99);
        assert_eq!(purse.left(100, 0), 68, "the lease is newer");
        assert_eq!(purse.left(100, 60_000), 100, "in a new window");

        purse.end(5);
        purse.is_empty_until(100, 1000);
        assert!(purse.is_empty(Some(100), 0, 999));
        assert!(!purse.is_empty(Some(200), 0, 999), "the limit was raised");
        assert!(!purse.is_empty(Some(100), 0, -1), "the clock was set back");
        purse.learn(60_000, 0);
        assert!(!purse.is_empty(Some(100), 60_000, 999), "in a new window");
    }
}
