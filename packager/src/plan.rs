//! The plan of a ZIP archive: where every byte of it stands, computed before one is copied.
//!
//! A plan takes the same memory for ten files as for ten million (they wait in a temporary file), and any part of the archive can be drawn up
//! on its own. Which archives a package has is decided in [`project`]. Nothing is fetched here (see [`crate::build`]).

mod draft;
mod estimate;
mod lists;
mod project;
mod sections;
mod spool;
mod streamed;
mod streams;
mod sum;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use adit_shared::domain::Layout;

use crate::zip;
pub(crate) use draft::{Draft, Piece};
pub use estimate::{Estimate, SizeEstimator};
pub(crate) use lists::Text;
pub(crate) use project::{AssetPlan, Objects, Project, ProjectBuilder, Source};
use sections::{Content, Section};
use spool::Record;
pub(crate) use spool::{Spool, SpoolWriter};
pub(crate) use streamed::{Streamed, Stretch};
pub(crate) use streams::Index;
use sum::Volume;
pub(crate) use sum::{before, packed, path};

/// Length in bytes of an upload's parts (all but the last), doubled for archives that would have more than [`MAX_PARTS`].
/// Always a multiple of SHA-256's block.
pub const PART_SIZE: u64 = 8 << 20;
/// The most parts that S3 takes.
pub const MAX_PARTS: u64 = 10_000;
/// The longest object that S3 takes, in bytes.
pub const MAX_ARCHIVE: u64 = 5 << 40;

/// The most shards that a package may have.
pub const MAX_SHARDS: usize = 1_000;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The archive would be longer than [`MAX_ARCHIVE`].
    #[error("the archive would have {0} bytes, more than an object store takes ({MAX_ARCHIVE}); divide the docset")]
    TooLarge(u64),
    /// Members that were counted are not those that were announced: no archive is ever made of a part of a docset.
    #[error("{announced} documents were announced, but {included} with files and {omitted} without came")]
    Incomplete {
        /// Members that the manifest's header announced, or that the server's record of the package has.
        announced: u64,
        /// Members with files.
        included: u64,
        /// Members without.
        omitted: u64,
    },
    /// Members that are withheld, or not open, are not those that were announced.
    #[error("the server's manifest withholds other documents than those that it announced")]
    Selection,
    /// The bag about a table is made of what the server says of the collection.
    #[error(
        "the server's manifest says nothing about the collection, which layout {0} needs; is the server older than this packager?"
    )]
    Undescribed(Layout),
    /// The server does not say which docset a delta starts from.
    #[error("the server's manifest has no base for the delta; is the server older than this packager?")]
    NoBase,
    /// So many shards that keeping the books of them would be most of the work.
    #[error(
        "the package would have {0} shards, and may have {MAX_SHARDS}; make shard_bytes larger, or divide the docset"
    )]
    TooManyShards(usize),
    /// The temporary file cannot be written or read.
    #[error("the plan's temporary file in {dir}: {0}", dir = std::env::temp_dir().display())]
    Spool(#[from] io::Error),
}

/// Length of parts so that there are not too many: `smallest`, or a multiple of it.
pub(crate) fn part_size_for(size: u64, smallest: u64) -> u64 {
    let mut part_size = smallest;
    while size.div_ceil(part_size) > MAX_PARTS {
        part_size *= 2;
    }
    part_size
}

/// Where a part begins inside a section that grows with the number of files.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Position in the spool of the file that the part's first byte belongs to.
    position: u64,
    /// Where what that file has in this section begins in the archive.
    offset: u64,
    /// How many members come before that file's document; all of them in sections behind the data.
    members: u64,
}

