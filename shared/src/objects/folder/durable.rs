//! File operations that outlive a loss of power, and what file system errors mean to a store. Nothing here knows of keys.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::{ObjectError, ObjectResult};

/// How often a move is tried again when deletions take the folder away under it.
const MOVES: u32 = 100;

/// Turns an input/output error into the store's, naming what was done to which path.
pub(super) fn failed<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> ObjectError + 'a {
    move |error| {
        let reason = format!("cannot {doing} {}: {error}", path.display());
        match error.kind() {
            ErrorKind::AlreadyExists
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::InvalidFilename
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem => ObjectError::Refused(reason),
            _ => ObjectError::Unavailable(reason),
        }
    }
}

/// There is nothing at the path: neither it nor, perhaps, the folders on the way.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Makes the names in a folder outlive a loss of power.
pub(super) fn sync_dir(dir: &Path) -> ObjectResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

/// Moves a synced file to `to`, which lies under `root`, making the folders on the way.
pub(super) fn place(from: &Path, to: &Path, root: &Path) -> ObjectResult<()> {
    let dir = to.parent().unwrap_or(root);
    let mut tries = 1;
    while let Err(error) = fs::create_dir_all(dir).and_then(|()| fs::rename(from, to)) {
        // Another process that deletes the folder's last object takes the folder away too, perhaps at this moment: either the move
        // misses it, or the making of it, which found it there and then not.
        let is_race = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
        if !is_race || tries == MOVES {
            return Err(failed("move a file to", to)(error));
        }
        tries += 1;
    }
    sync_up(dir, root)
}

/// Removes a folder and those above it, below `root`, as far as they are empty, and syncs what is left.
pub(super) fn prune(dir: &Path, root: &Path) -> ObjectResult<()> {
    for dir in up_to(dir, root).filter(|dir| *dir != root) {
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    sync_up(dir, root)
}

/// Syncs a folder and all above it up to `root`: any of them may have been made a moment ago, by this process or another.
fn sync_up(dir: &Path, root: &Path) -> ObjectResult<()> {
    for dir in up_to(dir, root) {
        match File::open(dir).and_then(|dir| dir.sync_all()) {
            Err(error) if !is_absent(&error) => return Err(failed("sync", dir)(error)),
            // Absent: its objects have been deleted meanwhile.
            _ => {}
        }
    }
    Ok(())
}

fn up_to<'a>(dir: &'a Path, root: &'a Path) -> impl Iterator<Item = &'a Path> {
    dir.ancestors().take_while(move |dir| dir.starts_with(root))
}
