//! When a key is to expire, as operators say it.

use std::str::FromStr;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::config::parse_duration;

/// When a key is to expire: `90d` from now, `2027-01-31` (as that day begins, UTC),
/// `2027-01-31T18:00:00Z`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Not at all.
    Never,
    /// So long from now on.
    After(Duration),
    /// At that instant, in milliseconds since the epoch.
    At(i64),
}

impl Expiry {
    /// Finds the instant that is meant at `now`, both in milliseconds since the epoch; `None`:
    /// never.
    ///
    /// # Errors
    /// An instant that has passed.
    pub fn instant(self, now: i64) -> Result<Option<i64>, String> {
        match self {
            Self::Never => Ok(None),
            Self::After(duration) => {
                Ok(Some(now.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))))
            }
            Self::At(instant) if instant > now => Ok(Some(instant)),
            Self::At(_) => Err("a key cannot expire in the past; `adit keys revoke` ends it now".to_owned()),
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let milliseconds = |instant: OffsetDateTime| i64::try_from(instant.unix_timestamp_nanos() / 1_000_000);
        if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
            return milliseconds(day.midnight().assume_utc()).map(Self::At).map_err(|error| error.to_string());
        }
        if let Ok(instant) = OffsetDateTime::parse(text, &Rfc3339) {
            return milliseconds(instant).map(Self::At).map_err(|error| error.to_string());
        }
        // A bare number would be seconds.
        let duration = Some(text).filter(|text| text.ends_with(|c: char| c.is_ascii_lowercase()));
        duration.and_then(|text| parse_duration(text).ok()).map(Self::After).ok_or_else(|| {
            format!(
                "{text:?} is no expiry; say 90d, 12h, a day such as 2027-01-31 (UTC), an instant (RFC 3339), or never"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_302_000_123; // 2026-11-21T23:00:00.123Z

    #[test]
    fn an_expiry_is_a_length_of_time_a_day_an_instant_or_never() {
        let instant = |text: &str| text.parse::<Expiry>().unwrap().instant(NOW);
        assert_eq!(instant("90d"), Ok(Some(NOW + 90 * 86_400_000)));
        assert_eq!(instant("12h"), Ok(Some(NOW + 12 * 3_600_000)));
        assert_eq!(instant("2026-11-22"), Ok(Some(1_795_305_600_000)));
        assert_eq!(instant("2026-11-22T01:00:00+01:00"), Ok(Some(1_795_305_600_000)));
        assert_eq!(instant("never"), Ok(None));
        for past in ["2026-11-21", "2026-11-21T23:00:00.123Z", "1999-12-31"] {
            assert!(instant(past).unwrap_err().contains("in the past"), "{past}");
        }
        assert_eq!(instant("2026-11-21T23:00:00.124Z"), Ok(Some(NOW + 1)));
        for wrong in ["", "90", "90 days", "d", "0d", "-1d", "2026-02-30", "31.1.2027", "Never"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }
}
