//! Configuration: one tree out of flags and environment, checked at once.
//!
//! [`Config::load`] is handed a look-up by variable name (the binary lets flags win over the environment there) and lists every
//! mistake in one error. Secrets never show in `Debug`.

mod http;
mod plaintext;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::display::Printable;
use crate::webhook::Guard;
pub use plaintext::{ExposedSecrets, Part, PlaintextParts};

pub use self::http::{CorsOrigins, HttpConfig, MetricsAccess};

/// Bytes of a mebibyte.
const MIB: usize = 1024 * 1024;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Every variable that is read, with what it means; `docs/OPERATIONS.md` and `adit --help` agree with it.
pub const VARIABLES: &[(&str, &str)] = &[
    ("ADIT_DATA", "folder of the embedded parts; the other URLs default into it (default: adit-data)"),
    ("ADIT_LISTEN", "address and port of the API (default: 127.0.0.1:8080)"),
    ("ADIT_PUBLIC_URL", "URL that clients and packagers use (default: http://<listen>); a packager must have it"),
    ("ADIT_DATABASE_URL", "sqlite:///path or postgres://user:pass@host/db (default: SQLite in the data folder)"),
    (
        "ADIT_BROKER_URL",
        "stomp://user:pass@host:61613/vhost, stomps://… or stomp+unix:///path (default: the embedded broker)",
    ),
    (
        "ADIT_BROKER_LISTEN",
        "address and port on which the embedded broker takes other programs' connections, such as 127.0.0.1:61613 (default: none)",
    ),
    ("ADIT_STORE_URL", "file:///path or s3://bucket/prefix?endpoint=…&region=… (default: a folder in the data folder)"),
    (
        "ADIT_SEARCH_URL",
        "opensearch://user:pass@host:9200?prefix=adit&shards=1&replicas=1 or elasticsearch://…, opensearch+http://… without TLS (default: indexes in the object store)",
    ),
    ("ADIT_API_KEY", "the packager's key for the API, or the miner's for the miner's verbs"),
    ("ADIT_INSECURE", "1: show the key to a server without TLS that is not on this machine (default: 0)"),
    (
        "ADIT_SIGNING_KEY",
        "private key that signs receipts, a PEM file of `adit keys signing` (default of adit up: one in the data folder)",
    ),
    (
        "ADIT_PUBLIC_KEYS",
        "further public keys that the API publishes, a JWK set or PEM file: old ones, other packagers' (default: none)",
    ),
    ("ADIT_WORKERS", "builds at once in one packager process (default: 1)"),
    ("ADIT_ATTEMPTS", "tries of one build before it fails for good (default: 5)"),
    ("ADIT_PACKAGE_TTL", "how long a finished archive is kept, such as 7d (default: 7d)"),
    ("ADIT_QUEUE_EXPIRY", "how long an unread status queue is kept (default: 24h)"),
    ("ADIT_RESEND_AFTER", "silence after which a poll sends a package's request again (default: 60s)"),
    ("ADIT_REQUEST_TIMEOUT", "how long the API works on one request, and a search at most (default: 60s)"),
    ("ADIT_CONNECTIONS", "connections at once, 16 to 65536 (default: 4096, fewer if `ulimit -n` says so)"),
    (
        "ADIT_CONNECTIONS_PER_ADDRESS",
        "the same of one address (default: an eighth of all; of this machine itself, half)",
    ),
    ("ADIT_HEADER_TIMEOUT", "how long a request's head may take to arrive (default: 10s)"),
    ("ADIT_IDLE_TIMEOUT", "how long a connection is kept between two requests (default: 75s)"),
    ("ADIT_STALL_TIMEOUT", "how long a client may send nothing of a body, or take nothing of an answer (default: 30s)"),
    (
        "ADIT_TRUSTED_PROXIES",
        "networks of reverse proxies whose X-Forwarded-For or Forwarded is believed (default: none)",
    ),
    (
        "ADIT_ALLOWED_HOSTS",
        "further names under which the API is asked, such as adit.internal, or * (default: that of the public URL, addresses, localhost)",
    ),
    (
        "ADIT_CORS_ORIGINS",
        "origins whose scripts may use the API, such as https://lab.example.org, or * (default: its own)",
    ),
    ("ADIT_METRICS", "who may read /metrics: operator (by key), loopback or open (default: operator)"),
    ("ADIT_SEARCH_MEMORY", "MiB that one search may hold; what needs more is refused (default: 64)"),
    ("ADIT_ANONYMOUS_REQUESTS", "requests a minute of an address without a key; 0 for any number (default: 1200)"),
    (
        "ADIT_ANONYMOUS_SEARCH_SECONDS",
        "seconds that the searches of an address without a key may work in a minute; 0 for any number (default: 30)",
    ),
    (
        "ADIT_WEBHOOK_ALLOW",
        "networks that webhooks may be in although they are not public, such as 10.1.0.0/16,fd00::/8 (default: none)",
    ),
    (
        "ADIT_ALLOW_PLAINTEXT",
        "parts that secrets may be sent to in clear text over a network, of postgres, broker, store, search, api (default: none)",
    ),
    ("ADIT_LOG", "what to log, such as info,sqlx=warn (default: info for servers, warn for other verbs)"),
    ("ADIT_LOG_FORMAT", "text or json (default: text)"),
];

