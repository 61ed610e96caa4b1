//! Packages: archives of docsets, their states and their fingerprint.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use super::Format;
use crate::digest::Sha256;
use crate::ids::{DocsetId, KeyId, PackageId};

/// Version of the archive layout. It is part of every package's fingerprint: raise it with any change that alters a
/// single byte of an archive.
pub const PACKAGE_FORMAT_VERSION: u32 = 1;

/// How an archive is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All files at the top: `{name}.{extension}`.
    Flat,
    /// A BagIt 1.0 bag (RFC 8493) in a base directory: `{base}/data/{name}.{extension}` and `{base}/manifest-sha256.txt`.
    Bag,
}

/// Not a layout's name.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("unknown layout {0:?}; there are: flat, bag")]
pub struct InvalidLayout(pub String);

impl Layout {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Bag => "bag",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = InvalidLayout;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "flat" => Ok(Self::Flat),
            "bag" => Ok(Self::Bag),
            other => Err(InvalidLayout(other.to_owned())),
        }
    }
}

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
    /// Without a file in any wanted format; known when it is complete.
    pub omitted: Option<u64>,
}

/// One archive of a docset in given formats and layout: the database's record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its id.
    pub id: PackageId,
    /// The key that asked for it.
    pub owner: KeyId,
    /// Its docset.
    pub docset: DocsetId,
    /// Sorted, without duplicates.
    pub formats: Vec<Format>,
    /// Its layout.
    pub layout: Layout,
    /// See [`package_fingerprint`].
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

/// The fingerprint of a package: SHA-256 over the docset's fingerprint, the sorted formats, the layout and
/// [`PACKAGE_FORMAT_VERSION`]. Equal fingerprints give equal archives, byte for byte.
#[must_use]
pub fn package_fingerprint(docset: &Sha256, formats: &[Format], layout: Layout) -> Sha256 {
    let mut names: Vec<&str> = formats.iter().map(Format::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let mut hash = sha2::Sha256::new();
    hash.update(docset.0);
    hash.update(format!("\n{}\n{layout}\n{PACKAGE_FORMAT_VERSION}\n", names.join(",")));
    Sha256(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_depends_on_docset_formats_and_layout_but_not_on_their_order() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let f = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<Format>>();
        let one = package_fingerprint(&a, &f(&["txt", "pdf"]), Layout::Flat);
        assert_eq!(one, package_fingerprint(&a, &f(&["pdf", "txt", "pdf"]), Layout::Flat));
        assert_ne!(one, package_fingerprint(&b, &f(&["txt", "pdf"]), Layout::Flat));
        assert_ne!(one, package_fingerprint(&a, &f(&["txt"]), Layout::Flat));
        assert_ne!(one, package_fingerprint(&a, &f(&["txt", "pdf"]), Layout::Bag));
    }

    #[test]
    fn names_and_values_agree() {
        for status in [Status::Accepted, Status::Running, Status::Successful, Status::Failed, Status::Dismissed] {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for content in [Content::None, Content::Available, Content::Erased] {
            assert_eq!(content.as_str().parse(), Ok(content));
        }
        assert_eq!("zip".parse::<Layout>(), Err(InvalidLayout("zip".into())));
    }
}
