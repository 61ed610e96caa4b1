//! Reading frames out of a stream, however it is cut, within limits.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{CONTENT_LENGTH, Command, Frame, Headers};

/// What a peer may ask of our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Headers in one frame.
    pub headers: usize,
    /// Bytes of a frame's command and headers together.
    pub head_bytes: usize,
    /// Bytes of a frame's body.
    pub body_bytes: usize,
}

impl Default for Limits {
    /// 100 headers, 64 KiB of them, a body of 4 MiB: far above any message of Adit.
    fn default() -> Self {
        Self { headers: 100, head_bytes: 64 << 10, body_bytes: 4 << 20 }
    }
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// One or more line ends between frames: the peer is alive.
    HeartBeat,
}

/// The stream is not STOMP, or exceeds the limits. Nothing after it can be read: close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first line is no command.
    #[error("unknown STOMP command {0:?}")]
    UnknownCommand(String),
    /// A header line without a name or without its colon.
    #[error("{command} frame: the header line {line:?} is not of the form name:value")]
    Header {
        /// The frame's command.
        command: Command,
        /// The beginning of the line.
        line: String,
    },
    /// An escape sequence that STOMP 1.2 does not define.
    #[error(r"{command} frame: header {name:?} holds an escape other than \r, \n, \c and \\")]
    Escape {
        /// The frame's command.
        command: Command,
        /// The header's name, as it stands on the wire.
        name: String,
    },
    /// Command or headers are not UTF-8.
    #[error("command and headers must be UTF-8, not {0:?}")]
    NotUtf8(String),
    /// The frame ended before the blank line that ends its headers.
    #[error("NUL before the blank line that ends the headers, at {0:?}")]
    NulInHead(String),
    /// More headers than [`Limits::headers`].
    #[error("{command} frame: more than {limit} headers")]
    TooManyHeaders {
        /// The frame's command.
        command: Command,
        /// The limit.
        limit: usize,
    },
    /// Command and headers are longer than [`Limits::head_bytes`].
    #[error("command and headers are longer than {0} bytes")]
    HeadTooLong(usize),
    /// The body is longer than [`Limits::body_bytes`].
    #[error("{command} frame: the body is longer than {limit} bytes")]
    BodyTooLong {
        /// The frame's command.
        command: Command,
        /// The limit in bytes.
        limit: usize,
    },
    /// `content-length` is not a number.
    #[error("{command} frame: content-length must be a number of bytes, not {value:?}")]
    ContentLength {
        /// The frame's command.
        command: Command,
        /// What it was.
        value: String,
    },
    /// The byte after `content-length` bytes of body is not NUL.
    #[error("{command} frame: no NUL after the {length} bytes of body that content-length promised")]
    NotTerminated {
        /// The frame's command.
        command: Command,
        /// The promised length.
        length: usize,
    },
}

/// Reads frames from the bytes that have arrived. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    /// See [`Decoder::lenient`].
    lenient: bool,
    /// The frame whose blank line has not come yet, or whose body has not.
    open: Option<Open>,
    /// Bytes at the front of the buffer that were searched in vain: no byte is searched twice.
    searched: usize,
}

#[derive(Debug)]
struct Open {
    command: Command,
    headers: Headers,
    head_bytes: usize,
    length: Option<usize>,
    in_body: bool,
    /// What is kept of a body that is longer than the limit, of which the rest is still coming.
    kept: Option<Bytes>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A decoder for the frames of a broker that hands on what others have sent: nothing that a
    /// sender can write into a message ends the connection, as the message would come again on the
    /// next one. Of a body that is too long the beginning is kept, one byte more than the limit;
    /// bytes that are no text are replaced, and unknown escapes left as they stand.
    #[must_use]
    pub fn lenient(limits: Limits) -> Self {
        Self { limits, lenient: true, ..Self::default() }
    }

