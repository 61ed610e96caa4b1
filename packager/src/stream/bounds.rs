//! How long streamed objects become, from what is known before they are written.
//!
//! Compression cannot be foreseen. So there are two numbers: one that is never exceeded, and one that is likely. They differ much for texts,
//! because no length tells what is in them: in JSON a control character takes six bytes, and a text that is no UTF-8 comes with its original.

use adit_shared::domain::Encoding;

use super::Document;
use super::columns::{Columns, Described, is_textual};
use super::compress::Compression;
use super::parquet::{ROW_GROUP, weight};

/// Bytes that every object may have besides its rows.
const OBJECT: u64 = 4 << 10;
/// Bytes of a Parquet file that every column may have in its schema, and in each row group in headers, statistics and metadata.
const COLUMN: u64 = 768;
/// Bytes by which a value in Parquet may be longer than it is: its length and its levels.
const VALUE: u64 = 6;

/// A length in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Length {
    /// It is that or less.
    pub(crate) at_most: u64,
    /// It is near that, for texts in common languages.
    pub(crate) likely: u64,
}

/// Length at the most of what has so many bytes before compression by zstd or gzip: what does not shrink is kept in blocks as it is.
pub(crate) fn compressed(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 256).saturating_add(1 << 10)
}

/// A tabular layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Lines of JSON.
    Jsonl(Compression),
    /// Parquet.
    Parquet,
}

/// Adds the rows of one shard up.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    table: Table,
    columns: &'a Columns,
    raw: u64,
    likely: u64,
    group: u64,
    groups: u64,
}

impl<'a> Bound<'a> {
    /// A shard without rows.
    pub(crate) fn new(table: Table, columns: &'a Columns) -> Self {
        Self { table, columns, raw: 0, likely: 0, group: ROW_GROUP, groups: 0 }
    }

    /// Adds a document, whose metadata as JSON is given too.
    pub(crate) fn add(&mut self, document: &Document<'_>, metadata: &str) {
        if self.table == Table::Parquet {
            self.count_group(weight(document, self.columns, metadata));
        }
        let described = Described::of(document);
        let texts = (described.creator.len() + described.subject.len() + self.columns.all().count()) as u64;
        let names: u64 =
            self.columns.files().iter().flat_map(|files| files.columns()).map(|(name, _)| name.len() as u64).sum();
        // Escapes make a text in JSON as long as in Parquet or longer, and its names stand for what is around the values.
        let described = serde_json::to_vec(&described).map_or(u64::MAX, |line| line.len() as u64);
        let row = described.saturating_add(names + texts * (VALUE + 8));
        self.raw = self.raw.saturating_add(row);
        self.likely = self.likely.saturating_add(if self.is_compressed() { row / 3 } else { row });
        for column in self.columns.files() {
            let Some(file) = document.files.iter().find(|file| file.format == column.format) else { continue };
            let most = match (self.table, is_textual(&file.media_type)) {
                (Table::Jsonl(_), true) => {
                    file.size.saturating_mul(6).saturating_add(file.size.div_ceil(3).saturating_mul(4))
                }
                (Table::Jsonl(_), false) => file.size.div_ceil(3).saturating_mul(4),
                (Table::Parquet, true) => file.size.saturating_mul(4),
                (Table::Parquet, false) => file.size,
            };
            self.raw = self.raw.saturating_add(most).saturating_add(64);
            let stored = if file.encoding == Encoding::Gzip { file.place.stored } else { file.size };
            let stored = if self.is_compressed() { stored } else { file.size };
            self.likely = self.likely.saturating_add(stored).saturating_add(40);
        }
    }

    /// The length of the shard.
    pub(crate) fn finish(&self) -> Length {
        let overhead = match self.table {
            Table::Jsonl(_) => OBJECT,
            Table::Parquet => (self.groups + 1) * self.columns.all().count() as u64 * COLUMN + OBJECT + self.raw / 1024,
        };
        let raw = if self.is_compressed() { compressed(self.raw) } else { self.raw };
        let at_most = raw.saturating_add(overhead);
        Length { at_most, likely: self.likely.saturating_add(overhead / 4).min(at_most) }
    }

    fn is_compressed(&self) -> bool {
        self.table != Table::Jsonl(Compression::None)
    }

    fn count_group(&mut self, weight: Option<u64>) {
        if weight.is_none_or(|weight| self.group + weight > ROW_GROUP) {
            (self.group, self.groups) = (0, self.groups + 1);
        }
        self.group += weight.unwrap_or(ROW_GROUP);
    }
}
