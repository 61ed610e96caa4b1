//! Texts that may be no UTF-8, read piece by piece: bytes that are none become U+FFFD, exactly as [`String::from_utf8_lossy`] has it
//! (one for each maximal subpart: Unicode 17, 3.9, "U+FFFD Substitution of Maximal Subparts").

use std::io::{self, Read};

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: &str = "\u{FFFD}";
/// Bytes of a buffer for [`lossy`], which must have more than a character.
pub(super) const BUFFER: usize = 64 << 10;

/// Reads `text` to its end, through `buffer`, and gives it to `sink` in pieces. Returns whether all of it was UTF-8.
///
/// # Errors
/// What reader and sink fail with.
pub(super) fn lossy(
    text: &mut dyn Read,
    buffer: &mut [u8],
    sink: &mut dyn FnMut(&str) -> io::Result<()>,
) -> io::Result<bool> {
    // Bytes at the buffer's beginning that may be the first of a character.
    let mut begun = 0;
    let mut valid = true;
    loop {
        let read = match text.read(&mut buffer[begun..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        let end = begun + read;
        begun = pieces(&buffer[..end], &mut valid, sink)?;
        buffer.copy_within(end - begun..end, 0);
    }
    if begun > 0 {
        sink(REPLACEMENT)?;
    }
    Ok(valid && begun == 0)
}

/// Gives the texts in `bytes` to `sink`. Returns how many bytes at the end may be the beginning of a character.
fn pieces(bytes: &[u8], valid: &mut bool, sink: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<usize> {
    // Nearly every text is UTF-8, and this looks at several bytes at once.
    if let Ok(text) = std::str::from_utf8(bytes) {
        sink(text)?;
        return Ok(0);
    }
    let mut left = bytes.len();
    for chunk in bytes.utf8_chunks() {
        let (good, bad) = (chunk.valid(), chunk.invalid());
        sink(good)?;
        left -= good.len() + bad.len();
        if left == 0 && std::str::from_utf8(bad).is_err_and(|error| error.error_len().is_none()) {
            return Ok(bad.len());
        }
        if !bad.is_empty() {
            sink(REPLACEMENT)?;
            *valid = false;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives at most so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let limit = buffer.len().min(self.1);
            self.0.read(&mut buffer[..limit])
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_what_the_whole_gives(
            pieces in prop::collection::vec(prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..8),
                Just(b"\xF0\x9F\x92".to_vec()),
                Just("\u{1F4A9}\u{05D0}".into()),
            ], 0..8),
            length in 1..9_usize,
        ) {
            let bytes = pieces.concat();
            let mut text = String::new();
            let valid = lossy(&mut Slow(&bytes, length), &mut [0; 8], &mut |piece| { text.push_str(piece); Ok(()) }).unwrap();
            prop_assert_eq!(&text, &String::from_utf8_lossy(&bytes));
            prop_assert_eq!(valid, std::str::from_utf8(&bytes).is_ok());
        }
    }

    #[test]
    fn a_character_across_two_buffers_is_one() {
        let text = "a".repeat(BUFFER - 2) + "\u{1F4A9}" + &"ü".repeat(BUFFER);
        let mut read = String::new();
        assert!(
            lossy(&mut text.as_bytes(), &mut [0; BUFFER], &mut |piece| {
                read.push_str(piece);
                Ok(())
            })
            .unwrap()
        );
        assert_eq!(read, text);
    }
}
