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

/// Length in bytes of a manifest's line for a path of `path` bytes.
pub(crate) fn manifest_line_len(path: usize) -> u64 {
    64 + 2 + path as u64 + 1
}

/// Writes a manifest's line; with two spaces, so that `sha256sum --check` reads it too.
pub(crate) fn write_manifest_line(out: &mut impl BufMut, sha256: &Sha256, path: &str) {
    out.put_slice(hex::encode(sha256.0).as_bytes());
    out.put_slice(b"  ");
    out.put_slice(path.as_bytes());
    out.put_u8(b'\n');
}

/// The bag's metadata: whose selection it is and how much payload it has.
pub(crate) fn info(docset: &Sha256, package: &Sha256, octets: u64, files: u64) -> String {
    format!(
        "Bag-Software-Agent: Adit\n\
         External-Identifier: {docset}\n\
         Internal-Sender-Identifier: {package}\n\
         Payload-Oxum: {octets}.{files}\n"
    )
}

/// The manifest of tag files.
pub(crate) fn tag_manifest(manifest: &Sha256, info: &str) -> Vec<u8> {
    let mut text = Vec::new();
    write_manifest_line(&mut text, &Sha256::of(info.as_bytes()), INFO);
    write_manifest_line(&mut text, &Sha256::of(DECLARATION_TEXT.as_bytes()), DECLARATION);
    write_manifest_line(&mut text, manifest, MANIFEST);
    text
}
