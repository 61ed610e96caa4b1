//! The `Content-Disposition` header of a download: how a browser learns the name to save it under.

use std::fmt::Write as _;

/// The value of `Content-Disposition` that saves a download as `file_name` (RFC 6266): ASCII alone, with the name in UTF-8
/// (RFC 8187) beside a plain one where the plain one cannot say it. Slashes and control characters become `_`.
#[must_use]
pub fn content_disposition(file_name: &str) -> String {
    let name: String = file_name.chars().map(|c| if c.is_control() || "/\\".contains(c) { '_' } else { c }).collect();
    // Browsers disagree on backslash escapes and on `%` in the plain form (RFC 6266, appendix D): it avoids both.
    let plain: String = name.chars().map(|c| if c.is_ascii() && !"\"%".contains(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(value, "%{byte:02X}");
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_quoted_and_others_said_twice() {
        assert_eq!(content_disposition("docset 5.zip"), "attachment; filename=\"docset 5.zip\"");
        assert_eq!(
            content_disposition("Bücher \"neu\" 100%.zip"),
            "attachment; filename=\"B_cher _neu_ 100_.zip\"; filename*=UTF-8''B%C3%BCcher%20%22neu%22%20100%25.zip"
        );
        assert_eq!(content_disposition("../a\\b\r\nX: y"), "attachment; filename=\".._a_b__X: y\"");
    }

    proptest! {
        #[test]
        fn any_name_makes_one_safe_header(name in ".{0,40}") {
            let value = content_disposition(&name);
            prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(value.matches('"').count(), 2);
            if let Some((_, encoded)) = value.split_once("UTF-8''") {
                // A form decoder reads the same `%XX`, once the two signs are escaped that mean something to it.
                let form = format!("n={}", encoded.replace('+', "%2B").replace('&', "%26"));
                let decoded = url::form_urlencoded::parse(form.as_bytes()).next().unwrap().1.into_owned();
                prop_assert_eq!(decoded.chars().count(), name.chars().count());
                prop_assert!(decoded.chars().zip(name.chars()).all(|(a, b)| a == b || a == '_'));
            }
        }
    }
}
