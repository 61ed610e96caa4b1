//! Checks an archive from inside: every entry's CRC-32, and for a bag (RFC 8493) every manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use sha2::Digest as _;
use zip::ZipArchive;

const DECLARATION: &str = "bagit.txt";
const MANIFEST: &str = "manifest-sha256.txt";
const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// Bytes of a manifest that are kept for each entry of the archive: a hash and a long path. A short entry can unpack to any length.
const MANIFEST_LINE: usize = 2048;

/// What a check has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Entries of the archive.
    pub(crate) files: usize,
    /// Whether it is a bag.
    pub(crate) bag: bool,
    /// What is wrong, each with the entry's name.
    pub(crate) faults: Vec<String>,
}

/// Reads every byte of an archive.
///
/// # Errors
/// When the file cannot be read or is no ZIP archive at all.
pub(crate) fn check(path: &Path) -> anyhow::Result<Findings> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).with_context(|| format!("{} is no whole ZIP archive", path.display()))?;
    let base = base_directory(&archive);
    let manifests_of = |base: &str| [MANIFEST, TAG_MANIFEST].map(|name| format!("{base}{name}"));
    let kept = base.as_deref().map(manifests_of).unwrap_or_default();
    let mut findings = Findings { files: archive.len(), bag: base.is_some(), faults: Vec::new() };
    let mut hashes = BTreeMap::new();
    let mut manifests = BTreeMap::new();
    for index in 0..archive.len() {
        let name = match archive.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            _ => format!("entry {index}"),
        };
        let keep = kept.contains(&name).then(|| findings.files.saturating_mul(MANIFEST_LINE));
        match read_entry(&mut archive, index, keep) {
            Ok((hash, text)) => {
                if let Some(text) = text {
                    manifests.insert(name.clone(), text);
                }
                if hashes.insert(name.clone(), hash).is_some() {
                    findings.faults.push(format!("{name}: stands in the archive twice"));
                }
            }
            Err(error) => findings.faults.push(format!("{name}: {error:#}")),
        }
    }
    if let Some(base) = base {
        check_manifests(&base, &hashes, &manifests, &mut findings.faults);
    }
    Ok(findings)
}

/// Where a bag stands in its archive, with a slash: one directory deep, as RFC 8493 (4) has it, or at the root, as some tools write it.
fn base_directory(archive: &ZipArchive<BufReader<File>>) -> Option<String> {
    let declared = archive.file_names().flatten().filter_map(|name| name.strip_suffix(DECLARATION).map(str::to_owned));
    let base = |folder: &String| folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
    declared.filter(base).min_by_key(String::len)
}

/// Reads an entry to its end, which checks its CRC-32; keeps its text where at most `keep` bytes of it are wanted.
fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    keep: Option<usize>,
) -> anyhow::Result<(Sha256, Option<String>)> {
    let mut entry = archive.by_index(index)?;
    let (mut hash, mut chunk, mut text) = (sha2::Sha256::new(), vec![0; 64 * 1024], Vec::new());
    loop {
        let read = entry.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        if let Some(most) = keep {
            if text.len() + read > most {
                bail!("is longer than {most} bytes, the most that a manifest of so many entries may have");
            }
            text.extend_from_slice(&chunk[..read]);
        }
    }
    let text = keep.map(|_| String::from_utf8(text).context("is not UTF-8")).transpose()?;
    Ok((Sha256(hash.finalize().into()), text))
}

fn check_manifests(
    base: &str,
    hashes: &BTreeMap<String, Sha256>,
    manifests: &BTreeMap<String, String>,
    faults: &mut Vec<String>,
) {
    let payload_manifest = format!("{base}{MANIFEST}");
    if !manifests.contains_key(&payload_manifest) {
        faults.push(format!("{payload_manifest}: is missing from the bag or cannot be read"));
    }
    let mut listed = BTreeSet::new();
    for (manifest, text) in manifests {
        for (number, line) in text.lines().enumerate() {
            let Some((hash, name)) = line.split_once(char::is_whitespace) else {
                faults.push(format!("{manifest}: line {} cannot be read", number + 1));
                continue;
            };
            let name = format!("{base}{}", decoded(name.trim_start()));
            match hashes.get(&name) {
                None => faults.push(format!("{name}: is named in {manifest}, but missing or damaged")),
                Some(found) if found.to_string() != hash.to_ascii_lowercase() => {
                    faults.push(format!("{name}: its SHA-256 is not that of {manifest}"));
                }
                Some(_) => {}
            }
            listed.insert(name);
        }
    }
    let outside = hashes.keys().filter(|name| !name.starts_with(base));
    faults.extend(outside.map(|name| format!("{name}: stands outside of the bag's base directory {base}")));
    let payload = format!("{base}data/");
    // Some tools give directories entries of their own.
    let files = hashes.keys().filter(|name| name.starts_with(&payload) && !name.ends_with('/'));
    let unlisted = files.filter(|name| !listed.contains(*name));
    faults.extend(unlisted.map(|name| format!("{name}: is not in {payload_manifest}")));
}

