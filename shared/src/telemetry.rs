//! Logging: one place that sets up `tracing` for every process. Metrics live with the API.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error: as text, or as one JSON object a line where `json` is set. `filter` is a `tracing` directive list
/// such as `info,adit_packager=debug`; an unreadable one falls back to `info`. Later calls have no effect.
pub fn init(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A subscriber that is already there (a test's, say) stays.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
