//! What a client's frames mean: the handshake, then one frame after the other against the shared queues.
//!
//! No input or output: frames come in, answers come out with the journal record that each has to wait for.

mod handshake;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::hub::Hub;
use super::message::{AckMode, Delivery, Fate, Message, Refusal, Step};
use super::state::ConnectionId;
use crate::messaging::frame::{Command, Frame, FrameError, Headers};
pub(super) use handshake::{Accepted, Version, accept};

/// Subscribing to it gives one message: the queues as JSON.
const QUEUES: &str = "/broker/queues";

/// Bytes of a queue's name.
const MAX_NAME: usize = 255;

/// Headers of SEND that are for the broker, and those of MESSAGE that only the broker may set.
const NOT_FORWARDED: &[&str] =
    &["destination", "receipt", "transaction", "subscription", "message-id", "ack", "redelivered", "delivery-count"];

/// Why the connection ends with an ERROR frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error("{0} frame: a connection begins with CONNECT or STOMP, and only there")]
    Handshake(Command),
    #[error("this broker speaks STOMP 1.2 and 1.1, the client {0:?}: send accept-version:1.2")]
    Version(String),
    #[error("login or passcode is wrong")]
    Credentials,
    #[error("{0} is a frame for servers to send")]
    NotForClients(Command),
    #[error("{command} frame: header {name:?} is missing")]
    Missing { command: Command, name: &'static str },
    #[error("header {name:?} is {value:?}: it must be {must}")]
    Header { name: &'static str, value: String, must: &'static str },
    #[error("{0:?} is no destination here: use /queue/<name>, with a name of 1 to {MAX_NAME} bytes")]
    Destination(String),
    #[error("selectors are not supported: subscribe without the header \"selector\"")]
    Selector,
    #[error("transaction {0:?} is open already: COMMIT or ABORT it first")]
    TransactionOpen(String),
    #[error("transaction {0:?} is not open: BEGIN it first")]
    NoTransaction(String),
    #[error("the open transactions of a connection may hold {0} bytes: COMMIT more often")]
    TransactionTooLarge(usize),
    #[error("this broker cannot keep persistent messages: {0}")]
    Journal(Arc<str>),
    #[error("nothing was heard for {0} ms, although heart-beats were agreed")]
    Silence(u128),
    #[error("the broker serves as many connections as it may: close some, or raise its limit")]
    TooManyConnections,
}

impl ProtocolError {
    /// The frame to end the connection with; `receipt` is the id that the offending frame asked a receipt for.
    pub(super) fn frame(&self, receipt: Option<&str>) -> Frame {
        let mut frame = Frame::new(Command::Error).header("message", self);
        if let Some(receipt) = receipt {
            frame = frame.header("receipt-id", receipt);
        }
        if let Self::Version(_) = self {
            frame = frame.header("version", "1.1,1.2");
        }
        frame.header("content-type", "text/plain").body(format!("{self}\n"))
    }
}

/// A frame for the client, to be sent when the journal has come to record `after`.
#[derive(Debug)]
pub(super) struct Reply {
    pub frame: Frame,
    pub after: u64,
}

/// Whether the client said goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Close,
}

#[derive(Debug)]
struct Transaction {
    steps: Vec<Step>,
    bytes: usize,
}

/// A connected client. Dropping it gives back what it holds.
#[derive(Debug)]
pub(super) struct Session {
    hub: Arc<Hub>,
    id: ConnectionId,
    version: Version,
    transactions: HashMap<String, Transaction>,
    /// Bytes of all open transactions, and how many they may be.
    transaction_bytes: usize,
    max_transaction_bytes: usize,
    /// Subscriptions to [`QUEUES`].
    monitors: Vec<String>,
    /// The last journal record with something of this client in it. A receipt confirms all that came before it, too.
    record: u64,
}

