//! Where clients come in: TCP, a Unix socket, and streams of memory inside the process.
//!
//! A door counts two kinds of connections apart. Those that have not logged in are shown out to
//! make room for newer ones, so that many silent ones shut nobody out; those that have logged in
//! keep their places. Inside there is no door.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hub::Hub;
use super::{ServerConfig, connection};
use crate::messaging::stream::Stream;

/// Bytes that a stream inside the process holds in each direction before the writer waits.
const INSIDE_BUFFER: usize = 64 << 10;
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// What every connection is served with.
pub(super) struct Desk {
    pub(super) config: ServerConfig,
    pub(super) hub: Arc<Hub>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when connections must end.
    pub(super) close: CancellationToken,
}

impl Desk {
    /// Serves a connection in a task of its own until it ends.
    fn serve(self: &Arc<Self>, stream: impl Stream + 'static, peer: Peer) {
        let desk = self.clone();
        let serving = async move { connection::serve(stream, peer, &desk.config, desk.hub.clone()).await };
        self.tasks.spawn(self.close.clone().run_until_cancelled_owned(serving));
    }
}

/// A way into a broker of the same process, without sockets: nobody outside can take the places of
/// those who use it.
#[derive(Clone)]
pub struct InsideBroker(pub(super) Arc<Desk>);

impl InsideBroker {
    /// Opens a stream to the broker.
    ///
    /// # Errors
    /// When the broker has ended.
    pub(crate) fn connect(&self) -> io::Result<DuplexStream> {
        if self.0.close.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the broker inside has ended"));
        }
        let (ours, theirs) = tokio::io::duplex(INSIDE_BUFFER);
        self.0.serve(theirs, Peer { name: "inside".to_owned(), trusted: true, stranger: None });
        Ok(ours)
    }
}

impl fmt::Debug for InsideBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InsideBroker")
    }
}

impl PartialEq for InsideBroker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for InsideBroker {}

/// The other end of a connection.
pub(super) struct Peer {
    /// For the log.
    pub(super) name: String,
    /// The operating system, or the process itself, vouches for it: it shows no passcode.
    pub(super) trusted: bool,
    /// Its place among those that have not logged in; none inside.
    pub(super) stranger: Option<Stranger>,
}

/// A listening socket.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the number of the user who may come, beside root.
    Socket(UnixListener, u32),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Where the client is gone at once, the first read will tell.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), peer.to_string()))
            }
            Self::Socket(listener, owner) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                if user != 0 && user != *owner {
                    let message = format!("user {user} may not use the socket of user {owner}");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
                }
                Ok((Box::new(stream), "socket".to_owned()))
            }
        }
    }

    /// Takes connections for as long as it is polled.
    pub(super) async fn run(self, desk: Arc<Desk>) {
        let door = Arc::new(Door::new(&desk.config));
        let trusted = matches!(self, Self::Socket(..));
        loop {
            match self.accept().await {
                Ok((stream, name)) => desk.serve(stream, Peer { name, trusted, stranger: Some(door.admit()) }),
                Err(error) => {
                    // Out of file descriptors, most likely: others have to close first, and trying
                    // at once would spin.
                    tracing::warn!(%error, "the broker cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// How many are let in by one listener.
struct Door {
    /// Connections that have not logged in, oldest first.
    strangers: Mutex<VecDeque<(u64, CancellationToken)>>,
    max_strangers: usize,
    admitted: AtomicU64,
    places: Arc<Semaphore>,
}

impl Door {
    fn new(config: &ServerConfig) -> Self {
        let places = Arc::new(Semaphore::new(config.max_connections));
        let (strangers, max_strangers) = (Mutex::default(), config.max_strangers.max(1));
        Self { strangers, max_strangers, admitted: AtomicU64::new(0), places }
    }

    fn strangers(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        // Nothing panics while it is held, and the list is sound at any point.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in to log in. Where there are too many, the oldest is shown out: a client
    /// that means to log in has done so long before its turn comes.
    fn admit(self: &Arc<Self>) -> Stranger {
        let (id, shown_out) = (self.admitted.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        let mut strangers = self.strangers();
        strangers.push_back((id, shown_out.clone()));
        if strangers.len() > self.max_strangers
            && let Some((_, oldest)) = strangers.pop_front()
        {
            oldest.cancel();
        }
        drop(strangers);
        Stranger { door: self.clone(), id, shown_out }
    }
}

/// A place among the connections that have not logged in. Dropping it makes room.
pub(super) struct Stranger {
    door: Arc<Door>,
    id: u64,
    shown_out: CancellationToken,
}

impl Stranger {
    /// Waits until it has to leave for a newer one.
    pub(super) async fn shown_out(&self) {
        self.shown_out.cancelled().await;
    }

    /// Takes a place among those that have logged in; `None` when all are taken.
    pub(super) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.door.places.clone().try_acquire_owned().ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.door.strangers();
        // Its place is near the end, if it logs in at once as it should.
        if let Some(at) = strangers.iter().rposition(|(id, _)| *id == self.id) {
            strangers.remove(at);
        }
    }
}
