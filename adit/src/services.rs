//! Opens what the configuration names: database, object store, search.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use adit_shared::clock::{Clock, SystemClock};
use adit_shared::config::Config;
use adit_shared::objects::{self, ObjectStore};
use adit_shared::search::{Search, TantivySearch};
use adit_shared::store::{SqlStore, Store};
use anyhow::Context as _;

/// The opened parts.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) search: Arc<dyn Search>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Services {
    /// Opens all parts; the data folder is made where it is missing.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        make_folder(&config.data)?;
        let objects = open_objects(config).await?;
        let search = TantivySearch::new(objects.clone(), config.data.join("cache"));
        Ok(Self { store: open_store(config).await?, objects, search: Arc::new(search), clock: Arc::new(SystemClock) })
    }
}

/// Makes the data folder where it is missing, for its owner only: what lies in it is nobody else's.
pub(crate) fn make_folder(data: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("cannot make the data folder {}; choose another with --data", data.display()))
}

/// Opens the database alone, as the verbs do that need no more.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let store =
        SqlStore::open(config.database_url.reveal()).await.context("cannot open the database (ADIT_DATABASE_URL)")?;
    Ok(Arc::new(store))
}

/// Opens the object store alone.
pub(crate) async fn open_objects(config: &Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    objects::open(&config.store_url).await.context("cannot open the object store (ADIT_STORE_URL)")
}
