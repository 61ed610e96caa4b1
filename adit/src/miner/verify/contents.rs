//! What stands in a package's archives, or in a folder: each file's length and SHA-256, and the texts that tell what should stand there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, ensure};
use sha2::Digest as _;

use super::Fault;
use super::bag::{INFO, OMITTED};
use crate::miner::bag::{DECLARATION, FETCH, MANIFEST, TAG_MANIFEST};
use crate::miner::limits::UnpackLimits;

/// The tag files of a bag that are read and not only hashed.
const READ: [&str; 6] = [DECLARATION, MANIFEST, TAG_MANIFEST, INFO, FETCH, OMITTED];

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The archive that it stands in, or the folder, by a name for people.
    pub(super) within: String,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The SHA-256 of its content.
    pub(super) sha256: Sha256,
}

/// The files of one package, by their paths.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// All files.
    pub(super) files: BTreeMap<String, Found>,
    /// What stands in the tag files that are read.
    pub(super) texts: BTreeMap<String, String>,
}

/// Takes one archive or folder in.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// Its name for people.
    within: String,
    contents: &'a mut Contents,
    faults: &'a mut Vec<Fault>,
    limits: UnpackLimits,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        within: &Path,
        contents: &'a mut Contents,
        faults: &'a mut Vec<Fault>,
        limits: UnpackLimits,
    ) -> Self {
        Self { within: within.display().to_string(), contents, faults, limits }
    }

    /// Takes an entry that has no content.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn skip_entry(&mut self) -> anyhow::Result<()> {
        self.limits.take_entry()
    }

    /// Tells whether all that may be unpacked was: then nothing more of it is looked at.
    pub(super) fn is_exhausted(&self) -> bool {
        self.limits.bytes == 0
    }

    /// Notes that something is wrong with it, or with one of its entries.
    pub(super) fn fault(&mut self, entry: Option<&str>, reason: impl Into<String>) {
        self.faults.push(Fault { file: self.within.clone(), entry: entry.map(str::to_owned), reason: reason.into() });
    }

    /// Reads an archive of `length` bytes, by its kind.
    pub(super) fn take_archive(&mut self, archive: impl Read + Seek, length: u64, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::Zip => super::zip_archive::read(archive, length, self),
            Kind::TarZst => super::tar_archive::read(archive, length, self),
            Kind::Table => Ok(()),
        }
    }

    /// Reads a file to its end, or until it is longer than `size`; returns how much that was. A text is kept if it has at most `keep` bytes.
    pub(super) fn take(
        &mut self,
        path: &str,
        content: &mut impl Read,
        crc32: &mut crc32fast::Hasher,
        size: u64,
        keep: u64,
    ) -> anyhow::Result<u64> {
        if let Err(error) = self.limits.take_entry() {
            self.limits.bytes = 0;
            return Err(error);
        }
        let kept = is_read(path);
        let (mut hash, mut chunk, mut text, mut found) = (sha2::Sha256::new(), vec![0; 64 * 1024], Vec::new(), 0);
        while found <= size {
            let read = match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot be read"),
            };
            if let Err(error) = self.limits.take_bytes(read.len() as u64) {
                self.limits.bytes = 0;
                return Err(error);
            }
            found += read.len() as u64;
            hash.update(read);
            crc32.update(read);
            if kept {
                ensure!(
                    found <= keep,
                    "is longer than {keep} bytes, the most that a list may have in so few bytes of an archive"
                );
                text.extend_from_slice(read);
            }
        }
        if path.ends_with('/') {
            // A directory's entry, as some tools write it.
            return Ok(found);
        }
        if kept {
            let text = String::from_utf8(text).context("is not UTF-8")?;
            self.contents.texts.insert(path.to_owned(), text);
        }
        let file = Found { within: self.within.clone(), size: found, sha256: Sha256(hash.finalize().into()) };
        if let Some(other) = self.contents.files.insert(path.to_owned(), file) {
            self.fault(Some(path), format!("stands there twice (the first time in {})", other.within));
        }
        Ok(found)
    }
}

/// Whether it may be a tag file that is read: at the top, or in a bag's base directory.
fn is_read(path: &str) -> bool {
    let name = path.split_once('/').map_or(path, |(_, name)| name);
    READ.contains(&name)
}

/// Reads an archive, by its kind.
pub(super) fn read_archive(path: &Path, kind: Kind, contents: &mut Contents, faults: &mut Vec<Fault>) {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))).context("cannot be read");
    let limits = UnpackLimits::of_archive(opened.as_ref().map_or(0, |(length, _)| *length));
    let mut reading = Reading::new(path, contents, faults, limits);
    if let Err(error) = opened.and_then(|(length, file)| reading.take_archive(file, length, kind)) {
        reading.fault(None, format!("{error:#}"));
    }
}

/// Reads all files of a folder, by their paths in it.
pub(super) fn read_folder(root: &Path, contents: &mut Contents, faults: &mut Vec<Fault>) -> anyhow::Result<()> {
    let mut reading = Reading::new(root, contents, faults, UnpackLimits::none());
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let place = root.join(&folder);
        for entry in std::fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                reading.fault(Some(&format!("{folder}{}", name.display())), "has a name that is not UTF-8");
                continue;
            };
            let path = format!("{folder}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path + "/");
            } else if !kind.is_file() {
                reading.fault(Some(&path), "is no file");
            } else if let Err(error) = read_file(&mut reading, &path, &entry.path()) {
                reading.fault(Some(&path), format!("{error:#}"));
            }
        }
    }
    Ok(())
}

fn read_file(reading: &mut Reading<'_>, path: &str, place: &Path) -> anyhow::Result<()> {
    let mut file = File::open(place).context("cannot be read")?;
    reading.take(path, &mut file, &mut crc32fast::Hasher::new(), u64::MAX, u64::MAX).map(drop)
}

/// What an asset is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A ZIP archive; so is what has no other known name.
    Zip,
    /// A tar archive in zstd frames.
    TarZst,
    /// A shard of a table, of which only the hash is known.
    Table,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        let table = [".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst"];
        if name.ends_with(".tar.zst") {
            Self::TarZst
        } else if table.iter().any(|ending| name.ends_with(ending)) {
            Self::Table
        } else {
            Self::Zip
        }
    }
}
