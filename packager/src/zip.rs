//! The bytes of a ZIP archive around its entries' data: local headers, central directory and end records, as
//! PKWARE's APPNOTE.TXT 6.3.10 has them. Pure: each function turns values into bytes or into their number.
//!
//! No data is compressed, read or written here (see [`crate::build`]), and nothing knows which entries there are
//! (see [`crate::plan`]).

use adit_shared::domain::Encoding;
use bytes::BufMut;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

/// A 32-bit field of this value says that the number stands in the ZIP64 extra field (4.4.8, 4.4.9, 4.4.16).
const ESCAPE32: u64 = 0xffff_ffff;
/// A count of this value says that the number stands in the ZIP64 end record (4.4.21, 4.4.22).
const ESCAPE16: u64 = 0xffff;
/// Bit 11: the name is UTF-8 (4.4.4, appendix D).
const UTF8: u16 = 1 << 11;
/// 1980-01-01, the first day that a ZIP archive can name: equal packages have equal bytes, so no clock is asked.
const DATE: u16 = (1 << 5) | 1;
const TIME: u16 = 0;
/// Made on Unix (3, so that the mode below counts), to version 6.3 of the specification (4.4.2).
const MADE_BY: u16 = (3 << 8) | 63;
/// A regular file that all may read and its owner may write.
const MODE: u32 = 0o100_644;
/// Version needed for ZIP64 (4.4.3.2).
const VERSION_ZIP64: u16 = 45;

/// What a ZIP archive says about one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// What stands before its name in its path: nothing, or folders with their last slash.
    pub(crate) folder: &'a str,
    /// The rest of its path.
    pub(crate) name: &'a str,
    /// `Identity` gives method 0 (stored), `Gzip` method 8 (deflate).
    pub(crate) encoding: Encoding,
    /// CRC-32 of the content.
    pub(crate) crc32: u32,
    /// Length of the content in bytes.
    pub(crate) size: u64,
    /// Length in bytes of what stands in the archive.
    pub(crate) packed: u64,
}

impl Entry<'_> {
    fn large(&self) -> bool {
        large(self.size, self.packed)
    }

    fn method(&self) -> u16 {
        match self.encoding {
            Encoding::Identity => 0,
            Encoding::Gzip => 8,
        }
    }

    fn version_needed(&self, zip64: bool) -> u16 {
        match (zip64, self.encoding) {
            (true, _) => VERSION_ZIP64,
            (false, Encoding::Gzip) => 20,
            (false, Encoding::Identity) => 10,
        }
    }

    /// The fields that the two headers share, from "general purpose bit flag" to "file name length".
    fn write_common(&self, out: &mut impl BufMut) {
        out.put_u16_le(UTF8);
        out.put_u16_le(self.method());
        out.put_u16_le(TIME);
        out.put_u16_le(DATE);
        out.put_u32_le(self.crc32);
        // Where one size needs 64 bits, both go to the extra field: a local header has both or none (4.5.3).
        out.put_u32_le(clip32(if self.large() { ESCAPE32 } else { self.packed }));
        out.put_u32_le(clip32(if self.large() { ESCAPE32 } else { self.size }));
        out.put_u16_le(clip16((self.folder.len() + self.name.len()) as u64));
    }
}

fn large(size: u64, packed: u64) -> bool {
    size >= ESCAPE32 || packed >= ESCAPE32
}

fn clip32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn clip16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Length in bytes of a local header (4.3.7) for a path of `path` bytes.
pub(crate) fn local_len(path: usize, size: u64, packed: u64) -> u64 {
    30 + path as u64 + if large(size, packed) { 20 } else { 0 }
}

/// Writes a local header (4.3.7). Sizes and CRC-32 stand in it, so no data descriptor follows the data.
pub(crate) fn write_local(out: &mut impl BufMut, entry: &Entry<'_>) {
    out.put_u32_le(LOCAL_HEADER);
    out.put_u16_le(entry.version_needed(entry.large()));
    entry.write_common(out);
    out.put_u16_le(if entry.large() { 20 } else { 0 });
    out.put_slice(entry.folder.as_bytes());
    out.put_slice(entry.name.as_bytes());
    if entry.large() {
        out.put_u16_le(1);
        out.put_u16_le(16);
        out.put_u64_le(entry.size);
        out.put_u64_le(entry.packed);
    }
}

/// Length in bytes of the ZIP64 extra field's values in a central directory entry.
fn central_extra(size: u64, packed: u64, offset: u64) -> u16 {
    (if large(size, packed) { 16 } else { 0 }) + (if offset >= ESCAPE32 { 8 } else { 0 })
}

/// Length in bytes of a central directory entry (4.3.12) for a path of `path` bytes and a local header at `offset`.
pub(crate) fn central_len(path: usize, size: u64, packed: u64, offset: u64) -> u64 {
    let extra = u64::from(central_extra(size, packed, offset));
    46 + path as u64 + if extra > 0 { 4 + extra } else { 0 }
}

/// Writes a central directory entry (4.3.12) for a local header at `offset`.
pub(crate) fn write_central(out: &mut impl BufMut, entry: &Entry<'_>, offset: u64) {
    let extra = central_extra(entry.size, entry.packed, offset);
    out.put_u32_le(CENTRAL_HEADER);
    out.put_u16_le(MADE_BY);
    out.put_u16_le(entry.version_needed(extra > 0));
    entry.write_common(out);
    out.put_u16_le(if extra > 0 { 4 + extra } else { 0 });
    out.put_u16_le(0); // comment length
    out.put_u16_le(0); // disk
    out.put_u16_le(0); // internal attributes
    out.put_u32_le(MODE << 16);
    out.put_u32_le(clip32(offset));
    out.put_slice(entry.folder.as_bytes());
    out.put_slice(entry.name.as_bytes());
    if extra > 0 {
        out.put_u16_le(1);
        out.put_u16_le(extra);
        if entry.large() {
            out.put_u64_le(entry.size);
            out.put_u64_le(entry.packed);
        }
        if offset >= ESCAPE32 {
            out.put_u64_le(offset);
        }
    }
}

