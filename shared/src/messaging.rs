//! Messaging over STOMP 1.2: how the API and the packagers talk, whichever broker stands between them.
//!
//! [`frame`] is the wire, [`bodies`] what the messages say, [`queues`] where they go, and [`broker`] the client that
//! callers hold. What a message makes happen lives with its reader, in the API and in the packager.

pub mod bodies;
pub mod frame;
pub mod queues;

pub use bodies::{Complete, DeleteRequest, InvalidBody, PackageRequest, StatusMessage};
pub use frame::{Command, Decoder, Frame, FrameError, Headers, Item, Limits};
pub use queues::{Flavour, InvalidQueue, Queue};
