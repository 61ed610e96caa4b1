//! Content negotiation: how much a client wants one of several forms (RFC 9110, section 12.4.2 and following).

use axum::http::{HeaderMap, HeaderName};

/// The quality, 0 to 1, that the header gives to `value`: that of the most specific entry that fits. Without the header everything
/// is as welcome as anything.
#[must_use]
pub fn quality(headers: &HeaderMap, name: HeaderName, value: &str) -> f32 {
    preference(headers, name, value).0
}

/// The quality, and how specific the entry is that gives it: 2 for one that names the value, 1 for its kind, 0 for anything. Of two values
/// of one quality the one that is named is meant: many clients add `*/*` to what they want.
#[must_use]
pub fn preference(headers: &HeaderMap, name: HeaderName, value: &str) -> (f32, u8) {
    let mut best: Option<(u8, f32)> = None;
    let mut named = false;
    for entry in headers.get_all(name).iter().filter_map(|header| header.to_str().ok()).flat_map(|text| text.split(','))
    {
        named = true;
        let mut pieces = entry.split(';').map(str::trim);
        let range = pieces.next().unwrap_or_default();
        let quality = pieces.find_map(|piece| piece.strip_prefix("q=")).map_or(1.0, weight);
        let Some(fit) = fit(range, value) else { continue };
        if best.is_none_or(|(known, _)| fit > known) {
            best = Some((fit, quality));
        }
    }
    best.map_or((if named { 0.0 } else { 1.0 }, 0), |(fit, quality)| (quality, fit))
}

/// Reads a weight, 0 to 1 (RFC 9110, section 12.4.2); what is none counts as 0.
fn weight(text: &str) -> f32 {
    text.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0)
}

/// How specific an entry is that fits the value: 2 for its name, 1 for its kind, 0 for anything.
fn fit(range: &str, value: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(value) {
        return Some(2);
    }
    match range.strip_suffix("/*") {
        _ if range == "*" || range == "*/*" => Some(0),
        Some(kind) => value.split_once('/').filter(|(own, _)| own.eq_ignore_ascii_case(kind)).map(|_| 1),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    fn accept(text: &'static str, value: &str) -> f32 {
        quality(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(text))]), header::ACCEPT, value)
    }

    #[test]
    fn the_most_specific_entry_counts() {
        assert_eq!(accept("text/plain, application/pdf;q=0", "application/pdf"), 0.0);
        assert_eq!(accept("*/*;q=0.1, text/*;q=0.5, text/plain", "text/plain"), 1.0);
        assert_eq!(accept("*/*;q=0.1, text/*;q=0.5, text/plain", "text/html"), 0.5);
        assert_eq!(accept("*/*;q=0.1, text/*;q=0.5, text/plain", "application/pdf"), 0.1);
        assert_eq!(accept("application/*", "application/pdf"), 1.0);
        assert_eq!(accept("image/png", "application/pdf"), 0.0);
        for none in ["image/png;q=2", "image/png;q=-1", "image/png;q=nan", "image/png;q=inf"] {
            assert_eq!(accept(none, "image/png"), 0.0, "{none}");
        }
        assert_eq!(quality(&HeaderMap::new(), header::ACCEPT, "text/plain"), 1.0);
    }
}
