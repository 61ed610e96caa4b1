//! One client's socket: a reader that hands frames to the [`Session`] and a writer that sends what comes of them.
//!
//! Both run in one task. Memory stays bounded by back-pressure: the reader waits when answers pile up or the journal is
//! behind, and the queues hand out no more than a window of messages that are not written yet.

mod writer;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::ServerConfig;
use super::hub::Hub;
use super::session::{self, Accepted, Next, ProtocolError, Reply, Session};
use crate::messaging::frame::{Decoder, Frame, Item};
use writer::Writer;

/// How long a client may take to say CONNECT, and to take leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Heart-beats are missed when nothing came for so many intervals: networks and schedulers are late at times.
const MISSED: u32 = 3;

/// Bytes to read at a time.
const READ: usize = 16 * 1024;

/// The open transactions of a connection may hold as much as so many of the largest bodies.
const TRANSACTION_BODIES: usize = 4;

/// Answers that may wait for the writer.
const REPLIES: usize = 64;

/// Serves a client until it leaves or is sent away. `admitted` is false when there are too many.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, config: &ServerConfig, hub: Arc<Hub>, admitted: bool) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a client of the broker was gone at once");
        return;
    }
    let (half, socket) = stream.into_split();
    let mut reader = Reader { half, buffer: BytesMut::new(), decoder: Decoder::new(config.limits), hear_every: None };
    let accepted = match admitted {
        true => handshake(&mut reader, config).await,
        false => Some(Err(ProtocolError::TooManyConnections)),
    };
    let stays_to_read = match accepted {
        None => false,
        Some(Err(error)) => refuse(socket, peer, &error).await,
        Some(Ok(accepted)) => {
            reader.hear_every = accepted.hear_every;
            converse(&mut reader, socket, peer, config, hub, &accepted).await
        }
    };
    if stays_to_read {
        reader.linger().await;
    }
}

/// Sends the ERROR of a failed handshake; whether that went out.
async fn refuse(mut socket: OwnedWriteHalf, peer: SocketAddr, error: &ProtocolError) -> bool {
    tracing::info!(%peer, %error, "the broker refused a client");
    let mut out = BytesMut::new();
    error.frame(None).encode(&mut out);
    let farewell = async { socket.write_all(&out).await.is_ok() && socket.shutdown().await.is_ok() };
    timeout(PATIENCE, farewell).await == Ok(true)
}

/// Runs a session; whether it ended with a last frame that the client should get to read.
async fn converse(
    reader: &mut Reader,
    socket: OwnedWriteHalf,
    peer: SocketAddr,
    config: &ServerConfig,
    hub: Arc<Hub>,
    accepted: &Accepted,
) -> bool {
    let max_transaction_bytes = config.limits.body_bytes.saturating_mul(TRANSACTION_BODIES);
    let (session, id, waker) = Session::new(hub.clone(), accepted.version, max_transaction_bytes);
    let (replies, queued) = mpsc::channel(REPLIES);
    let mut writer = Writer::new(socket, hub.clone(), id, waker, queued, accepted.send_every);
    writer.greet(&accepted.connected);
    let mut writing = pin!(writer.run());
    let said_goodbye = tokio::select! {
        said_goodbye = read_frames(reader, session, replies, &hub, peer) => said_goodbye,
        written = &mut writing => {
            log_lost(peer, written);
            return false;
        }
    };
    matches!(timeout(PATIENCE, writing).await, Ok(Ok(()))) && said_goodbye
}

fn log_lost(peer: SocketAddr, written: io::Result<()>) {
    if let Err(error) = written {
        tracing::info!(%peer, %error, "the broker lost a client");
    }
}

/// Waits for CONNECT and answers it; `None` when the client left, or said nothing.
async fn handshake(reader: &mut Reader, config: &ServerConfig) -> Option<Result<Accepted, ProtocolError>> {
    let frame = timeout(PATIENCE, reader.next()).await.ok()?;
    match frame {
        Ok(frame) => Some(session::accept(&frame?, config)),
        Err(error) => Some(Err(error)),
    }
}

/// Reads until the client leaves (false: it is gone; true: it said so, or is sent away with an ERROR). The session ends
/// before the last answer goes out, so nothing follows that.
async fn read_frames(
    reader: &mut Reader,
    mut session: Session,
    replies: mpsc::Sender<Reply>,
    hub: &Hub,
    peer: SocketAddr,
) -> bool {
    let mut out = Vec::new();
    loop {
        let (receipt, handled) = match reader.next().await {
            Ok(None) => return false,
            Ok(Some(frame)) => {
                let receipt = frame.headers.get("receipt").map(str::to_owned);
                (receipt, session.handle(frame, &mut out))
            }
            Err(error) => (None, Err(error)),
        };
        match handled {
            Ok(Next::Continue) => {}
            Ok(Next::Close) => break,
            Err(error) => {
                tracing::info!(%peer, %error, "the broker sends a client away");
                out.push(Reply { frame: error.frame(receipt.as_deref()), after: 0 });
                break;
            }
        }
        if !answer(&replies, &mut out).await {
            return false;
        }
        if let Some(journal) = &hub.journal {
            journal.room().await;
        }
    }
    drop(session);
    answer(&replies, &mut out).await
}

/// Hands answers to the writer; false when that has ended.
async fn answer(replies: &mpsc::Sender<Reply>, out: &mut Vec<Reply>) -> bool {
    for reply in out.drain(..) {
        if replies.send(reply).await.is_err() {
            return false;
        }
    }
    true
}

struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
    decoder: Decoder,
    /// How often the client promised to be heard.
    hear_every: Option<Duration>,
}

impl Reader {
    /// The next frame; `None` when the client is gone.
    async fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            while let Some(item) = self.decoder.decode(&mut self.buffer)? {
                if let Item::Frame(frame) = item {
                    return Ok(Some(frame));
                }
            }
            self.buffer.reserve(READ);
            let read = self.half.read_buf(&mut self.buffer);
            let read = match self.hear_every.map(|interval| interval.saturating_mul(MISSED)) {
                Some(limit) => timeout(limit, read).await.map_err(|_| ProtocolError::Silence(limit.as_millis()))?,
                None => read.await,
            };
            if !matches!(read, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    /// Reads and forgets until the client closes: closing first, with its bytes unread, would reset the connection and
    /// could take the ERROR frame with it.
    async fn linger(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ);
            if !matches!(timeout_at(until, self.half.read_buf(&mut self.buffer)).await, Ok(Ok(1..))) {
                return;
            }
        }
    }
}
