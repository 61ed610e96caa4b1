//! Collection folders to import, and what comes out of archives.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use adit_shared::ids::{PackageId, SaltedPackage};
use adit_shared::objects::{ObjectKey, ObjectStore};
use serde_json::{Value, json};

use super::Deployment;

/// A document to be written into a collection folder.
pub(crate) struct Doc<'a> {
    pub(crate) r#ref: &'a str,
    pub(crate) metadata: Value,
    pub(crate) files: Vec<(&'a str, Vec<u8>)>,
}

/// A document with a title and a text.
pub(crate) fn text<'a>(r#ref: &'a str, title: &str, text: &str) -> Doc<'a> {
    Doc { r#ref, metadata: json!({"title": title, "issued": "2020-05-01"}), files: vec![("txt", text.into())] }
}

/// Writes a collection folder `name` below `parent`; every file is named by its document's number.
pub(crate) fn write_collection(parent: &Path, name: &str, documents: &[Doc<'_>]) -> PathBuf {
    let folder = parent.join(format!("{name}-folder"));
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let collection = json!({"slug": name, "name": name, "license": "https://creativecommons.org/licenses/by/4.0/"});
    std::fs::write(folder.join("collection.json"), collection.to_string()).unwrap();
    let mut lines = String::new();
    for (number, document) in documents.iter().enumerate() {
        let mut files = Vec::new();
        for (format, content) in &document.files {
            let path = format!("files/{number}.{format}");
            std::fs::write(folder.join(&path), content).unwrap();
            files.push(json!({"format": format, "path": path}));
        }
        lines += &json!({"ref": document.r#ref, "metadata": document.metadata, "files": files}).to_string();
        lines.push('\n');
    }
    std::fs::write(folder.join("documents.jsonl"), lines).unwrap();
    folder
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*: fast, and more than random enough to be incompressible.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Length in bytes of an upload's parts, as packagers make them.
const PART_SIZE: u64 = 8 << 20;
/// Length in bytes of a document of [`import_noise`].
const NOISE: usize = 2 << 20;

/// Imports a collection `big` of so many documents of 2 MiB that do not compress, so that a build is seen at work.
pub(crate) fn import_noise(deployment: &Deployment, documents: usize) {
    let refs: Vec<String> = (0..documents).map(|n| format!("doc.{n:04}")).collect();
    let document =
        |(n, r)| Doc { r#ref: r, metadata: json!({"title": "noise"}), files: vec![("pdf", noise(n as u64, NOISE))] };
    let documents: Vec<Doc<'_>> = refs.iter().map(String::as_str).enumerate().map(document).collect();
    let folder = write_collection(deployment.folder(), "big", &documents);
    drop(documents);
    deployment.import(&folder);
    std::fs::remove_dir_all(folder).unwrap();
}

/// What the objects and messages of a package, as the server shows it, are named by.
pub(crate) fn salted(package: &Value) -> SaltedPackage {
    let salt = package["salt"].as_str().map(|salt| salt.parse().unwrap());
    SaltedPackage { id: PackageId(package["id"].as_i64().unwrap()), salt }
}

/// Parts that the unfinished upload of a package's archive holds, none if there is no upload (any more).
pub(crate) async fn stored_parts(objects: &dyn ObjectStore, package: &Value) -> usize {
    let fingerprint: Sha256 = package["fingerprint"].as_str().unwrap().parse().unwrap();
    let key = ObjectKey::Archive { package: salted(package), fingerprint: &fingerprint, extension: "zip" };
    let key = key.to_string();
    let Some(upload) = objects.find_upload(&key, PART_SIZE).await.unwrap() else { return 0 };
    // It may have been completed since.
    objects.parts(&upload).await.map_or(0, |parts| parts.len())
}

/// The entries of a ZIP archive by name.
pub(crate) fn unzip(archive: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut entries = std::collections::BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.name().unwrap().into_owned();
        assert!(entries.insert(name.clone(), content).is_none(), "{name} twice");
    }
    entries
}
