//! The words of Adit as types: documents and their files, docsets, packages and keys.
//!
//! Only values and their rules live here; where they are kept is the business of [`crate::store`].

mod access;
mod allowance;
mod asset_name;
mod clearance;
mod difference;
mod docset;
mod document;
mod expiry;
mod holding;
mod key;
mod origin;
mod package;
mod package_manifest;
mod recipe;
mod scope;
mod usage;

pub use access::{
    ACCESS_RIGHTS, Access, AccessLevel, Entitlement, InvalidAccess, InvalidEntitlement, InvalidTdm, TDM_POLICY,
    TDM_RESERVATION, Tdm,
};
pub use allowance::{Allowance, Limits, OwnLimit};
pub use asset_name::{AssetName, InvalidAssetName};
pub use clearance::{Bits, Clearance, Omission};
pub use difference::Difference;
pub use docset::{Docset, DocsetFingerprint, FormatTotal};
pub use document::{
    Collection, Document, Encoding, FileRecord, Format, InvalidFormat, META, Place, Withdrawn, content_hash,
};
pub use expiry::Expiry;
pub use holding::{Holding, Holdings};
pub use key::{ApiKey, KeyState, Role, secret_hash};
pub use origin::{Origin, Sample, Selection, SetOperation, WorkHash};
pub use package::{Content, Documents, Package, Status};
pub use package_manifest::{
    Asset, InvalidManifest, MANIFEST_NAME, MANIFEST_TYPE, ManifestDocuments, PackageManifest, Payload, RECEIPT_NAME,
};
pub use recipe::{
    About, Compression, InvalidLayout, InvalidRecipe, Layout, MAX_TABLE_SHARD, MIN_SHARD_BYTES, Options, Recipe,
};
pub use scope::{OwnScopes, Scope, join_scopes, parse_scopes};
pub use usage::{Metric, Month, UsageReport, UsageSums};
