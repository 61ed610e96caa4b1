//! Reads a ZIP archive (PKWARE's APPNOTE.TXT 6.3.10) byte by byte: what the directory says against what stands before each entry's data, that
//! data against its CRC-32, and that no byte belongs to nothing. A library that unpacks archives lets all of that pass that it does not need.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use anyhow::{Context as _, bail, ensure};
use flate2::bufread::DeflateDecoder;

use super::contents::Reading;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
/// Lengths in bytes of the records' fixed parts.
const LOCAL_LEN: usize = 30;
const CENTRAL_LEN: usize = 46;
const ZIP64_END_LEN: u64 = 56;
const ZIP64_LOCATOR_LEN: u64 = 20;
const END_LEN: usize = 22;
/// A field of this value says that the number stands in a ZIP64 field.
const ESCAPE32: u32 = u32::MAX;
const ESCAPE16: u16 = u16::MAX;
/// Bit 0 of the flags: encrypted (4.4.4).
const ENCRYPTED: u16 = 1;
/// Bit 3: CRC-32 and lengths stand behind the data.
const DESCRIBED: u16 = 1 << 3;
/// How much of a short text may be unpacked from so many bytes of an archive: far more than text is ever compressed by.
const UNPACKED: u64 = 64;

/// Where the directory is.
#[derive(Debug, PartialEq)]
struct Directory {
    offset: u64,
    len: u64,
    entries: u64,
}

/// What the directory says of an entry.
#[derive(Debug)]
struct Entry {
    name: String,
    raw_name: Vec<u8>,
    flags: u16,
    method: u16,
    /// Time and date, as they stand there.
    time: u32,
    crc32: u32,
    packed: u64,
    size: u64,
    offset: u64,
    large: bool,
}

/// Reads all of an archive of `length` bytes into `reading`, which is told of everything that is
/// wrong.
pub(super) fn read(file: impl Read + Seek, length: u64, reading: &mut Reading) -> anyhow::Result<()> {
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let directory = find_directory(&mut file, length).context("is no whole ZIP archive")?;
    let mut entries = read_directory(&mut file, &directory).context("is no whole ZIP archive")?;
    entries.sort_by_key(|entry| entry.offset);
    let mut at = 0;
    for entry in &entries {
        if at < entry.offset {
            reading.fault(None, format!("{} bytes from byte {at} on belong to nothing", entry.offset - at));
        } else if at > entry.offset {
            // Not read: thousands of entries over the same few bytes would unpack to any length.
            reading.fault(Some(&entry.name), format!("begins at byte {}, within the entry before it", entry.offset));
            continue;
        }
        at = match read_entry(&mut file, entry, reading) {
            Ok(end) => end,
            Err(error) => {
                reading.fault(Some(&entry.name), format!("{error:#}"));
                if reading.is_exhausted() {
                    return Ok(());
                }
                // As far as can be told; what follows is looked at all the same.
                next_offset(&entries, entry).unwrap_or(directory.offset)
            }
        };
    }
    if at != directory.offset {
        reading.fault(
            None,
            format!("the entries end at byte {at}, but the directory begins at byte {}", directory.offset),
        );
    }
    Ok(())
}

fn next_offset(entries: &[Entry], entry: &Entry) -> Option<u64> {
    let next = entries.partition_point(|other| other.offset <= entry.offset);
    entries.get(next).map(|next| next.offset)
}

/// Reads the records at the end (4.3.14 to 4.3.16), which must follow the directory and each other without a gap.
fn find_directory(file: &mut (impl Read + Seek), length: u64) -> anyhow::Result<Directory> {
    let tail_len = length.min(END_LEN as u64 + u64::from(u16::MAX));
    file.seek(SeekFrom::Start(length - tail_len))?;
    let mut tail = Vec::new();
    file.take(tail_len).read_to_end(&mut tail)?;
    let starts = (0..=tail.len().saturating_sub(END_LEN)).rev().filter(|_| tail.len() >= END_LEN);
    let ends_there = |at: &usize| {
        let record = Fields(&tail[*at..]);
        record.u32(0) == END && *at + END_LEN + usize::from(record.u16(20)) == tail.len()
    };
    let at = { starts }.find(ends_there).context("its last bytes are no end record")?;
    let (record, end_at) = (Fields(&tail[at..]), length - tail_len + at as u64);
    ensure!(
        record.u16(4) == 0 && record.u16(6) == 0 && record.u16(8) == record.u16(10),
        "it is one of several volumes"
    );
    let short = Directory {
        offset: u64::from(record.u32(16)),
        len: u64::from(record.u32(12)),
        entries: u64::from(record.u16(10)),
    };
    let escaped = record.u16(10) == ESCAPE16 || record.u32(12) == ESCAPE32 || record.u32(16) == ESCAPE32;
    let (directory, follows_at) = match zip64_end(file, end_at)? {
        Some((directory, at)) => {
            let agrees = |short: u64, long: u64, escape: u64| short == escape || short == long;
            let agree = agrees(short.offset, directory.offset, ESCAPE32.into())
                && agrees(short.len, directory.len, ESCAPE32.into())
                && agrees(short.entries, directory.entries, ESCAPE16.into());
            ensure!(agree, "its two end records contradict each other");
            (directory, at)
        }
        None => (short, end_at),
    };
    let end = directory.offset.checked_add(directory.len);
    ensure!(
        end == Some(follows_at),
        "its directory does not end where its end record begins{}",
        if escaped { " (ZIP64)" } else { "" }
    );
    Ok(directory)
}

