//! Foreign text on terminals and in logs. Titles, names, refs, queries, file names and servers'
//! messages come from anywhere; written as they are, they could move the cursor, set a window's
//! title, hide or reorder what stands beside them.
//!
//! [`Printable`] writes such characters as visible escapes; [`JsonPrintable`] does the same to JSON
//! and leaves its values as they are. The zero-width joiner and non-joiner stay: Persian, Indic
//! scripts and emoji need them.

use std::fmt::{self, Write as _};

/// Foreign text that is about to be shown to a person: control characters (C0, DEL, C1),
/// bidirectional controls and invisible characters become escapes such as `\n` or `\u{1b}`. Widths
/// and alignment of a format string hold for what is shown.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a> {
    text: &'a str,
    keep: &'static [char],
}

impl<'a> Printable<'a> {
    /// Shows text in one line: line ends and tabs are escaped, too.
    #[must_use]
    pub const fn line(text: &'a str) -> Self {
        Self { text, keep: &[] }
    }

    /// Shows text of several lines: `\n` and `\t` stay as they are.
    #[must_use]
    pub const fn lines(text: &'a str) -> Self {
        Self { text, keep: &['\n', '\t'] }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |c: char| steers(c) && !self.keep.contains(&c);
        if !self.text.contains(escaped) {
            return f.pad(self.text);
        }
        let mut shown = String::with_capacity(self.text.len() + 16);
        for c in self.text.chars() {
            if escaped(c) { shown.extend(escape(c)) } else { shown.push(c) }
        }
        f.pad(&shown)
    }
}

/// JSON text that is about to be printed. Serialisers escape C0 alone; here the other characters of
/// [`steers`] become `\uXXXX`, which every reader takes for the same values. Line ends between
/// values stay.
#[derive(Debug, Clone, Copy)]
pub struct JsonPrintable<'a>(pub &'a str);

impl fmt::Display for JsonPrintable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if !steers(c) || matches!(c, '\n' | '\r' | '\t') {
                f.write_char(c)?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(f, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

fn escape(c: char) -> impl Iterator<Item = char> {
    // The standard library's debug form of a character: `\n`, `\t`, `\r`, `\0`, or `\u{…}`.
    let short = matches!(c, '\n' | '\r' | '\t').then(|| c.escape_default());
    let long = if short.is_none() { Some(c.escape_unicode()) } else { None };
    short.into_iter().flatten().chain(long.into_iter().flatten())
}

/// Tells whether a character steers a terminal or a reader's eye instead of being seen: control
/// characters, bidirectional controls (UAX #9), invisible separators, fillers, annotation marks and
/// tag characters.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_done() {
        let title = "\x1b]0;owned\x07A\r\n\u{9b}31mB\u{202e}C\u{7f}\u{200b}";
        let shown = r"\u{1b}]0;owned\u{7}A\r\n\u{9b}31mB\u{202e}C\u{7f}\u{200b}";
        assert_eq!(Printable::line(title).to_string(), shown);
        assert_eq!(Printable::lines("a\n\tb\x1b[2J").to_string(), "a\n\tb\\u{1b}[2J");
        assert_eq!(format!("[{:6}]", Printable::line("a\x07")), r"[a\u{7}]");
        assert_eq!(format!("[{:4}]", Printable::line("é")), "[é   ]");
        for plain in ["Über 日本語 (a\\b)", "می\u{200c}خواهم", "👩\u{200d}🔬", ""] {
            assert_eq!(Printable::line(plain).to_string(), plain);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_printed_and_json_keeps_its_value(text: String) {
            prop_assert!(!Printable::line(&text).to_string().contains(steers));
            let json = serde_json::to_string(&text).unwrap();
            let printed = JsonPrintable(&json).to_string();
            prop_assert!(!printed.contains(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
        }
    }

    #[test]
    fn json_of_a_foreign_server_is_escaped_with_surrogates_where_they_are_needed() {
        let text = "\"\u{9b}\u{e0041}\x1b\"";
        assert_eq!(JsonPrintable(text).to_string(), r#""\u009b\udb40\udc41\u001b""#);
    }
}
