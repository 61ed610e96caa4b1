//! Names of what a package consists of. They come from servers and stand in file systems, so that
//! they are checked before they become a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::names::is_reserved;

/// Longest name in bytes: with what is added for a download in progress it stays under the 255
/// bytes that file systems take.
const MAX_ASSET_NAME: usize = 200;

/// Name of an asset: one segment of a path that every file system takes, harmless in a URL, a
/// header and on a terminal. Letters and digits of ASCII, dots, dashes and underscores; no dot or
/// dash at the beginning, no dot at the end, no name of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AssetName(String);

/// A text that is no [`AssetName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of an asset: letters and digits of ASCII, dots, dashes and underscores, and no device's name"
)]
pub struct InvalidAssetName(String);

impl AssetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks a name without taking it.
    ///
    /// # Errors
    /// [`InvalidAssetName`] with its beginning.
    pub fn check(name: &str) -> Result<(), InvalidAssetName> {
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = (1..=MAX_ASSET_NAME).contains(&name.len());
        let edges = !name.starts_with(['.', '-']) && !name.ends_with('.');
        if fits && edges && name.chars().all(harmless) && !is_reserved(name) {
            return Ok(());
        }
        Err(InvalidAssetName(name.chars().take(MAX_ASSET_NAME).collect()))
    }
}

impl FromStr for AssetName {
    type Err = InvalidAssetName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for AssetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for AssetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_harmless_segment() {
        for name in ["bag-0123456789ab.zip", "data-00001-of-00002.jsonl.zst", "manifest.json", "a", "com10.zip"] {
            assert_eq!(name.parse::<AssetName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(MAX_ASSET_NAME + 1);
        let wrong = [
            "",
            ".",
            "..",
            ".bashrc",
            "-rf",
            "a/b",
            "/a",
            "../a",
            "a\\b",
            "C:a",
            "a b",
            "a\0",
            "a\n",
            "a\x1b[2J",
            "é",
            "a.",
            "con",
            "NUL.zip",
            "com1",
            "lpt9.txt",
            "a:b",
            "a%2fb",
            "\u{202e}gpj.exe",
            &long,
        ];
        for name in wrong {
            assert!(name.parse::<AssetName>().is_err(), "{name:?}");
            assert!(serde_json::from_value::<AssetName>(name.into()).is_err(), "{name:?}");
        }
    }
}
