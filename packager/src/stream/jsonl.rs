//! `jsonl`: one JSON object (RFC 8259) a line for each document, in docset order; every line has the same members.

use std::io::{self, BufWriter, Read, Write};

use adit_shared::domain::FileRecord;
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;

use super::columns::{Columns, Described, FileColumns};
use super::compress::{Compressed, Compression};
use super::utf8::lossy;
use super::value::{LARGE, Spool, Tee, small};
use super::{Contents, Document};

/// Bytes that are handed to the compressor together.
const BUFFER: usize = 64 << 10;
/// Of what is read once more only if it is no UTF-8, so that less effort is better.
const SPOOL_LEVEL: i32 = 1;

/// Writes lines.
pub(crate) struct Writer<'a, W: Write> {
    out: BufWriter<Compressed<W>>,
    columns: &'a Columns,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins an object with these columns.
    ///
    /// # Errors
    /// The output's.
    pub(crate) fn new(out: W, columns: &'a Columns, compression: Compression) -> io::Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(BUFFER, Compressed::new(out, compression)?), columns })
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
        let original: Option<Box<dyn Read>> = if file.size > LARGE {
            let mut spool = Spool::new(0, SPOOL_LEVEL, None)?;
            let mut tee = Tee { reader: content, spool: &mut spool };
            let valid = lossy(&mut tee, &mut |piece| escape(&mut self.out, piece))?;
            if valid { None } else { Some(Box::new(spool.finish()?.open()?)) }
        } else {
            let bytes = small(content, file.size)?;
            let text = String::from_utf8_lossy(&bytes);
            escape(&mut self.out, &text)?;
            let valid = matches!(text, std::borrow::Cow::Borrowed(_));
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

/// Writes a piece of a JSON string as [`serde_json`] does (RFC 8259, 7), which takes whole ones only.
fn escape(out: &mut impl Write, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0C => b"\\f",
            0..0x20 => b"",
            _ => continue,
        };
        out.write_all(&bytes[start..i])?;
        start = i + 1;
        match short {
            [] => write!(out, "\\u{byte:04x}")?,
            short => out.write_all(short)?,
        }
    }
    out.write_all(&bytes[start..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_escaped_as_serde_json_escapes_them(text in prop::collection::vec(any::<char>(), 0..50), controls in "[\0-\"\\\\]*") {
            let text = text.into_iter().collect::<String>() + &controls;
            let mut escaped = Vec::new();
            escape(&mut escaped, &text).unwrap();
            prop_assert_eq!(format!("\"{}\"", String::from_utf8(escaped).unwrap()), serde_json::to_string(&text).unwrap());
        }
    }
}
