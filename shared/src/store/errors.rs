//! Turns errors of the database driver into [`StoreError`]s.
//!
//! Their texts carry no SQL and no values: those may be a miner's query or a secret's hash, and the texts end up in logs.

use sqlx::error::{DatabaseError, ErrorKind};

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(error) => database(error.as_ref()),
            sqlx::Error::Io(error) => Self::Unavailable(format!("the connection broke ({})", error.kind())),
            sqlx::Error::Tls(error) => Self::Unavailable(format!("no TLS connection: {error}")),
            sqlx::Error::PoolTimedOut => {
                Self::Unavailable("it gives no connection and does not answer; is it running and reachable?".to_owned())
            }
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable("the connection is closed".to_owned())
            }
            sqlx::Error::ColumnDecode { index, .. } => {
                Self::Corrupt(format!("column {index} does not hold what it should"))
            }
            sqlx::Error::ColumnNotFound(column) => Self::Corrupt(format!("there is no column {column}")),
            _ => Self::Unavailable("the driver and the database do not understand each other".to_owned()),
        }
    }
}

fn database(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let reason = match (error.kind(), code.as_ref()) {
        (ErrorKind::UniqueViolation, _) => "a value that must be unique is there already",
        (ErrorKind::ForeignKeyViolation, _) => "a row that this one belongs to is not there",
        (ErrorKind::CheckViolation, _) | (_, "22021") => "text with a NUL character cannot be stored",
        // SQLite's extended result codes carry the primary one in the low byte; PostgreSQL's SQLSTATEs have five characters.
        (_, code) if code.len() != 5 => sqlite_reason(code),
        (_, code) => postgres_reason(code),
    };
    let text = format!("{reason} (code {code})");
    if is_refusal(&code) { StoreError::Refused(text) } else { StoreError::Unavailable(text) }
}

/// See <https://sqlite.org/rescode.html>.
fn sqlite_reason(code: &str) -> &'static str {
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => "the file stayed locked by another process",
        Ok(8) => "the file cannot be written to; check its owner and mode",
        Ok(10) => "the disk failed",
        Ok(11 | 26) => "the file is damaged or no SQLite database; restore it from a backup",
        Ok(13) => "the disk is full; make room",
        Ok(14) => "the file cannot be opened; check that its folder exists and may be written to",
        _ => "a statement failed",
    }
}

/// Whether a SQLSTATE tells of what stays as it is until somebody changes a setting.
fn is_refusal(code: &str) -> bool {
    matches!(code, "3D000" | "42501") || code.len() == 5 && code.starts_with("28")
}

/// See the appendix "PostgreSQL Error Codes" of its manual.
fn postgres_reason(code: &str) -> &'static str {
    match code {
        "3D000" => "there is no database of that name; create it",
        "42501" => "the user may not do this; grant it the rights on its schema",
        "53100" => "the server's disk is full; make room",
        "53300" => "the server takes no more connections; raise max_connections",
        _ => match code.get(..2) {
            Some("08") => "the connection broke",
            Some("28") => "the server refused user or password",
            Some("40") => "the transaction was rolled back",
            Some("57") => "the server is starting up or shutting down",
            _ => "a statement failed",
        },
    }
}

/// Whether a row was refused because the row that it refers to is not there.
pub(super) fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::ForeignKeyViolation)
}
