//! The object store: packs, index segments and archives, behind one trait with two implementations
//! (a folder and S3) that pass one contract suite. [`open()`] makes either out of a URL.

mod checks;
mod disposition;
mod folder;
mod open;
mod recorder;
mod s3;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::digest::Sha256;
use crate::ids::{CollectionId, ImportId, IndexId, PackageId, SaltedPackage};

pub use self::disposition::content_disposition;
pub use self::open::{OpenError, open};
pub use self::recorder::{Call, Count, Counts, Recorder};

/// Every kind of object that Adit keeps, and its key. No key is made anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKey<'a> {
    /// Members of one format, appended to one object.
    Pack {
        /// Its collection.
        collection: CollectionId,
        /// The import that wrote it.
        import: ImportId,
        /// The files' format.
        format: &'a str,
        /// Counts this import's packs of that format.
        number: u32,
    },
    /// One immutable file of a search index.
    IndexFile {
        /// Its collection.
        collection: CollectionId,
        /// The file's name, unique in the collection.
        name: &'a str,
    },
    /// The list of files that make up the index of one corpus version.
    IndexManifest(IndexId),
    /// A package's archive.
    Archive {
        /// The package.
        package: SaltedPackage,
        /// Its fingerprint.
        fingerprint: &'a Sha256,
        /// Extension of its name: see [`crate::domain::Layout::extension`].
        extension: &'a str,
    },
    /// What a package consists of beside its archive: shards, manifest, receipt.
    Asset {
        /// The package.
        package: SaltedPackage,
        /// Its fingerprint.
        fingerprint: &'a Sha256,
        /// The asset's name.
        name: &'a str,
    },
    /// What a packager must remember to go on with an interrupted build, and the result of a finished one.
    Build {
        /// The package.
        package: SaltedPackage,
    },
    /// Names the database that the store belongs to.
    Mark,
}

/// What an object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOwner {
    /// A package.
    Package(PackageId),
    /// A collection: its pack, or a part of its index.
    Collection(CollectionId),
}

impl ObjectKey<'_> {
    /// The folders of all objects that belong to something: of packages, packs and indexes.
    pub const FOLDERS: [&'static str; 3] = ["packages/", "packs/", "indexes/"];

    /// Reads in a key what its object belongs to; `None` of what no other kind of key says.
    #[must_use]
    pub fn owner_of(key: &str) -> Option<KeyOwner> {
        let (folder, rest) = key.split_once('/')?;
        let (owner, _) = rest.split_once('/')?;
        // Whatever stands behind the number makes the key its owner's alone.
        let end = owner.char_indices().skip(1).find(|(_, c)| !c.is_ascii_digit()).map_or(owner.len(), |(at, _)| at);
        let number = owner[..end].parse().ok()?;
        match folder {
            "packages" => Some(KeyOwner::Package(PackageId(number))),
            "packs" | "indexes" => Some(KeyOwner::Collection(CollectionId(number))),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pack { collection, import, format, number } => {
                write!(f, "packs/{collection}/{import}-{format}-{number:05}")
            }
            Self::IndexFile { collection, name } => write!(f, "indexes/{collection}/files/{name}"),
            Self::IndexManifest(IndexId { collection, corpus_version, import: Some(import) }) => {
                write!(f, "indexes/{collection}/v{corpus_version:010}-{import}.json")
            }
            Self::IndexManifest(IndexId { collection, corpus_version, import: None }) => {
                write!(f, "indexes/{collection}/v{corpus_version:010}.json")
            }
            Self::Archive { package, fingerprint, extension } => {
                write!(f, "packages/{package}/{}.{extension}", &fingerprint.to_string()[..16])
            }
            Self::Asset { package, fingerprint, name } => {
                write!(f, "packages/{package}/{}/{name}", &fingerprint.to_string()[..16])
            }
            Self::Build { package } => write!(f, "packages/{package}/build.json"),
            Self::Mark => f.write_str("database"),
        }
    }
}

/// Why the object store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// No such object, or no such upload.
    #[error("no object {0:?} in the store")]
    NotFound(String),
    /// A range that ends behind the object.
    #[error("object {key:?} is shorter than the wanted range {range:?}")]
    OutOfRange {
        /// The object.
        key: String,
        /// The range.
        range: Range<u64>,
    },
    /// A key that no [`ObjectKey`] makes: empty, absolute, too long, with control characters, or with a segment that is empty
    /// or begins with a dot (`.`, `..`, and the names that a store keeps for itself).
    #[error("unsafe object key {0:?}")]
    UnsafeKey(String),
    /// The store will not do this, and trying again will not help: no permission, or parts that make no object.
    #[error("the object store refused: {0}")]
    Refused(String),
    /// The store is away or out of order; trying again may help.
    #[error("the object store failed: {0}")]
    Unavailable(String),
}

/// A result of the object store.
pub type ObjectResult<T> = Result<T, ObjectError>;

/// An upload in parts that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Key of the object to be.
    pub key: String,
    /// The store's id of the upload.
    pub id: String,
    /// Length in bytes of every part but the last.
    pub part_size: u64,
}

