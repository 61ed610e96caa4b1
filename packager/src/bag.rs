//! The tag files that make an archive a BagIt 1.0 bag (RFC 8493), as text.
//!
//! Nothing in them depends on when or where a bag was made (so no `Bagging-Date`): equal packages have equal bytes.

use adit_shared::digest::Sha256;
use bytes::BufMut;

/// Folder of the payload in the base directory.
pub(crate) const PAYLOAD: &str = "data/";
/// Name of the bag declaration.
pub(crate) const DECLARATION: &str = "bagit.txt";
/// Its content (2.1.1).
pub(crate) const DECLARATION_TEXT: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";
/// Name of the payload manifest (2.1.3).
pub(crate) const MANIFEST: &str = "manifest-sha256.txt";
/// Name of the bag's metadata (2.2.2).
pub(crate) const INFO: &str = "bag-info.txt";
/// Name of the manifest of tag files (2.2.1).
pub(crate) const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";

/// Name of a bag's base directory, under which every entry of its archive stands; the archive should have that name too
/// (RFC 8493, 4). It has the same length for every `package` fingerprint.
#[must_use]
pub fn bag_folder(package: &Sha256) -> String {
    format!("bag-{}", hex::encode(&package.0[..6]))
}

/// Writes a manifest's line; with two spaces, so that `sha256sum --check` reads it too.
pub(crate) fn write_manifest_line(out: &mut impl BufMut, sha256: &Sha256, path: &str) {
    out.put_slice(hex::encode(sha256.0).as_bytes());
    out.put_slice(b"  ");
    out.put_slice(path.as_bytes());
    out.put_u8(b'\n');
}
