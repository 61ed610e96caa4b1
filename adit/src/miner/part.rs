//! A file that is being downloaded: what has arrived of it, of what it is a part, and the SHA-256 so far.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use sha2::Digest as _;

/// What has arrived, in `{base}.part`. It stays there for a later run when this one ends too soon.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: sha2::Sha256,
    /// Where the entity tag is kept of what the bytes are of; bytes without one are not gone on with.
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
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).with_context(cannot_write)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another download to {} is running", base.display()),
            // Where a file system has no locks, the SHA-256 shows what two of them have made of it.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let known = fs::read_to_string(&tag_path).ok();
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
        // If-Range takes strong tags only (RFC 9110, section 13.1.5).
        let tag = tag.filter(|tag| tag.starts_with('"'));
        (self.length, self.hash, self.tag) = (0, sha2::Sha256::new(), tag.map(str::to_owned));
        // The old bytes go before the new tag is there, so that they never stand under it.
        let cleared = self.file.set_len(0).and_then(|()| absent_is_fine(fs::remove_file(&self.tag_path)));
        let begun = cleared.and_then(|()| tag.map_or(Ok(()), |tag| fs::write(&self.tag_path, tag)));
        begun.with_context(|| self.cannot_write())
    }

    /// Adds bytes at the end.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.cannot_write())?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Lets it appear under its name.
    pub(crate) fn finish(self, target: &Path) -> anyhow::Result<()> {
        let synced = self.file.sync_all().and_then(|()| absent_is_fine(fs::remove_file(&self.tag_path)));
        let done = synced.and_then(|()| fs::rename(&self.path, target));
        done.with_context(|| format!("cannot write {}", target.display()))
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
