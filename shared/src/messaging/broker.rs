//! The client side of the broker, as callers hold it: publish, drain a queue, consume a queue.
//!
//! Plain STOMP 1.2, so that any broker will do; where brokers differ, [`super::queues::Flavour`] knows. Delivery is
//! at least once: whoever reads acknowledges after storing, and must take a message that comes twice.
//! What the messages mean is not known here.

mod backoff;
mod config;
mod connection;
mod consumer;
mod drain;
mod incoming;
mod publisher;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::frame::{Command, Frame};
use super::queues::{Flavour, Queue};
use super::server::{LISTING, QueueInfo};
use crate::clock::{Clock as _, SystemClock};

pub use backoff::Backoff;
pub use config::{BrokerConfig, InvalidBrokerUrl, socket_url};
use connection::Connection;
pub use consumer::{Consumer, Delivery};
pub use drain::Drained;
use drain::Drains;
pub use incoming::{Incoming, UnreadableMessage};
use publisher::Publisher;
use transport::Connector;

/// Header with the queue for answers.
const REPLY_TO: &str = "reply-to";
/// Header with the number that orders statuses.
const SEQUENCE: &str = "sequence";
/// Header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Bytes of the message that [`Broker::check_delivery`] sends.
const TRIAL: usize = 8 << 10;

/// Why the broker did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No connection: wrong address, broker down, no trust in its certificate, as many connections
    /// as it may have.
    #[error("cannot reach the broker at {address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The broker answered with an ERROR frame (wrong credentials, no permission, a limit).
    #[error("the broker at {address} refused: {message}")]
    Refused {
        /// Host and port.
        address: String,
        /// What the broker says.
        message: String,
    },
    /// The connection ended before the broker answered. What was sent may or may not have arrived.
    #[error("the connection to the broker at {address} was lost: {reason}")]
    Lost {
        /// Host and port.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The broker did not answer in time. What was sent may or may not have arrived.
    #[error("the broker at {address} did not confirm {what} within {waited:?}")]
    NoReceipt {
        /// Host and port.
        address: String,
        /// Command and queue.
        what: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The queue could not be read to its end in time; nothing was taken from it.
    #[error(
        "{queue} was not read to its end within {waited:?}: the broker is slow, another process keeps reading this queue, or \
         the clocks of broker and client differ by minutes"
    )]
    NotDrained {
        /// The queue's logical name.
        queue: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// A message to send. `content-type:text/plain` and `persistent:true` are added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Further headers, such as `sequence`, `traceparent`, and `reply-to` with a logical name.
    pub headers: Vec<(String, String)>,
    /// The text; see [`super::bodies`].
    pub body: String,
    /// When the broker may throw it away. `None`: never, but on a package's queue after the queue expiry.
    pub expires_in: Option<Duration>,
}

