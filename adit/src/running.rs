//! Who runs on a data folder: the lock that keeps a second `adit up` out, and the note by which other verbs find the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_shared::config::Config;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::data_folder::find_distrust;

/// How to reach a running `adit up`. Readable by its owner only: the URL of an outside broker may
/// hold a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process id.
    pub(crate) pid: u32,
    /// URL of its API.
    pub(crate) api: String,
    /// URL of its broker: the socket of the one inside, or the one that is named.
    pub(crate) broker: String,
    /// Number of its packager's key.
    pub(crate) packager_key: i64,
}

/// Wait between two tries to take the folder.
const PAUSE: Duration = Duration::from_millis(50);

/// The data folder, held by this process.
#[derive(Debug)]
pub(crate) struct Hold {
    note: PathBuf,
    // The operating system releases the lock when the process ends, however it ends.
    _lock: File,
}

impl Hold {
    /// Takes the data folder.
    pub(crate) async fn take(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        for pause in [Some(PAUSE), Some(PAUSE), Some(PAUSE), Some(PAUSE), None] {
            match (lock.try_lock(), pause) {
                (Ok(()), _) => {
                    // So that a note is known to be that of the process that holds the folder, and
                    // not of one that was killed.
                    let written = lock.set_len(0).and_then(|()| write!(&lock, "{}", std::process::id()));
                    written.with_context(|| format!("cannot write {}", path.display()))?;
                    return Ok(Self { note: note(data), _lock: lock });
                }
                // It may be a look at the folder, which ends at once.
                (Err(TryLockError::WouldBlock), Some(pause)) => tokio::time::sleep(pause).await,
                (Err(TryLockError::WouldBlock), None) => break,
                (Err(TryLockError::Error(error)), _) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        let process = last(data).map(|running| format!(" (process {})", running.pid)).unwrap_or_default();
        bail!("another `adit up`{process} runs on {}; stop it, or choose another folder with --data", data.display())
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

/// Reads the note that lies in the folder: of the `adit up` that holds it, or of one that was
/// killed. One that another user may have written is passed over, with a line in the log: who
/// followed it would show keys to whatever it names.
pub(crate) fn last(data: &Path) -> Option<Running> {
    let path = note(data);
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return None;
    }
    if let Some(why) = find_distrust(data, &path) {
        tracing::warn!("{} is not trusted: {why}", path.display());
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Finds what runs on the data folder, if anything does.
pub(crate) fn find(data: &Path) -> Option<Running> {
    let path = data.join("lock");
    let lock = File::open(&path).ok()?;
    // Shared, so that those who look do not take one another for the one who holds it.
    match lock.try_lock_shared() {
        // The holder may not have announced itself yet, and the note be that of another before it.
        Err(TryLockError::WouldBlock) => last(data).filter(|running| holder(&path) == Some(running.pid)),
        // Nobody holds it: a note would be that of a process that was killed.
        _ => None,
    }
}

/// Tells whether another process holds the data folder: an `adit up`, whatever it works on.
pub(crate) fn is_held_by_another(data: &Path) -> bool {
    let path = data.join("lock");
    let Ok(lock) = File::open(&path) else { return false };
    let is_held = matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_held && holder(&path) != Some(std::process::id())
}

/// Reads the id of the process that holds the lock in file `lock`.
fn holder(lock: &Path) -> Option<u32> {
    std::fs::read_to_string(lock).ok()?.parse().ok()
}

/// Where the API is: as configured, else that of the `adit up` that runs on the data folder, else at the default address.
pub(crate) fn api_url(config: &Config) -> String {
    match &config.public_url {
        Some(url) => url.to_string(),
        None => find(&config.data).map_or_else(|| format!("http://{}", config.listen), |running| running.api),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn one_process_holds_a_folder_and_others_find_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(folder.path()).is_none());
        let hold = Hold::take(folder.path()).await.unwrap();
        assert!(find(folder.path()).is_none(), "not announced yet");
        let pid = std::process::id();
        let running = |pid| Running { pid, api: "http://a".into(), broker: "stomp://b".into(), packager_key: 1 };
        hold.announce(&running(pid + 1)).unwrap();
        assert!(find(folder.path()).is_none(), "the note is not the holder's");
        hold.announce(&running(pid)).unwrap();
        assert_eq!(find(folder.path()).unwrap().api, "http://a");
        let refused = Hold::take(folder.path()).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("another `adit up` (process {pid}) runs on")), "{refused}");
        drop(hold);
        assert!(find(folder.path()).is_none());
        assert!(Hold::take(folder.path()).await.is_ok());
    }

    #[tokio::test]
    async fn a_note_that_others_may_have_written_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let hold = Hold::take(folder.path()).await.unwrap();
        let running =
            Running { pid: std::process::id(), api: "http://a".into(), broker: "stomp://b".into(), packager_key: 1 };
        hold.announce(&running).unwrap();
        let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        open(folder.path(), 0o777);
        assert!(find(folder.path()).is_none() && last(folder.path()).is_none());
        open(folder.path(), 0o755);
        assert!(find(folder.path()).is_some());
        open(&note(folder.path()), 0o644);
        assert!(find(folder.path()).is_none());
        // Of somebody else, who has put it in its place.
        std::fs::rename(note(folder.path()), folder.path().join("theirs")).unwrap();
        std::os::unix::fs::symlink("theirs", note(folder.path())).unwrap();
        assert!(find(folder.path()).is_none());
    }

    #[tokio::test]
    async fn those_who_look_disturb_neither_each_other_nor_the_one_who_comes() {
        let folder = tempfile::tempdir().unwrap();
        drop(Hold::take(folder.path()).await.unwrap());
        let look = File::open(folder.path().join("lock")).unwrap();
        look.lock_shared().unwrap();
        std::fs::write(note(folder.path()), r#"{"pid":1,"api":"http://a","broker":"stomp://b","packager_key":1}"#)
            .unwrap();
        assert!(find(folder.path()).is_none());
        let (hold, ()) = tokio::join!(Hold::take(folder.path()), async {
            tokio::task::yield_now().await;
            drop(look);
        });
        assert!(hold.is_ok());
    }
}
