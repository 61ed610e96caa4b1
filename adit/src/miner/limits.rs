//! How much an archive may become. Archives are foreign: a few bytes can announce, or turn into,
//! more than any disk holds.

use anyhow::ensure;

/// Bytes of a file or archive that its packed bytes may become, for each of them: far more than
/// text is ever compressed by.
const RATIO: u64 = 100;
/// Bytes that even the smallest archive may become.
const LEAST_BYTES: u64 = 64 << 20;
/// Packed bytes for each entry: a bag names the SHA-256 of each, which cannot be compressed to
/// less.
const BYTES_PER_ENTRY: u64 = 16;
/// Entries that even the smallest archive may have.
const LEAST_ENTRIES: u64 = 65_536;

/// What is left of the bytes and entries that an archive may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnpackLimits {
    /// Bytes that may still be unpacked.
    pub(super) bytes: u64,
    entries: u64,
}

impl UnpackLimits {
    /// Of an archive of that length in bytes.
    pub(super) fn of_archive(length: u64) -> Self {
        Self {
            bytes: length.saturating_mul(RATIO).max(LEAST_BYTES),
            entries: (length / BYTES_PER_ENTRY).max(LEAST_ENTRIES),
        }
    }

    /// Of files that lie unpacked: none.
    pub(super) fn none() -> Self {
        Self { bytes: u64::MAX, entries: u64::MAX }
    }

    /// Takes an entry.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take_entry(&mut self) -> anyhow::Result<()> {
        ensure!(self.entries > 0, "it has more entries than so few bytes can have");
        self.entries -= 1;
        Ok(())
    }

    /// Takes bytes that were unpacked, or are announced.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> anyhow::Result<()> {
        let left = self.bytes.checked_sub(bytes);
        ensure!(left.is_some(), "it unpacks to more than {RATIO} times its length, as no package does");
        self.bytes = left.unwrap_or_default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_archive_and_end() {
        let mut small = UnpackLimits::of_archive(100);
        assert!(small.take_bytes(LEAST_BYTES).is_ok() && small.take_bytes(0).is_ok());
        assert!(small.take_bytes(1).is_err());
        assert_eq!(UnpackLimits::of_archive(1 << 30).bytes, RATIO << 30);
        assert_eq!(UnpackLimits::of_archive(u64::MAX).bytes, u64::MAX);
        let entries = (0..=LEAST_ENTRIES).filter(|_| small.take_entry().is_ok()).count();
        assert_eq!(entries as u64, LEAST_ENTRIES);
    }
}
