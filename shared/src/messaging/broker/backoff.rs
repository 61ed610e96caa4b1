//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with jitter: 100 ms doubling to 10 s, each between half and the whole of it, so that processes
/// that lost the broker together do not come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) const LONGEST: Duration = Duration::from_secs(10);

    /// Draws the wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let whole = Duration::from_millis(100).saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_vanish() {
        let mut backoff = Backoff::default();
        for nominal in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000] {
            let wait = backoff.next_wait().as_millis();
            assert!((nominal / 2..=nominal).contains(&wait), "{wait} of {nominal}");
        }
    }
}
