//! `adit storage`: proves that the object store holds what the database names, and heals it.
//!
//! [`check`] looks and changes nothing, [`repair`] heals what it finds, [`findings`] is what both
//! tell; [`sweep`] frees what nothing names; [`backup`] copies all of it. Each verb has a module of
//! its own.

mod backup;
mod check;
mod findings;
mod packages;
mod repack;
mod repair;
mod rewrite;
mod sources;
mod sweep;
mod swept;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use adit_shared::config::Config;
use anyhow::{Context as _, bail};

use crate::cli::StorageVerb;
use crate::services::Services;
use crate::store_mark;
use crate::terminal::{errln, outln, print_json};

/// Carries out `adit storage …`. The exit status is 1 while something is wrong.
pub(crate) async fn run(config: &Config, verb: StorageVerb) -> anyhow::Result<ExitCode> {
    let open = || Services::open(config);
    let (json, findings) = match verb {
        StorageVerb::Check { full, json } => (json, check::check(config, &open().await?, full).await?),
        StorageVerb::Repair { folder, json } => {
            (json, repair::repair(config, &open().await?, folder.as_deref()).await?)
        }
        StorageVerb::Sweep { dry_run, json } => return sweep::run(config, dry_run, json).await,
        StorageVerb::Adopt => {
            let services = open().await?;
            store_mark::adopt(&*services.objects, &*services.store).await?;
            outln!("the object store belongs to this database now");
            return Ok(ExitCode::SUCCESS);
        }
        StorageVerb::Backup { folder } => return backup::run(config, &folder).await.map(|()| ExitCode::SUCCESS),
    };
    if json {
        print_json(&findings.report())?;
    } else {
        findings.lines().iter().for_each(|line| outln!("{line}"));
        outln!("{}", findings.summary());
    }
    if findings.is_healthy() {
        return Ok(ExitCode::SUCCESS);
    }
    if !json {
        errln!(
            "adit: what is damaged is not served; `adit storage repair FOLDER` heals what has a good copy in FOLDER"
        );
    }
    Ok(ExitCode::FAILURE)
}

/// Keeps sweeps and backups of a data folder apart, as long as the file is open: a sweep moves files
/// that a database names which was copied a moment before.
fn lock_storage(config: &Config) -> anyhow::Result<File> {
    let path = config.data.join("storage.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("a sweep or a backup of this data folder is running: try again after it")
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}
