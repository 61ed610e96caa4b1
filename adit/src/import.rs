//! `adit import FOLDER`: takes a collection folder in.
//!
//! The order is what makes it safe: bytes into packs, documents into a new index, rows staged unseen; then packs closed and the index stored;
//! and only then, in one transaction, the new corpus version. Whatever goes wrong before that is taken back.

mod documents;
mod folder;
mod meta;
mod packs;
mod prepare;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::config::Config;
use adit_shared::domain::Collection;
use adit_shared::search::IndexBuild;
use adit_shared::store::{ImportLease, NewCollection, StoreError};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use self::documents::{Counts, Importer};
use self::folder::Folder;
use self::packs::Packs;
use crate::services::Services;
use crate::up::stop_signal;

/// How long an import that has died keeps others out, in milliseconds.
const LEASE_MS: i64 = 30_000;
/// Bad lines that are printed; the rest is counted.
const SHOWN: u64 = 100;
/// Corpus versions whose index is kept: the newest, and the one before it for those who are paging through an answer.
const KEPT_INDEXES: i64 = 2;

/// What an import has done.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The collection as it is now.
    pub(crate) collection: Collection,
    /// Counts of documents.
    pub(crate) counts: Counts,
}

/// Carries out `adit import`. The exit status is 0 when all went in, 2 when some lines did not.
pub(crate) async fn run(config: &Config, folder: &Path, wait: bool) -> anyhow::Result<ExitCode> {
    let services = Services::open(config).await?;
    let Outcome { collection, counts } = import(&services, folder, wait).await?;
    println!(
        "{}: {} added, {} updated, {} unchanged; {} documents in corpus version {}",
        collection.slug,
        counts.added,
        counts.updated,
        counts.unchanged,
        collection.documents,
        collection.corpus_version
    );
    if counts.bad > 0 {
        eprintln!("{} line(s) of documents.jsonl were left out; mend them and import again", counts.bad);
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

/// Imports a folder. With `wait` it waits for another import into the same collection; else that is an error.
pub(crate) async fn import(services: &Services, path: &Path, wait: bool) -> anyhow::Result<Outcome> {
    let (collection, folder) = Folder::open(path)?;
    let lease = take_lease(services, &collection, wait).await?;
    let renewal = keep_lease(services, &lease);
    let mut packs = Packs::new(services.objects.clone(), lease.clone());
    let outcome = tokio::select! {
        outcome = import_all(services, &collection, folder, &lease, &mut packs) => outcome,
        () = stop_signal() => Err(anyhow::anyhow!("stopped before the end; nothing was changed")),
    };
    renewal.abort();
    if outcome.is_err() {
        // Both are tried whatever the other does; the error that led here is the one to report.
        let (bytes, rows) = (packs.abandon().await, services.store.abort_import(&lease).await);
        if let Some(error) = bytes.err().or(rows.err().map(Into::into)) {
            tracing::warn!(%error, "what this import had written could not be removed");
        }
    }
    outcome
}

async fn take_lease(services: &Services, collection: &NewCollection, wait: bool) -> anyhow::Result<ImportLease> {
    let mut told = false;
    loop {
        match services.store.begin_import(collection, SystemClock.now_ms(), LEASE_MS).await {
            Err(StoreError::ImportRunning { .. }) if wait => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("another import into {} is running; waiting for it", collection.slug);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error @ StoreError::ImportRunning { .. }) => {
                return Err(
                    anyhow::Error::new(error).context("nothing was changed; try again later, or wait with --wait")
                );
            }
            lease => return Ok(lease?),
        }
    }
}

fn keep_lease(services: &Services, lease: &ImportLease) -> JoinHandle<()> {
    let (store, lease) = (services.store.clone(), lease.clone());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(LEASE_MS.unsigned_abs() / 3));
        loop {
            ticks.tick().await;
            // A lease that is lost is noticed by the commit, which then changes nothing.
            if let Err(error) = store.renew_import(&lease, SystemClock.now_ms(), LEASE_MS).await {
                tracing::warn!(%error, "the import's lease could not be renewed");
            }
        }
    })
}

async fn import_all(
    services: &Services,
    collection: &NewCollection,
    mut folder: Folder,
    lease: &ImportLease,
    packs: &mut Packs,
) -> anyhow::Result<Outcome> {
    let mut index = services.search.build(lease.collection, lease.base_version).await?;
    let bar = progress_bar(folder.length());
    let counts = {
        let mut importer = Importer::new(services, collection, lease, packs, &mut *index);
        while let Some(batch) = importer.read_batch(&mut folder, &bar, report_bad)? {
            importer.take(batch).await?;
        }
        importer.finish()
    };
    packs.finish().await?;
    let collection = commit(services, lease, index, &counts).await?;
    bar.finish_and_clear();
    if counts.bad > SHOWN {
        eprintln!("… and {} more", counts.bad - SHOWN);
    }
    Ok(Outcome { collection, counts })
}

/// Stores the new index and makes the new corpus version visible; where nothing has changed there is none.
async fn commit(
    services: &Services,
    lease: &ImportLease,
    index: Box<dyn IndexBuild>,
    counts: &Counts,
) -> anyhow::Result<Collection> {
    if counts.added + counts.updated > 0 {
        // An import that lost its lease must not publish an index under a version that another one is making.
        services.store.renew_import(lease, SystemClock.now_ms(), LEASE_MS).await?;
        index.finish(lease.base_version + 1).await?;
    }
    let collection = services.store.commit_import(lease, SystemClock.now_ms()).await?;
    let oldest = collection.corpus_version + 1 - KEPT_INDEXES;
    if let Err(error) = services.search.forget_before(collection.id, oldest).await {
        tracing::warn!(%error, "old indexes could not be removed; the next import tries again");
    }
    Ok(collection)
}

fn report_bad(count: u64, bad: &folder::BadLine) {
    if count <= SHOWN {
        eprintln!("documents.jsonl:{}: {}", bad.line, bad.reason);
    }
}

fn progress_bar(length: u64) -> ProgressBar {
    // Shows nothing where standard error is no terminal.
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
