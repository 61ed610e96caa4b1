//! Typed ids: a docset's id cannot be handed over where a package's is wanted.

mod salt;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::salt::{InvalidSalt, Salt, Salted, SaltedPackage, SaltedShare};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// A collection.
    CollectionId(i64)
}
id! {
    /// One version of one document. Ids rise in the order of import, are never reused, and fit a Roaring bitmap (32 bits).
    VersionId(u32)
}
/// An import. It is random and not counted, because it names objects, which may outlive the database. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImportId(pub u64);

impl fmt::Display for ImportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ImportId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The search index of one corpus version. The import is part of it: several may have tried to make a version, and the database says
/// which of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexId {
    /// The collection.
    pub collection: CollectionId,
    /// The corpus version; 0 is the empty collection, which has no index.
    pub corpus_version: i64,
    /// The import that made the version; `None` for those made before imports were recorded.
    pub import: Option<ImportId>,
}

impl IndexId {
    /// The index that an import makes on top of this one.
    #[must_use]
    pub fn next(self, import: ImportId) -> Self {
        Self { corpus_version: self.corpus_version + 1, import: Some(import), ..self }
    }
}

id! {
    /// A docset.
    DocsetId(i64)
}
id! {
    /// A package.
    PackageId(i64)
}
id! {
    /// A watch.
    WatchId(i64)
}
id! {
    /// A notice of a watch.
    NoticeId(i64)
}
id! {
    /// An API key (its public number, never its secret).
    KeyId(i64)
}
id! {
    /// A link that opens a docset to others.
    ShareId(i64)
}
