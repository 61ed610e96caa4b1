//! CONNECT and CONNECTED: credentials, heart-beats, and which broker it is.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::config::BrokerConfig;
use super::super::transport::Connector;
use super::{BrokerError, error_text, is_overload};
use crate::messaging::frame::{Command, Decoder, Frame, Item, Limits};
use crate::messaging::queues::Flavour;
use crate::messaging::stream::Stream;

/// What a frame of a broker may hold: more than any broker takes in itself, as it adds headers of
/// its own to what a sender wrote. A frame beyond that would come again on every further
/// connection.
const LIMITS: Limits = Limits { headers: 1200, head_bytes: 256 << 10, body_bytes: 4 << 20 };

/// A stream after CONNECTED.
pub(super) struct Handshake {
    pub(super) stream: Box<dyn Stream>,
    pub(super) decoder: Decoder,
    pub(super) buffer: BytesMut,
    pub(super) flavour: Flavour,
    /// After how long without a frame to send one of our heart-beats.
    pub(super) beat: Option<Duration>,
    /// How long the broker may be silent.
    pub(super) patience: Option<Duration>,
}

pub(super) async fn open(connector: &Connector) -> Result<Handshake, BrokerError> {
    let config = &connector.config;
    let unreachable =
        |reason: &dyn ToString| BrokerError::Unreachable { address: config.address(), reason: reason.to_string() };
    let mut stream = connector.connect().await.map_err(|error| unreachable(&error))?;
    let (mut decoder, mut buffer) = (Decoder::lenient(LIMITS), BytesMut::new());
    connect_frame(config).encode(&mut buffer);
    stream.write_all_buf(&mut buffer).await.map_err(|error| unreachable(&error))?;
    stream.flush().await.map_err(|error| unreachable(&error))?;
    let answer = loop {
        match decoder.decode(&mut buffer).map_err(|error| unreachable(&format!("it does not speak STOMP: {error}")))? {
            Some(Item::Frame(frame)) => break frame,
            Some(Item::HeartBeat) => continue,
            None => {}
        }
        if stream.read_buf(&mut buffer).await.map_err(|error| unreachable(&error))? == 0 {
            return Err(unreachable(&"it closed the connection during the handshake"));
        }
    };
    match (answer.command, answer.headers.get("version")) {
        (Command::Connected, Some("1.2")) => {}
        (Command::Error, _) => {
            let message = error_text(&answer);
            if is_overload(&message) {
                return Err(unreachable(&message));
            }
            return Err(BrokerError::Refused { address: config.address(), message });
        }
        (command, version) => {
            return Err(unreachable(&format!("it answered {command} of version {version:?}, not CONNECTED of 1.2")));
        }
    }
    let flavour = Flavour::of(answer.headers.get("server"));
    let (beat, patience) = heart_beats(config.heart_beat, answer.headers.get("heart-beat"));
    Ok(Handshake { stream, decoder, buffer, flavour, beat, patience })
}

fn connect_frame(config: &BrokerConfig) -> Frame {
    let ms = config.heart_beat.as_millis();
    let mut frame = Frame::new(Command::Connect)
        .header("accept-version", "1.2")
        .header("host", &config.vhost)
        .header("heart-beat", format!("{ms},{ms}"));
    if let Some((login, passcode)) = &config.credentials {
        frame = frame.header("login", login).header("passcode", passcode);
    }
    frame
}

/// How often to beat and how long to wait, from our wish (the same both ways) and the broker's `can,wants` in ms. We beat
/// twice in the agreed interval and wait three of them: some brokers' first beat comes after two.
fn heart_beats(ours: Duration, theirs: Option<&str>) -> (Option<Duration>, Option<Duration>) {
    let (can, wants) = theirs.and_then(|theirs| theirs.split_once(',')).unwrap_or_default();
    let agreed = |theirs: &str| {
        let theirs = Duration::from_millis(theirs.trim().parse().unwrap_or(0));
        (!ours.is_zero() && !theirs.is_zero()).then(|| ours.max(theirs))
    };
    (agreed(wants).map(|interval| interval / 2), agreed(can).map(|interval| interval.saturating_mul(3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_beats_are_as_slow_as_the_slower_side_and_none_where_one_side_wants_none() {
        let (ms, ours) = (|ms| Some(Duration::from_millis(ms)), Duration::from_millis(100));
        assert_eq!(heart_beats(ours, Some("20,300")), (ms(150), ms(300)));
        assert_eq!(heart_beats(ours, Some("500,0")), (None, ms(1500)));
        assert_eq!(heart_beats(ours, None), (None, None));
        assert_eq!(heart_beats(ours, Some("x")), (None, None));
        assert_eq!(heart_beats(Duration::ZERO, Some("20,20")), (None, None));
    }
}
