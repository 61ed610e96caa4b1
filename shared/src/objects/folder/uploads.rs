//! Uploads in parts, in a folder. A part is there when its `.part` file is, which is made after the part's bytes are synced and removed
//! before other bytes take their place: whatever moment a process dies at, [`Folder::parts`] tells whole parts only.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::checks::{check_held, check_key, check_part, check_part_size, check_parts, check_prefix, no_upload};
use super::super::{ObjectError, ObjectResult, Part, Upload};
use super::durable::{failed, is_absent, sync_dir};
use super::files::Folder;

const RECORD: &str = "upload.json";
const DATA: &str = "data";

/// What is remembered of an upload, in its [`RECORD`]; never changes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    key: String,
    part_size: u64,
}

/// An upload that this process alone writes to, as long as the value lives. A killed process loses its locks.
struct Locked {
    dir: PathBuf,
    data: File,
    _record: File,
}

impl Folder {
    pub(super) fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload> {
        check_key(key)?;
        check_part_size(key, part_size)?;
        let record = Record { key: key.to_owned(), part_size };
        let upload = Upload { key: record.key.clone(), id: new_id(), part_size };
        let to = self.uploads.join(&upload.id);
        let write = || -> io::Result<()> {
            let open_as_umask = Permissions::from_mode(0o777);
            let dir = tempfile::Builder::new().permissions(open_as_umask).tempdir_in(&self.temporary)?;
            fs::write(dir.path().join(RECORD), serde_json::to_vec(&record)?)?;
            for file in [dir.path().join(RECORD), dir.path().join(DATA)] {
                OpenOptions::new().append(true).create(true).open(file)?.sync_all()?;
            }
            File::open(dir.path())?.sync_all()?;
            fs::rename(dir.path(), &to)
        };
        write().map_err(failed("begin the upload", &to))?;
        sync_dir(&self.uploads)?;
        Ok(upload)
    }

