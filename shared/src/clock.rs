//! Time as a dependency: code that needs "now" is handed a [`Clock`], so that tests move time instead of sleeping.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// How far apart the clocks of two machines may be, or one clock before and after it was set, in
/// milliseconds. What lies further ahead was written by a clock that was wrong.
pub const ALLOWED_SKEW_MS: i64 = 60_000;

/// Tells whether a lease of `length_ms` that ends at `until` keeps others out at `now`. One that
/// ends further ahead than its length and the allowed skew is void: the clock that wrote it was
/// wrong, and it would keep others out for as long as that clock was ahead.
#[must_use]
pub fn is_lease_valid(until: i64, now: i64, length_ms: i64) -> bool {
    until > now && until <= latest_end(now, length_ms)
}

/// Gives the latest end, in milliseconds since the epoch, that a lease of that length can have.
#[must_use]
pub fn latest_end(now: i64, length_ms: i64) -> i64 {
    now.saturating_add(length_ms).saturating_add(ALLOWED_SKEW_MS)
}

/// Tells whether an instant that was noted as past can be so: not one from a clock that was ahead.
#[must_use]
pub fn is_past(at: i64, now: i64) -> bool {
    at <= latest_end(now, 0)
}

/// The clock of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // A clock set before 1970 reads as 0: everything then counts as expired, which is visible and harmless.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved by hand.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `ms` milliseconds since the epoch.
    #[must_use]
    pub fn at(ms: i64) -> Self {
        Self(AtomicI64::new(ms))
    }

    /// Moves the clock forward by `ms` milliseconds.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// An instant as the API shows it: RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(FORMAT).ok())
        .unwrap_or_else(|| format!("{ms}ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_302_000_123), "2026-11-21T23:00:00.123Z");
    }

    #[test]
    fn a_lease_that_ends_further_ahead_than_it_can_is_void() {
        let (now, length) = (1_000_000, 30_000);
        for (until, valid) in [
            (now, false),
            (now + 1, true),
            (now + length + ALLOWED_SKEW_MS, true),
            (now + length + ALLOWED_SKEW_MS + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(is_lease_valid(until, now, length), valid, "{until}");
        }
        assert!(is_past(now + ALLOWED_SKEW_MS, now) && !is_past(now + ALLOWED_SKEW_MS + 1, now));
        assert_eq!(latest_end(i64::MAX, 1), i64::MAX);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(5);
        assert_eq!((clock.now_ms(), clock.now_ms()), (5, 5));
        clock.advance(10);
        assert_eq!(clock.now_ms(), 15);
    }
}
