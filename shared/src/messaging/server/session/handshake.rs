//! CONNECT and CONNECTED: version, credentials, heart-beats.

use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::super::ServerConfig;
use super::{ProtocolError, invalid};
use crate::messaging::frame::{Command, Frame};

/// The versions of STOMP that differ for a server in how messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Version {
    V1_1,
    V1_2,
}

/// What was agreed with a client.
#[derive(Debug)]
pub(in super::super) struct Accepted {
    pub version: Version,
    /// How often the client wants to hear from us.
    pub send_every: Option<Duration>,
    /// How often the client promised to be heard.
    pub hear_every: Option<Duration>,
    /// The answer.
    pub connected: Frame,
}

/// Answers the first frame of a connection. A `trusted` client shows no passcode.
pub(in super::super) fn accept(frame: &Frame, config: &ServerConfig, trusted: bool) -> Result<Accepted, ProtocolError> {
    if !matches!(frame.command, Command::Connect | Command::Stomp) {
        return Err(ProtocolError::Handshake(frame.command));
    }
    let headers = &frame.headers;
    let offered = headers.get("accept-version").unwrap_or("1.0");
    let speaks = |version| offered.split(',').any(|other| other.trim() == version);
    let (version, name) = match (speaks("1.2"), speaks("1.1")) {
        (true, _) => (Version::V1_2, "1.2"),
        (_, true) => (Version::V1_1, "1.1"),
        _ => return Err(ProtocolError::Version(offered.to_owned())),
    };
    if let Some((login, passcode)) = config.credentials.as_ref().filter(|_| !trusted) {
        let matches = |name, secret: &str| headers.get(name).unwrap_or_default().as_bytes().ct_eq(secret.as_bytes());
        // Both are compared whole, so that the time it takes does not tell which one was wrong, or where.
        if !bool::from(matches("login", login) & matches("passcode", passcode)) {
            return Err(ProtocolError::Credentials);
        }
    }
    let (sends, wants) = heart_beat(headers.get("heart-beat").unwrap_or("0,0"))?;
    let ours = u64::try_from(config.heart_beat.as_millis()).unwrap_or(u64::MAX);
    // Offered only where the client takes part: some clients expect what is offered even if they declined it.
    let offer = |theirs| if theirs == 0 { 0 } else { ours };
    let agreed = |theirs| (offer(theirs) > 0).then(|| Duration::from_millis(ours.max(theirs)));
    let connected = Frame::new(Command::Connected)
        .header("version", name)
        .header("server", concat!("Adit/", env!("CARGO_PKG_VERSION")))
        .header("heart-beat", format_args!("{},{}", offer(wants), offer(sends)));
    Ok(Accepted { version, send_every: agreed(wants), hear_every: agreed(sends), connected })
}

/// The client's two numbers: how often it can send and how often it wants to hear, in milliseconds.
fn heart_beat(text: &str) -> Result<(u64, u64), ProtocolError> {
    let parse = || {
        let (sends, wants) = text.split_once(',')?;
        Some((sends.trim().parse().ok()?, wants.trim().parse().ok()?))
    };
    parse().ok_or_else(|| invalid("heart-beat", text, "two numbers of milliseconds, as in 10000,10000"))
}
