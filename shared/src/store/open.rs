//! Opens a database: pools, what each connection is set to, migrations. Statements live beside this file.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _};
use url::Url;

use super::connections::Connections;
use super::liveness::{AWAY, Liveness};
use super::rows::query;
use super::{SqlStore, StoreError, StoreResult};

static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long a writer waits for the write lock of a SQLite file, which an import in another process may hold.
const BUSY: Duration = Duration::from_secs(30);
/// A connection that lay idle for longer is tried before it is handed out. A restart of the database takes longer than this.
const FRESH: Duration = Duration::from_millis(100);
/// SQLite connections that read at once; each is a thread and some MiB of page cache.
const SQLITE_READERS: u32 = 8;
/// PostgreSQL connections of one process, beside the one that asks whether the database is there.
const POSTGRES_CONNECTIONS: u32 = 16;

impl SqlStore {
    /// Opens the database at `url`, makes it if it is a SQLite file that is not there (its parent folders too), and brings
    /// its schema up to date. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the URL is neither `sqlite:` nor `postgres:`, or when the database cannot be reached or
    /// made; [`StoreError::Refused`] when it does not let the program in, or has a schema that is newer than the program.
    pub async fn open(url: &str) -> StoreResult<Self> {
        install_default_drivers();
        let url =
            Url::parse(url).map_err(|error| StoreError::Unavailable(format!("its URL cannot be read: {error}")))?;
        match url.scheme() {
            "sqlite" => open_sqlite(url).await,
            "postgres" | "postgresql" => open_postgres(url).await,
            other => Err(StoreError::Unavailable(format!(
                "its URL begins with {other}:, but must begin with sqlite: or postgres:"
            ))),
        }
    }
}

async fn open_sqlite(mut url: Url) -> StoreResult<SqlStore> {
    let file = SqliteConnectOptions::from_url(&url)
        .map_err(|_| StoreError::Unavailable("its sqlite: URL has an unknown parameter".to_owned()))?;
    let path = file.get_filename();
    let in_memory = url.path() == ":memory:" || url.query_pairs().any(|(_, value)| value == "memory");
    if in_memory || path.as_os_str().is_empty() {
        // Each connection would have a database of its own.
        return Err(StoreError::Unavailable("its URL must name a file, as sqlite:///path/adit.db does".to_owned()));
    }
    make_parent(path).await?;
    url.query_pairs_mut().append_pair("mode", "rwc");
    let options = options(&url)?;
    migrate_sqlite(&options).await.map_err(|error| match error {
        StoreError::Unavailable(reason) => StoreError::Unavailable(format!("{}: {reason}", path.display())),
        other => other,
    })?;
    // Writers of this process queue for one connection, in order, instead of polling for the file's lock.
    let write = connections(1, BUSY * 2).after_connect(|connection, _| prepare_sqlite(connection).boxed());
    let read = connections(SQLITE_READERS, BUSY * 2).after_connect(|connection, _| prepare_reader(connection).boxed());
    let (write, read) = (write.connect_lazy_with(options.clone()), read.connect_lazy_with(options.clone()));
    let liveness = Arc::new(Liveness::new(options));
    let lend = |pool| Connections::new(pool, liveness.clone());
    let (read, write) = (lend(read), lend(write));
    // A reader stays open as long as the pool, and with it the files of the log: when the write
    // connection is replaced, nothing has to be made anew on a disk that may be full.
    query("SELECT 1").fetch_one(&read).await?;
    Ok(SqlStore { read, write, begin: "BEGIN IMMEDIATE", liveness })
}

async fn open_postgres(url: Url) -> StoreResult<SqlStore> {
    let options = options(&url)?;
    let connecting = tokio::time::timeout(AWAY, AnyConnection::connect_with(&options));
    let mut connection = connecting.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    migrate(&POSTGRES, &mut connection).await?;
    connection.close().await?;
    let pool = connections(POSTGRES_CONNECTIONS, AWAY).connect_lazy_with(options.clone());
    let liveness = Arc::new(Liveness::new(options));
    let pool = Connections::new(pool, liveness.clone());
    Ok(SqlStore { read: pool.clone(), write: pool, begin: "BEGIN", liveness })
}

fn options(url: &Url) -> StoreResult<AnyConnectOptions> {
    Ok(AnyConnectOptions::from_str(url.as_str())?)
}

async fn make_parent(file: &Path) -> StoreResult<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|error| StoreError::Unavailable(format!("its folder {} cannot be made: {error}", folder.display())))
}