/// The ZIP64 end record and where it begins, if its locator stands before `end_at`.
fn zip64_end(file: &mut (impl Read + Seek), end_at: u64) -> anyhow::Result<Option<(Directory, u64)>> {
    let Some(locator_at) = end_at.checked_sub(ZIP64_LOCATOR_LEN) else { return Ok(None) };
    let locator = read_at(file, locator_at, ZIP64_LOCATOR_LEN)?;
    let locator = Fields(&locator);
    if locator.u32(0) != ZIP64_LOCATOR {
        return Ok(None);
    }
    let at = locator.u64(8);
    ensure!(locator.u32(4) == 0 && locator.u32(16) == 1, "it is one of several volumes (ZIP64)");
    ensure!(
        at.checked_add(ZIP64_END_LEN) == Some(locator_at),
        "its ZIP64 end record does not stand before its locator"
    );
    let record = read_at(file, at, ZIP64_END_LEN)?;
    let record = Fields(&record);
    ensure!(record.u32(0) == ZIP64_END && record.u64(4) == ZIP64_END_LEN - 12, "its ZIP64 end record is damaged");
    let whole = record.u32(16) == 0 && record.u32(20) == 0 && record.u64(24) == record.u64(32);
    ensure!(whole, "it is one of several volumes (ZIP64)");
    Ok(Some((Directory { offset: record.u64(48), len: record.u64(40), entries: record.u64(32) }, at)))
}

fn read_at(file: &mut (impl Read + Seek), at: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads the directory (4.3.12).
fn read_directory(file: &mut (impl BufRead + Seek), directory: &Directory) -> anyhow::Result<Vec<Entry>> {
    file.seek(SeekFrom::Start(directory.offset))?;
    let mut rest = file.take(directory.len);
    let mut entries = Vec::new();
    while rest.limit() > 0 {
        let number = entries.len() + 1;
        entries.push(directory_entry(&mut rest).with_context(|| format!("entry {number} of its directory"))?);
    }
    let found = entries.len() as u64;
    ensure!(found == directory.entries, "its directory has {found} entries, not {}", directory.entries);
    Ok(entries)
}

fn directory_entry(from: &mut impl Read) -> anyhow::Result<Entry> {
    let mut fixed = [0; CENTRAL_LEN];
    from.read_exact(&mut fixed)?;
    let fields = Fields(&fixed);
    ensure!(fields.u32(0) == CENTRAL_HEADER, "does not begin as one");
    let mut variable = |at| {
        let mut bytes = vec![0; usize::from(fields.u16(at))];
        from.read_exact(&mut bytes).map(|()| bytes)
    };
    let (raw_name, extra, _comment) = (variable(28)?, variable(30)?, variable(32)?);
    let (packed, size, offset) = (fields.u32(20), fields.u32(24), fields.u32(42));
    let mut long = Zip64(zip64_field(&extra)?);
    let (size, packed, offset) = (long.value(size)?, long.value(packed)?, long.value(offset)?);
    ensure!(fields.u16(34) == 0, "stands on another volume");
    Ok(Entry {
        name: String::from_utf8_lossy(&raw_name).into_owned(),
        raw_name,
        flags: fields.u16(8),
        method: fields.u16(10),
        time: fields.u32(12),
        crc32: fields.u32(16),
        packed,
        size,
        offset,
        large: fields.u32(20) == ESCAPE32 || fields.u32(24) == ESCAPE32,
    })
}

/// The ZIP64 extra field's values (4.5.3), which must all be asked for.
struct Zip64<'a>(&'a [u8]);

impl Zip64<'_> {
    fn value(&mut self, short: u32) -> anyhow::Result<u64> {
        if short != ESCAPE32 {
            return Ok(u64::from(short));
        }
        let (first, rest) = self.0.split_first_chunk().context("its ZIP64 field is too short")?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }
}

