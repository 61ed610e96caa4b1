//! The fuzz target of the API: headers and cursors that a stranger sends. See
//! `adit_shared::fuzzing`.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse as _;

use crate::accept::quality;
use crate::paging::{read_cursor, write_cursor};
use crate::serve::{Request, unless_known, wanted_range};

/// A check of one input.
type Check = fn(&[u8]);

/// The fuzz targets of this crate, by the names of their folders of seeds.
pub const TARGETS: [(&str, Check); 1] = [("http_headers", check_http_headers)];

const ETAG: &str = "\"5d41402abc4b2a76\"";

/// Reads the lines of an input as a length, `Range`, `If-Range`, `If-None-Match`, `Accept` and a
/// cursor.
pub fn check_http_headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let length = std::str::from_utf8(next()).ok().and_then(|length| length.parse().ok()).unwrap_or(10_u64);
    let mut headers = HeaderMap::new();
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::ACCEPT] {
        let line = next();
        if let Some(value) = HeaderValue::from_bytes(line).ok().filter(|_| !line.is_empty()) {
            headers.insert(name, value);
        }
    }
    check_range(&headers, length);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| {
        let text = value.to_str().unwrap_or_default();
        text.contains('*') || text.contains(ETAG)
    });
    assert!(known || unless_known(&headers, ETAG).is_none(), "304 for another tag");
    let quality = quality(&headers, header::ACCEPT, "text/plain");
    assert!((0.0..=1.0).contains(&quality), "quality {quality}");
    check_cursor(next());
}

/// The range that is sent lies in the content, and is that of a plain reading of RFC 9110, section
/// 14.1.2.
fn check_range(headers: &HeaderMap, length: u64) {
    let found = wanted_range(Request { method: &Method::GET, headers }, ETAG, length);
    let head = wanted_range(Request { method: &Method::HEAD, headers }, ETAG, length);
    assert!(matches!(head, Ok(None)), "a HEAD has no ranges");
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let holds = text(header::IF_RANGE).is_none_or(|tag| tag.is_empty() || tag == ETAG);
    let expected = text(header::RANGE).filter(|_| holds).and_then(|range| plain_range(range, length));
    match (found, expected) {
        (Ok(None), None) => {}
        (Ok(Some(range)), Some((first, last))) => {
            assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
            assert_eq!((u128::from(range.start), u128::from(range.end)), (first, last + 1));
        }
        (Err(problem), Some((first, last))) => {
            assert!(first > last || first >= u128::from(length), "{first} to {last} of {length} can be sent");
            assert_eq!(problem.into_response().status(), StatusCode::RANGE_NOT_SATISFIABLE);
        }
        (found, expected) => panic!("{found:?}, but plainly read it is {expected:?}"),
    }
}

/// The first and the last byte that a range asks of a content; where the first comes after the
/// last, or after the content, none can be sent.
fn plain_range(range: &str, length: u64) -> Option<(u128, u128)> {
    let number = |text: &str| {
        let digit =
            |number: u128, digit: char| Some((number * 10 + u128::from(digit.to_digit(10)?)).min(u64::MAX.into()));
        text.chars().try_fold(0, digit)
    };
    let length = u128::from(length);
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => match number(last)? {
            0 => Some((1, 0)),
            count if length == 0 => Some((count, 0)),
            count => Some((length.saturating_sub(count), length - 1)),
        },
        (false, true) => Some((number(first)?, length.saturating_sub(1))),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last.min(length.saturating_sub(1))))
        }
    }
}

/// A cursor is read only for the list that it was made for.
fn check_cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(position) = read_cursor::<(i64, String)>("list", text) {
        let again = read_cursor::<(i64, String)>("list", &write_cursor("list", &position));
        assert_eq!(again.ok(), Some(position.clone()));
        assert!(read_cursor::<(i64, String)>("list", &write_cursor("other", &position)).is_err());
    }
}

#[cfg(test)]
#[path = "../../fuzz/seeds.rs"]
mod seeds;
