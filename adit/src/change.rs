//! One change of a collection, under its import lease: what importing and making an index anew have in common.
//!
//! Everything is written unseen, then made visible by one commit. Whatever goes wrong before the commit is taken back; what a killed process could
//! not take back, the next change removes.

use std::time::Duration;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::domain::Collection;
use adit_shared::ids::CollectionId;
use adit_shared::objects::ObjectError;
use adit_shared::search::{KEPT_INDEXES, SearchError};
use adit_shared::store::{ImportLease, StoreError, StoreResult};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::import::remove_leftovers;
use crate::services::Services;
use crate::store_mark;
use crate::terminal::errln;
use crate::up::stop_signal;

/// How long a process that has died while it changed a collection keeps others out, in milliseconds.
pub(crate) const LEASE_MS: i64 = 30_000;
/// The longest pause between tries to commit, while the database is away; each is twice the one before.
const COMMIT_PAUSE: Duration = Duration::from_secs(8);
/// Exit status when another import holds the collection: `EX_TEMPFAIL` of sysexits.h, "try again later".
pub(crate) const TRY_LATER: u8 = 75;

/// What a change brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brings {
    /// Documents; where none are staged, the corpus version stays.
    Documents,
    /// An index, and so a corpus version in any case.
    Index,
}

/// Whether it failed because another change of the collection is under way.
pub(crate) fn is_another_running(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::ImportRunning { .. }))
}

/// Why the index of the version before cannot be built upon, and what helps.
pub(crate) fn no_base(error: SearchError, slug: &str) -> anyhow::Error {
    match error {
        error @ (SearchError::VersionGone(_) | SearchError::Objects(ObjectError::NotFound(_))) => {
            let advice = format!("the index of {slug} is not in this search engine; make it by `adit reindex {slug}`");
            anyhow::Error::new(error).context(advice)
        }
        error => error.of(slug).into(),
    }
}

