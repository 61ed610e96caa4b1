//! The STOMP 1.2 broker that lives inside `adit up`: queues with acknowledgement, prefetch, expiry and a journal.
//!
//! A connection is read and written by [`connection`]; what its frames mean is in [`session`]; all connections meet in
//! [`hub`], which guards the rules ([`state`]) and hands what must survive a restart to [`journal`]. Topics, virtual hosts,
//! selectors and clustering are left to the brokers of production.

mod connection;
mod door;
mod hub;
mod journal;
mod message;
mod session;
mod state;

pub use door::InsideBroker;
pub(crate) use session::QUEUES as LISTING;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::frame::Limits;
use super::stream::SocketFile;
use crate::clock::{Clock, SystemClock};
use door::{Desk, Listener};
use hub::Hub;
use journal::Journal;
pub use journal::{JournalError, find_journal_damage, repair_journal};
use message::Stored;
use state::Rules;

/// How the broker is set up. Start from [`ServerConfig::default`].
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen on TCP, if at all; port 0 takes a free one ([`BrokerServer::addr`] tells
    /// which).
    pub listen: Option<SocketAddr>,
    /// Path of a Unix socket to listen on, if any. Its file has mode 0600, and is for its owner and
    /// root alone.
    pub socket: Option<PathBuf>,
    /// Login and passcode that every client of TCP must show.
    pub credentials: Option<(String, String)>,
    /// Folder of the journal; without one, no message survives a restart.
    pub journal: Option<PathBuf>,
    /// How long a queue lives without consumer or use, if its name starts with `expiring_prefix` or it is empty.
    pub queue_expiry: Duration,
    /// Queues whose name (without `/queue/`) starts so vanish with the messages in them.
    pub expiring_prefix: String,
    /// The heart-beat interval offered to clients; zero for none.
    pub heart_beat: Duration,
    /// What one frame may hold.
    pub limits: Limits,
    /// Connections at a time on each listener that have logged in.
    pub max_connections: usize,
    /// Connections at a time on each listener that have not: the oldest leaves for a newer one.
    pub max_strangers: usize,
    /// Bytes of messages in all queues together; beyond it, SEND is refused.
    pub max_bytes: usize,
}

impl Default for ServerConfig {
    /// A free loopback port, no credentials, no journal, expiry of `package/` queues after 24 h,
    /// 1,000 connections and 64 that have not logged in, 256 MiB of messages.
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            socket: None,
            credentials: None,
            journal: None,
            queue_expiry: Duration::from_secs(24 * 3600),
            expiring_prefix: "package/".to_owned(),
            heart_beat: Duration::from_secs(10),
            limits: Limits::default(),
            max_connections: 1000,
            max_strangers: 64,
            max_bytes: 256 << 20,
        }
    }
}

/// What an operator sees of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// Its name, without `/queue/`.
    pub name: String,
    /// Messages waiting for a consumer.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub unacknowledged: u64,
    /// Subscriptions.
    pub consumers: u64,
    /// Headers and bodies of all its messages.
    pub bytes: u64,
}

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken or not ours.
    #[error("the broker cannot listen on {address}: {source}")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("the broker cannot listen on the socket {}: {source}", path.display())]
    Socket {
        /// The path of the configuration.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A running broker. Dropping it ends its connections and flushes the journal in the background;
/// [`BrokerServer::shutdown`] waits for that.
#[derive(Debug)]
pub struct BrokerServer {
    addr: Option<SocketAddr>,
    socket: Option<SocketFile>,
    inside: InsideBroker,
    hub: Arc<Hub>,
    tasks: TaskTracker,
    stop_accepting: DropGuard,
    close_connections: DropGuard,
}

impl BrokerServer {
    /// Opens the journal and listens.
    ///
    /// # Errors
    /// [`ServerError`] when the journal or the address cannot be used.
    pub async fn start(config: ServerConfig) -> Result<Self, ServerError> {
        Self::start_with_clock(config, Arc::new(SystemClock)).await
    }

    /// [`BrokerServer::start`] with another clock for the expiry of messages and queues.
    ///
    /// # Errors
    /// [`ServerError`] when the journal or the address cannot be used.
    pub async fn start_with_clock(config: ServerConfig, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        let (listeners, addr, socket) = listen(&config).await?;
        let (journal, kept) = match config.journal.clone() {
            Some(folder) => open_journal(folder).await.map(|(journal, kept)| (Some(journal), kept))?,
            None => (None, Vec::new()),
        };
        let rules = Rules {
            max_bytes: config.max_bytes,
            queue_expiry: i64::try_from(config.queue_expiry.as_millis()).unwrap_or(i64::MAX),
            expiring_prefix: config.expiring_prefix.clone(),
        };
        let hub = Arc::new(Hub::new(rules, clock, journal, kept));
        let (tasks, stop_accepting, close) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let desk = Arc::new(Desk { config, hub: hub.clone(), tasks: tasks.clone(), close: close.clone() });
        for listener in listeners {
            tasks.spawn(stop_accepting.clone().run_until_cancelled_owned(listener.run(desk.clone())));
        }
        let timer = hub.clone();
        tasks.spawn(close.clone().run_until_cancelled_owned(async move { timer.run_timer().await }));
        let mender = hub.clone();
        tasks.spawn(close.clone().run_until_cancelled_owned(async move { mender.run_recovery().await }));
        let (stop_accepting, close_connections) = (stop_accepting.drop_guard(), close.drop_guard());
        Ok(Self { addr, socket, inside: InsideBroker(desk), hub, tasks, stop_accepting, close_connections })
    }

    /// The TCP address that it listens on, if it does.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// The way in for the process itself.
    #[must_use]
    pub fn inside(&self) -> InsideBroker {
        self.inside.clone()
    }

    /// The queues by name. Looking does not count as use.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueInfo> {
        self.hub.with(|state, _| state.queues()).0
    }

    /// Stops accepting, then closes the connections (what they hold unacknowledged goes back to the queues), then flushes
    /// the journal.
    pub async fn shutdown(self) {
        drop(self.socket);
        drop(self.stop_accepting);
        drop(self.close_connections);
        self.tasks.close();
        self.tasks.wait().await;
        let hub = self.hub;
        // The last try for what only memory has.
        hub.rewrite_failed_journal();
        let closed = tokio::task::spawn_blocking(move || hub.journal.as_ref().map(Journal::close)).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the broker's journal was not closed in order");
        }
    }
}

async fn open_journal(folder: PathBuf) -> Result<(Journal, Vec<Stored>), JournalError> {
    let path = folder.clone();
    let opened = tokio::task::spawn_blocking(move || Journal::open(&folder)).await;
    opened.map_err(|panic| JournalError::Io { path, source: panic.into() })?
}

/// Opens the listeners that the configuration names.
async fn listen(config: &ServerConfig) -> Result<(Vec<Listener>, Option<SocketAddr>, Option<SocketFile>), ServerError> {
    let (mut listeners, mut addr, mut socket) = (Vec::new(), None, None);
    if let Some(address) = config.listen {
        let failed = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        addr = Some(listener.local_addr().map_err(failed)?);
        listeners.push(Listener::Tcp(listener));
    }
    if let Some(path) = &config.socket {
        let failed = |source| ServerError::Socket { path: path.clone(), source };
        let (listener, file) = SocketFile::bind(path).map_err(failed)?;
        listeners.push(Listener::Socket(listener, file.owner));
        socket = Some(file);
    }
    Ok((listeners, addr, socket))
}

#[cfg(test)]
mod tests;
