//! Private folders in a cache that several processes may share.
//!
//! A folder belongs to the process that holds its lock. The system lets go of locks when a process dies in whatever way, so what dead
//! processes left behind can be told from what living ones use, and is removed when a process starts and when the next folder is made.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "scratch-";
const LOCK: &str = "lock";

/// A folder that nobody else touches; removed with all it holds when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a folder in `parent` (which is made too), and removes those of dead processes. Blocks for as long as another
    /// process does the same.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let (_door, _) = sweep(parent)?;
        let path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a scratch folder stays until the next one is made");
        }
    }
}

/// Removes the private folders of dead processes in a search cache; gives their number and their bytes. Every process does
/// so when it starts. Blocks while another one does the same.
///
/// # Errors
/// When a folder cannot be read.
pub fn sweep_scratch(root: &Path) -> io::Result<(u64, u64)> {
    let mut swept = (0, 0);
    let parents = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        parents => parents?,
    };
    for parent in parents {
        let parent = parent?.path();
        // The door's lock is as old as the first private folder.
        if parent.join(LOCK).exists() {
            let (_, (count, bytes)) = sweep(&parent)?;
            swept = (swept.0 + count, swept.1 + bytes);
        }
    }
    Ok(swept)
}

/// Removes the folders of dead processes in `parent`, and counts them and their bytes. While the door that it gives is held,
/// no living process has a folder half made.
fn sweep(parent: &Path) -> io::Result<(File, (u64, u64))> {
    let mut swept = (0, 0);
    let door = File::create(parent.join(LOCK))?;
    door.lock()?;
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let alive = match File::open(path.join(LOCK)) {
            Ok(lock) => matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        if !alive {
            let bytes = measure(&path);
            // Its owner may be removing it at this moment.
            if fs::remove_dir_all(&path).is_ok() {
                swept = (swept.0 + 1, swept.1 + bytes);
            }
        }
    }
    Ok((door, swept))
}

/// The bytes of the files in a folder and those below it, as far as they can be seen.
fn measure(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => measure(&entry.path()),
        about => about.map_or(0, |about| about.len()),
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_living_stay_and_those_of_the_dead_go() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::create(parent.path()).unwrap();
        fs::write(alive.path().join("file"), "x").unwrap();
        let killed = parent.path().join("scratch-of-a-killed-process");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        let half_made = parent.path().join("scratch-half-made");
        fs::create_dir(&half_made).unwrap();
        fs::create_dir(parent.path().join("files")).unwrap();

        let other = Scratch::create(parent.path()).unwrap();
        assert!(alive.path().join("file").exists());
        assert!(!killed.exists() && !half_made.exists());
        assert!(parent.path().join("files").exists());

        let (alive_path, other_path) = (alive.path().to_owned(), other.path().to_owned());
        drop((alive, other));
        assert!(!alive_path.exists() && !other_path.exists());
    }

    #[test]
    fn a_new_process_finds_no_folders_of_the_dead() {
        let root = tempfile::tempdir().unwrap();
        sweep_scratch(&root.path().join("not made yet")).unwrap();
        let alive = Scratch::create(&root.path().join("1")).unwrap();
        let killed = root.path().join("1/scratch-killed");
        fs::create_dir(&killed).unwrap();
        let other = root.path().join("other/scratch-like");
        fs::create_dir_all(&other).unwrap();
        sweep_scratch(root.path()).unwrap();
        assert!(alive.path().exists() && !killed.exists());
        assert!(other.exists(), "a folder that is no cache");
    }
}
