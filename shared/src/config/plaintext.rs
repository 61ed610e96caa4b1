//! One rule for every connection that carries a password, a key or a corpus: never in clear text
//! over a network, unless the operator says for that part that its network is trusted
//! (`ADIT_ALLOW_PLAINTEXT`).
//!
//! What stays on this machine (loopback addresses, Unix sockets) and what is encrypted is always
//! allowed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// A part that is reached over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// PostgreSQL: without TLS, whoever stands between can ask for the password in clear text, and
    /// gets it.
    Postgres,
    /// The broker, as client and as server.
    Broker,
    /// An S3 server.
    Store,
    /// OpenSearch or Elasticsearch.
    Search,
    /// The API, to which a packager shows its key.
    Api,
}

impl Part {
    const ALL: [Self; 5] = [Self::Postgres, Self::Broker, Self::Store, Self::Search, Self::Api];

    /// Its name in `ADIT_ALLOW_PLAINTEXT`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Broker => "broker",
            Self::Store => "store",
            Self::Search => "search",
            Self::Api => "api",
        }
    }
}

/// Parts that may be reached in clear text over a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaintextParts(Vec<Part>);

impl FromStr for PlaintextParts {
    type Err = String;

    /// Reads names with commas between.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let part = |name: &str| {
            let found = Part::ALL.into_iter().find(|part| part.as_str() == name);
            found.ok_or_else(|| format!("{name:?} is not one of: {}", Part::ALL.map(Part::as_str).join(", ")))
        };
        names.map(part).collect::<Result<_, _>>().map(Self)
    }
}

/// A connection that would show secrets to a network.
#[derive(Debug, PartialEq, Eq)]
pub struct ExposedSecrets {
    part: Part,
    host: String,
}

impl fmt::Display for ExposedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, host } = self;
        let (what, remedy) = match part {
            Part::Postgres => (
                "the database's password",
                "add sslmode=verify-full to the URL (sslmode=require where its certificate is not of a trusted authority)",
            ),
            Part::Broker => ("the broker's passcode", "use stomps://"),
            Part::Store => ("the corpus", "give the endpoint as https://"),
            Part::Search => ("the search engine's password", "leave the +http out of the scheme"),
            Part::Api => ("the packager's key", "use https://"),
        };
        write!(
            f,
            "would send {what} to {host} in clear text: {remedy}, or, where nobody else is on that network, set ADIT_ALLOW_PLAINTEXT={}",
            part.as_str()
        )
    }
}

impl PlaintextParts {
    /// Refuses a URL that would show secrets to a network. A text that is no URL is somebody else's
    /// to refuse.
    ///
    /// # Errors
    /// With the remedies; it repeats no more of the URL than the host.
    pub fn check_url(&self, part: Part, url: &str) -> Result<(), ExposedSecrets> {
        let Ok(url) = Url::parse(url) else { return Ok(()) };
        match exposed_host(part, &url) {
            Some(host) if !self.0.contains(&part) => Err(ExposedSecrets { part, host }),
            _ => Ok(()),
        }
    }

    /// The same for a socket that the embedded broker is to listen on.
    ///
    /// # Errors
    /// As there.
    pub fn check_address(&self, part: Part, address: IpAddr) -> Result<(), ExposedSecrets> {
        if address.is_loopback() || self.0.contains(&part) {
            return Ok(());
        }
        Err(ExposedSecrets { part, host: format!("clients of {address}") })
    }
}

/// The host that a connection would show secrets to, if it would.
fn exposed_host(part: Part, url: &Url) -> Option<String> {
    let parameter =
        |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let has_password = url.password().is_some_and(|password| !password.is_empty());
    let exposes = match part {
        // Its password may come from elsewhere, too. Who writes `disable` has said so.
        Part::Postgres => {
            let mode = parameter("sslmode").or_else(|| parameter("ssl-mode"));
            url.scheme().starts_with("postgres")
                && !matches!(mode.as_deref(), Some("require" | "verify-ca" | "verify-full" | "disable"))
        }
        Part::Broker => url.scheme() == "stomp" && has_password,
        Part::Store => {
            let endpoint = parameter("endpoint").and_then(|endpoint| Url::parse(&endpoint).ok());
            return endpoint
                .filter(|endpoint| endpoint.scheme() == "http")
                .and_then(|endpoint| foreign_host(&endpoint));
        }
        Part::Search => url.scheme().ends_with("+http") && has_password,
        Part::Api => url.scheme() == "http",
    };
    if !exposes {
        return None;
    }
    // PostgreSQL's Unix sockets are folders, in the place of the host or as a parameter.
    match (part, parameter("host")) {
        (Part::Postgres, Some(host)) if host.starts_with('/') => None,
        (Part::Postgres, Some(host)) => foreign_host(&Url::parse(&format!("http://{host}")).ok()?),
        _ => foreign_host(url),
    }
}

