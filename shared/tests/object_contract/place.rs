//! Places for the checks to work in, and bytes to put there.

use std::sync::Arc;

use adit_shared::objects::{ObjectStore, open};
use bytes::Bytes;
use futures::TryStreamExt as _;
use tempfile::TempDir;
use url::Url;

/// Length of a part in the checks: the least that every S3 server takes.
pub(crate) const PART: usize = 5 << 20;

/// An empty store that nobody else uses.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    _dir: Option<TempDir>,
}

impl Place {
    pub(crate) async fn folder() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(dir.path()).unwrap().to_string();
        Self { store: open(&url).await.unwrap(), url, _dir: Some(dir) }
    }

    pub(crate) async fn s3() -> Option<Self> {
        let Ok(url) = std::env::var("ADIT_TEST_S3_URL") else {
            println!("skipped: ADIT_TEST_S3_URL names no bucket (s3://bucket/prefix?endpoint=http://host:port)");
            return None;
        };
        let mut url = Url::parse(&url).unwrap();
        let prefix = format!("{}/contract-{:016x}", url.path().trim_end_matches('/'), rand::random::<u64>());
        url.set_path(&prefix);
        let url = url.to_string();
        Some(Self { store: open(&url).await.unwrap(), url, _dir: None })
    }

    /// The same store as another process sees it.
    pub(crate) async fn reopen(&self) -> Arc<dyn ObjectStore> {
        open(&self.url).await.unwrap()
    }

    /// Deletes every object, where dropping the place does not.
    pub(crate) async fn clear(&self) {
        let keys: Vec<String> = self.store.list("").await.unwrap().into_iter().map(|(key, _)| key).collect();
        self.store.delete(&keys).await.unwrap();
    }

    /// The whole object, as a stream gives it.
    pub(crate) async fn streamed(&self, key: &str) -> Vec<u8> {
        let chunks: Vec<Bytes> = self.store.read(key, None).await.unwrap().try_collect().await.unwrap();
        chunks.concat()
    }
}

/// Bytes that look random and depend on `seed` alone (xorshift, seeded by splitmix).
pub(crate) fn content(seed: u64, length: usize) -> Bytes {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
