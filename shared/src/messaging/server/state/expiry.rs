//! What ends by itself: messages with an expiry time, and queues that nobody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::State;

/// When to look at which message and which queue, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    messages: BTreeMap<(i64, u64), Arc<str>>,
    /// One entry for each queue. It is not moved by use, which would cost work for every message: when its time comes,
    /// a queue that was used since gets a new one.
    queues: BTreeSet<(i64, Arc<str>)>,
}

impl Expiry {
    pub(super) fn watch_message(&mut self, at: i64, id: u64, queue: Arc<str>) {
        self.messages.insert((at, id), queue);
    }

    pub(super) fn forget_message(&mut self, at: i64, id: u64) {
        self.messages.remove(&(at, id));
    }

    pub(super) fn watch_queue(&mut self, at: i64, queue: Arc<str>) {
        self.queues.insert((at, queue));
    }

    fn next(&self) -> Option<i64> {
        let message = self.messages.first_key_value().map(|((at, _), _)| *at);
        let queue = self.queues.first().map(|(at, _)| *at);
        message.into_iter().chain(queue).min()
    }

    fn next_message(&mut self, now: i64) -> Option<(u64, Arc<str>)> {
        let first = self.messages.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, id), queue) = first.remove_entry();
        Some((id, queue))
    }

    fn next_queue(&mut self, now: i64) -> Option<Arc<str>> {
        let due = self.queues.first().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.queues.pop_first()).flatten().map(|(_, queue)| queue)
    }
}

impl State {
    /// When [`State::expire`] has something to look at next, in milliseconds since the epoch.
    pub(in super::super) fn next_deadline(&self) -> Option<i64> {
        self.expiry.next()
    }

    /// Drops expired messages and idle queues.
    pub(in super::super) fn expire(&mut self, now: i64) {
        while let Some((id, name)) = self.expiry.next_message(now) {
            // A message that a consumer holds is judged when it comes back.
            if let Some(entry) = self.queues.get_mut(&name).and_then(|queue| queue.ready.remove(&id)) {
                self.discard(&name, id, &entry.message);
            }
        }
        while let Some(name) = self.expiry.next_queue(now) {
            self.expire_queue(now, name);
        }
    }

    fn expire_queue(&mut self, now: i64, name: Arc<str>) {
        let Some(queue) = self.queues.get_mut(&name) else { return };
        let keeps = queue.consumers > 0 || !(queue.ready.is_empty() || name.starts_with(&self.rules.expiring_prefix));
        let idle_since = if keeps { now } else { queue.used };
        let due = idle_since.saturating_add(self.rules.queue_expiry.max(1));
        if due > now {
            return self.expiry.watch_queue(due, name);
        }
        let messages = std::mem::take(&mut queue.ready);
        if !messages.is_empty() {
            tracing::info!(queue = &*name, messages = messages.len(), "an idle queue expired with its messages");
        }
        for (id, entry) in messages {
            self.discard(&name, id, &entry.message);
        }
        self.queues.remove(&name);
    }
}
