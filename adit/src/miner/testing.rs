//! Bags to be tested with: their files by path, as folders and as archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use adit_shared::digest::Sha256;

use super::bag::{MANIFEST, TAG_MANIFEST};

/// The files of a folder by their paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

fn manifest<'a>(files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) -> Vec<u8> {
    files.map(|(path, content)| format!("{}  {path}\n", Sha256::of(content))).collect::<String>().into_bytes()
}

/// The files of a bag with this payload (paths below `data/`) and these tag files beside the ones that every bag has.
pub(crate) fn bag(payload: &[(&str, &str)], tags: &[(&str, &str)]) -> Files {
    let payload = payload.iter().map(|(path, text)| (format!("data/{path}"), text.as_bytes().to_vec()));
    let payload: Files = payload.collect();
    let declaration = ("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n");
    let tags = tags.iter().chain([&declaration]).map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    let mut tags: Files = tags.collect();
    tags.insert(MANIFEST.to_owned(), manifest(payload.iter()));
    tags.insert(TAG_MANIFEST.to_owned(), manifest(tags.iter()));
    payload.into_iter().chain(tags).collect()
}

/// Writes files into a folder.
pub(crate) fn write(folder: &Path, files: &Files) {
    for (path, content) in files {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
}

/// All files of a folder.
pub(crate) fn read(folder: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Writes files as a ZIP archive, below `base`.
pub(crate) fn zip(archive: &Path, base: &str, files: &Files) {
    let mut zip = zip::ZipWriter::new(fs::File::create(archive).unwrap());
    for (path, content) in files {
        zip.start_file(format!("{base}{path}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}
