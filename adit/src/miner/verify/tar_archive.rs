//! Reads a tar archive (POSIX.1-2017, pax) in zstd frames (RFC 8878) to its last byte.

use std::io::{BufReader, Read};

use anyhow::{Context as _, ensure};
use tar::Archive;

use super::contents::Reading;

/// How much of a short text may be unpacked from so many bytes of an archive; see [`super::zip_archive`].
const UNPACKED: u64 = 64;

/// Reads all of an archive of `length` bytes into `reading`, which is told of everything that is
/// wrong.
pub(super) fn read(file: impl Read, length: u64, reading: &mut Reading<'_>) -> anyhow::Result<()> {
    let keep = length.saturating_mul(UNPACKED).max(1 << 16);
    let frames = zstd::Decoder::with_buffer(BufReader::with_capacity(256 * 1024, file))?;
    let mut archive = Archive::new(frames);
    let entries = archive.entries().context("is no tar.zst archive")?;
    for entry in entries {
        let mut entry = entry.context("is no whole tar.zst archive")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            reading.fault(Some(&name), "is no file");
            continue;
        }
        let size = entry.size();
        match reading.take(&name, &mut entry, &mut crc32fast::Hasher::new(), size, keep) {
            Ok(found) if found != size => {
                reading.fault(Some(&name), format!("has {found} bytes, and not {size} as its header says"));
            }
            Ok(_) => {}
            Err(error) => reading.fault(Some(&name), format!("{error:#}")),
        }
    }
    read_end(archive.into_inner())
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
