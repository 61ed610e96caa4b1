//! `adit storage backup`: copies a data folder while a server runs on it.
//!
//! First the database, as it is at one moment, then the objects. These are written once and never
//! changed, and the database names an object only after it is stored: so whatever the copied
//! database names was there when the copying of objects began. What the service deletes meanwhile
//! (archives that expire, packages that are deleted) may be missing, and is counted.
//! The broker's journal is left out: a package whose request is lost is sent again by its next
//! poll. So is the cache, which is made anew.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use adit_shared::config::Config;
use anyhow::{Context as _, bail};
use url::Url;

use super::lock_storage;
use crate::data_folder::secure_data_folder;
use crate::services::open_database;
use crate::signing::default_path;
use crate::terminal::outln;

const DATABASE: &str = "adit.sqlite";
const OBJECTS: &str = "objects";

/// What a backup has copied.
#[derive(Debug, Default)]
struct Copied {
    objects: u64,
    bytes: u64,
    vanished: u64,
}

/// Copies the data folder to `target`, which must not be there yet or be empty. What is copied
/// stands under another name until all of it is on the disk.
///
/// # Errors
/// When the database or the objects lie elsewhere, when `target` holds something or lies in the data
/// folder, and when something cannot be read or written.
pub(crate) async fn run(config: &Config, target: &Path) -> anyhow::Result<()> {
    let objects = embedded_objects(config)?;
    secure_data_folder(config)?;
    let _alone = lock_storage(config)?;
    let target = std::path::absolute(target).with_context(|| format!("cannot use {}", target.display()))?;
    let unfinished = prepare(config, &target)?;
    let copied = copy(config, &objects, &unfinished).await;
    let copied = match copied.and_then(|copied| finish(&unfinished, &target).map(|()| copied)) {
        Ok(copied) => copied,
        Err(error) => {
            // The error is told; a leftover is removed by the next backup to the same place.
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error);
        }
    };
    let Copied { objects, bytes, vanished } = copied;
    outln!("{}: the database and {objects} objects ({bytes} bytes)", target.display());
    if vanished > 0 {
        outln!("{vanished} objects were deleted by the service meanwhile");
    }
    outln!("Check it with `adit --data {} storage check`.", target.display());
    Ok(())
}

/// Finds the folder of the objects; a backup is of a data folder that holds all parts.
fn embedded_objects(config: &Config) -> anyhow::Result<PathBuf> {
    let url = config.database_url.reveal();
    let database = url.strip_prefix("sqlite://").and_then(|path| path.split('?').next()).map(Path::new);
    let objects = Url::parse(&config.store_url).ok().filter(|url| url.scheme() == "file");
    let objects = objects.and_then(|url| url.to_file_path().ok());
    match (database, objects) {
        (Some(database), Some(objects))
            if database == config.data.join(DATABASE) && objects == config.data.join(OBJECTS) =>
        {
            Ok(objects)
        }
        _ => bail!(
            "a backup is made of a data folder that holds the database and the objects, and here one of them lies \
             elsewhere (ADIT_DATABASE_URL, ADIT_STORE_URL): copy them with their own tools, the database first \
             (docs/OPERATIONS.md, Backup)"
        ),
    }
}

/// Makes the folder that becomes `target`, beside it; removes what a killed backup left there.
fn prepare(config: &Config, target: &Path) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(&config.data)?;
    let data = data.canonicalize().with_context(|| format!("cannot look at {}", data.display()))?;
    let Some((parent, name)) = target.parent().zip(target.file_name()) else {
        bail!("{} is no name for a backup: name a folder that is not there yet", target.display());
    };
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let parent = parent.canonicalize().with_context(|| format!("cannot look at {}", parent.display()))?;
    if parent.join(name).starts_with(&data) {
        bail!("{} lies in the data folder: choose a place outside, best on another disk", target.display());
    }
    match fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(true) => bail!("{} is not empty: choose a folder that is not there yet", target.display()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", target.display())),
    }
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(name);
    unfinished.push(".adit-unfinished");
    let unfinished = parent.join(unfinished);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", unfinished.display()));
        }
        _ => {}
    }
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    made.with_context(|| format!("cannot make {}", unfinished.display()))?;
    Ok(unfinished)
}

async fn copy(config: &Config, objects: &Path, to: &Path) -> anyhow::Result<Copied> {
    let database = to.join(DATABASE);
    let store = open_database(config).await?;
    store.copy_to(&database).await.context("cannot copy the database")?;
    let (objects, to, key) = (objects.to_owned(), to.to_owned(), default_path(&config.data));
    let copying = move || {
        sync(&database)?;
        copy_file(&key, &default_path(&to))?;
        let mut copied = Copied::default();
        copy_folder(&objects, &to.join(OBJECTS), true, &mut copied)?;
        sync(&to).map(|()| copied)
    };
    tokio::task::spawn_blocking(copying).await.context("copying broke down")?
}

/// Copies the objects of a folder. At its top, what begins with a dot is no object: it is being
/// written.
fn copy_folder(from: &Path, to: &Path, top: bool, copied: &mut Copied) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {}", from.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let (from, to, name) = (entry.path(), to.join(entry.file_name()), entry.file_name());
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", from.display()))?;
        if top && name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            copy_folder(&from, &to, false, copied)?;
        } else if let Some(bytes) = copy_file(&from, &to)? {
            copied.objects += 1;
            copied.bytes += bytes;
        } else {
            copied.vanished += 1;
        }
    }
    sync(to)
}

/// Copies a file to the disk; its length, or `None` of one that is not there any more.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<Option<u64>> {
    match fs::copy(from, to) {
        Ok(bytes) => sync(to).map(|()| Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot copy {} to {}", from.display(), to.display())),
    }
}

fn sync(path: &Path) -> anyhow::Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.with_context(|| format!("cannot write {} to the disk", path.display()))
}

/// Gives the backup its name.
fn finish(unfinished: &Path, target: &Path) -> anyhow::Result<()> {
    fs::rename(unfinished, target).with_context(|| format!("cannot name the backup {}", target.display()))?;
    target.parent().map_or(Ok(()), sync)
}
