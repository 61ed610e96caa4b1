//! Makes a file ready for its pack: measures, hashes and compresses it.

use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};

use adit_shared::digest::Sha256;
use adit_shared::domain::Encoding;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use sha2::Digest as _;
use tempfile::SpooledTempFile;

/// Stored forms up to this length stay in memory; longer ones go through a temporary file.
const IN_MEMORY: usize = 4 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// Length, SHA-256 and CRC-32 of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) size: u64,
    pub sha256: Sha256,
    pub crc32: u32,
}

/// A file's stored form, to be appended to a pack.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) digests: Digests,
    pub(crate) encoding: Encoding,
    /// Of the deflate stream, where there is one.
    pub(crate) deflate_crc32: Option<u32>,
    pub(crate) payload: Payload,
}

/// Stored bytes, where they wait for their pack.
#[derive(Debug)]
pub(crate) enum Payload {
    Memory(Bytes),
    File(File),
}

/// Whether a media type is worth compressing. What is compressed in itself (PDF, images, audio, archives) is kept as it is.
pub(crate) fn shrinks(media_type: &str) -> bool {
    const OTHERS: [&str; 6] = ["json", "xml", "x-ndjson", "rtf", "x-tex", "toml"];
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || essence.strip_prefix("application/").is_some_and(|subtype| OTHERS.contains(&subtype))
}

/// Measures a content without keeping it.
pub(crate) fn measure(source: &mut impl Read) -> std::io::Result<Digests> {
    let mut sha256 = sha2::Sha256::new();
    let mut crc32 = crc32fast::Hasher::new();
    let mut size = 0;
    each_chunk(source, |chunk| {
        sha256.update(chunk);
        crc32.update(chunk);
        size += chunk.len() as u64;
        Ok(())
    })?;
    Ok(Digests { size, sha256: Sha256(sha256.finalize().into()), crc32: crc32.finalize() })
}

/// Prepares a content for its pack. The source is read twice at most: what compression would make longer is stored as it is.
/// Blocks on files and the processor.
pub(crate) fn prepare<R: Read + Seek>(mut source: R, media_type: &str) -> std::io::Result<Prepared> {
    if shrinks(media_type) {
        let mut packed = SpooledTempFile::new(IN_MEMORY);
        let (digests, deflated) = compress(&mut source, &mut packed)?;
        if packed.stream_position()? < digests.size {
            let (encoding, deflate_crc32) = (Encoding::Gzip, Some(deflated));
            return Ok(Prepared { digests, encoding, deflate_crc32, payload: payload(packed)? });
        }
        source.rewind()?;
    }
    let mut plain = SpooledTempFile::new(IN_MEMORY);
    let digests = measure(&mut Tee { source, copy: &mut plain })?;
    Ok(Prepared { digests, encoding: Encoding::Identity, deflate_crc32: None, payload: payload(plain)? })
}

/// Writes one gzip member (RFC 1952) whose header has exactly ten bytes: no name and no time, so that equal contents give equal bytes. Gives the
/// content's digests and the CRC-32 of the deflate stream between header and trailer.
fn compress(source: &mut impl Read, packed: &mut impl Write) -> std::io::Result<(Digests, u32)> {
    packed.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
    let mut deflated = Summed { to: &mut *packed, crc32: crc32fast::Hasher::new() };
    let mut encoder = DeflateEncoder::new(&mut deflated, Compression::default());
    let digests = measure(&mut Tee { source, copy: &mut encoder })?;
    encoder.finish()?;
    let deflate_crc32 = deflated.crc32.finalize();
    packed.write_all(&digests.crc32.to_le_bytes())?;
    // The length modulo 2^32.
    packed.write_all(&digests.size.to_le_bytes()[..4])?;
    Ok((digests, deflate_crc32))
}

/// Takes the checksum of what is written through it.
struct Summed<W> {
    to: W,
    crc32: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.crc32.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn payload(spooled: SpooledTempFile) -> std::io::Result<Payload> {
    match spooled.into_inner() {
        tempfile::SpooledData::InMemory(cursor) => Ok(Payload::Memory(Cursor::into_inner(cursor).into())),
        tempfile::SpooledData::OnDisk(mut file) => {
            file.rewind()?;
            Ok(Payload::File(file))
        }
    }
}

fn each_chunk(source: &mut impl Read, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&chunk[..read])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads from a source and writes what was read to a copy.
struct Tee<'a, R, W> {
    source: R,
    copy: &'a mut W,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(prepared: Prepared) -> (Digests, Encoding, Vec<u8>) {
        let deflate_crc32 = prepared.deflate_crc32;
        let bytes = match prepared.payload {
            Payload::Memory(bytes) => bytes.to_vec(),
            Payload::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                bytes
            }
        };
        let deflated = (prepared.encoding == Encoding::Gzip).then(|| crc32fast::hash(&bytes[10..bytes.len() - 8]));
        assert_eq!(deflate_crc32, deflated);
        (prepared.digests, prepared.encoding, bytes)
    }

    fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        match encoding {
            Encoding::Identity => content.extend_from_slice(bytes),
            Encoding::Gzip => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
            }
        }
        content
    }

    #[test]
    fn text_is_stored_as_one_plain_gzip_member() {
        let text = "the same words again and again ".repeat(1000);
        let (digests, encoding, bytes) = stored(prepare(Cursor::new(&text), "text/plain; charset=utf-8").unwrap());
        assert_eq!((encoding, digests.size), (Encoding::Gzip, text.len() as u64));
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(bytes[bytes.len() - 8..][..4], digests.crc32.to_le_bytes());
        assert_eq!(decode(encoding, &bytes), text.as_bytes());
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let (_, encoding, bytes) = stored(prepare(Cursor::new("short"), "text/plain").unwrap());
        assert_eq!((encoding, bytes.as_slice()), (Encoding::Identity, &b"short"[..]));
        let (_, encoding, _) = stored(prepare(Cursor::new("a".repeat(9999)), "application/pdf").unwrap());
        assert_eq!(encoding, Encoding::Identity);
        let (digests, encoding, bytes) = stored(prepare(Cursor::new(""), "text/plain").unwrap());
        assert_eq!((digests.size, encoding, bytes.len()), (0, Encoding::Identity, 0));
    }

    #[test]
    fn a_long_content_goes_through_a_file() {
        let long = vec![7_u8; IN_MEMORY + 1];
        let prepared = prepare(Cursor::new(&long), "application/octet-stream").unwrap();
        assert!(matches!(prepared.payload, Payload::File(_)));
        assert_eq!(stored(prepared).2, long);
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(content in proptest::collection::vec(any::<u8>(), 0..5000), text: bool) {
            let media_type = if text { "text/plain" } else { "application/octet-stream" };
            let (digests, encoding, bytes) = stored(prepare(Cursor::new(&content), media_type).unwrap());
            prop_assert_eq!(digests, measure(&mut Cursor::new(&content)).unwrap());
            prop_assert_eq!(digests.sha256, Sha256::of(&content));
            prop_assert_eq!(decode(encoding, &bytes), content);
        }
    }
}
