//! Makes a file ready for its pack: measures, hashes and compresses it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek as _, Write};

use adit_shared::digest::Sha256;
use adit_shared::domain::Encoding;
use bytes::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compress, Compression, FlushCompress, Status};
use sha2::Digest as _;
use tempfile::SpooledTempFile;

/// Contents and stored forms up to this length are kept in memory; longer ones stay in files.
const IN_MEMORY: usize = 4 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// The header of a gzip member (RFC 1952) that has exactly ten bytes: no name and no time, so that equal contents give equal bytes.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

thread_local! {
    /// To make its tables anew for each text would cost more than to compress a short one.
    static DEFLATER: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
}

/// What is imported: read once, unless it is long.
#[derive(Debug)]
pub(crate) enum Content {
    Memory(Vec<u8>),
    File(File),
}

impl Content {
    /// Reads a file, or keeps it open if it is long.
    pub(crate) fn read(mut file: File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length <= IN_MEMORY {
            let mut bytes = Vec::with_capacity(length + 1);
            (&mut file).take(IN_MEMORY as u64 + 1).read_to_end(&mut bytes)?;
            // It may have grown.
            if bytes.len() <= IN_MEMORY {
                return Ok(Self::Memory(bytes));
            }
        }
        Ok(Self::File(file))
    }
}

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

/// Measures a content.
pub(crate) fn measure(content: &mut Content) -> io::Result<Digests> {
    match content {
        Content::Memory(bytes) => measure_all(&mut bytes.as_slice()),
        Content::File(file) => {
            file.rewind()?;
            measure_all(&mut BufReader::with_capacity(CHUNK, file))
        }
    }
}

fn measure_all(source: &mut impl BufRead) -> io::Result<Digests> {
    let mut sha256 = sha2::Sha256::new();
    let mut crc32 = crc32fast::Hasher::new();
    let mut size = 0;
    loop {
        let chunk = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            return Ok(Digests { size, sha256: Sha256(sha256.finalize().into()), crc32: crc32.finalize() });
        }
        sha256.update(chunk);
        crc32.update(chunk);
        size += chunk.len() as u64;
        let read = chunk.len();
        source.consume(read);
    }
}

/// Prepares a content for its pack. A long one is read twice at most: what compression would make longer is stored as it is.
/// Blocks on files and the processor.
pub(crate) fn prepare(content: &mut Content, media_type: &str) -> io::Result<Prepared> {
    match content {
        Content::Memory(bytes) => prepare_bytes(bytes, media_type),
        Content::File(file) => prepare_file(file, media_type),
    }
}

fn prepare_bytes(bytes: &[u8], media_type: &str) -> io::Result<Prepared> {
    let digests = measure_all(&mut { bytes })?;
    let packed = if shrinks(media_type) { compress_bytes(bytes, &digests)? } else { None };
    let (encoding, deflate_crc32, stored) = match packed {
        Some(packed) => (Encoding::Gzip, Some(crc32fast::hash(&packed[GZIP.len()..packed.len() - 8])), packed),
        None => (Encoding::Identity, None, bytes.to_vec()),
    };
    Ok(Prepared { digests, encoding, deflate_crc32, payload: Payload::Memory(stored.into()) })
}

/// One gzip member, if it is shorter than what is in it.
fn compress_bytes(bytes: &[u8], digests: &Digests) -> io::Result<Option<Vec<u8>>> {
    let mut packed = Vec::with_capacity(bytes.len().max(GZIP.len()));
    packed.extend_from_slice(&GZIP);
    let status = DEFLATER.with_borrow_mut(|deflater| {
        deflater.reset();
        deflater.compress_vec(bytes, &mut packed, FlushCompress::Finish)
    })?;
    // Else its room, which is that of the content, was too small.
    if status != Status::StreamEnd || packed.len() + 8 >= bytes.len() {
        return Ok(None);
    }
    packed.extend_from_slice(&trailer(digests));
    Ok(Some(packed))
}

/// The trailer of a gzip member.
fn trailer(digests: &Digests) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&digests.crc32.to_le_bytes());
    // The length modulo 2^32.
    trailer[4..].copy_from_slice(&digests.size.to_le_bytes()[..4]);
    trailer
}

fn prepare_file(source: &mut File, media_type: &str) -> io::Result<Prepared> {
    source.rewind()?;
    if shrinks(media_type) {
        let mut packed = SpooledTempFile::new(IN_MEMORY);
        let (digests, deflated) = compress_file(source, &mut packed)?;
        if packed.stream_position()? < digests.size {
            let (encoding, deflate_crc32) = (Encoding::Gzip, Some(deflated));
            return Ok(Prepared { digests, encoding, deflate_crc32, payload: payload(packed)? });
        }
        source.rewind()?;
    }
    let mut plain = SpooledTempFile::new(IN_MEMORY);
    let digests = measure_all(&mut Tee::new(source, &mut plain))?;
    Ok(Prepared { digests, encoding: Encoding::Identity, deflate_crc32: None, payload: payload(plain)? })
}

