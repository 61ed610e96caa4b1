//! Watches, after an import: what is new of their hits becomes docsets, and webhooks are told.
//!
//! All of it happens in processes that end: an import after its commit, and `adit watches deliver`. Whatever is cut off is taken up again by the next
//! of them: a watch's row says how far it has looked, a notice's row how far its delivery is. How a message is sent is in [`deliver`].

mod deliver;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::domain::Selection;
use adit_shared::ids::{DocsetId, KeyId};
use adit_shared::search::Source;
use adit_shared::store::{NewDocset, Notice, Watch, measure};
use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use self::deliver::Deliverer;
use crate::cli::WatchesVerb;
use crate::services::Services;
use crate::terminal::outln;
use crate::up::stop_signal;

/// How long an import goes on for its watches. What is left then is for the next one.
const AFTER_IMPORT: Duration = Duration::from_secs(60);
/// How soon a second attempt must be due for a process to wait for it, in milliseconds.
const SOON_MS: i64 = 10_000;
/// Notices that are on their way at once.
const AT_ONCE: usize = 32;
/// Of these, the notices of one key: slow receivers hold up only those of their own key.
const OF_ONE_KEY: usize = 4;

/// Runs the watches after an import. Nothing that goes wrong with them is a failure of the import.
pub(crate) async fn after_import(config: &Config, services: &Services) {
    let work = async {
        look(services).await?;
        deliver(config, services, false).await
    };
    tokio::select! {
        ended = tokio::time::timeout(AFTER_IMPORT, work) => match ended {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("watches wait for the next import: {error:#}"),
            Err(_) => tracing::warn!("not all webhooks were told in time; the next import goes on, or `adit watches deliver`"),
        },
        () = stop_signal() => {}
    }
}

/// Carries out `adit watches …`.
pub(crate) async fn run(config: &Config, verb: WatchesVerb) -> anyhow::Result<()> {
    let services = Services::open(config).await?;
    match verb {
        WatchesVerb::Deliver { now } => {
            let made = look(&services).await?;
            let told = deliver(config, &services, now).await?;
            outln!("{made} docset(s) made, {told} webhook(s) told");
        }
        WatchesVerb::List => list(&services).await?,
    }
    Ok(())
}

async fn list(services: &Services) -> anyhow::Result<()> {
    let mut before = None;
    loop {
        let page = services.store.watches(None, before, 1000).await?;
        for watch in &page {
            let webhook = watch.new.webhook.as_ref().map_or("-", |(url, _)| url.as_str());
            let query = watch.new.query.to_string();
            outln!(
                "watch {} of key {} in {}: {} {}",
                watch.id,
                watch.new.owner,
                watch.collection_slug,
                Printable::line(&query),
                Printable::line(webhook)
            );
            for notice in services.store.notices(watch.id, 5).await? {
                let status = notice.status.map(|status| status.to_string()).unwrap_or_default();
                let problem = notice.problem.as_deref().unwrap_or_default();
                outln!(
                    "  docset {}: {} document(s) of corpus version {}, {}, {} attempt(s) {status} {}",
                    notice.docset,
                    notice.documents,
                    notice.corpus_version,
                    notice.state.as_str(),
                    notice.attempts,
                    Printable::line(problem)
                );
            }
        }
        match page.last() {
            Some(last) => before = Some(last.id),
            None => return Ok(()),
        }
    }
}

/// Has all watches look that are behind, of whatever collection; returns how many docsets that made. One that cannot look is logged and left.
async fn look(services: &Services) -> anyhow::Result<u64> {
    let mut made = 0;
    for watch in services.store.watches_behind(services.clock.now_ms()).await? {
        match look_with(services, &watch).await {
            Ok(docset) => made += u64::from(docset.is_some()),
            Err(error) => tracing::warn!("watch {} waits for the next import: {error:#}", watch.id),
        }
    }
    Ok(made)
}

/// Makes the docset of what is new for a watch, if anything is.
async fn look_with(services: &Services, watch: &Watch) -> anyhow::Result<Option<DocsetId>> {
    let store = &*services.store;
    let collection = store.collection_by_id(watch.new.collection).await?.context("its collection is gone")?;
    let version = collection.corpus_version;
    let first = store.first_added_after(collection.id, watch.new.corpus_version).await?;
    let query = Source::from_stored(&watch.new.query);
    let mut members = match first {
        Some(_) => services.search.matching(collection.index(), &query.read()?).await?,
        None => Default::default(),
    };
    members.remove_range(..first.map_or(0, |id| id.0));
    if members.is_empty() {
        return Ok(store.advance_watch(watch, version, None).await?);
    }
    let (fingerprint, formats) = measure(store, &members).await?;
    let docset = NewDocset {
        owner: watch.new.owner,
        collection: collection.id,
        name: watch.new.name.clone(),
        origin: Selection::Watch { id: watch.id, query, since: watch.new.corpus_version }.into(),
        corpus_version: version,
        members,
        fingerprint,
        formats,
        created: services.clock.now_ms(),
    };
    Ok(store.advance_watch(watch, version, Some(&docset)).await?)
}

