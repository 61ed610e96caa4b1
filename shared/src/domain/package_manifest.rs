//! `manifest.json`: what a package consists of, as its receipt signs it and as `adit verify` reads it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AssetName, Compression, Format, Layout};
use crate::digest::Sha256;
use crate::names::fold;

/// Names this form of manifest; one with other members has another.
pub const MANIFEST_TYPE: &str = "urn:adit:manifest:1";
/// Name of the manifest among a package's assets.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Name of the receipt among a package's assets.
pub const RECEIPT_NAME: &str = "receipt.jws";

/// A package: what was asked for, what it holds, and the SHA-256 of each of its assets. Equal packages have equal manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageManifest {
    /// [`MANIFEST_TYPE`].
    pub r#type: String,
    /// The package's fingerprint.
    pub package: Sha256,
    /// The docset's fingerprint.
    pub docset: Sha256,
    /// SHA-256 over that and what of the docset is not plainly in the package for reasons of rights, where there is such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Sha256>,
    /// Sorted, without duplicates.
    pub formats: Vec<Format>,
    /// How it is laid out.
    pub layout: Layout,
    /// How tabular shards are compressed, where there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The size in bytes that a shard was to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_bytes: Option<u64>,
    /// Whether the payload is to be fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dehydrated: bool,
    /// Fingerprint of the docset that a delta starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_from: Option<Sha256>,
    /// Counts of documents.
    pub documents: ManifestDocuments,
    /// What the package holds beside its tag files.
    pub payload: Payload,
    /// All assets but the manifest and the receipt.
    pub assets: Vec<Asset>,
}

/// Counts of documents: `requested` is always the sum of `included` and `omitted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestDocuments {
    /// Members of the docset.
    pub requested: u64,
    /// Members with at least one file.
    pub included: u64,
    /// Members without a file.
    pub omitted: u64,
    /// Of the omitted, those whose files the key was not entitled to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rights: u64,
    /// Of the omitted, those that were withdrawn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withdrawn: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The documents' files, whichever asset or place they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Their number.
    pub files: u64,
    /// Their length in bytes, as they are once they are unpacked.
    pub bytes: u64,
}

/// One object that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Its file name, one segment of a path.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// How many documents it holds, of a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// No JSON, or not of this form.
    #[error("is no {MANIFEST_TYPE}: {0}")]
    Json(#[from] serde_json::Error),
    /// A manifest of another kind.
    #[error("is of type {0:?}, and this version of adit reads {MANIFEST_TYPE:?}")]
    Type(String),
    /// The same could be said in other bytes.
    #[error("is not written as a packager writes it; it differs at byte {0}")]
    NotCanonical(usize),
    /// It contradicts itself.
    #[error("contradicts itself: {0}")]
    Contradiction(String),
}

