//! Damaged journals: finding the damage, and keeping a copy of what cannot be read any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{FILE, Journal, JournalError, record};

/// Copies of damaged journals that are kept, the newest.
const KEPT: usize = 3;

/// Tells what is wrong with the journal in `folder`, which a running broker may be writing to. A
/// folder without a journal is in order, and so is a record that is not written to its end.
///
/// # Errors
/// When the file cannot be read.
pub fn find_journal_damage(folder: &Path) -> io::Result<Option<String>> {
    let journal = match fs::read(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        journal => journal?,
    };
    let replay = record::replay(&journal);
    if replay.foreign {
        return Ok(Some("it is not a journal that this version can read".to_owned()));
    }
    let reason = || format!("{} bytes are no records: the messages in them are lost", replay.damaged);
    Ok((replay.damaged > 0).then(reason))
}

/// Writes the journal in `folder` anew out of what can be read of it, and keeps a copy, as a broker
/// does when it starts.
///
/// # Errors
/// [`JournalError::InUse`] while a broker runs on it; [`JournalError::Foreign`] where it is no
/// journal.
pub fn repair_journal(folder: &Path) -> Result<(), JournalError> {
    Journal::open(folder).map(drop)
}

/// Gives the journal a second name, under which it stays when a new one takes its place; drops the
/// oldest such copies.
pub(super) fn keep_aside(journal: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let copy = journal.with_file_name(format!("{FILE}.damaged-{:013}", now.as_millis()));
    // Some file systems have no hard links.
    if fs::hard_link(journal, &copy).is_err() {
        fs::copy(journal, &copy)?;
    }
    let mut copies = Vec::new();
    for entry in fs::read_dir(journal.parent().unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let is_copy = |name: &str| name.strip_prefix(FILE).is_some_and(|end| end.starts_with(".damaged-"));
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_copy) {
            copies.push(path);
        }
    }
    copies.sort_unstable();
    for old in copies.iter().rev().skip(KEPT) {
        fs::remove_file(old)?;
    }
    Ok(copy)
}