/// Variables whose values may hold secrets. Each may be given as a file instead, which the variable
/// with `_FILE` behind its name names: so secrets of systemd (`LoadCredential`) and of containers
/// never stand in an environment.
pub const SECRET_VARIABLES: &[&str] =
    &["ADIT_API_KEY", "ADIT_DATABASE_URL", "ADIT_BROKER_URL", "ADIT_STORE_URL", "ADIT_SEARCH_URL"];

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the embedded parts.
    pub data: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// URL that clients use, without a trailing slash; `None`: `http://` and the address that was bound.
    pub public_url: Option<Url>,
    /// Database URL (may hold a password).
    pub database_url: Secret,
    /// Broker URL (may hold a password); `None`: the embedded broker.
    pub broker_url: Option<Secret>,
    /// Where the embedded broker takes other programs' connections.
    pub broker_listen: Option<SocketAddr>,
    /// Object store URL.
    pub store_url: String,
    /// URL of an outside search engine (may hold a password); `None`: indexes lie in the object store.
    pub search_url: Option<Secret>,
    /// A key for the API.
    pub api_key: Option<Secret>,
    /// Tells whether a client shows its key to a server without TLS that is not on this machine.
    pub insecure: bool,
    /// File of the private key that signs receipts.
    pub signing_key: Option<PathBuf>,
    /// File of further public keys that the API publishes.
    pub public_keys: Option<PathBuf>,
    /// Builds at once.
    pub workers: usize,
    /// Tries of one build.
    pub attempts: u32,
    /// How long a finished archive is kept.
    pub package_ttl: Duration,
    /// How long an unread status queue is kept.
    pub queue_expiry: Duration,
    /// Silence after which a poll sends a request again.
    pub resend_after: Duration,
    /// How long the API works on one request, and a search at most.
    pub request_timeout: Duration,
    /// Bytes that one search may hold.
    pub search_memory: usize,
    /// Requests a minute of an address without a key; `None`: any number.
    pub anonymous_requests: Option<u32>,
    /// Time in a minute for which the searches of an address without a key may work; `None`: any.
    pub anonymous_search_time: Option<Duration>,
    /// What webhooks may be called.
    pub webhooks: Guard,
    /// Connections, proxies and browsers.
    pub http: HttpConfig,
    /// What may be reached in clear text.
    pub plaintext: PlaintextParts,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  - {}", Printable::line(mistake))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the configuration through `get`, which answers a variable's name with its value.
    ///
    /// # Errors
    /// Every mistake at once, each naming its variable and what would be right; no value of a secret.
    pub fn load(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut read = Reader { get, mistakes: Vec::new() };
        let data = PathBuf::from(read.text("ADIT_DATA").unwrap_or_else(|| "adit-data".to_owned()));
        let data = std::path::absolute(&data).unwrap_or(data);
        // Logging is set up before anything is loaded; here it is only checked.
        read.one_of("ADIT_LOG_FORMAT", &["text", "json"]);
        let config = Self {
            listen: read.address("ADIT_LISTEN", SocketAddr::from(([127, 0, 0, 1], 8080))),
            public_url: read.url("ADIT_PUBLIC_URL", &["http", "https"]),
            database_url: Secret(
                read.with_scheme("ADIT_DATABASE_URL", &["sqlite", "postgres", "postgresql"])
                    .unwrap_or_else(|| format!("sqlite://{}", data.join("adit.sqlite").display())),
            ),
            broker_url: read.with_scheme("ADIT_BROKER_URL", &["stomp", "stomps", "stomp+unix"]).map(Secret),
            broker_listen: read.optional_address("ADIT_BROKER_LISTEN"),
            store_url: read
                .with_scheme("ADIT_STORE_URL", &["file", "s3"])
                .unwrap_or_else(|| file_url(&data.join("objects"))),
            search_url: read.search_engine("ADIT_SEARCH_URL"),
            api_key: read.text("ADIT_API_KEY").map(Secret),
            insecure: read.flag("ADIT_INSECURE"),
            signing_key: read.text("ADIT_SIGNING_KEY").map(PathBuf::from),
            public_keys: read.text("ADIT_PUBLIC_KEYS").map(PathBuf::from),
            workers: read.number("ADIT_WORKERS", 1, 1..=64),
            attempts: read.number("ADIT_ATTEMPTS", 5, 1..=100),
            package_ttl: read.duration("ADIT_PACKAGE_TTL", "7d"),
            queue_expiry: read.duration("ADIT_QUEUE_EXPIRY", "24h"),
            resend_after: read.duration("ADIT_RESEND_AFTER", "60s"),
            request_timeout: read.duration("ADIT_REQUEST_TIMEOUT", "60s"),
            search_memory: read.number("ADIT_SEARCH_MEMORY", 64, 16..=4096) * MIB,
            anonymous_requests: Some(read.number("ADIT_ANONYMOUS_REQUESTS", 1200, 0..=u32::MAX)).filter(|n| *n > 0),
            anonymous_search_time: Some(read.number("ADIT_ANONYMOUS_SEARCH_SECONDS", 30, 0..=86_400))
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            webhooks: Guard::new(read.networks("ADIT_WEBHOOK_ALLOW")),
            http: HttpConfig::read(&mut read),
            plaintext: read.plaintext("ADIT_ALLOW_PLAINTEXT"),
            data,
        };
        read.mistakes.extend(config.exposed_secrets());
        if read.mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors(read.mistakes)) }
    }

    /// Settings that would have secrets sent over a network in clear text, with the remedies. The
    /// API's URL is not among them: only those that show a key there must look.
    fn exposed_secrets(&self) -> Vec<String> {
        let revealed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        let urls = [
            ("ADIT_DATABASE_URL", Part::Postgres, Some(self.database_url.reveal().to_owned())),
            ("ADIT_BROKER_URL", Part::Broker, revealed(&self.broker_url)),
            ("ADIT_STORE_URL", Part::Store, Some(self.store_url.clone())),
            ("ADIT_SEARCH_URL", Part::Search, revealed(&self.search_url)),
        ];
        let urls = urls.into_iter().filter_map(|(name, part, url)| {
            let exposed = self.plaintext.check_url(part, &url?).err()?;
            Some(format!("{name} {exposed}"))
        });
        let listen = self.broker_listen.and_then(|address| {
            let exposed = self.plaintext.check_address(Part::Broker, address.ip()).err()?;
            Some(format!("ADIT_BROKER_LISTEN {exposed}"))
        });
        urls.chain(listen).collect()
    }
}

