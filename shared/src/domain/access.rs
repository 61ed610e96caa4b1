//! Who may have the files of a document, and what is said of mining it: access levels and the terms of TDMRep.
//!
//! What a key may have is decided by the API, where it is enforced too.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The term of a document's metadata that tells its access level (DCMI Metadata Terms, `accessRights`).
pub const ACCESS_RIGHTS: &str = "accessRights";
/// The term that tells whether rights of text and data mining are reserved.
pub const TDM_RESERVATION: &str = "tdmReservation";
/// The term that tells where the conditions of mining stand.
pub const TDM_POLICY: &str = "tdmPolicy";
/// Vocabulary of access rights of the Confederation of Open Access Repositories.
const COAR: &str = "purl.org/coar/access_right/";

/// The name of something that keys may be entitled to: one to 64 of `a`–`z`, `0`–`9`, `-`, `_` and `.`. Slugs of collections are such names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9._-]{1,64}$", examples("press-archive"))]
pub struct Entitlement(String);

/// Not the name of an entitlement.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("an entitlement is one to 64 of a-z, 0-9, -, _ and ., not {0:?}")]
pub struct InvalidEntitlement(pub String);

impl Entitlement {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Entitlement {
    type Err = InvalidEntitlement;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let ok = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidEntitlement(text.to_owned())) }
    }
}

impl TryFrom<String> for Entitlement {
    type Error = InvalidEntitlement;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Entitlement> for String {
    fn from(entitlement: Entitlement) -> Self {
        entitlement.0
    }
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may have a document's files. Its metadata (the file `meta` too) is open to everybody. Written `open`, `restricted:<entitlement>` or
/// `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Everybody with a key.
    #[default]
    Open,
    /// Keys with this entitlement.
    Restricted(Entitlement),
    /// Nobody.
    Metadata,
}

/// Somebody who asks for texts, by what of them is for him or her.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentReader {
    /// Reads what is open, and what is restricted to one of these entitlements.
    Entitled(BTreeSet<Entitlement>),
    /// Reads everything that anybody may read.
    Operator,
}

impl DocumentReader {
    /// Somebody without any entitlement, such as one who shows no key.
    #[must_use]
    pub fn nobody() -> Self {
        Self::Entitled(BTreeSet::new())
    }

    /// Tells if the reader is entitled to texts of this access level. What is open by its metadata
    /// alone is for nobody.
    #[must_use]
    pub fn may_read(&self, access: &Access) -> bool {
        match (access, self) {
            (Access::Open, _) | (Access::Restricted(_), Self::Operator) => true,
            (Access::Restricted(name), Self::Entitled(names)) => names.contains(name),
            (Access::Metadata, _) => false,
        }
    }
}

/// No access level. It is never taken for an open one.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0} is no access level; there are open, restricted, restricted:<entitlement> and metadata, and of the COAR vocabulary \
     c_abf2, c_16ec, c_f1cf and c_14cb"
)]
pub struct InvalidAccess(pub String);

impl Access {
    /// Reads an access level as people write it. What is `restricted` and names no entitlement needs `own`.
    ///
    /// # Errors
    /// [`InvalidAccess`] for anything else than those words and the URIs of the COAR Access Rights vocabulary
    /// (<https://vocabularies.coar-repositories.org/access_rights/>); an embargo counts as a restriction for as long as it is written there.
    pub fn parse(text: &str, own: &Entitlement) -> Result<Self, InvalidAccess> {
        let uri = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let word = match uri.and_then(|uri| uri.strip_prefix(COAR)) {
            Some("c_abf2") => "open",
            Some("c_16ec" | "c_f1cf") => "restricted",
            Some("c_14cb") => "metadata",
            _ => text,
        };
        match word {
            "restricted" => Ok(Self::Restricted(own.clone())),
            word => word.parse().map_err(|_| InvalidAccess(format!("{text:?}"))),
        }
    }

