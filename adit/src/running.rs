//! Who runs on a data folder: the lock that keeps a second `adit up` out, and the note by which other verbs find the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// How to reach a running `adit up`. Readable by its owner only: the broker's URL holds a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process id.
    pub(crate) pid: u32,
    /// URL of its API.
    pub(crate) api: String,
    /// URL of its embedded broker.
    pub(crate) broker: String,
}

/// The data folder, held by this process.
#[derive(Debug)]
pub(crate) struct Hold {
    note: PathBuf,
    // The operating system releases the lock when the process ends, however it ends.
    _lock: File,
}

impl Hold {
    /// Takes the data folder.
    pub(crate) fn take(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { note: note(data), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another `adit up` runs on {}; stop it, or choose another folder with --data", data.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Writes the note.
    pub(crate) fn announce(&self, running: &Running) -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.note.parent().unwrap_or(Path::new(".")))?;
        serde_json::to_writer(&mut file, running)?;
        file.flush()?;
        file.persist(&self.note).with_context(|| format!("cannot write {}", self.note.display()))?;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A note that stays behind is harmless: who follows it finds nobody there.
        let _ = std::fs::remove_file(&self.note);
    }
}

fn note(data: &Path) -> PathBuf {
    data.join("running.json")
}

/// What runs on the data folder, if anything does.
pub(crate) fn find(data: &Path) -> Option<Running> {
    let lock = OpenOptions::new().write(true).mode(0o600).open(data.join("lock")).ok()?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => serde_json::from_slice(&std::fs::read(note(data)).ok()?).ok(),
        // Nobody holds it: a note would be that of a process that was killed.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_a_folder_and_others_find_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(folder.path()).is_none());
        let hold = Hold::take(folder.path()).unwrap();
        assert!(find(folder.path()).is_none(), "not announced yet");
        hold.announce(&Running { pid: 1, api: "http://a".into(), broker: "stomp://b".into() }).unwrap();
        assert_eq!(find(folder.path()).unwrap().api, "http://a");
        assert!(Hold::take(folder.path()).is_err());
        drop(hold);
        assert!(find(folder.path()).is_none());
        assert!(Hold::take(folder.path()).is_ok());
    }
}