/// Connections live as long as the pool. With a limit of age or idleness sqlx 0.9.0 starts a task that now and then reads its
/// count of idle connections as 2^64 - 1 and never ends (<https://github.com/launchbadge/sqlx/issues/3645>). What is dead is
/// noticed without: the pool tries each connection when it comes back, and one that then lay idle is tried before it is handed out. To try
/// all of them there, as the pool does by itself, costs under load a third of what a small statement costs.
fn connections(most: u32, patience: Duration) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().max_connections(most).acquire_timeout(patience);
    let options = options.after_release(|connection, _| is_out_of_transaction(connection).boxed());
    options.idle_timeout(None).max_lifetime(None).test_before_acquire(false).before_acquire(|connection, meta| {
        async move {
            if meta.idle_for > FRESH {
                connection.ping().await?;
            }
            Ok(true)
        }
        .boxed()
    })
}

/// Tells whether a connection that comes back may be used again: not if a transaction did not end
/// in order.
///
/// After some errors (a full disk, a failed read) SQLite rolls back by itself. sqlx then fails to
/// roll back, and counts the connection as in a transaction for ever: each later one would be
/// refused. Such a connection is closed, and a new one takes its place.
async fn is_out_of_transaction(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may still be on its way to the connection's thread; an answer comes behind it.
        connection.ping().await?;
    }
    let is_out = !connection.is_in_transaction();
    if !is_out {
        tracing::warn!("a connection to the database is replaced: a transaction on it did not end in order");
    }
    Ok(is_out)
}

/// In WAL mode readers and the writer do not block each other. `synchronous = FULL` syncs the log at every commit: with
/// `NORMAL` a power cut could take back what was acknowledged (a message, a docset's URL), which no later step repairs.
async fn prepare_sqlite(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let busy = BUSY.as_millis();
    connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {busy}"))).await?;
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON").await?;
    Ok(())
}

/// A small cache is enough for readers, who pass over tables once; the usual 2 MiB for each of them is memory that fills up with the
/// database and gains nothing, as the operating system caches the file for all.
async fn prepare_reader(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    prepare_sqlite(connection).await?;
    connection.execute("PRAGMA cache_size = -512").await?;
    Ok(())
}

/// The migrator has no lock of its own for SQLite, so all of it runs inside one write transaction. Not on a connection of a
/// pool: that would try again for a minute when the file is no database.
async fn migrate_sqlite(options: &AnyConnectOptions) -> StoreResult<()> {
    let mut connection = AnyConnection::connect_with(options).await?;
    prepare_sqlite(&mut connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrate(&SQLITE, &mut transaction).await?;
    transaction.commit().await?;
    Ok(connection.close().await?)
}

async fn migrate(migrator: &Migrator, connection: &mut AnyConnection) -> StoreResult<()> {
    // What `Migrator::run` does; but that one's future is `Send` only for lifetimes that the compiler cannot prove.
    migrator.run_direct(None, connection, false).await.map_err(schema_error)
}

fn schema_error(error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(version) => StoreError::Refused(format!(
            "its schema has version {version}, which is newer than this program; use a newer adit"
        )),
        other => StoreError::Refused(format!("its schema cannot be brought up to date: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::super::{NewCollection, Store as _};
    use super::*;

    #[tokio::test]
    async fn every_sqlite_connection_is_durable_patient_and_checks_references() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqlStore::open(&format!("sqlite://{}/adit.db", folder.path().display())).await.unwrap();
        for pool in [&store.read, &store.write] {
            for (setting, value) in [("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30_000)] {
                let row = pool.fetch_one(sqlx::AssertSqlSafe(format!("PRAGMA {setting}"))).await.unwrap();
                assert_eq!(row.get::<i64, _>(0), value, "{setting}");
            }
            let row = pool.fetch_one("PRAGMA journal_mode").await.unwrap();
            assert_eq!(row.get::<String, _>(0), "wal");
        }
    }

    /// A trigger rolls back behind sqlx's back, as SQLite does by itself when the disk is full.
    #[tokio::test]
    async fn a_transaction_that_sqlite_ends_by_itself_leaves_nothing_behind() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqlStore::open(&format!("sqlite://{}/adit.db", folder.path().display())).await.unwrap();
        let collection = NewCollection { slug: "c".into(), name: "C".into(), ..NewCollection::default() };
        let full_disk =
            "CREATE TRIGGER full_disk BEFORE INSERT ON collections BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
        store.write.execute(full_disk).await.unwrap();
        for _ in 0..3 {
            let error = store.begin_import(&collection, 0, 1000).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        }
        store.write.execute("DROP TRIGGER full_disk").await.unwrap();
        store.begin_import(&collection, 0, 1000).await.unwrap();
    }
}
