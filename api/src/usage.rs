//! Counts what is used, in memory, for operators' reports; now and then the counts go to the database. A process that is killed loses those of the last
//! seconds. What is counted as what says [`Metric`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_shared::clock::Clock;
use adit_shared::domain::{ApiKey, Metric, Month, Package};
use adit_shared::ids::{CollectionId, KeyId};
use adit_shared::store::{Store, UsageCount};
use roaring::RoaringBitmap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long counts are gathered.
const GATHERED: Duration = Duration::from_secs(5);
const HOUR_MS: i64 = 3_600_000;

/// The counts of this process that are not in the database yet.
#[derive(Debug)]
pub(crate) struct Usage {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
    /// Told when there is something to be stored.
    counted: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    sums: HashMap<(Month, CollectionId, Option<KeyId>, Metric), u64>,
    /// The documents that each key was given in the clock hour (since the epoch) of the last one. Several processes know nothing of each other's, so
    /// that what a key fetches from each of them is counted by each.
    given: HashMap<KeyId, (i64, RoaringBitmap)>,
    /// The keys whose last use the database does not have, with the beginning of its clock hour.
    used: HashMap<KeyId, i64>,
}

impl Counts {
    fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.used.is_empty()
    }
}

impl Usage {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, counts: Mutex::default(), counted: Notify::new() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nobody panics while it is held.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something that a key, or nobody known, has used of a collection.
    pub(crate) fn count(&self, collection: CollectionId, key: Option<KeyId>, metric: Metric, count: u64) {
        if count > 0 {
            let month = Month::of(self.clock.now_ms());
            *self.counts().sums.entry((month, collection, key, metric)).or_default() += count;
            self.counted.notify_one();
        }
    }

    /// Notes that a key is used. Once its clock hour is stored, nothing more of that hour is.
    pub(crate) fn note_key_use(&self, key: &ApiKey) {
        let hour = self.clock.now_ms().div_euclid(HOUR_MS) * HOUR_MS;
        if key.last_used.is_none_or(|stored| stored < hour) {
            self.counts().used.insert(key.id, hour);
            self.counted.notify_one();
        }
    }

    /// Counts documents that a key was given.
    pub(crate) fn give(&self, collection: CollectionId, key: KeyId, documents: &RoaringBitmap) {
        let hour = self.clock.now_ms().div_euclid(HOUR_MS);
        let fresh = {
            let mut counts = self.counts();
            let given = counts.given.entry(key).or_default();
            if given.0 != hour {
                *given = (hour, RoaringBitmap::new());
            }
            let before = given.1.len();
            given.1 |= documents;
            given.1.len() - before
        };
        self.count(collection, Some(key), Metric::Requests, documents.len());
        self.count(collection, Some(key), Metric::UniqueRequests, fresh);
    }

    /// Counts bytes of a package that was fetched.
    pub(crate) async fn send(&self, package: &Package, bytes: u64) {
        match self.store.collection_of_docset(package.docset).await {
            Ok(Some(collection)) => self.count(collection, Some(package.owner), Metric::Bytes, bytes),
            Ok(None) => {}
            Err(error) => tracing::warn!(package = %package.id, %error, bytes, "what is fetched is not counted"),
        }
    }

    /// Stores what was counted.
    pub(crate) async fn flush(&self) {
        let hour = self.clock.now_ms().div_euclid(HOUR_MS);
        let (sums, used) = {
            let mut counts = self.counts();
            counts.given.retain(|_, (of, _)| *of == hour);
            (std::mem::take(&mut counts.sums), std::mem::take(&mut counts.used))
        };
        self.store_key_use(used).await;
        let rows: Vec<_> = sums
            .iter()
            .map(|((month, collection, key, metric), count)| UsageCount {
                month: month.clone(),
                collection: *collection,
                key: *key,
                metric: *metric,
                count: *count,
            })
            .collect();
        if let Err(error) = self.store.count_usage(&rows).await {
            tracing::warn!(%error, "counts of use are not stored yet");
            let mut counts = self.counts();
            for (what, count) in sums {
                *counts.sums.entry(what).or_default() += count;
            }
        }
    }

    /// Tells whether the last use of any key is still to be stored.
    #[cfg(test)]
    pub(crate) fn has_key_use(&self) -> bool {
        !self.counts().used.is_empty()
    }

    async fn store_key_use(&self, used: HashMap<KeyId, i64>) {
        let rows: Vec<_> = used.into_iter().collect();
        if let Err(error) = self.store.note_key_use(&rows).await {
            tracing::warn!(%error, "when keys were last used is not stored yet");
            let mut counts = self.counts();
            for (key, hour) in rows {
                // One of a later hour may be there already.
                counts.used.entry(key).or_insert(hour);
            }
        }
    }

    /// Stores from time to time what was counted, until `stop`, and then the rest.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.counted.notified()).await.is_some() {
            let empty = || self.counts().is_empty();
            while !empty() && stop.run_until_cancelled(tokio::time::sleep(GATHERED)).await.is_some() {
                self.flush().await;
            }
        }
        self.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::store::UsageCount;

    use crate::testing::http::{MINER, NOBODY, Server};

    use super::*;

    #[tokio::test]
    async fn use_is_counted_by_collection_key_and_metric() {
        let server = Server::new().await;
        let documents: Vec<_> = ["a", "b", "c"].map(|r| (r, serde_json::json!({}), &[("txt", "four")][..])).into();
        server.import("c", &documents).await;
        server.put("packs/1/00-txt-00001", "four").await;
        for _ in 0..2 {
            assert_eq!(server.get(MINER, "/api/documents/1/text").await.status, 200);
        }
        assert_eq!(server.get(NOBODY, "/api/documents/1").await.status, 200);
        let docset = server.docset("c", &["a", "b", "c"]).await;
        for _ in 0..2 {
            assert_eq!(server.post(MINER, &format!("{docset}/packages"), &serde_json::json!({})).await.status, 202);
        }
        server.app.usage().flush().await;
        let month = Month::of(server.app.clock.now_ms());
        let collection = server.world.store.collection("c").await.unwrap().unwrap().id;
        let sums = server.world.store.usage(&month, None).await.unwrap();
        let expected = [(Metric::Requests, 5), (Metric::UniqueRequests, 3), (Metric::Charged, 4), (Metric::Bytes, 8)];
        assert_eq!(sums, expected.map(|(metric, count)| ((collection, metric), count)).into());
    }

    #[tokio::test]
    async fn counts_add_up_over_processes() {
        let server = Server::new().await;
        server.import("c", &[("a", serde_json::json!({}), &[])]).await;
        let (store, month) = (&server.world.store, Month::of(0));
        let collection = store.collection("c").await.unwrap().unwrap().id;
        let count = |key, count| UsageCount { month: month.clone(), collection, key, metric: Metric::Searches, count };
        for _ in 0..2 {
            let counts = [count(None, 1), count(Some(KeyId(1)), 2), count(Some(KeyId(2)), 3_000_000_000)];
            store.count_usage(&counts).await.unwrap();
        }
        let sum = async |key| store.usage(&month, key).await.unwrap().remove(&(collection, Metric::Searches));
        assert_eq!(sum(None).await, Some(6_000_000_006));
        assert_eq!((sum(Some(KeyId(1))).await, sum(Some(KeyId(9))).await), (Some(4), None));
        assert!(store.usage(&Month::of(i64::from(u32::MAX) * 1000), None).await.unwrap().is_empty());
    }
}
