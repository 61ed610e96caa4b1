//! One STOMP session over one stream: handshake, heart-beats, receipts, and messages sorted by subscription.
//!
//! A task reads and a task writes. When either finds the end, every pending receipt and every subscription fails with
//! the same reason, so nobody waits for an answer that cannot come. Dropping the last handle says DISCONNECT and closes;
//! what was delivered and not acknowledged then goes back to its queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::BrokerError;
use super::transport::Connector;
use crate::messaging::frame::{Command, Decoder, Frame, Item};
use crate::messaging::queues::Flavour;

mod handshake;

use handshake::Handshake;

/// Frames on their way to the writing task; beyond it, senders wait.
const OUTBOX: usize = 256;
/// How brokers say, in lower case, that they serve as many connections as they may.
const OVERLOADS: &[&str] = &[
    "as many connections as it may",
    "connection limit",
    "maximum number of allowed client connections",
    "maximum number of connections",
    "too many connections",
];
/// For the farewell of a connection that is being closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A handle on a session; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    flavour: Flavour,
    opened: Instant,
    receipt_timeout: Duration,
    ids: AtomicU64,
    outbox: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
}

/// What handles and tasks share.
#[derive(Debug)]
struct Shared {
    address: String,
    pending: Mutex<Pending>,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Pending {
    end: Option<BrokerError>,
    receipts: HashMap<String, oneshot::Sender<Result<(), BrokerError>>>,
    subscriptions: HashMap<String, mpsc::UnboundedSender<Frame>>,
}

impl Connection {
    /// Connects and shakes hands.
    pub(super) async fn open(connector: &Connector) -> Result<Self, BrokerError> {
        let config = &connector.config;
        let address = config.address();
        let shaken = timeout(config.connect_timeout, handshake::open(connector)).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {:?}", config.connect_timeout);
            Err(BrokerError::Unreachable { address: address.clone(), reason })
        })?;
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let (pending, ended) = (Mutex::default(), CancellationToken::new());
        let shared = Arc::new(Shared { address, pending, ended });
        let Handshake { stream, decoder, buffer, flavour, beat, patience } = shaken;
        let (reading, writing) = tokio::io::split(stream);
        tokio::spawn(read(reading, decoder, buffer, shared.clone(), patience));
        tokio::spawn(write(writing, frames, shared.clone(), beat, config.receipt_timeout));
        tracing::debug!(address = %shared.address, ?flavour, "connected to the broker");
        let (opened, receipt_timeout, ids) = (Instant::now(), config.receipt_timeout, AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { flavour, opened, receipt_timeout, ids, outbox, shared })))
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.0.flavour
    }

    pub(super) fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }

    pub(super) fn is_usable(&self, oldest: Duration) -> bool {
        !self.0.shared.ended.is_cancelled() && self.age() < oldest
    }

    /// Ends the session, whoever else holds a handle.
    pub(super) fn close(&self) {
        self.0.shared.end(self.0.shared.lost("closed on our side"));
    }

    /// Hands a frame to the writing task.
    pub(super) async fn send(&self, frame: Frame) -> Result<(), BrokerError> {
        self.0.outbox.send(frame).await.map_err(|_| self.0.shared.reason())
    }

    /// Sends a frame and waits for its receipt. When none comes in time the connection is closed: it is not known what
    /// the broker did, and whatever follows on this connection would not be either.
    pub(super) async fn request(&self, frame: Frame) -> Result<(), BrokerError> {
        let shared = &self.0.shared;
        let id = self.next_id();
        let (sender, receipt) = oneshot::channel();
        shared.register(|pending| pending.receipts.insert(id.clone(), sender))?;
        let what = format!("{} {}", frame.command, frame.headers.get("destination").unwrap_or_default());
        let answer = async {
            self.send(frame.header("receipt", id)).await?;
            receipt.await.unwrap_or_else(|_| Err(shared.reason()))
        };
        let waited = self.0.receipt_timeout;
        timeout(waited, answer).await.unwrap_or_else(|_| {
            let (address, what) = (shared.address.clone(), what.trim_end().to_owned());
            let error = BrokerError::NoReceipt { address, what, waited };
            shared.end(error.clone());
            Err(error)
        })
    }

    /// A subscription's id and mailbox. It exists before the broker hears of it, so that nothing waiting is missed;
    /// [`Subscription::frame`] is what to send.
    pub(super) fn subscription(&self) -> Result<Subscription, BrokerError> {
        let (sender, frames) = mpsc::unbounded_channel();
        let id = self.next_id();
        self.0.shared.register(|pending| pending.subscriptions.insert(id.clone(), sender))?;
        Ok(Subscription { id, frames, shared: self.0.shared.clone(), flavour: self.0.flavour })
    }

    fn next_id(&self) -> String {
        self.0.ids.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// The messages of one subscription. At most the prefetch of its SUBSCRIBE wait in it.
#[derive(Debug)]
pub(super) struct Subscription {
    id: String,
    frames: mpsc::UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
    flavour: Flavour,
}

impl Subscription {
    /// SUBSCRIBE with acknowledgement of that kind.
    pub(super) fn frame(&self, destination: &str, ack: &str, prefetch: u32) -> Frame {
        Frame::new(Command::Subscribe)
            .header("id", &self.id)
            .header("destination", destination)
            .header("ack", ack)
            .header(self.flavour.prefetch_header(), prefetch)
    }

    /// UNSUBSCRIBE.
    pub(super) fn end_frame(&self) -> Frame {
        Frame::new(Command::Unsubscribe).header("id", &self.id)
    }

    /// The next MESSAGE. Those of an ended connection are not worth reading: they cannot be acknowledged.
    pub(super) async fn next(&mut self) -> Result<Frame, BrokerError> {
        tokio::select! {
            biased;
            () = self.shared.ended.cancelled() => Err(self.shared.reason()),
            frame = self.frames.recv() => frame.ok_or_else(|| self.shared.reason()),
        }
    }

    /// Whether messages wait in the mailbox.
    pub(super) fn has_more(&self) -> bool {
        !self.frames.is_empty()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.pending().subscriptions.remove(&self.id);
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing panics while it is held, and its maps are sound at any point.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: impl ToString) -> BrokerError {
        BrokerError::Lost { address: self.address.clone(), reason: reason.to_string() }
    }

    fn reason(&self) -> BrokerError {
        self.pending().end.clone().unwrap_or_else(|| self.lost("closed on our side"))
    }

    /// Enters something that waits for the broker, unless the connection has ended.
    fn register<T>(&self, enter: impl FnOnce(&mut Pending) -> T) -> Result<(), BrokerError> {
        let mut pending = self.pending();
        if let Some(end) = &pending.end {
            return Err(end.clone());
        }
        enter(&mut pending);
        Ok(())
    }

    /// Fails everything that waits. The first reason stays.
    fn end(&self, reason: BrokerError) {
        let mut pending = self.pending();
        if pending.end.is_none() {
            tracing::debug!(%reason, "the broker connection ends");
            for (_, receipt) in pending.receipts.drain() {
                let _ = receipt.send(Err(reason.clone()));
            }
            pending.subscriptions.clear();
            pending.end = Some(reason);
            self.ended.cancel();
        }
    }

    /// Hands a frame to whoever waits for it.
    fn route(&self, frame: Frame) -> Result<(), BrokerError> {
        match frame.command {
            Command::Message => {
                let id = frame.headers.get("subscription").unwrap_or_default();
                let mailbox = self.pending().subscriptions.get(id).cloned();
                // The broker counts it as ours although nobody here reads it: closing gives it back.
                let stray = || self.lost("a message came for a subscription that has ended");
                mailbox.ok_or_else(stray)?.send(frame).map_err(|_| stray())
            }
            Command::Receipt => {
                let receipt = frame.headers.get("receipt-id").and_then(|id| self.pending().receipts.remove(id));
                // Whoever gave up waiting has dropped the other end.
                let _ = receipt.map(|receipt| receipt.send(Ok(())));
                Ok(())
            }
            Command::Error => {
                let message = error_text(&frame);
                if is_overload(&message) {
                    return Err(self.lost(message));
                }
                Err(BrokerError::Refused { address: self.address.clone(), message })
            }
            other => Err(self.lost(format!("the broker sent {other}, which a client does not expect"))),
        }
    }
}

/// What an ERROR frame says, as far as 500 characters.
fn error_text(frame: &Frame) -> String {
    let (summary, detail) = (frame.headers.get("message").unwrap_or_default(), String::from_utf8_lossy(&frame.body));
    let mut parts = vec![summary.trim(), detail.trim()];
    parts.retain(|part| !part.is_empty());
    // Some say the same twice.
    parts.dedup();
    parts.join(": ").chars().take(500).collect()
}

/// Tells an ERROR by which the broker says that it has too much to do: it is away then, and that is
/// no judgement on what was asked. RabbitMQ 3.10 says of a user or virtual host with as many
/// connections as it may have only that access to the virtual host is denied; so that is taken for
/// one, too, although a virtual host that is not there is answered in the same words.
fn is_overload(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    OVERLOADS.iter().any(|words| message.contains(words))
        || (message.contains("virtual host '") && message.contains("' access denied"))
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut decoder: Decoder,
    mut buffer: BytesMut,
    shared: Arc<Shared>,
    patience: Option<Duration>,
) {
    let reading = async {
        loop {
            while let Some(item) = decoder.decode(&mut buffer).map_err(|error| shared.lost(error))? {
                if let Item::Frame(frame) = item {
                    shared.route(frame)?;
                }
            }
            buffer.reserve(8 << 10);
            let read = async { stream.read_buf(&mut buffer).await.map_err(|error| shared.lost(error)) };
            let count = match patience {
                Some(patience) => timeout(patience, read)
                    .await
                    .unwrap_or_else(|_| Err(shared.lost(format!("the broker sent no heart-beat for {patience:?}"))))?,
                None => read.await?,
            };
            if count == 0 {
                return Err::<(), _>(shared.lost("the broker closed it"));
            }
        }
    };
    tokio::select! {
        () = shared.ended.cancelled() => {}
        result = reading => if let Err(reason) = result {
            shared.end(reason);
        },
    }
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    shared: Arc<Shared>,
    beat: Option<Duration>,
    patience: Duration,
) {
    let (mut batch, mut out) = (Vec::new(), BytesMut::new());
    loop {
        let idle = async {
            match beat {
                Some(beat) => sleep(beat).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => break,
            count = frames.recv_many(&mut batch, OUTBOX) => match count {
                0 => break,
                _ => batch.drain(..).for_each(|frame| frame.encode(&mut out)),
            },
            () = idle => out.put_u8(b'\n'),
        }
        match timeout(patience, stream.write_all_buf(&mut out)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return shared.end(shared.lost(error)),
            Err(_) => return shared.end(shared.lost(format!("the broker took no bytes for {patience:?}"))),
        }
        if let Err(error) = stream.flush().await {
            return shared.end(shared.lost(error));
        }
    }
    shared.end(shared.lost("closed on our side"));
    Frame::new(Command::Disconnect).encode(&mut out);
    // A courtesy that keeps the broker's log clean; the stream closes in any case.
    let _ = timeout(FAREWELL, async {
        stream.write_all_buf(&mut out).await?;
        stream.shutdown().await
    })
    .await;
}
