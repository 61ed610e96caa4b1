//! `parquet`: typed columns, zstd, small row groups, one row for each document.
//!
//! Texts are `STRING`, JSON too: what pandas, polars, DuckDB, Spark and `datasets` all read as a text. Nothing but the Parquet schema describes
//! them, so each reader picks its own type (with 32- or 64-bit offsets) by what it reads. Pages are version 1, values plain, without
//! dictionaries and page indexes: every reader has them, and zstd finds what repeats itself.
//!
//! A row group is held in memory until it is written, column by column; a document that is too large for that has one of its own (see
//! `large`).

mod large;

use std::io::{self, Read, Write};
use std::sync::Arc;

use adit_shared::domain::FileRecord;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::columns::{Cell, Columns, DESCRIBED, Described, FileColumns, REQUIRED};
use super::compress::ZSTD_LEVEL;
use super::value::{LARGE, small};
use super::{Contents, Document, refuse};
use crate::describe::ColumnKind;
use large::Chunk;
pub(super) use large::MAX_VALUE;

/// Who wrote a file: fixed, so that a new version of the crate alone changes no byte.
const CREATED_BY: &str = "Adit version 1.0.0";
/// Bytes of a row group before compression, and so what a reader that streams must hold.
pub(super) const ROW_GROUP: u64 = 8 << 20;
/// Bytes that a row counts besides its values.
const ROW: u64 = 256;

/// How many bytes a document counts in its row group, with so many of metadata; `None` if it has a row group of its own.
pub(super) fn weight(document: &Document<'_>, columns: &Columns, metadata: u64) -> Option<u64> {
    let wanted = |file: &&FileRecord| columns.files().iter().any(|column| column.format == file.format);
    let content = document.files.iter().filter(wanted).fold(0_u64, |sum, file| sum.saturating_add(file.size));
    (content <= LARGE).then_some(content + 2 * metadata + ROW)
}

/// Writes rows.
pub(crate) struct Writer<'a, W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: &'a Columns,
    /// The values of the row group that is being filled, in the order of the columns.
    pending: Vec<Values>,
    weight: u64,
}

/// The values of one column in one row group.
#[derive(Default)]
struct Values {
    integers: Vec<i64>,
    bytes: Vec<ByteArray>,
    /// Definition levels; 1 where there is a value.
    defined: Vec<i16>,
    /// Repetition levels of a list; 1 where it goes on.
    repeated: Vec<i16>,
    /// The only value, if it is large.
    large: Option<Chunk>,
}

impl Values {
    fn text(&mut self, text: &str) {
        self.bytes(Some(text.as_bytes().to_vec()));
    }

    fn cell(&mut self, cell: &Cell<'_>) {
        match cell {
            Cell::Integer(value) => self.integers.push(*value),
            Cell::Text(text) => self.bytes(text.map(|text| text.as_bytes().to_vec())),
            Cell::Texts(texts) => self.list(texts),
        }
    }

    fn bytes(&mut self, value: Option<Vec<u8>>) {
        self.defined.push(value.is_some().into());
        self.bytes.extend(value.map(ByteArray::from));
    }

    fn list(&mut self, texts: &[String]) {
        if texts.is_empty() {
            self.defined.push(0);
            self.repeated.push(0);
        }
        for (i, text) in texts.iter().enumerate() {
            self.text(text);
            self.repeated.push((i > 0).into());
        }
    }
}

impl<'a, W: Write + Send> Writer<'a, W> {
    /// Begins a file with these columns.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn new(out: W, columns: &'a Columns) -> io::Result<Self> {
        let schema = schema(columns).map_err(error)?;
        let properties = properties(columns).map_err(error)?;
        let file = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(error)?;
        Ok(Self { file, columns, pending: empty(columns), weight: 0 })
    }

    /// Adds a document's row.
    ///
    /// # Errors
    /// Those of the contents, the output and the temporary file; [`crate::error::BuildError::Document`] for a value that is too long.
    pub(crate) fn row(&mut self, document: &Document<'_>, contents: &mut dyn Contents) -> io::Result<()> {
        let described = Described::of(document);
        let metadata = serde_json::to_string(described.metadata)?;
        let weight = weight(document, self.columns, metadata.len() as u64);
        if weight.is_none_or(|weight| self.weight + weight > ROW_GROUP) {
            self.flush()?;
        }
        let mut values = self.pending.iter_mut();
        // In this order, or `zip` would take one value too many.
        for (cell, values) in described.cells(&metadata).iter().zip(values.by_ref()) {
            values.cell(cell);
        }
        if self.columns.marked() {
            let access = values.next().ok_or(io::ErrorKind::InvalidInput)?;
            access.bytes(described.access.clone().map(String::into_bytes));
        }
        for column in self.columns.files() {
            let mut next = || values.next().ok_or(io::ErrorKind::InvalidInput);
            let (content, hash) = (next()?, next()?);
            let original = if column.textual { Some(next()?) } else { None };
            match document.files.iter().find(|file| file.format == column.format) {
                Some(file) => {
                    check_length(document, column, file)?;
                    hash.text(&file.sha256.to_string());
                    let mut reader = contents.open(document, file)?;
                    let room = Room { document, file, content, original };
                    if weight.is_none() { room.large(&mut reader)? } else { room.small(&mut reader)? }
                }
                None => {
                    [Some(content), Some(hash), original].into_iter().flatten().for_each(|values| values.bytes(None))
                }
            }
        }
        self.weight += weight.unwrap_or(ROW_GROUP);
        if weight.is_none() { self.flush() } else { Ok(()) }
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.file.into_inner().map_err(error)
    }

    /// Writes the row group that is being filled, if there is anything in it.
    fn flush(&mut self) -> io::Result<()> {
        if self.weight == 0 {
            return Ok(());
        }
        self.weight = 0;
        let pending = std::mem::replace(&mut self.pending, empty(self.columns));
        self.write(pending).map_err(error)
    }

    fn write(&mut self, pending: Vec<Values>) -> Result<(), ParquetError> {
        let descriptors = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group()?;
        // Column by column, and what was written is freed at once.
        for (values, descriptor) in pending.into_iter().zip(descriptors) {
            if let Some(chunk) = values.large {
                let close = chunk.close(descriptor)?;
                group.append_column(&chunk.file, close)?;
            } else if let Some(mut column) = group.next_column()? {
                write_column(&mut column, &values)?;
                column.close()?;
            }
        }
        group.close().map(|_| ())
    }
}

