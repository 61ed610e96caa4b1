//! Docsets: frozen selections of document versions.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use super::{Format, Origin};
use crate::digest::Sha256;
use crate::ids::{CollectionId, DocsetId, KeyId, VersionId};

/// How many files of one format there are, and their decoded bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FormatTotal {
    /// The format.
    pub format: Format,
    /// Documents that have a file in it.
    pub documents: u64,
    /// Their decoded bytes.
    pub bytes: u64,
}

/// A frozen, ordered selection of document versions; never changes after it is made (only its name may).
#[derive(Debug, Clone, PartialEq)]
pub struct Docset {
    /// Its id.
    pub id: DocsetId,
    /// The key that made it.
    pub owner: KeyId,
    /// The collection that its members belong to.
    pub collection: CollectionId,
    /// That collection's slug.
    pub collection_slug: String,
    /// A name for people.
    pub name: Option<String>,
    /// How it was made.
    pub origin: Origin,
    /// Number of members.
    pub size: u64,
    /// Files and bytes by format, sorted by format.
    pub formats: Vec<FormatTotal>,
    /// See [`DocsetFingerprint`].
    pub fingerprint: Sha256,
    /// The corpus version that it was made from.
    pub corpus_version: i64,
    /// The members' ids.
    pub members: RoaringBitmap,
    /// Milliseconds since the epoch.
    pub created: i64,
}

impl Docset {
    /// Decoded bytes of all members in all formats.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.formats.iter().map(|f| f.bytes).sum()
    }
}

/// Computes a docset's fingerprint: SHA-256 over the members' ids and content hashes in the order of ids.
#[derive(Debug, Default)]
pub struct DocsetFingerprint(sha2::Sha256);

impl DocsetFingerprint {
    /// Adds the next member; members come in the order of their ids.
    pub fn add(&mut self, id: VersionId, content_hash: &Sha256) {
        self.0.update(id.0.to_be_bytes());
        self.0.update(content_hash.0);
    }

    /// The fingerprint of what was added.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}