impl Session {
    /// A session and what wakes its writer; open transactions may hold `max_transaction_bytes`.
    pub(super) fn new(
        hub: Arc<Hub>,
        version: Version,
        max_transaction_bytes: usize,
    ) -> (Self, ConnectionId, Arc<Notify>) {
        let (id, waker) = hub.connect();
        let (transactions, monitors) = (HashMap::new(), Vec::new());
        let transaction_bytes = 0;
        let session =
            Self { hub, id, version, transactions, transaction_bytes, max_transaction_bytes, monitors, record: 0 };
        (session, id, waker)
    }

    /// Does what a frame asks; answers go to `replies`.
    pub(super) fn handle(&mut self, frame: Frame, replies: &mut Vec<Reply>) -> Result<Next, ProtocolError> {
        let receipt = frame.headers.get("receipt").map(str::to_owned);
        let next = if frame.command == Command::Disconnect { Next::Close } else { Next::Continue };
        match frame.command {
            Command::Send => self.send(frame)?,
            Command::Subscribe => replies.extend(self.subscribe(&frame)?),
            Command::Unsubscribe => self.unsubscribe(required(&frame, "id")?)?,
            Command::Ack => self.settle(&frame, Fate::Done)?,
            Command::Nack => self.settle(&frame, nack_fate(&frame.headers)?)?,
            Command::Begin => self.begin(required(&frame, "transaction")?)?,
            Command::Commit => {
                let steps = self.end_transaction(required(&frame, "transaction")?)?;
                self.apply(steps)?;
            }
            Command::Abort => drop(self.end_transaction(required(&frame, "transaction")?)?),
            Command::Disconnect => {}
            Command::Connect | Command::Stomp => return Err(ProtocolError::Handshake(frame.command)),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                return Err(ProtocolError::NotForClients(frame.command));
            }
        }
        if let Some(receipt) = receipt {
            let frame = Frame::new(Command::Receipt).header("receipt-id", receipt);
            replies.push(Reply { frame, after: self.record });
        }
        Ok(next)
    }

    fn send(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        let queue = queue_name(required(&frame, "destination")?)?.to_owned();
        let transaction = frame.headers.get("transaction").map(str::to_owned);
        let persistent = frame.headers.get("persistent") == Some("true");
        let failure = self.hub.journal.as_ref().filter(|_| persistent).and_then(|journal| journal.failure());
        if let Some(why) = failure {
            return Err(ProtocolError::Journal(why));
        }
        let expires = expiry(&frame.headers, self.hub.now_ms())?;
        let mut headers = frame.headers.0;
        headers.retain(|(name, _)| !NOT_FORWARDED.contains(&name.as_str()));
        headers.shrink_to_fit();
        // A copy: the frame's body is a slice of the read buffer and would keep all of that alive while it is queued.
        let body = Bytes::copy_from_slice(&frame.body);
        let message = Message { headers, body, persistent, expires };
        let cost = message.cost();
        self.step(transaction, Step::Send { queue, message }, cost)
    }

    fn settle(&mut self, frame: &Frame, fate: Fate) -> Result<(), ProtocolError> {
        let ack = match self.version {
            Version::V1_2 => required(frame, "id")?.parse()?,
            Version::V1_1 => {
                let (subscription, message) = (required(frame, "subscription")?, required(frame, "message-id")?);
                self.hub.with(|state, _| state.find_delivery(self.id, subscription, message)).0?
            }
        };
        let transaction = frame.headers.get("transaction").map(str::to_owned);
        self.step(transaction, Step::Settle { ack, fate }, size_of::<Step>())
    }

    /// Does a step now, or with its transaction.
    fn step(&mut self, transaction: Option<String>, step: Step, cost: usize) -> Result<(), ProtocolError> {
        let Some(name) = transaction else { return self.apply(vec![step]) };
        let transaction = self.transactions.get_mut(&name).ok_or(ProtocolError::NoTransaction(name))?;
        transaction.steps.push(step);
        transaction.bytes += cost;
        self.charge(cost)
    }

    fn charge(&mut self, cost: usize) -> Result<(), ProtocolError> {
        self.transaction_bytes += cost;
        let limit = self.max_transaction_bytes;
        if self.transaction_bytes > limit { Err(ProtocolError::TransactionTooLarge(limit)) } else { Ok(()) }
    }

    fn apply(&mut self, steps: Vec<Step>) -> Result<(), ProtocolError> {
        let (applied, record) = self.hub.with(|state, now| state.apply(now, self.id, steps));
        self.record = self.record.max(record);
        Ok(applied?)
    }

    fn begin(&mut self, name: &str) -> Result<(), ProtocolError> {
        if self.transactions.contains_key(name) {
            return Err(ProtocolError::TransactionOpen(name.to_owned()));
        }
        let bytes = name.len() + size_of::<Transaction>();
        self.transactions.insert(name.to_owned(), Transaction { steps: Vec::new(), bytes });
        self.charge(bytes)
    }

    fn end_transaction(&mut self, name: &str) -> Result<Vec<Step>, ProtocolError> {
        let transaction =
            self.transactions.remove(name).ok_or_else(|| ProtocolError::NoTransaction(name.to_owned()))?;
        self.transaction_bytes -= transaction.bytes;
        Ok(transaction.steps)
    }

    fn subscribe(&mut self, frame: &Frame) -> Result<Option<Reply>, ProtocolError> {
        let (id, destination) = (required(frame, "id")?, required(frame, "destination")?);
        if frame.headers.get("selector").is_some() {
            return Err(ProtocolError::Selector);
        }
        if self.monitors.iter().any(|monitor| monitor == id) {
            return Err(Refusal::SubscriptionExists(id.to_owned()).into());
        }
        if destination == QUEUES {
            self.monitors.push(id.to_owned());
            return Ok(Some(self.queues(id)));
        }
        let queue = queue_name(destination)?;
        let mode = match frame.headers.get("ack") {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Cumulative,
            Some("client-individual") => AckMode::Individual,
            Some(other) => return Err(invalid("ack", other, "auto, client or client-individual")),
        };
        let prefetch = prefetch(&frame.headers)?;
        self.hub.with(|state, now| state.subscribe(now, self.id, id, queue, mode, prefetch)).0?;
        Ok(None)
    }

    fn unsubscribe(&mut self, id: &str) -> Result<(), ProtocolError> {
        if let Some(at) = self.monitors.iter().position(|monitor| monitor == id) {
            self.monitors.remove(at);
            return Ok(());
        }
        Ok(self.hub.with(|state, now| state.unsubscribe(now, self.id, id)).0?)
    }

    fn queues(&self, subscription: &str) -> Reply {
        let queues = self.hub.with(|state, _| state.queues()).0;
        let body = serde_json::to_vec(&queues).unwrap_or_default();
        let frame = Frame::new(Command::Message)
            .header("subscription", subscription)
            .header("message-id", format!("queues-{subscription}"))
            .header("destination", QUEUES)
            .header("content-type", "application/json");
        Reply { frame: frame.body(body), after: 0 }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.disconnect(self.id);
    }
}

