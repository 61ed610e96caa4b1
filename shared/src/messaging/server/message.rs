//! What the broker holds and what it says about it: messages, deliveries, changes worth journalling, refusals.
//!
//! Plain data. How messages move is in [`super::state`], how they are stored in [`super::journal`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// What a message costs in memory beside its headers and body: index entries, allocations, reference counts.
pub(super) const OVERHEAD: usize = 128;

/// A message as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The sender's own headers, in order, without those that the broker sets.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Whether it survives a restart of the broker.
    pub persistent: bool,
    /// When it expires, in milliseconds since the epoch.
    pub expires: Option<i64>,
}

impl Message {
    /// Bytes of headers and body.
    pub(super) fn size(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + self.body.len()
    }

    /// Bytes charged against the broker's limit.
    pub(super) fn cost(&self) -> usize {
        self.size() + OVERHEAD
    }
}

/// A message in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Rises with every message accepted by this broker; within a queue it is the order of delivery.
    pub id: u64,
    /// How often it was handed to a consumer.
    pub deliveries: u32,
    pub queue: Arc<str>,
    pub message: Arc<Message>,
}

/// A change to the persistent messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Enqueued(Stored),
    /// Handed to a consumer; worth keeping (a message that brings the process down is recognised after the restart)
    /// and not worth waiting for.
    Delivered(u64),
    /// Acknowledged, expired or moved.
    Done(u64),
}

/// Names one delivery of a message: the `ack` header of MESSAGE and the `id` header of ACK and NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AckId {
    pub subscription: u64,
    pub tag: u64,
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.subscription, self.tag)
    }
}

impl FromStr for AckId {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parse = || {
            let (subscription, tag) = text.split_once('-')?;
            Some(Self { subscription: subscription.parse().ok()?, tag: tag.parse().ok()? })
        };
        parse().ok_or_else(|| Refusal::NotInFlight(text.to_owned()))
    }
}

/// A message on its way to a consumer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// The client's name for its subscription.
    pub subscription: Arc<str>,
    /// Absent when the subscription acknowledges by itself.
    pub ack: Option<AckId>,
    /// The message, with the deliveries that came before this one.
    pub stored: Stored,
}

/// How a subscription acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// A message is done when it has been written to the client.
    Auto,
    /// An ACK or NACK settles its message and all that the subscription was handed before.
    Cumulative,
    Individual,
}

/// What becomes of a settled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// Back to its place in the queue.
    Requeue,
    /// To the end of the queue `<name>/dead`.
    Dead,
}

/// One step of a transaction; outside of one, a transaction of a single step.
#[derive(Debug)]
pub(super) enum Step {
    Send { queue: String, message: Message },
    Settle { ack: AckId, fate: Fate },
}

/// Why the broker will not do what it was asked. The text goes to the client in an ERROR frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error("the queues hold {held} bytes and may hold {limit}: consume messages, then send again")]
    Full { held: usize, limit: usize },
    #[error("no delivery {0:?} is waiting for acknowledgement here: it was settled or went back to its queue")]
    NotInFlight(String),
    #[error("subscription id {0:?} is in use on this connection: choose another")]
    SubscriptionExists(String),
    #[error("no subscription {0:?} on this connection")]
    NoSubscription(String),
}
