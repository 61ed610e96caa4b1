//! The arithmetic of an archive: how long each of its sections is and what stands in those that do not grow with the
//! number of files. The plan and the estimate both come from here, so they cannot disagree.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Encoding, FileRecord, Format, Layout};
use bytes::Bytes;

use crate::bag;
use crate::manifest::{GZIP_HEADER, GZIP_TRAILER};
use crate::zip;

/// A stretch of the archive.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Its first byte in the archive.
    pub(super) start: u64,
    /// Its length in bytes.
    pub(super) len: u64,
    /// What stands there.
    pub(super) content: Content,
}

impl Section {
    /// The byte behind its last.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// What stands in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// These bytes.
    Fixed(Bytes),
    /// Of every file: its local header and its data.
    Files,
    /// Of every file: its line in the bag's manifest.
    Listing,
    /// Of every file: its central directory entry.
    Directory,
}

/// What only the whole pass over the files tells of a bag's manifest, and what its metadata names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digests {
    /// Fingerprint of the docset.
    pub(super) docset: Sha256,
    /// Fingerprint of the package.
    pub(super) package: Sha256,
    /// CRC-32 of the payload manifest.
    pub(super) listing_crc32: u32,
    /// SHA-256 of the payload manifest.
    pub(super) listing_sha256: Sha256,
}

/// Path of a file below the archive's [`folder`].
pub(super) fn path(layout: Layout, name: &str, format: &Format) -> String {
    let payload = match layout {
        Layout::Flat => "",
        Layout::Bag | Layout::TarZst | Layout::Jsonl | Layout::Parquet => bag::PAYLOAD,
    };
    format!("{payload}{name}.{}", format.extension())
}

/// What every path in the archive of a package begins with; its length depends on the layout alone.
pub(super) fn folder(layout: Layout, package: &Sha256) -> String {
    match layout {
        Layout::Flat => String::new(),
        Layout::Bag | Layout::TarZst | Layout::Jsonl | Layout::Parquet => bag::bag_folder(package) + "/",
    }
}

/// What stands before the files.
fn opening(layout: Layout, folder: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if layout == Layout::Bag {
        write_tag_file(&mut out, folder, bag::DECLARATION, bag::DECLARATION_TEXT.as_bytes());
    }
    out
}

/// Length in bytes of a file's data in the archive: a gzip member without what is before and behind its deflate stream.
pub(super) fn packed(file: &FileRecord) -> u64 {
    match file.encoding {
        Encoding::Identity => file.place.stored,
        Encoding::Gzip => file.place.stored.saturating_sub(GZIP_HEADER + GZIP_TRAILER),
    }
}

/// Bytes of a stored file that come before its data in the archive.
pub(super) fn before(encoding: Encoding) -> u64 {
    match encoding {
        Encoding::Identity => 0,
        Encoding::Gzip => GZIP_HEADER,
    }
}

/// Adds files up, in the order in which they stand in the archive.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    layout: Layout,
    /// Length of the archive's folder.
    folder: usize,
    /// Length of what stands before the files.
    opening: u64,
    files: u64,
    octets: u64,
    data: u64,
    listing: u64,
    directory: u64,
}

impl Sum {
    pub(super) fn new(layout: Layout) -> Self {
        // Of any package, for the lengths alone: who estimates has no fingerprint.
        let folder = folder(layout, &Sha256([0; 32]));
        let opening = opening(layout, &folder).len() as u64;
        Self { layout, folder: folder.len(), opening, files: 0, octets: 0, data: 0, listing: 0, directory: 0 }
    }

    /// Adds a file with a [`path`] of `name` bytes; returns where its local header stands. Sums stop at `u64::MAX`.
    pub(super) fn add(&mut self, name: usize, size: u64, packed: u64) -> u64 {
        let offset = self.data.saturating_add(self.opening);
        let path = self.folder + name;
        self.files += 1;
        self.octets = self.octets.saturating_add(size);
        self.data = self.data.saturating_add(zip::local_len(path, size, packed)).saturating_add(packed);
        self.directory = self.directory.saturating_add(zip::central_len(path, size, packed, offset));
        if self.layout == Layout::Bag {
            self.listing = self.listing.saturating_add(bag::manifest_line_len(name));
        }
        offset
    }

