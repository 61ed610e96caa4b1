//! `adit import FOLDER`: takes a collection folder in.
//!
//! The order is what makes it safe: bytes into packs, documents into a new index, rows staged unseen; then packs closed and the index stored;
//! and only then, in one transaction, the new corpus version. Whatever goes wrong before that is taken back; what a killed import could not
//! take back, the next one removes. Names of packs and of the index hold the import's id: of two imports at work at once, because one was
//! held up for longer than its lease, neither can touch what the other writes, and the database lets one of them commit.

mod documents;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod meta;
mod packs;
mod prepare;

use std::path::Path;
use std::process::ExitCode;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::domain::Collection;
use adit_shared::search::{IndexBuild, IndexPlan, Language};
use adit_shared::store::{ImportLease, NewCollection};
use anyhow::Context as _;

use self::documents::{Counts, Importer};
pub(crate) use self::documents::{INDEXED_TEXT, decoded};
use self::folder::Folder;
pub(crate) use self::meta::render as render_meta;
pub(crate) use self::packs::{Packs, remove_leftovers};
pub(crate) use self::prepare::{Content, Payload, measure, prepare};
use crate::change::{self, Brings, LEASE_MS, TRY_LATER};
use crate::services::Services;
use crate::terminal::{errln, outln, print_failure};
use crate::{watches, withdraw};

/// Bad lines that are printed; the rest is counted.
const SHOWN: u64 = 100;

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
        Err(error) if change::is_another_running(&error) => {
            print_failure(&error);
            return Ok(ExitCode::from(TRY_LATER));
        }
        imported => imported?,
    };
    outln!(
        "{}: {} added, {} updated, {} unchanged; {} documents in corpus version {}",
        collection.slug,
        counts.added,
        counts.updated,
        counts.unchanged,
        collection.documents,
        collection.corpus_version
    );
    if counts.withdrawn > 0 {
        errln!(
            "{} line(s) were left out because they are of documents that were withdrawn; `adit withdraw REF… --collection {} --undo` takes that back",
            counts.withdrawn,
            collection.slug
        );
    }
    watches::after_import(config, &services).await;
    if counts.bad > 0 {
        errln!("{} line(s) of documents.jsonl were left out; mend them and import again", counts.bad);
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

/// Imports a folder. With `wait` it waits for another import into the same collection; else that is an error.
pub(crate) async fn import(services: &Services, path: &Path, wait: bool) -> anyhow::Result<Outcome> {
    let (collection, folder) = Folder::open(path)?;
    let begin = async || services.store.begin_import(&collection, SystemClock.now_ms(), LEASE_MS).await;
    let lease = change::take_lease(&collection.slug, wait, begin).await?;
    let mut packs = Packs::new(services.objects.clone(), lease);
    let write = write_all(services, &collection, folder, &lease, &mut packs);
    match change::carry_out(services, &lease, Brings::Documents, write).await {
        Ok((collection, counts)) => Ok(Outcome { collection, counts }),
        Err(error) => {
            take_back(services, &lease, packs).await;
            Err(error)
        }
    }
}

/// Writes everything that the new corpus version needs; nothing of it is visible yet.
async fn write_all(
    services: &Services,
    collection: &NewCollection,
    folder: Folder,
    lease: &ImportLease,
    packs: &mut Packs,
) -> anyhow::Result<Counts> {
    let mut index = begin_index(services, collection, lease).await?;
    let settled = withdraw::settle(services, lease, &mut *index).await?;
    let bar = change::progress_bar(folder.length());
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
    if settled || counts.added + counts.updated > 0 {
        index.finish().await?;
    }
    bar.finish_and_clear();
    if counts.bad > SHOWN {
        errln!("… and {} more", counts.bad - SHOWN);
    }
    Ok(counts)
}

/// Begins the new index on top of the one before, in the language of that: to change it, all documents must be analysed anew.
async fn begin_index(
    services: &Services,
    collection: &NewCollection,
    lease: &ImportLease,
) -> anyhow::Result<Box<dyn IndexBuild>> {
    let ImportLease { import, base } = *lease;
    let slug = &collection.slug;
    let mut language = collection.language;
    if base.corpus_version > 0 {
        let known = services.search.language(base).await.map_err(|error| change::no_base(error, slug))?;
        if known != language {
            let name = |language: Option<Language>| language.map_or("none", Language::as_str);
            errln!(
                "{slug}: the language is {} now, but the index was made with {}, and goes on so until all is indexed anew: run `adit reindex {slug}`",
                name(language),
                name(known)
            );
        }
        language = known;
    }
    let plan = IndexPlan { base, import, language, afresh: false };
    services.search.build(plan).await.map_err(|error| change::no_base(error, slug))
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
        errln!("documents.jsonl:{}: {}", bad.line, Printable::line(&bad.reason));
    }
}
