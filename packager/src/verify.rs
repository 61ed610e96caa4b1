//! Proves, while a file's bytes pass by, that they are those that were imported, by their CRC-32: so a damaged pack fails a build and never
//! becomes somebody's broken archive. A deflate stream has a checksum of its own; one that was imported before that was kept is
//! inflated, and length and CRC-32 of its content are compared (docs/decisions/0007-checksums-of-deflate-streams.md).

use adit_shared::domain::Encoding;
use flate2::{Decompress, FlushDecompress, Status};

use crate::plan::Piece;

/// Why a file's bytes are not its content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The stored data is no deflate stream (RFC 1951) of the length that it should have.
    #[error("its stored bytes are not a whole deflate stream")]
    Deflate,
    /// The content has another length.
    #[error("it has {found} bytes and not {expected}")]
    Length {
        /// The length that was read; of a longer content, what was read until it was too long.
        found: u64,
        /// The length that was imported.
        expected: u64,
    },
    /// The content, or its deflate stream, has another checksum.
    #[error("its CRC-32 is {found:08x} and not {expected:08x}")]
    Checksum {
        /// The checksum of what was read.
        found: u32,
        /// The checksum that was imported.
        expected: u32,
    },
}

/// A file that was begun and goes on in the next part.
#[derive(Debug)]
struct Open {
    position: u64,
    fed: u64,
    /// Length of what was inflated.
    size: u64,
    crc32: crc32fast::Hasher,
    /// Whether its data has come to its end.
    ended: bool,
}

/// Takes pieces in the order of the archive.
#[derive(Debug)]
pub(crate) struct Verifier {
    inflate: Decompress,
    scratch: Box<[u8]>,
    open: Option<Open>,
}

impl Verifier {
    pub(crate) fn new() -> Self {
        Self { inflate: Decompress::new(false), scratch: vec![0; 32 * 1024].into(), open: None }
    }

    /// How many bytes of the piece's file must be fed before it: 0 if it can be fed at once, else all that it skips.
    pub(crate) fn missing(&self, piece: &Piece) -> u64 {
        let goes_on = self.open.as_ref().is_some_and(|o| (o.position, o.fed) == (piece.position, piece.skipped));
        if goes_on { 0 } else { piece.skipped }
    }

    /// Takes the bytes of the next piece; with a file's last piece comes the verdict.
    pub(crate) fn feed(&mut self, piece: &Piece, bytes: &[u8]) -> Result<(), Damage> {
        let mut open = match self.open.take() {
            Some(open) if piece.skipped > 0 => open,
            _ => {
                self.inflate.reset(false);
                let crc32 = crc32fast::Hasher::new();
                Open { position: piece.position, fed: 0, size: 0, crc32, ended: false }
            }
        };
        open.fed += bytes.len() as u64;
        match (piece.encoding, piece.deflate_crc32) {
            (Encoding::Gzip, None) => self.inflate(&mut open, bytes, piece.size)?,
            (Encoding::Gzip, Some(_)) | (Encoding::Identity, _) => {
                open.crc32.update(bytes);
                open.ended = piece.is_last();
            }
        }
        if !piece.is_last() {
            self.open = Some(open);
            return Ok(());
        }
        verdict(open, piece)
    }

    fn inflate(&mut self, open: &mut Open, mut bytes: &[u8], size: u64) -> Result<(), Damage> {
        while !open.ended {
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(bytes, &mut self.scratch, FlushDecompress::None);
            let status = status.map_err(|_| Damage::Deflate)?;
            let read = (self.inflate.total_in() - before_in) as usize;
            let written = (self.inflate.total_out() - before_out) as usize;
            bytes = &bytes[read..];
            open.crc32.update(&self.scratch[..written]);
            open.size += written as u64;
            open.ended = status == Status::StreamEnd;
            if open.size > size {
                return Err(Damage::Length { found: open.size, expected: size });
            }
            if read == 0 && written == 0 {
                break;
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(Damage::Deflate) }
    }
}

fn verdict(open: Open, piece: &Piece) -> Result<(), Damage> {
    if !open.ended {
        return Err(Damage::Deflate);
    }
    let inflated = piece.encoding == Encoding::Gzip && piece.deflate_crc32.is_none();
    if inflated && open.size != piece.size {
        return Err(Damage::Length { found: open.size, expected: piece.size });
    }
    let (found, expected) = (open.crc32.finalize(), piece.deflate_crc32.unwrap_or(piece.crc32));
    if found == expected { Ok(()) } else { Err(Damage::Checksum { found, expected }) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// The pieces of one file that is cut at `cuts`; a deflate stream is one whose checksum is not known.
    fn pieces(data: &[u8], encoding: Encoding, content: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % data.len()).filter(|cut| *cut > 0).collect();
        ends.push(data.len());
        ends.sort_unstable();
        ends.dedup();
        let mut start = 0;
        let mut piece = |end| {
            let (skipped, len) = (start, end - start);
            start = end;
            Piece {
                at: 0,
                len,
                object: 0,
                from: skipped as u64,
                skipped: skipped as u64,
                packed: data.len() as u64,
                encoding,
                crc32: crc32fast::hash(content),
                deflate_crc32: None,
                size: content.len() as u64,
                position: 0,
            }
        };
        ends.into_iter().map(&mut piece).collect()
    }

    fn deflate(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn verify(verifier: &mut Verifier, data: &[u8], pieces: &[Piece]) -> Result<(), Damage> {
        pieces.iter().try_for_each(|piece| {
            assert_eq!(verifier.missing(piece), 0);
            let start = piece.skipped as usize;
            verifier.feed(piece, &data[start..start + piece.len])
        })
    }

    proptest! {
        #[test]
        fn whole_files_pass_and_a_changed_bit_does_not(
            content in prop::collection::vec(0..4_u8, 1..20_000), cuts: [usize; 3], at: usize, bit in 0..8, gzip: bool, known: bool,
        ) {
            let encoding = if gzip { Encoding::Gzip } else { Encoding::Identity };
            let mut data = if gzip { deflate(&content) } else { content.clone() };
            let mut pieces = pieces(&data, encoding, &content, &cuts);
            let deflate_crc32 = (gzip && known).then(|| crc32fast::hash(&data));
            pieces.iter_mut().for_each(|piece| piece.deflate_crc32 = deflate_crc32);
            let mut verifier = Verifier::new();
            prop_assert_eq!(verify(&mut verifier, &data, &pieces), Ok(()));
            let at = at % data.len();
            data[at] ^= 1_u8 << bit;
            // A deflate stream has up to seven bits of padding at its end, which say nothing.
            prop_assume!(!gzip || known || at + 1 < data.len());
            prop_assert!(verify(&mut verifier, &data, &pieces).is_err());
        }
    }

    #[test]
    fn a_stream_with_more_behind_it_is_damaged() {
        let mut data = deflate(b"abc");
        data.push(0);
        let pieces = pieces(&data, Encoding::Gzip, b"abc", &[]);
        assert_eq!(verify(&mut Verifier::new(), &data, &pieces), Err(Damage::Deflate));
    }

    #[test]
    fn a_file_that_was_not_begun_asks_for_what_it_lacks() {
        let data = deflate(b"abc");
        let pieces = pieces(&data, Encoding::Gzip, b"abc", &[2]);
        let mut verifier = Verifier::new();
        assert_eq!((verifier.missing(&pieces[0]), verifier.missing(&pieces[1])), (0, 2));
        verifier.feed(&pieces[0], &data[..2]).unwrap();
        assert_eq!(verifier.missing(&pieces[1]), 0);
    }
}