/// A `file://` URL of a folder.
#[must_use]
pub fn file_url(path: &Path) -> String {
    Url::from_directory_path(path).map_or_else(|()| format!("file://{}", path.display()), |url| url.to_string())
}

/// Reads a duration such as `90s`, `15m`, `24h` or `7d`; a bare number counts seconds.
///
/// # Errors
/// A text that is none, with examples.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, factor) = match text.char_indices().last() {
        Some((i, 's')) => (&text[..i], 1),
        Some((i, 'm')) => (&text[..i], 60),
        Some((i, 'h')) => (&text[..i], 3600),
        Some((i, 'd')) => (&text[..i], 86_400),
        _ => (text, 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|seconds| (1..=10 * 366 * 86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not a duration such as 90s, 15m, 24h or 7d"))
}

struct Reader<F> {
    get: F,
    mistakes: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn text(&mut self, name: &str) -> Option<String> {
        let value = (self.get)(name).filter(|value| !value.trim().is_empty());
        if !SECRET_VARIABLES.contains(&name) {
            return value;
        }
        let variable = format!("{name}_FILE");
        let Some(file) = (self.get)(&variable).filter(|file| !file.trim().is_empty()) else { return value };
        if value.is_some() {
            self.mistakes.push(format!("{name} and {variable} are both set: one is enough"));
            return value;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => return Some(text.trim().to_owned()),
            Ok(_) => self.mistakes.push(format!("{variable}: {file} is empty")),
            Err(error) => self.mistakes.push(format!("{variable}: {file} cannot be read: {error}")),
        }
        None
    }

    fn flag(&mut self, name: &str) -> bool {
        self.one_of(name, &["0", "1"]);
        self.text(name).as_deref() == Some("1")
    }

    fn one_of(&mut self, name: &str, values: &[&str]) {
        if let Some(text) = self.text(name).filter(|text| !values.contains(&text.as_str())) {
            self.mistakes.push(format!("{name}={text} is not one of: {}", values.join(", ")));
        }
    }

    fn address(&mut self, name: &str, default: SocketAddr) -> SocketAddr {
        let Some(text) = self.text(name) else { return default };
        text.trim().parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name}={text} is not an address and port such as 127.0.0.1:8080"));
            default
        })
    }

    fn optional_address(&mut self, name: &str) -> Option<SocketAddr> {
        self.text(name)?;
        Some(self.address(name, SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    fn plaintext(&mut self, name: &str) -> PlaintextParts {
        self.text(name).unwrap_or_default().parse().unwrap_or_else(|why| {
            self.mistakes.push(format!("{name}: {why}"));
            PlaintextParts::default()
        })
    }

    fn number<T>(&mut self, name: &str, default: T, range: std::ops::RangeInclusive<T>) -> T
    where
        T: std::str::FromStr + PartialOrd + fmt::Display + Copy,
    {
        let Some(text) = self.text(name) else { return default };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.mistakes.push(format!("{name}={text} is not a number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// Parts of a text between commas.
    fn list(&mut self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn networks(&mut self, name: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for part in self.list(name) {
            // A network of one address may be written without its length.
            match part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => {
                    self.mistakes.push(format!("{name}: {part} is not a network such as 10.1.0.0/16 or fd00::/8"))
                }
            }
        }
        networks
    }

    fn duration(&mut self, name: &str, default: &str) -> Duration {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        parse_duration(&text).unwrap_or_else(|why| {
            self.mistakes.push(format!("{name}: {why}"));
            Duration::from_secs(1)
        })
    }

    fn url(&mut self, name: &str, schemes: &[&str]) -> Option<Url> {
        let text = self.with_scheme(name, schemes)?;
        match Url::parse(text.trim_end_matches('/')) {
            Ok(url) if url.has_host() => Some(url),
            _ => {
                self.mistakes.push(format!("{name} is not a URL with a host name"));
                None
            }
        }
    }

    fn search_engine(&mut self, name: &str) -> Option<Secret> {
        let text = self.text(name)?;
        if let Err(wrong) = crate::search::Address::parse(&text) {
            self.mistakes.push(format!("{name} {wrong}"));
        }
        Some(Secret(text))
    }

    /// A URL kept as text, as it may hold a password: a mistake names the scheme only.
    fn with_scheme(&mut self, name: &str, schemes: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if schemes.contains(&scheme) {
            return Some(text);
        }
        self.mistakes.push(format!(
            "{name} must begin with one of: {}",
            schemes.iter().map(|s| format!("{s}://")).collect::<Vec<_>>().join(", ")
        ));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        Config::load(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn without_any_variable_everything_lies_in_the_data_folder() {
        let config = load(&[("ADIT_DATA", "/srv/adit")]).unwrap();
        assert_eq!(config.database_url.reveal(), "sqlite:///srv/adit/adit.sqlite");
        assert_eq!(config.store_url, "file:///srv/adit/objects/");
        assert!(config.broker_url.is_none());
        assert_eq!(config.package_ttl, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn every_mistake_is_listed_at_once_and_no_secret_is_shown() {
        let errors = load(&[
            ("ADIT_LISTEN", "here"),
            ("ADIT_WORKERS", "0"),
            ("ADIT_PACKAGE_TTL", "soon"),
            ("ADIT_DATABASE_URL", "mysql://user:hunter2@host/db"),
            ("ADIT_BROKER_URL", "amqp://user:hunter2@host"),
            ("ADIT_SEARCH_URL", "http://user:hunter2@host:9200"),
            ("ADIT_LOG_FORMAT", "xml"),
            ("ADIT_WEBHOOK_ALLOW", "10.0.0.0/8, the-office"),
            ("ADIT_SEARCH_MEMORY", "1"),
            ("ADIT_ANONYMOUS_REQUESTS", "-1"),
            ("ADIT_ANONYMOUS_SEARCH_SECONDS", "some"),
        ])
        .unwrap_err();
        assert_eq!(errors.0.len(), 11, "{errors}");
        assert!(!errors.to_string().contains("hunter2"));
        let names = [
            "LISTEN",
            "WORKERS",
            "PACKAGE_TTL",
            "DATABASE_URL",
            "BROKER_URL",
            "SEARCH_URL",
            "LOG_FORMAT",
            "WEBHOOK_ALLOW: the-office",
        ];
        for name in names.map(|name| format!("ADIT_{name}")) {
            assert!(errors.to_string().contains(&name), "{name} in {errors}");
        }
    }

    #[test]
    fn a_secret_may_lie_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(load(&[("ADIT_API_KEY_FILE", path)]).unwrap_err().to_string().contains("is empty"));
        std::fs::write(&file, "hunter2\n").unwrap();
        let config = load(&[("ADIT_API_KEY_FILE", path)]).unwrap();
        assert_eq!(config.api_key.unwrap().reveal(), "hunter2");
        for (pairs, why) in [
            ([("ADIT_API_KEY", "other"), ("ADIT_API_KEY_FILE", path)], "are both set"),
            ([("ADIT_BROKER_URL_FILE", path), ("ADIT_DATA", "/x")], "ADIT_BROKER_URL must begin with"),
            ([("ADIT_DATABASE_URL_FILE", "/no/such/file"), ("ADIT_DATA", "/x")], "/no/such/file cannot be read"),
        ] {
            let errors = load(&pairs).unwrap_err().to_string();
            assert!(errors.contains(why) && !errors.contains("hunter2"), "{errors}");
        }
    }

    #[test]
    fn every_setting_that_exposes_a_secret_is_named_with_its_remedy() {
        let pairs = [
            ("ADIT_DATABASE_URL", "postgres://u:hunter2@db/adit"),
            ("ADIT_BROKER_URL", "stomp://u:hunter2@broker"),
            ("ADIT_STORE_URL", "s3://b?endpoint=http://store:9000&region=r"),
            ("ADIT_SEARCH_URL", "opensearch+http://u:hunter2@engine:9200"),
            ("ADIT_BROKER_LISTEN", "0.0.0.0:61613"),
        ];
        let errors = load(&pairs).unwrap_err();
        assert_eq!(errors.0.len(), pairs.len(), "{errors}");
        for ((name, _), error) in pairs.iter().zip(&errors.0) {
            assert!(error.starts_with(&format!("{name} would send")) && !error.contains("hunter2"), "{error}");
        }
        let told = [&pairs[..], &[("ADIT_ALLOW_PLAINTEXT", "postgres,broker,store,search")]].concat();
        assert!(load(&told).is_ok());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let config =
            load(&[("ADIT_API_KEY", "hunter2"), ("ADIT_DATABASE_URL", "postgres://u:hunter2@localhost/d")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        for bad in ["", "0s", "-1h", "1w", "99999999999d", "é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
