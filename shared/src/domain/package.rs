//! Packages: archives of docsets, and their states.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{About, Recipe};
use crate::digest::Sha256;
use crate::ids::{DocsetId, KeyId, PackageId, Salt, SaltedPackage};

/// Where a package stands, in the words of OGC API - Processes (18-062r2, `statusCode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Asked for; no packager has reported progress.
    Accepted,
    /// Being built.
    Running,
    /// Built.
    Successful,
    /// Cannot be built; the reason is told.
    Failed,
    /// Given up at its owner's wish.
    Dismissed,
}

impl Status {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Dismissed => "dismissed",
        }
    }

    /// Whether polling can stop.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Successful | Self::Failed | Self::Dismissed)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Accepted, Self::Running, Self::Successful, Self::Failed, Self::Dismissed]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown status {text:?}"))
    }
}

/// Whether a package's archive can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Not built (yet).
    None,
    /// In the store.
    Available,
    /// Was there; deleted or expired. It can be asked for again.
    Erased,
}

impl Content {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Available => "available",
            Self::Erased => "erased",
        }
    }
}

impl FromStr for Content {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Available, Self::Erased]
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or_else(|| format!("unknown content state {text:?}"))
    }
}

/// Counts of documents in a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Documents {
    /// Members of the docset.
    pub requested: u64,
    /// Written so far.
    pub done: u64,
    /// With at least one file in the archive; known when it is complete.
    pub included: Option<u64>,
    /// Without a file in the archive; known when it is complete.
    pub omitted: Option<u64>,
    /// Of the omitted, those whose files the key was not entitled to; known from the first.
    pub rights: u64,
    /// Of the omitted, those that were withdrawn before the package was asked for; known from the first.
    pub withdrawn: u64,
}

impl Documents {
    /// Those that a quota is charged for: all but such as are withheld.
    #[must_use]
    pub fn payable(&self) -> u64 {
        self.requested.saturating_sub(self.rights + self.withdrawn)
    }
}

/// One archive of a docset in given formats and layout: the database's record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its id.
    pub id: PackageId,
    /// Tells it apart from a lost package of the same id; a package that was asked for before there
    /// were salts has none.
    pub salt: Option<Salt>,
    /// The key that asked for it.
    pub owner: KeyId,
    /// Its docset.
    pub docset: DocsetId,
    /// What it is made of.
    pub recipe: Recipe,
    /// What it says about itself; a package that was asked for before packages described themselves has nothing.
    pub about: Option<About>,
    /// See [`Recipe::fingerprint`].
    pub fingerprint: Sha256,
    /// Where it stands.
    pub status: Status,
    /// Whether the archive is there.
    pub content: Content,
    /// Greatest `sequence` of the statuses taken in; older ones are ignored.
    pub sequence: i64,
    /// Counts of documents.
    pub documents: Documents,
    /// Archive bytes written so far.
    pub bytes_done: u64,
    /// Archive size, once it is known.
    pub bytes_total: Option<u64>,
    /// 0 to 100.
    pub percent: u8,
    /// Seconds that the packager expects the build to take, as it said when it accepted.
    pub estimate_seconds: Option<u64>,
    /// URL or key under which the packager says that the archive lies.
    pub location: Option<String>,
    /// Size of the finished archive in bytes.
    pub size: Option<u64>,
    /// SHA-256 of the finished archive.
    pub sha256: Option<Sha256>,
    /// Why it failed.
    pub problem: Option<String>,
    /// Whether its documents are charged to its owner. What is not paid for is not sent, unless it
    /// is paid for later.
    pub paid: bool,
    /// Whether it was asked for by a GET, and is charged when it is fetched first.
    pub pay_later: bool,
    /// When its owner dismissed it, or deleted its archive before its time.
    pub given_up: Option<i64>,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// When the packager accepted it.
    pub started: Option<i64>,
    /// When it reached a terminal status.
    pub finished: Option<i64>,
    /// When the archive may be erased.
    pub expires: Option<i64>,
    /// When the request was last sent to the broker; `None` when it never was.
    pub sent: Option<i64>,
    /// How many times it was sent.
    pub sends: u32,
    /// When a status was last taken in.
    pub heard: Option<i64>,
}

impl Package {
    /// Its id with its salt: what its objects, messages and links are named by.
    #[must_use]
    pub fn salted(&self) -> SaltedPackage {
        SaltedPackage { id: self.id, salt: self.salt }
    }

    /// Whether its archive is there and has not expired.
    #[must_use]
    pub fn is_there(&self, now: i64) -> bool {
        self.content == Content::Available && self.expires.is_none_or(|expires| expires > now)
    }

    /// Whether it is there, or is being built.
    #[must_use]
    pub fn is_held(&self, now: i64) -> bool {
        !self.status.is_terminal() || self.is_there(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_agree() {
        for status in [Status::Accepted, Status::Running, Status::Successful, Status::Failed, Status::Dismissed] {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for content in [Content::None, Content::Available, Content::Erased] {
            assert_eq!(content.as_str().parse(), Ok(content));
        }
    }
}
