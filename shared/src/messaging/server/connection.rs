//! One client's socket: a reader that hands frames to the [`Session`] and a writer that sends what comes of them.
//!
//! Both run in one task. Memory stays bounded by back-pressure: the reader waits when answers pile up or the journal is
//! behind, and the queues hand out no more than a window of messages that are not written yet.

mod writer;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::ServerConfig;
use super::door::Peer;
use super::hub::Hub;
use super::session::{self, Accepted, Next, ProtocolError, Reply, Session};
use crate::messaging::frame::{Decoder, Frame, Item, Limits};
use crate::messaging::stream::Stream;
use writer::Writer;

/// How long a client may take to say CONNECT, and one that is refused to read why.
const LOGIN_PATIENCE: Duration = Duration::from_secs(2);

/// What the first frame may hold: 8 KiB in all.
const LOGIN_LIMITS: Limits = Limits { headers: 32, head_bytes: 7 << 10, body_bytes: 1 << 10 };

/// Bytes to read at a time before CONNECTED.
const LOGIN_READ: usize = 1024;

/// How long a client that was logged in may take to take leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Heart-beats are missed when nothing came for so many intervals: networks and schedulers are late at times.
const MISSED: u32 = 3;

/// Bytes to read at a time.
const READ: usize = 16 * 1024;

/// The open transactions of a connection may hold as much as so many of the largest bodies.
const TRANSACTION_BODIES: usize = 4;

/// Answers that may wait for the writer.
const REPLIES: usize = 64;

/// Serves a client until it leaves or is sent away.
pub(super) async fn serve<S: Stream>(stream: S, mut peer: Peer, config: &ServerConfig, hub: Arc<Hub>) {
    let (half, socket) = tokio::io::split(stream);
    let (buffer, decoder) = (BytesMut::new(), Decoder::new(LOGIN_LIMITS));
    let mut reader = Reader { half, buffer, decoder, read: LOGIN_READ, hear_every: None };
    let stranger = peer.stranger.take();
    let letting_in = let_in(&mut reader, socket, &peer, config, || match &stranger {
        Some(stranger) => stranger.take_place().map(Some).ok_or(ProtocolError::TooManyConnections),
        None => Ok(None),
    });
    let admitted = match &stranger {
        Some(waiting) => tokio::select! {
            admitted = letting_in => admitted,
            () = waiting.shown_out() => return tracing::debug!(peer = peer.name, "a newer client took its place"),
        },
        None => letting_in.await,
    };
    let Some((accepted, socket, _place)) = admitted else { return };
    drop(stranger);
    reader.decoder = Decoder::new(config.limits);
    (reader.read, reader.hear_every) = (READ, accepted.hear_every);
    if converse(&mut reader, socket, &peer.name, config, hub, &accepted).await {
        reader.linger(PATIENCE).await;
    }
}

/// Takes a client through the handshake; `None` when it left, said nothing, or was refused.
async fn let_in<S: Stream>(
    reader: &mut Reader<S>,
    socket: WriteHalf<S>,
    peer: &Peer,
    config: &ServerConfig,
    take_place: impl FnOnce() -> Result<Option<OwnedSemaphorePermit>, ProtocolError>,
) -> Option<(Accepted, WriteHalf<S>, Option<OwnedSemaphorePermit>)> {
    let frame = timeout(LOGIN_PATIENCE, reader.next()).await.ok()?;
    let accepted = match frame {
        Ok(frame) => session::accept(&frame?, config, peer.trusted),
        Err(error) => Err(error),
    };
    match accepted.and_then(|accepted| Ok((accepted, take_place()?))) {
        Ok((accepted, place)) => Some((accepted, socket, place)),
        Err(error) => {
            if refuse(socket, &peer.name, &error).await {
                reader.linger(LOGIN_PATIENCE).await;
            }
            None
        }
    }
}

/// Sends the ERROR of a failed handshake; whether that went out.
async fn refuse<S: Stream>(mut socket: WriteHalf<S>, peer: &str, error: &ProtocolError) -> bool {
    tracing::info!(peer, %error, "the broker refused a client");
    let mut out = BytesMut::new();
    error.frame(None).encode(&mut out);
    let farewell = async { socket.write_all(&out).await.is_ok() && socket.shutdown().await.is_ok() };
    timeout(LOGIN_PATIENCE, farewell).await == Ok(true)
}

/// Runs a session; whether it ended with a last frame that the client should get to read.
async fn converse<S: Stream>(
    reader: &mut Reader<S>,
    socket: WriteHalf<S>,
    peer: &str,
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

fn log_lost(peer: &str, written: io::Result<()>) {
    if let Err(error) = written {
        tracing::info!(peer, %error, "the broker lost a client");
    }
}

/// Reads until the client leaves (false: it is gone; true: it said so, or is sent away with an ERROR). The session ends
/// before the last answer goes out, so nothing follows that.
async fn read_frames<S: Stream>(
    reader: &mut Reader<S>,
    mut session: Session,
    replies: mpsc::Sender<Reply>,
    hub: &Hub,
    peer: &str,
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
                tracing::info!(peer, %error, "the broker sends a client away");
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

struct Reader<S> {
    half: ReadHalf<S>,
    buffer: BytesMut,
    decoder: Decoder,
    /// Bytes to read at a time.
    read: usize,
    /// How often the client promised to be heard.
    hear_every: Option<Duration>,
}

impl<S: Stream> Reader<S> {
    /// The next frame; `None` when the client is gone.
    async fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            while let Some(item) = self.decoder.decode(&mut self.buffer)? {
                if let Item::Frame(frame) = item {
                    return Ok(Some(frame));
                }
            }
            self.buffer.reserve(self.read);
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
    async fn linger(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            self.buffer.clear();
            self.buffer.reserve(self.read);
            if !matches!(timeout_at(until, self.half.read_buf(&mut self.buffer)).await, Ok(Ok(1..))) {
                return;
            }
        }
    }
}
