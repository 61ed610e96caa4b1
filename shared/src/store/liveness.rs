//! Asks a database whether it is there, on a connection that nobody else uses: an answer does not
//! wait for those who use the others.

use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, Connection as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// A database that has not answered for so long is away.
pub(super) const AWAY: Duration = Duration::from_secs(5);
/// How long an answer is good for others who ask.
const FRESH: Duration = Duration::from_secs(1);
/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// The connection that is asked on, and the last answer.
#[derive(Debug)]
pub(super) struct Liveness {
    options: AnyConnectOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<AnyConnection>,
    /// When it was known last whether the database is there, and whether it was.
    last: Option<(Instant, bool)>,
    is_closed: bool,
}

impl State {
    /// Asks once, on a new connection where the last one is gone. One that fails, or whose answer
    /// is not awaited, is closed.
    async fn ask(&mut self, options: &AnyConnectOptions) -> Result<(), sqlx::Error> {
        if self.is_closed {
            return Err(sqlx::Error::PoolClosed);
        }
        let answered = match self.connection.take() {
            Some(mut kept) => kept.ping().await.is_ok().then_some(kept),
            None => None,
        };
        self.connection = match answered {
            Some(kept) => Some(kept),
            None => Some(AnyConnection::connect_with(options).await?),
        };
        self.last = Some((Instant::now(), true));
        Ok(())
    }
}

impl Liveness {
    pub(super) fn new(options: AnyConnectOptions) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Gets an answer now. The caller says how long it waits.
    ///
    /// # Errors
    /// The reason for which there is none.
    pub(super) async fn ask(&self) -> Result<(), sqlx::Error> {
        self.state.lock().await.ask(&self.options).await
    }

    /// Tells whether the database is there. One that refuses connections is asked again for
    /// `patience`, one that says nothing has [`AWAY`]. Of many who want to know at once one asks.
    pub(super) async fn is_there(&self, patience: Duration) -> bool {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((at, is_there)) = state.last
            && (at > asked || is_there && at.elapsed() < FRESH)
        {
            return is_there;
        }
        let began = Instant::now();
        let reason = loop {
            match timeout(AWAY, state.ask(&self.options)).await {
                Ok(Ok(())) => return true,
                Ok(Err(_)) if began.elapsed() + PAUSE < patience => sleep(PAUSE).await,
                Ok(Err(error)) => break Some(error),
                Err(_) => break None,
            }
        };
        tracing::warn!(?reason, "the database does not answer");
        state.last = Some((Instant::now(), false));
        false
    }

    /// Closes the connection, for good.
    pub(super) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.is_closed = true;
        if let Some(connection) = state.connection.take() {
            // It is of no use to anybody, however it ends.
            let _ = connection.close().await;
        }
    }
}
