//! The output of a streamed asset: an upload's parts, one after the other.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use tokio::sync::mpsc;

use crate::error::BuildError;
use crate::plan::Stretch;
use crate::read::Spare;

/// How far the source was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// Members of the docset whose rows or files were written.
    pub(super) members: Arc<AtomicU64>,
    /// Bytes of their content.
    pub(super) bytes: Arc<AtomicU64>,
}

/// Gathers bytes to parts and hands them on.
pub(super) struct Parts {
    sender: mpsc::Sender<Result<Stretch, BuildError>>,
    spare: Spare,
    part_size: usize,
    buffer: BytesMut,
    meter: Meter,
}

impl Parts {
    pub(super) fn new(
        sender: mpsc::Sender<Result<Stretch, BuildError>>,
        part_size: usize,
        spare: Spare,
        meter: Meter,
    ) -> Self {
        let buffer = empty(&spare, part_size);
        Self { sender, spare, part_size, buffer, meter }
    }

    /// Hands the last part on.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_on(true)
    }

    fn hand_on(&mut self, last: bool) -> io::Result<()> {
        let next = if last { BytesMut::new() } else { empty(&self.spare, self.part_size) };
        let bytes = std::mem::replace(&mut self.buffer, next);
        let (members, source) = (self.meter.members.load(Ordering::Relaxed), self.meter.bytes.load(Ordering::Relaxed));
        // Whoever does not listen any more has reasons, and does not need to hear ours.
        self.sender
            .blocking_send(Ok(Stretch { bytes, last, members, source }))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn empty(spare: &Spare, part_size: usize) -> BytesMut {
    let mut buffer = spare.take(part_size);
    buffer.clear();
    buffer
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only now is it known that this part is not the last.
        if self.buffer.len() == self.part_size && !bytes.is_empty() {
            self.hand_on(false)?;
        }
        let len = bytes.len().min(self.part_size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
