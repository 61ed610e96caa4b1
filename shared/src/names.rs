//! Safe file names out of refs.
//!
//! A ref may be any text; a file name in an archive must be one path segment that every file system and every unpacker
//! takes. [`safe_name`] keeps what is harmless (letters and digits of any script, spaces inside, `-_.,;()+@&=!'#`) and writes every other
//! byte as `~XX`. It is pure and cuts long names; two refs can fold to one name only when they differ by case or normal form, or were cut to
//! the same stem: [`distinct_name`] then adds part of the ref's hash.

use unicode_normalization::UnicodeNormalization as _;

use crate::digest::Sha256;

/// Longest name in bytes; with `~` and a hash and an extension it stays under the 255 bytes that file systems take.
const MAX_BYTES: usize = 180;

/// A file name (without extension) for a ref; see the module's text.
#[must_use]
pub fn safe_name(r#ref: &str) -> String {
    let normal: String = r#ref.nfc().collect();
    let count = normal.chars().count();
    let mut name = String::with_capacity(normal.len());
    for (i, c) in normal.chars().enumerate() {
        let edge = i == 0 || i + 1 == count;
        let harmless = c.is_alphanumeric() || "-_,;()+@&=!'#".contains(c) || (!edge && (c == ' ' || c == '.'));
        if harmless {
            name.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("~{byte:02X}"));
            }
        }
    }
    if name.is_empty() || is_reserved(&name) {
        name.insert(0, '~');
    }
    if name.len() > MAX_BYTES {
        return with_hash(&name, r#ref);
    }
    name
}

/// A name for a ref whose [`safe_name`] is taken by another ref: with sixteen digits of the ref's SHA-256.
#[must_use]
pub fn distinct_name(r#ref: &str) -> String {
    with_hash(&safe_name(r#ref), r#ref)
}

/// A name as file systems that ignore case and normal form compare it (NFKC after lower-casing, twice, to be stable).
#[must_use]
pub fn fold(name: &str) -> String {
    let lower =
        |text: &str| text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect::<String>();
    lower(&lower(name))
}

fn with_hash(name: &str, r#ref: &str) -> String {
    let mut end = name.len().min(MAX_BYTES - 17);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{}", &name[..end], &Sha256::of(r#ref.as_bytes()).to_string()[..16])
}

/// Tells whether Windows gives this name to a device, with or without an extension.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4
            && (stem.starts_with("COM") || stem.starts_with("LPT"))
            && stem.ends_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_refs_stay_as_they_are() {
        for name in ["jose.00015", "10.21105_joss", "Über den Wolken", "日本語", "a(b)-c"] {
            assert_eq!(safe_name(name), name);
        }
    }

    #[test]
    fn dangerous_refs_become_one_safe_segment() {
        assert_eq!(safe_name("../../etc/passwd"), "~2E.~2F..~2Fetc~2Fpasswd");
        assert_eq!(safe_name("/abs"), "~2Fabs");
        assert_eq!(safe_name(".."), "~2E~2E");
        assert_eq!(safe_name(""), "~");
        assert_eq!(safe_name("con"), "~con");
        assert_eq!(safe_name("nul.txt"), "~nul.txt");
        assert_eq!(safe_name("a\u{0}b\nc%d~e"), "a~00b~0Ac~25d~7Ee");
        assert_eq!(safe_name(" a "), "~20a~20");
    }

    #[test]
    fn long_refs_are_cut_and_told_apart_by_their_hash() {
        let (a, b) = ("x".repeat(300), "x".repeat(301));
        assert_ne!(safe_name(&a), safe_name(&b));
        assert_eq!(safe_name(&a).len(), MAX_BYTES);
        assert_eq!(safe_name(&"é".repeat(50)), "é".repeat(50));
    }

    #[test]
    fn refs_that_differ_by_case_fold_together_and_are_told_apart() {
        assert_eq!(fold(&safe_name("Paper")), fold(&safe_name("paper")));
        assert_ne!(fold(&safe_name("Paper")), fold(&distinct_name("paper")));
        assert_eq!(fold("STRASSE"), fold("strasse"));
        // é as one character and as e with a combining accent is one name for a person and for some file systems.
        assert_eq!(safe_name("\u{e9}"), safe_name("e\u{301}"));
        assert_ne!(distinct_name("\u{e9}"), distinct_name("e\u{301}"));
    }

    proptest! {
        #[test]
        fn every_ref_gives_one_safe_segment(text in "\\PC{0,300}|.{0,40}") {
            for name in [safe_name(&text), distinct_name(&text)] {
                prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES);
                prop_assert!(!name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', '%', '\0']));
                prop_assert!(!name.starts_with(['.', ' ']) && !name.ends_with(['.', ' ']));
                prop_assert!(!name.chars().any(char::is_control));
                prop_assert!(!is_reserved(&name));
                prop_assert_eq!(fold(&fold(&name)), fold(&name));
            }
        }

        #[test]
        fn refs_in_normal_form_have_names_of_their_own(a in "\\PC{0,40}", b in "\\PC{0,40}") {
            let (a, b): (String, String) = (a.nfc().collect(), b.nfc().collect());
            prop_assume!(a != b);
            prop_assert_ne!(safe_name(&a), safe_name(&b));
        }
    }
}
