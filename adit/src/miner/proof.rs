//! Where a package's manifest and receipt are saved, for `adit package`, and found again, for `adit verify`.

use std::path::{Path, PathBuf};

use adit_shared::domain::{MANIFEST_NAME, RECEIPT_NAME};

/// The two files that prove a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// `manifest.json`.
    pub(crate) manifest: PathBuf,
    /// `receipt.jws`.
    pub(crate) receipt: PathBuf,
}

impl Proof {
    /// Of a package that is one archive, saved under any name: `NAME.manifest.json` and `NAME.receipt.jws` beside it.
    pub(crate) fn beside(archive: &Path) -> Self {
        let beside = |name: &str| {
            let mut path = archive.as_os_str().to_owned();
            path.push(".");
            path.push(name);
            PathBuf::from(path)
        };
        Self { manifest: beside(MANIFEST_NAME), receipt: beside(RECEIPT_NAME) }
    }

    /// Of a package of several assets, which are saved under their own names in one folder: in that folder.
    pub(crate) fn inside(folder: &Path) -> Self {
        Self { manifest: folder.join(MANIFEST_NAME), receipt: folder.join(RECEIPT_NAME) }
    }

    /// Of the package whose manifest is in this file: the receipt is beside it, under the same name but for its end.
    pub(crate) fn of_manifest(manifest: &Path) -> Self {
        let name = manifest.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let receipt = match name.strip_suffix(MANIFEST_NAME) {
            Some(stem) => format!("{stem}{RECEIPT_NAME}"),
            None => RECEIPT_NAME.to_owned(),
        };
        Self { manifest: manifest.to_owned(), receipt: manifest.with_file_name(receipt) }
    }

    /// Of what a person names: the one beside an archive, or else the one of the folder that it is in, or that it is. Whether any of that is there
    /// is another matter.
    pub(crate) fn candidates(path: &Path) -> [Self; 2] {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        [Self::beside(path), Self::inside(folder)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receipt_is_beside_the_manifest() {
        for proof in
            [Proof::beside(Path::new("a/b.zip")), Proof::inside(Path::new("a/b")), Proof::inside(Path::new(""))]
        {
            assert_eq!(Proof::of_manifest(&proof.manifest), proof);
        }
        let named = Proof::of_manifest(Path::new("a/other.json"));
        assert_eq!(named.receipt, Path::new("a/receipt.jws"));
        assert_eq!(Proof::beside(Path::new("a/b.zip")).manifest, Path::new("a/b.zip.manifest.json"));
    }
}
