//! Good copies of damaged files: in a folder, elsewhere in the object store, or made out of the database.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use adit_shared::digest::Sha256;
use adit_shared::domain::{FileRecord, META};
use adit_shared::integrity::{FileCheck, prove_file};
use adit_shared::store::NewCollection;
use anyhow::Context as _;
use futures::TryStreamExt as _;

use super::findings::DamagedFile;
use crate::import::{self, Content, Payload};
use crate::services::Services;

/// Bytes of a copy that are read at once.
const CHUNK: usize = 256 * 1024;

/// Where copies may be.
pub(super) struct Sources {
    folder: Option<PathBuf>,
    /// Files of the folder that have the length of a damaged one, by length.
    by_size: HashMap<u64, Vec<PathBuf>>,
    /// SHA-256 of files of the folder, as far as they were read.
    hashes: Mutex<HashMap<PathBuf, Sha256>>,
    /// Where the last file of each pack ends.
    ends: HashMap<String, u64>,
    /// Stored files with the content of a damaged one, by SHA-256.
    twins: HashMap<Sha256, Vec<FileRecord>>,
}

impl Sources {
    /// Looks for what may hold the content of the damaged files.
    pub(super) async fn find(
        services: &Services,
        folder: Option<&Path>,
        damaged: &[DamagedFile],
    ) -> anyhow::Result<Self> {
        let sizes: HashSet<u64> = damaged.iter().map(|damaged| damaged.file.size).collect();
        let wanted: HashSet<Sha256> = damaged.iter().map(|damaged| damaged.file.sha256).collect();
        let root = folder.map(Path::to_owned);
        let by_size = match root.clone() {
            None => HashMap::new(),
            Some(root) => tokio::task::spawn_blocking(move || files_by_size(&root, &sizes)).await??,
        };
        let (mut ends, mut twins) = (HashMap::new(), HashMap::<Sha256, Vec<FileRecord>>::new());
        for collection in services.store.collections().await? {
            let ids = services.store.stored_versions(collection.id).await?;
            let mut members = services.store.members(&ids, None, None);
            while let Some(member) = members.try_next().await? {
                for file in member.files {
                    let end = file.place.offset + file.place.stored;
                    match ends.get_mut(&file.place.object) {
                        Some(last) => *last = end.max(*last),
                        None => drop(ends.insert(file.place.object.clone(), end)),
                    }
                    if wanted.contains(&file.sha256) {
                        twins.entry(file.sha256).or_default().push(file);
                    }
                }
            }
        }
        Ok(Self { folder: root, by_size, hashes: Mutex::default(), ends, twins })
    }

    /// The length that a pack should have.
    pub(super) fn length_of(&self, object: &str) -> u64 {
        self.ends.get(object).copied().unwrap_or(0)
    }

    /// Gives the stored form of a damaged file, proved, if there is a good copy.
    pub(super) async fn fetch(&self, services: &Services, damaged: &DamagedFile) -> anyhow::Result<Option<File>> {
        let file = &damaged.file;
        for copy in self.copies_of_pack(file) {
            if let Some(found) = proved(file, copy_range(&copy, file)) {
                return Ok(Some(found));
            }
        }
        for twin in self.twins.get(&file.sha256).into_iter().flatten().filter(|twin| twin.place != file.place) {
            let at_twin = FileRecord { place: twin.place.clone(), ..file.clone() };
            if twin.place.stored != file.place.stored {
                continue;
            }
            let mut bytes = tempfile::tempfile()?;
            let mut written = Ok(());
            let write = |chunk: &[u8]| {
                if written.is_ok() {
                    written = std::io::Write::write_all(&mut bytes, chunk);
                }
            };
            let is_good = prove_file(&*services.objects, &at_twin, write).await.is_ok();
            written?;
            if is_good {
                return Ok(Some(bytes));
            }
        }
        for path in self.by_size.get(&file.size).into_iter().flatten() {
            if self.hash(path)? == file.sha256
                && let Some(found) = proved(file, packed(Content::read(File::open(path)?)?, &file.media_type))
            {
                return Ok(Some(found));
            }
        }
        if file.format.as_str() == META {
            let rendered = rendered(services, damaged).await?;
            return Ok(rendered.and_then(|text| proved(file, packed(Content::Memory(text), &file.media_type))));
        }
        Ok(None)
    }

