//! How long streamed assets become at the most, from what is known before they are written.
//!
//! Compression cannot be foreseen, and no length tells what is in a text: in JSON a control character takes six bytes, and a text that is no
//! UTF-8 comes with its original. So these are bounds, never exceeded and seldom near.

use adit_shared::domain::{Compression, FileRecord, Format, META};

use super::Document;
use super::columns::{Columns, Described, is_textual};
use super::parquet::{ROW_GROUP, weight};

/// Bytes that every shard may have besides its rows.
const SHARD: u64 = 4 << 10;
/// Bytes that every column of a Parquet file may have in each row group: headers, statistics and metadata; and once in the schema.
const COLUMN: u64 = 768;
/// Bytes by which a value may be longer than it is: with its length and levels in Parquet, as `null` in JSON.
const VALUE: u64 = 8;

/// Length at the most of what has so many bytes before compression by zstd or gzip: what does not shrink is kept in blocks as it is.
pub(crate) fn compressed(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 256).saturating_add(1 << 10)
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// As lines of JSON.
    Jsonl(Compression),
    /// As Parquet.
    Parquet,
}

/// Adds rows up.
#[derive(Debug)]
pub(crate) struct Bound {
    table: Table,
    columns: Columns,
    /// Number of columns, and bytes of those names that are in every line.
    count: u64,
    names: u64,
    raw: u64,
    /// Bytes in the row group that is being filled, and how many there are.
    group: u64,
    groups: u64,
}

impl Bound {
    /// No rows of these formats; `marked` with access levels.
    pub(crate) fn new(table: Table, formats: &[Format], marked: bool) -> Self {
        let columns = Columns::new(formats, marked);
        let names = columns.files().iter().flat_map(|files| files.columns()).map(|(name, _)| name.len() as u64).sum();
        Self { table, count: columns.all().count() as u64, names, columns, raw: 0, group: ROW_GROUP, groups: 0 }
    }

    /// Adds a document's row.
    pub(crate) fn add(&mut self, document: &Document<'_>) {
        let length = |value: serde_json::Result<Vec<u8>>| value.map_or(0, |json| json.len() as u64);
        if self.table == Table::Parquet {
            let metadata = length(serde_json::to_vec(document.metadata));
            let weight = weight(document, &self.columns, metadata);
            if weight.is_none_or(|weight| self.group + weight > ROW_GROUP) {
                (self.group, self.groups) = (0, self.groups + 1);
            }
            self.group += weight.unwrap_or(ROW_GROUP);
        }
        let described = Described::of(document);
        let values = self.count + (described.creator.len() + described.subject.len()) as u64;
        // In JSON a text is as long as in Parquet or longer, and names and quotes stand for what is around it there.
        let mut row = length(serde_json::to_vec(&described)) + self.names + values * VALUE;
        for file in document.files.iter().filter(|file| file.format.as_str() != META) {
            row = row.saturating_add(self.content(file)).saturating_add(80);
        }
        self.raw = self.raw.saturating_add(row);
    }

    fn content(&self, file: &FileRecord) -> u64 {
        let base64 = file.size.div_ceil(3).saturating_mul(4);
        match (self.table, is_textual(&file.media_type)) {
            (Table::Jsonl(_), true) => file.size.saturating_mul(6).saturating_add(base64),
            (Table::Jsonl(_), false) => base64,
            // U+FFFD has three bytes.
            (Table::Parquet, true) => file.size.saturating_mul(4),
            (Table::Parquet, false) => file.size,
        }
    }

    /// The length of all rows in so many shards.
    pub(crate) fn finish(&self, shards: u64) -> u64 {
        let overhead = match self.table {
            Table::Jsonl(_) => SHARD,
            // Each shard ends a row group, and has its schema.
            Table::Parquet => 2 * self.count * COLUMN + SHARD,
        };
        let groups = self.groups * self.count * COLUMN;
        let raw = match self.table {
            Table::Jsonl(Compression::None) => self.raw,
            // Pages have headers too: one in a MiB or so.
            Table::Jsonl(_) | Table::Parquet => compressed(self.raw).saturating_add(self.raw / 1024),
        };
        raw.saturating_add(groups).saturating_add(shards.saturating_mul(overhead))
    }
}
