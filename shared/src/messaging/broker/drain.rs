//! Taking all that waits in a queue now, and knowing that it is all.
//!
//! No broker says "the queue is empty", and SUBSCRIBE's receipt comes before the messages. So a drain sends a *marker*
//! behind what waits and reads until it comes back. It carries a nonce and expires soon; a marker of another reader is
//! dropped. If another process takes ours, more are sent after a moment: brokers deal to readers in turn, so among as many
//! markers as readers is one for us; the moment is random, so that two readers do not deal to each other for ever.
//!
//! Messages that come behind the marker, or a drain that is given up, are handed back by closing the connection: RabbitMQ
//! would keep them until then even after UNSUBSCRIBE. Only a clean connection is used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Subscription};
use super::transport::Connector;
use super::{BrokerError, Incoming, Outgoing, Queue};
use crate::messaging::frame::{Command, Frame};

/// Connections that drain at a time, and that are kept.
const CONNECTIONS: usize = 8;
/// Messages that one drain takes; the broker hands out no more than these.
const LIMIT: u32 = 10_000;
/// Header of a marker; its value is the nonce.
const MARKER: &str = "adit-marker";
/// A marker's life. The clocks of broker and client may differ by less than this.
const MARKER_LIFE: Duration = Duration::from_secs(120);
/// Silence, on average, after which markers are sent again.
const MARKER_PATIENCE: Duration = Duration::from_millis(400);
/// Most markers that are sent at once.
const MARKERS: u32 = 4;
/// Attempts of one drain: connections that were kept can have died unseen.
const ATTEMPTS: u32 = 3;

#[derive(Debug)]
pub(super) struct Drains {
    connector: Arc<Connector>,
    turns: Arc<Turns>,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Drains {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, turns: Arc::default(), slots: Arc::new(Semaphore::new(CONNECTIONS)), idle: Mutex::default() }
    }

    /// See [`super::Broker::drain`].
    pub(super) async fn drain(self: &Arc<Self>, queue: &Queue) -> Result<Option<Drained>, BrokerError> {
        self.drain_behind(queue, "Marker of a reader").await
    }

    /// Does the same behind a marker of that text.
    pub(super) async fn drain_behind(
        self: &Arc<Self>,
        queue: &Queue,
        marker: &str,
    ) -> Result<Option<Drained>, BrokerError> {
        let waited = self.connector.config.drain_timeout;
        let drained = timeout(waited, self.drain_in_turn(queue, marker)).await;
        drained.unwrap_or_else(|_| Err(BrokerError::NotDrained { queue: queue.logical(), waited }))
    }

    async fn drain_in_turn(self: &Arc<Self>, queue: &Queue, marker: &str) -> Result<Option<Drained>, BrokerError> {
        let asked = Instant::now();
        let turn = Turn::take(&self.turns, queue.logical()).await;
        if turn.last_drain().is_some_and(|began| began > asked) {
            return Ok(None);
        }
        // Never closed, so a slot is always given; without one a drain would only be less bounded.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let began = Instant::now();
        let mut attempt = 1;
        let reading = loop {
            let connection = self.connection().await?;
            let read = async { Reading::start(connection, queue, marker).await?.read(queue).await };
            match read.await {
                Ok(reading) => break reading,
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => tracing::debug!(%queue, %error, "a drain was interrupted; it starts again"),
            }
            attempt += 1;
        };
        Ok(Some(Drained { reading, began, turn, drains: self.clone(), _slot: slot }))
    }

    /// A kept connection, or a new one.
    async fn connection(&self) -> Result<Connection, BrokerError> {
        let oldest = self.connector.config.connection_age();
        let kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|connection| connection.is_usable(oldest));
            idle.pop()
        };
        match kept {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.connector).await,
        }
    }

    fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// A drain under way. Dropping it closes the connection, unless that was kept.
#[derive(Debug)]
struct Reading {
    subscription: Subscription,
    connection: Connection,
    nonce: String,
    marker: String,
    silences: u32,
    received: u32,
    messages: Vec<Incoming>,
    /// What to acknowledge: the last message read, and with it all before.
    last: String,
}

impl Reading {
    async fn start(connection: Connection, queue: &Queue, marker: &str) -> Result<Self, BrokerError> {
        let subscription = connection.subscription()?;
        let nonce = format!("{:032x}", rand::random::<u128>());
        let (messages, last, marker) = (Vec::new(), String::new(), marker.to_owned());
        let reading = Self { subscription, connection, nonce, marker, silences: 0, received: 0, messages, last };
        let destination = queue.wire(reading.connection.flavour());
        reading.connection.send(reading.subscription.frame(&destination, "client", LIMIT)).await?;
        reading.send_marker(queue).await?;
        Ok(reading)
    }

