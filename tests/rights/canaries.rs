//! Words that stand in texts and nowhere else, and finding them in whatever a server sends: archives are opened, what is compressed is decompressed.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Stands in every text, so that searches and snippets come by the canaries.
pub(super) const BAIT: &str = "bait";
/// In what is open.
pub(super) const OPEN: &str = "canaryopenwxq";
/// In what needs an entitlement, by the collection's name or by another; in an older version, which was open, of what needs one now.
pub(super) const RESTRICTED: [&str; 3] = ["canaryownwxq", "canarypresswxq", "canaryoldwxq"];
/// In what nobody gets.
pub(super) const CLOSED: &str = "canaryclosedwxq";
/// In what was withdrawn.
pub(super) const WITHDRAWN: &str = "canarywithdrawnwxq";

/// All canaries.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    RESTRICTED.into_iter().chain([OPEN, CLOSED, WITHDRAWN])
}

/// A file with a canary, in which no format's noise hides it.
pub(super) fn content(canary: &str) -> Vec<u8> {
    format!("There is {BAIT} beside the {canary} of it. ").repeat(20).into_bytes()
}

/// The canaries in some bytes, and in all that they are made of.
pub(super) fn found(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut found = plainly(bytes);
    for inner in inside(bytes) {
        found.extend(self::found(&inner));
    }
    found
}

/// The canaries that stand in some bytes as they are.
pub(super) fn plainly(bytes: &[u8]) -> BTreeSet<&'static str> {
    all().filter(|canary| contains(bytes, canary)).collect()
}

fn contains(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// What bytes are made of, if they are an archive, a table, compressed, or a text with Base64 in it.
fn inside(bytes: &[u8]) -> Vec<Vec<u8>> {
    match bytes {
        [0x1f, 0x8b, ..] => vec![read(flate2::read::MultiGzDecoder::new(bytes))],
        [0x28, 0xb5, 0x2f, 0xfd, ..] => vec![zstd::stream::decode_all(bytes).unwrap()],
        [b'P', b'K', ..] => in_zip(bytes),
        [b'P', b'A', b'R', b'1', ..] => in_parquet(bytes),
        _ if bytes.get(257..262) == Some(b"ustar") => in_tar(bytes),
        _ => in_base64(bytes),
    }
}

fn read(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn in_zip(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    (0..archive.len()).map(|index| read(archive.by_index(index).unwrap())).collect()
}

fn in_tar(bytes: &[u8]) -> Vec<Vec<u8>> {
    tar::Archive::new(bytes).entries().unwrap().map(|entry| read(entry.unwrap())).collect()
}

fn in_parquet(bytes: &[u8]) -> Vec<Vec<u8>> {
    use parquet::file::reader::FileReader as _;
    use parquet::record::Field;
    let reader = parquet::file::serialized_reader::SerializedFileReader::new(Bytes::copy_from_slice(bytes)).unwrap();
    let mut values = Vec::new();
    for row in reader.get_row_iter(None).unwrap() {
        for (_, field) in row.unwrap().get_column_iter() {
            match field {
                Field::Bytes(value) => values.push(value.data().to_vec()),
                other => values.push(other.to_string().into_bytes()),
            }
        }
    }
    values
}

/// Long runs of the letters of Base64, decoded where they are that.
fn in_base64(bytes: &[u8]) -> Vec<Vec<u8>> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let runs = bytes.split(|byte| !letter(byte)).filter(|run| run.len() >= 24);
    runs.filter_map(|run| STANDARD.decode(run).ok())
        .filter(|inner| all().any(|canary| contains(inner, canary)))
        .collect()
}