/// The MESSAGE frame of a delivery. What the broker says comes before the sender's headers, so that it counts.
pub(super) fn message_frame(delivery: &Delivery) -> Frame {
    let stored = &delivery.stored;
    let mut frame = Frame::new(Command::Message)
        .header("subscription", &delivery.subscription)
        .header("message-id", stored.id)
        .header("destination", format_args!("/queue/{}", stored.queue));
    if let Some(ack) = delivery.ack {
        frame = frame.header("ack", ack);
    }
    if stored.deliveries > 0 {
        frame = frame.header("redelivered", true).header("delivery-count", stored.deliveries);
    }
    frame.headers.0.extend(stored.message.headers.iter().cloned());
    frame.body(stored.message.body.clone())
}

fn required<'a>(frame: &'a Frame, name: &'static str) -> Result<&'a str, ProtocolError> {
    frame.headers.get(name).ok_or(ProtocolError::Missing { command: frame.command, name })
}

fn invalid(name: &'static str, value: &str, must: &'static str) -> ProtocolError {
    ProtocolError::Header { name, value: value.to_owned(), must }
}

fn number<T: FromStr>(headers: &Headers, name: &'static str) -> Result<Option<T>, ProtocolError> {
    let parse = |value: &str| value.trim().parse().map_err(|_| invalid(name, value, "a whole number, not negative"));
    headers.get(name).map(parse).transpose()
}