/// The layout of one archive, in parts.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What every path in the archive begins with.
    folder: String,
    /// Members of the docset that come before this archive's, and those behind them.
    members: Range<u64>,
    size: u64,
    part_size: u64,
    sections: Vec<Section>,
    objects: Objects,
    spool: Arc<Spool>,
    /// Where this archive's files stand in the spool.
    records: Range<u64>,
    /// By part; `None` where a part begins in a section of fixed bytes.
    marks: Vec<Option<Mark>>,
}

impl Plan {
    /// A plan of the volume's files and those tag files, in parts of `part_size` bytes (a multiple of 64) or more.
    fn new(
        volume: &Volume,
        folder: String,
        members: Range<u64>,
        tags: Vec<(&'static str, Text)>,
        (spool, objects): (Arc<Spool>, Objects),
        part_size: u64,
    ) -> Result<Self, PlanError> {
        let sections = sections::sections(volume, &folder, tags);
        let size = sections::size(&sections);
        if size > MAX_ARCHIVE {
            return Err(PlanError::TooLarge(size));
        }
        let (part_size, records) = (part_size_for(size, part_size), volume.records.clone());
        let mut plan = Self { folder, members, size, part_size, sections, objects, spool, records, marks: Vec::new() };
        plan.marks = plan.find_marks()?;
        Ok(plan)
    }

    /// Size of the archive in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Length in bytes of every part but the last.
    pub(crate) fn part_size(&self) -> u64 {
        self.part_size
    }

    /// Number of parts; they count from 1.
    pub(crate) fn parts(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.part_size)).unwrap_or(u32::MAX)
    }

    /// The bytes of the archive that are part `number`.
    pub(crate) fn part_range(&self, number: u32) -> std::ops::Range<u64> {
        let start = u64::from(number - 1) * self.part_size;
        start..(start + self.part_size).min(self.size)
    }

    /// How many of the docset's members are written when parts `1..=parts` are, of earlier archives too.
    pub(crate) fn members_done(&self, parts: u32) -> u64 {
        let end = u64::from(parts) * self.part_size;
        let behind_data = self.sections.iter().any(|s| matches!(s.content, Content::Files) && s.end() <= end);
        match self.marks.get(parts as usize) {
            Some(Some(mark)) => mark.members,
            _ if behind_data => self.members.end,
            _ => self.members.start,
        }
    }

    /// The objects that the data lies in.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Ref and path (below the plan's folder) of the file whose record is at `position`, to name it in a message.
    pub(crate) fn name(&self, position: u64) -> io::Result<(String, String)> {
        let record = self.spool.read(position..self.records.end).next()?;
        Ok(record.map(|(_, record)| (record.r#ref, record.path)).unwrap_or_default())
    }

    /// One pass over the files that finds where each part begins.
    fn find_marks(&self) -> Result<Vec<Option<Mark>>, PlanError> {
        let mut marks = vec![None; self.parts() as usize];
        let mut offsets: Vec<u64> = self.sections.iter().map(|section| section.start).collect();
        let mut reader = self.spool.read(self.records.clone());
        while let Some((position, record)) = reader.next()? {
            for (section, offset) in self.sections.iter().zip(&mut offsets) {
                let len = item_len(&section.content, self.folder.len(), &record);
                let files = matches!(section.content, Content::Files);
                let members = if files { record.member } else { self.members.end };
                let mark = Mark { position, offset: *offset, members };
                for part in offset.div_ceil(self.part_size)..(*offset + len).div_ceil(self.part_size) {
                    marks[part as usize] = Some(mark);
                }
                *offset += len;
            }
        }
        Ok(marks)
    }
}

/// How many bytes a file has in a section of an archive with a folder of `folder` bytes.
fn item_len(content: &Content, folder: usize, record: &Record) -> u64 {
    let path = folder + record.path.len();
    match content {
        Content::Fixed(_) | Content::Text(_) => 0,
        Content::Files => zip::local_len(path, record.size, record.packed) + record.packed,
        Content::Directory => zip::central_len(path, record.size, record.packed, record.offset),
    }
}

#[cfg(test)]
mod tests;
