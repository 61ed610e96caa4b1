//! One compressed stream around an output. Parameters are fixed, because they decide about the bytes.
//!
//! One frame (RFC 8878) or member (RFC 1952) for each object: several are allowed, but some readers (such as python-zstandard's `decompress`)
//! take the first for all. Memory is bounded by the window, not by the frame.

use std::io::{self, Write};

use adit_shared::domain::Compression;
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder;

/// zstd's own default: the window has 2 MiB, and what does not shrink passes at the speed of memory.
pub(super) const ZSTD_LEVEL: i32 = 3;
/// zlib's own default.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::new(6);

/// A stream that is being compressed, or not.
pub(super) enum Compressed<W: Write> {
    /// Bytes as they are.
    Plain(W),
    /// One gzip member without name and time.
    Gzip(GzEncoder<W>),
    /// One zstd frame with the checksum of its content.
    Zstd(Encoder<'static, W>),
}

impl<W: Write> Compressed<W> {
    /// Begins a stream.
    pub(super) fn new(out: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip => Self::Gzip(GzBuilder::new().write(out, GZIP_LEVEL)),
            Compression::Zstd => {
                let mut encoder = Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Ends the stream and gives the output back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush in the middle would end a block and so change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
