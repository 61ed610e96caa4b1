//! Connections of which there are fewer than calls, and a server that does not answer.

use std::time::{Duration, Instant};

use adit_shared::store::{SqlStore, Store as _, StoreError, StoreResult};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use url::Url;

use super::harness::{Database, on_postgres};

/// Connections of one process to PostgreSQL.
const CONNECTIONS: usize = 16;
/// More calls at once than a process has connections.
const MANY: usize = 120;
/// Longer than the pool waits for a connection.
const LONG: Duration = Duration::from_secs(6);
/// What must come within seconds comes within this.
const BOUND: Duration = Duration::from_secs(30);

fn write(store: &SqlStore) -> JoinHandle<StoreResult<()>> {
    let store = store.clone();
    tokio::spawn(async move { store.reserve_versions(1).await.map(drop) })
}

/// Keeps writers out, as another process may do for a while.
async fn lock_writers(db: &Database) -> AnyConnection {
    let mut holder = AnyConnection::connect(&db.url).await.unwrap();
    let lock = if db.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN; LOCK TABLE counters IN ACCESS EXCLUSIVE MODE" };
    holder.execute(AssertSqlSafe(lock)).await.unwrap();
    holder
}

/// Waits until no connection of this database's users is free.
async fn await_full_pool(db: &Database) {
    if db.is_sqlite() {
        return;
    }
    let connections = i64::try_from(CONNECTIONS).unwrap();
    let mut watcher = AnyConnection::connect(&db.url).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'counters'::regclass";
    while watcher.fetch_one(waiting).await.unwrap().get::<i64, _>(0) < connections {
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn who_writes_waits_while_all_connections_are_in_use(db: Database) {
    let mut holder = lock_writers(&db).await;
    let writers: Vec<_> = (0..MANY).map(|_| write(&db.store)).collect();
    timeout(BOUND, await_full_pool(&db)).await.unwrap();
    let (store, began) = (db.store.clone(), Instant::now());
    let read = tokio::spawn(async move { store.collections().await });
    sleep(LONG).await;
    db.store.ping().await.unwrap();
    assert!(began.elapsed() < BOUND, "who asks whether it is there does not wait for others");
    holder.execute("ROLLBACK").await.unwrap();
    for written in timeout(BOUND, join_all(writers)).await.unwrap() {
        written.unwrap().unwrap();
    }
    read.await.unwrap().unwrap();
}

/// Hands connections on to a server until it is dropped, which cuts them all.
pub(crate) struct Line {
    pub(crate) port: u16,
    pub(crate) server: String,
    is_still: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Line {
    /// A line to the server of that URL, which leads to the line then.
    pub(crate) async fn before(url: &mut Url) -> Self {
        let line = Self::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432)), 0).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(line.port)).unwrap();
        line
    }

    pub(crate) async fn to(server: String, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut tasks, is_still) = (JoinSet::new(), watch::Sender::new(false));
        tasks.spawn(hand_on_all(listener, server.clone(), is_still.clone()));
        Self { port, server, is_still, _tasks: tasks }
    }

    /// Hands nothing on, as a network that has lost its way, or hands everything on again.
    fn keep_still(&self, is_still: bool) {
        self.is_still.send_replace(is_still);
    }
}

async fn hand_on_all(listener: TcpListener, server: String, is_still: watch::Sender<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let far = TcpStream::connect(&server).await.unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        connections.spawn(hand_on(near_read, far_write, is_still.subscribe()));
        connections.spawn(hand_on(far_read, near_write, is_still.subscribe()));
    }
}

async fn hand_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_still: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if is_still.wait_for(|is_still| !is_still).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Asks the database that often at once, and returns the calls.
fn ask(store: &SqlStore, times: usize) -> FuturesUnordered<JoinHandle<StoreResult<()>>> {
    let call = |_| {
        let store = store.clone();
        tokio::spawn(async move { store.collections().await.map(drop) })
    };
    (0..times).map(call).collect()
}

/// Waits until so many calls have failed.
async fn await_failures(calls: &mut FuturesUnordered<JoinHandle<StoreResult<()>>>, failures: usize) {
    for _ in 0..failures {
        let told = timeout(BOUND, calls.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_are_told_soon_that_the_server_is_away() {
    on_postgres(async |db| {
        let mut url: Url = db.url.parse().unwrap();
        let line = Line::before(&mut url).await;
        let (server, port) = (line.server.clone(), line.port);
        let store = SqlStore::open(url.as_str()).await.unwrap();
        store.collections().await.unwrap();

        drop(line);
        await_failures(&mut ask(&store, MANY), MANY).await;
        let line = Line::to(server, port).await;
        store.collections().await.unwrap();

        line.keep_still(true);
        // Those on a connection that is open wait for its answer.
        let mut calls = ask(&store, MANY);
        await_failures(&mut calls, MANY - CONNECTIONS).await;
        line.keep_still(false);
        while calls.next().await.is_some() {}
        store.collections().await.unwrap();
        store.close().await;
    })
    .await;
}
