//! CSV (RFC 4180) that people open in spreadsheets: the one place where cells are written.
//!
//! A spreadsheet takes a cell that begins with certain characters for a formula, which may fetch
//! and send things. An apostrophe before such text makes it a text (OWASP, "CSV Injection").
//! Numbers stay numbers. Programs that need every text as it is read NDJSON.

use std::borrow::Cow;

/// Characters that begin a formula in some spreadsheet, and control characters that are skipped
/// before one.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
/// Characters behind which a spreadsheet that divides cells in another way begins one: semicolons
/// and tabs are separators in some countries' settings, and then quotes do not protect what they
/// were written around.
const DIVIDERS: [char; 4] = [';', '\t', '\r', '\n'];

/// Gives a text that no spreadsheet takes for a formula, at its beginning or behind a divider
/// within; numbers and most texts are given as they are.
#[must_use]
pub fn neutral_cell(text: &str) -> Cow<'_, str> {
    if is_number(text) || !text.contains(FORMULA) {
        return Cow::Borrowed(text);
    }
    let mut cell = String::with_capacity(text.len() + 1);
    let mut begins = true;
    for c in text.chars() {
        // Within a text, a line end is a divider and nothing more.
        if begins && FORMULA.contains(&c) && (cell.is_empty() || !DIVIDERS.contains(&c)) {
            cell.push('\'');
        }
        // Quotes and blanks before a formula are dropped by readers that are lenient.
        begins = DIVIDERS.contains(&c) || begins && matches!(c, '"' | ' ');
        cell.push(c);
    }
    Cow::Owned(cell)
}

/// Tells whether a text is a plain decimal number, such as `-5` or `+1.5e-3`.
fn is_number(text: &str) -> bool {
    let begins = text.strip_prefix(['+', '-']).unwrap_or(text).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    begins && plain && text.parse::<f64>().is_ok()
}

/// Writes rows of CSV with CRLF line ends; every cell passes [`neutral_cell`].
#[derive(Debug)]
pub struct CsvRows(csv::Writer<Vec<u8>>);

impl Default for CsvRows {
    fn default() -> Self {
        Self(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).flexible(true).from_writer(Vec::new()))
    }
}

impl CsvRows {
    /// Adds a row.
    ///
    /// # Errors
    /// None that writing into memory gives rise to.
    pub fn push<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) -> Result<(), csv::Error> {
        for cell in cells {
            self.0.write_field(neutral_cell(cell).as_bytes())?;
        }
        self.0.write_record(None::<&[u8]>)
    }

    /// Gives all rows.
    ///
    /// # Errors
    /// None that writing into memory gives rise to.
    pub fn into_bytes(self) -> Result<Vec<u8>, csv::Error> {
        self.0.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_formula_becomes_a_text_and_a_number_stays_one() {
        for (text, cell) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t'=1"),
            (" =1", " '=1"),
            ("\"=1\"", "\"'=1\""),
            ("gold;=1+1", "gold;'=1+1"),
            ("gold; =1", "gold; '=1"),
            ("gold\r\n@x", "gold\r\n'@x"),
            ("＝1", "'＝1"),
            ("-", "'-"),
            ("+", "'+"),
        ] {
            assert_eq!(neutral_cell(text), cell, "{text:?}");
        }
        for same in ["-5", "+1.5e-3", "-.5", "", "a=b", "1-2", "a-b", "x; y", "a\r\n\nb", "https://l/a=b"] {
            assert_eq!(neutral_cell(same), same);
        }
    }

    #[test]
    fn rows_are_written_as_rfc_4180_has_them() {
        let mut rows = CsvRows::default();
        rows.push(["=a", "b,\"c\"", "-1"]).unwrap();
        rows.push(["", "", ""]).unwrap();
        assert_eq!(String::from_utf8(rows.into_bytes().unwrap()).unwrap(), "'=a,\"b,\"\"c\"\"\",-1\r\n,,\r\n");
    }

    proptest! {
        #[test]
        fn no_cell_begins_a_formula(text in "[-=+@;\"' \t\na1]{0,8}") {
            let cell = neutral_cell(&text);
            for piece in cell.split(DIVIDERS) {
                let formula = piece.trim_start_matches(['"', ' ']).starts_with(['=', '+', '-', '@']);
                prop_assert!(!formula || is_number(&cell), "{text:?} {cell:?}");
            }
            prop_assert_eq!(cell.replace('\'', ""), text.replace('\'', ""));
        }
    }
}