impl PackageManifest {
    /// The bytes of `manifest.json`: the same for equal manifests.
    ///
    /// # Errors
    /// None that these types give rise to.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what [`PackageManifest::to_bytes`] has written, and nothing else: no other spelling of the same passes, so that a change of any
    /// bit is one of a value.
    ///
    /// # Errors
    /// When it is something else, or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        #[derive(Deserialize)]
        struct Typed {
            r#type: String,
        }
        // The type comes first: of another one, it is not the members that are wrong.
        let Typed { r#type } = serde_json::from_slice(bytes)?;
        if r#type != MANIFEST_TYPE {
            return Err(InvalidManifest::Type(r#type));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        let written = manifest.to_bytes()?;
        if written != bytes {
            let same = written.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            return Err(InvalidManifest::NotCanonical(same));
        }
        manifest.check().map_err(InvalidManifest::Contradiction)?;
        Ok(manifest)
    }

    /// What must hold for every package, whoever has written its manifest.
    fn check(&self) -> Result<(), String> {
        let ManifestDocuments { requested, included, omitted, rights, withdrawn } = self.documents;
        if rights.checked_add(withdrawn).is_none_or(|withheld| withheld > omitted) {
            return Err(format!(
                "{omitted} documents are omitted, but {rights} of them for want of rights and {withdrawn} as withdrawn"
            ));
        }
        if included.checked_add(omitted) != Some(requested) {
            return Err(format!(
                "{requested} documents were requested, but {included} are included and {omitted} omitted"
            ));
        }
        if !self.formats.is_sorted_by(|a, b| a < b) {
            return Err("its formats are not sorted, or stand there twice".to_owned());
        }
        if self.assets.is_empty() {
            return Err("it names no assets".to_owned());
        }
        let mut names = BTreeSet::from([fold(MANIFEST_NAME), fold(RECEIPT_NAME)]);
        for asset in &self.assets {
            AssetName::check(&asset.name).map_err(|error| error.to_string())?;
            if !names.insert(fold(&asset.name)) {
                return Err(format!("two of its assets would be named {:?}", asset.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> PackageManifest {
        let asset = |name: &str, documents| Asset {
            name: name.to_owned(),
            media_type: "application/zip".to_owned(),
            size: 4711,
            sha256: Sha256::of(name.as_bytes()),
            documents,
        };
        PackageManifest {
            r#type: MANIFEST_TYPE.to_owned(),
            package: Sha256::of(b"package"),
            docset: Sha256::of(b"docset"),
            selection: None,
            formats: ["meta", "txt"].map(|format| format.parse().unwrap()).to_vec(),
            layout: Layout::Bag,
            compression: None,
            shard_bytes: Some(5000),
            dehydrated: false,
            delta_from: None,
            documents: ManifestDocuments { requested: 75, included: 74, omitted: 1, ..ManifestDocuments::default() },
            payload: Payload { files: 148, bytes: 9000 },
            assets: vec![asset("bag-00001-of-00002.zip", Some(40)), asset("bag-00002-of-00002.zip", Some(34))],
        }
    }

    #[test]
    fn a_manifest_has_this_shape() {
        let bytes = manifest().to_bytes().unwrap();
        assert_eq!(PackageManifest::parse(&bytes).unwrap(), manifest());
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
    }

    #[test]
    fn every_option_survives() {
        let mut all = manifest();
        (all.compression, all.dehydrated, all.delta_from) = (Some(Compression::Zstd), true, Some(Sha256::of(b"base")));
        assert_eq!(PackageManifest::parse(&all.to_bytes().unwrap()).unwrap(), all);
    }

    /// What is said of a manifest that was changed.
    fn refused(change: impl FnOnce(&mut PackageManifest)) -> String {
        let mut changed = manifest();
        change(&mut changed);
        PackageManifest::parse(&changed.to_bytes().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(refused(|m| m.r#type = "urn:adit:manifest:2".into()).contains("reads \"urn:adit:manifest:1\""));
        assert!(refused(|m| m.documents.omitted = 2).contains("75 documents were requested"));
        assert!(refused(|m| m.documents.omitted = u64::MAX).contains("75 documents were requested"));
        assert!(refused(|m| m.formats.reverse()).contains("not sorted"));
        assert!(refused(|m| m.assets.clear()).contains("no assets"));
        assert!(refused(|m| m.assets[1].name = m.assets[0].name.to_uppercase()).contains("two of its assets"));
        assert!(refused(|m| m.assets[1].name = "Receipt.JWS".into()).contains("two of its assets"));
        for name in ["", ".", "..", "../a", "a/b", "a\\b", "a b", "é", "a\n", ".hidden", "-rf", "c:"] {
            assert!(refused(|m| m.assets[0].name = name.into()).contains("no name of an asset"), "{name}");
        }
    }

    #[test]
    fn another_spelling_of_the_same_is_refused() {
        let text = String::from_utf8(manifest().to_bytes().unwrap()).unwrap();
        let changes = [
            (text.trim_end().to_owned(), text.len() - 1),
            (format!("{text}\n"), text.len()),
            (text.replacen("4711", "4711 ", 1), text.find("4711").unwrap() + 4),
            (text.replacen("\"bag\"", "\"b\\u0061g\"", 1), text.find("\"bag\"").unwrap() + 2),
        ];
        for (changed, at) in changes {
            let error = PackageManifest::parse(changed.as_bytes()).unwrap_err();
            assert!(matches!(error, InvalidManifest::NotCanonical(found) if found == at), "{error}");
        }
        let upper =
            text.replacen(&Sha256::of(b"docset").to_string(), &Sha256::of(b"docset").to_string().to_uppercase(), 1);
        assert!(matches!(PackageManifest::parse(upper.as_bytes()), Err(InvalidManifest::NotCanonical(_))));
        let unknown = text.replacen("\"docset\"", "\"more\": 1,\n  \"docset\"", 1);
        assert!(matches!(PackageManifest::parse(unknown.as_bytes()), Err(InvalidManifest::Json(_))));
        for none in ["", "{}", "null", "<html>"] {
            assert!(matches!(PackageManifest::parse(none.as_bytes()), Err(InvalidManifest::Json(_))));
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_another_manifest_or_none(at: prop::sample::Index) {
            let mut bytes = manifest().to_bytes().unwrap();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(PackageManifest::parse(&bytes).map_or(true, |changed| changed != manifest()));
        }
    }
}