/// Writes one gzip member. Gives the content's digests and the CRC-32 of the deflate stream between header and trailer.
fn compress_file(source: &mut impl Read, packed: &mut impl Write) -> io::Result<(Digests, u32)> {
    packed.write_all(&GZIP)?;
    let mut deflated = Summed { to: &mut *packed, crc32: crc32fast::Hasher::new() };
    let mut encoder = DeflateEncoder::new(&mut deflated, Compression::default());
    let digests = measure_all(&mut Tee::new(source, &mut encoder))?;
    encoder.finish()?;
    let deflate_crc32 = deflated.crc32.finalize();
    packed.write_all(&trailer(&digests))?;
    Ok((digests, deflate_crc32))
}

/// Takes the checksum of what is written through it.
struct Summed<W> {
    to: W,
    crc32: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.crc32.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn payload(spooled: SpooledTempFile) -> io::Result<Payload> {
    match spooled.into_inner() {
        tempfile::SpooledData::InMemory(cursor) => Ok(Payload::Memory(Cursor::into_inner(cursor).into())),
        tempfile::SpooledData::OnDisk(mut file) => {
            file.rewind()?;
            Ok(Payload::File(file))
        }
    }
}

/// Reads from a source and writes what was read to a copy.
struct Tee<'a, R, W> {
    source: R,
    copy: &'a mut W,
}

impl<'a, R: Read, W: Write> Tee<'a, R, W> {
    fn new(source: R, copy: &'a mut W) -> BufReader<Self> {
        BufReader::with_capacity(CHUNK, Self { source, copy })
    }
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

    fn memory(content: impl Into<Vec<u8>>) -> Content {
        Content::Memory(content.into())
    }

    /// The same content as one that is long.
    fn file(content: &[u8]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Content::File(file)
    }

    #[test]
    fn text_is_stored_as_one_plain_gzip_member() {
        let text = "the same words again and again ".repeat(1000);
        let (digests, encoding, bytes) =
            stored(prepare(&mut memory(text.clone()), "text/plain; charset=utf-8").unwrap());
        assert_eq!((encoding, digests.size), (Encoding::Gzip, text.len() as u64));
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(bytes[bytes.len() - 8..][..4], digests.crc32.to_le_bytes());
        assert_eq!(decode(encoding, &bytes), text.as_bytes());
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let (_, encoding, bytes) = stored(prepare(&mut memory("short"), "text/plain").unwrap());
        assert_eq!((encoding, bytes.as_slice()), (Encoding::Identity, &b"short"[..]));
        let (_, encoding, _) = stored(prepare(&mut memory("a".repeat(9999)), "application/pdf").unwrap());
        assert_eq!(encoding, Encoding::Identity);
        let (digests, encoding, bytes) = stored(prepare(&mut memory(""), "text/plain").unwrap());
        assert_eq!((digests.size, encoding, bytes.len()), (0, Encoding::Identity, 0));
    }

    #[test]
    fn a_long_content_stays_in_files() {
        let long = vec![7_u8; IN_MEMORY + 1];
        let Content::File(source) = file(&long) else { unreachable!() };
        let mut content = Content::read(source).unwrap();
        assert!(matches!(content, Content::File(_)));
        let prepared = prepare(&mut content, "application/octet-stream").unwrap();
        assert!(matches!(prepared.payload, Payload::File(_)));
        assert_eq!(stored(prepared).2, long);
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(bytes in proptest::collection::vec(any::<u8>(), 0..5000), times in 1..9_usize, text: bool) {
            let media_type = if text { "text/plain" } else { "application/octet-stream" };
            let bytes = bytes.repeat(times);
            let (digests, encoding, packed) = stored(prepare(&mut memory(bytes.clone()), media_type).unwrap());
            prop_assert_eq!(digests, measure(&mut memory(bytes.clone())).unwrap());
            prop_assert_eq!(digests.sha256, Sha256::of(&bytes));
            prop_assert_eq!(decode(encoding, &packed), bytes.clone());
            let mut file = file(&bytes);
            prop_assert_eq!(measure(&mut file).unwrap(), digests);
            prop_assert_eq!(stored(prepare(&mut file, media_type).unwrap()), (digests, encoding, packed));
        }
    }
}
