//! Proves the stored bytes of files by what was recorded when they were imported: length, SHA-256 of the
//! content, and the checksum of the deflate stream where there is one. Whoever serves, checks or heals
//! stored files asks here; packages have a check of their own, which sees pieces (`adit_packager`).

use std::io::{self, Write};

use flate2::write::GzDecoder;
use futures::TryStreamExt as _;
use sha2::Digest as _;

use crate::digest::Sha256;
use crate::domain::{Encoding, FileRecord};
use crate::objects::{ObjectError, ObjectStore};

/// Length of a gzip member's header, as imports write it.
const GZIP_HEADER: u64 = 10;
/// Length of a gzip member's trailer (RFC 1952, section 2.3.1).
const GZIP_TRAILER: u64 = 8;

/// Tells what is wrong with a stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileDamage {
    /// The object store has no such object.
    #[error("its object is not there")]
    ObjectMissing,
    /// The object ends before the file does.
    #[error("its object is cut off before its end")]
    ObjectTooShort,
    /// The object store has the object and cannot read this part of it.
    #[error("its place in the object cannot be read")]
    Unreadable,
    /// The stored bytes are no gzip member of the recorded length.
    #[error("its stored bytes are not a whole gzip member")]
    BrokenMember,
    /// The content has another SHA-256 or length than what was imported.
    #[error("its content does not have the SHA-256 that was imported")]
    OtherContent,
    /// The deflate stream has another checksum, though it unpacks to the same content.
    #[error("its compressed form does not have the checksum that was imported")]
    OtherForm,
}

/// Tells why a file could not be proved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FileFault {
    /// The file is damaged.
    #[error(transparent)]
    Damaged(#[from] FileDamage),
    /// The object store did not answer; nothing is known of the file.
    #[error(transparent)]
    Store(ObjectError),
}

impl From<ObjectError> for FileFault {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotFound(_) => Self::Damaged(FileDamage::ObjectMissing),
            ObjectError::OutOfRange { .. } => Self::Damaged(FileDamage::ObjectTooShort),
            error => Self::Store(error),
        }
    }
}

/// Takes a file's stored bytes, in order, and compares them with its record.
pub struct FileCheck {
    content: CheckedContent,
    sha256: Sha256,
    size: u64,
    stored: u64,
    fed: u64,
    deflate: Option<(u32, crc32fast::Hasher)>,
}

enum CheckedContent {
    Plain(ContentSum),
    Packed(Box<GzDecoder<ContentSum>>),
}

/// Sums up content that is written to it; refuses more than is expected.
struct ContentSum {
    hash: sha2::Sha256,
    left: u64,
}

impl Write for ContentSum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("the content is longer than it should be"))?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileCheck {
    /// Begins the check of one file.
    #[must_use]
    pub fn new(file: &FileRecord) -> Self {
        let sum = ContentSum { hash: sha2::Sha256::new(), left: file.size };
        let content = match file.encoding {
            Encoding::Identity => CheckedContent::Plain(sum),
            Encoding::Gzip => CheckedContent::Packed(Box::new(GzDecoder::new(sum))),
        };
        let deflate = file.deflate_crc32.filter(|_| file.encoding == Encoding::Gzip);
        let deflate = deflate.map(|expected| (expected, crc32fast::Hasher::new()));
        Self { content, sha256: file.sha256, size: file.size, stored: file.place.stored, fed: 0, deflate }
    }

