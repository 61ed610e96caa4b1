//! A fresh database for each test.

use std::env;
use std::panic::{AssertUnwindSafe, resume_unwind};

use adit_shared::store::SqlStore;
use futures::FutureExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use url::Url;

/// A new, empty database.
pub(crate) struct Database {
    pub(crate) store: SqlStore,
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Database {
    /// Opens it once more, as another process would.
    pub(crate) async fn open_again(&self) -> SqlStore {
        SqlStore::open(&self.url).await.unwrap()
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }
}

pub(crate) async fn on_sqlite(case: impl AsyncFnOnce(Database)) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new folder/adit.db").display());
    case(Database { store: SqlStore::open(&url).await.unwrap(), url, _folder: Some(folder) }).await;
}

pub(crate) async fn on_postgres(case: impl AsyncFnOnce(Database)) {
    let Ok(server) = env::var("ADIT_TEST_POSTGRES_URL") else {
        println!("skipped: set ADIT_TEST_POSTGRES_URL to run this on PostgreSQL");
        return;
    };
    let schema = format!("adit_test_{:016x}", rand::random::<u64>());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await.unwrap();
    let mut url: Url = server.parse().unwrap();
    url.query_pairs_mut().append_pair("options", &format!("-c search_path={schema}"));
    let store = SqlStore::open(url.as_str()).await.unwrap();
    let database = Database { store: store.clone(), url: url.into(), _folder: None };
    let outcome = AssertUnwindSafe(case(database)).catch_unwind().await;
    store.close().await;
    admin.execute(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await.unwrap();
    if let Err(panicked) = outcome {
        resume_unwind(panicked);
    }
}