    /// Where the file's object lies if the folder is a copy of the object store, or of a data folder.
    fn copies_of_pack(&self, file: &FileRecord) -> Vec<PathBuf> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let copies = [folder.join(&file.place.object), folder.join("objects").join(&file.place.object)];
        copies.into_iter().filter(|copy| copy.is_file()).collect()
    }

    fn hash(&self, path: &Path) -> anyhow::Result<Sha256> {
        let mut hashes = self.hashes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(hash) = hashes.get(path) {
            return Ok(*hash);
        }
        let unreadable = || format!("{} cannot be read", path.display());
        let mut content = File::open(path).and_then(Content::read).with_context(unreadable)?;
        let hash = import::measure(&mut content).with_context(unreadable)?.sha256;
        hashes.insert(path.to_owned(), hash);
        Ok(hash)
    }
}

/// Walks through a folder; links are not followed.
fn files_by_size(root: &Path, sizes: &HashSet<u64>) -> anyhow::Result<HashMap<u64, Vec<PathBuf>>> {
    let (mut found, mut folders) = (HashMap::<u64, Vec<PathBuf>>::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let unreadable = || format!("{} cannot be read", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let about = entry.metadata().with_context(unreadable)?;
            if about.is_dir() {
                folders.push(entry.path());
            } else if about.is_file() && sizes.contains(&about.len()) {
                found.entry(about.len()).or_default().push(entry.path());
            }
        }
    }
    found.values_mut().for_each(|paths| paths.sort_unstable());
    Ok(found)
}

/// The stored form of a content, as an import would write it.
fn packed(mut content: Content, media_type: &str) -> std::io::Result<File> {
    match import::prepare(&mut content, media_type)?.payload {
        Payload::File(file) => Ok(file),
        Payload::Memory(bytes) => {
            let mut file = tempfile::tempfile()?;
            std::io::Write::write_all(&mut file, &bytes)?;
            Ok(file)
        }
    }
}

fn copy_range(copy: &Path, file: &FileRecord) -> std::io::Result<File> {
    let (from, mut to) = (File::open(copy)?, tempfile::tempfile()?);
    let (mut at, end) = (file.place.offset, file.place.offset + file.place.stored);
    let mut chunk = vec![0; CHUNK];
    while at < end {
        let length = CHUNK.min(usize::try_from(end - at).unwrap_or(CHUNK));
        from.read_exact_at(&mut chunk[..length], at)?;
        std::io::Write::write_all(&mut to, &chunk[..length])?;
        at += length as u64;
    }
    Ok(to)
}

/// The same bytes, if they are those that the record tells. What cannot be read is no copy.
fn proved(file: &FileRecord, bytes: std::io::Result<File>) -> Option<File> {
    let (bytes, mut check, mut at) = (bytes.ok()?, FileCheck::new(file), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        match bytes.read_at(&mut chunk, at).ok()? {
            0 => break check.finish().ok()?,
            read => {
                check.update(&chunk[..read]).ok()?;
                at += read as u64;
            }
        }
    }
    Some(bytes)
}

/// The metadata that an import of the document rendered, as far as the collection is still described so.
async fn rendered(services: &Services, damaged: &DamagedFile) -> anyhow::Result<Option<Vec<u8>>> {
    let document = services.store.documents(&[damaged.document]).await?.pop();
    let collection = services.store.collection(&damaged.collection).await?;
    let (Some(document), Some(collection)) = (document, collection) else { return Ok(None) };
    let described = NewCollection {
        slug: collection.slug,
        license: collection.license,
        access: collection.access,
        tdm: collection.tdm,
        ..NewCollection::default()
    };
    let files = document.files.iter().filter(|file| file.format.as_str() != META);
    let files: Vec<_> =
        files.map(|file| (file.format.to_string(), file.media_type.clone(), file.size, file.sha256)).collect();
    Ok(Some(import::render_meta(&document.r#ref, &document.metadata, &described, &files)))
}
