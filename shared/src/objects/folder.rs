//! The object store that is a folder on a local disk: objects are files under their keys.
//!
//! ```text
//! <folder>/packages/5/0123456789abcdef.zip     an object
//! <folder>/.tmp/…                              files being written, moved into place when they are whole
//! <folder>/.uploads/<id>/upload.json           key and part size of an unfinished upload; whoever writes to the upload locks this file
//! <folder>/.uploads/<id>/data                  the object to be, with each part at its offset
//! <folder>/.uploads/<id>/00003-8388608-1a2b3c4d.part   says that part 3 is whole: its length and CRC-32 (an empty file)
//! ```
//!
//! Several processes may use one folder. What a call has reported as stored outlives a crash and a loss of power: bytes are
//! synced before the name that makes them visible, and that name before the call returns.
//! Here lives the asynchronous face; the work is in `files` (objects), `uploads` (parts) and `durable` (what both stand on).

mod durable;
mod files;
mod leftovers;
mod uploads;

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use self::files::Folder;
use super::checks::check_key;
use super::{ObjectError, ObjectResult, ObjectStore, Part, Upload};

/// Bytes that a stream reads, and holds, at a time: large enough that the hop to a blocking thread does not count, and below the 128 KiB
/// from which on glibc's allocator learns to keep what was freed, once for each thread (docs/decisions/0006-allocator.md).
const CHUNK: u64 = 64 * 1024;

/// The store of one folder.
#[derive(Debug, Clone)]
pub(super) struct FolderStore(Arc<Folder>);

impl FolderStore {
    /// Opens the store in `root`, an absolute path, and makes the folder if there is none. Clears away what crashed processes left behind.
    pub(super) async fn open(root: &Path) -> ObjectResult<Self> {
        let root = root.to_owned();
        blocking(move || Folder::open(&root)).await.map(|folder| Self(Arc::new(folder)))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> ObjectResult<T> + Send + 'static,
    ) -> ObjectResult<T> {
        let folder = Arc::clone(&self.0);
        blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put(&self, key: &str, bytes: Bytes) -> ObjectResult<()> {
        let key = key.to_owned();
        self.run(move |folder| folder.put(&key, &bytes)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<Bytes> {
        let key = key.to_owned();
        self.run(move |folder| {
            let (file, range) = folder.open_range(&key, range)?;
            files::read_at(&file, &range, &key)
        })
        .await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> ObjectResult<BoxStream<'static, ObjectResult<Bytes>>> {
        let wanted = key.to_owned();
        let (file, range) = self.run(move |folder| folder.open_range(&wanted, range)).await?;
        Ok(chunks(file, range, key))
    }

    async fn size(&self, key: &str) -> ObjectResult<Option<u64>> {
        let key = key.to_owned();
        self.run(move |folder| folder.size(&key)).await
    }

    async fn check_writes(&self) -> ObjectResult<()> {
        self.run(Folder::check_writes).await
    }

    async fn sweep_temporary(&self, dry_run: bool) -> ObjectResult<(u64, u64)> {
        self.run(move |folder| leftovers::sweep(&folder.temporary, &folder.uploads, dry_run)).await
    }

    async fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        let keys = keys.to_vec();
        self.run(move |folder| folder.delete(&keys)).await
    }

    async fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.list(&prefix)).await
    }

    async fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload> {
        let key = key.to_owned();
        self.run(move |folder| folder.create_upload(&key, part_size)).await
    }

    async fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
        let key = key.to_owned();
        self.run(move |folder| folder.find_upload(&key, part_size)).await
    }

    async fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.list_uploads(&prefix)).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
        let upload = upload.clone();
        self.run(move |folder| folder.put_part(&upload, number, &bytes)).await
    }

    async fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>> {
        let upload = upload.clone();
        self.run(move |folder| folder.parts(&upload)).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
        let (upload, parts) = (upload.clone(), parts.to_vec());
        self.run(move |folder| folder.complete_upload(&upload, &parts)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> ObjectResult<()> {
        let upload = upload.clone();
        self.run(move |folder| folder.abort_upload(&upload)).await
    }

    async fn presign(&self, key: &str, _file_name: &str, _seconds: u64) -> ObjectResult<Option<String>> {
        check_key(key).map(|()| None)
    }
}

/// Reads a range chunk by chunk as it is asked for. The open file stays readable when its object is deleted or replaced meanwhile.
fn chunks(file: File, range: Range<u64>, key: &str) -> BoxStream<'static, ObjectResult<Bytes>> {
    let (file, key): (_, Arc<str>) = (Arc::new(file), key.into());
    stream::try_unfold(range, move |left| {
        let (file, key) = (Arc::clone(&file), Arc::clone(&key));
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            let chunk = left.start..left.end.min(left.start + CHUNK);
            let left = chunk.end..left.end;
            let bytes = blocking(move || files::read_at(&file, &chunk, &key)).await?;
            Ok(Some((bytes, left)))
        }
    })
    .boxed()
}

/// Does work that waits for the disk on a thread kept for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> ObjectResult<T> + Send + 'static) -> ObjectResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(ObjectError::Unavailable(format!("the work on the folder was broken off: {error}")))
    })
}
