//! The arithmetic of one ZIP archive: how long each of its sections is and what stands in those that do not grow with the
//! number of files.

use adit_shared::domain::Encoding;
use bytes::Bytes;

use super::lists::Text;
use super::sum::Volume;
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
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// These bytes.
    Fixed(Bytes),
    /// The content of a tag file.
    Text(Text),
    /// Of every file: its local header and its data.
    Files,
    /// Of every file: its central directory entry.
    Directory,
}

/// The sections of an archive, one behind the other: the volume's files, those tag files, the central directory in the same order, and
/// the end records.
pub(super) fn sections(volume: &Volume, folder: &str, tags: Vec<(&'static str, Text)>) -> Vec<Section> {
    let mut at = Sections::default();
    at.push(Content::Files, volume.data);
    let mut entries = Vec::new();
    let count = volume.entries + tags.len() as u64;
    for (name, text) in tags {
        let entry = entry(folder, name, &text);
        zip::write_central(&mut entries, &entry, at.end);
        let mut header = Vec::new();
        zip::write_local(&mut header, &entry);
        at.fixed(header.into());
        let len = text.size;
        at.push(Content::Text(text), len);
    }
    let start = at.end;
    at.push(Content::Directory, volume.directory);
    let len = volume.directory.saturating_add(entries.len() as u64);
    zip::write_end(&mut entries, count, len, start);
    at.fixed(entries.into());
    at.list
}

/// Length in bytes of the archive with these sections.
pub(super) fn size(sections: &[Section]) -> u64 {
    sections.last().map_or(0, Section::end)
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

/// A tag file, as its headers name it.
fn entry<'a>(folder: &'a str, name: &'a str, text: &Text) -> zip::Entry<'a> {
    let (crc32, size) = (text.crc32, text.size);
    zip::Entry { folder, name, encoding: Encoding::Identity, crc32, size, packed: size }
}
