//! Reads a server's answers, which are hostile until they are checked: no more of them than there
//! can be, and of problems what a person can read.

use std::fmt;
use std::time::Duration;

use adit_shared::display::Printable;
use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use reqwest::header::{HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use tokio_util::io::StreamReader;

/// Most bytes of an answer in JSON.
const MAX_JSON: u64 = 64 << 20;
/// Most bytes of a problem.
const MAX_PROBLEM: u64 = 64 << 10;
/// Most bytes of a line of NDJSON or CSV.
const MAX_LINE: u64 = 16 << 20;
/// Most characters that are shown of a title or a detail.
const MAX_SHOWN: usize = 2000;
/// Longest pause that a server is believed to want.
const MAX_PAUSE: u64 = 86_400;

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its status.
    pub(crate) status: StatusCode,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The problem details, where the answer holds them.
    pub(crate) problem: Value,
    /// Whether it is of an object store that the server has redirected to.
    of_store: bool,
    message: String,
}

impl Refusal {
    /// Whether the same request may succeed later: the server's own trouble, a timeout, or too many
    /// requests. What an object store denies or has lost the server knows better when it is asked
    /// again.
    pub(crate) fn may_pass(&self) -> bool {
        let own = matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let of_store = matches!(self.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        self.status.is_server_error() || own || (self.of_store && of_store)
    }

    /// Reads an answer that is no success: problem details (RFC 9457), where it holds them.
    pub(super) async fn read(response: Response, of_store: bool) -> Self {
        let status = response.status();
        let header =
            |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The other form, a date, is sent by no server of this API.
        let seconds = header(RETRY_AFTER).and_then(|text| text.parse::<u64>().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.min(MAX_PAUSE)));
        if let Some(location) = header(LOCATION).filter(|_| status.is_redirection()) {
            let message =
                format!("the server is at {} now ({}); name it with --url", shown(&location), status.as_u16());
            return Self { status, retry_after, problem: Value::Null, of_store, message };
        }
        let bytes = read_body(response, MAX_PROBLEM).await.unwrap_or_default();
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let title = shown(problem["title"].as_str().unwrap_or("the server refused"));
        let detail = shown(problem["detail"].as_str().unwrap_or_default());
        let message = match status {
            StatusCode::UNAUTHORIZED => {
                format!("{title}: {detail}; put the key into ADIT_API_KEY (it is shown only to the server of --url)")
            }
            _ => format!("{title} ({}): {detail}", status.as_u16()),
        };
        Self { status, retry_after, problem, of_store, message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Text of a server, as it can stand in a line.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(MAX_SHOWN).collect();
    Printable::line(&text).to_string()
}

/// Reads JSON of at most [`MAX_JSON`] bytes.
pub(super) async fn read_json(response: Response) -> anyhow::Result<Value> {
    let bytes = read_body(response, MAX_JSON).await.context("the server's answer cannot be read")?;
    serde_json::from_slice(&bytes).context("the server's answer is not JSON")
}

async fn read_body(mut response: Response, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(bytes.len() as u64 + chunk.len() as u64 <= most, "it has more than {most} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads an answer of lines to its end, each of at most [`MAX_LINE`] bytes and with its line end,
/// if it has one.
pub(super) async fn read_lines(
    response: Response,
    mut each: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut bytes = StreamReader::new(response.bytes_stream().map_err(std::io::Error::other));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut bytes).take(MAX_LINE + 1).read_until(b'\n', &mut line).await;
        if read.context("the answer did not come to its end")? == 0 {
            return Ok(());
        }
        ensure!(line.len() as u64 <= MAX_LINE, "the server's answer has a line of more than {MAX_LINE} bytes");
        let text = std::str::from_utf8(&line).context("the server's answer is not UTF-8")?;
        each(text)?;
    }
}