fn queue_name(destination: &str) -> Result<&str, ProtocolError> {
    let name = destination.strip_prefix("/queue/").filter(|name| (1..=MAX_NAME).contains(&name.len()));
    name.ok_or_else(|| ProtocolError::Destination(destination.chars().take(MAX_NAME).collect()))
}

/// RabbitMQ's header, else ActiveMQ's; 0 is no limit.
fn prefetch(headers: &Headers) -> Result<Option<u32>, ProtocolError> {
    let prefetch = number(headers, "prefetch-count")?.or(number(headers, "activemq.prefetchSize")?);
    Ok(prefetch.filter(|count| *count > 0))
}

/// ActiveMQ's `expires`, an instant in milliseconds since the epoch and 0 for never, else RabbitMQ's `expiration`,
/// milliseconds from now.
fn expiry(headers: &Headers, now: i64) -> Result<Option<i64>, ProtocolError> {
    let instant = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let expires = number(headers, "expires")?.filter(|ms| *ms > 0).map(instant);
    let expiration = number(headers, "expiration")?.map(|ms| instant(ms).saturating_add(now));
    Ok(expires.or(expiration))
}

fn nack_fate(headers: &Headers) -> Result<Fate, ProtocolError> {
    match headers.get("requeue") {
        None | Some("true") => Ok(Fate::Requeue),
        Some("false") => Ok(Fate::Dead),
        Some(other) => Err(invalid("requeue", other, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::state::tests::rules;
    use super::*;
    use crate::clock::SystemClock;

    proptest! {
        /// Two clients that know the words but not the grammar: each frame is done or refused, whatever came before.
        #[test]
        fn no_frame_brings_the_broker_down(frames in prop::collection::vec(
            (any::<bool>(), prop::sample::select(Command::ALL), prop::collection::vec((
                prop::sample::select(&["destination", "id", "ack", "transaction", "receipt", "requeue", "prefetch-count",
                    "expiration", "persistent", "subscription", "message-id"][..]),
                prop::sample::select(&["/queue/a", "/broker/queues", "1-1", "2-3", "client", "client-individual", "true",
                    "false", "1", "0"][..]),
            ), 0..5)), 0..60,
        )) {
            let hub = Arc::new(Hub::new(rules(), Arc::new(SystemClock), None, vec![]));
            let mut clients = [Version::V1_1, Version::V1_2].map(|version| Session::new(hub.clone(), version, 10_000));
            for (which, command, headers) in frames {
                let (session, id, _) = &mut clients[usize::from(which)];
                let frame = headers.iter().fold(Frame::new(command), |frame, (name, value)| frame.header(name, value));
                let (mut replies, receipt) = (Vec::new(), frame.headers.get("receipt").is_some());
                if session.handle(frame, &mut replies).is_ok() {
                    let receipts = replies.iter().filter(|reply| reply.frame.command == Command::Receipt).count();
                    prop_assert_eq!(receipts, usize::from(receipt));
                }
                hub.with(|state, now| state.take(now, *id));
            }
            drop(clients);
            let queues = hub.with(|state, _| state.queues()).0;
            prop_assert!(queues.iter().all(|queue| queue.unacknowledged == 0 && queue.consumers == 0));
        }
    }
}