    /// The access level that a document's metadata names: one text, or a list of one; `None` where it names none.
    ///
    /// # Errors
    /// See [`Access::parse`].
    pub fn of(metadata: &Map<String, Value>, own: &Entitlement) -> Result<Option<Self>, InvalidAccess> {
        let one = |value: &Value| match value {
            Value::String(text) => Self::parse(text, own),
            other => Err(InvalidAccess(other.to_string())),
        };
        match metadata.get(ACCESS_RIGHTS) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => match list.as_slice() {
                [value] => one(value).map(Some),
                _ => Err(InvalidAccess(Value::Array(list.clone()).to_string())),
            },
            Some(value) => one(value).map(Some),
        }
    }

    /// As it is stored: nothing for what is open.
    #[must_use]
    pub fn stored(&self) -> Option<String> {
        (*self != Self::Open).then(|| self.to_string())
    }

    /// Its level alone.
    #[must_use]
    pub fn level(&self) -> AccessLevel {
        match self {
            Self::Open => AccessLevel::Open,
            Self::Restricted(_) => AccessLevel::Restricted,
            Self::Metadata => AccessLevel::Metadata,
        }
    }

    /// The entitlement that it needs.
    #[must_use]
    pub fn entitlement(&self) -> Option<&Entitlement> {
        if let Self::Restricted(entitlement) = self { Some(entitlement) } else { None }
    }
}

impl FromStr for Access {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "open" => Ok(Self::Open),
            None if text == "metadata" => Ok(Self::Metadata),
            Some(("restricted", entitlement)) => match entitlement.parse() {
                Ok(entitlement) => Ok(Self::Restricted(entitlement)),
                Err(InvalidEntitlement(_)) => Err(InvalidAccess(format!("{text:?}"))),
            },
            _ => Err(InvalidAccess(format!("{text:?}"))),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Restricted(entitlement) => write!(f, "restricted:{entitlement}"),
            Self::Metadata => f.write_str("metadata"),
        }
    }
}

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An access level without the name of its entitlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLevel {
    /// Everybody with a key may have the files.
    Open,
    /// Keys with an entitlement may.
    Restricted,
    /// Nobody may.
    Metadata,
}

/// What a rightholder says of text and data mining, by the TDM Reservation Protocol (W3C Community Group report of 10 May 2024,
/// <https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/>).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tdm {
    /// Whether the rights are reserved: 1, or 0.
    #[serde(with = "zero_or_one")]
    #[schema(value_type = u8, minimum = 0, maximum = 1)]
    pub reservation: bool,
    /// URL of the policy: how a licence is to be had.
    #[schema(format = "uri")]
    pub policy: Option<String>,
}

/// Not the terms of TDMRep.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTdm {
    /// Neither 0 nor 1.
    #[error("{TDM_RESERVATION} is 0 or 1, not {0}")]
    Reservation(Value),
    /// No URL.
    #[error("{TDM_POLICY} is a URL with http or https, not {0}")]
    Policy(Value),
    /// Only where rights are reserved is there anything to say of them.
    #[error("{TDM_POLICY} goes with {TDM_RESERVATION} 1; give both, or neither")]
    Unreserved,
}

impl Tdm {
    /// What a document's metadata says; `None` where it says nothing.
    ///
    /// # Errors
    /// [`InvalidTdm`] names the term and what it holds.
    pub fn of(metadata: &Map<String, Value>) -> Result<Option<Self>, InvalidTdm> {
        let given = |term| metadata.get(term).filter(|value| !value.is_null());
        let reservation = given(TDM_RESERVATION).map(|value| match value {
            Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
            Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
            Value::String(text) if text == "0" => Ok(false),
            Value::String(text) if text == "1" => Ok(true),
            other => Err(InvalidTdm::Reservation(other.clone())),
        });
        let policy = given(TDM_POLICY).map(|value| match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(InvalidTdm::Policy(value.clone())),
        });
        match (reservation.transpose()?, policy.transpose()?) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(InvalidTdm::Unreserved),
            (Some(reservation), policy) => Self { reservation, policy }.checked().map(Some),
        }
    }

    /// The same, if it goes together.
    ///
    /// # Errors
    /// See [`Tdm::of`].
    pub fn checked(self) -> Result<Self, InvalidTdm> {
        match &self.policy {
            Some(_) if !self.reservation => Err(InvalidTdm::Unreserved),
            Some(policy) if !is_url(policy) => Err(InvalidTdm::Policy(json!(policy))),
            _ => Ok(self),
        }
    }
}