    /// The archive's sections, one behind the other.
    pub(super) fn sections(&self, digests: &Digests) -> Vec<Section> {
        let mut at = Sections::default();
        let folder = folder(self.layout, &digests.package);
        at.fixed(opening(self.layout, &folder).into());
        at.push(Content::Files, self.data);
        let mut tags = Vec::new();
        if self.layout == Layout::Bag {
            self.bag_files(&mut at, &mut tags, &folder, digests);
        }
        self.directory(&mut at, &folder, &tags);
        at.list
    }

    /// The tag files behind the payload; notes in `tags` what the central directory says of them.
    fn bag_files<'a>(&self, at: &mut Sections, tags: &mut Vec<TagFile<'a>>, folder: &'a str, digests: &Digests) {
        let listing =
            TagFile { folder, name: bag::MANIFEST, crc32: digests.listing_crc32, size: self.listing, offset: at.end };
        let mut header = Vec::new();
        zip::write_local(&mut header, &listing.entry());
        at.fixed(header.into());
        at.push(Content::Listing, self.listing);

        let info = bag::info(&digests.docset, &digests.package, self.octets, self.files);
        let tag_manifest = bag::tag_manifest(&digests.listing_sha256, &info);
        tags.push(listing);
        for (name, text) in [(bag::INFO, info.as_bytes()), (bag::TAG_MANIFEST, &tag_manifest)] {
            tags.push(TagFile::of(folder, name, text, at.end));
            let mut file = Vec::new();
            write_tag_file(&mut file, folder, name, text);
            at.fixed(file.into());
        }
    }

    /// The central directory, in the order of the entries, and the end records.
    fn directory(&self, at: &mut Sections, folder: &str, tags: &[TagFile<'_>]) {
        let start = at.end;
        if self.layout == Layout::Bag {
            let declaration = TagFile::of(folder, bag::DECLARATION, bag::DECLARATION_TEXT.as_bytes(), 0);
            at.fixed(declaration.central().into());
        }
        at.push(Content::Directory, self.directory);
        let mut end: Vec<u8> = tags.iter().flat_map(TagFile::central).collect();
        let len = (at.end - start).saturating_add(end.len() as u64);
        let count = self.files + if self.layout == Layout::Bag { 1 + tags.len() as u64 } else { 0 };
        zip::write_end(&mut end, count, len, start);
        at.fixed(end.into());
    }
}

#[derive(Default)]
struct Sections {
    list: Vec<Section>,
    end: u64,
}

impl Sections {
    fn fixed(&mut self, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.push(Content::Fixed(bytes), len);
    }

    fn push(&mut self, content: Content, len: u64) {
        self.list.push(Section { start: self.end, len, content });
        self.end = self.end.saturating_add(len);
    }
}

/// A tag file of a bag, as its headers name it.
struct TagFile<'a> {
    folder: &'a str,
    name: &'static str,
    crc32: u32,
    size: u64,
    offset: u64,
}

impl<'a> TagFile<'a> {
    fn of(folder: &'a str, name: &'static str, text: &[u8], offset: u64) -> Self {
        Self { folder, name, crc32: crc32fast::hash(text), size: text.len() as u64, offset }
    }

    fn entry(&self) -> zip::Entry<'_> {
        zip::Entry {
            folder: self.folder,
            name: self.name,
            encoding: Encoding::Identity,
            crc32: self.crc32,
            size: self.size,
            packed: self.size,
        }
    }

    fn central(&self) -> Vec<u8> {
        let mut out = Vec::new();
        zip::write_central(&mut out, &self.entry(), self.offset);
        out
    }
}

fn write_tag_file(out: &mut Vec<u8>, folder: &str, name: &'static str, text: &[u8]) {
    zip::write_local(out, &TagFile::of(folder, name, text, 0).entry());
    out.extend_from_slice(text);
}