    /// An upload of another part size is another upload: its parts lie at other offsets.
    pub(super) fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
        check_key(key)?;
        let wanted = Record { key: key.to_owned(), part_size };
        let mut dirs = self.upload_dirs()?;
        // Ids begin with the time of creation.
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        // Without data an upload is finished: its process died before it could clear up.
        let found = dirs.iter().find(|dir| read_record(dir).is_some_and(|r| r == wanted) && dir.join(DATA).exists());
        let id = found.and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
        Ok(id.map(|id| Upload { key: wanted.key, id: id.to_owned(), part_size }))
    }

    pub(super) fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>> {
        check_prefix(prefix)?;
        let unfinished = |dir: PathBuf| {
            let Record { key, part_size } = read_record(&dir).filter(|_| dir.join(DATA).exists())?;
            let id = dir.file_name()?.to_str()?.to_owned();
            key.starts_with(prefix).then_some(Upload { key, id, part_size })
        };
        Ok(self.upload_dirs()?.into_iter().filter_map(unfinished).collect())
    }

    fn upload_dirs(&self) -> ObjectResult<Vec<PathBuf>> {
        let list = || -> io::Result<Vec<PathBuf>> { fs::read_dir(&self.uploads)?.map(|e| Ok(e?.path())).collect() };
        list().map_err(failed("list", &self.uploads))
    }

    pub(super) fn put_part(&self, upload: &Upload, number: u32, bytes: &[u8]) -> ObjectResult<Part> {
        let size = bytes.len() as u64;
        check_part(upload, number, size)?;
        let part = Part { number, size, etag: format!("{size}-{:08x}", crc32fast::hash(bytes)) };
        let locked = self.lock(upload)?;
        let offset = u64::from(number - 1) * upload.part_size;
        let record = locked.dir.join(file_name(&part));
        let write = || -> io::Result<()> {
            // A record of the same bytes may stay: writing these again changes nothing, at no moment.
            forget(&locked.dir, |held| held.number == number && held.etag != part.etag)?;
            locked.data.write_all_at(bytes, offset)?;
            locked.data.sync_data()?;
            File::create(&record)?;
            File::open(&locked.dir)?.sync_all()
        };
        write().map_err(|error| lost_or(upload, "write part", &record, error))?;
        Ok(part)
    }

    pub(super) fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>> {
        let dir = self.upload_dir(upload)?;
        if !dir.join(DATA).exists() {
            return Err(no_upload(upload));
        }
        held(&dir).map_err(|error| lost_or(upload, "list", &dir, error))
    }

    pub(super) fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
        check_parts(upload, parts)?;
        let locked = self.lock(upload)?;
        let held = held(&locked.dir).map_err(|error| lost_or(upload, "list", &locked.dir, error))?;
        // Both are in order, and the wanted ones have no gap.
        check_held(upload, parts, |part| held.get(part.number as usize - 1) == Some(part))?;
        let data = locked.dir.join(DATA);
        let finish = || -> io::Result<()> {
            // Parts behind the last one are no part of the object; their bytes are cut off.
            forget(&locked.dir, |held| held.number as usize > parts.len())?;
            locked.data.set_len(parts.iter().map(|part| part.size).sum())?;
            locked.data.sync_all()
        };
        finish().map_err(|error| lost_or(upload, "finish", &data, error))?;
        self.place(&data, &upload.key)?;
        if let Err(error) = self.discard(&locked.dir) {
            // The object is there, and without its data the upload is over for everybody.
            tracing::warn!(dir = %locked.dir.display(), %error, "cannot clear up after an upload");
        }
        Ok(())
    }

    pub(super) fn abort_upload(&self, upload: &Upload) -> ObjectResult<()> {
        let dir = match self.upload_dir(upload) {
            Err(ObjectError::NotFound(_)) => return Ok(()),
            dir => dir?,
        };
        // Whoever is putting it together comes to an end first. One that cannot be locked has no data any more.
        let _locked = match self.lock(upload) {
            Err(ObjectError::NotFound(_)) => None,
            locked => Some(locked?),
        };
        match self.discard(&dir) {
            Err(error) if !is_absent(&error) => Err(failed("remove the upload", &dir)(error)),
            _ => Ok(()),
        }
    }

    /// Removes an upload for all at once, then frees its space.
    fn discard(&self, dir: &Path) -> io::Result<()> {
        let aside = self.temporary.join(new_id());
        fs::rename(dir, &aside)?;
        fs::remove_dir_all(&aside)
    }

    /// The folder of an upload whose id is one that [`new_id`] makes: ids come from callers and must not lead elsewhere.
    fn upload_dir(&self, upload: &Upload) -> ObjectResult<PathBuf> {
        if upload.id.is_empty() || !upload.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(no_upload(upload));
        }
        Ok(self.uploads.join(&upload.id))
    }

    /// Waits until no other writer has the upload, whether in this process or another.
    fn lock(&self, upload: &Upload) -> ObjectResult<Locked> {
        let dir = self.upload_dir(upload)?;
        let open = |name| OpenOptions::new().read(true).write(true).open(dir.join(name));
        let lock = || -> io::Result<(File, File)> {
            let record = open(RECORD)?;
            record.lock()?;
            // The upload may have been finished or given up during the wait; then its data is gone from here.
            Ok((record, open(DATA)?))
        };
        let (record, data) = lock().map_err(|error| lost_or(upload, "open the upload", &dir, error))?;
        if read_record(&dir) != Some(Record { key: upload.key.clone(), part_size: upload.part_size }) {
            return Err(no_upload(upload));
        }
        Ok(Locked { dir, data, _record: record })
    }
}

/// Tells whether an upload's process died between making the object of it and clearing up.
pub(super) fn is_finished_upload(dir: &Path) -> bool {
    dir.join(RECORD).exists() && !dir.join(DATA).exists()
}

/// An id that sorts by the time it was made and is unique: nanoseconds and chance, in hexadecimal digits.
fn new_id() -> String {
    // Before 1970 all ids begin with zeros: they stay unique, only "newest" is lost.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:024x}{:016x}", now.as_nanos(), rand::random::<u64>())
}

fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()
}

/// The name of the file that says that a part is whole.
fn file_name(part: &Part) -> String {
    format!("{:05}-{}.part", part.number, part.etag)
}

fn parse_file_name(name: &str) -> Option<Part> {
    let (number, etag) = name.strip_suffix(".part")?.split_once('-')?;
    let size = etag.split_once('-')?.0;
    Some(Part { number: number.parse().ok()?, size: size.parse().ok()?, etag: etag.to_owned() })
}

