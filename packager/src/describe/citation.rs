//! `CITATION.cff`: how to cite the package (Citation File Format 1.2.0).

use super::licence::Licence;
use super::{Description, collection_url};

pub(super) fn text(of: &Description) -> String {
    let mut out = String::from("cff-version: 1.2.0\n");
    let mut put = |key: &str, value: &str| out.push_str(&format!("{key}: {}\n", quoted(value)));
    put("message", "If you use this dataset, please cite it as below.");
    put("type", "dataset");
    put("title", &of.title());
    put("abstract", &of.abstract_text());
    // The format wants an author, and a collection does not name its own: the collection stands in.
    put("authors:\n  - name", &of.about.name);
    put("version", &of.version());
    put("date-released", &of.about.date);
    put("url", &collection_url(&of.about));
    match Licence::of(of.about.license.as_deref()) {
        Licence::Uri { spdx: Some(id), .. } => put("license", &id),
        Licence::Uri { uri, .. } => put("license-url", &uri),
        Licence::Words(_) | Licence::Unknown => {}
    }
    out.push_str("identifiers:\n");
    for (value, description) in [
        (of.docset, "Fingerprint (SHA-256) of the docset: the selection of document versions"),
        (of.package, "Fingerprint (SHA-256) of the package: the docset with its formats and layout"),
    ] {
        let description = quoted(description);
        out.push_str(&format!("  - type: other\n    value: \"{value}\"\n    description: {description}\n"));
    }
    out
}

/// A YAML scalar in double quotes (YAML 1.2.2, 7.3.1) that readers of YAML 1.1 take too.
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // Not printable in YAML, or the end of a line in YAML 1.1.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            // The last two of every plane are no characters, which some readers refuse.
            c if u32::from(c) & 0xfffe == 0xfffe => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back(value in any::<String>()) {
            let read: String = yaml_serde::from_str(&quoted(&value)).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