    /// Takes the next item off the front of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the stream cannot be read any further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, FrameError> {
        if self.open.is_none() && self.skip_line_ends(buffer) {
            return Ok(Some(Item::HeartBeat));
        }
        while !self.open.as_ref().is_some_and(|open| open.in_body) {
            let Some(line) = self.line(buffer)? else { return Ok(None) };
            self.head_line(&line)?;
        }
        self.body(buffer)
    }

    /// Whether there were line ends before a frame. A CR may be the first half of one: it waits for its LF.
    fn skip_line_ends(&mut self, buffer: &mut BytesMut) -> bool {
        let mut count = 0;
        loop {
            match &buffer[count..] {
                [b'\n', ..] => count += 1,
                [b'\r', b'\n', ..] => count += 2,
                _ => break,
            }
        }
        if count > 0 {
            buffer.advance(count);
            self.searched = 0;
        }
        count > 0
    }

    /// The next line without its end.
    fn line(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let used = self.open.as_ref().map_or(0, |open| open.head_bytes);
        let end = buffer[self.searched..].iter().position(|&byte| byte == b'\n').map(|at| self.searched + at);
        if used + end.unwrap_or(buffer.len()) > self.limits.head_bytes {
            return Err(FrameError::HeadTooLong(self.limits.head_bytes));
        }
        let Some(end) = end else {
            if let Some(nul) = buffer[self.searched..].iter().position(|&byte| byte == 0) {
                return Err(FrameError::NulInHead(excerpt(&buffer[..self.searched + nul])));
            }
            self.searched = buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        let mut line = buffer.split_to(end + 1);
        line.truncate(end - usize::from(line[..end].ends_with(b"\r")));
        if let Some(nul) = line.iter().position(|&byte| byte == 0) {
            return Err(FrameError::NulInHead(excerpt(&line[..nul])));
        }
        if let Some(open) = &mut self.open {
            open.head_bytes += end + 1;
        }
        Ok(Some(line))
    }

    /// Takes in a line of command or headers.
    fn head_line(&mut self, line: &[u8]) -> Result<(), FrameError> {
        let text = match std::str::from_utf8(line) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) if self.lenient => String::from_utf8_lossy(line),
            Err(_) => return Err(FrameError::NotUtf8(excerpt(line))),
        };
        let Some(open) = &mut self.open else {
            let head_bytes = line.len() + 1;
            let headers = Headers::default();
            let command = text.parse()?;
            self.open = Some(Open { command, headers, head_bytes, length: None, in_body: false, kept: None });
            return Ok(());
        };
        if text.is_empty() {
            open.in_body = true;
            return Ok(());
        }
        let command = open.command;
        if open.headers.0.len() >= self.limits.headers {
            return Err(FrameError::TooManyHeaders { command, limit: self.limits.headers });
        }
        let parts = text.split_once(':').filter(|(name, _)| !name.is_empty());
        let (name, value) = parts.ok_or_else(|| FrameError::Header { command, line: excerpt(line) })?;
        if name == CONTENT_LENGTH {
            let limit = if self.lenient { usize::MAX } else { self.limits.body_bytes };
            let length = content_length(command, value, limit)?;
            // The first counts, as with every header.
            open.length.get_or_insert(length);
            return Ok(());
        }
        let lenient = self.lenient;
        let unescaped = |text| if command.escapes() { unescape(text, lenient) } else { Some(text.to_owned()) };
        let header = unescaped(name).zip(unescaped(value));
        let (name, value) = header.ok_or_else(|| FrameError::Escape { command, name: excerpt(name.as_bytes()) })?;
        open.headers.0.push((name, value));
        Ok(())
    }

    /// The frame, once its body and the NUL behind it are there.
    fn body(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, FrameError> {
        if self.lenient && !self.cut_body(buffer) {
            return Ok(None);
        }
        let Some(Open { command, length, .. }) = self.open.as_ref() else { return Ok(None) };
        let (command, limit) = (*command, self.limits.body_bytes);
        let end = match *length {
            Some(length) if buffer.len() <= length => return Ok(None),
            Some(length) if buffer[length] != 0 => return Err(FrameError::NotTerminated { command, length }),
            Some(length) => length,
            None => {
                let found = buffer[self.searched..].iter().position(|&byte| byte == 0).map(|at| self.searched + at);
                self.searched = if found.is_some() { 0 } else { buffer.len() };
                match found {
                    _ if !self.lenient && found.unwrap_or(buffer.len()) > limit => {
                        return Err(FrameError::BodyTooLong { command, limit });
                    }
                    Some(end) => end,
                    None => return Ok(None),
                }
            }
        };
        // Copied, so that a message that waits in a queue does not hold the whole read buffer in memory.
        let rest = Bytes::copy_from_slice(&buffer[..end]);
        buffer.advance(end + 1);
        let Some(Open { command, headers, kept, .. }) = self.open.take() else { return Ok(None) };
        Ok(Some(Item::Frame(Frame { command, headers, body: kept.unwrap_or(rest) })))
    }

    /// Keeps the beginning of a body that is longer than the limit, and drops what has come of the
    /// rest; false while more of it is to come.
    fn cut_body(&mut self, buffer: &mut BytesMut) -> bool {
        let (limit, searched) = (self.limits.body_bytes, self.searched);
        let Some(open) = &mut self.open else { return true };
        // Up to where the body is known not to have ended.
        let inside = match open.length {
            Some(length) => length.min(buffer.len()),
            None => searched + buffer[searched..].iter().position(|&byte| byte == 0).unwrap_or(buffer.len() - searched),
        };
        if open.kept.is_none() {
            if inside <= limit {
                return true;
            }
            open.kept = Some(Bytes::copy_from_slice(&buffer[..=limit]));
        }
        buffer.advance(inside);
        self.searched = 0;
        open.length = open.length.map(|length| length - inside);
        !buffer.is_empty()
    }
}

fn content_length(command: Command, value: &str, limit: usize) -> Result<usize, FrameError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FrameError::ContentLength { command, value: excerpt(value.as_bytes()) });
    }
    // Digits alone fail to parse only when there are too many of them.
    value.parse().ok().filter(|&length| length <= limit).ok_or(FrameError::BodyTooLong { command, limit })
}

/// The text behind the escapes; `None` when one is not defined, which a lenient reader leaves as it
/// stands.
fn unescape(text: &str, lenient: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some('c') => out.push(':'),
            Some('\\') => out.push('\\'),
            other if lenient => out.extend(std::iter::once('\\').chain(other)),
            _ => return None,
        }
    }
    Some(out)
}

/// The beginning of what a peer sent, for an error message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}