/// The whole parts in an upload's folder, in order of number.
fn held(dir: &Path) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(dir)? {
        parts.extend(entry?.file_name().to_str().and_then(parse_file_name));
    }
    parts.sort_unstable_by_key(|part: &Part| part.number);
    Ok(parts)
}

/// Removes the records of some parts, before their bytes change.
fn forget(dir: &Path, which: impl Fn(&Part) -> bool) -> io::Result<()> {
    let parts: Vec<Part> = held(dir)?.into_iter().filter(which).collect();
    for part in &parts {
        fs::remove_file(dir.join(file_name(part)))?;
    }
    if parts.is_empty() { Ok(()) } else { File::open(dir)?.sync_all() }
}

/// The error for an upload's files: when they are not there, neither is the upload.
fn lost_or(upload: &Upload, doing: &str, path: &Path, error: io::Error) -> ObjectError {
    if is_absent(&error) { no_upload(upload) } else { failed(doing, path)(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn the_newest_upload_of_the_key_and_part_size_is_found() {
        let (_dir, folder) = open();
        let made: Vec<Upload> = (0..20).map(|_| folder.create_upload("a/b", 4).unwrap()).collect();
        folder.create_upload("a/b", 8).unwrap();
        folder.create_upload("a/b/c", 4).unwrap();
        for upload in made.iter().rev() {
            assert_eq!(folder.find_upload("a/b", 4).unwrap().as_ref(), Some(upload));
            folder.abort_upload(upload).unwrap();
        }
        assert_eq!(folder.find_upload("a/b", 4).unwrap(), None);
        assert_eq!(fs::read_dir(&folder.uploads).unwrap().count(), 2);
        assert_eq!(fs::read_dir(&folder.temporary).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_finished_by_a_process_that_died_before_clearing_up_is_over() {
        let (dir, folder) = open();
        let upload = folder.create_upload("a", 4).unwrap();
        let part = folder.put_part(&upload, 1, b"abc").unwrap();
        fs::rename(folder.uploads.join(&upload.id).join(DATA), dir.path().join("a")).unwrap();
        assert_eq!(folder.find_upload("a", 4).unwrap(), None);
        assert!(matches!(folder.parts(&upload), Err(ObjectError::NotFound(_))));
        assert!(matches!(folder.put_part(&upload, 1, b"xyz"), Err(ObjectError::NotFound(_))));
        assert!(matches!(folder.complete_upload(&upload, &[part]), Err(ObjectError::NotFound(_))));
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"abc");
    }

    #[test]
    fn a_part_without_its_record_is_not_told() {
        let (_dir, folder) = open();
        let upload = folder.create_upload("a", 4).unwrap();
        let parts = [folder.put_part(&upload, 1, b"abcd").unwrap(), folder.put_part(&upload, 2, b"e").unwrap()];
        // As a process leaves it that dies while it replaces part 1.
        forget(&folder.uploads.join(&upload.id), |part| part.number == 1).unwrap();
        assert_eq!(folder.parts(&upload).unwrap(), parts[1..]);
        assert!(matches!(folder.complete_upload(&upload, &parts), Err(ObjectError::Refused(_))));
        folder.put_part(&upload, 1, b"abcd").unwrap();
        folder.complete_upload(&upload, &parts).unwrap();
        assert_eq!(folder.size("a").unwrap(), Some(5));
    }

    #[test]
    fn an_upload_with_an_id_that_leads_elsewhere_is_not_there() {
        let (_dir, folder) = open();
        let made = folder.create_upload("a", 4).unwrap();
        for id in [String::new(), "..".to_owned(), format!("../.uploads/{}", made.id), "ffff".to_owned()] {
            let upload = Upload { id, ..made.clone() };
            assert!(matches!(folder.parts(&upload), Err(ObjectError::NotFound(_))));
            assert!(matches!(folder.put_part(&upload, 1, b"x"), Err(ObjectError::NotFound(_))));
            folder.abort_upload(&upload).unwrap();
        }
        let other = Upload { part_size: 5, ..made.clone() };
        assert!(matches!(folder.put_part(&other, 1, b"x"), Err(ObjectError::NotFound(_))));
        assert_eq!(folder.parts(&made).unwrap(), []);
    }
}