    async fn send_marker(&self, queue: &Queue) -> Result<(), BrokerError> {
        // Persistent like the messages: ActiveMQ keeps no order between persistent and other ones.
        let mut marker = Outgoing::new(&self.marker).header(MARKER, &self.nonce);
        marker.expires_in = Some(MARKER_LIFE);
        self.connection.send(marker.frame(queue, self.connection.flavour(), MARKER_LIFE)).await
    }

    async fn read(mut self, queue: &Queue) -> Result<Self, BrokerError> {
        while self.received < LIMIT {
            let patience = MARKER_PATIENCE.mul_f64(rand::random_range(0.5..=1.5));
            let Ok(frame) = timeout(patience, self.subscription.next()).await else {
                self.silences += 1;
                for _ in 0..MARKERS.min(self.silences + 1) {
                    self.send_marker(queue).await?;
                }
                continue;
            };
            let message = Incoming::from(frame?);
            self.received += 1;
            self.last = message.headers.get("ack").unwrap_or_default().to_owned();
            match message.headers.get(MARKER) {
                None => self.messages.push(message),
                Some(nonce) if nonce == self.nonce => break,
                Some(_) => {}
            }
        }
        Ok(self)
    }

    /// Whether nothing of this drain is left at the broker once the last message is acknowledged.
    fn is_clean(&self) -> bool {
        self.silences == 0 && self.received < LIMIT && !self.subscription.has_more()
    }
}

/// What waited in a queue. Nothing is taken from it before [`Drained::ack`]; dropping this instead gives all back.
#[derive(Debug)]
pub struct Drained {
    reading: Reading,
    began: Instant,
    turn: Turn,
    drains: Arc<Drains>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Drained {
    /// The messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> &[Incoming] {
        &self.reading.messages
    }

    /// Takes the messages from the queue. Call it after storing what they say.
    ///
    /// # Errors
    /// Any [`BrokerError`] of the connection: the messages will come again, unless only the broker's answer was lost.
    pub async fn ack(mut self) -> Result<(), BrokerError> {
        let Reading { connection, subscription, last, .. } = &self.reading;
        let ack = Frame::new(Command::Ack).header("id", last);
        if self.reading.is_clean() {
            // In this order on the wire too: RabbitMQ and our own broker refuse an ACK of a subscription that has ended.
            tokio::try_join!(biased; connection.request(ack), connection.request(subscription.end_frame()))?;
        } else {
            connection.request(ack).await?;
        }
        if self.reading.received < LIMIT {
            self.turn.drained(self.began);
        }
        // Something may have come meanwhile.
        if self.reading.is_clean() {
            self.drains.keep(self.reading.connection);
        }
        Ok(())
    }
}

/// Whose turn it is at each queue, and when the last drain began that took all. A queue has an entry only while somebody
/// reads it or waits.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Instant>>>>>);

/// The right to read one queue, or a place in its line.
#[derive(Debug)]
struct Turn {
    guard: Option<OwnedMutexGuard<Option<Instant>>>,
    queue: String,
    turns: Arc<Turns>,
}

impl Turn {
    async fn take(turns: &Arc<Turns>, queue: String) -> Self {
        // It exists before the wait, so that the entry goes away even if the wait is given up.
        let mut turn = Self { guard: None, queue, turns: turns.clone() };
        let entry =
            turns.0.lock().unwrap_or_else(PoisonError::into_inner).entry(turn.queue.clone()).or_default().clone();
        turn.guard = Some(entry.lock_owned().await);
        turn
    }

    /// When the last drain began that was acknowledged and took all.
    fn last_drain(&self) -> Option<Instant> {
        self.guard.as_deref().copied().flatten()
    }

    fn drained(&mut self, began: Instant) {
        if let Some(last) = self.guard.as_deref_mut() {
            *last = Some(began);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.get(&self.queue).is_some_and(|entry| Arc::strong_count(entry) == 1) {
            turns.remove(&self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_has_one_reader_at_a_time_and_no_entry_when_idle() {
        let turns = Arc::new(Turns::default());
        let first = Turn::take(&turns, "a".into()).await;
        let other = Turn::take(&turns, "b".into()).await;
        let mut second = Box::pin(Turn::take(&turns, "a".into()));
        assert!(futures::poll!(&mut second).is_pending());
        let mut given_up = Box::pin(Turn::take(&turns, "a".into()));
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(first);
        drop(given_up);
        let second = second.await;
        assert_eq!(turns.0.lock().unwrap().len(), 2);
        drop((second, other));
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
