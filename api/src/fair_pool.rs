//! A bounded pool of places of which no client gets more than a share, with one line for each client.
//!
//! The next free place goes to the client that has held places for the shortest time of late; among equals
//! to the one that has waited longest. So a client with a hundred requests waits behind its own, and one with
//! a few short requests does not wait for those whose requests are long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::ClientId;

/// A client may fill one of so many parts of the line.
const LINE_SHARES: usize = 4;
/// Time after which what a client has held counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Time held, in seconds, that is as good as none: such clients are forgotten.
const FORGOTTEN: f64 = 0.001;
/// Clients that are remembered before the forgotten ones are looked for.
const REMEMBERED: usize = 1024;

/// Reason for which a client gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolFull {
    /// The client has its share already; it can end some of what it does.
    #[error("this client has its share of places")]
    OfClient,
    /// All places are taken, and the line is full.
    #[error("all places are taken")]
    OfAll,
}

/// Places that clients share.
#[derive(Debug)]
pub struct FairPool {
    places: usize,
    share: usize,
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    held: HashMap<ClientId, usize>,
    lines: HashMap<ClientId, VecDeque<Waiter>>,
    /// Clients with a line, the next one first.
    turns: VecDeque<ClientId>,
    waiting: usize,
    last_ticket: u64,
    used: HashMap<ClientId, RecentUse>,
}

/// Time for which a client held places, halved every [`HALF_LIFE`].
#[derive(Debug, Clone, Copy)]
struct RecentUse {
    seconds: f64,
    at: Instant,
}

impl RecentUse {
    fn decayed(self, now: Instant) -> f64 {
        self.seconds * (-now.duration_since(self.at).div_duration_f64(HALF_LIFE)).exp2()
    }
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// Told that it has the place, which is counted as taken by then.
    admitted: oneshot::Sender<()>,
}

/// A place; dropping it gives it to the next in turn.
#[derive(Debug)]
pub struct FairPermit {
    pool: Arc<FairPool>,
    client: ClientId,
    since: Instant,
}

impl FairPool {
    /// Makes a pool of `places`, at most `share` of them for one client, with at most `waiting` requests in line.
    #[must_use]
    pub fn new(places: usize, share: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self { places, share: share.clamp(1, places.max(1)), waiting, state: Mutex::default() })
    }

    /// Takes a place, in turn with other clients.
    ///
    /// # Errors
    /// [`PoolFull`] when the client's line, or the line of all, is full.
    pub async fn acquire(self: &Arc<Self>, client: ClientId) -> Result<FairPermit, PoolFull> {
        let (ticket, admitted) = {
            let mut state = self.state();
            if self.has_place(&state, client) {
                return Ok(self.admit(&mut state, client));
            }
            self.enter_line(&mut state, client)?
        };
        let mut waiting = LinePlace { pool: self, client, ticket: Some(ticket) };
        // The sender is dropped only by this guard.
        let _ = admitted.await;
        waiting.ticket = None;
        Ok(FairPermit { pool: self.clone(), client, since: Instant::now() })
    }

    /// Takes a place without waiting.
    ///
    /// # Errors
    /// [`PoolFull`] when there is none for this client now.
    pub fn try_acquire(self: &Arc<Self>, client: ClientId) -> Result<FairPermit, PoolFull> {
        let mut state = self.state();
        if self.has_place(&state, client) {
            return Ok(self.admit(&mut state, client));
        }
        let held = state.held.get(&client).copied().unwrap_or_default();
        Err(if held >= self.share { PoolFull::OfClient } else { PoolFull::OfAll })
    }

    /// Counts the places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    /// Counts the requests in line.
    #[must_use]
    pub fn in_line(&self) -> usize {
        self.state().waiting
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_place(&self, state: &State, client: ClientId) -> bool {
        state.taken < self.places && state.held.get(&client).copied().unwrap_or_default() < self.share
    }

    fn admit(self: &Arc<Self>, state: &mut State, client: ClientId) -> FairPermit {
        state.count_place(client);
        FairPermit { pool: self.clone(), client, since: Instant::now() }
    }

    fn enter_line(&self, state: &mut State, client: ClientId) -> Result<(u64, oneshot::Receiver<()>), PoolFull> {
        if state.waiting >= self.waiting {
            return Err(PoolFull::OfAll);
        }
        let own = state.lines.get(&client).map_or(0, VecDeque::len);
        if own >= self.waiting.div_ceil(LINE_SHARES) {
            return Err(PoolFull::OfClient);
        }
        let (sender, receiver) = oneshot::channel();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        if own == 0 {
            state.turns.push_back(client);
        }
        state.lines.entry(client).or_default().push_back(Waiter { ticket, admitted: sender });
        state.waiting += 1;
        Ok((ticket, receiver))
    }

    /// Finds the client that is to have the next place, if there is one for it.
    fn next_turn(&self, state: &State, now: Instant) -> Option<usize> {
        let admissible = state.turns.iter().enumerate().filter(|(_, client)| self.has_place(state, **client));
        let by_use = admissible.map(|(at, client)| (at, state.recent_use(*client, now)));
        by_use.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
    }

    /// Gives free places to those in line.
    fn serve_lines(&self, state: &mut State) {
        let now = Instant::now();
        while let Some(at) = self.next_turn(state, now) {
            let Some(client) = state.turns.remove(at) else { return };
            let Some(line) = state.lines.get_mut(&client) else { continue };
            let next = line.pop_front();
            if line.is_empty() {
                state.lines.remove(&client);
            } else {
                state.turns.push_back(client);
            }
            let Some(waiter) = next else { continue };
            state.waiting -= 1;
            // Who gave up has left the line under this lock, so the receiver is there.
            if waiter.admitted.send(()).is_ok() {
                state.count_place(client);
            }
        }
    }
}

