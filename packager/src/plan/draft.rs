//! One part of an archive, drawn up on its own: all bytes that the plan knows, and the pieces of files to be copied between them.

use std::io;
use std::ops::Range;

use adit_shared::domain::Encoding;
use bytes::BytesMut;

use super::sections::{Content, Section};
use super::spool::Record;
use super::{Mark, Plan, Text};
use crate::zip;

/// A part without the files' data.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The part's bytes; anything where data is to come.
    pub(crate) bytes: BytesMut,
    /// The data to come, in the order of the archive.
    pub(crate) pieces: Vec<Piece>,
}

/// A stretch of one file's data that lies in one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it goes in the part.
    pub(crate) at: usize,
    /// Its length in bytes.
    pub(crate) len: usize,
    /// The object that it comes from.
    pub(crate) object: u32,
    /// Its first byte in that object.
    pub(crate) from: u64,
    /// Bytes of the file's data before it, in earlier parts.
    pub(crate) skipped: u64,
    /// Length of all the file's data in bytes.
    pub(crate) packed: u64,
    /// How that data is encoded.
    pub(crate) encoding: Encoding,
    /// CRC-32 of the file's content.
    pub(crate) crc32: u32,
    /// CRC-32 of the file's data, where it is deflated and that is known.
    pub(crate) deflate_crc32: Option<u32>,
    /// Length of the file's content in bytes.
    pub(crate) size: u64,
    /// Names the file; see [`Plan::name`].
    pub(crate) position: u64,
}

impl Piece {
    /// The bytes of the object that it is.
    pub(crate) fn range(&self) -> Range<u64> {
        self.from..self.from + self.len as u64
    }

    /// Whether the file's data ends with it.
    pub(crate) fn is_last(&self) -> bool {
        self.skipped + self.len as u64 == self.packed
    }
}

impl Plan {
    /// Draws up part `number` in a buffer, whose content does not matter, and notes its pieces in an empty list. Reads the plan's temporary file, so it blocks for a moment.
    pub(crate) fn draft(&self, number: u32, mut buffer: BytesMut, pieces: Vec<Piece>) -> io::Result<Draft> {
        let range = self.part_range(number);
        let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // Of the exact size: what grows by doubling would end up larger than a part.
        buffer.reserve(len.saturating_sub(buffer.len()));
        buffer.resize(len, 0);
        let mut window = Window { draft: Draft { bytes: buffer, pieces }, range };
        let mark = self.marks[number as usize - 1];
        for section in &self.sections {
            if section.start >= window.range.end || section.end() <= window.range.start {
                continue;
            }
            match &section.content {
                Content::Fixed(bytes) => window.put(section.start, bytes),
                Content::Text(text) => window.copy_text(section.start, text)?,
                // Only the section that the part begins in can have begun before it.
                _ if section.start < window.range.start => self.fill(section, mark, &mut window)?,
                _ => self.fill(section, None, &mut window)?,
            }
        }
        Ok(window.draft)
    }

    /// Fills in what the files have in `section`, from the mark or from the section's beginning to the part's end.
    fn fill(&self, section: &Section, mark: Option<Mark>, window: &mut Window) -> io::Result<()> {
        let (position, mut offset) =
            mark.map_or((self.records.start, section.start), |mark| (mark.position, mark.offset));
        let mut reader = self.spool.read(position..self.records.end);
        let mut item = Vec::new();
        while offset < window.range.end.min(section.end()) {
            let Some((position, record)) = reader.next()? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            item.clear();
            let files = matches!(section.content, Content::Files);
            if files {
                zip::write_local(&mut item, &record.entry(&self.folder));
            } else {
                zip::write_central(&mut item, &record.entry(&self.folder), record.offset);
            }
            window.put(offset, &item);
            offset += item.len() as u64;
            if files {
                window.copy(offset, position, &record);
                offset += record.packed;
            }
        }
        Ok(())
    }
}

/// A draft and the stretch of the archive that it is.
struct Window {
    draft: Draft,
    range: Range<u64>,
}

impl Window {
    /// What `start..start + len` of the archive has in common with this part.
    fn common(&self, start: u64, len: u64) -> Option<Range<u64>> {
        let common = start.max(self.range.start)..(start + len).min(self.range.end);
        (!common.is_empty()).then_some(common)
    }

    /// Puts the part's share of `bytes`, which stand at `start` in the archive.
    fn put(&mut self, start: u64, bytes: &[u8]) {
        if let Some(common) = self.common(start, bytes.len() as u64) {
            let from = (common.start - start) as usize;
            let at = (common.start - self.range.start) as usize;
            let len = (common.end - common.start) as usize;
            self.draft.bytes[at..at + len].copy_from_slice(&bytes[from..from + len]);
        }
    }

    /// Puts the part's share of a text, which begins at `start` in the archive.
    fn copy_text(&mut self, start: u64, text: &Text) -> io::Result<()> {
        let Some(common) = self.common(start, text.size) else { return Ok(()) };
        let mut bytes = Vec::new();
        text.read(common.start - start, common.end - common.start, &mut bytes)?;
        self.put(common.start, &bytes);
        Ok(())
    }

    /// Notes the part's share of a file's data, which stands at `start` in the archive.
    fn copy(&mut self, start: u64, position: u64, record: &Record) {
        if let Some(common) = self.common(start, record.packed) {
            let skipped = common.start - start;
            self.draft.pieces.push(Piece {
                at: (common.start - self.range.start) as usize,
                len: (common.end - common.start) as usize,
                object: record.object,
                from: record.from + skipped,
                skipped,
                packed: record.packed,
                encoding: record.encoding,
                crc32: record.crc32,
                deflate_crc32: record.deflate_crc32,
                size: record.size,
                position,
            });
        }
    }
}
