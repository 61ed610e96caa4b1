//! The broker's memory on disk: an append-only file of the changes to persistent messages.
//!
//! Changes are handed over in memory and written by one thread, which makes one `fsync` do for all that arrived while it
//! was busy; [`Journal::progress`] says how far that is. What a record looks like is in [`record`]. Which messages live is
//! for [`super::state`] to know: the journal is given them when it writes its file anew.
//!
//! After a write that failed nothing can be said about the file's end. The journal confirms nothing
//! then, and takes nothing, until it has been written anew from memory: [`super::hub`] tries that
//! again and again.
//!
//! A journal that is found damaged when it is opened is kept beside the new one, see [`damage`].

mod damage;
mod record;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::message::{Change, Stored};

pub use damage::{find_journal_damage, repair_journal};

const FILE: &str = "broker.journal";
const NEW_FILE: &str = "broker.journal.new";
const LOCK_FILE: &str = "broker.lock";

/// A file below this size is not worth writing anew.
const COMPACT_FROM: u64 = 4 * 1024 * 1024;

/// Bytes that may wait for the disk before those who produce them have to wait too.
const MAX_PENDING: usize = 16 * 1024 * 1024;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder cannot be used.
    #[error("cannot use the broker's journal at {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Two brokers on one folder would destroy each other's messages.
    #[error("the broker's journal in {0} belongs to another running process: stop that one, or choose another folder")]
    InUse(PathBuf),
    /// The file is something else, or of a later version.
    #[error("{0} is not a journal that this version can read: move it away, or run the version that wrote it")]
    Foreign(PathBuf),
}

/// How far the journal's thread is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The last record that is safe on disk.
    pub durable: u64,
    /// Why nothing is confirmed: the file must be written anew first.
    pub failed: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Encoded records, in order.
    bytes: Vec<u8>,
    /// Write the file anew with these messages first; `bytes` come after them.
    rewrite: Option<Vec<Stored>>,
    /// The last record handed over.
    last: u64,
    /// Whether somebody may wait for `bytes`.
    sync: bool,
    /// Size of the file with all that is pending.
    file_size: u64,
    closing: bool,
    /// A write has failed: nothing is collected before the file is written anew.
    failed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    work: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Every change under the lock is complete in itself, so a panic elsewhere leaves it in order.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open journal. Dropping it writes what is pending.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal in `folder` and gives the messages that it kept, in order. The file is written anew, without
    /// what was done, without a torn end, and without damaged records, of which a copy stays.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Stored>), JournalError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(at(folder))?;
        let lock = lock_folder(folder)?;
        let path = folder.join(FILE);
        let kept = match fs::read(&path) {
            Ok(journal) => record::replay(&journal),
            Err(error) if error.kind() == io::ErrorKind::NotFound => record::Replay::default(),
            Err(error) => return Err(at(&path)(error)),
        };
        if kept.foreign {
            return Err(JournalError::Foreign(path));
        }
        if kept.cut > 0 {
            tracing::warn!(journal = %path.display(), bytes = kept.cut, "cut a torn end off the broker's journal");
        }
        if kept.damaged > 0 {
            let copy = damage::keep_aside(&path).map_err(at(&path))?;
            let (journal, copy, bytes) = (path.display(), copy.display(), kept.damaged);
            tracing::error!(%journal, %copy, bytes, "the broker's journal is damaged: messages may be lost; a copy is kept");
        }
        let messages = Vec::from_iter(kept.messages.into_values());
        let (file, file_size) = write_anew(folder, &messages, &[]).map_err(at(&folder.join(NEW_FILE)))?;
        let shared = Arc::new(Shared::default());
        shared.lock().file_size = file_size;
        let (report, progress) = watch::channel(Progress::default());
        let writer = Writer { folder: folder.to_owned(), file, shared: shared.clone(), report, _lock: lock };
        let thread = std::thread::Builder::new().name("broker-journal".into()).spawn(move || writer.run());
        let thread = Mutex::new(Some(thread.map_err(at(folder))?));
        Ok((Self { shared, progress, thread }, messages))
    }

    /// Hands over changes as one record, which is kept whole or not at all. Returns its number, to wait for.
    pub(super) fn append(&self, changes: &[Change]) -> u64 {
        let mut pending = self.shared.lock();
        pending.last += 1;
        if pending.failed {
            return pending.last;
        }
        let before = pending.bytes.len();
        record::encode(changes, &mut pending.bytes);
        pending.file_size += (pending.bytes.len() - before) as u64;
        pending.sync |= changes.iter().any(|change| !matches!(change, Change::Delivered(_)));
        self.shared.work.notify_one();
        pending.last
    }

    /// Whether so little of the file is alive that it should be written anew; `live` are the bytes that count.
    pub(super) fn mostly_dead(&self, live: usize) -> bool {
        let pending = self.shared.lock();
        !pending.failed && pending.rewrite.is_none() && pending.file_size > COMPACT_FROM.max(2 * live as u64)
    }

    /// Writes the file anew with `live`, which is what all changes handed over so far lead to. That
    /// mends a journal that has failed, too, if it succeeds.
    pub(super) fn rewrite(&self, live: Vec<Stored>) {
        let mut pending = self.shared.lock();
        pending.failed = false;
        pending.bytes.clear();
        pending.file_size = 0;
        pending.sync = true;
        pending.rewrite = Some(live);
        self.shared.work.notify_one();
    }

    /// Follows what is safe on disk.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Tells whether a write has failed and nobody has asked for another since.
    pub(super) fn needs_rewrite(&self) -> bool {
        self.shared.lock().failed
    }

    /// Why the journal takes nothing now, if so.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        failure(&self.progress)
    }

    /// Waits while the disk is far behind.
    pub(super) async fn room(&self) {
        let mut progress = self.progress.clone();
        while self.shared.lock().bytes.len() > MAX_PENDING {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes what is pending and ends the thread. Blocks.
    pub(super) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the broker's journal thread panicked");
        }
    }
}

