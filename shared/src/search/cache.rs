//! The files of indexes on local disk, fetched from the object store when they are first needed.
//!
//! Below the cache's root, for each collection: `files/` with what was fetched, by object name, and private folders
//! ([`Scratch`]) in which an index's files stand under the names that Tantivy wants, as hard links. Nothing here is precious: every file is
//! checked against its manifest when a process first uses it, and fetched again if it is missing, cut or damaged.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::manifest::{self, Manifest, StoredFile};
use super::scratch::Scratch;
use super::{SearchError, SearchResult, blocking};
use crate::ids::CollectionId;
use crate::objects::{ObjectKey, ObjectStore};

/// Files fetched at once.
const FETCHES: usize = 4;

/// The local files of all indexes.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) objects: Arc<dyn ObjectStore>,
    root: PathBuf,
    /// Objects whose files this process has checked byte by byte.
    checked: Mutex<HashSet<String>>,
}

impl Cache {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, root: PathBuf) -> Self {
        Self { objects, root, checked: Mutex::default() }
    }

    fn folder(&self, collection: CollectionId) -> PathBuf {
        self.root.join(collection.to_string())
    }

    fn cached(&self, collection: CollectionId, object: &str) -> PathBuf {
        self.folder(collection).join("files").join(object)
    }

    /// A private folder, with an empty folder for an index in it (see [`index_folder`]).
    pub(super) async fn scratch(&self, collection: CollectionId) -> SearchResult<Scratch> {
        let folder = self.folder(collection);
        blocking(move || {
            let make = || {
                fs::create_dir_all(folder.join("files"))?;
                let scratch = Scratch::create(&folder)?;
                fs::create_dir(index_folder(&scratch))?;
                Ok(scratch)
            };
            make().map_err(|error| disk(&folder, &error))
        })
        .await
    }

    /// A private folder with the index of a manifest, ready to be opened.
    pub(super) async fn checkout(&self, collection: CollectionId, manifest: &Manifest) -> SearchResult<Scratch> {
        let scratch = self.scratch(collection).await?;
        let index = index_folder(&scratch);
        let provide = |(name, file)| self.provide(collection, file, &scratch, index.join::<&String>(name));
        let files: Vec<_> = manifest.files.iter().map(provide).collect();
        futures::stream::iter(files).buffer_unordered(FETCHES).try_collect::<()>().await?;
        let meta = index.join("meta.json");
        tokio::fs::write(&meta, manifest.meta.to_string()).await.map_err(|error| disk(&meta, &error))?;
        Ok(scratch)
    }

    /// Makes `target` the wanted file.
    async fn provide(
        &self,
        collection: CollectionId,
        file: &StoredFile,
        scratch: &Scratch,
        target: PathBuf,
    ) -> SearchResult<()> {
        let cached = self.cached(collection, &file.object);
        let (from, to, wanted, known) = (cached.clone(), target.clone(), file.clone(), self.is_checked(file));
        // First the link, then the check of the link: so nobody can replace the file in between.
        let serves = blocking(move || link(&from, &to, &wanted, known).map_err(|error| disk(&to, &error))).await?;
        if !serves {
            self.lock().remove(&file.object);
            let part = self.fetch(collection, file, scratch).await?;
            // In this order: another process may drop the file from a shared cache as soon as it is there.
            blocking(move || {
                link_or_copy(&part, &target).map_err(|error| disk(&target, &error))?;
                fs::rename(&part, &cached).map_err(|error| disk(&cached, &error))
            })
            .await?;
        }
        self.lock().insert(file.object.clone());
        Ok(())
    }

    /// Streams an object into a file of the private folder, whole and checked.
    async fn fetch(&self, collection: CollectionId, file: &StoredFile, scratch: &Scratch) -> SearchResult<PathBuf> {
        let key = ObjectKey::IndexFile { collection, name: &file.object }.to_string();
        let part = scratch.path().join(&file.object);
        let mut chunks = self.objects.read(&key, None).await?;
        let mut output = tokio::fs::File::create(&part).await.map_err(|error| disk(&part, &error))?;
        let (mut size, mut crc32) = (0, crc32fast::Hasher::new());
        while let Some(chunk) = chunks.try_next().await? {
            size += chunk.len() as u64;
            crc32.update(&chunk);
            output.write_all(&chunk).await.map_err(|error| disk(&part, &error))?;
        }
        output.flush().await.map_err(|error| disk(&part, &error))?;
        if (size, crc32.finalize()) != (file.size, file.crc32) {
            return Err(manifest::damaged(key));
        }
        Ok(part)
    }

    /// Takes a file that was made here into the cache; without it, it would be fetched when it is needed.
    pub(super) fn adopt(&self, collection: CollectionId, object: &str, path: &Path) {
        if fs::hard_link(path, self.cached(collection, object)).is_ok() {
            self.lock().insert(object.to_owned());
        }
    }

    /// Drops the files that none of the `kept` manifests names, but for those of builds on `newest` or above: they belong to versions that
    /// another process may have seen before this one. Open indexes keep their own links.
    pub(super) async fn evict(
        &self,
        collection: CollectionId,
        kept: Vec<Arc<Manifest>>,
        newest: i64,
    ) -> SearchResult<()> {
        let files = self.folder(collection).join("files");
        let gone = blocking(move || {
            let needed: HashSet<&str> =
                kept.iter().flat_map(|manifest| manifest.files.values()).map(|file| file.object.as_str()).collect();
            evict(&files, |object| {
                needed.contains(object) || manifest::base_version(object).is_some_and(|base| base >= newest)
            })
            .map_err(|error| disk(&files, &error))
        })
        .await?;
        let mut checked = self.lock();
        gone.iter().for_each(|object| {
            checked.remove(object);
        });
        Ok(())
    }

    fn is_checked(&self, file: &StoredFile) -> bool {
        self.lock().contains(&file.object)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the index stands in a private folder; beside it, files are written until they are whole.
pub(super) fn index_folder(scratch: &Scratch) -> PathBuf {
    scratch.path().join("index")
}

/// A local file operation that failed.
pub(super) fn disk(path: &Path, error: &io::Error) -> SearchError {
    SearchError::Cache(format!("{}: {error}", path.display()))
}

/// Links the cached file to its place; false if it is missing or not what the manifest says.
fn link(cached: &Path, target: &Path, file: &StoredFile, checked: bool) -> io::Result<bool> {
    match link_or_copy(cached, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        linked => linked?,
    }
    let serves = fs::metadata(target)?.len() == file.size && (checked || crc32(target)? == file.crc32);
    if !serves {
        fs::remove_file(target)?;
    }
    Ok(serves)
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        // Some file systems have no hard links.
        Err(_) => fs::copy(from, to).map(drop),
        Ok(()) => Ok(()),
    }
}

fn crc32(path: &Path) -> io::Result<u32> {
    let mut file = fs::File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn evict(files: &Path, keep: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    let entries = match fs::read_dir(files) {
        // Nothing was ever searched here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(gone),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if keep(&name) {
            continue;
        }
        match fs::remove_file(files.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => gone.push(name),
        }
    }
    Ok(gone)
}
