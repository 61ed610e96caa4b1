//! [`Search`] on an OpenSearch or Elasticsearch cluster, for collections that outgrow one index in a process; see docs/OPERATIONS.md.
//!
//! Each corpus version has an index of its own there, which is never written to once it is finished. Its name tells collection, version and import, as
//! the database does, so that an index that no import has committed is never asked, and a version answers alike for as long as it is kept.

mod address;
mod build;
mod client;
mod mapping;
mod page;
mod query;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use roaring::RoaringBitmap;
use serde_json::Value;

pub use self::address::Address;
use self::build::Build;
use self::client::Client;
use self::page::Walk;
use self::query::Queries;
use super::control::{Part, SearchControl};
use super::{
    Hit, IndexBuild, IndexPlan, Language, Query, Search, SearchAnswer, SearchError, SearchLimits, SearchPage,
    SearchResult, Sort, lower, manifest, schema,
};
use crate::ids::{CollectionId, IndexId};

/// Indexes whose language is remembered.
const REMEMBERED: usize = 1000;
/// Indexes that are deleted at once; their names stand in the request's address.
const DELETED_AT_ONCE: usize = 20;

/// A cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OpenSearch {
    client: Client,
    address: Arc<Address>,
    limits: SearchLimits,
    /// Indexes never change, so it is asked once.
    languages: Arc<Mutex<HashMap<IndexId, Option<Language>>>>,
}

/// Lowers a query for an index whose texts are analysed by `language`.
pub(super) fn lower_for(query: &Query, language: Option<Language>) -> SearchResult<Value> {
    lower::lower(query, language, &Queries { stems: language.is_some() })
}

impl OpenSearch {
    /// Makes ready to speak with the cluster; nothing is asked yet.
    ///
    /// # Errors
    /// Where this machine has no certificates to trust.
    pub fn new(address: Address) -> Result<Self, String> {
        let client = Client::new(&address)?;
        Ok(Self { client, address: Arc::new(address), limits: SearchLimits::default(), languages: Arc::default() })
    }

    /// Sets the bounds on each search: the time for each request, and the memory for its hits in
    /// this process.
    #[must_use]
    pub fn with_limits(self, limits: SearchLimits) -> Self {
        Self { limits, ..self }
    }

    /// With what the names of all indexes of a collection begin.
    fn stem(&self, collection: CollectionId) -> String {
        format!("{}-{collection}-v", self.address.prefix)
    }

    /// The index of a corpus version; `None` for those that this engine never made.
    fn name(&self, index: IndexId) -> Option<String> {
        let stem = self.stem(index.collection);
        index.import.map(|import| format!("{stem}{:010}-{import}", index.corpus_version))
    }

    /// The names of all indexes of a collection, with their corpus versions.
    async fn names(&self, collection: CollectionId) -> SearchResult<Vec<(String, i64)>> {
        let stem = self.stem(collection);
        let version = |name: &str| name.strip_prefix(&stem)?.split_once('-')?.0.parse().ok();
        match self.client.get(&format!("/{stem}*/_settings/index.uuid")).await? {
            Value::Object(found) => {
                Ok(found.into_iter().filter_map(|(name, _)| version(&name).map(|version| (name, version))).collect())
            }
            other => Err(SearchError::Index(format!("the search engine lists its indexes as {other}"))),
        }
    }

    async fn delete(&self, names: &[String]) -> SearchResult<()> {
        for names in names.chunks(DELETED_AT_ONCE) {
            self.client.delete(&format!("/{}?ignore_unavailable=true", names.join(","))).await?;
        }
        Ok(())
    }