/// Why a journal confirms nothing now, if so.
pub(super) fn failure(progress: &watch::Receiver<Progress>) -> Option<Arc<str>> {
    let ended = progress.has_changed().is_err().then(|| "the journal's thread has ended".into());
    progress.borrow().failed.clone().or(ended)
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    file: File,
    shared: Arc<Shared>,
    report: watch::Sender<Progress>,
    /// Held for as long as the thread lives.
    _lock: File,
}

impl Writer {
    fn run(mut self) {
        while let Some(work) = self.next() {
            match self.write(work.bytes, work.rewrite, work.sync) {
                Ok(()) => self.report_done(work.last),
                Err(error) => self.report_failure(&error),
            }
        }
    }

    fn report_done(&self, last: u64) {
        if self.report.borrow().failed.is_some() {
            tracing::info!(journal = %self.folder.display(), "the broker's journal is written anew; it is well again");
        }
        self.report.send_modify(|progress| *progress = Progress { durable: last, failed: None });
    }

    fn report_failure(&self, error: &io::Error) {
        let folder = self.folder.display();
        if self.report.borrow().failed.is_none() {
            tracing::error!(journal = %folder, %error, "the broker's journal failed; it is tried again until the disk is well");
        } else {
            tracing::debug!(journal = %folder, %error, "the broker's journal cannot be written anew yet");
        }
        {
            let mut pending = self.shared.lock();
            // The numbers go on: one that was given out before would pass for a record that is safe
            // on disk.
            *pending = Pending { failed: true, last: pending.last, closing: pending.closing, ..Pending::default() };
        }
        let why = format!("the journal in {folder} failed: {error}; it is tried again");
        self.report.send_modify(|progress| progress.failed = Some(why.into()));
    }

    /// Takes all that is pending; `None` when the journal is closed and everything is written.
    fn next(&self) -> Option<Pending> {
        let idle = |pending: &mut Pending| pending.bytes.is_empty() && pending.rewrite.is_none() && !pending.closing;
        let pending = self.shared.work.wait_while(self.shared.lock(), idle);
        let mut pending = pending.unwrap_or_else(PoisonError::into_inner);
        if pending.bytes.is_empty() && pending.rewrite.is_none() {
            return None;
        }
        let (bytes, rewrite) = (std::mem::take(&mut pending.bytes), pending.rewrite.take());
        let sync = std::mem::take(&mut pending.sync);
        Some(Pending { bytes, rewrite, sync, last: pending.last, ..Pending::default() })
    }

    fn write(&mut self, bytes: Vec<u8>, rewrite: Option<Vec<Stored>>, sync: bool) -> io::Result<()> {
        if let Some(live) = rewrite {
            let (file, size) = write_anew(&self.folder, &live, &bytes)?;
            self.file = file;
            self.shared.lock().file_size += size - bytes.len() as u64;
            return Ok(());
        }
        self.file.write_all(&bytes)?;
        if sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// Takes the folder for this process: a lock that ends with it, however it ends.
fn lock_folder(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| JournalError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { path, source }),
    }
}

/// Puts a new file with `live` and then `more` in the place of the old one; returns it, open at its end, and its size.
fn write_anew(folder: &Path, live: &[Stored], more: &[u8]) -> io::Result<(File, u64)> {
    let new = folder.join(NEW_FILE);
    let written = write_file(&new, live, more).and_then(|written| {
        fs::rename(&new, folder.join(FILE))?;
        // The new name is safe only when the folder is.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(written)
    });
    // What cannot be used must not take the room of a full disk.
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

fn write_file(path: &Path, live: &[Stored], more: &[u8]) -> io::Result<(File, u64)> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut size = record::MAGIC.len() as u64 + more.len() as u64;
    out.write_all(record::MAGIC)?;
    let mut buffer = Vec::new();
    for stored in live {
        buffer.clear();
        record::encode(&[Change::Enqueued(stored.clone())], &mut buffer);
        size += buffer.len() as u64;
        out.write_all(&buffer)?;
    }
    out.write_all(more)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((file, size))
}

#[cfg(test)]
mod tests;
