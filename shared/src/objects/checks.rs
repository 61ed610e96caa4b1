//! What both stores check before they touch anything: keys, ranges and parts. No input or output happens here.

use std::ops::Range;

use super::{ObjectError, ObjectResult, Part, Upload};

/// Longest key that S3 takes, in bytes.
const MAX_KEY: usize = 1024;
/// Longest segment that file systems take, in bytes.
const MAX_SEGMENT: usize = 255;
/// Most parts that S3 takes in one upload.
const MAX_PARTS: u32 = 10_000;
/// Largest part that S3 takes, in bytes.
const MAX_PART_SIZE: u64 = 5 << 30;

/// A key is safe in every store; see [`ObjectError::UnsafeKey`].
pub(super) fn check_key(key: &str) -> ObjectResult<()> {
    let safe = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.len() <= MAX_SEGMENT;
    if key.len() <= MAX_KEY && !key.chars().any(char::is_control) && key.split('/').all(safe) {
        Ok(())
    } else {
        Err(ObjectError::UnsafeKey(key.to_owned()))
    }
}

/// A prefix is empty, or a key and a slash.
pub(super) fn check_prefix(prefix: &str) -> ObjectResult<()> {
    if prefix.is_empty() {
        return Ok(());
    }
    let unsafe_prefix = || ObjectError::UnsafeKey(prefix.to_owned());
    check_key(prefix.strip_suffix('/').ok_or_else(unsafe_prefix)?).map_err(|_| unsafe_prefix())
}

/// The wanted range of an object of `size` bytes, which must lie inside it; all of it for `None`.
pub(super) fn check_range(key: &str, range: Option<Range<u64>>, size: u64) -> ObjectResult<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start <= range.end && range.end <= size => Ok(range),
        Some(range) => Err(ObjectError::OutOfRange { key: key.to_owned(), range }),
    }
}

/// The part size of an upload is one that S3 takes for its last part (for others it wants 5 MiB at least).
pub(super) fn check_part_size(key: &str, part_size: u64) -> ObjectResult<()> {
    if (1..=MAX_PART_SIZE).contains(&part_size) {
        return Ok(());
    }
    Err(ObjectError::Refused(format!("parts of {part_size} bytes for {key}: they have 1 to {MAX_PART_SIZE}")))
}

/// A part fits its upload: its number is one that S3 takes, and it is not longer than parts of this upload are.
pub(super) fn check_part(upload: &Upload, number: u32, size: u64) -> ObjectResult<()> {
    if !(1..=MAX_PARTS).contains(&number) {
        let key = &upload.key;
        return Err(ObjectError::Refused(format!("part {number} of {key}: parts count from 1 to {MAX_PARTS}")));
    }
    if size > upload.part_size {
        return Err(wrong_size(upload, number, size));
    }
    Ok(())
}

/// The parts make an object: 1..=n without a gap, all of the upload's part size but the last.
pub(super) fn check_parts(upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
    let Some(last) = parts.last() else {
        return Err(ObjectError::Refused(format!("the upload of {} has no parts", upload.key)));
    };
    for (part, expected) in parts.iter().zip(1..) {
        if part.number != expected {
            let (key, found) = (&upload.key, part.number);
            return Err(ObjectError::Refused(format!(
                "part {expected} of {key} is missing: part {found} came instead"
            )));
        }
        check_part(upload, part.number, part.size)?;
        if part.size != upload.part_size && part.number != last.number {
            return Err(wrong_size(upload, part.number, part.size));
        }
    }
    Ok(())
}

/// The store holds every one of the parts.
pub(super) fn check_held(upload: &Upload, parts: &[Part], is_held: impl Fn(&Part) -> bool) -> ObjectResult<()> {
    match parts.iter().find(|part| !is_held(part)) {
        None => Ok(()),
        Some(Part { number, .. }) => {
            let key = &upload.key;
            Err(ObjectError::Refused(format!("part {number} of {key} is not the one that the store holds")))
        }
    }
}

/// The error for an upload that is not there, or no more.
pub(super) fn no_upload(upload: &Upload) -> ObjectError {
    ObjectError::NotFound(format!("upload {} of {}", upload.id, upload.key))
}

