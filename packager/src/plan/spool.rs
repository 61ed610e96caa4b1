//! What a plan must remember of every file, in an anonymous temporary file: a plan of a million files takes no more memory than one of ten.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use adit_shared::digest::Sha256;
use adit_shared::domain::Encoding;
use bytes::{Buf, BufMut};

use crate::zip;

/// Bytes that are read of the spool at once.
const CHUNK: usize = 64 * 1024;

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// How many members of the docset come before its document.
    pub(crate) member: u64,
    /// Its document's ref.
    pub(crate) r#ref: String,
    /// Its path below the plan's folder.
    pub(crate) path: String,
    /// How its data is encoded.
    pub(crate) encoding: Encoding,
    /// CRC-32 of its content.
    pub(crate) crc32: u32,
    /// CRC-32 of its data, where it is deflated and that is known.
    pub(crate) deflate_crc32: Option<u32>,
    /// SHA-256 of its content.
    pub(crate) sha256: Sha256,
    /// Length of its content in bytes.
    pub(crate) size: u64,
    /// Length of its data in the archive.
    pub(crate) packed: u64,
    /// Where its local header stands in the archive.
    pub(crate) offset: u64,
    /// Which of the plan's objects holds its data.
    pub(crate) object: u32,
    /// First byte of its data in that object.
    pub(crate) from: u64,
}

impl Record {
    /// What the archive's headers say of it, below the plan's `folder`.
    pub(crate) fn entry<'a>(&'a self, folder: &'a str) -> zip::Entry<'a> {
        zip::Entry {
            folder,
            name: &self.path,
            encoding: self.encoding,
            crc32: self.crc32,
            size: self.size,
            packed: self.packed,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.put_u32(0);
        for number in [self.member, self.size, self.packed, self.offset, self.from] {
            out.put_u64(number);
        }
        out.put_u32(self.crc32);
        out.put_u32(self.object);
        out.put_u8(u8::from(self.encoding == Encoding::Gzip) | (u8::from(self.deflate_crc32.is_some()) << 1));
        out.put_u32(self.deflate_crc32.unwrap_or_default());
        out.put_slice(&self.sha256.0);
        out.put_u32(len32(&self.path));
        out.put_slice(self.path.as_bytes());
        out.put_slice(self.r#ref.as_bytes());
        let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&len.to_be_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote, without the length before it; `None` if that is not what it is.
    fn decode(mut from: &[u8]) -> Option<Self> {
        let mut number = || from.try_get_u64().ok();
        let (member, size, packed, offset, place) = (number()?, number()?, number()?, number()?, number()?);
        let crc32 = from.try_get_u32().ok()?;
        let object = from.try_get_u32().ok()?;
        let (flags, deflated) = (from.try_get_u8().ok()?, from.try_get_u32().ok()?);
        let encoding = if flags & 1 == 1 { Encoding::Gzip } else { Encoding::Identity };
        let deflate_crc32 = (flags & 2 == 2).then_some(deflated);
        let mut sha256 = [0; 32];
        from.try_copy_to_slice(&mut sha256).ok()?;
        let path = from.try_get_u32().ok()? as usize;
        let (path, r#ref) = from.split_at_checked(path)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (path, r#ref) = (text(path)?, text(r#ref)?);
        let sha256 = Sha256(sha256);
        Some(Self {
            member,
            r#ref,
            path,
            encoding,
            crc32,
            deflate_crc32,
            sha256,
            size,
            packed,
            offset,
            object,
            from: place,
        })
    }
}

/// A manifest's lines are at most a megabyte, so texts out of it fit.
fn len32(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Takes records in.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: BufWriter<File>,
    len: u64,
    scratch: Vec<u8>,
}

impl SpoolWriter {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(CHUNK, tempfile::tempfile()?), len: 0, scratch: Vec::new() })
    }

    pub(crate) fn push(&mut self, record: &Record) -> io::Result<()> {
        record.encode(&mut self.scratch);
        self.len += self.scratch.len() as u64;
        self.file.write_all(&self.scratch)
    }

    /// Appends bytes that are no record: of another kind of file than records go to.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Where the next record will stand.
    pub(crate) fn position(&self) -> u64 {
        self.len
    }

    pub(crate) fn finish(self) -> io::Result<Spool> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Spool { file: Mutex::new(file), len: self.len })
    }
}

/// Gives records out, from any position that a record was read at; several readers may go at once.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Mutex<File>,
    len: u64,
}

impl Spool {
    /// Reads the records of a stretch, which begins and ends between two records.
    pub(crate) fn read(&self, range: Range<u64>) -> SpoolReader<'_> {
        SpoolReader { spool: self, position: range.start, end: range.end, buffer: Vec::new(), used: 0 }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends up to `wanted` bytes at `position` to `buffer`; fewer only at the end.
    pub(crate) fn fill(&self, position: u64, wanted: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(position))?;
        let wanted = wanted.min(self.len.saturating_sub(position));
        let read = (&mut *file).take(wanted).read_to_end(buffer)?;
        if (read as u64) < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Reads records one after the other.
#[derive(Debug)]
pub(crate) struct SpoolReader<'a> {
    spool: &'a Spool,
    /// Of the next record.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl SpoolReader<'_> {
    /// The next record and its position; `None` behind the last.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Record)>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let len = self.want(4)?.get_u32() as usize;
        let record = Record::decode(&self.want(4 + len)?[4..])
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the plan's temporary file was changed"))?;
        let position = self.position;
        self.position += 4 + len as u64;
        self.used += 4 + len;
        Ok(Some((position, record)))
    }

    /// The next `len` bytes, and perhaps more.
    fn want(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.used < len {
            self.buffer.drain(..self.used);
            self.used = 0;
            let start = self.position + self.buffer.len() as u64;
            self.spool.fill(start, CHUNK.max(len) as u64, &mut self.buffer)?;
            if self.buffer.len() < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.buffer[self.used..self.used + len])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn record()(
            numbers: [u64; 6], crc32: u32, deflate_crc32: Option<u32>, object: u32, gzip: bool, sha256: [u8; 32], path in "\\PC{0,80}", r#ref in ".{0,80}",
        ) -> Record {
            let [member, size, packed, offset, from, _] = numbers;
            let encoding = if gzip { Encoding::Gzip } else { Encoding::Identity };
            let sha256 = Sha256(sha256);
            Record { member, r#ref, path, encoding, crc32, deflate_crc32, sha256, size, packed, offset, object, from }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn records_come_back_from_every_position(records in prop::collection::vec(record(), 0..600)) {
            let mut writer = SpoolWriter::new().unwrap();
            for record in &records {
                writer.push(record).unwrap();
            }
            let spool = writer.finish().unwrap();
            let mut reader = spool.read(0..spool.len());
            let mut positions = Vec::new();
            for record in &records {
                let (position, read) = reader.next().unwrap().unwrap();
                prop_assert_eq!(&read, record);
                positions.push(position);
            }
            prop_assert!(reader.next().unwrap().is_none());
            for (position, record) in positions.iter().zip(&records).rev().step_by(37) {
                prop_assert_eq!(&spool.read(*position..spool.len()).next().unwrap().unwrap().1, record);
            }
        }
    }
}
