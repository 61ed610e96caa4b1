//! What a packager tells of one package, in order, on the package's own queue.

use std::convert::Infallible;
use std::time::Duration;

use adit_shared::messaging::{Broker, BrokerError, Outgoing, Queue, Session, StatusMessage};

use crate::build::seconds;

/// Statuses of one attempt have sequence numbers from here times the attempt's number: a later attempt wins over an earlier
/// one, whichever arrives first.
const SEQUENCES: u64 = 1_000_000;
/// From here on, of those numbers, last words are numbered: should two packagers ever have begun attempts of one number at the same
/// moment, the progress of one does not hide that the other is done.
const LAST_WORDS: u64 = 999_000;

/// Says statuses of one package, over a connection of their own: brokers expire queues behind the back of a connection
/// that remembers them, so none is used for longer than one build.
#[derive(Debug)]
pub(super) struct Statuses {
    broker: Broker,
    session: Option<Session>,
    queue: Queue,
    traceparent: Option<String>,
    sequence: u64,
}

impl Statuses {
    /// Statuses for that queue.
    ///
    /// What is said before the attempt's number is known has numbers by the time, which is what that number seldom differs from.
    pub(super) fn new(broker: &Broker, queue: Queue, traceparent: Option<String>, now_ms: i64) -> Self {
        let sequence = seconds(now_ms).saturating_mul(SEQUENCES);
        Self { broker: broker.clone(), session: None, queue, traceparent, sequence }
    }

    /// Begins the statuses of an attempt.
    pub(super) fn begin(&mut self, turn: u64) {
        self.sequence = self.sequence.max(turn.saturating_mul(SEQUENCES));
    }

    /// Begins the last words of an attempt.
    pub(super) fn end(&mut self) {
        self.sequence = self.sequence.max(self.sequence - self.sequence % SEQUENCES + LAST_WORDS);
    }

    /// Says a status and waits until the broker has it.
    pub(super) async fn say(&mut self, status: &StatusMessage) -> Result<(), BrokerError> {
        let session = match &self.session {
            Some(session) => session,
            None => self.session.insert(self.broker.session().await?),
        };
        self.sequence += 1;
        let mut message = Outgoing::new(status).header("sequence", self.sequence);
        if let Some(traceparent) = &self.traceparent {
            message = message.header("traceparent", traceparent);
        }
        let said = session.publish(&self.queue, message).await;
        if said.is_err() {
            self.session = None;
        }
        said
    }

    /// Says a status that the next one makes up for: if it is lost, that is only noted.
    pub(super) async fn mention(&mut self, status: &StatusMessage) {
        if let Err(error) = self.say(status).await {
            tracing::warn!(%error, "a status was not said");
        }
    }

    /// Says, so often, how it stands then; a broker that is away holds nothing up.
    pub(super) async fn keep_telling(&mut self, every: Duration, status: impl Fn() -> StatusMessage) -> Infallible {
        loop {
            tokio::time::sleep(every).await;
            self.mention(&status()).await;
        }
    }
}
