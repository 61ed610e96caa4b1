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

/// An expression of SQL for the files of the document `d` in the formats that `wanted` holds placeholders for (`None`: in all):
/// a text of records with `;` between them, empty if there are none. Only letters, digits and spaces are in a record.
pub(super) fn files_of_d(wanted: Option<&str>) -> String {
    let condition = match wanted {
        None => String::new(),
        Some("") => " AND FALSE".to_owned(),
        Some(placeholders) => format!(" AND f.format IN ({placeholders})"),
    };
    format!(
        "COALESCE((SELECT string_agg(concat_ws(' ', f.format, f.media_type, f.size, f.crc32, f.encoding, f.pack, \
         f.pack_offset, f.stored, hex(f.sha256), f.deflate_crc32), ';') FROM files f WHERE f.document = d.id{condition}), '')"
    )
}

/// Media types and packs by number, as far as they have been met. Numbers are never given out again.
#[derive(Debug, Default)]
pub(super) struct Names {
    media_types: HashMap<i64, String>,
    packs: HashMap<i64, String>,
}

/// The files of some documents, parsed; what their numbers stand for is looked up for all of them at once.
pub(super) async fn parse_files(db: &SqlStore, names: &mut Names, texts: &[&str]) -> StoreResult<Vec<Vec<FileRecord>>> {
    let records =
        texts.iter().map(|text| text.split(';').filter(|record| !record.is_empty()).map(Record::parse).collect());
    let parsed: Vec<Vec<Record<'_>>> = records.collect::<Option<_>>().ok_or_else(|| unreadable("a file"))?;
    let all = || parsed.iter().flatten();
    learn(db, &mut names.media_types, "media_types", all().map(|record| record.media_type)).await?;
    learn(db, &mut names.packs, "packs", all().map(|record| record.pack)).await?;
    let files = parsed.iter().map(|records| {
        let mut files: Vec<FileRecord> =
            records.iter().map(|record| record.named(names)).collect::<StoreResult<_>>()?;
        files.sort_by(|a, b| a.format.cmp(&b.format));
        Ok(files)
    });
    files.collect()
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Corrupt(format!("what it says of {what} cannot be read"))
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

struct Record<'a> {
    format: Format,
    media_type: i64,
    size: u64,
    crc32: u32,
    encoding: &'a str,
    pack: i64,
    offset: u64,
    stored: u64,
    sha256: Sha256,
    deflate_crc32: Option<u32>,
}

impl<'a> Record<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split(' ');
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
            // NULLs are left out of the text.
            deflate_crc32: next().map(str::parse).transpose().ok()?,
        })
    }

    fn named(&self, names: &Names) -> StoreResult<FileRecord> {
        let media_type = names.media_types.get(&self.media_type).ok_or_else(|| unreadable("a file's media type"))?;
        let object = names.packs.get(&self.pack).ok_or_else(|| unreadable("a file's pack"))?;
        Ok(FileRecord {
            format: self.format.clone(),
            media_type: media_type.clone(),
            size: self.size,
            sha256: self.sha256,
            crc32: self.crc32,
            encoding: self.encoding.parse().map_err(|_| unreadable("a file's encoding"))?,
            deflate_crc32: self.deflate_crc32,
            place: Place { object: object.clone(), offset: self.offset, stored: self.stored },
        })
    }
}
