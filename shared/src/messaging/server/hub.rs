//! The one place where connections meet: the [`State`] under its lock, with clock, journal and wake-ups attached.
//!
//! The lock is held for memory work alone, never over input, output or an `await`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::journal::Journal;
use super::message::Stored;
use super::state::{ConnectionId, Rules, State};
use crate::clock::Clock;

/// The timer looks no more often than this, so that many short-lived messages cost one look.
const TIMER_GRAIN: Duration = Duration::from_secs(1);

/// The timer looks at least this often, in case the clock was set.
const TIMER_LIMIT: Duration = Duration::from_secs(3600);

/// Pauses between two tries to write a failed journal anew: the first, and the longest that they
/// double to.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Hub {
    inner: Mutex<Inner>,
    pub(super) journal: Option<Journal>,
    clock: Arc<dyn Clock>,
    rearm: Notify,
}

#[derive(Debug)]
struct Inner {
    state: State,
    wakers: HashMap<ConnectionId, Arc<Notify>>,
    /// The deadline that the timer knows, in milliseconds since the epoch.
    armed: i64,
}

impl Hub {
    pub(super) fn new(rules: Rules, clock: Arc<dyn Clock>, journal: Option<Journal>, kept: Vec<Stored>) -> Self {
        let state = State::new(rules, clock.now_ms(), kept);
        let inner = Inner { state, wakers: HashMap::new(), armed: i64::MAX };
        Self { inner: Mutex::new(inner), journal, clock, rearm: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in the state machine is a defect, but every other connection is better served than refused.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Does something with the queues at this moment, nothing expired among them. What changed is in the journal's hands
    /// when it returns; with the result comes the number of the journal record to wait for (0 for none).
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State, i64) -> T) -> (T, u64) {
        let now = self.clock.now_ms();
        let mut inner = self.lock();
        if inner.state.next_deadline().is_some_and(|at| at <= now) {
            inner.state.expire(now);
        }
        let result = act(&mut inner.state, now);
        let effects = inner.state.effects();
        let mut record = 0;
        if let Some(journal) = self.journal.as_ref().filter(|_| !effects.changes.is_empty()) {
            record = journal.append(&effects.changes);
            if journal.mostly_dead(inner.state.persistent_bytes()) {
                journal.rewrite(inner.state.persistent());
            }
        }
        for waker in effects.wake.iter().filter_map(|id| inner.wakers.get(id)) {
            waker.notify_one();
        }
        if inner.state.next_deadline().is_some_and(|at| at < inner.armed) {
            self.rearm.notify_one();
        }
        (result, record)
    }

    /// Adds a connection, and what wakes its writer.
    pub(super) fn connect(&self) -> (ConnectionId, Arc<Notify>) {
        let waker = Arc::new(Notify::new());
        let mut inner = self.lock();
        let id = inner.state.connect();
        inner.wakers.insert(id, waker.clone());
        (id, waker)
    }

    /// Removes a connection: what it holds goes back to the queues.
    pub(super) fn disconnect(&self, id: ConnectionId) {
        self.lock().wakers.remove(&id);
        self.with(|state, now| state.disconnect(now, id));
    }

    /// Frees what has expired, for as long as it is polled. Every use of a queue looks by itself first; this is for those
    /// that nobody uses.
    pub(super) async fn run_timer(&self) {
        loop {
            let now = self.clock.now_ms();
            let wait = {
                let mut inner = self.lock();
                inner.armed = inner.state.next_deadline().unwrap_or(i64::MAX);
                u64::try_from(inner.armed.saturating_sub(now)).map_or(Duration::ZERO, Duration::from_millis)
            };
            let wait = wait.clamp(TIMER_GRAIN, TIMER_LIMIT);
            tokio::select! {
                () = tokio::time::sleep(wait) => drop(self.with(|_, _| ())),
                () = self.rearm.notified() => {}
            }
        }
    }

    /// Has a journal that failed written anew from memory, with pauses that grow, until it is well
    /// again; for as long as it is polled.
    pub(super) async fn run_recovery(&self) {
        let Some(journal) = &self.journal else { return };
        let mut progress = journal.progress();
        // An error says that the journal's thread has ended: nothing can be done any more.
        while progress.wait_for(|progress| progress.failed.is_some()).await.is_ok() {
            let mut pause = FIRST_RETRY;
            while progress.borrow_and_update().failed.is_some() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
                self.rewrite_failed_journal();
                if progress.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Asks for a journal that failed to be written anew.
    pub(super) fn rewrite_failed_journal(&self) {
        // Under the lock: nothing changes between what is written and what is appended behind it.
        let inner = self.lock();
        if let Some(journal) = self.journal.as_ref().filter(|journal| journal.needs_rewrite()) {
            journal.rewrite(inner.state.persistent());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, Step};
    use super::super::state::tests::rules;
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn the_timer_frees_what_nobody_asks_for() {
        let hub = Hub::new(rules(), Arc::new(SystemClock), None, vec![]);
        let (id, _) = hub.connect();
        let sending = async {
            let soon = hub.now_ms() + 50;
            let message = Message { headers: vec![], body: "x".into(), persistent: false, expires: Some(soon) };
            let (sent, _) =
                hub.with(|state, now| state.apply(now, id, vec![Step::Send { queue: "q".into(), message }]));
            sent.unwrap();
            // Looks without Hub::with, which would drop it by itself.
            while hub.lock().state.queues()[0].ready > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = hub.run_timer() => unreachable!("it never ends"),
            freed = tokio::time::timeout(Duration::from_secs(20), sending) => freed.unwrap(),
        }
    }
}
