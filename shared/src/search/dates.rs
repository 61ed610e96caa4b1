//! Partial dates: a year, a month, a day or an instant as a span of seconds.

use std::ops::Range;

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

const DAY: i64 = 24 * 60 * 60;

/// The seconds since 1970-01-01T00:00:00Z that `2018`, `2018-06`, `2018-06-30` (UTC) or an RFC 3339 date-time covers;
/// `None` for anything else.
pub(super) fn span(text: &str) -> Option<Range<i64>> {
    if text.len() > 10 {
        let start = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
        return Some(start..start + 1);
    }
    let (year, rest) = number(text, 4)?;
    if rest.is_empty() {
        return Some(midnight(year, 1, 1)?..midnight(year, 12, 31)? + DAY);
    }
    let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
    if rest.is_empty() {
        let last = Month::try_from(u8::try_from(month).ok()?).ok()?.length(year);
        return Some(midnight(year, month, 1)?..midnight(year, month, i32::from(last))? + DAY);
    }
    let (day, rest) = number(rest.strip_prefix('-')?, 2)?;
    let start = midnight(year, month, day)?;
    rest.is_empty().then_some(start..start + DAY)
}

/// The year (UTC) of a second since 1970-01-01T00:00:00Z, in four digits.
pub(super) fn year(second: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(second).ok().map(|date| format!("{:04}", date.year()))
}

fn number(text: &str, digits: usize) -> Option<(i32, &str)> {
    let (head, rest) = text.split_at_checked(digits)?;
    head.bytes().all(|byte| byte.is_ascii_digit()).then_some((head.parse().ok()?, rest))
}

fn midnight(year: i32, month: i32, day: i32) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_partial_date_covers_all_that_it_leaves_open() {
        let day = |text| span(text).unwrap();
        assert_eq!(day("1970"), 0..365 * DAY);
        assert_eq!(day("2020-02"), day("2020-02-01").start..day("2020-02-29").end);
        assert_eq!(day("2020"), day("2020-01-01").start..day("2020-12-31").end);
        assert_eq!(day("1970-01-02T00:00:00+01:00"), DAY - 3600..DAY - 3599);
        assert_eq!(day("1605").end, day("1606").start);
        assert_eq!(day("9999").end, day("9999-12-31").end);
        for bad in
            ["", "18", "2018-", "2018-13", "2018-02-30", "2018-2", "2018/01", "+2018", "1. Mai", "20180101", "２０１８"]
        {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,30}|[0-9TZ:+.-]{0,30}") {
            if let Some(span) = span(&text) {
                prop_assert!(span.start < span.end);
                if let Some(year) = year(span.start) {
                    prop_assert!(super::span(&year).is_none_or(|year| year.contains(&span.start)));
                }
            }
        }
    }
}
