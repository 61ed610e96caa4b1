//! `adit withdraw`: nobody gets the files of the named works any more, from now on; searches lack them from a corpus version on that is made at once. And
//! back again.

use std::process::ExitCode;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::domain::{Collection, Format};
use adit_shared::search::IndexBuild;
use adit_shared::store::{ImportLease, Settling};
use anyhow::{Context as _, bail};

use crate::change::{self, TRY_LATER};
use crate::cli::WithdrawArgs;
use crate::reindex;
use crate::services::Services;
use crate::terminal::{errln, outln};

/// Refs that a message lists.
const SHOWN: usize = 20;

/// Carries out `adit withdraw`. The exit status is 75 when an import into the collection is running: then only the index does not follow yet.
pub(crate) async fn run(config: &Config, args: &WithdrawArgs) -> anyhow::Result<ExitCode> {
    let services = Services::open(config).await?;
    let slug = &args.collection;
    let collection =
        services.store.collection(slug).await?.with_context(|| format!("nothing is named {slug:?} here"))?;
    mark(&services, &collection, args).await?;
    let pending = if args.undo {
        "their files are given again, but searches do not find them yet"
    } else {
        "their files are withheld, but searches still find them"
    };
    let made = reindex::new_index(&services, slug, args.wait, false, async |_, _| Ok(())).await;
    let (collection, ()) = match made {
        Err(error) if change::is_another_running(&error) => {
            errln!("adit: {pending}: an import is running, and the next one takes care of that; --wait waits for it");
            return Ok(ExitCode::from(TRY_LATER));
        }
        made => made.with_context(|| format!("{pending}: run it again when this is mended"))?,
    };
    let done = if args.undo { "given again" } else { "withdrawn" };
    outln!(
        "{slug}: {} {done}; {} documents in corpus version {}",
        args.refs.len(),
        collection.documents,
        collection.corpus_version
    );
    Ok(ExitCode::SUCCESS)
}

/// Withholds the works, or gives them again. All of them, or none.
async fn mark(services: &Services, collection: &Collection, args: &WithdrawArgs) -> anyhow::Result<()> {
    let (store, refs) = (&services.store, &args.refs);
    let withdrawn = store.withdrawn_refs(collection.id, refs).await?;
    let current = store.resolve_refs(collection.id, collection.corpus_version, refs).await?;
    let known = |r#ref: &&String| withdrawn.contains(*r#ref) || !args.undo && current.contains_key(*r#ref);
    let unknown: Vec<&str> = refs.iter().filter(|r#ref| !known(r#ref)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let (what, shown) = (if args.undo { "withdrawn in" } else { "in" }, &unknown[..unknown.len().min(SHOWN)]);
        bail!(
            "nothing was changed: {} of the refs are not {what} {}: {}",
            unknown.len(),
            collection.slug,
            Printable::line(&shown.join(", "))
        );
    }
    match &args.reason {
        Some(reason) => store.withdraw(collection.id, refs, reason, SystemClock.now_ms()).await?,
        None => store.undo_withdrawal(collection.id, refs).await?,
    }
    Ok(())
}

/// Brings the index that is being made into line with what was withdrawn, and given again, since the last one; tells whether there was any such.
pub(crate) async fn settle(
    services: &Services,
    lease: &ImportLease,
    index: &mut dyn IndexBuild,
) -> anyhow::Result<bool> {
    let settling = services.store.claim_withdrawals(lease).await?;
    // What comes back may be there still: then nobody had taken it out.
    for id in settling.out.iter().chain(&settling.back) {
        index.remove(*id).await?;
    }
    if !settling.back.is_empty() {
        take_back(services, lease, &settling, index).await?;
    }
    Ok(!settling.is_empty())
}

async fn take_back(
    services: &Services,
    lease: &ImportLease,
    settling: &Settling,
    index: &mut dyn IndexBuild,
) -> anyhow::Result<()> {
    let documents = services.store.documents(&settling.back).await?;
    let mut formats: Vec<Format> =
        documents.into_iter().flat_map(|document| document.files).map(|file| file.format).collect();
    formats.sort_unstable();
    formats.dedup();
    let ids = settling.back.iter().map(|id| id.0).collect();
    let closed = services.store.closed(lease.collection(), &ids).await?;
    // Damaged texts are named there, and searched again once they are healed and indexed anew.
    reindex::add(services, services.store.described_members(&ids, &formats), &closed, index, || ()).await?;
    Ok(())
}