impl State {
    fn recent_use(&self, client: ClientId, now: Instant) -> f64 {
        self.used.get(&client).map_or(0.0, |used| used.decayed(now))
    }

    /// Adds to the time for which a client held places.
    fn count_use(&mut self, client: ClientId, held: Duration, now: Instant) {
        let seconds = self.recent_use(client, now) + held.as_secs_f64();
        self.used.insert(client, RecentUse { seconds, at: now });
        if self.used.len() > REMEMBERED {
            self.used.retain(|_, used| used.decayed(now) > FORGOTTEN);
        }
    }

    fn count_place(&mut self, client: ClientId) {
        self.taken += 1;
        *self.held.entry(client).or_default() += 1;
    }

    fn free_place(&mut self, client: ClientId) {
        self.taken -= 1;
        if let Some(held) = self.held.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }

    /// Takes a waiter out of its line; false if it was admitted before.
    fn leave_line(&mut self, client: ClientId, ticket: u64) -> bool {
        let Some(line) = self.lines.get_mut(&client) else { return false };
        let Some(at) = line.iter().position(|waiter| waiter.ticket == ticket) else { return false };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&client);
            self.turns.retain(|other| *other != client);
        }
        true
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.pool.state();
        state.count_use(self.client, now.duration_since(self.since), now);
        state.free_place(self.client);
        self.pool.serve_lines(&mut state);
    }
}

/// A place in line, left when the one who waits gives up.
struct LinePlace<'a> {
    pool: &'a FairPool,
    client: ClientId,
    /// None once the place was taken over by a [`FairPermit`].
    ticket: Option<u64>,
}

