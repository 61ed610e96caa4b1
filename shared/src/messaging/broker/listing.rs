//! Asks our own broker for its queues: a subscription to `/broker/queues` is answered by one message.

use std::time::Duration;

use tokio::time::timeout;

use super::BrokerError;
use super::connection::Connection;
use super::transport::Connector;
use crate::messaging::queues::Flavour;
use crate::messaging::server::{LISTING, QueueInfo};

/// How long the broker may take to list its queues.
const PATIENCE: Duration = Duration::from_secs(30);

/// See [`super::Broker::queues`].
pub(super) async fn queues(connector: &Connector) -> Result<Option<Vec<QueueInfo>>, BrokerError> {
    let connection = Connection::open(connector).await?;
    if connection.flavour() != Flavour::Adit {
        return Ok(None);
    }
    let mut subscription = connection.subscription()?;
    connection.send(subscription.frame_to(LISTING, "auto", 1)).await?;
    let address = connector.config.address();
    let no_answer = || BrokerError::NoReceipt {
        address: address.clone(),
        what: format!("SUBSCRIBE to {LISTING}"),
        waited: PATIENCE,
    };
    let frame = timeout(PATIENCE, subscription.next()).await.map_err(|_| no_answer())??;
    let queues = serde_json::from_slice(&frame.body);
    queues
        .map(Some)
        .map_err(|error| BrokerError::Lost { address, reason: format!("its list of queues is unreadable: {error}") })
}
