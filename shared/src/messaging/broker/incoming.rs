//! A message that came, read with suspicion: whoever may write to a queue may write anything.

use bytes::Bytes;

use super::{REPLY_TO, SEQUENCE, TRACEPARENT};
use crate::messaging::frame::{Frame, Headers};
use crate::messaging::queues::{InvalidQueue, Queue};

/// Bytes that a body may have. Those of Adit have a few hundred.
const MAX_BODY: usize = 64 << 10;

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Its headers: those it was sent with and those of the broker.
    pub headers: Headers,
    /// Its body; [`Incoming::text`] reads it.
    pub body: Bytes,
}

/// A message that makes no sense, however often it is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableMessage {
    /// The body is far longer than any of ours.
    #[error("the body is longer than {MAX_BODY} bytes")]
    TooLong,
    /// The body is no text.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The sender says that the body is no text.
    #[error("the header content-type is {0:?}: it must be text/plain")]
    ContentType(String),
    /// No number in the header `sequence`.
    #[error("the header sequence is {0:?}: it must be a whole number of at most 63 bits, not negative")]
    Sequence(String),
}

impl Incoming {
    /// The body as text. A message without a `content-type` is taken for text.
    ///
    /// # Errors
    /// When it is none, or far too long.
    pub fn text(&self) -> Result<&str, UnreadableMessage> {
        if let Some(content_type) = self.headers.get("content-type")
            && !content_type.trim_start().get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
        {
            return Err(UnreadableMessage::ContentType(excerpt(content_type)));
        }
        if self.body.len() > MAX_BODY {
            return Err(UnreadableMessage::TooLong);
        }
        std::str::from_utf8(&self.body).map_err(|_| UnreadableMessage::NotUtf8)
    }

    /// The queue that answers shall go to, if the sender named one.
    ///
    /// # Errors
    /// When it is not a queue of ours.
    pub fn reply_to(&self) -> Result<Option<Queue>, InvalidQueue> {
        self.headers.get(REPLY_TO).map(str::parse).transpose()
    }

    /// The number by which statuses are ordered, if the sender gives one.
    ///
    /// # Errors
    /// When it is no number that rises.
    pub fn sequence(&self) -> Result<Option<i64>, UnreadableMessage> {
        let Some(text) = self.headers.get(SEQUENCE) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number >= 0);
        number.map(Some).ok_or_else(|| UnreadableMessage::Sequence(excerpt(text)))
    }

    /// The trace that the message belongs to. A header that is not of the form `00-<32>-<16>-<2>`
    /// in lower-case hexadecimal is none, and the trace begins anew (W3C Trace Context, § 3.2.2 and
    /// § 4.3).
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get(TRACEPARENT).filter(|text| is_traceparent(text))
    }
}

impl From<Frame> for Incoming {
    fn from(frame: Frame) -> Self {
        Self { headers: frame.headers, body: frame.body }
    }
}

/// The beginning of a foreign text, for an error.
fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = fields.iter().map(|field| field.len()).collect();
    let hexadecimal = text.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f'));
    let some = |field: &&str| field.bytes().any(|byte| byte != b'0');
    lengths == [2, 32, 16, 2] && hexadecimal && fields[0] != "ff" && fields[1..3].iter().all(some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)], body: &'static [u8]) -> Incoming {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Incoming { headers: Headers(headers), body: Bytes::from_static(body) }
    }

    #[test]
    fn a_body_is_text_of_a_sensible_size() {
        for kind in [None, Some("text/plain"), Some("Text/Plain;charset=utf-8")] {
            let headers: Vec<_> = kind.into_iter().map(|kind| ("content-type", kind)).collect();
            assert_eq!(message(&headers, b"Dismissed").text(), Ok("Dismissed"), "{kind:?}");
        }
        for kind in ["application/octet-stream", "tex", "té/plain", ""] {
            let error = message(&[("content-type", kind)], b"Dismissed").text().unwrap_err();
            assert_eq!(error, UnreadableMessage::ContentType(kind.to_owned()));
        }
        assert_eq!(message(&[], b"\xff").text(), Err(UnreadableMessage::NotUtf8));
        assert!(message(&[], &[b'a'; MAX_BODY]).text().is_ok());
        assert_eq!(message(&[], &[b'a'; MAX_BODY + 1]).text(), Err(UnreadableMessage::TooLong));
    }

    #[test]
    fn a_sequence_is_a_number_that_can_rise() {
        assert_eq!(message(&[], b"").sequence(), Ok(None));
        assert_eq!(message(&[("sequence", "1763769600000003")], b"").sequence(), Ok(Some(1_763_769_600_000_003)));
        for bad in ["", "-1", "1.5", "9223372036854775808", "1\n2", &"9".repeat(70_000)] {
            assert!(message(&[("sequence", bad)], b"").sequence().is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn a_traceparent_is_of_the_form_that_the_w3c_gives_it_or_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(message(&[("traceparent", good)], b"").traceparent(), Some(good));
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let zeroes = format!("00-{}-{parent}-01", "0".repeat(32));
        let orphan = format!("00-{trace}-{}-01", "0".repeat(16));
        let forbidden = format!("ff-{trace}-{parent}-01");
        let broken = format!("{good}\r\nx-api-key: stolen");
        let long = "0".repeat(65_536);
        for bad in [&zeroes, &orphan, &forbidden, &broken, &long, &good.to_uppercase(), "00-ab-cd-01", "", "---"] {
            assert_eq!(message(&[("traceparent", bad)], b"").traceparent(), None, "{bad:.80}");
        }
    }
}