/// Whether a text is a URL of the web as it may stand in a header.
fn is_url(text: &str) -> bool {
    let parsed = url::Url::parse(text);
    parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// As the protocol writes a reservation.
mod zero_or_one {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8((*value).into())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(D::Error::custom(format!("a reservation is 0 or 1, not {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own() -> Entitlement {
        "own".parse().unwrap()
    }

    fn of(value: &Value) -> Result<Option<Access>, InvalidAccess> {
        Access::of(json!({"accessRights": value}).as_object().unwrap(), &own())
    }

    #[test]
    fn words_and_uris_name_access_levels() {
        let press = Access::Restricted("press.2020".parse().unwrap());
        for (text, access) in [
            ("open", Access::Open),
            ("restricted", Access::Restricted(own())),
            ("restricted:press.2020", press),
            ("metadata", Access::Metadata),
            ("http://purl.org/coar/access_right/c_abf2", Access::Open),
            ("https://purl.org/coar/access_right/c_16ec", Access::Restricted(own())),
            ("http://purl.org/coar/access_right/c_f1cf", Access::Restricted(own())),
            ("http://purl.org/coar/access_right/c_14cb", Access::Metadata),
        ] {
            assert_eq!(Access::parse(text, &own()), Ok(access.clone()), "{text}");
            assert_eq!(of(&json!([text])), Ok(Some(access)), "{text}");
        }
        assert_eq!(of(&Value::Null), Ok(None));
    }

    #[test]
    fn what_is_no_access_level_is_named_and_never_open() {
        for value in [
            json!(""),
            json!("Open"),
            json!(" open"),
            json!("open:x"),
            json!("restricted:"),
            json!("restricted:A"),
            json!("http://open"),
            json!("http://purl.org/coar/access_right/c_1"),
            json!(["open", "restricted"]),
            json!([]),
            json!(1),
            json!({"@id": "open"}),
        ] {
            let refused = of(&value).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{value} is no access level")), "{value}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn a_stored_access_level_is_read_back(name in "[a-z0-9._-]{1,64}") {
            let access = Access::Restricted(name.parse().unwrap());
            prop_assert_eq!(access.stored().unwrap().parse(), Ok(access));
        }

        #[test]
        fn only_what_says_so_is_open(text in "\\PC{0,20}|(open|restricted|metadata)?[:/ ]?[a-z0-9]{0,5}") {
            let open = Access::parse(&text, &own()) == Ok(Access::Open);
            prop_assert_eq!(open, text == "open");
        }
    }

    fn tdm(value: Value) -> Result<Option<Tdm>, InvalidTdm> {
        Tdm::of(value.as_object().unwrap())
    }

    #[test]
    fn terms_of_mining_are_read_or_refused() {
        let policy = "https://example.org/policy.json";
        let reserved = |policy: Option<&str>| Ok(Some(Tdm { reservation: true, policy: policy.map(str::to_owned) }));
        assert_eq!(tdm(json!({})), Ok(None));
        assert_eq!(tdm(json!({"tdmReservation": 1})), reserved(None));
        assert_eq!(tdm(json!({"tdmReservation": "1", "tdmPolicy": policy})), reserved(Some(policy)));
        assert_eq!(tdm(json!({"tdmReservation": 0})), Ok(Some(Tdm { reservation: false, policy: None })));
        for wrong in [
            json!({"tdmReservation": 2}),
            json!({"tdmReservation": "yes"}),
            json!({"tdmReservation": 1, "tdmPolicy": "ask us"}),
            json!({"tdmReservation": 1, "tdmPolicy": "https://a b/"}),
            json!({"tdmPolicy": policy}),
            json!({"tdmReservation": 0, "tdmPolicy": policy}),
        ] {
            assert!(tdm(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_value(tdm(json!({"tdmReservation": 1})).unwrap()).unwrap()["reservation"], 1);
    }
}