fn wrong_size(upload: &Upload, number: u32, size: u64) -> ObjectError {
    let Upload { key, part_size, .. } = upload;
    ObjectError::Refused(format!("part {number} of {key} has {size} bytes, where parts have {part_size}"))
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn upload() -> Upload {
        Upload { key: "a/b".to_owned(), id: "1".to_owned(), part_size: 10 }
    }

    fn part(number: u32, size: u64) -> Part {
        Part { number, size, etag: String::new() }
    }

    #[test]
    fn unsafe_keys_are_refused() {
        let (long_segment, long_key) = ("x".repeat(256), "x/".repeat(512) + "x");
        let bad = ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/../b", "./a", "a/.hidden", "a\0b", "a\nb"];
        for key in bad.into_iter().chain([long_segment.as_str(), long_key.as_str()]) {
            assert!(matches!(check_key(key), Err(ObjectError::UnsafeKey(named)) if named == key), "{key:?}");
        }
        for key in ["a", "a/b.c", "packs/1/x-txt-00000", "a b/ü+%&=?#", "a..b/c."] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn a_prefix_ends_with_a_slash() {
        for prefix in ["", "a/", "a/b/"] {
            assert!(check_prefix(prefix).is_ok(), "{prefix:?}");
        }
        for prefix in ["a", "/", "a//", "../", ".uploads/"] {
            assert!(
                matches!(check_prefix(prefix), Err(ObjectError::UnsafeKey(named)) if named == prefix),
                "{prefix:?}"
            );
        }
    }

    #[test]
    fn ranges_lie_inside_the_object() {
        for (range, size) in [(0..0, 0), (0..5, 5), (5..5, 5), (2..3, 5)] {
            assert_eq!(check_range("k", Some(range.clone()), size).unwrap(), range);
        }
        assert_eq!(check_range("k", None, 5).unwrap(), 0..5);
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake that must be answered with an error")]
        let wrong = [(0..1, 0), (4..6, 5), (6..6, 5), (3..2, 5), (0..u64::MAX, 5)];
        for (range, size) in wrong {
            assert!(check_range("k", Some(range), size).is_err());
        }
    }

    #[test]
    fn parts_that_make_no_object_are_refused_by_name() {
        assert!(check_parts(&upload(), &[part(1, 10), part(2, 10)]).is_ok());
        assert!(check_parts(&upload(), &[part(1, 0)]).is_ok());
        let refusals = [
            (vec![], "the upload of a/b has no parts"),
            (vec![part(2, 10)], "part 1 of a/b is missing: part 2 came instead"),
            (vec![part(1, 10), part(3, 1)], "part 2 of a/b is missing: part 3 came instead"),
            (vec![part(1, 10), part(1, 10)], "part 2 of a/b is missing: part 1 came instead"),
            (vec![part(1, 9), part(2, 1)], "part 1 of a/b has 9 bytes, where parts have 10"),
            (vec![part(1, 11)], "part 1 of a/b has 11 bytes, where parts have 10"),
        ];
        for (parts, reason) in refusals {
            assert!(matches!(check_parts(&upload(), &parts), Err(ObjectError::Refused(said)) if said == reason));
        }
        for part_size in [0, MAX_PART_SIZE + 1] {
            assert!(matches!(check_part_size("a", part_size), Err(ObjectError::Refused(_))));
        }
        for number in [0, 10_001] {
            assert!(matches!(check_part(&upload(), number, 1), Err(ObjectError::Refused(_))));
        }
    }

    proptest! {
        #[test]
        fn a_safe_key_stays_below_the_folder_it_is_joined_to(key in "[a-z./\\\\\\x00é ]{0,12}") {
            if check_key(&key).is_ok() {
                let joined = Path::new("/store").join(&key);
                prop_assert!(joined.starts_with("/store") && joined != Path::new("/store"));
                prop_assert!(joined.components().skip(1).all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(joined.strip_prefix("/store").unwrap().to_str(), Some(key.as_str()));
            }
        }
    }
}
