//! A file that is being downloaded: what has arrived of it, of what it is a part, and the SHA-256
//! so far.
//!
//! What has arrived lies in `{base}.part`, with `{base}.part.etag` beside it. That says of what the
//! bytes are, and that they are of a download at all: a file of somebody's that happens to be named
//! so is left alone. Symbolic links are not followed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use sha2::Digest as _;

use super::files::{Standing, find_standing, open_plain, read_small, rename_new};

/// Longest entity tag in bytes that is kept. Bytes of a longer one are not gone on with.
const MAX_TAG: u64 = 256;

/// What has arrived, in `{base}.part`. It stays there for a later run when this one ends too soon.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: sha2::Sha256,
    /// Where the entity tag is kept of what the bytes are of; empty where they have none, and are
    /// not gone on with.
    tag_path: PathBuf,
    tag: Option<String>,
}

impl Part {
    /// Opens what has arrived, or begins it. Of what is known to be of another content than `tag` nothing is kept.
    ///
    /// # Errors
    /// When it cannot be written, or another process downloads to the same place.
    pub(crate) fn open(base: &Path, tag: Option<&str>) -> anyhow::Result<Self> {
        let [path, tag_path] = [".part", ".part.etag"].map(|ending| {
            let mut name = base.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        });
        let cannot_write = || format!("cannot write {}", path.display());
        let file = open_plain(&path, OpenOptions::new().create(true).read(true).append(true));
        let file = file.with_context(cannot_write)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another download to {} is running", base.display()),
            // Where a file system has no locks, the SHA-256 shows what two of them have made of it.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let known = read_small(&tag_path, MAX_TAG).with_context(|| format!("cannot read {}", tag_path.display()))?;
        let is_ours = known.as_ref().is_some_and(|tag| tag.is_empty() || is_strong(tag));
        if !is_ours && (known.is_some() || file.metadata().with_context(cannot_write)?.len() > 0) {
            bail!("{} is there, and is not of a download; move it away", path.display());
        }
        let known = known.filter(|tag| !tag.is_empty());
        let fit = known.is_some() && tag.is_none_or(|tag| known.as_deref() == Some(tag));
        let mut part = Self { path, file, length: 0, hash: sha2::Sha256::new(), tag_path, tag: known };
        if fit {
            (part.length, part.hash) =
                hash(&part.file).with_context(|| format!("cannot read {}", part.path.display()))?;
        } else {
            part.begin(tag)?;
        }
        Ok(part)
    }

    /// Bytes that have arrived.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The entity tag of what the bytes are of.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// SHA-256 of what has arrived.
    pub(crate) fn sha256(&self) -> Sha256 {
        Sha256(self.hash.clone().finalize().into())
    }

    /// Begins anew, with a content of that entity tag.
    pub(crate) fn begin(&mut self, tag: Option<&str>) -> anyhow::Result<()> {
        let tag = tag.filter(|tag| is_strong(tag));
        (self.length, self.hash, self.tag) = (0, sha2::Sha256::new(), tag.map(str::to_owned));
        // The old bytes go before the new tag is there, so that they never stand under it.
        let begun = self.file.set_len(0).and_then(|()| {
            let mut file = open_plain(&self.tag_path, OpenOptions::new().create(true).write(true).truncate(true))?;
            file.write_all(tag.unwrap_or_default().as_bytes())
        });
        begun.with_context(|| self.cannot_write())
    }

    /// Adds bytes at the end.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.cannot_write())?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Lets it appear under its name. A file that is there already stays, unless it has the same
    /// bytes or `overwrite` is set.
    ///
    /// # Errors
    /// When it cannot be written, or another file is there; what has arrived is kept then.
    pub(crate) fn finish(self, target: &Path, overwrite: bool) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", target.display());
        self.file.sync_all().with_context(cannot_write)?;
        if overwrite {
            fs::rename(&self.path, target).with_context(cannot_write)?;
        } else if let Err(error) = rename_new(&self.path, target) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error).with_context(cannot_write);
            }
            if find_standing(target, Some(self.sha256()))? != Standing::Same {
                bail!("{}", is_taken(target));
            }
            fs::remove_file(&self.path).with_context(cannot_write)?;
        }
        absent_is_fine(fs::remove_file(&self.tag_path)).with_context(cannot_write)
    }

    /// Removes what is of no use: a part without bytes.
    pub(crate) fn leave(self) {
        if self.length == 0 {
            // It is in nobody's way.
            let _ = fs::remove_file(&self.tag_path);
            let _ = fs::remove_file(&self.path);
        }
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

/// Tells whether an entity tag can stand in `If-Range`: strong ones alone can (RFC 9110, section
/// 13.1.5).
fn is_strong(tag: &str) -> bool {
    let plain = tag.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    plain && tag.len() as u64 <= MAX_TAG && tag.len() > 1 && tag.starts_with('"') && tag.ends_with('"')
}

/// Says that a place is taken, and what helps.
pub(crate) fn is_taken(target: &Path) -> String {
    format!("{} is there, and is not what is downloaded; move it away, or replace it by --force", target.display())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Length and hash of what is left to read.
fn hash(mut reader: impl io::Read) -> io::Result<(u64, sha2::Sha256)> {
    let (mut hash, mut length, mut chunk) = (sha2::Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            return Ok((length, hash));
        }
        hash.update(&chunk[..read]);
        length += read as u64;
    }
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> anyhow::Result<(u64, Sha256)> {
    let hashed = File::open(path).and_then(hash);
    let (length, hash) = hashed.with_context(|| format!("cannot read {}", path.display()))?;
    Ok((length, Sha256(hash.finalize().into())))
}
