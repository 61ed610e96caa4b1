//! The plan of an archive: where every byte of it stands, computed before one is copied.
//!
//! A plan is a pure function of the docset's members, the formats and the layout. It takes the same memory for ten files as for ten million
//! (they wait in a temporary file), and any part of the archive can be drawn up on its own.
//! Nothing is fetched here (see [`crate::build`]).

mod draft;
mod sections;
mod spool;

use std::collections::HashMap;
use std::io;

use adit_shared::digest::Sha256;
use adit_shared::domain::{FileRecord, Layout, Recipe};
use sha2::Digest as _;

use crate::bag;
use crate::manifest::{Header, Member};
use crate::zip;
pub(crate) use draft::{Draft, Piece};
use sections::{Content, Digests, Section, Sum};
use spool::{Record, Spool, SpoolWriter};

/// Length in bytes of an upload's parts (all but the last), doubled for archives that would have more than [`MAX_PARTS`].
/// Always a multiple of SHA-256's block.
pub const PART_SIZE: u64 = 8 << 20;
/// The most parts that S3 takes.
pub const MAX_PARTS: u64 = 10_000;
/// The longest object that S3 takes, in bytes.
pub const MAX_ARCHIVE: u64 = 5 << 40;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The archive would be longer than [`MAX_ARCHIVE`].
    #[error("the archive would have {0} bytes, more than an object store takes ({MAX_ARCHIVE}); divide the docset")]
    TooLarge(u64),
    /// Members that were counted are not those that were announced: no archive is ever made of a part of a docset.
    #[error("{announced} documents were announced, but {included} with files and {omitted} without came")]
    Incomplete {
        /// Members that the manifest's header announced.
        announced: u64,
        /// Members with files.
        included: u64,
        /// Members without.
        omitted: u64,
    },
    /// The temporary file cannot be written or read.
    #[error("the plan's temporary file in {dir}: {0}", dir = std::env::temp_dir().display())]
    Spool(#[from] io::Error),
}

/// The exact size of an archive, from its members alone: the plan's own arithmetic without a plan.
#[derive(Debug, Clone)]
pub struct SizeEstimator {
    layout: Layout,
    sum: Sum,
}

impl SizeEstimator {
    /// An archive without files.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self { layout, sum: Sum::new(layout) }
    }

    /// Adds a member's files in the wanted formats. Members come in the order of their ids and files in that of their formats:
    /// it decides which offsets need 64 bits.
    pub fn add(&mut self, name: &str, files: &[FileRecord]) {
        for file in files {
            let path = sections::path(self.layout, name, &file.format);
            self.sum.add(path.len(), file.size, sections::packed(file));
        }
    }

    /// The archive's size in bytes.
    #[must_use]
    pub fn finish(&self) -> u64 {
        let zero = Sha256([0; 32]);
        let digests = Digests { docset: zero, package: zero, listing_crc32: 0, listing_sha256: zero };
        size(&self.sum.sections(&digests))
    }
}

fn size(sections: &[Section]) -> u64 {
    sections.last().map_or(0, Section::end)
}

/// Takes members in and makes a [`Plan`].
#[derive(Debug)]
pub(crate) struct PlanBuilder {
    recipe: Recipe,
    layout: Layout,
    sum: Sum,
    spool: SpoolWriter,
    objects: Vec<String>,
    numbers: HashMap<String, u32>,
    included: u64,
    omitted: u64,
    line: Vec<u8>,
    listing_crc32: crc32fast::Hasher,
    listing_sha256: sha2::Sha256,
}

impl PlanBuilder {
    /// A plan without files.
    pub(crate) fn new(recipe: &Recipe) -> Result<Self, PlanError> {
        let layout = recipe.layout;
        Ok(Self {
            recipe: recipe.clone(),
            layout,
            sum: Sum::new(layout),
            spool: SpoolWriter::new()?,
            objects: Vec::new(),
            numbers: HashMap::new(),
            included: 0,
            omitted: 0,
            line: Vec::new(),
            listing_crc32: crc32fast::Hasher::new(),
            listing_sha256: sha2::Sha256::new(),
        })
    }

    /// Adds the next member, which a [`crate::manifest::Reader`] has checked.
    pub(crate) fn add(&mut self, member: &Member) -> Result<(), PlanError> {
        for file in &member.files {
            let path = sections::path(self.layout, &member.name, &file.format);
            let packed = sections::packed(file);
            let offset = self.sum.add(path.len(), file.size, packed);
            if self.layout == Layout::Bag {
                self.line.clear();
                bag::write_manifest_line(&mut self.line, &file.sha256, &path);
                self.listing_crc32.update(&self.line);
                self.listing_sha256.update(&self.line);
            }
            let record = Record {
                member: self.included + self.omitted,
                r#ref: member.r#ref.clone(),
                path,
                encoding: file.encoding,
                crc32: file.crc32,
                deflate_crc32: file.deflate_crc32,
                sha256: file.sha256,
                size: file.size,
                packed,
                offset,
                object: self.object(&file.place.object),
                from: file.place.offset + sections::before(file.encoding),
            };
            self.spool.push(&record)?;
        }
        let count = if member.files.is_empty() { &mut self.omitted } else { &mut self.included };
        *count += 1;
        Ok(())
    }

