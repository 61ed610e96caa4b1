//! Checks that must hold for any archive and any list of a bag; see [`crate::fuzzing`].

use std::io::{Cursor, Read as _};
use std::path::{Component, Path, PathBuf};

use adit_shared::digest::Sha256;
use zip::ZipArchive;

use super::bag::{self, Beside, INFO, OMITTED};
use super::contents::{Contents, Found, Kind, Reading};
use super::{Fault, Report, check_contents};
use crate::miner::bag::{DECLARATION, FETCH, MANIFEST, TAG_MANIFEST, fetch_line, manifest_line, safe_names};
use crate::miner::limits::UnpackLimits;

/// Most of an archive that a text may be unpacked to, as a multiple of its length, and always.
const UNPACKED: (usize, usize) = (64, 1 << 16);
/// Stands between the lists of a bag in an input: no text of a bag has it.
const BETWEEN: char = '\u{1e}';

/// Checks an archive: the first byte says of which kind. What a whole ZIP archive holds, the
/// library that unpacks it finds, too.
pub(crate) fn check_archives(data: &[u8]) {
    let Some((kind, archive)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let (contents, faults) = take_archive(archive, Kind::Zip);
            if faults.is_empty() {
                compare_with_library(archive, &contents);
            }
        }
        1 => drop(take_archive(archive, Kind::TarZst)),
        // Behind the checksum of the compression little would get through to tar.
        _ => {
            if let Ok(packed) = zstd::bulk::compress(archive, 1) {
                take_archive(&packed, Kind::TarZst);
            }
        }
    }
}

fn take_archive(archive: &[u8], kind: Kind) -> (Contents, Vec<Fault>) {
    let (mut contents, mut faults) = (Contents::default(), Vec::new());
    let limits = UnpackLimits::of_archive(archive.len() as u64);
    let mut reading = Reading::new(Path::new("archive"), &mut contents, &mut faults, limits);
    if let Err(error) = reading.take_archive(Cursor::new(archive), archive.len() as u64, kind) {
        reading.fault(None, format!("{error:#}"));
    }
    for (path, text) in &contents.texts {
        assert!(text.len() <= (archive.len() * UNPACKED.0).max(UNPACKED.1), "{path}: {} bytes", text.len());
    }
    let mut report = Report { faults, ..Report::default() };
    check_contents(&contents, &Beside::new(), &mut report);
    (contents, report.faults)
}

fn compare_with_library(archive: &[u8], contents: &Contents) {
    let Ok(mut zip) = ZipArchive::new(Cursor::new(archive)) else { return };
    for index in 0..zip.len() {
        let Ok(mut entry) = zip.by_index(index) else { continue };
        let Ok(name) = entry.name().map(|name| name.into_owned()) else { continue };
        // Other names are read by other rules.
        if !name.is_ascii() || name.ends_with('/') || name.contains(['\\', '\0']) {
            continue;
        }
        let mut bytes = Vec::new();
        if entry.read_to_end(&mut bytes).is_ok() {
            let found = contents.files.get(&name).map(|found| (found.size, found.sha256));
            assert_eq!(found, Some((bytes.len() as u64, Sha256::of(&bytes))), "{name:?}");
        }
    }
}

/// Checks the lists of a bag: each line of what is to be fetched and of manifests, and all of them
/// together, as a bag has them.
pub(crate) fn check_bag_lists(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        if let Some((path, source)) = fetch_line(line) {
            let length = source.length.map_or("-".to_owned(), |length| length.to_string());
            let again = fetch_line(&format!("{} {length} {}", source.url, encoded(&path)));
            check_path(&path);
            assert_eq!(again, Some((path, source)).filter(|(path, _)| !path.starts_with([' ', '\t'])));
        }
        if let Some((path, sha256)) = manifest_line(line) {
            check_path(&path);
            assert_eq!(manifest_line(&format!("{sha256}  {}", encoded(&path))), Some((path, sha256)));
        }
    }
    check_bag(&text);
}

/// A path as a list writes it (RFC 8493, 2.1.3).
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D")
}

/// A path that passes as safe stays below wherever it begins.
fn check_path(path: &str) {
    let Ok(names) = safe_names(path) else { return };
    let place: PathBuf = names.iter().collect();
    assert_eq!(place.components().count(), names.len(), "{path:?}");
    assert!(place.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
}

fn check_bag(text: &str) {
    let mut contents = Contents::default();
    contents.texts.insert(DECLARATION.to_owned(), "BagIt-Version: 1.0\n".to_owned());
    let lists = [MANIFEST, FETCH, TAG_MANIFEST, INFO, OMITTED, "data/a.txt"];
    for (name, part) in lists.iter().zip(text.split(BETWEEN)) {
        let sha256 = Sha256::of(part.as_bytes());
        contents.files.insert((*name).to_owned(), Found { within: "bag".to_owned(), size: part.len() as u64, sha256 });
        contents.texts.insert((*name).to_owned(), part.to_owned());
    }
    assert_eq!(bag::base(&contents), Some(""));
    let mut faults = Vec::new();
    let bag = bag::check(&contents, "", &Beside::new(), &mut faults);
    let lines = text.lines().count() as u64 + lists.len() as u64;
    assert!(bag.files <= lines && bag.absent <= bag.files, "{bag:?}");
    assert!(bag.omitted.is_none_or(|omitted| omitted.rights + omitted.withdrawn <= omitted.all));
}