/// A path of a manifest with its line ends and percent signs as they are (RFC 8493, section 2.1.3).
pub(super) fn decoded(path: &str) -> String {
    // The percent sign comes last: what it would complete to another sequence is no sequence.
    let codes = [("%0A", "\n"), ("%0a", "\n"), ("%0D", "\r"), ("%0d", "\r"), ("%25", "%")];
    codes.iter().fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What is wrong with an archive of these entries, if it is a bag.
    fn faults(entries: &[(&str, &str)]) -> Option<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, text) in entries {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let findings = check(file.path()).unwrap();
        assert!(findings.bag || findings.faults.is_empty());
        findings.bag.then_some(findings.faults)
    }

    /// A bag of one file in `base`, and what else is in its archive.
    fn bag(base: &str, more: &[(&str, &str)]) -> Option<Vec<String>> {
        let manifest = format!("{}  data/a.txt\n", Sha256::of(b"a"));
        let files = [("bagit.txt", ""), ("data/", ""), ("data/a.txt", "a"), (MANIFEST, &manifest)];
        let files = files.map(|(name, text)| (format!("{base}{name}"), text));
        let files = files.iter().map(|(name, text)| (name.as_str(), *text));
        faults(&files.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    #[test]
    fn a_bag_stands_in_one_folder_or_at_the_root() {
        assert_eq!(bag("bag-1/", &[]), Some(vec![]));
        assert_eq!(bag("", &[]), Some(vec![]));
        assert_eq!(bag("", &[("data/bagit.txt", "")]), Some(vec![format!("data/bagit.txt: is not in {MANIFEST}")]));
        assert_eq!(bag("deep/bag-1/", &[]), None);
        assert_eq!(faults(&[("a.txt", "a"), ("not-bagit.txt", "")]), None);
    }

    #[test]
    fn what_is_outside_of_a_bag_or_unlisted_or_missing_is_a_fault() {
        let found = bag("bag-1/", &[("bag-10/data/b.txt", ""), ("bag-1/data/b.txt", ""), ("c.txt", "")]);
        let expected = [
            "bag-10/data/b.txt: stands outside of the bag's base directory bag-1/",
            "c.txt: stands outside of the bag's base directory bag-1/",
            "bag-1/data/b.txt: is not in bag-1/manifest-sha256.txt",
        ];
        assert_eq!(found.unwrap(), expected);
        let tags = format!("{}  bag-info.txt\n{}  bagit.txt\n", Sha256::of(b""), Sha256::of(b"other"));
        let expected = [
            "bag-1/bag-info.txt: is named in bag-1/tagmanifest-sha256.txt, but missing or damaged",
            "bag-1/bagit.txt: its SHA-256 is not that of bag-1/tagmanifest-sha256.txt",
        ];
        assert_eq!(bag("bag-1/", &[("bag-1/tagmanifest-sha256.txt", &tags)]).unwrap(), expected);
    }

    #[test]
    fn paths_of_a_manifest_are_decoded() {
        assert_eq!(decoded("data/50%25 a%0Ab%0d%0Ac"), "data/50% a\nb\r\nc");
        assert_eq!(decoded("%250A %41 %"), "%0A %41 %");
    }

    #[test]
    fn a_manifest_that_unpacks_without_end_is_a_fault() {
        let endless = " ".repeat(1 << 20);
        let found = bag("", &[(TAG_MANIFEST, &endless)]).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("tagmanifest-sha256.txt: is longer than 10240 bytes"), "{found:?}");
    }
}
