//! Whole objects in a folder: put, read, delete, list; and the clearing of what crashed processes left.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::super::checks::{check_key, check_prefix, check_range};
use super::super::{ObjectError, ObjectResult};
use super::durable::{failed, is_absent, place, prune, sync_dir};

/// A temporary file of this age belongs to nobody: writing one takes seconds.
const STALE_TEMPORARY: Duration = Duration::from_hours(24);
/// What looks old is removed once it has looked so for as long as this.
const CONFIRMED: Duration = Duration::from_hours(24);
/// How the name of the file ends that says since when something has looked old.
const MARK: &str = "old";
/// An upload that got no part for so long is given up; a build that still wants it begins anew.
const STALE_UPLOAD: Duration = Duration::from_hours(7 * 24);
/// Bytes that are written to see whether the disk takes them: a block of most file systems.
const TRIAL: usize = 4096;

/// The folder, and what is done in it; every call waits for the disk.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Where files are written before they are moved into place.
    pub(super) temporary: PathBuf,
    /// Where unfinished uploads lie.
    pub(super) uploads: PathBuf,
}

impl Folder {
    /// Opens or makes the folder, and fails if it cannot be written to.
    pub(super) fn open(root: &Path) -> ObjectResult<Self> {
        let folder = Self { root: root.to_owned(), temporary: root.join(".tmp"), uploads: root.join(".uploads") };
        for dir in [&folder.temporary, &folder.uploads] {
            fs::create_dir_all(dir).map_err(failed("make the folder", dir))?;
        }
        for dir in [root, &folder.temporary, &folder.uploads] {
            check_writers(dir)?;
        }
        tempfile::tempfile_in(&folder.temporary).map_err(failed("write to", &folder.temporary))?;
        sync_dir(root)?;
        sweep(&folder.temporary, STALE_TEMPORARY);
        sweep(&folder.uploads, STALE_UPLOAD);
        Ok(folder)
    }