impl Outgoing {
    /// A message with that text.
    #[must_use]
    pub fn new(body: impl fmt::Display) -> Self {
        Self { body: body.to_string(), ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn frame(&self, queue: &Queue, flavour: Flavour, queue_expiry: Duration) -> Frame {
        let mut frame = Frame::new(Command::Send)
            .header("destination", queue.wire(flavour))
            .header("content-type", "text/plain")
            .header("persistent", true);
        if flavour == Flavour::ActiveMq {
            // With content-length alone it would keep the text as bytes, which its console does not show.
            frame = frame.header("amq-msg-type", "text");
        }
        if let Some(expires_in) = self.expires_in.or(queue.is_transient().then_some(queue_expiry)) {
            let (name, value) = flavour.expiry_header(expires_in, SystemClock.now_ms());
            frame = frame.header(name, value);
        }
        // Of repeated headers the first counts, so none of these replaces one of the above.
        for (name, value) in &self.headers {
            // RabbitMQ reads this one as a destination, and refuses the message when it is none.
            let queue = (name == REPLY_TO).then(|| value.parse::<Queue>().ok()).flatten();
            frame = frame.header(name, queue.map_or_else(|| value.clone(), |queue| queue.wire(flavour)));
        }
        frame.body(self.body.clone())
    }
}

/// A handle on the broker; clones share its connections. It connects when it is first needed and again when a
/// connection is lost.
#[derive(Debug, Clone)]
pub struct Broker {
    connector: Arc<Connector>,
    publisher: Arc<Publisher>,
    drains: Arc<Drains>,
    /// Where [`Broker::check_delivery`] sends: no other handle, in whatever process, reads there.
    trials: Arc<Queue>,
}

impl Broker {
    /// A handle that has not connected yet.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Self {
        let connector = Arc::new(Connector::new(config));
        let publisher = Arc::new(Publisher::new(connector.clone()));
        let trials = Arc::new(Queue::Package(format!("readyz-{:016x}", rand::random::<u64>())));
        Self { publisher, drains: Arc::new(Drains::new(connector.clone())), connector, trials }
    }

    /// Which broker answers; for readiness checks and at start-up. Tries once.
    ///
    /// # Errors
    /// [`BrokerError::Unreachable`] or [`BrokerError::Refused`], with the reason.
    pub async fn check(&self) -> Result<Flavour, BrokerError> {
        Ok(self.publisher.connection().await?.flavour())
    }

    /// Has a persistent message sent, handed back and acknowledged, for readiness checks: it is the
    /// marker of a drain, in a queue that expires when nobody uses it. It is larger than what a full
    /// disk may have left in the last block of a file.
    ///
    /// # Errors
    /// Any [`BrokerError`], among them the refusal of a broker that cannot keep messages now.
    pub async fn check_delivery(&self) -> Result<(), BrokerError> {
        match self.drains.drain_behind(&self.trials, &"x".repeat(TRIAL)).await? {
            Some(drained) => drained.ack().await,
            None => Ok(()),
        }
    }

    /// Sends a message over a kept connection and waits until the broker has it. Calls at the same time share the
    /// connection and do not wait for each other. A lost connection is replaced and the message sent again until
    /// `publish_timeout`, so it may arrive twice.
    ///
    /// # Errors
    /// The last [`BrokerError`] when that time is over.
    pub async fn publish(&self, queue: &Queue, message: Outgoing) -> Result<(), BrokerError> {
        self.publisher.publish(queue, &message).await
    }

    /// What the embedded broker tells of its queues. RabbitMQ and ActiveMQ have consoles of their own for that.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] by any other broker, or whatever ended the connection.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, BrokerError> {
        let connection = Connection::open(&self.connector).await?;
        let (address, waited) = (self.connector.config.address(), self.connector.config.receipt_timeout);
        let refused = |message| BrokerError::Refused { address: address.clone(), message };
        if connection.flavour() != Flavour::Adit {
            return Err(refused("it does not list its queues over STOMP: look at its console".to_owned()));
        }
        let mut subscription = connection.subscription()?;
        connection.send(subscription.frame(LISTING, "auto", 1)).await?;
        let answer = timeout(waited, subscription.next()).await.unwrap_or_else(|_| {
            let what = format!("SUBSCRIBE {LISTING}");
            Err(BrokerError::NoReceipt { address: address.clone(), what, waited })
        })?;
        serde_json::from_slice(&answer.body).map_err(|error| refused(format!("its list of queues is odd: {error}")))
    }

    /// A connection of its own, for a series of messages such as the statuses of one build.
    ///
    /// # Errors
    /// [`BrokerError::Unreachable`] or [`BrokerError::Refused`].
    pub async fn session(&self) -> Result<Session, BrokerError> {
        let publisher = Publisher::new(self.connector.clone());
        publisher.connection().await?;
        Ok(Session { publisher: Arc::new(publisher) })
    }

    /// Takes all messages that wait in a queue now, in order, and leaves it to the caller to acknowledge them once they
    /// are stored. One caller at a time for each queue in this process; the others wait their turn. `None` tells one who
    /// waited that somebody else has meanwhile taken all, and stored it: in a drain that began after this call.
    ///
    /// At most 10,000 messages (markers of other readers counted) come at once; the next drain brings more.
    ///
    /// # Errors
    /// [`BrokerError::NotDrained`] after `drain_timeout`, or whatever ended the connection: in any case the messages
    /// stay in the queue.
    pub async fn drain(&self, queue: &Queue) -> Result<Option<Drained>, BrokerError> {
        self.drains.drain(queue).await
    }

    /// Reads a queue message by message, for as long as the consumer is kept. The broker hands out at most `prefetch`
    /// messages that were not acknowledged.
    ///
    /// # Errors
    /// Whatever keeps the first connection from being made.
    pub async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Consumer, BrokerError> {
        Consumer::open(self.connector.clone(), queue.clone(), prefetch).await
    }
}

/// See [`Broker::session`]; clones share its connection.
#[derive(Debug, Clone)]
pub struct Session {
    publisher: Arc<Publisher>,
}

impl Session {
    /// [`Broker::publish`] over this session's connection.
    ///
    /// # Errors
    /// As there.
    pub async fn publish(&self, queue: &Queue, message: Outgoing) -> Result<(), BrokerError> {
        self.publisher.publish(queue, &message).await
    }
}
