//! Sending over one kept connection, which is replaced when it is lost or old.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::connection::Connection;
use super::transport::Connector;
use super::{BrokerError, Outgoing, Queue};

/// So many refusals (ERROR frames) of one message end the attempts: each costs the others on the connection a retry.
const REFUSALS: u32 = 5;

#[derive(Debug)]
pub(super) struct Publisher {
    connector: Arc<Connector>,
    kept: Mutex<Option<Connection>>,
}

impl Publisher {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, kept: Mutex::default() }
    }

    /// The kept connection, or a new one; those who come meanwhile wait for the same one.
    pub(super) async fn connection(&self) -> Result<Connection, BrokerError> {
        let mut kept = self.kept.lock().await;
        let oldest = self.connector.config.connection_age();
        if let Some(connection) = kept.as_ref().filter(|connection| connection.is_usable(oldest)) {
            return Ok(connection.clone());
        }
        // Those who still wait for a receipt on the old one hold handles of their own.
        *kept = None;
        let connection = Connection::open(&self.connector).await?;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// See [`super::Broker::publish`].
    pub(super) async fn publish(&self, queue: &Queue, message: &Outgoing) -> Result<(), BrokerError> {
        let waited = self.connector.config.publish_timeout;
        let deadline = Instant::now() + waited;
        let (mut backoff, mut refusals, mut last) = (Backoff::default(), 0, None);
        loop {
            let error = match timeout_at(deadline, self.publish_once(queue, message)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                // What went wrong before tells more than that time is over.
                Err(_) => return Err(last.unwrap_or_else(|| self.no_receipt(queue, waited))),
            };
            refusals += u32::from(matches!(error, BrokerError::Refused { .. }));
            let wait = backoff.next_wait();
            if refusals == REFUSALS || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::warn!(%queue, %error, ?wait, "a message was not sent; it will be tried again");
            last = Some(error);
            sleep(wait).await;
        }
    }

    fn no_receipt(&self, queue: &Queue, waited: Duration) -> BrokerError {
        BrokerError::NoReceipt { address: self.connector.config.address(), what: format!("SEND {queue}"), waited }
    }

    async fn publish_once(&self, queue: &Queue, message: &Outgoing) -> Result<(), BrokerError> {
        let connection = self.connection().await?;
        let frame = message.frame(queue, connection.flavour(), self.connector.config.queue_expiry);
        connection.request(frame).await
    }
}
