//! `tar.zst`: a POSIX pax archive (IEEE Std 1003.1-2017, "pax", interchange format) in one zstd frame.
//!
//! Every entry is a regular file, 0644, of user and group 0, of 1980-01-01 (as in ZIP). A pax header comes before those whose path is long
//! or not ASCII, or that have 8 GiB or more.

use std::io::{self, Read, Write};

use adit_shared::domain::Compression;

use super::compress::Compressed;

/// Everything in a tar archive is so many bytes or a multiple.
const BLOCK: u64 = 512;
/// Bytes of a path that find room in a header.
const PATH: usize = 100;
/// Sizes from here on have no room in eleven octal digits.
const LARGE: u64 = 1 << 33;
/// 1980-01-01T00:00:00Z in seconds since the epoch.
const MTIME: u64 = 315_532_800;

/// Length in bytes of an entry with its headers, content and padding.
pub(crate) fn entry_len(path: &str, size: u64) -> u64 {
    let pax = pax_records(path, size).len() as u64;
    let pax = if pax == 0 { 0 } else { BLOCK.saturating_add(padded(pax)) };
    BLOCK.saturating_add(pax).saturating_add(padded(size))
}

/// Length in bytes of an archive's end.
pub(crate) const END: u64 = 2 * BLOCK;

fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Writes an archive.
pub(crate) struct Writer<W: Write> {
    out: Compressed<W>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn new(out: W) -> io::Result<Self> {
        Ok(Self { out: Compressed::new(out, Compression::Zstd)? })
    }

    /// Writes a file of `size` bytes at `path` (relative, with slashes).
    ///
    /// # Errors
    /// The reader's and the output's; also if `content` has another length than `size`.
    pub(crate) fn entry(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let records = pax_records(path, size);
        if !records.is_empty() {
            let length = records.len() as u64;
            // Standard input has no name, so pax leaves the choice of this one free; readers that know no pax see what it is.
            self.out.write_all(&header("PaxHeaders/0", length, b'x'))?;
            self.out.write_all(&records)?;
            self.pad(length)?;
        }
        self.out.write_all(&header(path, size, b'0'))?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        // To its end, where a reader says what it thinks of what it read.
        if copied != size || content.read(&mut [0])? > 0 {
            return Err(io::Error::other(format!("{path} has not the {size} bytes that it should have")));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = [0; BLOCK as usize];
        self.out.write_all(&padding[..(padded(size) - size) as usize])
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; END as usize])?;
        self.out.finish()
    }
}

/// A ustar header.
fn header(path: &str, size: u64, kind: u8) -> [u8; BLOCK as usize] {
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let name: Vec<u8> = path.chars().map(|c| if c.is_ascii() { c as u8 } else { b'_' }).take(PATH).collect();
    put(0, &name);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    // Of what has no room here the pax header tells.
    put(124, format!("{:011o}\0", if size < LARGE { size } else { 0 }).as_bytes());
    put(136, format!("{MTIME:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The pax records of what has no room in a header.
fn pax_records(path: &str, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > PATH || !path.is_ascii() {
        records.extend(pax_record("path", path));
    }
    if size >= LARGE {
        records.extend(pax_record("size", &size.to_string()));
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record("path", "ü"), b"11 path=\xC3\xBC\n");
        for length in 0..2000 {
            let record = pax_record("path", &"x".repeat(length));
            let digits = record.iter().position(|byte| *byte == b' ').unwrap();
            assert_eq!(std::str::from_utf8(&record[..digits]).unwrap().parse(), Ok(record.len()));
        }
    }

    #[test]
    fn content_of_another_length_is_an_error() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for size in [2, 5] {
            let error = writer.entry("a", size, &mut &b"abc"[..]).unwrap_err();
            assert_eq!(error.to_string(), format!("a has not the {size} bytes that it should have"));
        }
    }

    #[test]
    fn eight_gibibytes_stand_in_a_pax_header() {
        for (size, blocks) in [(LARGE - 1, 1), (LARGE, 3)] {
            let mut writer = Writer { out: Compressed::Plain(Vec::new()) };
            // The content is missing, and that is noticed only behind the headers.
            assert!(writer.entry("a", size, &mut io::empty()).is_err());
            let Compressed::Plain(bytes) = writer.out else { unreachable!() };
            assert_eq!((bytes.len() as u64, entry_len("a", size)), (blocks * BLOCK, blocks * BLOCK + LARGE));
            let mut archive = ::tar::Archive::new(bytes.as_slice());
            assert_eq!(archive.entries().unwrap().next().unwrap().unwrap().size(), size);
        }
    }
}
