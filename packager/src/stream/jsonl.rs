//! `jsonl`: one JSON object (RFC 8259) a line for each document, in docset order; every line has the same members.

use std::io::{self, BufWriter, Read, Write};

use adit_shared::domain::{Compression, FileRecord};
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;

use super::columns::{Columns, Described, FileColumns};
use super::compress::Compressed;
use super::utf8::{BUFFER, lossy};
use super::value::{LARGE, Spool, Tee, small};
use super::{Contents, Document};

/// Of what is read once more only if it is no UTF-8, so that less effort is better.
const SPOOL_LEVEL: i32 = 1;

/// Writes lines.
pub(crate) struct Writer<'a, W: Write> {
    out: BufWriter<Compressed<W>>,
    columns: &'a Columns,
    buffer: Box<[u8]>,
    scratch: Vec<u8>,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins an object with these columns.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn new(out: W, columns: &'a Columns, compression: Compression) -> io::Result<Self> {
        let out = BufWriter::with_capacity(BUFFER, Compressed::new(out, compression)?);
        Ok(Self { out, columns, buffer: vec![0; BUFFER].into(), scratch: Vec::new() })
    }

    /// Writes a document's line.
    ///
    /// # Errors
    /// Those of the contents, the output and the temporary file.
    pub(crate) fn row(&mut self, document: &Document<'_>, contents: &mut dyn Contents) -> io::Result<()> {
        let mut described = serde_json::to_vec(&Described::of(document))?;
        // The object goes on.
        described.pop();
        self.out.write_all(&described)?;
        for column in self.columns.files() {
            let file = document.files.iter().find(|file| file.format == column.format);
            match file {
                Some(file) => self.file(column, file, &mut contents.open(document, file)?)?,
                None => {
                    for (name, _) in column.columns() {
                        write!(self.out, ",\"{name}\":null")?;
                    }
                }
            }
        }
        self.out.write_all(b"}\n")
    }

    /// Ends the object and gives the output back.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
    }

    fn file(&mut self, column: &FileColumns, file: &FileRecord, content: &mut dyn Read) -> io::Result<()> {
        let FileColumns { name, textual, .. } = column;
        write!(self.out, ",\"{name}\":\"")?;
        if !textual {
            self.base64(content)?;
            return write!(self.out, "\",\"{name}_sha256\":\"{}\"", file.sha256);
        }
        let Self { out, buffer, scratch, .. } = self;
        let mut sink = |piece: &str| escape(out, scratch, piece);
        let original: Option<Box<dyn Read>> = if file.size > LARGE {
            let mut spool = Spool::new(0, SPOOL_LEVEL, None)?;
            let valid = lossy(&mut Tee { reader: content, spool: &mut spool }, buffer, &mut sink)?;
            if valid { None } else { Some(Box::new(spool.finish()?.open()?)) }
        } else {
            let bytes = small(content, file.size)?;
            let valid = lossy(&mut bytes.as_slice(), buffer, &mut sink)?;
            if valid { None } else { Some(Box::new(io::Cursor::new(bytes))) }
        };
        write!(self.out, "\",\"{name}_sha256\":\"{}\",\"{name}_bytes\":", file.sha256)?;
        let Some(mut original) = original else { return self.out.write_all(b"null") };
        self.out.write_all(b"\"")?;
        self.base64(&mut original)?;
        self.out.write_all(b"\"")
    }

    fn base64(&mut self, bytes: &mut dyn Read) -> io::Result<()> {
        let mut encoder = EncoderWriter::new(&mut self.out, &STANDARD);
        io::copy(bytes, &mut encoder)?;
        encoder.finish().map(|_| ())
    }
}

/// Writes a piece of a JSON string; `scratch` is for what [`serde_json`] takes a whole one for.
fn escape(out: &mut impl Write, scratch: &mut Vec<u8>, piece: &str) -> io::Result<()> {
    scratch.clear();
    serde_json::to_writer(&mut *scratch, piece)?;
    out.write_all(&scratch[1..scratch.len() - 1])
}
