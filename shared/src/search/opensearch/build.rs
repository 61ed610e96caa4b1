//! Making the index of a new corpus version: a copy of the one before (hard links, where the engine's disk has them), or an empty one; changed in
//! batches; and closed to writing when it is finished.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use super::client::{Asked, Body, Client, Fault};
use super::{OpenSearch, mapping};
use crate::ids::{IndexId, VersionId};
use crate::search::{IndexBuild, IndexDocument, IndexPlan, Language, SearchError, SearchResult};

/// A batch is sent when it has so many bytes, or [`BATCH_ITEMS`]. Some hosted engines take no more than 10 MB at once.
const BATCH_BYTES: usize = 5 * 1024 * 1024;
const BATCH_ITEMS: usize = 1000;
/// Pauses between the tries of a request while the engine is away or has too much to do.
const PAUSES_MS: [u64; 8] = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000];
/// How long a copy may take whose disk has no hard links, in tries of [`COPY_WAIT`] each.
const COPY_TRIES: usize = 120;
const COPY_WAIT: &str = "30s";

/// An index being made.
pub(super) struct Build {
    client: Client,
    name: String,
    language: Option<Language>,
    batch: Batch,
    /// The batch before, on its way.
    sending: Option<JoinHandle<SearchResult<()>>>,
}

/// Lines of a `_bulk` request.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    /// Where the lines of each item stand.
    items: Vec<Range<usize>>,
}

impl Build {
    /// Begins on top of the plan's base, or of nothing where that is version 0 or all documents are added afresh.
    ///
    /// # Errors
    /// [`SearchError::Outdated`] where the base has another layout or language.
    pub(super) async fn begin(engine: &OpenSearch, plan: IndexPlan) -> SearchResult<Self> {
        let IndexPlan { base, import, language, afresh } = plan;
        let name = engine.name(base.next(import)).ok_or(SearchError::VersionGone(base.corpus_version))?;
        let build = Self { client: engine.client.clone(), name, language, batch: Batch::default(), sending: None };
        if afresh || base.corpus_version == 0 {
            build.create(engine).await?;
        } else if engine.known_language(base).await? != language {
            return Err(crate::search::manifest::outdated());
        } else {
            build.copy(engine, base).await?;
        }
        build.await_copy().await?;
        Ok(build)
    }

    async fn create(&self, engine: &OpenSearch) -> SearchResult<()> {
        let body = mapping::new_index(&engine.address, self.language);
        // A try may have been carried out although its answer was lost.
        let made = insist(|| async {
            match self.client.put(&format!("/{}", self.name), body.clone()).await {
                Err(fault) if fault.is_there() => Ok(()),
                made => made.map(drop),
            }
        });
        Ok(made.await?)
    }

    async fn copy(&self, engine: &OpenSearch, base: IndexId) -> SearchResult<()> {
        let gone = SearchError::VersionGone(base.corpus_version);
        let Some(from) = engine.name(base) else { return Err(gone) };
        let path = format!("/{from}/_clone/{}?wait_for_active_shards=0", self.name);
        let body = json!({ "settings": { "index.blocks.write": null } });
        let made = insist(|| async {
            match self.client.post(&path, body.clone()).await {
                Err(fault) if fault.is_there() => Ok(()),
                made => made.map(drop),
            }
        });
        match made.await {
            Err(fault) if fault.is_missing() => Err(gone),
            made => Ok(made?),
        }
    }

