//! `adit import FOLDER`: takes a collection folder in.
//!
//! The order is what makes it safe: bytes into packs, documents into a new index, rows staged unseen; then packs closed and the index stored;
//! and only then, in one transaction, the new corpus version. Whatever goes wrong before that is taken back; what a killed import could not
//! take back, the next one removes. Names of packs and of the index hold the import's id: of two imports at work at once, because one was
//! held up for longer than its lease, neither can touch what the other writes, and the database lets one of them commit.

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
use adit_shared::search::{IndexPlan, KEPT_INDEXES};
use adit_shared::store::{ImportLease, NewCollection, StoreError};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use self::documents::{Counts, Importer};
use self::folder::Folder;
use self::packs::Packs;
use crate::services::Services;
use crate::up::stop_signal;

/// How long an import that has died keeps others out, in milliseconds.
const LEASE_MS: i64 = 30_000;
/// The longest pause between tries to commit, while the database is away; each is twice the one before.
const COMMIT_PAUSE: Duration = Duration::from_secs(8);
/// Bad lines that are printed; the rest is counted.
const SHOWN: u64 = 100;
/// Exit status when another import holds the collection: `EX_TEMPFAIL` of sysexits.h, "try again later".
const TRY_LATER: u8 = 75;

/// What an import has done.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The collection as it is now.
    pub(crate) collection: Collection,
    /// Counts of documents.
    pub(crate) counts: Counts,
}

/// Carries out `adit import`. The exit status is 0 when all went in, 2 when some lines did not, 75 when another import is running.
pub(crate) async fn run(config: &Config, folder: &Path, wait: bool) -> anyhow::Result<ExitCode> {
    let services = Services::open(config).await?;
    let Outcome { collection, counts } = match import(&services, folder, wait).await {
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::ImportRunning { .. })) => {
            eprintln!("adit: {error:#}");
            return Ok(ExitCode::from(TRY_LATER));
        }
        imported => imported?,
    };
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
    let mut renewal = keep_lease(services, &lease);
    let mut packs = Packs::new(services.objects.clone(), lease);
    let written = tokio::select! {
        written = write_all(services, &collection, folder, &lease, &mut packs) => written,
        lost = &mut renewal => Err(lost.map_or_else(anyhow::Error::from, anyhow::Error::from)),
        () = stop_signal() => Err(anyhow::anyhow!("stopped before the end; nothing was changed")),
    };
    // From here on no signal interrupts: neither half a commit nor half a clearing up.
    let outcome = match written {
        Ok(counts) => commit(services, &lease).await.map(|collection| Outcome { collection, counts }),
        Err(error) => {
            discard_index(services, &lease).await;
            Err(error)
        }
    };
    renewal.abort();
    match &outcome {
        Ok(Outcome { collection, .. }) => drop_old_indexes(services, collection).await,
        Err(_) => take_back(services, &lease, packs).await,
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
            Err(error @ StoreError::ImportRunning { until_ms }) => {
                let seconds = (until_ms - SystemClock.now_ms()).max(0) / 1000 + 1;
                let advice = format!(
                    "nothing was changed; try again later, or wait with --wait (should the other be dead, {seconds} s are enough)"
                );
                return Err(anyhow::Error::new(error).context(advice));
            }
            lease => return Ok(lease?),
        }
    }
}

/// Renews the lease until it is lost.
fn keep_lease(services: &Services, lease: &ImportLease) -> JoinHandle<StoreError> {
    let (store, lease) = (services.store.clone(), *lease);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(LEASE_MS.unsigned_abs() / 3));
        loop {
            ticks.tick().await;
            match store.renew_import(&lease, SystemClock.now_ms(), LEASE_MS).await {
                Err(error @ StoreError::ImportOvertaken) => return error,
                Err(error) => tracing::warn!(%error, "the import's lease could not be renewed"),
                Ok(()) => {}
            }
        }
    })
}

/// Writes everything that the new corpus version needs; nothing of it is visible yet.
async fn write_all(
    services: &Services,
    collection: &NewCollection,
    folder: Folder,
    lease: &ImportLease,
    packs: &mut Packs,
) -> anyhow::Result<Counts> {
    packs::remove_leftovers(&*services.objects, &*services.store, lease).await?;
    let mut index = services
        .search
        .build(IndexPlan { base: lease.base, import: lease.import, language: None, afresh: false })
        .await?;
    let bar = progress_bar(folder.length());
    let mut importer = Importer::new(services, collection, lease, packs, &mut *index);
    let mut batches = folder.batches()?;
    while let Some(batch) = batches.recv().await.context("reading documents.jsonl broke down")?? {
        bar.inc(batch.bytes as u64);
        importer.take(batch).await?;
        let counts = importer.counts();
        bar.set_message(format!("{} documents", counts.added + counts.updated + counts.unchanged));
    }
    importer.finish().await?;
    let counts = importer.counts();
    packs.finish().await?;
    if counts.added + counts.updated > 0 {
        index.finish().await?;
    }
    bar.finish_and_clear();
    if counts.bad > SHOWN {
        eprintln!("… and {} more", counts.bad - SHOWN);
    }
    Ok(counts)
}

/// Makes the new corpus version visible; where nothing has changed there is none.
async fn commit(services: &Services, lease: &ImportLease) -> anyhow::Result<Collection> {
    let mut pause = Duration::from_secs(1);
    loop {
        match services.store.commit_import(lease, SystemClock.now_ms()).await {
            Err(error @ StoreError::Unavailable(_)) if pause <= COMMIT_PAUSE => {
                tracing::warn!(%error, "the import could not be committed; trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error @ StoreError::Unavailable(_)) => {
                let advice =
                    "it is not known whether the import was committed; run it again, which changes nothing if it was";
                return Err(anyhow::Error::new(error).context(advice));
            }
            committed => return Ok(committed?),
        }
    }
}

/// Drops the indexes that are superseded for good, and those of imports that died or were overtaken.
async fn drop_old_indexes(services: &Services, collection: &Collection) {
    let dropped = async {
        let kept = services.store.indexes(collection.id, KEPT_INDEXES).await?;
        anyhow::Ok(services.search.retain(collection.id, &kept).await?)
    };
    if let Err(error) = dropped.await {
        tracing::warn!("old indexes could not be removed; the next import tries again: {error:#}");
    }
}

/// Only before the commit was tried: after that, a lost answer leaves open whether the index is in use.
async fn discard_index(services: &Services, lease: &ImportLease) {
    if let Err(error) = services.search.discard(lease.made()).await {
        tracing::warn!(%error, "the index of this import could not be removed; a later import removes it");
    }
}

/// Takes back what a failed import has written. The rows go first, if it is not committed: the packs that the database knows after that are
/// committed, even where the answer to the commit was lost.
async fn take_back(services: &Services, lease: &ImportLease, packs: Packs) {
    let known = match services.store.abort_import(lease).await {
        Ok(()) => services.store.pack_keys(lease.collection()).await,
        Err(error) => Err(error),
    };
    let removed = packs.abandon(known.as_ref().ok()).await;
    if let Some(error) = known.err().map(anyhow::Error::from).or(removed.err()) {
        tracing::warn!(%error, "not all that this import had written could be removed; the next import removes the rest");
    }
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
