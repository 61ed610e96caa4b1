//! Opens what the configuration names: database, object store, search.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_shared::clock::{Clock, SystemClock};
use adit_shared::config::Config;
use adit_shared::objects::{self, ObjectError, ObjectStore, OpenError};
use adit_shared::search::{Address, OpenSearch, Search, SearchLimits, TantivySearch};
use adit_shared::store::{SqlStore, Store, StoreError};
use anyhow::Context as _;

use crate::data_folder::{refuse_foreign_parts, secure_data_folder};
use crate::running::is_held_by_another;
use crate::store_mark;

/// The opened parts.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) search: Arc<dyn Search>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How long a server that starts waits for a database that does not answer.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait between two tries to open a part.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Services {
    /// Opens all parts; the data folder is made where it is missing.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        secure_data_folder(config)?;
        Self::of(config, open_objects(config).await?, open_store(config).await?).await
    }

    /// The same for a server that starts together with the parts it needs: those on other machines are waited for.
    pub(crate) async fn await_open(config: &Config) -> anyhow::Result<Self> {
        secure_data_folder(config)?;
        let began = Instant::now();
        let outside = !config.database_url.reveal().starts_with("sqlite:");
        let store = patiently(
            "the database",
            || open_store(config),
            |error| {
                let away = matches!(error.downcast_ref(), Some(StoreError::Unavailable(_)));
                outside && away && began.elapsed() < DATABASE_PATIENCE
            },
        );
        let store = store.await?;
        Self::of(config, await_objects(config).await?, store).await
    }

    async fn of(config: &Config, objects: Arc<dyn ObjectStore>, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        // Nothing is removed or imported before this has come off; the rest may go on without it.
        if let Err(error) = store_mark::claim(&*objects, &*store).await {
            tracing::warn!("{error:#}");
        }
        let search = open_search(config, &objects)?;
        Ok(Self { store, objects, search, clock: Arc::new(SystemClock) })
    }
}

/// Opens the object store, as soon as it answers where it is a server.
pub(crate) async fn await_objects(config: &Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let server = !config.store_url.starts_with("file:");
    let away = |error: &anyhow::Error| {
        matches!(error.downcast_ref(), Some(OpenError::Store { reason: ObjectError::Unavailable(_), .. }))
    };
    patiently("the object store", || open_objects(config), |error| server && away(error)).await
}

/// Tries until it works, or until it fails in another way than by being away.
async fn patiently<T>(
    part: &str,
    open: impl AsyncFn() -> anyhow::Result<T>,
    is_away: impl Fn(&anyhow::Error) -> bool,
) -> anyhow::Result<T> {
    let mut wait = Duration::from_millis(250);
    loop {
        match open().await {
            Err(error) if is_away(&error) => {
                tracing::warn!(error = format!("{error:#}"), ?wait, "{part} is waited for");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            opened => return opened,
        }
    }
}

/// Opens the database alone, as the verbs do that need no more.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(open_database(config).await?))
}

/// Opens the database, and brings its schema up to date; but not under a server that runs on the
/// data folder, which may be of an older program.
pub(crate) async fn open_database(config: &Config) -> anyhow::Result<SqlStore> {
    let url = config.database_url.reveal();
    let opened = match is_held_by_another(&config.data) {
        true => SqlStore::open_unmigrated(url).await,
        false => SqlStore::open(url).await,
    };
    opened.context("cannot open the database (ADIT_DATABASE_URL)")
}

/// Searches in the outside engine, where there is one, else in indexes that lie in the object store. Nothing is asked of either yet.
fn open_search(config: &Config, objects: &Arc<dyn ObjectStore>) -> anyhow::Result<Arc<dyn Search>> {
    let limits = SearchLimits { time: config.request_timeout, memory: config.search_memory };
    let Some(url) = &config.search_url else {
        let search = TantivySearch::new(objects.clone(), config.data.join("cache"));
        return Ok(Arc::new(search.with_limits(limits)));
    };
    let engine = Address::parse(url.reveal()).and_then(OpenSearch::new).map(|engine| engine.with_limits(limits));
    Ok(Arc::new(engine.map_err(anyhow::Error::msg).context("cannot use the search engine (ADIT_SEARCH_URL)")?))
}

/// Opens the object store alone.
pub(crate) async fn open_objects(config: &Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    refuse_foreign_parts(config)?;
    objects::open(&config.store_url).await.context("cannot open the object store (ADIT_STORE_URL)")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn what_is_away_is_waited_for_and_what_refuses_is_not() {
        let tries = AtomicU32::new(0);
        let open = async || match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Err(anyhow!("away")),
            1 => Ok("open"),
            _ => Err(anyhow!("refused")),
        };
        let is_away = |error: &anyhow::Error| error.to_string() == "away";
        assert_eq!(patiently("a part", open, is_away).await.unwrap(), "open");
        assert_eq!(patiently("a part", open, is_away).await.unwrap_err().to_string(), "refused");
        assert_eq!(tries.load(Ordering::SeqCst), 3);
    }
}
