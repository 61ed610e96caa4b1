//! Checks that must hold for any bytes whatever: entry points of the fuzz targets in `fuzz/`, for
//! what a stranger can send to this crate.
//!
//! Each check takes one input and panics where an invariant breaks. The committed seeds run through
//! them in the usual tests, too.

use std::fmt::Debug;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

use crate::messaging::{
    Command, Decoder, DeleteRequest, Frame, FrameError, Item, Limits, PackageRequest, StatusMessage,
};

pub use crate::search::fuzzing::{check_query_dsl, check_query_text};

/// A check of one input.
pub type Check = fn(&[u8]);

/// The fuzz targets of this crate, by the names of their folders of seeds.
pub const TARGETS: [(&str, Check); 4] = [
    ("frames", check_frames),
    ("bodies", check_bodies),
    ("query_text", check_query_text),
    ("query_dsl", check_query_dsl),
];

/// Small, so that short inputs reach them.
const LIMITS: Limits = Limits { headers: 8, head_bytes: 256, body_bytes: 512 };

/// Decodes a stream of STOMP frames whole and in pieces (the first byte says of which length): the
/// frames are the same, the buffer stays bounded, and each frame that is written can be read again.
pub fn check_frames(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let (whole, error) = decode(stream, LIMITS, stream.len().max(1));
    let (pieces, error_in_pieces) = decode(stream, LIMITS, usize::from(*cut) % 16 + 1);
    assert_eq!(whole, pieces, "frames depend on how the stream is cut");
    // Which mistake is seen first may depend on it.
    assert_eq!(error.is_some(), error_in_pieces.is_some(), "{error:?}, but in pieces {error_in_pieces:?}");
    for frame in whole {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        // Frames of the handshake are written without escapes: they lose what would break out.
        if matches!(frame.command, Command::Connect | Command::Connected) {
            continue;
        }
        let (again, error) = decode(&bytes, Limits::default(), bytes.len());
        assert_eq!((again.as_slice(), error), (&[frame][..], None));
    }
}

/// The frames of a stream that comes in pieces of so many bytes, and the error that ends it.
fn decode(stream: &[u8], limits: Limits, piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut buffer, mut frames) = (Decoder::new(limits), BytesMut::new(), Vec::new());
    for bytes in stream.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Item::Frame(frame))) => {
                    assert!(frame.headers.0.len() <= limits.headers && frame.body.len() <= limits.body_bytes);
                    frames.push(frame);
                }
                Ok(Some(Item::HeartBeat)) => {}
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(buffer.len() <= limits.head_bytes.max(limits.body_bytes), "{} bytes wait", buffer.len());
    }
    (frames, None)
}

/// Reads a text as each kind of message body: what can be read can be written, and reads the same
/// then.
pub fn check_bodies(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_round_trip::<PackageRequest>(&text);
    check_round_trip::<StatusMessage>(&text);
    check_round_trip::<DeleteRequest>(&text);
    if let Ok(message) = text.parse::<StatusMessage>() {
        let body = Bytes::from(message.to_string());
        let frame = Frame::new(Command::Send).header("destination", &text).body(body);
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        let limits = Limits { head_bytes: usize::MAX, ..Limits::default() };
        let (frames, _) = decode(&bytes, limits, bytes.len());
        assert_eq!(frames.first().map(|frame| &frame.body), Some(&frame.body));
    }
}

fn check_round_trip<T: FromStr<Err: Debug> + ToString + Debug + PartialEq>(text: &str) {
    let Ok(read) = text.parse::<T>() else { return };
    let written = read.to_string();
    match written.parse::<T>() {
        Ok(again) => assert_eq!(again, read, "from {written:?}"),
        Err(error) => panic!("{read:?} is written as {written:?}, which cannot be read: {error:?}"),
    }
}

#[cfg(test)]
#[path = "../../fuzz/seeds.rs"]
mod seeds;
