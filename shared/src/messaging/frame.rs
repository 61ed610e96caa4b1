//! STOMP 1.2 frames as bytes, for both sides of a connection, without any input or output of its own.
//!
//! [`Frame::encode`] writes, [`Decoder`] reads whatever has arrived so far and goes on where it stopped, so a frame costs
//! the same in one piece or byte by byte. Source: <https://stomp.github.io/stomp-specification-1.2.html>. What a frame
//! means in a session is the business of [`super::broker`] and of the server.
//!
//! `content-length` belongs to the wire: the encoder writes it, the decoder uses it up, and [`Headers`] do not show it.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut as _, Bytes, BytesMut};

mod decoder;

pub use decoder::{Decoder, FrameError, Item, Limits};

const CONTENT_LENGTH: &str = "content-length";

macro_rules! commands {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A command of STOMP 1.2; `Stomp` is the other name of `Connect`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are the specification's")]
        pub enum Command { $($name),+ }

        impl Command {
            /// Every command.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

commands! {
    Connect = "CONNECT", Stomp = "STOMP", Connected = "CONNECTED", Send = "SEND", Subscribe = "SUBSCRIBE",
    Unsubscribe = "UNSUBSCRIBE", Ack = "ACK", Nack = "NACK", Begin = "BEGIN", Commit = "COMMIT", Abort = "ABORT",
    Disconnect = "DISCONNECT", Message = "MESSAGE", Receipt = "RECEIPT", Error = "ERROR",
}

impl Command {
    /// Whether header names and values are escaped. Frames of the handshake are not, for the sake of STOMP 1.0.
    fn escapes(self) -> bool {
        !matches!(self, Self::Connect | Self::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Command {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|command| command.as_str() == text);
        found.copied().ok_or_else(|| FrameError::UnknownCommand(decoder::excerpt(text.as_bytes())))
    }
}

/// A frame's headers in their order on the wire. A name may come more than once: the first counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of the first header of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Adds a header at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Headers {
    /// Leaves the secret out, so that a frame can be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(n, v)| (n, if n == "passcode" { "***" } else { v }))).finish()
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it asks or tells.
    pub command: Command,
    /// Its headers, unescaped, without `content-length`.
    pub headers: Headers,
    /// Its body: any bytes. The specification has one only on SEND, MESSAGE and ERROR.
    pub body: Bytes,
}

impl Frame {
    /// A frame without headers or body.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self { command, headers: Headers::default(), body: Bytes::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push(name, value.to_string());
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Appends the frame's bytes to `out`.
    ///
    /// What STOMP has no way to write is left out, so that no header can break out of its frame: NUL anywhere in
    /// headers; CR and LF, and `:` in a name, in CONNECT and CONNECTED.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.command.as_str().as_bytes());
        out.put_u8(b'\n');
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            put_text(out, name, self.command.escapes(), true);
            out.put_u8(b':');
            put_text(out, value, self.command.escapes(), false);
            out.put_u8(b'\n');
        }
        if !self.body.is_empty() {
            out.put_slice(format!("{CONTENT_LENGTH}:{}\n", self.body.len()).as_bytes());
        }
        out.put_u8(b'\n');
        out.put_slice(&self.body);
        out.put_u8(0);
    }
}

fn put_text(out: &mut BytesMut, text: &str, escaped: bool, is_name: bool) {
    out.reserve(text.len() + 1);
    for byte in text.bytes() {
        match (byte, escaped) {
            (0, _) | (b'\r' | b'\n', false) => {}
            (b':', false) if is_name => {}
            (b'\r', true) => out.put_slice(br"\r"),
            (b'\n', true) => out.put_slice(br"\n"),
            (b':', true) => out.put_slice(br"\c"),
            (b'\\', true) => out.put_slice(br"\\"),
            _ => out.put_u8(byte),
        }
    }
}

#[cfg(test)]
mod tests;
