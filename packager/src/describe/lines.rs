//! The lines of the lists that grow with a package's files: rights, omitted members, files to fetch, tombstones.
//!
//! Each is written for itself, so that a list of a million lines need not be held in memory.

use adit_shared::domain::{Access, Omission};
use adit_shared::ids::VersionId;
use adit_shared::spreadsheet::neutral_cell;
use bytes::BufMut;
use serde::Serialize;

/// First line of the list of rights (RFC 4180, 2.3); with access levels where it is `marked`.
pub(crate) fn rights_header(marked: bool) -> &'static str {
    if marked { "path,license,access\r\n" } else { "path,license\r\n" }
}

/// Writes a file's line of the list of rights (RFC 4180): the document's licence, else the
/// collection's, else nothing; and in a list with access levels, the file's. A licence that a
/// spreadsheet would take for a formula is neutralised; the path is written as it is, since it
/// begins with `data/` and is a key for programs.
pub(crate) fn write_rights(out: &mut impl BufMut, path: &str, license: Option<&str>, access: Option<&Access>) {
    write_csv(out, path);
    out.put_u8(b',');
    write_csv(out, &neutral_cell(license.unwrap_or_default()));
    if let Some(access) = access {
        // No access level has a character that CSV minds.
        out.put_slice(format!(",{access}").as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn must_quote(field: &str) -> bool {
    field.contains([',', '"', '\r', '\n']) || field.starts_with(' ') || field.ends_with(' ')
}

fn write_csv(out: &mut impl BufMut, field: &str) {
    if !must_quote(field) {
        return out.put_slice(field.as_bytes());
    }
    out.put_u8(b'"');
    for (i, part) in field.split('"').enumerate() {
        if i > 0 {
            out.put_slice(b"\"\"");
        }
        out.put_slice(part.as_bytes());
    }
    out.put_u8(b'"');
}

/// The line of `omitted.jsonl` for a member without files, with the reason where members were withheld.
///
/// # Errors
/// None that these types give rise to.
pub(crate) fn omitted(id: VersionId, r#ref: &str, reason: Option<Omission>) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Omitted<'a> {
        id: VersionId,
        r#ref: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Omission>,
    }
    crate::manifest::line(&Omitted { id, r#ref, reason })
}

/// The line of `tombstones.jsonl` for a file that the base has and the whole bag has not.
///
/// # Errors
/// None that these types give rise to.
pub(crate) fn tombstone(path: &str) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Tombstone<'a> {
        path: &'a str,
    }
    crate::manifest::line(&Tombstone { path })
}

/// Writes a file's line of `fetch.txt` (RFC 8493, 2.2.3). The URL must have no white space, as none has that was parsed.
pub(crate) fn write_fetch(out: &mut impl BufMut, url: &str, size: u64, path: &str) {
    out.put_slice(format!("{url} {size} ").as_bytes());
    // The RFC has these three encoded in a path, and no others.
    for c in path.chars() {
        match c {
            '%' => out.put_slice(b"%25"),
            '\r' => out.put_slice(b"%0D"),
            '\n' => out.put_slice(b"%0A"),
            c => out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_have_these_shapes() {
        let mut out = rights_header(false).as_bytes().to_vec();
        write_rights(&mut out, "data/a.txt", Some("https://creativecommons.org/licenses/by/4.0/"), None);
        write_rights(&mut out, "data/b, c.txt", Some("so \"they\" say"), None);
        write_rights(&mut out, "data/d.txt", None, None);
        write_rights(&mut out, "data/e.txt", Some("=HYPERLINK(A1)"), None);
        out.extend(rights_header(true).as_bytes());
        write_rights(&mut out, "data/a.txt", None, Some(&"restricted:press".parse().unwrap()));
        write_rights(&mut out, "data/a.json", Some("https://l"), Some(&Access::Open));
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace('\r', "␍"), @r#"
        path,license␍
        data/a.txt,https://creativecommons.org/licenses/by/4.0/␍
        "data/b, c.txt","so ""they"" say"␍
        data/d.txt,␍
        data/e.txt,'=HYPERLINK(A1)␍
        path,license,access␍
        data/a.txt,,restricted:press␍
        data/a.json,https://l,open␍
        "#);
        let mut out = omitted(VersionId(7), "a \"b\"\n", None).unwrap();
        out.extend(omitted(VersionId(8), "c", Some(Omission::Rights)).unwrap());
        out.extend(tombstone("data/é.txt").unwrap());
        write_fetch(&mut out, "https://example.org/api/x", 12, "data/a b 100%.txt");
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        {"id":7,"ref":"a \"b\"\n"}
        {"id":8,"ref":"c","reason":"rights"}
        {"path":"data/é.txt"}
        https://example.org/api/x 12 data/a b 100%25.txt
        "#);
    }

    proptest! {
        #[test]
        fn any_rights_are_read_back(rows in prop::collection::vec((".*", prop::option::of(any::<String>())), 1..5)) {
            let mut out = rights_header(false).as_bytes().to_vec();
            for (path, license) in &rows {
                write_rights(&mut out, path, license.as_deref(), None);
            }
            let mut reader = csv::Reader::from_reader(out.as_slice());
            let read: Vec<(String, String)> = reader.deserialize().map(Result::unwrap).collect();
            let expected: Vec<(String, String)> =
                rows.into_iter().map(|(path, license)| (path, neutral_cell(&license.unwrap_or_default()).into_owned())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
