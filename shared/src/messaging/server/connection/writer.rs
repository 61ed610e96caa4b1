//! The writing half of a client's socket: answers when the journal allows, messages as they come, heart-beats in between.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::hub::Hub;
use super::super::journal::{self, Journal, Progress};
use super::super::session::{ProtocolError, Reply, message_frame};
use super::super::state::ConnectionId;
use crate::messaging::frame::Frame;
use crate::messaging::stream::Stream;

/// A client that takes not a single byte for so long is given up, so that what it holds goes to others.
const STALLED: Duration = Duration::from_secs(60);

/// The write buffer is given back when it grew beyond this.
const KEPT_BUFFER: usize = 64 * 1024;

pub(super) struct Writer<S> {
    socket: WriteHalf<S>,
    hub: Arc<Hub>,
    id: ConnectionId,
    /// Rings when the queues have messages for this client.
    waker: Arc<Notify>,
    replies: mpsc::Receiver<Reply>,
    /// The next reply: it waits for the journal.
    held: Option<Reply>,
    journal: watch::Receiver<Progress>,
    out: BytesMut,
    send_every: Option<Duration>,
    sent: Instant,
}

impl<S: Stream> Writer<S> {
    pub(super) fn new(
        socket: WriteHalf<S>,
        hub: Arc<Hub>,
        id: ConnectionId,
        waker: Arc<Notify>,
        replies: mpsc::Receiver<Reply>,
        send_every: Option<Duration>,
    ) -> Self {
        // Without a journal no reply has to wait, so a channel that never says anything does.
        let journal = hub.journal.as_ref().map_or_else(|| watch::channel(Progress::default()).1, Journal::progress);
        let (out, sent) = (BytesMut::new(), Instant::now());
        Self { socket, hub, id, waker, replies, held: None, journal, out, send_every, sent }
    }

    /// Puts the first frame into the buffer.
    pub(super) fn greet(&mut self, connected: &Frame) {
        connected.encode(&mut self.out);
    }

    /// Writes until the reader is done and every answer is out.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        loop {
            while self.collect() {
                self.flush().await?;
            }
            if self.out.capacity() > KEPT_BUFFER {
                self.out = BytesMut::new();
            }
            let beat = self.send_every.map(|interval| self.sent + interval);
            tokio::select! {
                reply = self.replies.recv(), if self.held.is_none() => match reply {
                    Some(reply) => self.held = Some(reply),
                    None => return self.socket.shutdown().await,
                },
                () = settled(&mut self.journal, self.held.as_ref()), if self.held.is_some() => {}
                () = self.waker.notified() => {}
                () = sleep_until(beat.unwrap_or(self.sent)), if beat.is_some() => self.out.put_u8(b'\n'),
            }
        }
    }

    /// Encodes what may go out now; false when there is nothing.
    fn collect(&mut self) -> bool {
        while let Some(reply) = self.held.take().or_else(|| self.replies.try_recv().ok()) {
            if reply.after <= self.journal.borrow().durable {
                reply.frame.encode(&mut self.out);
            } else if let Some(why) = journal::failure(&self.journal) {
                // What waited for the journal is not confirmed: the client hears why, and the connection ends.
                ProtocolError::Journal(why).frame(None).encode(&mut self.out);
                self.replies.close();
                while self.replies.try_recv().is_ok() {}
                return true;
            } else {
                self.held = Some(reply);
                break;
            }
        }
        for delivery in self.hub.with(|state, now| state.take(now, self.id)).0 {
            message_frame(&delivery).encode(&mut self.out);
        }
        !self.out.is_empty()
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.out.has_remaining() {
            let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing");
            if timeout(STALLED, self.socket.write_buf(&mut self.out)).await.map_err(stalled)?? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.sent = Instant::now();
        Ok(())
    }
}

/// Waits until the journal has done what a reply waits for, or never will.
async fn settled(journal: &mut watch::Receiver<Progress>, reply: Option<&Reply>) {
    let after = reply.map_or(0, |reply| reply.after);
    // An error says that the journal's thread has ended, which is a failure that the caller finds out by itself.
    let _ = journal.wait_for(|progress| progress.durable >= after || progress.failed.is_some()).await;
}
