//! Reads a tar archive (POSIX.1-2017, pax) in zstd frames (RFC 8878) to its last byte.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use tar::Archive;

use super::contents::Reading;
use crate::miner::limits::UnpackLimits;

/// How much of a short text may be unpacked from so many bytes of an archive; see [`super::zip_archive`].
const UNPACKED: u64 = 64;
/// Most bytes of an entry's headers: the library holds long names and extended headers in memory,
/// whatever length they say.
const MAX_HEADERS: u64 = 1 << 20;

/// Reads all of an archive of `length` bytes into `reading`, which is told of everything that is
/// wrong.
pub(super) fn read(file: impl Read, length: u64, reading: &mut Reading<'_>) -> anyhow::Result<()> {
    let keep = length.saturating_mul(UNPACKED).max(1 << 16);
    let frames = zstd::Decoder::with_buffer(BufReader::with_capacity(256 * 1024, file))?;
    let allowance = Rc::new(Cell::new(MAX_HEADERS));
    let total = UnpackLimits::of_archive(length).bytes;
    let mut archive = Archive::new(Metered { inner: frames, allowance: Rc::clone(&allowance), total });
    let entries = archive.entries().context("is no tar.zst archive")?;
    for entry in entries {
        let mut entry = entry.context("is no whole tar.zst archive")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let size = entry.size();
        // What is not read of this entry is skipped before the next one's headers. Of a sparse
        // file, and where an extended header says another length, that is the smaller one.
        let unread = size.min(entry.header().entry_size().unwrap_or(0));
        if kind.is_dir() || !kind.is_file() {
            if !kind.is_dir() {
                reading.fault(Some(&name), "is no file");
            }
            reading.skip_entry()?;
            allowance.set(MAX_HEADERS.saturating_add(unread));
            continue;
        }
        allowance.set(u64::MAX);
        match reading.take(&name, &mut entry, &mut crc32fast::Hasher::new(), size, keep) {
            Ok(found) if found != size => {
                reading.fault(Some(&name), format!("has {found} bytes, and not {size} as its header says"));
            }
            Ok(_) => {}
            Err(error) => {
                reading.fault(Some(&name), format!("{error:#}"));
                if reading.is_exhausted() {
                    return Ok(());
                }
                allowance.set(MAX_HEADERS.saturating_add(unread));
                continue;
            }
        }
        allowance.set(MAX_HEADERS);
    }
    allowance.set(u64::MAX);
    read_end(archive.into_inner())
}

/// A reader that ends with an error when more is read than is allowed: of one entry's headers, and
/// in all.
struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
    total: u64,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let (headers, total) = (self.allowance.get().checked_sub(read as u64), self.total.checked_sub(read as u64));
        self.allowance.set(headers.unwrap_or(0));
        self.total = total.unwrap_or(0);
        if total.is_none() {
            return Err(io::Error::other("it unpacks to far more than its length, as no package does"));
        }
        if headers.is_none() {
            return Err(io::Error::other("an entry has longer headers than any file needs"));
        }
        Ok(read)
    }
}

/// Behind the end of a tar archive there are only zeros.
fn read_end(mut rest: impl Read) -> anyhow::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = rest.read(&mut chunk).context("is no whole tar.zst archive")?;
        if read == 0 {
            return Ok(());
        }
        ensure!(chunk[..read].iter().all(|byte| *byte == 0), "bytes behind its end belong to nothing");
    }
}
