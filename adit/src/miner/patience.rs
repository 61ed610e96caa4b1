//! How long the miner's verbs wait trouble out that may pass: a server that starts again, a network that is away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long things may go wrong without anything that goes right.
const LIMIT: Duration = Duration::from_secs(120);
/// Wait after the first failure; it doubles with every other one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait of our own; a server may ask for more.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is left of it may be shared by several transfers: what goes right with one gives hope to all.
#[derive(Debug, Default)]
pub(crate) struct Patience(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the first of the failures was that nothing good has come after, and how many there have been.
    trouble: Option<(Instant, u32)>,
    over: bool,
}

impl Patience {
    /// Something went right.
    pub(crate) fn renew(&self) {
        *self.state() = State::default();
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    /// There is no hope: nothing is tried any more.
    pub(crate) fn end(&self) {
        self.state().over = true;
    }

    /// Waits after a failure, for as long as the server asked (`Retry-After`) if it did. Gives `false`, at once, when patience is over.
    pub(crate) async fn wait(&self, asked: Option<Duration>) -> bool {
        let Some(wait) = self.next_wait(Instant::now(), asked) else { return false };
        tokio::time::sleep(wait).await;
        true
    }

    fn next_wait(&self, now: Instant, asked: Option<Duration>) -> Option<Duration> {
        let mut state = self.state();
        let (since, failures) = state.trouble.unwrap_or((now, 0));
        let own = FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
        // Even a server that does not mind is not asked without any pause.
        let wait = asked.map_or(own, |asked| asked.max(FIRST_WAIT));
        state.trouble = Some((since, failures.saturating_add(1)));
        state.over |= now.duration_since(since).saturating_add(wait) > LIMIT;
        (!state.over).then_some(wait)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave half a change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_until_patience_is_over() {
        let (patience, began) = (Patience::default(), Instant::now());
        let (mut now, mut waits) = (began, Vec::new());
        while let Some(wait) = patience.next_wait(now, None) {
            now += wait;
            waits.push(wait);
        }
        assert_eq!(waits[..4], [200, 400, 800, 1600].map(Duration::from_millis));
        assert_eq!(waits.last(), Some(&LONGEST_WAIT));
        assert!(now - began <= LIMIT && now - began > LIMIT - LONGEST_WAIT);
        assert!(patience.is_over());
        patience.renew();
        assert_eq!(patience.next_wait(now, None), Some(FIRST_WAIT));
    }

    #[test]
    fn a_server_says_how_long_but_not_for_ever() {
        let (patience, now) = (Patience::default(), Instant::now());
        assert_eq!(patience.next_wait(now, Some(60 * SECOND)), Some(60 * SECOND));
        assert_eq!(patience.next_wait(now, Some(Duration::ZERO)), Some(FIRST_WAIT));
        assert_eq!(patience.next_wait(now + 61 * SECOND, Some(60 * SECOND)), None);
        assert!(patience.is_over());
        for absurd in [1_000_000_000 * SECOND, Duration::MAX] {
            let patience = Patience::default();
            assert_eq!(patience.next_wait(now, Some(absurd)), None);
            assert!(patience.is_over(), "nobody waits for that, and nothing overflows");
        }
    }
}
