//! Gives statements their turns on the connections of a pool, and tells a database that is away
//! from one whose connections are all in use.
//!
//! A pool has one limit of time for both: under load it would say that the database is away. So who
//! wants a connection first waits for its turn, for as long as the database answers others. The
//! limit of the pool is then left for a connection to be made.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Describe, Either, Execute, Executor, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::liveness::{AWAY, Liveness};

/// Time in line after which the database is asked whether it is there.
const UNSUSPICIOUS: Duration = Duration::from_secs(2);

/// Connections that are lent in the order in which they were asked for. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pool: AnyPool,
    turns: Arc<Semaphore>,
    liveness: Arc<Liveness>,
}

impl Connections {
    /// Lends the connections of a pool. That one of them cannot be made in time counts only if the
    /// database does not answer on a connection of its own either.
    pub(super) fn new(pool: AnyPool, liveness: Arc<Liveness>) -> Self {
        let turns = usize::try_from(pool.options().get_max_connections()).unwrap_or(1);
        Self { pool, turns: Arc::new(Semaphore::new(turns)), liveness }
    }

    /// Begins a transaction by that statement.
    pub(super) async fn begin(&self, statement: &'static str) -> Result<Transaction, sqlx::Error> {
        let (inner, turn) = self.take(|| self.pool.begin_with(statement)).await?;
        Ok(Transaction { inner, _turn: turn })
    }

    /// Closes all connections, after what they are doing.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn acquire(&self) -> Result<LentConnection, sqlx::Error> {
        let (connection, turn) = self.take(|| self.pool.acquire()).await?;
        Ok(LentConnection { connection, _turn: turn })
    }

    /// Waits for a turn and takes a connection from the pool.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] only where the database does not answer.
    async fn take<T, F>(&self, take: impl Fn() -> F + Send) -> Result<(T, OwnedSemaphorePermit), sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let turn = self.wait_for_turn().await?;
        loop {
            match take().await {
                // The server takes no more connections, or one that comes back is still at work: what
                // was asked by a client that went away goes on to its end.
                Err(sqlx::Error::PoolTimedOut) if self.liveness.is_there(Duration::ZERO).await => {}
                taken => return Ok((taken?, turn)),
            }
        }
    }

    async fn wait_for_turn(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let mut waiting = pin!(self.turns.clone().acquire_owned());
        loop {
            if let Ok(turn) = timeout(UNSUSPICIOUS, &mut waiting).await {
                return turn.map_err(|_| sqlx::Error::PoolClosed);
            }
            if !self.liveness.is_there(AWAY).await {
                return Err(sqlx::Error::PoolTimedOut);
            }
        }
    }
}

impl<'p> Executor<'p> for &'_ Connections {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let connections = self.clone();
        let found = try_stream! {
            let mut connection = connections.acquire().await?;
            let mut found = connection.fetch_many(query);
            while let Some(step) = found.try_next().await? {
                yield step;
            }
        };
        found.boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let connections = self.clone();
        async move { connections.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        async move { connections.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Any>, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        async move { connections.acquire().await?.describe(sql).await }.boxed()
    }
}

/// A connection and the turn on it.
#[derive(Debug)]
struct LentConnection {
    connection: PoolConnection<Any>,
    _turn: OwnedSemaphorePermit,
}

impl Deref for LentConnection {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for LentConnection {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

/// A transaction and the turn on its connection; dropping it rolls it back.
#[derive(Debug)]
pub(super) struct Transaction {
    inner: sqlx::Transaction<'static, Any>,
    _turn: OwnedSemaphorePermit,
}

impl Transaction {
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.inner.commit().await
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.inner.rollback().await
    }
}

impl Deref for Transaction {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.inner
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}
