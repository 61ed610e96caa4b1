//! The manifest of an index: which files make it up in one corpus version, and where they lie in the object store.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::{IndexDamage, Language, SearchError, SearchResult};
use crate::ids::{CollectionId, ImportId, IndexId};
use crate::objects::{ObjectError, ObjectKey, ObjectStore};

/// Raise it when the fields or the analysis of text change: an index of another layout answers wrongly.
pub(super) const LAYOUT_VERSION: u32 = 3;

/// One version of an index. Files are immutable and shared between versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    layout: u32,
    /// What its texts were analysed by, and queries are.
    #[serde(default)]
    pub(super) language: Option<Language>,
    /// Tantivy's `meta.json`.
    pub(super) meta: serde_json::Value,
    /// By the name that Tantivy knows them by.
    pub(super) files: BTreeMap<String, StoredFile>,
}

/// One file of an index in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    /// Names its object; see [`object_name`].
    pub(super) object: String,
    /// Length in bytes.
    pub(super) size: u64,
    /// CRC-32 (ISO 3309).
    pub(super) crc32: u32,
}

impl Manifest {
    pub(super) fn new(
        language: Option<Language>,
        meta: serde_json::Value,
        files: BTreeMap<String, StoredFile>,
    ) -> Self {
        Self { layout: LAYOUT_VERSION, language, meta, files }
    }

    /// Reads the manifest of an index that is to be searched or built on.
    ///
    /// # Errors
    /// [`SearchError::VersionGone`] where there is none, [`SearchError::Outdated`] where it has another layout.
    pub(super) async fn read(objects: &dyn ObjectStore, index: IndexId) -> SearchResult<Self> {
        let manifest = Self::of_any_layout(objects, index).await?;
        if manifest.layout == LAYOUT_VERSION { Ok(manifest) } else { Err(outdated()) }
    }

    /// Reads the manifest of an index of which only the files are of interest.
    ///
    /// # Errors
    /// [`SearchError::VersionGone`] where there is none.
    pub(super) async fn of_any_layout(objects: &dyn ObjectStore, index: IndexId) -> SearchResult<Self> {
        let key = ObjectKey::IndexManifest(index).to_string();
        let bytes = match objects.get(&key, None).await {
            Err(ObjectError::NotFound(_)) => return Err(SearchError::VersionGone(index.corpus_version)),
            other => other?,
        };
        serde_json::from_slice(&bytes).map_err(|_| damaged(key))
    }

    /// Stores it: from then on the index can be searched.
    pub(super) async fn write(&self, objects: &dyn ObjectStore, index: IndexId) -> SearchResult<()> {
        let key = ObjectKey::IndexManifest(index).to_string();
        let bytes = serde_json::to_vec(self).map_err(|error| SearchError::Index(error.to_string()))?;
        Ok(objects.put(&key, bytes.into()).await?)
    }
}

/// The error of an index of another kind. Indexes know only the collection's number: who knows its name puts it in.
pub(super) fn outdated() -> SearchError {
    SearchError::Outdated("SLUG".to_owned())
}

/// The error of an index with a damaged object; of the collection's name the same holds.
pub(super) fn damaged(object: String) -> SearchError {
    SearchError::Damaged { object, slug: "SLUG".to_owned() }
}

/// Compares what is stored of an index with its manifest: lengths, and with `full` checksums too.
pub(super) async fn find_damage(
    objects: &dyn ObjectStore,
    index: IndexId,
    full: bool,
) -> SearchResult<Vec<IndexDamage>> {
    let manifest = match Manifest::of_any_layout(objects, index).await {
        Err(SearchError::Damaged { object, .. }) => {
            return Ok(vec![IndexDamage { object, reason: "it is no index manifest".to_owned() }]);
        }
        manifest => manifest?,
    };
    let mut damage = Vec::new();
    for file in manifest.files.values() {
        let object = ObjectKey::IndexFile { collection: index.collection, name: &file.object }.to_string();
        let reason = match objects.size(&object).await? {
            None => "it is not there".to_owned(),
            Some(size) if size != file.size => format!("it has {size} bytes and not {}", file.size),
            Some(_) if full && read_crc32(objects, &object).await? != file.crc32 => "its CRC-32 is wrong".to_owned(),
            Some(_) => continue,
        };
        damage.push(IndexDamage { object, reason });
    }
    Ok(damage)
}

async fn read_crc32(objects: &dyn ObjectStore, object: &str) -> SearchResult<u32> {
    let mut crc32 = crc32fast::Hasher::new();
    let mut chunks = objects.read(object, None).await?;
    while let Some(chunk) = chunks.try_next().await? {
        crc32.update(&chunk);
    }
    Ok(crc32.finalize())
}

/// The keys of all manifests of a collection, with their corpus versions.
pub(super) async fn stored(objects: &dyn ObjectStore, collection: CollectionId) -> SearchResult<Vec<(String, i64)>> {
    // Keys of manifests and of files share a parent; files lie one level deeper.
    let any = ObjectKey::IndexManifest(IndexId { collection, corpus_version: 0, import: None }).to_string();
    let folder = folder_of(&any);
    let version = |key: &str| {
        let name = key.strip_prefix(folder)?.strip_prefix('v')?.strip_suffix(".json")?;
        name.split('-').next()?.parse().ok()
    };
    let keys = objects.list(folder).await?;
    Ok(keys.into_iter().filter_map(|(key, _)| version(&key).map(|version| (key, version))).collect())
}

/// The names of all file objects of a collection's indexes.
pub(super) async fn object_names(objects: &dyn ObjectStore, collection: CollectionId) -> SearchResult<Vec<String>> {
    let any = ObjectKey::IndexFile { collection, name: "x" }.to_string();
    let folder = folder_of(&any);
    let keys = objects.list(folder).await?;
    Ok(keys.into_iter().filter_map(|(key, _)| key.strip_prefix(folder).map(str::to_owned)).collect())
}

/// The keys of a collection's file objects with these names.
pub(super) fn file_keys<'a>(collection: CollectionId, names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    names.into_iter().map(|name| ObjectKey::IndexFile { collection, name }.to_string()).collect()
}

fn folder_of(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

/// The object of a file that an import makes on top of `base_version`. The import is part of it: Tantivy's names for lists of
/// deleted documents are unique only within one build, and two can start from one version when an import dies or is overtaken.
pub(super) fn object_name(base_version: i64, import: ImportId, file: &str) -> String {
    format!("{base_version:010}-{import}-{file}")
}

/// The version that the import of an object stood on.
pub(super) fn base_version(object: &str) -> Option<i64> {
    object.split('-').next()?.parse().ok()
}
