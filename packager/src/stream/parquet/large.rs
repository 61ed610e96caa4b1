//! A value of up to 2 GiB as a column chunk of one page, compressed through a temporary file: crate `parquet` would hold it in memory three
//! times over.
//!
//! The chunk is a data page (version 1) with one plain value, in its Thrift compact form (parquet.thrift of Parquet 2.11, `PageHeader`).

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::super::compress::ZSTD_LEVEL;
use super::super::utf8::{BUFFER, lossy};
use super::super::value::{Spool, Spooled, Tee};

/// Bytes of the longest value: a page's lengths are 32-bit integers with a sign, before compression and after. What does not shrink
/// grows by three bytes in 128 KiB.
pub(in crate::stream) const MAX_VALUE: u64 = (1 << 31) - (1 << 16);
/// Room for a page's header before the page. It has 27 bytes at the most.
const HEADER: u64 = 32;
/// What comes before the value in the page: the definition level 1 as a run of one (RLE, with its length), then the value's length.
const LEVELS: [u8; 6] = [2, 0, 0, 0, 2, 1];
const PREFIX: usize = LEVELS.len() + 4;

/// A column chunk in a file.
pub(super) struct Chunk {
    pub(super) file: File,
    /// Where it begins.
    start: u64,
    compressed: u64,
    uncompressed: u64,
}

impl Chunk {
    /// The chunk of `size` bytes.
    pub(super) fn of_bytes(reader: &mut dyn Read, size: u64) -> io::Result<Self> {
        let mut spool = begin(size)?;
        io::copy(reader, &mut spool)?;
        Self::new(spool.finish()?)
    }

    /// The chunk of a text, and where it was no UTF-8, that of the original `size` bytes. There is none of a text that would be too long.
    pub(super) fn of_text(reader: &mut dyn Read, size: u64) -> io::Result<(Option<Self>, Option<Self>)> {
        let mut spool = begin(size)?;
        let mut length = 0;
        let mut buffer = vec![0; BUFFER];
        let valid = lossy(&mut Tee { reader, spool: &mut spool }, &mut buffer, &mut |piece| {
            length += piece.len() as u64;
            Ok(())
        })?;
        let original = spool.finish()?;
        if valid {
            return Ok((Some(Self::new(original)?), None));
        }
        if length > MAX_VALUE {
            return Ok((None, None));
        }
        let mut bytes = original.open()?;
        bytes.read_exact(&mut [0; PREFIX])?;
        let mut spool = begin(length)?;
        lossy(&mut bytes, &mut buffer, &mut |piece| spool.write_all(piece.as_bytes()))?;
        Ok((Some(Self::new(spool.finish()?)?), Some(Self::new(original)?)))
    }

    fn new(mut spooled: Spooled) -> io::Result<Self> {
        let header = header(spooled.length, spooled.compressed)?;
        let start = HEADER - header.len() as u64;
        spooled.file.seek(SeekFrom::Start(start))?;
        spooled.file.write_all(&header)?;
        let (compressed, uncompressed) =
            (spooled.compressed + header.len() as u64, spooled.length + header.len() as u64);
        Ok(Self { file: spooled.file, start, compressed, uncompressed })
    }

    /// What the file's writer must know of it.
    pub(super) fn close(&self, descriptor: ColumnDescPtr) -> Result<ColumnCloseResult, ParquetError> {
        let metadata = ColumnChunkMetaData::builder(descriptor)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_num_values(1)
            .set_total_compressed_size(self.compressed as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_data_page_offset(self.start as i64)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: self.compressed,
            rows_written: 1,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        })
    }
}

/// The page of a value of so many bytes, up to the value.
fn begin(size: u64) -> io::Result<Spool> {
    let mut spool = Spool::new(HEADER, ZSTD_LEVEL, Some(size + PREFIX as u64))?;
    spool.write_all(&LEVELS)?;
    let length = u32::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    spool.write_all(&length.to_le_bytes())?;
    Ok(spool)
}

/// A `PageHeader` with a `DataPageHeader`: of each field its number's distance to the one before and its type, then its value.
fn header(uncompressed: u64, compressed: u64) -> io::Result<Vec<u8>> {
    const I32: u8 = 0x15;
    const STRUCT_TWO_ON: u8 = 0x2C;
    const STOP: u8 = 0;
    const DATA_PAGE: i32 = 0;
    let length = |length: u64| i32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let mut header = Vec::new();
    let mut integer = |value: i32| {
        header.push(I32);
        // Zigzag, then seven bits a byte.
        let mut rest = ((value << 1) ^ (value >> 31)) as u32;
        while rest >= 0x80 {
            header.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        header.push(rest as u8);
    };
    integer(DATA_PAGE);
    integer(length(uncompressed)?);
    integer(length(compressed)?);
    header.push(STRUCT_TWO_ON);
    let mut integer = |value: u8| header.extend([I32, value << 1]);
    integer(1);
    integer(0); // PLAIN
    integer(3); // RLE, of definition levels
    integer(3); // and of repetition levels, of which there are none
    header.extend([STOP, STOP]);
    Ok(header)
}