fn empty(columns: &Columns) -> Vec<Values> {
    columns.all().map(|_| Values::default()).collect()
}

fn write_column(column: &mut SerializedColumnWriter<'_>, values: &Values) -> Result<(), ParquetError> {
    let Values { integers, bytes, defined, repeated, .. } = values;
    match column.untyped() {
        ColumnWriter::Int64ColumnWriter(column) => column.write_batch(integers, None, None)?,
        ColumnWriter::ByteArrayColumnWriter(column) => {
            let repeated = (column.get_descriptor().max_rep_level() > 0).then_some(repeated.as_slice());
            let defined = (column.get_descriptor().max_def_level() > 0).then_some(defined.as_slice());
            column.write_batch(bytes, defined, repeated)?
        }
        _ => return Err(ParquetError::General("a column of another type than the schema has".to_owned())),
    };
    Ok(())
}

/// Where a file's content goes.
struct Room<'a> {
    document: &'a Document<'a>,
    file: &'a FileRecord,
    content: &'a mut Values,
    original: Option<&'a mut Values>,
}

impl Room<'_> {
    fn small(self, reader: &mut dyn Read) -> io::Result<()> {
        let bytes = small(reader, self.file.size)?;
        let Some(original) = self.original else {
            self.content.bytes(Some(bytes));
            return Ok(());
        };
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.content.bytes(Some(text.into_bytes()));
                original.bytes(None);
            }
            Err(error) => {
                self.content.text(&String::from_utf8_lossy(error.as_bytes()));
                original.bytes(Some(error.into_bytes()));
            }
        }
        Ok(())
    }

    fn large(self, reader: &mut dyn Read) -> io::Result<()> {
        let Some(original) = self.original else {
            self.content.large = Some(Chunk::of_bytes(reader, self.file.size)?);
            return Ok(());
        };
        let (text, bytes) = Chunk::of_text(reader, self.file.size)?;
        let text = text.ok_or_else(|| too_long(self.document, self.file, "with U+FFFD for what is no UTF-8, more"))?;
        self.content.large = Some(text);
        match bytes {
            Some(bytes) => original.large = Some(bytes),
            None => original.bytes(None),
        }
        Ok(())
    }
}

fn check_length(document: &Document<'_>, column: &FileColumns, file: &FileRecord) -> io::Result<()> {
    if file.size <= MAX_VALUE {
        return Ok(());
    }
    Err(too_long(document, file, &format!("{} bytes in column {}, more", file.size, column.name)))
}

fn too_long(document: &Document<'_>, file: &FileRecord, what: &str) -> io::Error {
    let reason = format!(
        "it would have {what} than a value in Parquet may have ({MAX_VALUE}); ask for the layout jsonl, tar.zst or bag, \
         leave format {} out, or leave the document out of the docset",
        file.format
    );
    refuse(document, file, reason)
}

fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    let field = |(name, kind): (String, ColumnKind)| {
        let need = if REQUIRED.contains(&name.as_str()) { "required" } else { "optional" };
        match kind {
            ColumnKind::Integer => format!("{need} int64 {name};"),
            ColumnKind::Text | ColumnKind::Object => format!("{need} binary {name} (STRING);"),
            ColumnKind::Bytes => format!("{need} binary {name};"),
            ColumnKind::Texts => {
                let item = "repeated group list { required binary element (STRING); }";
                format!("required group {name} (LIST) {{ {item} }}")
            }
        }
    };
    let fields: String = columns.all().map(field).collect();
    parse_message_type(&format!("message documents {{ {fields} }}")).map(Arc::new)
}

fn properties(columns: &Columns) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true);
    // What one may look for.
    for (name, kind) in columns.all().take(DESCRIBED.len()) {
        if matches!(kind, ColumnKind::Integer | ColumnKind::Text) {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Chunk);
        }
    }
    Ok(properties.build())
}

/// What went wrong, and if that was the output or a document, that itself.
fn error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(inner) => io::Error::other(inner),
        },
        other => io::Error::other(other),
    }
}