/// The host of a URL, unless it is this machine.
fn foreign_host(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    // Where the scheme is not one of the web's, an address is a name to the URL's parser.
    let name = host.trim_matches(['[', ']']);
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().starts_with("%2f"),
        },
    };
    (!local).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_go_over_a_network_in_clear_text_unless_told_so() {
        let none = PlaintextParts::default();
        for (part, exposed) in [
            (Part::Postgres, "postgres://u:hunter2@db.example/adit"),
            (Part::Postgres, "postgresql://u@10.0.0.5/adit?sslmode=prefer"),
            (Part::Postgres, "postgres://u:hunter2@localhost.example/adit?sslmode=allow"),
            (Part::Postgres, "postgres:///adit?host=db.example"),
            (Part::Broker, "stomp://u:hunter2@broker/v"),
            (Part::Broker, "stomp://u:hunter2@[fd00::1]:61613"),
            (Part::Store, "s3://bucket?endpoint=http://seaweedfs:8333&region=r"),
            (Part::Search, "opensearch+http://u:hunter2@engine:9200"),
            (Part::Api, "http://adit.example/x"),
        ] {
            let error = none.check_url(part, exposed).expect_err(exposed).to_string();
            assert!(error.contains(&format!("ADIT_ALLOW_PLAINTEXT={}", part.as_str())), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            let told: PlaintextParts = format!("api, {}", part.as_str()).parse().unwrap();
            assert_eq!(told.check_url(part, exposed), Ok(()));
            let other: PlaintextParts = if part == Part::Store { "search" } else { "store" }.parse().unwrap();
            assert!(other.check_url(part, exposed).is_err());
        }
    }

    #[test]
    fn what_is_encrypted_and_what_stays_on_the_machine_is_allowed() {
        let none = PlaintextParts::default();
        for (part, fine) in [
            (Part::Postgres, "postgres://u:p@db.example/adit?sslmode=verify-full"),
            (Part::Postgres, "postgres://u:p@db.example/adit?sslmode=require"),
            (Part::Postgres, "postgres://u:p@db.example/adit?sslmode=disable"),
            (Part::Postgres, "postgres://u:p@127.0.0.1:5433/adit"),
            (Part::Postgres, "postgres://u:p@localhost/adit"),
            (Part::Postgres, "postgres://u:p@[::1]/adit"),
            (Part::Postgres, "postgres://u:p@%2Fvar%2Frun%2Fpostgresql/adit"),
            (Part::Postgres, "postgres:///adit?host=/var/run/postgresql"),
            (Part::Postgres, "sqlite:///srv/adit.sqlite"),
            (Part::Broker, "stomps://u:p@broker"),
            (Part::Broker, "stomp://broker"),
            (Part::Broker, "stomp://u:p@127.0.0.1:61613"),
            (Part::Broker, "stomp+unix:///run/adit/broker.sock"),
            (Part::Store, "s3://bucket?endpoint=https://seaweedfs:8333"),
            (Part::Store, "s3://bucket?endpoint=http://127.0.0.1:8333"),
            (Part::Store, "s3://bucket"),
            (Part::Store, "file:///srv/objects"),
            (Part::Search, "opensearch://u:p@engine:9200"),
            (Part::Search, "elasticsearch+http://engine:9200"),
            (Part::Api, "https://adit.example"),
            (Part::Api, "http://localhost:8080"),
        ] {
            assert_eq!(none.check_url(part, fine), Ok(()), "{fine}");
        }
        assert!(none.check_address(Part::Broker, [0, 0, 0, 0].into()).is_err());
        assert!(none.check_address(Part::Broker, [127, 0, 0, 1].into()).is_ok());
        assert!("postgres,everything".parse::<PlaintextParts>().is_err());
    }
}
