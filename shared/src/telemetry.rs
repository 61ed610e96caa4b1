//! Logging: one place that sets up `tracing` for every process. Metrics live with the API.

mod queue;

use std::io::{IsTerminal as _, stderr};
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::{MakeWriter, format};

pub use queue::lost_lines;

use self::queue::LogQueue;
use crate::display::Printable;

/// Sends log lines to standard error: as text, or as one JSON object a line where `json` is set.
/// `filter` is a `tracing` directive list such as `info,adit_packager=debug`; an unreadable one
/// falls back to `info`. Later calls have no effect. Values of fields come from anywhere: in text
/// they are shown by [`Printable`], so that none begins a line of its own or steers a terminal.
///
/// A line that cannot be written (nobody reads on, the disk of the log is full) is lost, and
/// nothing else: by itself the library tells that on standard error too, where it panics, in
/// whatever thread has logged.
pub fn init(filter: &str, json: bool) {
    init_with(filter, json, stderr);
}

/// Does the same for a server, where nobody waits for whoever reads the log: lines go through a
/// bounded queue, and those that do not fit are lost and counted ([`lost_lines`]). What panics say
/// goes the same way.
#[must_use = "lines that wait are written when it is dropped"]
pub fn init_queued(filter: &str, json: bool) -> QueuedLog {
    let queue = LogQueue::default();
    if queue.start(stderr()).is_err() {
        init(filter, json);
        return QueuedLog(queue);
    }
    init_with(filter, json, queue.clone());
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, panic = panic.payload_as_str().unwrap_or("?"), "a thread panicked");
    }));
    QueuedLog(queue)
}

fn init_with(filter: &str, json: bool, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer)
        .with_ansi(stderr().is_terminal());
    // A subscriber that is already there (a test's, say) stays.
    let _ = if json { builder.json().try_init() } else { builder.fmt_fields(printable_fields()).try_init() };
}

/// Time for what is left to be written when the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// The queued log of a server. Dropping it waits, a second at most, until its lines are written.
#[derive(Debug)]
pub struct QueuedLog(LogQueue);

impl QueuedLog {
    /// Writes last words to standard error behind all lines, if somebody reads them soon.
    pub fn say_last(&self, say: impl FnOnce() + Send + 'static) {
        if self.0.flush(FAREWELL) {
            let (said, done) = mpsc::channel();
            thread::spawn(move || {
                say();
                let _ = said.send(());
            });
            let _ = done.recv_timeout(FAREWELL);
        }
    }
}

impl Drop for QueuedLog {
    fn drop(&mut self) {
        self.0.flush(FAREWELL);
    }
}

fn printable_fields() -> impl for<'writer> format::FormatFields<'writer> + Send + Sync + 'static {
    let fields = format::debug_fn(|writer, field, value| {
        let shown = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", Printable::line(&shown)),
            name => write!(writer, "{name}={}", Printable::line(&shown)),
        }
    });
    fields.delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_value_of_a_field_steers_the_terminal_or_begins_a_line() {
        let written = Written::default();
        let made = written.clone();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(move || made.clone());
        let foreign = "\x1b]0;x\x07\nERROR forged \u{9b}31m\u{202e}";
        tracing::subscriber::with_default(builder.fmt_fields(printable_fields()).finish(), || {
            let span = tracing::info_span!("request", path = %foreign);
            let _entered = span.enter();
            tracing::warn!(watch = foreign, error = %foreign, "told: {foreign}");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(crate::display::steers), "{text:?}");
        assert!(text.contains("told: ") && text.contains("watch=") && text.contains("request{path="), "{text}");
    }
}
