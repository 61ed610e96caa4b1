//! How a docset was made, so that it can be shown and made again: what was asked for, set algebra, and samples by seed.

use std::borrow::Borrow;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use crate::digest::Sha256;
use crate::ids::{DocsetId, VersionId, WatchId};
use crate::search::Source;

/// How a docset was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Out of what.
    #[serde(flatten)]
    pub selection: Selection,
    /// How many of these, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// What a docset is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// The hits of a query.
    Query(Source),
    /// The works of so many refs. Which they are, the members tell.
    Refs(u64),
    /// Other docsets.
    From(SetOperation),
    /// Those hits of a watch's query that were new when it looked.
    Watch {
        /// The watch; it may be gone.
        id: WatchId,
        /// Its query.
        query: Source,
        /// New is what came after this corpus version.
        since: i64,
    },
}

impl From<Selection> for Origin {
    fn from(selection: Selection) -> Self {
        Self { selection, sample: None }
    }
}

impl Origin {
    /// The query, where it was one.
    #[must_use]
    pub fn query(&self) -> Option<&Source> {
        match &self.selection {
            Selection::Query(query) => Some(query),
            Selection::Refs(_) | Selection::From(_) | Selection::Watch { .. } => None,
        }
    }
}

/// Set algebra over the members of docsets, which are document versions: two versions of one work are two members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetOperation {
    /// What is in any of them.
    Union(Vec<DocsetId>),
    /// What is in all of them.
    Intersection(Vec<DocsetId>),
    /// What is in the first of them and in none of the others.
    Difference(Vec<DocsetId>),
}

impl SetOperation {
    /// The docsets, in their order.
    #[must_use]
    pub fn docsets(&self) -> &[DocsetId] {
        match self {
            Self::Union(ids) | Self::Intersection(ids) | Self::Difference(ids) => ids,
        }
    }

    /// The result, of the docsets' members in their order; of no docsets, nothing.
    #[must_use]
    pub fn combine<B: Borrow<RoaringBitmap>>(&self, members: impl IntoIterator<Item = B>) -> RoaringBitmap {
        let mut members = members.into_iter();
        let mut result = members.next().map(|first| first.borrow().clone()).unwrap_or_default();
        for next in members {
            match self {
                Self::Union(_) => result |= next.borrow(),
                Self::Intersection(_) => result &= next.borrow(),
                Self::Difference(_) => result -= next.borrow(),
            }
        }
        result
    }
}

/// Stands for a work in its collection: the first 16 bytes of the SHA-256 of its ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkHash(pub [u8; 16]);

impl WorkHash {
    /// The hash of a ref.
    #[must_use]
    pub fn of(r#ref: &str) -> Self {
        let Sha256(digest) = Sha256::of(r#ref.as_bytes());
        let (half, _) = digest.as_chunks::<16>();
        Self(half[0])
    }
}

/// A random sample that is the same for the same seed and works, on every machine: those `size` members whose rank is lowest. The rank of a member
/// is the SHA-256 of the seed (8 bytes, big-endian) and its [`WorkHash`]; versions of one work, which have the same, stand in the order of ids.
///
/// So a smaller sample of the same seed is part of a larger one, and a work that is in the sample stays there when its content changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Members to take; all, if there are not so many.
    pub size: u64,
    /// Another seed gives another sample.
    pub seed: u64,
}

impl Sample {
    /// The sample.
    #[must_use]
    pub fn pick(self, members: impl IntoIterator<Item = (VersionId, WorkHash)>) -> RoaringBitmap {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut ranked: Vec<_> = members.into_iter().map(|(id, work)| (self.rank(work), id.0)).collect();
        if size < ranked.len() {
            ranked.select_nth_unstable(size);
            ranked.truncate(size);
        }
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    fn rank(self, work: WorkHash) -> [u8; 32] {
        let mut hash = sha2::Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(work.0);
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests;