    /// Waits until the index can be written to.
    async fn await_copy(&self) -> SearchResult<()> {
        let path = format!("/_cluster/health/{}?wait_for_status=yellow&timeout={COPY_WAIT}", self.name);
        for _ in 0..COPY_TRIES {
            // Where it takes longer, some say so with 408, some with 200.
            match insist(|| self.client.get(&path)).await {
                Ok(health) if health["timed_out"] == false => return Ok(()),
                Err(Fault::Refused { status: 408, .. }) | Ok(_) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(SearchError::Away(format!(
            "the search engine does not get the index {} ready; see its cluster health",
            self.name
        )))
    }

    /// Sends what is waiting, once what was sent before has arrived.
    async fn send(&mut self) -> SearchResult<()> {
        self.arrive().await?;
        if !self.batch.items.is_empty() {
            let (client, name, batch) = (self.client.clone(), self.name.clone(), std::mem::take(&mut self.batch));
            self.sending = Some(tokio::spawn(async move { batch.send(&client, &name).await }));
        }
        Ok(())
    }

    async fn arrive(&mut self) -> SearchResult<()> {
        match self.sending.take() {
            Some(sending) => sending.await.unwrap_or_else(|error| Err(SearchError::Index(error.to_string()))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl IndexBuild for Build {
    async fn add(&mut self, document: IndexDocument<'_>) -> SearchResult<()> {
        if let Some(replaced) = document.replaces {
            self.remove(replaced).await?;
        }
        let action = json!({ "index": { "_id": document.id.to_string() } });
        let entry = mapping::document(&document, self.language);
        self.batch.push(&[action, entry]);
        if self.batch.is_full() { self.send().await } else { Ok(()) }
    }

    async fn remove(&mut self, id: VersionId) -> SearchResult<()> {
        self.batch.push(&[json!({ "delete": { "_id": id.to_string() } })]);
        if self.batch.is_full() { self.send().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> SearchResult<()> {
        self.send().await?;
        self.arrive().await?;
        let path = format!("/{}/_refresh", self.name);
        let refreshed = insist(|| self.client.ask(Method::POST, &path, Body::Nothing)).await?;
        if refreshed["_shards"]["failed"] != 0 {
            return Err(SearchError::Index(format!("index {} could not be refreshed: {refreshed}", self.name)));
        }
        let path = format!("/{}/_settings", self.name);
        insist(|| self.client.put(&path, json!({ "index.blocks.write": true }))).await?;
        Ok(())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<BTreeMap<String, Done>>,
}

/// What became of one item.
#[derive(Deserialize)]
struct Done {
    _id: String,
    status: u16,
    error: Option<serde_json::Value>,
}

impl Batch {
    fn push(&mut self, lines: &[serde_json::Value]) {
        let start = self.lines.len();
        for line in lines {
            self.lines.extend_from_slice(line.to_string().as_bytes());
            self.lines.push(b'\n');
        }
        self.items.push(start..self.lines.len());
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_BYTES || self.items.len() >= BATCH_ITEMS
    }

    /// Sends it until every item has been taken in; those that the engine had no room for, again.
    async fn send(self, client: &Client, index: &str) -> SearchResult<()> {
        let path =
            format!("/{index}/_bulk?filter_path=items.*._id,items.*.status,items.*.error.type,items.*.error.reason");
        let (mut items, lines) = (self.items, Bytes::from(self.lines));
        for pause in PAUSES_MS.map(Duration::from_millis) {
            let body: Bytes = match items.as_slice() {
                whole if whole.iter().map(Range::len).sum::<usize>() == lines.len() => lines.clone(),
                some => some.iter().flat_map(|item| &lines[item.clone()]).copied().collect(),
            };
            let answer = insist(|| client.ask(Method::POST, &path, Body::Lines(body.clone()))).await?;
            items = left(items, answer)?;
            if items.is_empty() {
                return Ok(());
            }
            tracing::debug!(left = items.len(), ?pause, "the search engine had no room for some documents");
            tokio::time::sleep(pause).await;
        }
        Err(SearchError::Away(format!("the search engine has no room for {} documents, again and again", items.len())))
    }
}

/// The items that are to be sent again: those that were refused, and what comes behind one of the same document.
fn left(items: Vec<Range<usize>>, answer: serde_json::Value) -> SearchResult<Vec<Range<usize>>> {
    let unreadable =
        |why: String| SearchError::Index(format!("the search engine's answer to a batch cannot be read: {why}"));
    let answer: Answer = serde_json::from_value(answer).map_err(|error| unreadable(error.to_string()))?;
    if answer.items.len() != items.len() {
        return Err(unreadable(format!("it tells of {} items, not {}", answer.items.len(), items.len())));
    }
    let (mut left, mut late) = (Vec::new(), HashSet::new());
    for (item, done) in items.into_iter().zip(answer.items) {
        let Some((action, Done { _id: id, status, error })) = done.into_iter().next() else {
            return Err(unreadable("an item has no action".to_owned()));
        };
        match status {
            429 | 503 => {
                left.push(item);
                late.insert(id);
            }
            _ if late.contains(&id) => left.push(item),
            200..=299 => {}
            // What is to go is not there.
            404 if action == "delete" && error.is_none() => {}
            _ => {
                let error = error.unwrap_or_default();
                return Err(SearchError::Index(format!(
                    "document version {id} was refused by the search engine: {error} ({status})"
                )));
            }
        }
    }
    Ok(left)
}

/// Asks until the engine answers, for about a minute.
async fn insist<T, F: Future<Output = Asked<T>>>(ask: impl Fn() -> F) -> Asked<T> {
    for pause in PAUSES_MS.map(Duration::from_millis) {
        match ask().await {
            Err(Fault::Away(reason)) => {
                tracing::warn!(reason, ?pause, "the search engine is away; trying again");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    ask().await
}
