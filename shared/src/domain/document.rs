//! Collections, documents and files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use super::{Access, FormatTotal, Tdm};
use crate::digest::Sha256;
use crate::ids::{CollectionId, ImportId, IndexId, VersionId};
use crate::search::Language;

/// The format of the metadata that is rendered and stored at import (JSON-LD, in archives `{name}.json`).
pub const META: &str = "meta";

/// A corpus: named set of documents with one metadata schema and a default licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// URI of the licence of documents that name none.
    pub license: Option<String>,
    /// Who may have the files of documents that do not say it themselves, as its `collection.json` has it.
    pub access: Access,
    /// What is said of text and data mining, for documents that say nothing themselves.
    pub tdm: Option<Tdm>,
    /// What its texts are analysed by: stems, and words where no spaces stand between them. `None`: words as they are.
    pub language: Option<Language>,
    /// Keeps searches from finding closed texts at all for those who may not read them.
    pub hide_closed_text: bool,
    /// The newest complete state; 0 before the first import.
    pub corpus_version: i64,
    /// The import that made that state; `None` for those made before imports were recorded.
    pub import: Option<ImportId>,
    /// Documents that are current in that state.
    pub documents: u64,
    /// Files and bytes by format, of current documents, sorted by format.
    pub formats: Vec<FormatTotal>,
    /// Milliseconds since the epoch.
    pub updated: i64,
}

impl Collection {
    /// The search index of its newest complete state.
    #[must_use]
    pub fn index(&self) -> IndexId {
        IndexId { collection: self.id, corpus_version: self.corpus_version, import: self.import }
    }
}

/// A file's format: one to sixteen of `a`–`z` and `0`–`9`; it becomes the file name's extension.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]{1,16}$", examples("txt"))]
pub struct Format(String);

/// Not a format's name.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("a format is one to sixteen of a-z and 0-9 (such as txt, pdf, xml), not {0:?}")]
pub struct InvalidFormat(pub String);

impl Format {
    /// The metadata of every document.
    #[must_use]
    pub fn meta() -> Self {
        Self(META.to_owned())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The extension of such a file's name in an archive.
    #[must_use]
    pub fn extension(&self) -> &str {
        if self.0 == META { "json" } else { &self.0 }
    }
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ok = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidFormat(text.to_owned())) }
    }
}

impl TryFrom<String> for Format {
    type Error = InvalidFormat;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.0
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a file's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are.
    Identity,
    /// One gzip member (RFC 1952) with a header of exactly ten bytes: no name, no time, no extra field.
    /// So the raw deflate stream is the member less its first ten and last eight bytes.
    Gzip,
}

impl Encoding {
    /// Its name in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            other => Err(format!("unknown encoding {other:?}")),
        }
    }
}

/// Where a file's stored bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Key of the pack in the object store.
    pub object: String,
    /// First byte within it.
    pub offset: u64,
    /// Stored length in bytes (of the gzip member where the encoding is gzip).
    pub stored: u64,
}

/// One rendition of a document in one format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its format.
    pub format: Format,
    /// Its media type (RFC 6838), with parameters.
    pub media_type: String,
    /// Length of the content in bytes, decoded.
    pub size: u64,
    /// SHA-256 of the content, decoded.
    pub sha256: Sha256,
    /// CRC-32 (ISO 3309, as in gzip and ZIP) of the content, decoded.
    pub crc32: u32,
    /// How the bytes are stored.
    pub encoding: Encoding,
    /// CRC-32 of the deflate stream in the stored gzip member: proves stored bytes without inflating them. `None` where nothing is deflated
    /// (there [`crc32`](Self::crc32) does it), and for files that were imported before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deflate_crc32: Option<u32>,
    /// Where they are stored.
    pub place: Place,
}

/// That a work was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// When; milliseconds since the epoch.
    pub at: i64,
    /// Why, in the operator's words.
    pub reason: String,
}

/// One version of one work.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The id of this version.
    pub id: VersionId,
    /// Its collection.
    pub collection: CollectionId,
    /// The work's name, unique in its collection.
    pub r#ref: String,
    /// Counts this work's versions from 1.
    pub version: u32,
    /// Safe file name without extension, unique in the collection even where case is ignored (see [`crate::names`]).
    pub name: String,
    /// Dublin Core metadata: a JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Identifies this version's content.
    pub content_hash: Sha256,
    /// The corpus version that brought it.
    pub added: i64,
    /// The corpus version that replaced it, or that lacks it because it was withdrawn, if any.
    pub superseded: Option<i64>,
    /// Who may have its files: that of the work's newest version.
    pub access: Access,
    /// Whether the work was withdrawn.
    pub withdrawn: Option<Withdrawn>,
    /// Its files, sorted by format.
    pub files: Vec<FileRecord>,
}

/// The hash that identifies a document version's content: its ref, its name and, sorted by format, each file's format,
/// media type, length and SHA-256. Fields are length-prefixed, so that no two documents share one preimage.
#[must_use]
pub fn content_hash<'a>(
    r#ref: &str,
    name: &str,
    files: impl IntoIterator<Item = (&'a Format, &'a str, u64, &'a Sha256)>,
) -> Sha256 {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by_key(|file| file.0);
    let mut hash = sha2::Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(r#ref.as_bytes());
    field(name.as_bytes());
    for (format, media_type, size, sha256) in files {
        field(format.as_str().as_bytes());
        field(media_type.as_bytes());
        field(&size.to_be_bytes());
        field(&sha256.0);
    }
    Sha256(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_short_lower_case_words() {
        assert_eq!("txt".parse::<Format>().unwrap().extension(), "txt");
        assert_eq!(Format::meta().extension(), "json");
        for bad in ["", "TXT", "a.b", "../x", "seventeen-letters"] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_content_hash_ignores_the_order_of_files_and_nothing_else() {
        let (txt, pdf) = ("txt".parse().unwrap(), "pdf".parse().unwrap());
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let one = content_hash("r", "n", [(&txt, "text/plain", 1, &a), (&pdf, "application/pdf", 1, &b)]);
        let two = content_hash("r", "n", [(&pdf, "application/pdf", 1, &b), (&txt, "text/plain", 1, &a)]);
        assert_eq!(one, two);
        let other = content_hash("rn", "", [(&txt, "text/plain", 1, &a), (&pdf, "application/pdf", 1, &b)]);
        assert_ne!(one, other);
    }
}
