//! Where the broker is and how patient we are with it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{percent_decode, percent_decode_str};
use url::Url;

use crate::messaging::server::InsideBroker;

/// Scheme of a broker behind a Unix socket of this machine.
const SOCKET_SCHEME: &str = "stomp+unix";

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On TCP, or TLS over it.
    Tcp { host: String, port: u16, tls: bool },
    /// Behind a Unix socket: the operating system says who connects.
    Socket(PathBuf),
    /// In this process.
    Inside(InsideBroker),
}

/// Address, credentials and timing of a broker; parsed from `stomp://user:pass@host:port/vhost`,
/// `stomps://…` for TLS, or `stomp+unix:///path/of/socket`.
///
/// Ports default to 61613 and 61614, the virtual host to `/`. User, passcode and virtual host are percent-decoded; a
/// passcode with `:` or `\` is read differently by different brokers and better avoided.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    pub(super) place: Place,
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
#[error("a broker's URL is stomp://user:pass@host:port/vhost, stomps://… or stomp+unix:///path: {0}")]
pub struct InvalidBrokerUrl(String);

impl BrokerConfig {
    /// The usual timing for a broker at that place.
    fn new(place: Place, credentials: Option<(String, String)>, vhost: String) -> Self {
        Self {
            place,
            credentials,
            vhost,
            queue_expiry: Duration::from_secs(24 * 3600),
            connect_timeout: Duration::from_secs(5),
            receipt_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(8),
            drain_timeout: Duration::from_secs(10),
            heart_beat: Duration::from_secs(10),
        }
    }

    /// Host and port, or what stands for them, for messages to people.
    pub(super) fn address(&self) -> String {
        match &self.place {
            // An IPv6 address needs its brackets back.
            Place::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Socket(path) => path.display().to_string(),
            Place::Inside(_) => "this process".to_owned(),
        }
    }

    /// The age at which a connection is replaced.
    pub(super) fn connection_age(&self) -> Duration {
        self.queue_expiry / 2
    }
}

impl From<InsideBroker> for BrokerConfig {
    fn from(inside: InsideBroker) -> Self {
        Self::new(Place::Inside(inside), None, "/".to_owned())
    }
}

/// The URL of the broker behind a Unix socket.
#[must_use]
pub fn socket_url(path: &Path) -> String {
    // Only an absolute path makes one, with everything escaped that a URL cannot hold.
    let url = Url::from_file_path(path).map(String::from).unwrap_or_default();
    url.replacen("file", SOCKET_SCHEME, 1)
}

impl FromStr for BrokerConfig {
    type Err = InvalidBrokerUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| InvalidBrokerUrl(reason.to_owned());
        let url = Url::parse(text).map_err(|e| error(&e.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(error("it takes no ? or #; percent-encode them in a passcode"));
        }
        let tls = match url.scheme() {
            "stomp" => false,
            "stomps" => true,
            SOCKET_SCHEME => {
                let path = PathBuf::from(OsStr::from_bytes(&Cow::from(percent_decode(url.path().as_bytes()))));
                let absolute = path.is_absolute() && path.file_name().is_some() && !url.has_host();
                if !absolute {
                    return Err(error("three slashes and the absolute path of a socket follow stomp+unix:"));
                }
                return Ok(Self::new(Place::Socket(path), None, "/".to_owned()));
            }
            other => return Err(error(&format!("the scheme is {other:?}"))),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| error("it names no host"))?;
        let login = decoded(url.username()).ok_or_else(|| error("the user is not plain text"))?;
        let passcode =
            decoded(url.password().unwrap_or_default()).ok_or_else(|| error("the passcode is not plain text"))?;
        let vhost = decoded(url.path().strip_prefix('/').unwrap_or_default())
            .ok_or_else(|| error("the virtual host is not plain text"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(if tls { 61614 } else { 61613 });
        let credentials = (!login.is_empty()).then_some((login, passcode));
        let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost };
        Ok(Self::new(Place::Tcp { host, port, tls }, credentials, vhost))
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
        let scheme = match &self.place {
            Place::Tcp { tls: true, .. } => "stomps",
            Place::Tcp { tls: false, .. } => "stomp",
            Place::Socket(path) => return f.write_str(&socket_url(path)),
            Place::Inside(_) => return f.write_str("the broker inside this process"),
        };
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
        assert_eq!((full.address().as_str(), full.vhost.as_str()), ("broker.example:1234", "/prod"));
        assert!(matches!(full.place, Place::Tcp { tls: false, .. }));
        assert_eq!(full.credentials, Some(("me".into(), "s@c/ret".into())));
        let bare = config("stomps://h");
        assert_eq!((bare.address().as_str(), bare.vhost.as_str()), ("h:61614", "/"));
        assert!(matches!(bare.place, Place::Tcp { tls: true, .. }));
        assert_eq!(bare.credentials, None);
        assert_eq!(config("stomp://h/").address(), "h:61613");
        assert_eq!(config("stomp://[::1]:7/a").address(), "[::1]:7");
    }

    #[test]
    fn a_url_names_a_unix_socket_by_any_path() {
        for path in ["/run/adit/broker.sock", "/srv/a b?c#d%é/broker.sock"] {
            let url = socket_url(Path::new(path));
            assert_eq!(config(&url).place, Place::Socket(path.into()), "{url}");
            assert_eq!(config(&url).to_string(), url);
        }
        for bad in ["stomp+unix://broker.sock", "stomp+unix:broker.sock", "stomp+unix:///", "stomp+unix://h/a.sock"] {
            assert!(bad.parse::<BrokerConfig>().is_err(), "{bad}");
        }
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
