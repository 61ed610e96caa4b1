//! `adit queues`: what waits on the broker, as an operator sees it.

use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::messaging::{Broker, BrokerConfig};
use anyhow::Context as _;

use crate::running;
use crate::terminal::{outln, print_json};

/// Prints the queues of the broker.
pub(crate) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let url = match &config.broker_url {
        Some(url) => url.reveal().to_owned(),
        None => running::find(&config.data).map(|running| running.broker).with_context(|| {
            format!(
                "no `adit up` runs on {}; name it with --data, or a broker with ADIT_BROKER_URL",
                config.data.display()
            )
        })?,
    };
    let broker = Broker::new(url.parse::<BrokerConfig>()?);
    let queues = broker.queues().await?;
    if json {
        print_json(&queues)?;
        return Ok(());
    }
    outln!("{:>8}  {:>8}  {:>9}  {:>12}  queue", "ready", "unacked", "consumers", "bytes");
    for queue in queues {
        outln!(
            "{:>8}  {:>8}  {:>9}  {:>12}  {}",
            queue.ready,
            queue.unacknowledged,
            queue.consumers,
            queue.bytes,
            Printable::line(&queue.name)
        );
    }
    Ok(())
}
