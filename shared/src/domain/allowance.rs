//! Allowances: what a key may use in a window of time, and where its limits come from. What is left of one is the business of the database and of
//! the processes that take from it.

use std::fmt;
use std::str::FromStr;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowance {
    /// Documents that were given, by UTC day.
    Documents,
    /// Requests that showed the key, by minute.
    Requests,
}

impl Allowance {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Documents, Self::Requests];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Requests => "requests",
        }
    }

    /// Length of its window in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::Documents => 86_400,
            Self::Requests => 60,
        }
    }

    /// When the window begins that an instant lies in; both in milliseconds since the epoch. Unix time has no leap seconds, so that days and
    /// minutes begin at multiples of their length.
    #[must_use]
    pub fn window(self, now_ms: i64) -> i64 {
        let length = self.seconds() * 1000;
        now_ms.div_euclid(length) * length
    }

    /// When the window ends that an instant lies in.
    #[must_use]
    pub fn window_end(self, now_ms: i64) -> i64 {
        self.window(now_ms) + self.seconds() * 1000
    }
}

/// One value for each allowance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits<T> {
    /// Documents a day.
    pub documents: T,
    /// Requests a minute.
    pub requests: T,
}

impl<T: Copy> Limits<T> {
    /// That of one allowance.
    #[must_use]
    pub fn of(&self, allowance: Allowance) -> T {
        match allowance {
            Allowance::Documents => self.documents,
            Allowance::Requests => self.requests,
        }
    }
}

/// A limit that a key may have of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OwnLimit {
    /// None: that of its role holds.
    #[default]
    AsRole,
    /// Unlimited, whatever its role has.
    Unlimited,
    /// So much in each window.
    AtMost(u64),
}

impl OwnLimit {
    /// What holds for a key whose role has `role`; `None` is unlimited.
    #[must_use]
    pub fn or(self, role: Option<u64>) -> Option<u64> {
        match self {
            Self::AsRole => role,
            Self::Unlimited => None,
            Self::AtMost(limit) => Some(limit),
        }
    }
}

impl fmt::Display for OwnLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsRole => f.write_str("role"),
            Self::Unlimited => f.write_str("unlimited"),
            Self::AtMost(limit) => write!(f, "{limit}"),
        }
    }
}

impl FromStr for OwnLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "role" => Ok(Self::AsRole),
            "unlimited" => Ok(Self::Unlimited),
            // The database keeps whole numbers of 63 bits.
            number => match number.parse::<u64>() {
                Ok(limit) if i64::try_from(limit).is_ok() => Ok(Self::AtMost(limit)),
                _ => Err(format!("{text:?} is no limit; say a whole number, unlimited, or role (what the role has)")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_midnight_and_at_full_minutes() {
        let last = 1_795_305_599_999; // 2026-11-21T23:59:59.999Z
        assert_eq!(Allowance::Documents.window(last), 1_795_219_200_000);
        assert_eq!(Allowance::Documents.window_end(last), last + 1);
        assert_eq!(Allowance::Documents.window(last + 1), last + 1);
        assert_eq!(Allowance::Requests.window(last), last + 1 - 60_000);
        assert_eq!(Allowance::Requests.window_end(last), last + 1);
        assert_eq!(Allowance::Requests.window(-1), -60_000);
    }

    #[test]
    fn limits_are_read_as_they_are_shown() {
        for limit in [OwnLimit::AsRole, OwnLimit::Unlimited, OwnLimit::AtMost(0), OwnLimit::AtMost(u64::MAX >> 1)] {
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for wrong in ["", "-1", "1.5", "none", "9223372036854775808"] {
            assert!(wrong.parse::<OwnLimit>().unwrap_err().contains("unlimited"), "{wrong}");
        }
        assert_eq!(OwnLimit::AsRole.or(Some(5)), Some(5));
        assert_eq!(OwnLimit::Unlimited.or(Some(5)), None);
        assert_eq!(OwnLimit::AtMost(7).or(None), Some(7));
    }
}
