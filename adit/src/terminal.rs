//! The one place where verbs print. What they print holds foreign text, so that all of it passes
//! [`Printable`]: nothing steers the terminal, whether output goes there or into a file that is
//! shown later. JSON keeps its values ([`JsonPrintable`]). CSV and contracts are data: they leave
//! as they are where standard output is no terminal.
//!
//! Values that belong into one line are wrapped by [`Printable::line`] where they are printed.
//!
//! Nothing that cannot be printed ends in a panic. A verb whose standard output nobody reads any
//! more ends quietly; a server goes on ([`outlive_readers`]).

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use adit_shared::config::ConfigErrors;
use adit_shared::display::{JsonPrintable, Printable};
use serde::Serialize;

/// Prints a line to standard output, as `println!` does, without characters that steer a terminal.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::terminal::print_text(&format!($($argument)*)) };
}

/// Prints a line to standard error, as `eprintln!` does, without characters that steer a terminal.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::terminal::print_error(&format!($($argument)*)) };
}

pub(crate) use {errln, outln};

/// Prints a line of text to standard output.
pub(crate) fn print_text(text: &str) {
    finish(writeln!(io::stdout(), "{}", Printable::lines(text)));
}

/// Prints a line of text to standard error. Where that cannot be written, nobody can be told.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", Printable::lines(text));
}

/// Prints why a verb has failed, with all reasons behind it: in one line, but for mistakes of the
/// configuration.
pub(crate) fn print_failure(error: &anyhow::Error) {
    let text = format!("{error:#}");
    if error.is::<ConfigErrors>() {
        print_error(&format!("adit: {text}"));
    } else {
        print_error(&format!("adit: {}", Printable::line(&text)));
    }
}

/// Prints a line in which everything foreign is printable already, and which has escapes of our
/// own.
pub(crate) fn print_styled(line: &str) {
    finish(writeln!(io::stdout(), "{line}"));
}

/// Prints a value as JSON of several lines.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    print_json_text(&text);
    Ok(())
}

/// Prints a text that is JSON, such as a line of NDJSON, in a line of its own.
pub(crate) fn print_json_text(text: &str) {
    finish(writeln!(io::stdout(), "{}", JsonPrintable(text.trim_end_matches(['\r', '\n']))));
}

/// Prints data of another form: byte for byte into files and pipes, without characters that steer
/// it on a terminal.
pub(crate) fn print_data(data: &[u8]) {
    let mut out = io::stdout().lock();
    let on_terminal = out.is_terminal();
    finish(write_data(&mut out, data, on_terminal).and_then(|()| out.flush()));
}

fn write_data(out: &mut impl Write, data: &[u8], on_terminal: bool) -> io::Result<()> {
    if !on_terminal {
        return out.write_all(data);
    }
    // The line ends of CSV are no matter for a terminal.
    let text = String::from_utf8_lossy(data).replace("\r\n", "\n");
    write!(out, "{}", Printable::lines(&text))
}

/// Exit status of a program whose standard output nobody reads any more, as shells count it: 128
/// and the number of SIGPIPE.
const READER_GONE: i32 = 141;

/// Set where this process goes on when its standard output cannot be written.
static OUTLIVES_READERS: AtomicBool = AtomicBool::new(false);

/// Lets this process go on when its standard output cannot be written: what a server prints matters
/// less than what it serves.
pub(crate) fn outlive_readers() {
    OUTLIVES_READERS.store(true, Ordering::Relaxed);
}

/// Ends a verb when standard output can be written no more: quietly where nobody reads on.
fn finish(written: io::Result<()>) {
    let Err(error) = written else { return };
    if OUTLIVES_READERS.load(Ordering::Relaxed) {
        tracing::warn!(%error, "standard output cannot be written; the process goes on");
        return;
    }
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(READER_GONE)
    }
    print_error(&format!("adit: cannot write to standard output: {error}"));
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_exact_in_a_pipe_and_harmless_on_a_terminal() {
        let data = "ref,title\r\na,\x1b]0;owned\x07\r\n".as_bytes();
        let written = |on_terminal| {
            let mut out = Vec::new();
            write_data(&mut out, data, on_terminal).unwrap();
            out
        };
        assert_eq!(written(false), data);
        assert_eq!(String::from_utf8(written(true)).unwrap(), "ref,title\na,\\u{1b}]0;owned\\u{7}\n");
    }
}
