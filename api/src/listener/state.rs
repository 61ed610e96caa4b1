//! What one connection waits for, since when, and when its client is overdue.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_shared::config::HttpConfig;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Fewest bytes a second that a client may send of a body, or take of an answer, for longer than
/// the stall time-out. Whoever is slower holds a place for nothing: a text of 1 MB would take four
/// minutes.
pub(super) const SLOWEST_RATE: u32 = 4096;
/// Far enough to be no deadline.
const NEVER: Duration = Duration::from_hours(24);

/// Time that a client may keep us waiting: it is used up while we wait, and comes back with the
/// bytes that arrive, so that in the long run they must arrive at [`SLOWEST_RATE`].
#[derive(Debug)]
pub(super) struct StallBudget {
    full: Duration,
    left: Duration,
    waiting_since: Option<Instant>,
}

impl StallBudget {
    pub(super) fn new(full: Duration) -> Self {
        Self { full, left: full, waiting_since: None }
    }

    /// Begins to wait, or goes on waiting.
    pub(super) fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// Counts bytes that came or went.
    pub(super) fn progress(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(now - since);
        }
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(SLOWEST_RATE));
        self.left = (self.left + earned).min(self.full);
    }

    /// When the client is overdue; `None` while we do not wait for it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.left)
    }
}

/// Where a connection stands between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of a first request has come.
    Silent,
    /// A head has begun to arrive.
    Head,
    /// A request is being answered.
    Busy,
    /// All was answered; another request may come.
    Idle,
}

#[derive(Debug)]
struct Standing {
    phase: Phase,
    since: Instant,
    writing: StallBudget,
}

/// State of one connection.
#[derive(Debug)]
pub(super) struct ConnectionState {
    header_timeout: Duration,
    idle_timeout: Duration,
    standing: Mutex<Standing>,
    evict: Notify,
}

impl ConnectionState {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let standing =
            Standing { phase: Phase::Silent, since: Instant::now(), writing: StallBudget::new(config.stall_timeout) };
        Self {
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            standing: Mutex::new(standing),
            evict: Notify::new(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Nobody panics while it is held.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of bytes of a head. Of a first request, the time counts from the connection on.
    pub(super) fn head_begun(&self) {
        let mut standing = self.standing();
        match standing.phase {
            Phase::Silent => standing.phase = Phase::Head,
            Phase::Idle => (standing.phase, standing.since) = (Phase::Head, Instant::now()),
            Phase::Head | Phase::Busy => {}
        }
    }

    /// Takes note of a whole head.
    pub(super) fn request_begun(&self) {
        let mut standing = self.standing();
        (standing.phase, standing.since) = (Phase::Busy, Instant::now());
    }

    /// Takes note that an answer is handed over to its end.
    pub(super) fn request_ended(&self) {
        let mut standing = self.standing();
        (standing.phase, standing.since) = (Phase::Idle, Instant::now());
    }

    /// Takes note that the client takes no more for now.
    pub(super) fn write_stalled(&self) {
        self.standing().writing.wait(Instant::now());
    }

    /// Takes note of bytes that the client's side has taken.
    pub(super) fn written(&self, bytes: usize) {
        self.standing().writing.progress(Instant::now(), bytes);
    }

    /// When the client is overdue, as things stand.
    pub(super) fn deadline(&self) -> Instant {
        let standing = self.standing();
        let phase = match standing.phase {
            Phase::Silent | Phase::Head => standing.since + self.header_timeout,
            Phase::Idle => standing.since + self.idle_timeout,
            Phase::Busy => Instant::now() + NEVER,
        };
        standing.writing.deadline().map_or(phase, |writing| writing.min(phase))
    }

    /// Since when the connection does nothing for its client; `None` while a request is being
    /// answered.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let standing = self.standing();
        (standing.phase != Phase::Busy).then_some(standing.since)
    }

    /// Tells the connection to end.
    pub(super) fn evict(&self) {
        self.evict.notify_one();
    }

    /// Waits until the connection is told to end.
    pub(super) async fn evicted(&self) {
        self.evict.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_slow_reader_goes_on_and_a_slower_one_is_overdue_in_the_end() {
        let begin = Instant::now();
        let overdue_after = |bytes_a_step: usize, step: Duration| {
            let mut budget = StallBudget::new(Duration::from_secs(30));
            let mut now = begin;
            for steps in 0..10_000 {
                budget.wait(now);
                now += step;
                if budget.deadline().unwrap() <= now {
                    return Some(steps);
                }
                budget.progress(now, bytes_a_step);
            }
            None
        };
        assert_eq!(overdue_after(64 * 1024, Duration::from_secs(15)), None);
        assert_eq!(overdue_after(5000, Duration::from_secs(1)), None);
        // 3,000 bytes a second: a quarter of a second is lost each time.
        let steps = overdue_after(3000, Duration::from_secs(1)).unwrap();
        assert!((100..130).contains(&steps), "{steps}");
        assert_eq!(overdue_after(1, Duration::from_secs(31)), Some(0));
    }

    #[test]
    fn time_of_our_own_does_not_count_against_the_client() {
        let begin = Instant::now();
        let mut budget = StallBudget::new(Duration::from_secs(30));
        budget.progress(begin, 10);
        assert_eq!(budget.deadline(), None);
        budget.wait(begin + Duration::from_secs(500));
        assert_eq!(budget.deadline(), Some(begin + Duration::from_secs(530)));
    }
}
