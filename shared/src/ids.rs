//! Typed ids: a docset's id cannot be handed over where a package's is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
id! {
    /// A docset.
    DocsetId(i64)
}
id! {
    /// A package.
    PackageId(i64)
}
id! {
    /// An API key (its public number, never its secret).
    KeyId(i64)
}