    /// Where the object of a key lies.
    fn path(&self, key: &str) -> ObjectResult<PathBuf> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> ObjectResult<()> {
        let to = self.path(key)?;
        // Readable as the umask allows, like any file that a program writes; temporary files are private otherwise.
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.temporary)
            .map_err(failed("write to", &self.temporary))?;
        // Tells a sweep that its writer lives.
        file.as_file().lock().map_err(failed("lock", &to))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed("write", &to))?;
        place(file.path(), &to, &self.root)
    }

    /// Moves a synced file to where the object of `key` lies.
    pub(super) fn place(&self, from: &Path, key: &str) -> ObjectResult<()> {
        place(from, &self.path(key)?, &self.root)
    }

    /// The object's file and the range that is wanted of it, which lies inside.
    pub(super) fn open_range(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<(File, Range<u64>)> {
        let path = self.path(key)?;
        let not_found = || ObjectError::NotFound(key.to_owned());
        let file = match File::open(&path) {
            Err(error) if is_absent(&error) => return Err(not_found()),
            opened => opened.map_err(failed("open", &path))?,
        };
        let about = file.metadata().map_err(failed("open", &path))?;
        if !about.is_file() {
            return Err(not_found());
        }
        Ok((file, check_range(key, range, about.len())?))
    }

    pub(super) fn size(&self, key: &str) -> ObjectResult<Option<u64>> {
        let path = self.path(key)?;
        match fs::metadata(&path) {
            Ok(about) => Ok(about.is_file().then_some(about.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("look at", &path)(error)),
        }
    }

    /// Writes a block into a file without a name, which is gone when it is closed.
    pub(super) fn check_writes(&self) -> ObjectResult<()> {
        let write = || {
            let mut file = tempfile::tempfile_in(&self.temporary)?;
            file.write_all(&[0; TRIAL])?;
            file.sync_data()
        };
        write().map_err(failed("write to", &self.temporary))
    }

    pub(super) fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<ObjectResult<Vec<_>>>()?;
        let mut parents = BTreeSet::new();
        for path in &paths {
            match fs::remove_file(path) {
                Ok(()) => parents.extend(path.parent()),
                Err(error) if is_absent(&error) || path.is_dir() => {}
                Err(error) => return Err(failed("delete", path)(error)),
            }
        }
        parents.into_iter().try_for_each(|dir| prune(dir, &self.root))
    }

    pub(super) fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>> {
        check_prefix(prefix)?;
        let mut found = Vec::new();
        let mut prefixes = vec![prefix.to_owned()];
        while let Some(prefix) = prefixes.pop() {
            self.list_dir(&prefix, &mut prefixes, &mut found)?;
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Lists one folder; what vanishes meanwhile is left out, and so is what no key names.
    fn list_dir(&self, prefix: &str, prefixes: &mut Vec<String>, found: &mut Vec<(String, u64)>) -> ObjectResult<()> {
        let dir = self.root.join(prefix);
        let entries = match fs::read_dir(&dir) {
            Err(error) if is_absent(&error) => return Ok(()),
            entries => entries.map_err(failed("list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed("list", &dir))?;
            let Some(key) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
            if check_key(&key).is_err() {
                continue;
            }
            match entry.metadata() {
                Ok(about) if about.is_dir() => prefixes.push(key + "/"),
                Ok(about) if about.is_file() => found.push((key, about.len())),
                Err(error) if !is_absent(&error) => return Err(failed("look at", &entry.path())(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses a folder that everybody can write to: any user of the machine could put links and
/// objects there.
fn check_writers(dir: &Path) -> ObjectResult<()> {
    let mode = fs::metadata(dir).map_err(failed("look at", dir))?.permissions().mode();
    if mode & 0o002 == 0 {
        return Ok(());
    }
    let reason =
        format!("every user of the machine can write to {}: `chmod o-w` it, or name a folder in it", dir.display());
    Err(ObjectError::Refused(reason))
}

/// Reads a range that lies inside a file.
pub(super) fn read_at(file: &File, range: &Range<u64>, key: &str) -> ObjectResult<Bytes> {
    let broken = |reason: String| ObjectError::Unavailable(format!("cannot read {key} at {range:?}: {reason}"));
    let length = usize::try_from(range.end - range.start).map_err(|error| broken(error.to_string()))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start).map_err(|error| broken(error.to_string()))?;
    Ok(bytes.into())
}

/// Removes what has not been changed for `age`, and was found so by an earlier sweep, [`CONFIRMED`]
/// ago or longer: a clock that was just set forward makes everything look old. What cannot be
/// removed is left and told: it harms nobody but the disk.
fn sweep(dir: &Path, age: Duration) {
    let mark_of = |path: &Path| path.with_extension(MARK);
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let (marks, paths): (Vec<_>, Vec<_>) = paths.partition(|path| path.extension().is_some_and(|end| end == MARK));
    for path in &paths {
        let mark = mark_of(path);
        if idle(path).is_none_or(|idle| idle <= age) {
            continue;
        }
        if idle(&mark).is_none_or(|idle| idle <= CONFIRMED) || changed(path) > changed(&mark) {
            if !mark.exists() || changed(path) > changed(&mark) {
                note_mark(&mark);
            }
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if !is_absent(&error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove leftovers")
            }
            _ => tracing::info!(path = %path.display(), "removed leftovers of an interrupted write"),
        }
    }
    // Those of what was removed, now or by whoever wrote it.
    for mark in marks.iter().filter(|mark| !paths.iter().any(|path| path.exists() && mark_of(path) == **mark)) {
        let _ = fs::remove_file(mark);
    }
}

/// Notes the time at which something was found to be old, as the modification time of a file.
fn note_mark(mark: &Path) {
    if let Err(error) = File::create(mark).and_then(|file| file.set_modified(SystemTime::now())) {
        tracing::warn!(path = %mark.display(), %error, "cannot note that something is left over");
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|about| about.modified()).ok()
}

/// Tells how long ago something was changed; nothing where it is not there, or the clock was behind.
fn idle(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(changed(path)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(path: &Path, by: Duration) {
        File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn a_clock_that_jumps_ahead_makes_nobody_clear_away_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let file = folder.temporary.join("half");
        fs::write(&file, b"half").unwrap();
        let upload = folder.create_upload("a", 5).unwrap();
        // To a clock that has jumped by eight days, all that there is looks eight days old.
        let look_old = |by| {
            age(&file, by);
            age(&folder.uploads.join(&upload.id), by);
        };
        look_old(STALE_UPLOAD + Duration::from_hours(24));
        for _ in 0..3 {
            Folder::open(dir.path()).unwrap();
            assert!(file.exists() && folder.find_upload("a", 5).unwrap().is_some());
        }
        assert_eq!(folder.list_uploads("").unwrap(), std::slice::from_ref(&upload));
        // A day later its build has put a part.
        let mark_of = |path: &Path| path.with_extension(MARK);
        age(&mark_of(&folder.uploads.join(&upload.id)), CONFIRMED + Duration::from_mins(1));
        folder.put_part(&upload, 1, b"abc").unwrap();
        Folder::open(dir.path()).unwrap();
        assert!(folder.find_upload("a", 5).unwrap().is_some());
    }

    #[test]
    fn opening_clears_away_only_what_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let [old_file, new_file] = ["old", "new"].map(|name| folder.temporary.join(name));
        fs::write(&old_file, b"half").unwrap();
        fs::write(&new_file, b"half").unwrap();
        let [old_upload, new_upload] = ["a/old", "a/new"].map(|key| folder.create_upload(key, 5).unwrap());
        age(&old_file, STALE_TEMPORARY + Duration::from_mins(1));
        age(&new_file, STALE_TEMPORARY - Duration::from_mins(1));
        age(&folder.uploads.join(&old_upload.id), STALE_UPLOAD + Duration::from_mins(1));
        age(&folder.uploads.join(&new_upload.id), STALE_UPLOAD - Duration::from_mins(1));

        let folder = Folder::open(dir.path()).unwrap();
        assert!(old_file.exists(), "at first sight it is only noted");
        for old in [&old_file, &folder.uploads.join(&old_upload.id)] {
            age(&old.with_extension(MARK), CONFIRMED + Duration::from_mins(1));
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert!(!old_file.exists() && new_file.exists());
        assert_eq!(fs::read_dir(&folder.temporary).unwrap().count(), 1, "and no note");
        assert_eq!(folder.find_upload("a/old", 5).unwrap(), None);
        assert_eq!(folder.find_upload("a/new", 5).unwrap(), Some(new_upload));
    }

    #[test]
    fn a_folder_that_everybody_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        open(dir.path(), 0o775);
        Folder::open(dir.path()).unwrap();
        for inside in ["", ".tmp", ".uploads"] {
            let inside = dir.path().join(inside);
            open(&inside, 0o1777);
            let error = Folder::open(dir.path()).unwrap_err();
            assert!(matches!(&error, ObjectError::Refused(reason) if reason.contains("chmod o-w")), "{error}");
            open(&inside, 0o755);
        }
    }

    #[test]
    fn deleting_the_last_object_leaves_no_empty_folders() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for key in ["a/b/c/1", "a/2"] {
            folder.put(key, b"x").unwrap();
        }
        folder.delete(&["a/b/c/1".to_owned()]).unwrap();
        assert!(!dir.path().join("a/b").exists());
        folder.delete(&["a/2".to_owned()]).unwrap();
        assert!(!dir.path().join("a").exists());
        assert_eq!(folder.list("").unwrap(), []);
        assert_eq!(fs::read_dir(&folder.temporary).unwrap().count(), 0);
    }

    #[test]
    fn puts_survive_deletions_that_take_their_folder_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for name in ["p/q/1", "p/q/2"] {
                let folder = &folder;
                scope.spawn(move || {
                    for _ in 0..100 {
                        folder.put(name, b"x").unwrap();
                        assert_eq!(folder.size(name).unwrap(), Some(1));
                        folder.delete(&[name.to_owned()]).unwrap();
                    }
                });
            }
        });
        assert_eq!(folder.list("").unwrap(), []);
    }

    #[test]
    fn a_key_below_an_object_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.put("a/b", b"x").unwrap();
        for key in ["a", "a/b/c"] {
            assert!(matches!(folder.put(key, b"y"), Err(ObjectError::Refused(_))), "{key}");
        }
        assert_eq!(fs::read_dir(&folder.temporary).unwrap().count(), 0);
    }
}
