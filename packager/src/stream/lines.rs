//! What a streamed asset must remember of its members: the manifest's own lines, in the plan's temporary file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::manifest::{Member, line};
use crate::plan::{Spool, SpoolWriter};

/// Bytes that are read at once; a line may have more.
const CHUNK: u64 = 64 << 10;

/// Appends a member, before which there are `index` members of the docset.
pub(crate) fn write(spool: &mut SpoolWriter, index: u64, member: &Member) -> io::Result<()> {
    // Not in one value of JSON, which would nest the metadata deeper than the server's own line did, and so too deep for the parser.
    spool.write(format!("{index} ").as_bytes())?;
    spool.write(&line(member)?)
}

/// Reads members one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    spool: Arc<Spool>,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Lines {
    /// The members of a stretch, which begins and ends between two lines.
    pub(super) fn new(spool: Arc<Spool>, range: Range<u64>) -> Self {
        Self { spool, position: range.start, end: range.end, buffer: Vec::new(), used: 0 }
    }

    /// Where the lines are.
    pub(super) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// The next member, where its line begins, and how many members of the docset come before it; `None` behind the last.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, u64, Member)>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let length = loop {
            if let Some(length) = self.buffer[self.used..].iter().position(|byte| *byte == b'\n') {
                break length;
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let (start, before) = (self.position + self.buffer.len() as u64, self.buffer.len());
            self.spool.fill(start, CHUNK, &mut self.buffer)?;
            if self.buffer.len() == before {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let line = &self.buffer[self.used..self.used + length];
        let space = line.iter().position(|byte| *byte == b' ').ok_or(io::ErrorKind::InvalidData)?;
        let index = serde_json::from_slice(&line[..space])?;
        let member = serde_json::from_slice(&line[space + 1..])?;
        let position = self.position;
        self.used += length + 1;
        self.position += length as u64 + 1;
        Ok(Some((position, index, member)))
    }
}
