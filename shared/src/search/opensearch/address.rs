//! Where an engine is, as `ADIT_SEARCH_URL` says.

use std::fmt;

use reqwest::header::HeaderValue;
use url::Url;

use crate::config::Secret;

/// Longest prefix: names of indexes end at 255 bytes, and those of aliases and of people's own must find room beside them.
const MAX_PREFIX: usize = 64;
/// Most shards of an index; more would cost every search more than they could ever bring.
const MAX_SHARDS: u16 = 64;

/// Where an engine is, and how indexes are made there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http` or `https`, host and path; no credentials, and no slash at its end.
    pub(super) base: String,
    /// User and password.
    pub(super) credentials: Option<(String, Secret)>,
    /// With what names of indexes begin: installations that share an engine need different ones.
    pub(super) prefix: String,
    /// Primary shards of each index.
    pub(super) shards: u16,
    /// Copies of each shard; `None` leaves it to the engine.
    pub(super) replicas: Option<u16>,
}

impl Address {
    /// Schemes of its URLs: encrypted, and with `+http` not.
    pub const SCHEMES: [&'static str; 4] = ["opensearch", "opensearch+http", "elasticsearch", "elasticsearch+http"];

    /// Reads `opensearch://user:password@host:9200/path?prefix=adit&shards=1&replicas=1`; all but the host may be left out.
    ///
    /// # Errors
    /// What is wrong, without naming credentials.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !Self::SCHEMES.contains(&scheme) {
            return Err(format!(
                "must begin with one of: {}",
                Self::SCHEMES.map(|scheme| format!("{scheme}://")).join(", ")
            ));
        }
        let plain = scheme.ends_with("+http");
        // Only of schemes that it knows does the parser read a host as one.
        let text = format!("{}{}", if plain { "http" } else { "https" }, &text[scheme.len()..]);
        let url = Url::parse(&text).map_err(|error| format!("is no URL: {error}"))?;
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8();
            text.map(|text| text.into_owned()).map_err(|_| "has credentials that are not UTF-8".to_owned())
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decoded(user)?, Secret::new(decoded(password.unwrap_or_default())?))),
        };
        let mut address = Self { base: base(&url), credentials, prefix: "adit".to_owned(), shards: 1, replicas: None };
        for (name, value) in url.query_pairs() {
            let number = |most: u16| value.parse().ok().filter(|number| *number <= most);
            match &*name {
                "prefix" if is_prefix(&value) => address.prefix = value.into_owned(),
                "prefix" => return Err(format!("has a prefix that is not of a-z, 0-9 and _, a letter first: {value}")),
                "shards" => match number(MAX_SHARDS).filter(|shards| *shards > 0) {
                    Some(shards) => address.shards = shards,
                    None => return Err(format!("has shards={value}; there may be 1 to {MAX_SHARDS}")),
                },
                "replicas" => match number(10) {
                    Some(replicas) => address.replicas = Some(replicas),
                    None => return Err(format!("has replicas={value}; there may be 0 to 10")),
                },
                _ => return Err(format!("has a parameter {name}; there are prefix, shards and replicas")),
            }
        }
        Ok(address)
    }

    /// The header that tells who asks, if the URL does.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        use base64::Engine as _;
        let (user, password) = self.credentials.as_ref()?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.reveal()));
        // Base64 has no character that a header cannot have.
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

fn base(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // URLs with a host have room for credentials, so these cannot fail.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Names of indexes are of small letters, digits and some signs, of which `-` parts them here.
fn is_prefix(text: &str) -> bool {
    text.len() <= MAX_PREFIX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_how_to_reach_the_engine_and_what_to_make_there() {
        let address =
            Address::parse("opensearch://adit:p%40ss@search.example:9200/os/?prefix=corpus_1&shards=3&replicas=0")
                .unwrap();
        assert_eq!(address.base, "https://search.example:9200/os");
        assert_eq!((address.prefix.as_str(), address.shards, address.replicas), ("corpus_1", 3, Some(0)));
        assert_eq!(address.authorization().unwrap(), "Basic YWRpdDpwQHNz");
        assert!(!format!("{address:?} {address}").contains("p@ss"));
        let address = Address::parse("elasticsearch+http://127.0.0.1:9200").unwrap();
        assert_eq!(address.base, "http://127.0.0.1:9200");
        assert_eq!((address.authorization(), address.prefix.as_str(), address.shards), (None, "adit", 1));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, wrong) in [
            ("http://u:hunter2@h", "must begin with one of: opensearch://"),
            ("opensearch://u:hunter2@", "no URL"),
            ("opensearch://u:hunter2@h?prefix=A-b", "prefix"),
            ("opensearch://u:hunter2@h?shards=0", "1 to 64"),
            ("opensearch://u:hunter2@h?replicas=x", "0 to 10"),
            ("opensearch://u:hunter2@h?shard=2", "there are prefix, shards and replicas"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(wrong) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
