//! Settings of the HTTP listener: places and time-outs of connections, proxies, and what browsers
//! may do.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::Reader;

/// Callers who may read `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Everybody.
    Open,
    /// Holders of an operator's key.
    Operator,
    /// Clients on this machine.
    Loopback,
}

/// Web origins whose scripts may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All of them.
    Any,
    /// These, such as `https://lab.example.org`.
    Only(Vec<String>),
}

/// The listener's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Most connections at once; fewer, where the limit of open files does not allow as many.
    pub connections: usize,
    /// Most connections of one address (IPv6: one /64); `None`: an eighth of all, of this machine
    /// half.
    pub connections_per_address: Option<usize>,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// Time between two requests of a connection.
    pub idle_timeout: Duration,
    /// Time that a client may keep the service waiting for a body, or for room to write its answer.
    pub stall_timeout: Duration,
    /// Networks of proxies whose word on the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Host names, beside that of the public URL and those of this machine, by which the service is
    /// asked; `*`: all.
    pub allowed_hosts: Vec<String>,
    /// Web origins whose scripts may read answers.
    pub cors_origins: CorsOrigins,
    /// Callers who may read `/metrics`.
    pub metrics: MetricsAccess,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: None,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            allowed_hosts: Vec::new(),
            cors_origins: CorsOrigins::Only(Vec::new()),
            metrics: MetricsAccess::Operator,
        }
    }
}

impl HttpConfig {
    /// Reads the settings; mistakes are noted in `read`.
    pub(super) fn read<F: Fn(&str) -> Option<String>>(read: &mut Reader<F>) -> Self {
        let usual = Self::default();
        let per_address = read.text("ADIT_CONNECTIONS_PER_ADDRESS");
        read.one_of("ADIT_METRICS", &["open", "operator", "loopback"]);
        Self {
            connections: read.number("ADIT_CONNECTIONS", usual.connections, 16..=65_536),
            connections_per_address: per_address
                .is_some()
                .then(|| read.number("ADIT_CONNECTIONS_PER_ADDRESS", 1, 1..=65_536)),
            header_timeout: read.duration("ADIT_HEADER_TIMEOUT", "10s"),
            idle_timeout: read.duration("ADIT_IDLE_TIMEOUT", "75s"),
            stall_timeout: read.duration("ADIT_STALL_TIMEOUT", "30s"),
            trusted_proxies: read.networks("ADIT_TRUSTED_PROXIES"),
            allowed_hosts: read.hosts("ADIT_ALLOWED_HOSTS"),
            cors_origins: read.origins("ADIT_CORS_ORIGINS"),
            metrics: match read.text("ADIT_METRICS").as_deref() {
                Some("open") => MetricsAccess::Open,
                Some("loopback") => MetricsAccess::Loopback,
                _ => MetricsAccess::Operator,
            },
        }
    }
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn hosts(&mut self, name: &str) -> Vec<String> {
        let list = self.list(name);
        let (hosts, wrong): (Vec<_>, Vec<_>) =
            list.into_iter().map(|host| host.to_ascii_lowercase()).partition(|host| host == "*" || is_host_name(host));
        self.refuse_parts(name, &wrong, "a host name such as adit.example.org, without scheme and port");
        hosts
    }

    fn origins(&mut self, name: &str) -> CorsOrigins {
        let list = self.list(name);
        if list.iter().any(|origin| origin == "*") {
            return CorsOrigins::Any;
        }
        let (origins, wrong): (Vec<_>, Vec<_>) = list.into_iter().partition(|text| is_origin(text));
        self.refuse_parts(name, &wrong, "an origin such as https://lab.example.org, or *");
        CorsOrigins::Only(origins)
    }

    fn refuse_parts(&mut self, name: &str, wrong: &[impl fmt::Display], right: &str) {
        self.mistakes.extend(wrong.iter().map(|part| format!("{name}: {part} is not {right}")));
    }
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Whether a text is an origin as browsers write it (RFC 6454, section 6.1).
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<HttpConfig, String> {
        let get = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Config::load(get).map(|config| config.http).map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_is_not_set_is_closed() {
        assert_eq!(load(&[]), Ok(HttpConfig::default()));
        let config = load(&[
            ("ADIT_CORS_ORIGINS", "https://a.example, http://localhost:3000"),
            ("ADIT_ALLOWED_HOSTS", "Adit, adit.example.org"),
            ("ADIT_TRUSTED_PROXIES", "10.1.0.0/16,::1"),
            ("ADIT_METRICS", "loopback"),
            ("ADIT_CONNECTIONS_PER_ADDRESS", "7"),
        ])
        .unwrap();
        let origins = ["https://a.example", "http://localhost:3000"].map(str::to_owned);
        assert_eq!(config.cors_origins, CorsOrigins::Only(origins.to_vec()));
        assert_eq!(config.allowed_hosts, ["adit", "adit.example.org"]);
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!((config.metrics, config.connections_per_address), (MetricsAccess::Loopback, Some(7)));
        assert_eq!(load(&[("ADIT_CORS_ORIGINS", "*")]).unwrap().cors_origins, CorsOrigins::Any);
    }

    #[test]
    fn mistakes_name_their_variable() {
        let wrong = [
            ("ADIT_CONNECTIONS", "3"),
            ("ADIT_CONNECTIONS_PER_ADDRESS", "none"),
            ("ADIT_HEADER_TIMEOUT", "soon"),
            ("ADIT_IDLE_TIMEOUT", "0s"),
            ("ADIT_STALL_TIMEOUT", "-1s"),
            ("ADIT_TRUSTED_PROXIES", "the-proxy"),
            ("ADIT_ALLOWED_HOSTS", "https://a.example"),
            ("ADIT_CORS_ORIGINS", "https://a.example/"),
            ("ADIT_METRICS", "nobody"),
        ];
        for pair in wrong {
            let errors = load(&[pair]).unwrap_err();
            assert!(errors.contains("1 mistake(s)") && errors.contains(pair.0), "{errors}");
        }
    }
}