    /// The number of an object; packs are few, whatever the number of files.
    fn object(&mut self, key: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
        self.objects.push(key.to_owned());
        self.numbers.insert(key.to_owned(), number);
        number
    }

    /// The plan of all that was added, in parts of `part_size` bytes (a multiple of 64) or more.
    pub(crate) fn finish(self, header: &Header, part_size: u64) -> Result<Plan, PlanError> {
        let (announced, included, omitted) = (header.documents, self.included, self.omitted);
        if announced != included + omitted {
            return Err(PlanError::Incomplete { announced, included, omitted });
        }
        let fingerprint = self.recipe.fingerprint(&header.fingerprint, header.base.as_ref(), header.about.as_ref());
        let digests = Digests {
            docset: header.fingerprint,
            package: fingerprint,
            listing_crc32: self.listing_crc32.finalize(),
            listing_sha256: Sha256(self.listing_sha256.finalize().into()),
        };
        let sections = self.sum.sections(&digests);
        let size = size(&sections);
        if size > MAX_ARCHIVE {
            return Err(PlanError::TooLarge(size));
        }
        let mut plan = Plan {
            fingerprint,
            folder: sections::folder(self.layout, &fingerprint),
            included,
            omitted,
            size,
            part_size: part_size_for(size, part_size),
            sections,
            objects: self.objects,
            spool: self.spool.finish()?,
            marks: Vec::new(),
        };
        plan.marks = plan.find_marks()?;
        Ok(plan)
    }
}

fn part_size_for(size: u64, smallest: u64) -> u64 {
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
    fingerprint: Sha256,
    /// What every path in the archive begins with.
    folder: String,
    included: u64,
    omitted: u64,
    size: u64,
    part_size: u64,
    sections: Vec<Section>,
    objects: Vec<String>,
    spool: Spool,
    /// By part; `None` where a part begins in a section of fixed bytes.
    marks: Vec<Option<Mark>>,
}

impl Plan {
    /// The package's fingerprint.
    pub(crate) fn fingerprint(&self) -> &Sha256 {
        &self.fingerprint
    }

    /// Number of the docset's members.
    pub(crate) fn requested(&self) -> u64 {
        self.included + self.omitted
    }

    /// Number of members with at least one file.
    pub(crate) fn included(&self) -> u64 {
        self.included
    }

    /// Number of members without.
    pub(crate) fn omitted(&self) -> u64 {
        self.omitted
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

    /// How many members are written when parts `1..=parts` are.
    pub(crate) fn members_done(&self, parts: u32) -> u64 {
        let end = u64::from(parts) * self.part_size;
        let behind_data = self.sections.iter().any(|s| s.content == Content::Files && s.end() <= end);
        match self.marks.get(parts as usize) {
            Some(Some(mark)) => mark.members,
            _ if behind_data => self.requested(),
            _ => 0,
        }
    }

    /// Key of one of the objects that the data lies in.
    pub(crate) fn object(&self, number: u32) -> &str {
        self.objects.get(number as usize).map_or("", String::as_str)
    }

    /// Ref and path (below the plan's folder) of the file whose record is at `position`, to name it in a message.
    pub(crate) fn name(&self, position: u64) -> io::Result<(String, String)> {
        let record = self.spool.read(position).next()?;
        Ok(record.map(|(_, record)| (record.r#ref, record.path)).unwrap_or_default())
    }

    /// One pass over the files that finds where each part begins.
    fn find_marks(&self) -> Result<Vec<Option<Mark>>, PlanError> {
        let mut marks = vec![None; self.parts() as usize];
        let mut offsets: Vec<u64> = self.sections.iter().map(|section| section.start).collect();
        let mut reader = self.spool.read(0);
        while let Some((position, record)) = reader.next()? {
            for (section, offset) in self.sections.iter().zip(&mut offsets) {
                let len = item_len(&section.content, self.folder.len(), &record);
                let members = if section.content == Content::Files { record.member } else { self.requested() };
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
        Content::Fixed(_) => 0,
        Content::Files => zip::local_len(path, record.size, record.packed) + record.packed,
        Content::Listing => bag::manifest_line_len(record.path.len()),
        Content::Directory => zip::central_len(path, record.size, record.packed, record.offset),
    }
}

#[cfg(test)]
mod tests;
