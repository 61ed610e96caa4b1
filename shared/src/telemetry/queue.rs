//! A bounded queue of log lines and the thread that writes them, so that nobody who logs waits for
//! whoever reads the log.
//!
//! A reader that stays but does not read fills its pipe; written directly, the next line would hold
//! up whoever logs it, and with it every request. What does not fit into the queue is lost and
//! counted, and a line says so when there is room again.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait at most: some thousand lines.
const CAPACITY: usize = 1 << 20;
/// Pause before a stream that takes nothing now, without blocking, is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Lines that were lost since the process began.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Counts the log lines that were lost because nobody read them in time.
#[must_use]
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Lines that wait to be written; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lines that were lost and not told of yet.
    untold: u64,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. It goes on until the process ends.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(super) fn start(&self, out: impl Write + Send + 'static) -> io::Result<()> {
        let queue = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_all_to(out)).map(drop)
    }

    /// Waits until everything is written, at most that long. Tells whether it is.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.lock(), patience, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while it is held.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > CAPACITY {
            state.untold += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.0.changed.notify_all();
    }

    fn write_all_to(&self, mut out: impl Write) {
        loop {
            let lines = self.take();
            // A line that cannot be written is lost: there is nobody to tell.
            let _ = write_patiently(&mut out, &lines);
            let untold = {
                let mut state = self.lock();
                state.is_writing = false;
                mem::take(&mut state.untold)
            };
            self.0.changed.notify_all();
            if untold > 0 {
                tracing::warn!(lines = untold, "log lines were lost: nobody read them in time");
            }
        }
    }

    /// Waits for lines and takes them all.
    fn take(&self) -> Vec<u8> {
        let is_idle = |state: &mut State| state.waiting.is_empty();
        let waited = self.0.changed.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        mem::take(&mut state.waiting)
    }
}

/// Writes everything, also to a pipe that somebody else has set not to block.
fn write_patiently(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// Puts what it is given into the queue: one line each time, as the subscriber writes them.
#[derive(Debug)]
pub(super) struct QueueWriter<'a>(&'a LogQueue);

impl Write for QueueWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = QueueWriter<'a>;

    fn make_writer(&'a self) -> QueueWriter<'a> {
        QueueWriter(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader of whole writes, who decides when each may go on.
    struct SlowReader {
        read: Sender<Vec<u8>>,
        may_go_on: Receiver<()>,
    }

    impl Write for SlowReader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.read.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.may_go_on.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted_and_the_rest_comes_in_order() {
        let ((read, lines), (go_on, may_go_on)) = (channel(), channel());
        let queue = LogQueue::default();
        queue.start(SlowReader { read, may_go_on }).unwrap();
        queue.push(b"first\n");
        assert_eq!(lines.recv().unwrap(), b"first\n");
        let before = lost_lines();
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..6 {
            queue.push(&line);
        }
        assert_eq!((lost_lines() - before, queue.lock().untold), (2, 2));
        assert!(!queue.flush(Duration::from_millis(20)), "nobody reads");
        go_on.send(()).unwrap();
        assert_eq!(lines.recv().unwrap().len(), CAPACITY);
        go_on.send(()).unwrap();
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(queue.lock().untold, 0);
        drop(lines);
        queue.push(b"to nobody\n");
        assert!(queue.flush(Duration::from_secs(60)), "a reader that is gone holds nothing up");
    }
}
