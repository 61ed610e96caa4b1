//! Reading a queue message by message, over lost connections and restarts of the broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::backoff::Backoff;
use super::connection::{Connection, Subscription};
use super::transport::Connector;
use super::{BrokerError, Incoming, Queue};
use crate::messaging::frame::{Command, Frame};

/// So many refusals in a row (ERROR frames, over about a minute) mean that the broker will not change its mind.
const REFUSALS: u32 = 12;

/// A reader of one queue. Dropping it closes its connection; what it was handed and did not acknowledge goes back.
#[derive(Debug)]
pub struct Consumer {
    connector: Arc<Connector>,
    queue: Queue,
    prefetch: u32,
    live: Option<(Connection, Subscription)>,
    patience: Patience,
}

impl Consumer {
    pub(super) async fn open(connector: Arc<Connector>, queue: Queue, prefetch: u32) -> Result<Self, BrokerError> {
        let live = Some(subscribe(&connector, &queue, prefetch).await?);
        Ok(Self { connector, queue, prefetch, live, patience: Patience::default() })
    }

    /// Waits for the next message, over as many reconnections as it takes. May be dropped half-way (`select!`) without
    /// losing a message.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when the broker refuses again and again.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            let error = match &mut self.live {
                Some((connection, subscription)) => match subscription.next().await {
                    Ok(frame) => {
                        self.patience = Patience::default();
                        return Ok(Delivery { message: frame.into(), connection: connection.clone() });
                    }
                    Err(error) => error,
                },
                None => match subscribe(&self.connector, &self.queue, self.prefetch).await {
                    Ok(live) => {
                        tracing::info!(queue = %self.queue, "reading again");
                        self.live = Some(live);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            self.lost(error).await?;
        }
    }

    /// Waits until it is worth trying again.
    async fn lost(&mut self, error: BrokerError) -> Result<(), BrokerError> {
        let lived = self.live.take().map_or(Duration::ZERO, |(connection, _)| connection.age());
        let wait = self.patience.after(&error, lived).ok_or_else(|| error.clone())?;
        tracing::warn!(queue = %self.queue, %error, ?wait, "reading was interrupted");
        sleep(wait).await;
        Ok(())
    }
}

/// How a consumer takes a series of failures.
#[derive(Debug, Default)]
struct Patience {
    backoff: Backoff,
    refusals: u32,
}

impl Patience {
    /// How long to wait after one more failure, of a connection that lived so long; `None` to give up.
    fn after(&mut self, error: &BrokerError, lived: Duration) -> Option<Duration> {
        if lived > Backoff::LONGEST {
            // It had worked: this is news, not one more of the series.
            *self = Self::default();
        }
        self.refusals += u32::from(matches!(error, BrokerError::Refused { .. }));
        (self.refusals < REFUSALS).then(|| self.backoff.next_wait())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Deliveries hold handles on the connection too, and must not keep it open.
        if let Some((connection, _)) = &self.live {
            connection.close();
        }
    }
}

async fn subscribe(
    connector: &Connector,
    queue: &Queue,
    prefetch: u32,
) -> Result<(Connection, Subscription), BrokerError> {
    let connection = Connection::open(connector).await?;
    let subscription = connection.subscription()?;
    let destination = queue.wire(connection.flavour());
    connection.request(subscription.frame(&destination, "client-individual", prefetch)).await?;
    Ok((connection, subscription))
}

/// A message that is ours until it is acknowledged or the connection ends.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    connection: Connection,
}

impl Delivery {
    /// Whether the broker says that it has handed it out before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.message.headers.get("redelivered") == Some("true")
    }

    /// Tells the broker to forget the message, and waits until it has.
    ///
    /// # Errors
    /// Any [`BrokerError`] of the connection: the message will come again, unless only the broker's
    /// answer was lost.
    pub async fn ack(self) -> Result<(), BrokerError> {
        self.settle(Command::Ack).await
    }

    /// Has the broker move the message to the dead queue, as its settings say (those in `deploy/`
    /// do), and waits until it has.
    ///
    /// # Errors
    /// Any [`BrokerError`] of the connection: the message will come again, unless only the broker's
    /// answer was lost.
    pub async fn reject(self) -> Result<(), BrokerError> {
        self.settle(Command::Nack).await
    }

    async fn settle(self, command: Command) -> Result<(), BrokerError> {
        let id = self.message.headers.get("ack").unwrap_or_default();
        let frame = Frame::new(command).header("id", id);
        // RabbitMQ and the embedded broker would hand a refused message out again; ActiveMQ knows
        // no such header.
        let frame = if command == Command::Nack { frame.header("requeue", false) } else { frame };
        self.connection.request(frame).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_in_a_row_end_the_patience() {
        let address = String::new;
        let refused = BrokerError::Refused { address: address(), message: "no".into() };
        let lost = BrokerError::Lost { address: address(), reason: "gone".into() };
        let mut patience = Patience::default();
        assert!((0..100).all(|_| patience.after(&lost, Duration::ZERO).is_some()));
        assert!((1..REFUSALS).all(|_| patience.after(&refused, Duration::ZERO).is_some()));
        assert!(patience.after(&refused, Duration::from_secs(11)).is_some_and(|wait| wait.as_millis() <= 100));
        assert!((2..REFUSALS).all(|_| patience.after(&refused, Duration::ZERO).is_some()));
        assert_eq!(patience.after(&refused, Duration::ZERO), None);
    }
}