/// Writes what ends an archive of `count` entries whose central directory has `len` bytes at `offset`: the end record (4.3.16),
/// behind ZIP64's record and locator (4.3.14, 4.3.15) where a number does not fit.
pub(crate) fn write_end(out: &mut impl BufMut, count: u64, len: u64, offset: u64) {
    if count >= ESCAPE16 || len >= ESCAPE32 || offset >= ESCAPE32 {
        out.put_u32_le(ZIP64_END);
        out.put_u64_le(44); // length of the rest of this record
        out.put_u16_le(MADE_BY);
        out.put_u16_le(VERSION_ZIP64);
        out.put_u32_le(0); // this disk
        out.put_u32_le(0); // disk of the central directory
        out.put_u64_le(count); // entries on this disk
        out.put_u64_le(count);
        out.put_u64_le(len);
        out.put_u64_le(offset);
        out.put_u32_le(ZIP64_LOCATOR);
        out.put_u32_le(0); // disk of the ZIP64 end record
        out.put_u64_le(offset + len);
        out.put_u32_le(1); // number of disks
    }
    out.put_u32_le(END);
    out.put_u16_le(0); // this disk
    out.put_u16_le(0); // disk of the central directory
    out.put_u16_le(clip16(count)); // entries on this disk
    out.put_u16_le(clip16(count));
    out.put_u32_le(clip32(len));
    out.put_u32_le(clip32(offset));
    out.put_u16_le(0); // comment length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(size: u64, packed: u64) -> Entry<'static> {
        Entry { folder: "", name: "a.txt", encoding: Encoding::Gzip, crc32: 0x1234_5678, size, packed }
    }

    fn local(entry: &Entry<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write_local(&mut out, entry);
        out
    }

    fn central(entry: &Entry<'_>, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_central(&mut out, entry, offset);
        out
    }

    fn end(count: u64, len: u64, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_end(&mut out, count, len, offset);
        out
    }

    #[test]
    fn headers_have_the_bytes_of_the_specification() {
        let small = entry(11, 13);
        insta::assert_snapshot!(
            format!("local   {}\ncentral {}\nend     {}", hex::encode(local(&small)), hex::encode(central(&small, 7)), hex::encode(end(1, 51, 48))),
            @r"
        local   504b030414000008080000002100785634120d0000000b00000005000000612e747874
        central 504b01023f0314000008080000002100785634120d0000000b000000050000000000000000000000a48107000000612e747874
        end     504b0506000000000100010033000000300000000000
        "
        );
    }

    #[test]
    fn what_needs_64_bits_goes_to_the_zip64_fields() {
        let big = entry(5 << 30, 13);
        insta::assert_snapshot!(
            format!(
                "local   {}\ncentral {}\nfar     {}\nend     {}",
                hex::encode(local(&big)),
                hex::encode(central(&big, 6 << 30)),
                hex::encode(central(&entry(11, 13), 6 << 30)),
                hex::encode(end(2, 51, 6 << 30))
            ),
            @r"
        local   504b03042d00000808000000210078563412ffffffffffffffff05001400612e7478740100100000000040010000000d00000000000000
        central 504b01023f032d00000808000000210078563412ffffffffffffffff05001c000000000000000000a481ffffffff612e7478740100180000000040010000000d000000000000000000008001000000
        far     504b01023f032d000008080000002100785634120d0000000b00000005000c000000000000000000a481ffffffff612e747874010008000000008001000000
        end     504b06062c000000000000003f032d0000000000000000000200000000000000020000000000000033000000000000000000008001000000504b060700000000330000800100000001000000504b0506000000000200020033000000ffffffff0000
        "
        );
    }

    #[test]
    fn the_escape_values_themselves_are_escaped() {
        for (value, len) in [(ESCAPE32 - 1, 35), (ESCAPE32, 55)] {
            assert_eq!(local(&entry(value, 5)).len(), len);
            assert_eq!(local(&entry(5, value)).len(), len);
        }
        assert_eq!((central(&entry(1, 1), ESCAPE32 - 1).len(), central(&entry(1, 1), ESCAPE32).len()), (51, 63));
        assert_eq!((end(ESCAPE16 - 1, 1, 1).len(), end(ESCAPE16, 1, 1).len()), (22, 98));
        assert_eq!((end(1, ESCAPE32 - 1, 1).len(), end(1, ESCAPE32, 1).len()), (22, 98));
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_the_bytes(
            (folder, name) in ("\\PC{0,20}", "\\PC{1,60}"), size: u64, packed: u64, offset in 0..u64::MAX / 2, gzip: bool,
        ) {
            let encoding = if gzip { Encoding::Gzip } else { Encoding::Identity };
            let path = folder.len() + name.len();
            let entry = Entry { folder: &folder, name: &name, encoding, crc32: 1, size, packed };
            prop_assert_eq!(local(&entry).len() as u64, local_len(path, size, packed));
            prop_assert_eq!(central(&entry, offset).len() as u64, central_len(path, size, packed, offset));
        }
    }
}