    /// Proves bytes that are all in memory.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn prove(file: &FileRecord, bytes: &[u8]) -> Result<(), FileDamage> {
        let mut check = Self::new(file);
        check.update(bytes)?;
        check.finish()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// What is wrong with them, where that shows already.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), FileDamage> {
        if let Some((_, crc32)) = &mut self.deflate {
            // The part of these bytes that lies between header and trailer.
            let end = self.stored.saturating_sub(GZIP_TRAILER).max(GZIP_HEADER);
            let within = |at: u64| (at.clamp(self.fed, self.fed + bytes.len() as u64) - self.fed) as usize;
            crc32.update(&bytes[within(GZIP_HEADER)..within(end)]);
        }
        self.fed += bytes.len() as u64;
        match &mut self.content {
            CheckedContent::Plain(sum) => sum.write_all(bytes).map_err(|_| FileDamage::OtherContent),
            CheckedContent::Packed(decoder) => decoder.write_all(bytes).map_err(|_| FileDamage::BrokenMember),
        }
    }

    /// Gives the verdict, when all bytes were taken.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn finish(self) -> Result<(), FileDamage> {
        if self.fed != self.stored {
            return Err(FileDamage::ObjectTooShort);
        }
        let sum = match self.content {
            CheckedContent::Plain(sum) => sum,
            CheckedContent::Packed(decoder) => decoder.finish().map_err(|_| FileDamage::BrokenMember)?,
        };
        if sum.left != 0 || Sha256(sum.hash.finalize().into()) != self.sha256 {
            return Err(FileDamage::OtherContent);
        }
        let same = self.deflate.is_none_or(|(expected, crc32)| crc32.finalize() == expected);
        if same { Ok(()) } else { Err(FileDamage::OtherForm) }
    }
}

impl std::fmt::Debug for FileCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileCheck").field("size", &self.size).field("fed", &self.fed).finish_non_exhaustive()
    }
}

/// Reads a stored file and proves it; `each` is shown all of its stored bytes, in order, before they
/// are proved.
///
/// # Errors
/// [`FileFault::Damaged`] where the bytes are not what was imported.
pub async fn prove_file(
    objects: &dyn ObjectStore,
    file: &FileRecord,
    mut each: impl FnMut(&[u8]) + Send,
) -> Result<(), FileFault> {
    let place = &file.place;
    let mut check = FileCheck::new(file);
    if place.stored == 0 {
        return Ok(check.finish()?);
    }
    let mut chunks = objects.read(&place.object, Some(place.offset..place.offset + place.stored)).await?;
    while let Some(chunk) = chunks.try_next().await? {
        each(&chunk);
        check.update(&chunk)?;
    }
    Ok(check.finish()?)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Place;

    fn record(content: &[u8], gzip: bool) -> (FileRecord, Vec<u8>) {
        let mut stored = content.to_vec();
        if gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            stored = encoder.finish().unwrap();
        }
        let file = FileRecord {
            format: "txt".parse().unwrap(),
            media_type: "text/plain".into(),
            size: content.len() as u64,
            sha256: Sha256::of(content),
            crc32: crc32fast::hash(content),
            encoding: if gzip { Encoding::Gzip } else { Encoding::Identity },
            deflate_crc32: gzip.then(|| crc32fast::hash(&stored[10..stored.len() - 8])),
            place: Place { object: "packs/1/x".into(), offset: 0, stored: stored.len() as u64 },
        };
        (file, stored)
    }

    fn prove_in_pieces(file: &FileRecord, stored: &[u8], piece: usize) -> Result<(), FileDamage> {
        let mut check = FileCheck::new(file);
        stored.chunks(piece).try_for_each(|chunk| check.update(chunk))?;
        check.finish()
    }

    proptest! {
        #[test]
        fn what_was_imported_is_proved_and_a_changed_bit_is_not(
            content in prop::collection::vec(0..9_u8, 0..3000), gzip: bool, piece in 1..700_usize, at: usize, bit in 0..8,
        ) {
            let (file, mut stored) = record(&content, gzip);
            prop_assert_eq!(prove_in_pieces(&file, &stored, piece), Ok(()));
            prop_assume!(!stored.is_empty());
            let at = at % stored.len();
            // Time, level and system in a gzip header say nothing of the content.
            prop_assume!(!gzip || !(4..10).contains(&at));
            stored[at] ^= 1_u8 << bit;
            prop_assert!(prove_in_pieces(&file, &stored, piece).is_err());
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_damaged() {
        for gzip in [false, true] {
            let (file, mut stored) = record(b"the same words, the same words", gzip);
            assert!(FileCheck::prove(&file, &stored[..stored.len() - 1]).is_err());
            stored.push(0);
            assert!(FileCheck::prove(&file, &stored).is_err());
        }
    }
}
