//! What happens within one queue: messages come in, go round its consumers, are settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::message::{AckId, Change, Fate, Message, Stored};
use super::{State, WINDOW};

/// A message and how often it was handed out.
#[derive(Debug)]
pub(super) struct Entry {
    pub deliveries: u32,
    pub message: Arc<Message>,
}

impl Entry {
    pub(super) fn stored(&self, id: u64, queue: &Arc<str>) -> Stored {
        Stored { id, deliveries: self.deliveries, queue: queue.clone(), message: self.message.clone() }
    }
}

/// One queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Messages to hand out, by id: what comes back finds its place by itself.
    pub ready: BTreeMap<u64, Entry>,
    /// Messages handed out and not settled.
    pub unacknowledged: usize,
    /// Cost of all its messages, ready or not.
    pub bytes: usize,
    pub consumers: usize,
    /// Subscriptions that can take a message, next one first.
    pub round: VecDeque<u64>,
    /// When it was last used, in milliseconds since the epoch.
    pub used: i64,
}

impl State {
    /// The queue of that name, made if need be; the call counts as use.
    pub(super) fn use_queue(&mut self, now: i64, name: &str) -> Arc<str> {
        let known = self.queues.get_key_value(name).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.queues.insert(name.clone(), Queue::default());
            self.expiry.watch_queue(now.saturating_add(self.rules.queue_expiry), name.clone());
            name
        });
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.used = now;
        }
        name
    }

    /// Puts a new message at the end of a queue.
    pub(super) fn enqueue(&mut self, queue: &Arc<str>, message: Arc<Message>) {
        self.last_message += 1;
        let (id, entry) = (self.last_message, Entry { deliveries: 0, message });
        if entry.message.persistent {
            self.effects.changes.push(Change::Enqueued(entry.stored(id, queue)));
        }
        self.insert(queue, id, entry);
    }

    /// Takes a message into the books.
    pub(super) fn insert(&mut self, name: &Arc<str>, id: u64, entry: Entry) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let cost = entry.message.cost();
        queue.bytes += cost;
        self.bytes += cost;
        if entry.message.persistent {
            self.persistent_bytes += cost;
        }
        if let Some(at) = entry.message.expires {
            self.expiry.watch_message(at, id, name.clone());
        }
        queue.ready.insert(id, entry);
    }

    /// Strikes a message, which is no longer `ready`, off the books.
    pub(super) fn discard(&mut self, name: &Arc<str>, id: u64, message: &Message) {
        let cost = message.cost();
        if let Some(queue) = self.queues.get_mut(name) {
            queue.bytes -= cost;
        }
        self.bytes -= cost;
        if message.persistent {
            self.persistent_bytes -= cost;
            self.effects.changes.push(Change::Done(id));
        }
        if let Some(at) = message.expires {
            self.expiry.forget_message(at, id);
        }
    }

    /// Decides a message that was handed out.
    pub(super) fn settle(&mut self, now: i64, name: &Arc<str>, id: u64, entry: Entry, fate: Fate) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.unacknowledged -= 1;
        let expired = entry.message.expires.is_some_and(|at| at <= now);
        match fate {
            Fate::Requeue if !expired => {
                queue.ready.insert(id, entry);
            }
            Fate::Requeue | Fate::Done => self.discard(name, id, &entry.message),
            Fate::Dead => {
                let dead = self.use_queue(now, &format!("{name}/dead"));
                let Message { headers, body, persistent, .. } = &*entry.message;
                // What failed is kept for a person to look at: it does not expire any more.
                let copy =
                    Message { headers: headers.clone(), body: body.clone(), persistent: *persistent, expires: None };
                self.enqueue(&dead, Arc::new(copy));
                self.discard(name, id, &entry.message);
                self.dispatch(now, &dead);
            }
        }
    }

    /// Puts a subscription with credit at the end of its queue's round.
    pub(super) fn offer(&mut self, key: u64) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        if subscription.listed || subscription.in_flight.len() >= subscription.prefetch {
            return;
        }
        if let Some(queue) = self.queues.get_mut(&subscription.queue) {
            subscription.listed = true;
            queue.round.push_back(key);
        }
    }

    /// Hands out the messages of a queue while there are consumers to take them.
    pub(super) fn dispatch(&mut self, now: i64, name: &Arc<str>) {
        while let Some(queue) = self.queues.get_mut(name) {
            let Some(first) = queue.ready.first_entry() else { return };
            if first.get().message.expires.is_some_and(|at| at <= now) {
                let (id, entry) = first.remove_entry();
                self.discard(name, id, &entry.message);
                continue;
            }
            let Some(key) = queue.round.pop_front() else { return };
            let Some(subscription) = self.subscriptions.get_mut(&key) else { continue };
            let Some(connection) = self.connections.get_mut(&subscription.connection) else { continue };
            if connection.unwritten >= WINDOW {
                connection.stalled.push(key);
                continue;
            }
            let (id, entry) = first.remove_entry();
            let cost = entry.message.cost();
            self.last_tag += 1;
            let ack = AckId { subscription: key, tag: self.last_tag };
            if connection.outbox.is_empty() {
                self.effects.wake.push(subscription.connection);
            }
            connection.outbox.push_back((ack, cost));
            connection.unwritten += cost;
            queue.unacknowledged += 1;
            subscription.in_flight.insert(ack.tag, (id, entry));
            subscription.listed = false;
            self.offer(key);
        }
    }
}