impl Drop for LinePlace<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.pool.state();
        if !state.leave_line(self.client, ticket) {
            // It was admitted in the same moment, and nobody will use the place.
            state.free_place(self.client);
            self.pool.serve_lines(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use adit_shared::ids::KeyId;
    use futures::future::BoxFuture;
    use futures::{FutureExt as _, poll};

    use super::*;

    const A: ClientId = ClientId::Key(KeyId(1));
    const B: ClientId = ClientId::Key(KeyId(2));
    const C: ClientId = ClientId::Key(KeyId(3));

    async fn wait_in_line(pool: &Arc<FairPool>, client: ClientId) -> BoxFuture<'static, Result<FairPermit, PoolFull>> {
        let pool = pool.clone();
        let mut waiting = async move { pool.acquire(client).await }.boxed();
        assert!(poll!(&mut waiting).is_pending());
        waiting
    }

    #[tokio::test]
    async fn a_client_gets_no_more_than_its_share() {
        let pool = FairPool::new(3, 2, 4);
        let first = pool.try_acquire(A).unwrap();
        let _second = pool.try_acquire(A).unwrap();
        assert_eq!(pool.try_acquire(A).unwrap_err(), PoolFull::OfClient);
        let _other = pool.try_acquire(B).unwrap();
        assert_eq!(pool.try_acquire(C).unwrap_err(), PoolFull::OfAll);
        drop(first);
        assert!(pool.try_acquire(C).is_ok());
    }

    #[tokio::test]
    async fn lines_are_served_in_turn() {
        let pool = FairPool::new(1, 1, 8);
        let held = pool.acquire(C).await.unwrap();
        let mut a1 = wait_in_line(&pool, A).await;
        let mut a2 = wait_in_line(&pool, A).await;
        let mut b1 = wait_in_line(&pool, B).await;
        drop(held);
        let a1 = a1.as_mut().now_or_never().unwrap().unwrap();
        drop(a1);
        assert!(poll!(&mut a2).is_pending(), "B has its turn before A's second");
        let b1 = b1.as_mut().now_or_never().unwrap().unwrap();
        drop(b1);
        assert!(matches!(poll!(&mut a2), Poll::Ready(Ok(_))));
        drop(a2);
        assert_eq!((pool.taken(), pool.in_line()), (0, 0));
    }

    #[tokio::test]
    async fn who_has_held_places_for_a_shorter_time_comes_first() {
        let pool = FairPool::new(1, 1, 8);
        pool.state().count_use(A, Duration::from_secs(5), Instant::now());
        let held = pool.acquire(C).await.unwrap();
        let mut heavy = wait_in_line(&pool, A).await;
        let mut light = wait_in_line(&pool, B).await;
        drop(held);
        assert!(poll!(&mut heavy).is_pending(), "A was in line first, but has held a place for 5 s");
        drop(light.as_mut().now_or_never().unwrap().unwrap());
        assert!(matches!(poll!(&mut heavy), Poll::Ready(Ok(_))));
    }

    #[test]
    fn use_is_forgotten_in_time() {
        let (now, mut state) = (Instant::now(), State::default());
        state.count_use(A, Duration::from_secs(8), now);
        let later = state.recent_use(A, now + HALF_LIFE * 2);
        assert!((later - 2.0).abs() < 1e-6, "{later}");
    }

    #[tokio::test]
    async fn a_client_that_is_at_its_share_does_not_hold_up_others() {
        let pool = FairPool::new(2, 1, 8);
        let _held = pool.acquire(A).await.unwrap();
        let _waits = wait_in_line(&pool, A).await;
        assert!(pool.acquire(B).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn lines_are_bounded_for_each_and_for_all() {
        let pool = FairPool::new(1, 1, 4);
        let _held = pool.acquire(A).await.unwrap();
        let _one = wait_in_line(&pool, A).await;
        assert_eq!(pool.acquire(A).await.unwrap_err(), PoolFull::OfClient);
        let _two = wait_in_line(&pool, B).await;
        let _three = wait_in_line(&pool, C).await;
        let _four = wait_in_line(&pool, ClientId::Unknown).await;
        assert_eq!(pool.acquire(ClientId::Key(KeyId(4))).await.unwrap_err(), PoolFull::OfAll);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let pool = FairPool::new(1, 1, 8);
        let held = pool.acquire(A).await.unwrap();
        let gives_up = wait_in_line(&pool, B).await;
        let admitted_unseen = wait_in_line(&pool, C).await;
        drop(gives_up);
        assert_eq!(pool.in_line(), 1);
        drop(held);
        assert_eq!(pool.taken(), 1, "C is admitted, and does not know it yet");
        drop(admitted_unseen);
        assert_eq!((pool.taken(), pool.in_line()), (0, 0));
    }
}
