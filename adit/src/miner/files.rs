//! Files that a server or a bag has named: opened without following symbolic links, put into place
//! without replacing what is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, ensure};
use tempfile::TempPath;

use super::part::hash_file;

/// Opens a file, and neither a symbolic link nor anything else that is none.
pub(super) fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // A pipe that nobody writes to would be waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let plain = file.metadata()?.is_file() && !fs::symlink_metadata(path)?.is_symlink();
    if plain { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")) }
}

/// Reads a small text; `None` where there is none.
///
/// # Errors
/// Also when it is longer than `most` bytes.
pub(super) fn read_small(path: &Path, most: u64) -> io::Result<Option<String>> {
    let file = match open_plain(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    if file.take(most + 1).read_to_string(&mut text)? as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(Some(text))
}

/// What stands where a file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Nothing,
    /// A file of the SHA-256 that is sought.
    Same,
    /// Anything else.
    Other,
}

/// Looks at what stands at `path`; links are not followed.
pub(super) fn find_standing(path: &Path, sought: Option<Sha256>) -> anyhow::Result<Standing> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Nothing),
        found => found.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    let same = match sought {
        Some(sha256) if found.is_file() => hash_file(path)?.1 == sha256,
        _ => false,
    };
    Ok(if same { Standing::Same } else { Standing::Other })
}

/// Renames a file to a name that nothing has yet, in one step.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something has it; the file keeps its name then, as with any
/// other error.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = TempPath::try_from_path(from)?.persist_noclobber(to);
    renamed.map_err(|failed| {
        let error = failed.error;
        // Else it would be removed when it is dropped.
        failed.path.keep().map_or_else(|failed| failed.error, |_| error)
    })
}

/// Checks that there is room for so many bytes in a folder, as far as the system tells.
pub(super) fn check_space(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Some(free) = free_space(folder) {
        ensure!(
            bytes <= free,
            "{} has room for {free} bytes more, and {bytes} are needed; make room, or choose another place",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(unix)]
fn free_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_space(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        fs::remove_file(&to).unwrap();
        rename_new(&from, &to).unwrap();
        assert!(!from.exists() && fs::read(&to).unwrap() == b"new");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [target, link, dangling] = ["target", "link", "dangling"].map(|name| dir.path().join(name));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
        for link in [&link, &dangling] {
            let write = || open_plain(link, OpenOptions::new().create(true).append(true));
            assert!(write().is_err() && read_small(link, 9).is_err());
            assert_eq!(find_standing(link, Some(Sha256::of(b"precious"))).unwrap(), Standing::Other);
            let from = dir.path().join("from");
            fs::write(&from, "new").unwrap();
            assert_eq!(rename_new(&from, link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn room_is_asked_for_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_space(dir.path(), 1).is_ok());
        if cfg!(unix) {
            let told = check_space(dir.path(), u64::MAX).unwrap_err().to_string();
            assert!(told.contains("make room"), "{told}");
        }
    }
}
