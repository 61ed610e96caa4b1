//! Packages to be checked, saved as `adit package` does.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use adit_shared::domain::{Asset, Layout, MANIFEST_TYPE, ManifestDocuments, PackageManifest, Payload, Recipe};
use adit_shared::signing::{PublicKeys, SigningKey};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::{Fault, Report, examine};
use crate::cli::VerifyArgs;
use crate::miner::proof::Proof;

/// Paths and contents.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// A package in a folder, with what is trusted.
pub(super) struct Saved {
    pub(super) folder: TempDir,
    pub(super) keys: PathBuf,
    /// What `adit verify` is told of.
    pub(super) target: PathBuf,
}

impl Saved {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn args(&self) -> VerifyArgs {
        VerifyArgs { paths: vec![self.target.clone()], keys: Some(self.keys.clone()), ..VerifyArgs::default() }
    }

    pub(super) fn report(&self) -> Report {
        examine(&self.args()).unwrap()
    }

    /// All files but the keys.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = entries.filter(|path| *path != self.keys).collect();
        files.sort();
        files
    }

    /// The faults when one bit of a file is another.
    pub(super) fn flipped(&self, file: &Path, bit: usize) -> Vec<Fault> {
        let whole = fs::read(file).unwrap();
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(file, changed).unwrap();
        let report = self.report();
        fs::write(file, whole).unwrap();
        report.faults
    }
}

pub(super) fn zipped(files: &Files, method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        zip.start_file(path.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(super) fn tarred(files: &Files) -> Vec<u8> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3).unwrap());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

pub(super) fn payload() -> Files {
    let files = [
        ("a.json", "{}"),
        ("a.txt", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("b.txt", ""),
        ("é.txt", "Gold und Silber\n"),
    ];
    files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec()
}

pub(super) fn describe(layout: Layout, sharded: bool) -> PackageManifest {
    let docset = Sha256::of(b"docset");
    let mut recipe = Recipe::new(vec!["meta".parse().unwrap(), "txt".parse().unwrap()], layout);
    recipe.options.shard_bytes = sharded.then_some(1 << 20);
    let bytes = payload().iter().map(|(_, content)| content.len() as u64).sum();
    PackageManifest {
        r#type: MANIFEST_TYPE.to_owned(),
        package: recipe.fingerprint(&docset, None, None),
        docset,
        selection: None,
        formats: recipe.formats,
        layout,
        compression: None,
        shard_bytes: recipe.options.shard_bytes,
        dehydrated: false,
        delta_from: None,
        documents: ManifestDocuments { requested: 4, included: 3, omitted: 1, ..ManifestDocuments::default() },
        payload: Payload { files: 4, bytes },
        assets: Vec::new(),
    }
}

/// The files of a bag in its base directory.
pub(super) fn bagged(payload: Files, manifest: &PackageManifest) -> Files {
    let listing = |files: &Files| {
        files.iter().map(|(path, content)| format!("{}  {path}\n", Sha256::of(content))).collect::<String>()
    };
    let payload: Files = payload.into_iter().map(|(name, content)| (format!("data/{name}"), content)).collect();
    let info = format!(
        "External-Identifier: {}\nInternal-Sender-Identifier:\n {}\nPayload-Oxum: {}.{}\n",
        manifest.docset, manifest.package, manifest.payload.bytes, manifest.payload.files
    );
    let mut tags: Files = [
        ("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n".to_owned()),
        ("manifest-sha256.txt", listing(&payload)),
        ("bag-info.txt", info),
        ("omitted.jsonl", "{\"id\":7,\"ref\":\"c\"}\n".to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .to_vec();
    tags.push(("tagmanifest-sha256.txt".to_owned(), listing(&tags).into_bytes()));
    payload.into_iter().chain(tags).map(|(path, content)| (format!("bag-1/{path}"), content)).collect()
}

pub(super) fn asset(name: &str, bytes: &[u8], documents: Option<u64>) -> Asset {
    Asset {
        name: name.to_owned(),
        media_type: "application/zip".to_owned(),
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        documents,
    }
}

/// Saves a package as `adit package` does: one archive with its proof beside it, or all of it in a folder.
pub(super) fn save(mut manifest: PackageManifest, assets: &[(&str, Vec<u8>, Option<u64>)]) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let target = if assets.len() == 1 { folder.path().join(assets[0].0) } else { folder.path().to_owned() };
    let proof = if assets.len() == 1 { Proof::beside(&target) } else { Proof::inside(&target) };
    for (name, bytes, documents) in assets {
        fs::write(folder.path().join(name), bytes).unwrap();
        manifest.assets.push(asset(name, bytes, *documents));
    }
    let (key, bytes) = (SigningKey::generate().unwrap(), manifest.to_bytes().unwrap());
    fs::write(&proof.receipt, key.sign_detached(&bytes)).unwrap();
    fs::write(&proof.manifest, bytes).unwrap();
    let keys = folder.path().join("keys.json");
    fs::write(&keys, PublicKeys::from_iter([key.public()]).to_string()).unwrap();
    Saved { folder, keys, target }
}

pub(super) fn flat(method: CompressionMethod) -> Saved {
    save(describe(Layout::Flat, false), &[("flat-1.zip", zipped(&payload(), method), None)])
}

pub(super) fn bag() -> Saved {
    let manifest = describe(Layout::Bag, false);
    let archive = zipped(&bagged(payload(), &manifest), CompressionMethod::Deflated);
    save(manifest, &[("bag-1.zip", archive, None)])
}

pub(super) fn tar_zst() -> Saved {
    let manifest = describe(Layout::TarZst, false);
    let archive = tarred(&bagged(payload(), &manifest));
    save(manifest, &[("bag-1.tar.zst", archive, None)])
}

pub(super) fn sharded() -> Saved {
    let manifest = describe(Layout::Bag, true);
    let mut first = bagged(payload(), &manifest);
    let last = first.split_off(2);
    let [first, last] = [&first, &last].map(|files| zipped(files, CompressionMethod::Stored));
    save(manifest, &[("bag-1-00001-of-00002.zip", first, Some(1)), ("bag-1-00002-of-00002.zip", last, Some(2))])
}

/// A table of two shards beside the bag that lists them.
pub(super) fn tables() -> Saved {
    let manifest = describe(Layout::Jsonl, false);
    let shards: Files = [("data-00001-of-00002.jsonl", "{}\n"), ("data-00002-of-00002.jsonl", "[]\n")]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .to_vec();
    let in_bag = PackageManifest { payload: Payload { files: 2, bytes: 6 }, ..manifest.clone() };
    let mut files = bagged(shards.clone(), &in_bag);
    files.retain(|(path, _)| !path.starts_with("bag-1/data/"));
    let fetch: String = shards.iter().map(|(name, _)| format!("http://x/{name} 3 data/{name}\n")).collect();
    files.push(("bag-1/fetch.txt".to_owned(), fetch.into_bytes()));
    let archive = zipped(&files, CompressionMethod::Stored);
    let [first, second] = [0, 1].map(|i| shards[i].1.clone());
    save(manifest, &[("bag-1.zip", archive, None), (&shards[0].0, first, Some(2)), (&shards[1].0, second, Some(1))])
}
