//! Messaging over STOMP 1.2: how the API and the packagers talk, whichever broker stands between them.
//!
//! [`frame`] is the wire, [`bodies`] what the messages say, [`queues`] where they go, [`broker`] the client that
//! callers hold, and [`server`] the broker inside `adit up`. What a message makes happen lives with its reader, in the API and in the packager.

pub mod bodies;
pub mod broker;
pub mod frame;
pub mod queues;
pub mod server;
mod stream;

pub use bodies::{Complete, DeleteRequest, InvalidBody, PackageRequest, StatusMessage};
pub use broker::{
    Backoff, Broker, BrokerConfig, BrokerError, Consumer, Delivery, Drained, Incoming, InvalidBrokerUrl, Outgoing,
    Session, UnreadableMessage, socket_url,
};
pub use frame::{Command, Decoder, Frame, FrameError, Headers, Item, Limits};
pub use queues::{Flavour, InvalidQueue, Queue};
pub use server::{
    BrokerServer, InsideBroker, JournalError, QueueInfo, ServerConfig, ServerError, find_journal_damage, repair_journal,
};
