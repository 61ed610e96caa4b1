//! The broker's rules, without input or output: queues, subscriptions, deliveries, acknowledgements, expiry.
//!
//! Time comes in as a parameter; what has to happen outside (changes to journal, connections with something to
//! write) goes out through [`State::effects`]. Work for one message is O(log n) in the messages of its queue and does not
//! depend on the number of queues.

mod expiry;
mod queue;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::QueueInfo;
use super::message::{AckId, AckMode, Change, Delivery, Fate, Message, OVERHEAD, Refusal, Step, Stored};
use expiry::Expiry;
use queue::{Entry, Queue};

/// What a connection may have waiting to be written, in bytes of messages, before it is passed over.
const WINDOW: usize = 256 * 1024;

/// The settings of [`State`].
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Bytes that all queues may hold together. Messages that are not persistent may use a sixteenth more, so that a
    /// reader's marker still gets through when the queues are full of what it comes to take.
    pub max_bytes: usize,
    /// Milliseconds without consumer or use after which an idle queue vanishes.
    pub queue_expiry: i64,
    /// Queues whose name starts so vanish with their messages; others only when they are empty.
    pub expiring_prefix: String,
}

/// One connection, as [`State`] knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

#[derive(Debug, Default)]
struct Connection {
    subscriptions: HashMap<Arc<str>, u64>,
    /// Deliveries that wait for the connection's writer.
    outbox: VecDeque<(AckId, usize)>,
    /// Self-acknowledging deliveries that the writer has taken and not yet written.
    writing: Vec<AckId>,
    /// Bytes in `outbox` plus those taken and not yet written.
    unwritten: usize,
    /// The part of `unwritten` that the writer has taken.
    taken: usize,
    /// Subscriptions that could take messages but for the full window.
    stalled: Vec<u64>,
}

#[derive(Debug)]
struct Subscription {
    connection: ConnectionId,
    name: Arc<str>,
    queue: Arc<str>,
    mode: AckMode,
    prefetch: usize,
    /// What was handed out and is not settled, in order of delivery.
    in_flight: BTreeMap<u64, (u64, Entry)>,
    /// Whether it stands in its queue's round or among its connection's stalled ones.
    listed: bool,
}

/// What the outside has to do after a change.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// To be journalled as one record: all or nothing.
    pub changes: Vec<Change>,
    /// Connections that have something to take.
    pub wake: Vec<ConnectionId>,
}

/// All queues and who consumes them.
#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    queues: HashMap<Arc<str>, Queue>,
    subscriptions: HashMap<u64, Subscription>,
    connections: HashMap<ConnectionId, Connection>,
    expiry: Expiry,
    effects: Effects,
    bytes: usize,
    persistent_bytes: usize,
    last_message: u64,
    last_subscription: u64,
    last_tag: u64,
    last_connection: u64,
}

impl State {
    /// Queues with what a journal had kept, in order of message ids.
    pub(super) fn new(rules: Rules, now: i64, kept: Vec<Stored>) -> Self {
        // Counting from the time of day keeps ids unique over restarts without storing a counter, so that neither a late
        // ACK nor a client that knows messages by their ids can take one for another.
        let seed = u64::try_from(now).unwrap_or(0).saturating_mul(1000);
        let mut state = Self {
            rules,
            queues: HashMap::new(),
            subscriptions: HashMap::new(),
            connections: HashMap::new(),
            expiry: Expiry::default(),
            effects: Effects::default(),
            bytes: 0,
            persistent_bytes: 0,
            last_message: seed,
            last_subscription: seed,
            last_tag: 0,
            last_connection: 0,
        };
        for stored in kept {
            state.last_message = state.last_message.max(stored.id);
            let queue = state.use_queue(now, &stored.queue);
            state.insert(&queue, stored.id, Entry { deliveries: stored.deliveries, message: stored.message });
        }
        state
    }

