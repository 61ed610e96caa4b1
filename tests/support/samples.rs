//! Collection folders to import, and what comes out of archives.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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
