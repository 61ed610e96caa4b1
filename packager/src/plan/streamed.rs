//! The seam to layouts whose bytes come one after the other.

use std::fmt;
use std::sync::Arc;

use adit_shared::objects::ObjectStore;
use bytes::BytesMut;
use tokio::sync::mpsc;

use crate::error::BuildError;
use crate::read::Spare;

/// A stretch of an asset: a whole part, but for the last.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Its bytes.
    pub(crate) bytes: BytesMut,
    /// Whether nothing comes after it.
    pub(crate) last: bool,
    /// Members of the docset whose files are in it and what comes before it.
    pub(crate) members: u64,
    /// Bytes of content that were read for it and what comes before it.
    pub(crate) source: u64,
}

/// An asset whose bytes can only be made from its beginning to its end: equal ones each time.
pub(crate) trait Streamed: fmt::Debug + Send + Sync {
    /// Bytes of the content that it is made of.
    fn source(&self) -> u64;

    /// Begins to make it, in stretches of `part_size` bytes (the last is shorter, and not empty unless it is the only one) in buffers out of
    /// `spare`. Whoever drops the receiver ends it.
    fn start(
        self: Arc<Self>,
        objects: Arc<dyn ObjectStore>,
        part_size: usize,
        spare: Spare,
    ) -> mpsc::Receiver<Result<Stretch, BuildError>>;
}
