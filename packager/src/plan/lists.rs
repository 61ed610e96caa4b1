//! The tag files of a bag that grow with the number of its documents, written line by line while members come in: to temporary files
//! where an archive is planned, or only counted where its size is estimated.

use std::fmt;
use std::io;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use sha2::Digest as _;

use super::spool::{Spool, SpoolWriter};

/// Takes the lines of a list in.
pub(super) trait List: Sized + fmt::Debug {
    /// An empty list.
    fn new() -> io::Result<Self>;

    /// Appends a line with its end.
    fn push(&mut self, line: &[u8]) -> io::Result<()>;

    /// Bytes of all lines.
    fn len(&self) -> u64;
}

/// A list of which only the length is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted(u64);

impl List for Counted {
    fn new() -> io::Result<Self> {
        Ok(Self(0))
    }

    fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.0 += line.len() as u64;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0
    }
}

/// A list in a temporary file.
#[derive(Debug)]
pub(super) struct Written {
    file: SpoolWriter,
    len: u64,
    crc32: crc32fast::Hasher,
    sha256: sha2::Sha256,
}

impl List for Written {
    fn new() -> io::Result<Self> {
        let file = SpoolWriter::new()?;
        Ok(Self { file, len: 0, crc32: crc32fast::Hasher::new(), sha256: sha2::Sha256::new() })
    }

    fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.len += line.len() as u64;
        self.crc32.update(line);
        self.sha256.update(line);
        self.file.write(line)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl Written {
    /// The list as a text.
    pub(super) fn finish(self) -> io::Result<Text> {
        let (size, crc32) = (self.len, self.crc32.finalize());
        let sha256 = Sha256(self.sha256.finalize().into());
        Ok(Text { size, crc32, sha256, body: Body::Spooled(Arc::new(self.file.finish()?)) })
    }
}

/// What stands in a tag file.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Its CRC-32.
    pub(crate) crc32: u32,
    /// Its SHA-256.
    pub(crate) sha256: Sha256,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Bytes(bytes::Bytes),
    Spooled(Arc<Spool>),
    /// Only the length is known, and matters.
    Unknown,
}

impl Text {
    /// A text that is held in memory.
    pub(crate) fn of(bytes: impl Into<bytes::Bytes>) -> Self {
        let bytes = bytes.into();
        let (size, crc32, sha256) = (bytes.len() as u64, crc32fast::hash(&bytes), Sha256::of(&bytes));
        Self { size, crc32, sha256, body: Body::Bytes(bytes) }
    }

    /// A text of that length, whose bytes are never asked for.
    pub(super) fn unknown(size: u64) -> Self {
        Self { size, crc32: 0, sha256: Sha256([0; 32]), body: Body::Unknown }
    }

    /// Appends `len` bytes from `start` on to `out`.
    pub(crate) fn read(&self, start: u64, len: u64, out: &mut Vec<u8>) -> io::Result<()> {
        match &self.body {
            Body::Bytes(bytes) => {
                let end = usize::try_from(start + len).ok().filter(|end| *end <= bytes.len());
                let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
                out.extend_from_slice(&bytes[start as usize..end]);
                Ok(())
            }
            Body::Spooled(spool) => spool.fill(start, len, out),
            Body::Unknown => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
