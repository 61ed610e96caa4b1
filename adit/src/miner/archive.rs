//! Checks an archive from inside: every entry's CRC-32, and for a bag (RFC 8493) every manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use adit_shared::digest::Sha256;
use anyhow::Context as _;
use sha2::Digest as _;
use zip::ZipArchive;

const MANIFEST: &str = "manifest-sha256.txt";
const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";

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
    let mut findings = Findings { files: archive.len(), ..Findings::default() };
    let mut hashes = BTreeMap::new();
    let mut manifests = BTreeMap::new();
    for index in 0..archive.len() {
        let name = match archive.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            _ => format!("entry {index}"),
        };
        match read_entry(&mut archive, index, matches!(name.as_str(), MANIFEST | TAG_MANIFEST)) {
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
    findings.bag = hashes.contains_key("bagit.txt");
    if findings.bag {
        check_manifests(&hashes, &manifests, &mut findings.faults);
    }
    Ok(findings)
}

/// Reads an entry to its end, which checks its CRC-32.
fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    keep: bool,
) -> anyhow::Result<(Sha256, Option<String>)> {
    let mut entry = archive.by_index(index)?;
    let (mut hash, mut chunk, mut text) = (sha2::Sha256::new(), vec![0; 64 * 1024], Vec::new());
    loop {
        let read = entry.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        if keep {
            text.extend_from_slice(&chunk[..read]);
        }
    }
    let text = if keep { Some(String::from_utf8(text).context("is not UTF-8")?) } else { None };
    Ok((Sha256(hash.finalize().into()), text))
}

fn check_manifests(hashes: &BTreeMap<String, Sha256>, manifests: &BTreeMap<String, String>, faults: &mut Vec<String>) {
    if !manifests.contains_key(MANIFEST) {
        faults.push(format!("{MANIFEST}: is missing from the bag"));
    }
    let mut listed = BTreeSet::new();
    for (manifest, text) in manifests {
        for (number, line) in text.lines().enumerate() {
            let Some((hash, name)) = line.split_once(char::is_whitespace) else {
                faults.push(format!("{manifest}: line {} cannot be read", number + 1));
                continue;
            };
            let name = name.trim_start();
            listed.insert(name);
            match hashes.get(name) {
                None => faults.push(format!("{name}: is named in {manifest}, but missing or damaged")),
                Some(found) if found.to_string() != hash.to_ascii_lowercase() => {
                    faults.push(format!("{name}: its SHA-256 is not that of {manifest}"));
                }
                Some(_) => {}
            }
        }
    }
    let unlisted = hashes.keys().filter(|name| name.starts_with("data/") && !listed.contains(name.as_str()));
    faults.extend(unlisted.map(|name| format!("{name}: is not in {MANIFEST}")));
}
