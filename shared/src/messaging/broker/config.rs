//! Where the broker is and how patient we are with it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

/// Address, credentials and timing of a broker; parsed from `stomp://user:pass@host:port/vhost`, or `stomps://…` for TLS.
///
/// Ports default to 61613 and 61614, the virtual host to `/`. User, passcode and virtual host are percent-decoded; a
/// passcode with `:` or `\` is read differently by different brokers and better avoided.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) credentials: Option<(String, String)>,
    pub(super) vhost: String,
    /// How long the broker keeps an unused package queue. Connections are replaced at half of it, because RabbitMQ
    /// throws away what is sent to a queue that expired during the connection. 24 h.
    pub queue_expiry: Duration,
    /// For a connection to be made, handshake and all. 5 s.
    pub connect_timeout: Duration,
    /// For the broker to confirm one frame. 5 s.
    pub receipt_timeout: Duration,
    /// For a message to be sent, with all attempts. 8 s: who asked for it is waiting, but a connection that has died unseen is known
    /// only by the missing receipt, and then there must be time to send the message over another.
    pub publish_timeout: Duration,
    /// For a queue to be read to its end, waiting for one's turn included. 10 s.
    pub drain_timeout: Duration,
    /// The interval of heart-beats asked for in both directions; zero for none. 10 s.
    pub heart_beat: Duration,
}

/// Not the URL of a broker. It does not repeat the URL, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a broker's URL is stomp://user:pass@host:port/vhost or stomps://…: {0}")]
pub struct InvalidBrokerUrl(String);

impl BrokerConfig {
    /// Host and port, for messages to people.
    pub(super) fn address(&self) -> String {
        // An IPv6 address needs its brackets back.
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The age at which a connection is replaced.
    pub(super) fn connection_age(&self) -> Duration {
        self.queue_expiry / 2
    }
}

impl FromStr for BrokerConfig {
    type Err = InvalidBrokerUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| InvalidBrokerUrl(reason.to_owned());
        let url = Url::parse(text).map_err(|e| error(&e.to_string()))?;
        let tls = match url.scheme() {
            "stomp" => false,
            "stomps" => true,
            other => return Err(error(&format!("the scheme is {other:?}"))),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| error("it names no host"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(error("it takes no ? or #; percent-encode them in a passcode"));
        }
        let login = decoded(url.username()).ok_or_else(|| error("the user is not plain text"))?;
        let passcode =
            decoded(url.password().unwrap_or_default()).ok_or_else(|| error("the passcode is not plain text"))?;
        let vhost = decoded(url.path().strip_prefix('/').unwrap_or_default())
            .ok_or_else(|| error("the virtual host is not plain text"))?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(if tls { 61614 } else { 61613 }),
            tls,
            credentials: (!login.is_empty()).then_some((login, passcode)),
            vhost: if vhost.is_empty() { "/".to_owned() } else { vhost },
            queue_expiry: Duration::from_secs(24 * 3600),
            connect_timeout: Duration::from_secs(5),
            receipt_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(8),
            drain_timeout: Duration::from_secs(10),
            heart_beat: Duration::from_secs(10),
        })
    }
}

/// Percent-decoded text without control characters, which CONNECT cannot carry.
fn decoded(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok().map(Cow::into_owned)?;
    (!text.contains(char::is_control)).then_some(text)
}

impl fmt::Display for BrokerConfig {
    /// The URL without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "stomps" } else { "stomp" };
        write!(f, "{scheme}://{}/{}", self.address(), self.vhost.trim_start_matches('/'))
    }
}

impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerConfig({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> BrokerConfig {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_gives_address_credentials_and_virtual_host() {
        let full = config("stomp://me:s%40c%2Fret@broker.example:1234/%2Fprod");
        assert_eq!((full.address().as_str(), full.tls, full.vhost.as_str()), ("broker.example:1234", false, "/prod"));
        assert_eq!(full.credentials, Some(("me".into(), "s@c/ret".into())));
        let bare = config("stomps://h");
        assert_eq!((bare.address().as_str(), bare.tls, bare.vhost.as_str()), ("h:61614", true, "/"));
        assert_eq!(bare.credentials, None);
        assert_eq!((config("stomp://h/").port, config("stomp://[::1]:7/a").address().as_str()), (61613, "[::1]:7"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = config("stomp://me:hunter2@h/v");
        assert_eq!(format!("{config} {config:?}"), "stomp://h:61613/v BrokerConfig(stomp://h:61613/v)");
        for bad in [
            "stom://me:hunter2@h",
            "stomp://me:hunter2%0Ax@h",
            "stomp://me:hunter2@",
            "stomp:me:hunter2",
            "stomp://me:hunter2@h/?a#b",
        ] {
            let error = bad.parse::<BrokerConfig>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