/// The data of the ZIP64 extra field; nothing if there is none. All extra fields must fill their room exactly.
fn zip64_field(mut extra: &[u8]) -> anyhow::Result<&[u8]> {
    let mut found: &[u8] = &[];
    while !extra.is_empty() {
        ensure!(extra.len() >= 4, "its extra fields are damaged");
        let (id, len) = (Fields(extra).u16(0), usize::from(Fields(extra).u16(2)));
        let data = extra.get(4..4 + len).context("its extra fields are damaged")?;
        if id == 1 {
            found = data;
        }
        extra = &extra[4 + len..];
    }
    Ok(found)
}

/// Reads an entry's local header and data, and compares; returns where it ends.
fn read_entry(file: &mut (impl BufRead + Seek), entry: &Entry, reading: &mut Reading) -> anyhow::Result<u64> {
    let position = file.stream_position()?;
    // Not simply to the place, which would throw away what is read ahead.
    let distance = i64::try_from(entry.offset)? - i64::try_from(position)?;
    file.seek_relative(distance)?;
    let header_len = check_header(file, entry)?;
    let mut data = file.take(entry.packed);
    let keep = entry.packed.saturating_mul(UNPACKED).max(1 << 16);
    let mut crc32 = crc32fast::Hasher::new();
    let found = match entry.method {
        0 => reading.take(&entry.name, &mut data, &mut crc32, entry.size, keep)?,
        8 => reading.take(&entry.name, &mut DeflateDecoder::new(&mut data), &mut crc32, entry.size, keep)?,
        other => bail!("is compressed by method {other}, which cannot be read"),
    };
    ensure!(found == entry.size, "has {found} bytes, and not {} as the directory says", entry.size);
    ensure!(data.limit() == 0, "has {} bytes behind its content", data.limit());
    let crc32 = crc32.finalize();
    ensure!(crc32 == entry.crc32, "its CRC-32 is {crc32:08x}, and not {:08x} as the directory says", entry.crc32);
    let descriptor = if entry.flags & DESCRIBED == 0 { 0 } else { check_descriptor(file, entry)? };
    Ok(entry.offset + header_len + entry.packed + descriptor)
}

/// Reads a local header (4.3.7) and compares it with the directory; returns its length.
fn check_header(file: &mut impl Read, entry: &Entry) -> anyhow::Result<u64> {
    ensure!(entry.flags & ENCRYPTED == 0, "is encrypted");
    let mut fixed = [0; LOCAL_LEN];
    file.read_exact(&mut fixed)?;
    let fields = Fields(&fixed);
    let (mut name, mut extra) = (vec![0; usize::from(fields.u16(26))], vec![0; usize::from(fields.u16(28))]);
    file.read_exact(&mut name)?;
    file.read_exact(&mut extra)?;
    let mut long = Zip64(zip64_field(&extra)?);
    let (packed, size) = (fields.u32(18), fields.u32(22));
    let lengths = (long.value(size)?, long.value(packed)?);
    let numbers = (fields.u32(14), lengths);
    let described = (entry.crc32, (entry.size, entry.packed));
    let differs = [
        ("signature", fields.u32(0) != LOCAL_HEADER),
        ("name", name != entry.raw_name),
        ("flags", fields.u16(6) != entry.flags),
        ("method", fields.u16(8) != entry.method),
        ("time", fields.u32(10) != entry.time),
        // They stand behind the data then, and here nothing or the same.
        ("CRC-32 or length", numbers != described && (entry.flags & DESCRIBED == 0 || numbers != (0, (0, 0)))),
    ];
    if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
        bail!("its local header has another {what} than the directory");
    }
    Ok((LOCAL_LEN + name.len() + extra.len()) as u64)
}

/// Reads what stands behind an entry's data (4.3.9), with or without a signature, with 32 or 64 bits a length; returns how much that is.
fn check_descriptor(file: &mut (impl BufRead + Seek), entry: &Entry) -> anyhow::Result<u64> {
    let mut bytes = Vec::new();
    file.by_ref().take(24).read_to_end(&mut bytes)?;
    let start = if bytes.starts_with(&DESCRIPTOR.to_le_bytes()) { 4 } else { 0 };
    let mut expected = bytes[..start].to_vec();
    expected.extend(entry.crc32.to_le_bytes());
    for length in [entry.packed, entry.size] {
        let bytes = length.to_le_bytes();
        expected.extend(if entry.large { &bytes[..] } else { &bytes[..4] });
    }
    ensure!(bytes.starts_with(&expected), "what stands behind its data differs from the directory");
    file.seek_relative(expected.len() as i64 - bytes.len() as i64)?;
    Ok(expected.len() as u64)
}

/// Numbers at places in a record, little-endian.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        // Records are read whole before their fields are.
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.get(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.get(at))
    }
}