    /// What the texts of an index that is there were analysed by.
    async fn known_language(&self, index: IndexId) -> SearchResult<Option<Language>> {
        if index.corpus_version == 0 {
            return Ok(None);
        }
        if let Some(language) = self.remembered().get(&index) {
            return Ok(*language);
        }
        let gone = SearchError::VersionGone(index.corpus_version);
        let Some(name) = self.name(index) else { return Err(gone) };
        let found = match self.client.get(&format!("/{name}/_mapping?filter_path=*.mappings._meta")).await {
            Err(fault) if fault.is_missing() => return Err(gone),
            found => found?,
        };
        let language = mapping::language_of(&found[&name]["mappings"]["_meta"]).ok_or_else(manifest::outdated)?;
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(index, language);
        Ok(language)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<IndexId, Option<Language>>> {
        self.languages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The query in the engine's words.
    async fn lowered(&self, index: IndexId, query: &Query) -> SearchResult<Value> {
        lower_for(query, self.known_language(index).await?)
    }

    /// Gives all hits to `each`, page by page, up to the first error.
    async fn walk(
        &self,
        index: IndexId,
        mut walk: Walk,
        mut each: impl FnMut(Hit) -> SearchResult<()>,
    ) -> SearchResult<()> {
        while let Some(answer) = self.ask(index, walk.body()).await? {
            let mut outcome = Ok(());
            let more = walk.take(answer, |hit| {
                if outcome.is_ok() {
                    outcome = each(hit);
                }
            })?;
            outcome?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Asks an index; `None` where the collection is empty.
    async fn ask(&self, index: IndexId, body: Value) -> SearchResult<Option<Value>> {
        if index.corpus_version == 0 {
            return Ok(None);
        }
        let gone = SearchError::VersionGone(index.corpus_version);
        let Some(name) = self.name(index) else { return Err(gone) };
        // Shards weigh words by what stands in all of them; one copy of each shard answers all who
        // ask, as copies weigh deleted documents differently; and an answer is whole or none. When
        // the future is dropped, so is the connection, and the engine ends the search; the time is
        // for engines that do not.
        let path = format!(
            "/{name}/_search?search_type=dfs_query_then_fetch&preference={name}&allow_partial_search_results=false\
             &timeout={}ms&filter_path=timed_out,_shards.failed,hits.total,hits.hits.sort,aggregations.*.buckets",
            self.limits.time.as_millis()
        );
        let answer = match tokio::time::timeout(self.limits.time, self.client.post(&path, body)).await {
            Err(_) => return Err(SearchError::TimedOut),
            Ok(Err(fault)) if fault.is_missing() => return Err(gone),
            Ok(answer) => answer?,
        };
        // What was found until then is no answer.
        if answer["timed_out"] == true { Err(SearchError::TimedOut) } else { Ok(Some(answer)) }
    }
}

#[async_trait]
impl Search for OpenSearch {
    async fn search(&self, index: IndexId, page: SearchPage<'_>) -> SearchResult<SearchAnswer> {
        let known = schema::facet_names();
        if let Some(field) = page.facets.iter().find(|field| !known.contains(field)) {
            return Err(SearchError::UnknownField { field: field.clone(), known });
        }
        let query = self.lowered(index, page.query).await?;
        let mut answer = match self.ask(index, page::of(&page, &query)).await? {
            Some(answer) => page::read(answer, page.sort)?,
            None => SearchAnswer { total: 0, hits: Vec::new(), facets: std::collections::BTreeMap::new() },
        };
        for facet in page.facets {
            answer.facets.entry(facet.clone()).or_default();
        }
        Ok(answer)
    }

    async fn matching(&self, index: IndexId, query: &Query) -> SearchResult<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        let walk = Walk::by_id(&self.lowered(index, query).await?);
        self.walk(index, walk, |hit| {
            found.insert(hit.id.0);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    async fn ordered(&self, index: IndexId, query: &Query, sort: Sort) -> SearchResult<Vec<Hit>> {
        let mut found = Vec::new();
        let walk = Walk::in_order(self.lowered(index, query).await?, sort);
        let control = SearchControl::new(self.limits.memory);
        let mut charge = control.open_charge(Part::Answer);
        self.walk(index, walk, |hit| {
            found.push(hit);
            if charge.grow_to(found.capacity() * size_of::<Hit>()) { Ok(()) } else { control.check() }
        })
        .await?;
        Ok(found)
    }

    async fn language(&self, index: IndexId) -> SearchResult<Option<Language>> {
        self.known_language(index).await
    }

    async fn build(&self, plan: IndexPlan) -> SearchResult<Box<dyn IndexBuild>> {
        Ok(Box::new(Build::begin(self, plan).await?))
    }

    async fn discard(&self, index: IndexId) -> SearchResult<()> {
        match self.name(index) {
            Some(name) => self.delete(&[name]).await,
            None => Ok(()),
        }
    }

    async fn retain(&self, collection: CollectionId, kept: &[IndexId]) -> SearchResult<()> {
        let Some(newest) = kept.iter().map(|index| index.corpus_version).max() else { return Ok(()) };
        let names: Vec<String> = kept.iter().filter_map(|index| self.name(*index)).collect();
        let found = self.names(collection).await?;
        // A list that is not true must not empty the collection.
        if !found.iter().any(|(name, version)| *version == newest && names.contains(name)) {
            return Err(SearchError::VersionGone(newest));
        }
        let gone = found.into_iter().filter(|(name, version)| *version <= newest && !names.contains(name));
        self.delete(&gone.map(|(name, _)| name).collect::<Vec<_>>()).await
    }

    async fn ping(&self) -> SearchResult<()> {
        self.client.get("/").await?;
        Ok(())
    }

    fn fields(&self) -> Vec<String> {
        schema::names()
    }

    fn facet_fields(&self) -> Vec<String> {
        schema::facet_names()
    }
}

#[cfg(test)]
mod tests;
