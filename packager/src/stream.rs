//! Streamed layouts: members in, the bytes of a `tar.zst`, `jsonl` or `parquet` object out.
//!
//! Unlike a ZIP archive, whose plan knows every offset beforehand, these compress as they go, so an object is written from its
//! beginning to its end. What is written depends on the members alone: equal docsets give equal bytes with one version of Adit.
//! The versions of zstd, zlib-rs and `parquet` that are built in are part of that, so a change of theirs that alters bytes raises the
//! layout's format version.
//! Everything here blocks and holds a few MiB, however large a document. Nothing is fetched or uploaded here.

mod bounds;
mod columns;
mod compress;
mod feed;
mod jsonl;
mod lines;
mod parquet;
mod parts;
mod shard;
mod tar;
mod utf8;
mod value;

use std::io::{self, Read};

use adit_shared::domain::{Access, FileRecord, Format};
use adit_shared::ids::VersionId;
use serde_json::{Map, Value};

use crate::error::BuildError;
use crate::manifest::Member;
pub(crate) use bounds::{Bound, Table, compressed};
pub(crate) use columns::Columns;
pub(crate) use lines::write as write_line;
pub(crate) use shard::{Form, Shard};
pub(crate) use tar::{END as TAR_END, entry_len as tar_entry_len};

/// A member of a docset with all that a row says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'a> {
    /// The document version.
    pub(crate) id: VersionId,
    /// The work's name.
    pub(crate) r#ref: &'a str,
    /// Its safe file name without extension.
    pub(crate) name: &'a str,
    /// The licence that holds: its own, else its collection's.
    pub(crate) license: Option<&'a str>,
    /// Who may have its files, in tables with a column for that.
    pub(crate) access: Option<&'a Access>,
    /// Its Dublin Core metadata.
    pub(crate) metadata: &'a Map<String, Value>,
    /// Its files in the wanted formats, sorted by format.
    pub(crate) files: &'a [FileRecord],
}

impl<'a> Document<'a> {
    /// A member, with the licence of those that name none, and no metadata for those that have none; `marked` with its access level.
    pub(crate) fn of(member: &'a Member, license: Option<&'a str>, none: &'a Map<String, Value>, marked: bool) -> Self {
        static OPEN: Access = Access::Open;
        Self {
            id: member.id,
            r#ref: &member.r#ref,
            name: &member.name,
            license: member.license.as_deref().or(license),
            access: marked.then(|| member.access.as_ref().unwrap_or(&OPEN)),
            metadata: member.metadata.as_ref().unwrap_or(none),
            files: &member.files,
        }
    }
}

/// Where the contents of files come from, one after the other.
pub(crate) trait Contents {
    /// The decoded content of a document's `file`. Files are opened in the order of documents and formats, each once at the most, and read
    /// to the end before the next. A reader proves what it reads and fails with an [`io::Error`] that holds the [`BuildError`].
    fn open<'a>(&'a mut self, document: &'a Document<'_>, file: &'a FileRecord) -> io::Result<Box<dyn Read + 'a>>;
}

/// The refusal of a document's file, as it travels through readers and writers.
fn refuse(document: &Document<'_>, file: &FileRecord, reason: String) -> io::Error {
    let path = file_name(document.name, &file.format);
    io::Error::other(BuildError::Document { r#ref: document.r#ref.to_owned(), path, reason, is_missing: false })
}

/// What a document's file is called in messages.
fn file_name(name: &str, format: &Format) -> String {
    format!("{name}.{}", format.extension())
}

#[cfg(test)]
mod tests;