/// Takes the lease by `begin`. With `wait` it waits while another holds it; else that is an error.
pub(crate) async fn take_lease(
    slug: &str,
    wait: bool,
    begin: impl AsyncFn() -> StoreResult<ImportLease>,
) -> anyhow::Result<ImportLease> {
    let mut told = false;
    loop {
        match begin().await {
            Err(StoreError::ImportRunning { .. }) if wait => {
                if !std::mem::replace(&mut told, true) {
                    errln!("another import into {slug} is running; waiting for it");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error @ StoreError::ImportRunning { until_ms }) => {
                let seconds = (until_ms - SystemClock.now_ms()).max(0) / 1000 + 1;
                let advice = format!(
                    "nothing was changed; try again later, or wait with --wait (should the other be dead, {seconds} s are enough, \
                     and `adit leases break {slug}` lets you in at once)"
                );
                return Err(anyhow::Error::new(error).context(advice));
            }
            lease => return Ok(lease?),
        }
    }
}

/// Removes what dead changes of the collection left in the object store, then carries `write` out,
/// which writes what the new corpus version needs, and commits it. When that fails, the index is
/// removed; what else was written is for the caller to take back.
pub(crate) async fn carry_out<T>(
    services: &Services,
    lease: &ImportLease,
    brings: Brings,
    write: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Collection, T)> {
    let mut renewal = keep_lease(services, lease);
    let write = async {
        store_mark::claim(&*services.objects, &*services.store).await.context("nothing was changed")?;
        remove_leftovers(&*services.objects, &*services.store, lease).await?;
        write.await
    };
    let written = tokio::select! {
        written = write => written,
        lost = &mut renewal => Err(lost.map_or_else(anyhow::Error::from, anyhow::Error::from)),
        () = stop_signal() => Err(anyhow::anyhow!("stopped before the end; nothing was changed")),
    };
    // From here on no signal interrupts: neither half a commit nor half a clearing up.
    let outcome = match written {
        Ok(done) => commit(services, lease, brings).await.map(|collection| (collection, done)),
        Err(error) => {
            discard_index(services, lease).await;
            Err(error)
        }
    };
    renewal.abort();
    if let Ok((collection, _)) = &outcome {
        drop_old_indexes(services, collection.id).await;
    }
    outcome
}

/// Carries out work that makes no corpus version and needs that no change of the collection is
/// under way. Staged rows of dead imports are gone while it works.
///
/// # Errors
/// [`StoreError::ImportRunning`] while a change is under way.
pub(crate) async fn carry_out_between<T>(
    services: &Services,
    slug: &str,
    work: impl AsyncFnOnce(&ImportLease) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let lease = services.store.begin_reindex(slug, SystemClock.now_ms(), LEASE_MS).await?;
    let mut renewal = keep_lease(services, &lease);
    let worked = tokio::select! {
        worked = work(&lease) => worked,
        lost = &mut renewal => Err(lost.map_or_else(anyhow::Error::from, anyhow::Error::from)),
        () = stop_signal() => Err(anyhow::anyhow!("stopped before the end")),
    };
    renewal.abort();
    if let Err(error) = services.store.abort_import(&lease).await {
        tracing::warn!(%error, "the collection stays taken until the lease runs out, {} s at most", LEASE_MS / 1000);
    }
    worked
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

/// Makes the new corpus version visible.
async fn commit(services: &Services, lease: &ImportLease, brings: Brings) -> anyhow::Result<Collection> {
    let mut pause = Duration::from_secs(1);
    loop {
        let now = SystemClock.now_ms();
        let committed = match brings {
            Brings::Documents => services.store.commit_import(lease, now).await,
            Brings::Index => services.store.commit_reindex(lease, now).await,
        };
        match committed {
            Err(error @ StoreError::Unavailable(_)) if pause <= COMMIT_PAUSE => {
                tracing::warn!(%error, "the import could not be committed; trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error @ StoreError::Unavailable(_)) => {
                return Err(anyhow::Error::new(error)).context(
                    "it is not known whether the import was committed; run it again, which changes nothing if it was",
                );
            }
            committed => return Ok(committed?),
        }
    }
}

/// Drops the indexes that are superseded for good, and those of imports that died or were overtaken.
pub(crate) async fn drop_old_indexes(services: &Services, collection: CollectionId) {
    let dropped = async {
        let kept = services.store.indexes(collection, KEPT_INDEXES).await?;
        anyhow::Ok(services.search.retain(collection, &kept).await?)
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

/// A bar up to `length`, for people; shows nothing where standard error is no terminal.
pub(crate) fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use adit_shared::config::Config;
    use adit_shared::objects::{ObjectKey, Upload};
    use adit_shared::store::NewCollection;
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn whoever_takes_the_lease_gives_up_the_uploads_of_dead_changes() {
        uploads_of_dead_changes_go(None).await;
    }

    #[tokio::test]
    async fn whoever_takes_the_lease_gives_up_the_uploads_of_dead_changes_on_s3() {
        // The server's credentials are in the environment beside its URL.
        let Ok(url) = std::env::var("ADIT_TEST_S3_URL") else { return };
        let mut url: url::Url = url.parse().unwrap();
        url.set_path(&format!("{}/changes-{:016x}", url.path().trim_end_matches('/'), rand::random::<u64>()));
        uploads_of_dead_changes_go(Some(url.into())).await;
    }

    async fn uploads_of_dead_changes_go(store: Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let setting = |name: &str| match name {
            "ADIT_DATA" => Some(data.clone()),
            "ADIT_STORE_URL" => store.clone(),
            _ => None,
        };
        let config = Config::load(setting).unwrap();
        let services = Services::open(&config).await.unwrap();
        let begin = async |slug: &str| {
            let collection = NewCollection { slug: slug.to_owned(), ..NewCollection::default() };
            let lease = services.store.begin_import(&collection, SystemClock.now_ms(), LEASE_MS).await.unwrap();
            let (collection, import) = (lease.collection(), lease.import);
            let key = ObjectKey::Pack { collection, import, format: "txt", number: 1 }.to_string();
            let upload = services.objects.create_upload(&key, 8).await.unwrap();
            services.objects.put_part(&upload, 1, Bytes::from_static(b"of a pack")[..8].to_vec().into()).await.unwrap();
            (lease, upload)
        };
        let (_, other) = begin("other").await;
        for _ in 0..5 {
            begin("c").await;
            services.store.break_lease("c").await.unwrap();
        }
        assert_eq!(services.objects.list_uploads("packs/").await.unwrap().len(), 6);
        let (lease, own) = begin("c").await;
        carry_out(&services, &lease, Brings::Documents, async { Ok(()) }).await.unwrap();
        let mut left = services.objects.list_uploads("packs/").await.unwrap();
        left.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // A bucket does not tell how large parts are to be.
        let named = |upload: &Upload| (upload.key.clone(), upload.id.clone());
        let left: Vec<_> = left.iter().map(named).collect();
        assert_eq!(left, [other, own].each_ref().map(named), "those of imports that may live");
    }
}
