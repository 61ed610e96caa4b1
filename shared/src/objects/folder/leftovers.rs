//! What killed processes left half written, told from what living ones write: these hold a lock on
//! it, which the system lets go of when a process dies in whatever way.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::ObjectResult;
use super::durable::{failed, is_absent};
use super::uploads::is_finished_upload;

/// What was changed within this time is left: its writer may not have come to the lock yet.
const FRESH: Duration = Duration::from_mins(1);

/// Removes leftovers, or counts them only; gives their number and their bytes.
pub(super) fn sweep(temporary: &Path, uploads: &Path, dry_run: bool) -> ObjectResult<(u64, u64)> {
    let mut swept = (0, 0);
    for dir in [temporary, uploads] {
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let path = entry.map_err(failed("list", dir))?.path();
            if dir == uploads && !is_finished_upload(&path) {
                continue;
            }
            let bytes = match measure_leftover(&path) {
                Err(error) if is_absent(&error) => continue,
                measured => measured.map_err(failed("look at", &path))?,
            };
            let Some(bytes) = bytes else { continue };
            let remove = || if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match if dry_run { Ok(()) } else { remove() } {
                Err(error) if is_absent(&error) => {}
                removed => {
                    removed.map_err(failed("remove", &path))?;
                    swept = (swept.0 + 1, swept.1 + bytes);
                }
            }
        }
    }
    Ok(swept)
}

/// The bytes of a leftover; `None` of what somebody may still write.
fn measure_leftover(path: &Path) -> io::Result<Option<u64>> {
    let about = fs::symlink_metadata(path)?;
    // A clock that was set back since makes it look as if it came later.
    if SystemTime::now().duration_since(about.modified()?).is_ok_and(|idle| idle < FRESH) {
        return Ok(None);
    }
    if about.is_dir() {
        let mut bytes = 0;
        for entry in fs::read_dir(path)? {
            bytes += entry?.metadata()?.len();
        }
        return Ok(Some(bytes));
    }
    if !about.is_file() {
        return Ok(None);
    }
    match File::open(path)?.try_lock() {
        Ok(()) => Ok(Some(about.len())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Folder;
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_what_is_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let upload = folder.create_upload("a", 5).unwrap();
        let made = |name: &str| {
            let path = folder.temporary.join(name);
            fs::write(&path, b"half").unwrap();
            path
        };
        let (dead, written, fresh) = (made("dead"), made("written"), made("fresh"));
        let finished = folder.uploads.join("0f");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("upload.json"), b"{}").unwrap();
        let old = SystemTime::now() - Duration::from_mins(2);
        for path in [&dead, &written, &finished, &folder.uploads.join(&upload.id)] {
            File::open(path).unwrap().set_modified(old).unwrap();
        }
        let writer = File::open(&written).unwrap();
        writer.lock().unwrap();
        let sweep = |dry_run| sweep(&folder.temporary, &folder.uploads, dry_run).unwrap();
        assert_eq!(sweep(true), (2, 6));
        assert!(dead.exists() && finished.exists());
        assert_eq!(sweep(false), (2, 6));
        assert!(!dead.exists() && !finished.exists() && written.exists() && fresh.exists());
        assert_eq!(folder.list_uploads("").unwrap(), [upload]);
        drop(writer);
        assert_eq!(sweep(false), (1, 4));
    }
}