/// Sends what is due, or with `now` all that is pending; attempts that are due soon are waited for. Returns how many webhooks took it.
async fn deliver(config: &Config, services: &Services, now: bool) -> anyhow::Result<usize> {
    let deliverer = Deliverer::new(config, services)?;
    let mut told = 0;
    let mut by = if now { Some(i64::MAX) } else { None };
    loop {
        let clock = services.clock.now_ms();
        let due = services.store.due_notices(by.unwrap_or(clock + SOON_MS), clock).await?;
        if due.is_empty() {
            return Ok(told);
        }
        let due = with_owners(services, due).await?;
        told += send_fairly(due, async |notice| deliverer.send(notice, by.is_some()).await).await?;
        // Each attempt that fails moves the next one further away.
        by = None;
    }
}

/// Finds the keys whose notices these are. Those of a watch that was deleted meanwhile are left
/// out.
async fn with_owners(services: &Services, notices: Vec<Notice>) -> anyhow::Result<Vec<(KeyId, Notice)>> {
    let mut owners = BTreeMap::new();
    for notice in &notices {
        if let Entry::Vacant(unknown) = owners.entry(notice.watch) {
            let watch = services.store.watch(notice.watch, None).await?;
            unknown.insert(watch.map(|watch| watch.new.owner));
        }
    }
    Ok(notices.into_iter().filter_map(|notice| Some(((*owners.get(&notice.watch)?)?, notice))).collect())
}

/// Sends notices, with a line for each key: [`OF_ONE_KEY`] of a key and [`AT_ONCE`] of all are on
/// their way at once. Returns how many were taken.
async fn send_fairly(
    due: Vec<(KeyId, Notice)>,
    send: impl AsyncFn(Notice) -> anyhow::Result<bool>,
) -> anyhow::Result<usize> {
    let mut lines: BTreeMap<KeyId, Vec<Notice>> = BTreeMap::new();
    for (key, notice) in due {
        lines.entry(key).or_default().push(notice);
    }
    // Who waits here stands in one line with the few of each other key.
    let places = Semaphore::new(AT_ONCE);
    let send_one = |notice| {
        let (places, send) = (&places, &send);
        async move {
            let _place = places.acquire().await?;
            send(notice).await
        }
    };
    let lines = lines.into_values().map(|notices| stream::iter(notices).map(send_one).buffer_unordered(OF_ONE_KEY));
    let mut sent = stream::select_all(lines.map(Box::pin));
    let mut told = 0;
    while let Some(taken) = sent.next().await {
        told += usize::from(taken?);
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use adit_shared::ids::{NoticeId, WatchId};
    use adit_shared::store::NoticeState;

    use super::*;

    fn notice(id: i64) -> Notice {
        Notice {
            id: NoticeId(id),
            watch: WatchId(id),
            message: id.to_string(),
            corpus_version: 1,
            docset: DocsetId(1),
            documents: 1,
            created: 0,
            state: NoticeState::Pending,
            attempts: 0,
            next_attempt: None,
            delivered: None,
            status: None,
            problem: None,
        }
    }

    #[tokio::test]
    async fn slow_receivers_of_one_key_hold_up_only_its_own() {
        let slow = (0..100).map(|id| (KeyId(1), notice(id)));
        let quick = (100..150).map(|id| (KeyId(id % 5 + 2), notice(id)));
        let (waiting, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let send = async |notice: Notice| {
            if notice.id.0 < 100 {
                waiting.fetch_add(1, Ordering::Relaxed);
                // Nothing ever answers here.
                std::future::pending::<()>().await;
            }
            Ok(told.fetch_add(1, Ordering::Relaxed) < usize::MAX)
        };
        let sending = send_fairly(slow.chain(quick).collect(), send);
        let all_told = async {
            while told.load(Ordering::Relaxed) < 50 {
                tokio::task::yield_now().await;
            }
        };
        let deadline = tokio::time::timeout(Duration::from_secs(30), all_told);
        tokio::select! {
            _ = sending => panic!("receivers that never answer"),
            ended = deadline => ended.unwrap(),
        }
        assert_eq!(waiting.load(Ordering::Relaxed), OF_ONE_KEY);
    }
}
