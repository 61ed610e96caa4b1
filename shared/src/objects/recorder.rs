//! A store that counts what is asked of another one, so that tests and figures can say how much input and output a job cost
//! (for example which parts were put again after a crash). It changes nothing and keeps no bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{ObjectResult, ObjectStore, Part, Upload};

/// The kinds of calls: the methods of [`ObjectStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named after its method, which is documented there")]
pub enum Call {
    Put,
    Get,
    Read,
    Size,
    Delete,
    List,
    CreateUpload,
    FindUpload,
    ListUploads,
    PutPart,
    Parts,
    CompleteUpload,
    AbortUpload,
    Presign,
}

/// What calls of one kind came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Calls begun, those that failed too.
    pub calls: u64,
    /// Bytes handed to the store, or received from it.
    pub bytes: u64,
}

/// Counts of every kind of call that was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(BTreeMap<Call, Count>);

impl Counts {
    /// The count of one kind; zero if there was none.
    #[must_use]
    pub fn of(&self, call: Call) -> Count {
        self.0.get(&call).copied().unwrap_or_default()
    }
}

/// Hands every call on to another store and counts it.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Mutex<Counts>>,
}

impl Recorder {
    /// Counts what is asked of `inner` through this value and its clones.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// The counts until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, call: Call, calls: u64, bytes: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.0.entry(call).or_default();
        count.calls += calls;
        count.bytes += bytes as u64;
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    async fn put(&self, key: &str, bytes: Bytes) -> ObjectResult<()> {
        self.add(Call::Put, 1, bytes.len());
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<Bytes> {
        self.add(Call::Get, 1, 0);
        self.inner.get(key, range).await.inspect(|bytes| self.add(Call::Get, 0, bytes.len()))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> ObjectResult<BoxStream<'static, ObjectResult<Bytes>>> {
        self.add(Call::Read, 1, 0);
        let recorder = self.clone();
        let chunks = self.inner.read(key, range).await?;
        Ok(chunks.inspect(move |chunk| recorder.add(Call::Read, 0, chunk.as_ref().map_or(0, Bytes::len))).boxed())
    }

    async fn size(&self, key: &str) -> ObjectResult<Option<u64>> {
        self.add(Call::Size, 1, 0);
        self.inner.size(key).await
    }

    async fn check_writes(&self) -> ObjectResult<()> {
        self.inner.check_writes().await
    }

    async fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        self.add(Call::Delete, 1, 0);
        self.inner.delete(keys).await
    }

    async fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>> {
        self.add(Call::List, 1, 0);
        self.inner.list(prefix).await
    }

    async fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload> {
        self.add(Call::CreateUpload, 1, 0);
        self.inner.create_upload(key, part_size).await
    }

    async fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
        self.add(Call::FindUpload, 1, 0);
        self.inner.find_upload(key, part_size).await
    }

    async fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>> {
        self.add(Call::ListUploads, 1, 0);
        self.inner.list_uploads(prefix).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
        self.add(Call::PutPart, 1, bytes.len());
        self.inner.put_part(upload, number, bytes).await
    }

    async fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>> {
        self.add(Call::Parts, 1, 0);
        self.inner.parts(upload).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
        self.add(Call::CompleteUpload, 1, 0);
        self.inner.complete_upload(upload, parts).await
    }

    async fn abort_upload(&self, upload: &Upload) -> ObjectResult<()> {
        self.add(Call::AbortUpload, 1, 0);
        self.inner.abort_upload(upload).await
    }

    async fn presign(&self, key: &str, file_name: &str, seconds: u64) -> ObjectResult<Option<String>> {
        self.add(Call::Presign, 1, 0);
        self.inner.presign(key, file_name, seconds).await
    }
}