/// A part that the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Counts from 1; at most 10,000.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// The store's tag of the part's content.
    pub etag: String,
}

/// Keeps objects: immutable byte strings under keys.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Stores an object whole; it appears at once or not at all. An object of that key is replaced.
    async fn put(&self, key: &str, bytes: Bytes) -> ObjectResult<()>;

    /// Reads a range of an object (all of it for `None`) into memory. The answer has exactly the wanted length, or is an error.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<Bytes>;

    /// Reads a range of an object (all of it for `None`) as a stream of chunks. A short read ends in an error.
    async fn read(&self, key: &str, range: Option<Range<u64>>)
    -> ObjectResult<BoxStream<'static, ObjectResult<Bytes>>>;

    /// The object's length in bytes, or `None` where there is none.
    async fn size(&self, key: &str) -> ObjectResult<Option<u64>>;

    /// Tells whether the store answers, and, where that costs nothing, whether it takes what it is
    /// given. A bucket is only asked: each write there is paid for, and one with versions would
    /// keep all of them.
    async fn check_writes(&self) -> ObjectResult<()> {
        self.size("readyz").await.map(drop)
    }

    /// Removes what killed processes left half written, where the store does not do so by itself, or only counts it
    /// (`dry_run`); gives the number of files and their bytes.
    async fn sweep_temporary(&self, _dry_run: bool) -> ObjectResult<(u64, u64)> {
        Ok((0, 0))
    }

    /// Deletes objects; those that are not there are no error.
    async fn delete(&self, keys: &[String]) -> ObjectResult<()>;

    /// Keys that begin with `prefix` (a whole path segment ending in `/`, or empty), sorted, with lengths. Unfinished uploads do not show.
    async fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>>;

    /// Begins an upload in parts of `part_size` bytes (5 MiB at least but for the last).
    async fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload>;

    /// Finds the newest unfinished upload of `key`, made by any process, to go on with it. One of another part size is either not
    /// found or, where the store keeps no part sizes (S3), shows by the lengths of its parts.
    async fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>>;

    /// Lists the unfinished uploads of all keys that begin with `prefix` (as in [`ObjectStore::list`]),
    /// made by any process, to give them up. Where the store keeps no part sizes (S3), theirs are 0.
    async fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>>;

    /// Stores one part; a part of that number is replaced. May be called for several parts at once.
    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part>;

    /// The parts that the store holds, in order of number.
    async fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>>;

    /// Makes the object out of the parts, which must be 1..=n without a gap. If another process has finished the same upload
    /// in the meantime, that is [`ObjectError::NotFound`] and the object is there.
    async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()>;

    /// Gives an upload up and frees its parts; one that is not there is no error.
    async fn abort_upload(&self, upload: &Upload) -> ObjectResult<()>;

    /// A URL from which anybody can fetch the object for `seconds`, saved under `file_name` (Content-Disposition); `None` where the
    /// store has no URLs of its own and the API must serve the bytes.
    async fn presign(&self, key: &str, file_name: &str, seconds: u64) -> ObjectResult<Option<String>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Salt;

    #[test]
    fn keys_are_stable() {
        let fingerprint = Sha256::of(b"abc");
        let (collection, import) = (CollectionId(1), ImportId(0xa1b2));
        let index = IndexId { collection, corpus_version: 7, import: Some(import) };
        let package = SaltedPackage { id: PackageId(5), salt: Some(Salt(0xc0_ffee)) };
        let unsalted = SaltedPackage::from(PackageId(5));
        let keys = [
            ObjectKey::Pack { collection, import, format: "txt", number: 3 }.to_string(),
            ObjectKey::IndexFile { collection, name: "x.term" }.to_string(),
            ObjectKey::IndexManifest(index).to_string(),
            ObjectKey::IndexManifest(IndexId { import: None, ..index }).to_string(),
            ObjectKey::Archive { package: unsalted, fingerprint: &fingerprint, extension: "zip" }.to_string(),
            ObjectKey::Asset { package: unsalted, fingerprint: &fingerprint, name: "manifest.json" }.to_string(),
            ObjectKey::Build { package: unsalted }.to_string(),
            ObjectKey::Archive { package, fingerprint: &fingerprint, extension: "zip" }.to_string(),
            ObjectKey::Asset { package, fingerprint: &fingerprint, name: "manifest.json" }.to_string(),
            ObjectKey::Build { package }.to_string(),
        ];
        insta::assert_json_snapshot!(keys);
        let owners = keys.iter().map(|key| ObjectKey::owner_of(key).unwrap());
        let (collection, package) = (KeyOwner::Collection(collection), KeyOwner::Package(PackageId(5)));
        assert!(owners.eq([collection; 4].into_iter().chain([package; 3])));
        for foreign in [ObjectKey::Mark.to_string().as_str(), "packages/5", "packages/x/y", "backups/1/x", "packs//x"] {
            assert_eq!(ObjectKey::owner_of(foreign), None, "{foreign}");
        }
        assert_eq!(ObjectKey::owner_of("packages/-7/build.json"), Some(KeyOwner::Package(PackageId(-7))));
    }
}
