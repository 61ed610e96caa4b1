//! Reads a document's files as one column of the document's row.
//!
//! A row for each file would make reading a large docset several times slower, most of that being the driver's work for
//! each row and column. So the database joins a document's files into one text, with numbers in place of media types and packs.

use std::collections::HashMap;

use sqlx::Row as _;

use super::rows::{join, made};
use super::{SqlStore, StoreError, StoreResult};
use crate::digest::Sha256;
use crate::domain::{FileRecord, Format, Place};

/// The column `files` of a statement that has the document as `d`: a line for each file in the formats that `wanted` holds
/// placeholders for (`None`: in all), or NULL where there is none.
pub(super) fn files_column(wanted: Option<&str>) -> String {
    let condition = match wanted {
        None => String::new(),
        Some("") => " AND FALSE".to_owned(),
        Some(placeholders) => format!(" AND f.format IN ({placeholders})"),
    };
    format!(
        "(SELECT string_agg(f.format || ' ' || f.media_type || ' ' || f.size || ' ' || f.crc32 || ' ' || f.encoding || ' ' || \
         f.pack || ' ' || f.pack_offset || ' ' || f.stored || ' ' || hex(f.sha256), '\n') \
         FROM files f WHERE f.document = d.id{condition}) AS files"
    )
}

/// Media types and packs by number, as far as they have been met. Numbers are never given out again.
#[derive(Debug, Default)]
pub(super) struct Names {
    media_types: HashMap<i64, String>,
    packs: HashMap<i64, String>,
}

/// The columns `files` of some documents, parsed; what their numbers stand for is looked up for all of them at once.
pub(super) async fn parse_files(
    db: &SqlStore,
    names: &mut Names,
    columns: &[Option<String>],
) -> StoreResult<Vec<Vec<FileRecord>>> {
    let lines = columns.iter().map(|column| column.iter().flat_map(|text| text.split('\n')).map(Line::parse).collect());
    let parsed: Vec<Vec<Line<'_>>> =
        lines.collect::<Option<_>>().ok_or_else(|| StoreError::Corrupt("a file's row cannot be read".to_owned()))?;
    let all = || parsed.iter().flatten();
    learn(db, &mut names.media_types, "media_types", all().map(|line| line.media_type)).await?;
    learn(db, &mut names.packs, "packs", all().map(|line| line.pack)).await?;
    let record = |line: &Line<'_>| line.record(names);
    let files = parsed.iter().map(|lines| {
        let mut files: Vec<FileRecord> = lines.iter().map(record).collect::<StoreResult<_>>()?;
        files.sort_by(|a, b| a.format.cmp(&b.format));
        Ok(files)
    });
    files.collect()
}

/// Looks up what is not known yet of `numbers`.
async fn learn(
    db: &SqlStore,
    known: &mut HashMap<i64, String>,
    table: &str,
    numbers: impl Iterator<Item = i64>,
) -> StoreResult<()> {
    let mut unknown: Vec<i64> = numbers.filter(|number| !known.contains_key(number)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    if unknown.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT id, name FROM {table} WHERE id IN ({})", join(unknown));
    for row in made(sql, false).fetch_all(&db.read).await? {
        known.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(())
}

/// One line of the column.
struct Line<'a> {
    format: Format,
    media_type: i64,
    size: u64,
    crc32: u32,
    encoding: &'a str,
    pack: i64,
    offset: u64,
    stored: u64,
    sha256: Sha256,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut next = || fields.next();
        Some(Self {
            format: next()?.parse().ok()?,
            media_type: next()?.parse().ok()?,
            size: next()?.parse().ok()?,
            crc32: next()?.parse().ok()?,
            encoding: next()?,
            pack: next()?.parse().ok()?,
            offset: next()?.parse().ok()?,
            stored: next()?.parse().ok()?,
            sha256: next()?.parse().ok()?,
        })
    }

    fn record(&self, names: &Names) -> StoreResult<FileRecord> {
        let name = |names: &HashMap<i64, String>, number: i64| {
            names
                .get(&number)
                .cloned()
                .ok_or_else(|| StoreError::Corrupt("a file's pack or media type is not there".to_owned()))
        };
        Ok(FileRecord {
            format: self.format.clone(),
            media_type: name(&names.media_types, self.media_type)?,
            size: self.size,
            sha256: self.sha256,
            crc32: self.crc32,
            encoding: self.encoding.parse().map_err(StoreError::Corrupt)?,
            place: Place { object: name(&names.packs, self.pack)?, offset: self.offset, stored: self.stored },
        })
    }
}