    /// What the last calls want done outside; it starts anew.
    pub(super) fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn connect(&mut self) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections.insert(id, Connection::default());
        id
    }

    /// Ends a connection: what it holds unacknowledged goes back to its place, and to other consumers.
    pub(super) fn disconnect(&mut self, now: i64, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            for key in connection.subscriptions.into_values() {
                self.end_subscription(now, key);
            }
        }
    }

    /// Adds a consumer; `prefetch` bounds its unacknowledged messages.
    pub(super) fn subscribe(
        &mut self,
        now: i64,
        id: ConnectionId,
        name: &str,
        queue: &str,
        mode: AckMode,
        prefetch: Option<u32>,
    ) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        if connection.subscriptions.contains_key(name) {
            return Err(Refusal::SubscriptionExists(name.to_owned()));
        }
        self.last_subscription += 1;
        let key = self.last_subscription;
        let name: Arc<str> = name.into();
        connection.subscriptions.insert(name.clone(), key);
        let queue = self.use_queue(now, queue);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.consumers += 1;
        }
        // A message that needs no acknowledgement is bounded by the connection's window alone.
        let prefetch = if mode == AckMode::Auto { None } else { prefetch };
        let prefetch = prefetch.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let in_flight = BTreeMap::new();
        let subscription =
            Subscription { connection: id, name, queue: queue.clone(), mode, prefetch, in_flight, listed: false };
        self.subscriptions.insert(key, subscription);
        self.offer(key);
        self.dispatch(now, &queue);
        Ok(())
    }

    /// Removes a consumer: what it holds unacknowledged goes back to its place, and to other consumers.
    pub(super) fn unsubscribe(&mut self, now: i64, id: ConnectionId, name: &str) -> Result<(), Refusal> {
        let key = self.connections.get_mut(&id).and_then(|connection| connection.subscriptions.remove(name));
        self.end_subscription(now, key.ok_or_else(|| Refusal::NoSubscription(name.to_owned()))?);
        Ok(())
    }

    fn end_subscription(&mut self, now: i64, key: u64) {
        let Some(subscription) = self.subscriptions.remove(&key) else { return };
        if let Some(queue) = self.queues.get_mut(&subscription.queue) {
            queue.consumers -= 1;
            queue.used = now;
            queue.round.retain(|other| *other != key);
        }
        for (message, entry) in subscription.in_flight.into_values() {
            self.settle(now, &subscription.queue, message, entry, Fate::Requeue);
        }
        self.dispatch(now, &subscription.queue);
    }

    /// Does all steps, or none of them and says why.
    pub(super) fn apply(&mut self, now: i64, id: ConnectionId, steps: Vec<Step>) -> Result<(), Refusal> {
        self.check(id, &steps)?;
        for step in steps {
            match step {
                Step::Send { queue, message } => self.send(now, &queue, message),
                Step::Settle { ack, fate } => self.settle_delivery(now, ack, fate),
            }
        }
        Ok(())
    }

    fn check(&self, id: ConnectionId, steps: &[Step]) -> Result<(), Refusal> {
        let mut held = self.bytes;
        for step in steps {
            match step {
                Step::Send { message, .. } => {
                    held = held.saturating_add(message.cost());
                    let reserve = if message.persistent { 0 } else { self.rules.max_bytes / 16 };
                    if held > self.rules.max_bytes.saturating_add(reserve) {
                        return Err(Refusal::Full { held: self.bytes, limit: self.rules.max_bytes });
                    }
                }
                Step::Settle { ack, .. } => {
                    let subscription = self.subscriptions.get(&ack.subscription).filter(|s| s.connection == id);
                    if !subscription.is_some_and(|s| s.in_flight.contains_key(&ack.tag)) {
                        return Err(Refusal::NotInFlight(ack.to_string()));
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, now: i64, queue: &str, message: Message) {
        let queue = self.use_queue(now, queue);
        self.enqueue(&queue, Arc::new(message));
        self.dispatch(now, &queue);
    }

    fn settle_delivery(&mut self, now: i64, ack: AckId, fate: Fate) {
        // An earlier step of the same transaction may have settled it already: then nothing is left to do.
        let Some(subscription) = self.subscriptions.get_mut(&ack.subscription) else { return };
        let settled = match subscription.mode {
            AckMode::Cumulative => {
                let later = subscription.in_flight.split_off(&(ack.tag + 1));
                std::mem::replace(&mut subscription.in_flight, later).into_values().collect()
            }
            AckMode::Auto | AckMode::Individual => Vec::from_iter(subscription.in_flight.remove(&ack.tag)),
        };
        let queue = subscription.queue.clone();
        for (message, entry) in settled {
            self.settle(now, &queue, message, entry, fate);
        }
        self.offer(ack.subscription);
        self.dispatch(now, &queue);
    }

    /// The newest delivery of `message` to subscription `name`: how STOMP 1.1 acknowledges, by message id.
    pub(super) fn find_delivery(&self, id: ConnectionId, name: &str, message: &str) -> Result<AckId, Refusal> {
        let find = || {
            let message: u64 = message.parse().ok()?;
            let subscription = *self.connections.get(&id)?.subscriptions.get(name)?;
            let mut in_flight = self.subscriptions.get(&subscription)?.in_flight.iter();
            in_flight.find_map(|(tag, (held, _))| (*held == message).then_some(AckId { subscription, tag: *tag }))
        };
        find().ok_or_else(|| Refusal::NotInFlight(message.to_owned()))
    }

    /// Everything that waits to be written to a connection, at most a window's worth. The call also says that what the
    /// one before gave has been written.
    pub(super) fn take(&mut self, now: i64, id: ConnectionId) -> Vec<Delivery> {
        self.written(now, id);
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let mut deliveries = Vec::with_capacity(connection.outbox.len());
        while let Some((ack, cost)) = connection.outbox.pop_front() {
            connection.taken += cost;
            let Some(subscription) = self.subscriptions.get_mut(&ack.subscription) else { continue };
            let Some((id, entry)) = subscription.in_flight.get_mut(&ack.tag) else { continue };
            let auto = subscription.mode == AckMode::Auto;
            if auto {
                connection.writing.push(ack);
            }
            let stored = entry.stored(*id, &subscription.queue);
            entry.deliveries = entry.deliveries.saturating_add(1);
            if entry.message.persistent {
                self.effects.changes.push(Change::Delivered(*id));
            }
            deliveries.push(Delivery { subscription: subscription.name.clone(), ack: (!auto).then_some(ack), stored });
        }
        deliveries
    }

    /// What was taken has been written: self-acknowledging deliveries are done, and there is room for more.
    fn written(&mut self, now: i64, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.unwritten -= std::mem::take(&mut connection.taken);
        let done = std::mem::take(&mut connection.writing);
        let stalled = std::mem::take(&mut connection.stalled);
        for ack in done {
            self.settle_delivery(now, ack, Fate::Done);
        }
        for key in stalled {
            if let Some(subscription) = self.subscriptions.get_mut(&key) {
                subscription.listed = false;
                let queue = subscription.queue.clone();
                self.offer(key);
                self.dispatch(now, &queue);
            }
        }
    }

    /// Bytes of persistent messages, about what a compact journal holds.
    pub(super) fn persistent_bytes(&self) -> usize {
        self.persistent_bytes
    }

    /// Every persistent message, in order of ids.
    pub(super) fn persistent(&self) -> Vec<Stored> {
        let ready =
            self.queues.iter().flat_map(|(name, queue)| queue.ready.iter().map(move |(id, e)| e.stored(*id, name)));
        let in_flight =
            self.subscriptions.values().flat_map(|s| s.in_flight.values().map(|(id, e)| e.stored(*id, &s.queue)));
        let mut all: Vec<Stored> = ready.chain(in_flight).filter(|stored| stored.message.persistent).collect();
        all.sort_unstable_by_key(|stored| stored.id);
        all
    }

    /// The queues by name.
    pub(super) fn queues(&self) -> Vec<QueueInfo> {
        let info = |(name, queue): (&Arc<str>, &Queue)| QueueInfo {
            name: name.to_string(),
            ready: queue.ready.len() as u64,
            unacknowledged: queue.unacknowledged as u64,
            consumers: queue.consumers as u64,
            bytes: (queue.bytes - (queue.ready.len() + queue.unacknowledged) * OVERHEAD) as u64,
        };
        let mut all: Vec<QueueInfo> = self.queues.iter().map(info).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

#[cfg(test)]
pub(super) mod tests;
