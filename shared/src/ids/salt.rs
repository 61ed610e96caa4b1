//! Random values that tell apart what had the same number.
//!
//! A database that was restored from a backup counts on from there, so the numbers of what is lost
//! are given again. What outlives the database (objects, messages, links) must not be taken for
//! that of the new one: so the number has a random value beside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PackageId, ShareId};

/// A random value that is drawn when a row is made. Written as 16 hexadecimal digits. It need not be
/// secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Salt(pub u64);

/// Not a [`Salt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a salt has 16 hexadecimal digits, without capitals")]
pub struct InvalidSalt;

impl Salt {
    /// Draws one.
    #[must_use]
    pub fn draw() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Salt {
    type Err = InvalidSalt;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let value = is_plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or(InvalidSalt)
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> Self {
        salt.to_string()
    }
}

impl TryFrom<String> for Salt {
    type Error = InvalidSalt;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A number with the salt of its row: `7-00c0ffee00c0ffee`. Rows that were made before there were
/// salts have none: `7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salted<Id> {
    /// The number.
    pub id: Id,
    /// Its salt.
    pub salt: Option<Salt>,
}

/// A package, told apart from a lost one of the same number.
pub type SaltedPackage = Salted<PackageId>;

/// A link that shares a docset, told apart from a lost one of the same number.
pub type SaltedShare = Salted<ShareId>;

impl<Id> Salted<Id> {
    /// The salt as a text of the database; nothing where there is none.
    pub(crate) fn salt_text(&self) -> Option<String> {
        self.salt.map(String::from)
    }
}

impl<Id> From<Id> for Salted<Id> {
    /// The number of a row without a salt.
    fn from(id: Id) -> Self {
        Self { id, salt: None }
    }
}

impl<Id: fmt::Display> fmt::Display for Salted<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        self.salt.map_or(Ok(()), |salt| write!(f, "-{salt}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_has_one_way_to_be_written() {
        let salt = Salt(0xc0_ffee);
        assert_eq!(salt.to_string(), "0000000000c0ffee");
        assert_eq!(salt.to_string().parse(), Ok(salt));
        for wrong in ["", "c0ffee", "0000000000C0FFEE", "+000000000c0ffee", "0000000000c0ffee0", "000000000c0ffeeé"] {
            assert_eq!(wrong.parse::<Salt>(), Err(InvalidSalt), "{wrong}");
        }
        let package = SaltedPackage { id: PackageId(7), salt: Some(salt) };
        assert_eq!(package.to_string(), "7-0000000000c0ffee");
        assert_eq!(SaltedPackage::from(PackageId(7)).to_string(), "7");
    }
}
