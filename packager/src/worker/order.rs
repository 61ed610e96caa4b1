//! Reading a message of the request queue: what is wanted, and where its statuses go. Nothing of it
//! is believed.

use adit_shared::messaging::{Incoming, PackageRequest, Queue};

/// A request that can be worked on.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: PackageRequest,
    /// Where its statuses go.
    pub(super) queue: Queue,
}

/// A message that nothing can ever be made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// For whoever waits for the package, and for the operator.
    pub(super) reason: String,
    /// Where whoever waits is told, if that can be told from the message.
    pub(super) queue: Option<Queue>,
}

/// Reads a request. Without `reply-to`, statuses go to the queue of the docset's number.
pub(super) fn read_order(message: &Incoming) -> Result<Order, Refused> {
    let request = match message.text() {
        Ok(text) => text.parse::<PackageRequest>().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let numbered = request.as_ref().ok().and_then(|request| request.package);
    let numbered = numbered.map(|package| Queue::Package(package.to_string()));
    // Statuses go to queues of statuses alone: whoever asks must not have a packager write anywhere
    // else.
    let reply_to = match message.reply_to() {
        Ok(Some(queue @ Queue::Package(_))) => Ok(Some(queue)),
        Ok(Some(other)) => Err(format!("the header reply-to names {other}, which is no queue of statuses")),
        Ok(None) => Ok(None),
        Err(error) => Err(format!("the header reply-to cannot be used: {error}")),
    };
    let (request, reply_to) = match (request, reply_to) {
        (Ok(request), Ok(reply_to)) => (request, reply_to),
        (Err(reason), reply_to) => return Err(Refused { reason, queue: reply_to.ok().flatten() }),
        (Ok(_), Err(reason)) => return Err(Refused { reason, queue: numbered }),
    };
    match reply_to.or_else(|| request.docset_id().map(|id| Queue::Package(id.to_string()))) {
        Some(queue) => Ok(Order { request, queue }),
        None => {
            let reason = "there is no reply-to header, and the URL does not end in a docset's number".to_owned();
            Err(Refused { reason, queue: numbered })
        }
    }
}
