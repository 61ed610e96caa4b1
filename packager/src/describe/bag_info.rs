//! `bag-info.txt`: the bag's metadata (RFC 8493, 2.2.2).
//!
//! There is no `Bagging-Date`: nothing in a package depends on when it was made.

use super::{Description, collection_url};

/// Longest line that the RFC recommends, in characters.
const WIDTH: usize = 79;

pub(super) fn text(of: &Description) -> String {
    let mut out = String::new();
    field(&mut out, "Bag-Software-Agent", "Adit");
    field(&mut out, "External-Description", &of.abstract_text());
    field(&mut out, "External-Identifier", &of.docset.to_string());
    field(&mut out, "Bag-Group-Identifier", &collection_url(&of.about));
    field(&mut out, "Internal-Sender-Identifier", &of.package.to_string());
    field(&mut out, "Internal-Sender-Description", &format!("Layout {}, version {}", of.layout, of.version()));
    field(&mut out, "Payload-Oxum", &format!("{}.{}", of.payload.bytes, of.payload.files));
    out
}

/// Adds a field, folded between words where its line would be too long. All white space of the value becomes single spaces.
fn field(out: &mut String, label: &str, value: &str) {
    out.push_str(label);
    out.push(':');
    let mut column = label.len() + 1;
    // Readers take more characters for ends of lines than the RFC does (Python's `splitlines` all of the controls and U+2028).
    for word in value.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if column + 1 + width > WIDTH && column > label.len() + 1 {
            out.push_str("\n ");
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 8493 reads it: a line that begins with white space continues the one before.
    fn parse(text: &str) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut().unwrap();
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (label, value) = line.split_once(':').unwrap();
                fields.push((label.to_owned(), value.trim().to_owned()));
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn any_value_is_one_field(value in any::<String>(), next in "[a-z]{1,90}( [a-z]{1,90}){0,4}") {
            let mut out = String::new();
            field(&mut out, "External-Description", &value);
            field(&mut out, "Bag-Group-Identifier", &next);
            let one = value.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
            let one = one.collect::<Vec<_>>().join(" ");
            let expected =
                vec![("External-Description".to_owned(), one), ("Bag-Group-Identifier".to_owned(), next)];
            prop_assert_eq!(parse(&out), expected);
        }
    }
}
