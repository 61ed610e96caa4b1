//! `adit reindex SLUG`: makes the search index of a collection anew, out of what is stored of its documents.
//!
//! The new index becomes visible as a corpus version of its own, whose documents are those of the version before: whoever searches meanwhile
//! is answered from the old one, and docsets stay as they are. Reading the stored texts is in [`texts`].

mod texts;

use std::process::ExitCode;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::domain::{Access, Collection, Format};
use adit_shared::search::{IndexBuild, IndexDocument, IndexPlan};
use adit_shared::store::{ImportLease, Member, StoreError, StoreResult};
use anyhow::Context as _;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;

use crate::change::{self, Brings, LEASE_MS, TRY_LATER};
use crate::services::Services;
use crate::terminal::{errln, outln, print_failure};
use crate::withdraw;

/// Damaged texts that are named; the rest is counted.
const SHOWN: u64 = 100;

/// Counts the documents of a new index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexedCounts {
    documents: u64,
    /// Of these, the documents whose text is damaged, and so not in the index.
    damaged: u64,
}

/// Carries out `adit reindex`. The exit status is 75 when an import into the collection is running,
/// and 2 when texts were left out because they are damaged.
pub(crate) async fn run(config: &Config, slug: &str, wait: bool) -> anyhow::Result<ExitCode> {
    let services = Services::open(config).await?;
    let (collection, counts) = match reindex(&services, slug, wait).await {
        Err(error) if change::is_another_running(&error) => {
            print_failure(&error);
            return Ok(ExitCode::from(TRY_LATER));
        }
        made => made?,
    };
    let IndexedCounts { documents, damaged } = counts;
    outln!("{slug}: {documents} documents are indexed anew in corpus version {}", collection.corpus_version);
    if damaged > 0 {
        errln!(
            "{damaged} of them without their text, which is damaged: run `adit storage repair FOLDER` with good files, and `adit reindex {slug}` again"
        );
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the index of a collection anew.
pub(crate) async fn reindex(
    services: &Services,
    slug: &str,
    wait: bool,
) -> anyhow::Result<(Collection, IndexedCounts)> {
    new_index(services, slug, wait, true, async |index, lease| fill(services, lease, index).await).await
}

/// Makes a corpus version without new documents, whose index is what `fill` makes: of the index before it, or of nothing (`afresh`). Nothing of
/// it is visible unless and until it comes back; then no older index is needed any more. Gives the collection as it is now, and what `fill` gave.
pub(crate) async fn new_index<T>(
    services: &Services,
    slug: &str,
    wait: bool,
    afresh: bool,
    fill: impl AsyncFnOnce(&mut dyn IndexBuild, &ImportLease) -> anyhow::Result<T>,
) -> anyhow::Result<(Collection, T)> {
    let begin = async || services.store.begin_reindex(slug, SystemClock.now_ms(), LEASE_MS).await;
    let lease = change::take_lease(slug, wait, begin).await.map_err(|error| match error.downcast_ref() {
        Some(StoreError::NotFound(_)) => error.context(format!("nothing is named {slug:?} here")),
        _ => error,
    })?;
    let write = async {
        let collection =
            services.store.collection_by_id(lease.collection()).await?.context("the collection is gone")?;
        let language = match lease.base.corpus_version {
            0 => collection.language,
            _ if afresh => collection.language,
            _ => services.search.language(lease.base).await.map_err(|error| change::no_base(error, slug))?,
        };
        let plan = IndexPlan { base: lease.base, import: lease.import, language, afresh };
        let mut index = services.search.build(plan).await.map_err(|error| change::no_base(error, slug))?;
        let done = fill(&mut *index, &lease).await?;
        withdraw::settle(services, &lease, &mut *index).await?;
        index.finish().await?;
        Ok(done)
    };
    let outcome = change::carry_out(services, &lease, Brings::Index, write).await;
    if outcome.is_err()
        && let Err(error) = services.store.abort_import(&lease).await
    {
        tracing::warn!(%error, "the collection stays taken until the lease runs out, {} s at most", LEASE_MS / 1000);
    }
    outcome
}

/// Adds all documents of the lease's base.
async fn fill(services: &Services, lease: &ImportLease, index: &mut dyn IndexBuild) -> anyhow::Result<IndexedCounts> {
    let ids = services.store.indexed(lease).await?;
    let collection = services.store.collection_by_id(lease.collection()).await?.context("the collection is gone")?;
    let formats: Vec<Format> = collection.formats.into_iter().map(|total| total.format).collect();
    let closed = services.store.closed(collection.id, &ids).await?;
    let bar = change::progress_bar(ids.len());
    let count = || {
        bar.inc(1);
        if bar.position().is_multiple_of(1000) {
            bar.set_message(format!("{} documents", bar.position()));
        }
    };
    let damaged = add(services, services.store.described_members(&ids, &formats), &closed, index, count).await?;
    bar.finish_and_clear();
    Ok(IndexedCounts { documents: ids.len(), damaged })
}

/// Adds stored documents, with their metadata as JSON; `closed` has those of them that are not
/// open, and `each` is told of every one. Documents whose text is damaged are named and added
/// without it, so that they are found by their metadata; gives their number.
pub(crate) async fn add(
    services: &Services,
    documents: BoxStream<'_, StoreResult<(Member, String)>>,
    closed: &[(Access, RoaringBitmap)],
    index: &mut dyn IndexBuild,
    each: impl Fn(),
) -> anyhow::Result<u64> {
    let mut documents = texts::with_texts(services.objects.clone(), documents);
    let mut damaged = 0;
    while let Some((member, metadata, text)) = documents.try_next().await? {
        let text = text.unwrap_or_else(|damage| {
            damaged += 1;
            if damaged <= SHOWN {
                errln!("{} (document {}): its text is left out: {damage}", Printable::line(&member.r#ref), member.id);
            }
            None
        });
        let level = closed.iter().find(|(_, ids)| ids.contains(member.id.0));
        let document = IndexDocument {
            id: member.id,
            replaces: None,
            r#ref: &member.r#ref,
            access: level.map_or(&Access::Open, |(access, _)| access),
            metadata: &metadata,
            formats: member.files.iter().map(|file| file.format.as_str()).collect(),
            text: text.as_deref(),
        };
        index.add(document).await?;
        each();
    }
    if damaged > SHOWN {
        errln!("… and {} more", damaged - SHOWN);
    }
    Ok(damaged)
}
