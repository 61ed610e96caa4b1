//! Full-text search over a collection: one trait, implemented on Tantivy, and on OpenSearch or Elasticsearch for what outgrows it.
//!
//! An index is immutable for each corpus version: its files lie in the object store, and every process that is asked to search a
//! version fetches what it lacks. The index keeps no text; it yields document-version ids.

mod analysis;
mod build;
mod cache;
mod collect;
mod control;
mod controlled;
mod dates;
mod dsl;
mod engine;
mod expanded;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod highlight;
mod language;
mod lower;
mod manifest;
mod opensearch;
mod ordered;
mod phrase;
mod rights;
mod schema;
mod scratch;
mod source;
mod syntax;
mod tree;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::domain::Access;
use crate::ids::{CollectionId, ImportId, IndexId, VersionId};
use crate::objects::ObjectError;

pub use analysis::{Analyzer, Token};
pub use control::{SearchLimits, StopFlag, StopOnDrop};
pub use engine::TantivySearch;
pub use highlight::{Highlighter, Snippet};
pub use language::{Language, UnknownLanguage};
pub use opensearch::{Address, OpenSearch};
pub use rights::TextRights;
pub use scratch::sweep_scratch;
pub use source::Source;
pub use syntax::parse;
pub use tree::{Bool, Bound, FieldRef, Fields, Fuzziness, Need, OneOf, Phrase, Prefix, Query, Range, Words};

/// Corpus versions of a collection whose index is kept: the newest, and the one before it for those who are paging through an answer.
pub const KEPT_INDEXES: u32 = 2;

/// Why a search did not give an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SearchError {
    /// The query cannot be parsed.
    #[error("the query cannot be read at character {position}: {message}")]
    Syntax {
        /// Zero-based, in Unicode scalar values.
        position: usize,
        /// What is wrong there, and what would be right.
        message: String,
    },
    /// The query names a field that does not exist.
    #[error("there is no field {field:?}; there are: {}", known.join(", "))]
    UnknownField {
        /// The field.
        field: String,
        /// The fields that can be searched.
        known: Vec<String>,
    },
    /// A value or construct that does not fit its field.
    #[error("{0}")]
    Unsupported(String),
    /// That corpus version's index is gone (superseded long ago), or never was.
    #[error("corpus version {0} cannot be searched any more")]
    VersionGone(i64),
    /// The index was made by another release, in another language or by another engine; all documents must be added afresh. With the
    /// collection's slug; see [`SearchError::of`].
    #[error("the search index is not of the kind that this server makes and reads: run `adit reindex {0}`")]
    Outdated(String),
    /// What is stored of the index is damaged; all documents must be added afresh. With the collection's
    /// slug; see [`SearchError::of`].
    #[error("object {object} of the search index is damaged: run `adit reindex {slug}`")]
    Damaged {
        /// Key of the object.
        object: String,
        /// The collection.
        slug: String,
    },
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The engine is away or has too much to do; trying again may help.
    #[error("the search engine is away: {0}")]
    Away(String),
    /// It took longer than a search may.
    #[error("the search took too long; ask for less, or try again")]
    TimedOut,
    /// The index is out of order.
    #[error("the search index failed: {0}")]
    Index(String),
}

impl SearchError {
    /// The same, with the name of the collection, which indexes do not know.
    #[must_use]
    pub fn of(self, slug: &str) -> Self {
        match self {
            Self::Outdated(_) => Self::Outdated(slug.to_owned()),
            Self::Damaged { object, .. } => Self::Damaged { object, slug: slug.to_owned() },
            other => other,
        }
    }
}

impl From<tantivy::TantivyError> for SearchError {
    fn from(error: tantivy::TantivyError) -> Self {
        match error {
            // Of a query that asks too much of this index; see `phrase`.
            tantivy::TantivyError::InvalidArgument(message) => Self::Unsupported(message),
            error => Self::Index(error.to_string()),
        }
    }
}

/// A result of the search engine.
pub type SearchResult<T> = Result<T, SearchError>;

/// How hits are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Best first (BM25); equals by id.
    #[default]
    Relevance,
    /// Newest `issued` first; those without a date last; equals by id.
    Date,
    /// By ref, in the order of code points.
    Ref,
}

/// A page of a search.
#[derive(Debug, Clone)]
pub struct SearchPage<'a> {
    /// The query.
    pub query: &'a Query,
    /// The order.
    pub sort: Sort,
    /// Hits to leave out from the start.
    pub offset: usize,
    /// Most hits to return; 0 counts only.
    pub limit: usize,
    /// Fields to count the values of.
    pub facets: &'a [String],
}

/// One hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The document version.
    pub id: VersionId,
    /// Its BM25 score; `None` where hits are not sorted by relevance.
    pub score: Option<f32>,
}

/// How many hits have one value in a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FacetCount {
    /// The value.
    pub value: String,
    /// Hits that have it.
    pub count: u64,
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchAnswer {
    /// Exact number of hits.
    pub total: u64,
    /// The page.
    pub hits: Vec<Hit>,
    /// The most frequent values of each wanted facet, at most 100, by falling count.
    pub facets: BTreeMap<String, Vec<FacetCount>>,
}

/// An index to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPlan {
    /// The index of the version before.
    pub base: IndexId,
    /// The import that makes it.
    pub import: ImportId,
    /// What its texts are analysed by; `None`: words as they are, folded.
    pub language: Option<Language>,
    /// Whether all documents will be added, and nothing is taken from the base.
    pub afresh: bool,
}

/// A document as the index takes it in.
#[derive(Debug, Clone)]
pub struct IndexDocument<'a> {
    /// The document version.
    pub id: VersionId,
    /// The version that it replaces.
    pub replaces: Option<VersionId>,
    /// The work's name.
    pub r#ref: &'a str,
    /// Access level of its text.
    pub access: &'a Access,
    /// Dublin Core metadata.
    pub metadata: &'a serde_json::Map<String, serde_json::Value>,
    /// Names of its formats.
    pub formats: Vec<&'a str>,
    /// Its text, if it has any.
    pub text: Option<&'a str>,
}

/// An index being made. Nobody sees it before [`IndexBuild::finish`], and nobody asks for it before the import is committed.
#[async_trait]
pub trait IndexBuild: Send {
    /// Adds a document and takes out the version that it replaces.
    async fn add(&mut self, document: IndexDocument<'_>) -> SearchResult<()>;
    /// Takes a document out that the base has; nothing to do if it has not.
    async fn remove(&mut self, id: VersionId) -> SearchResult<()>;
    /// Stores the new files and the manifest. What it leaves behind when it fails, or is dropped in the middle, is for
    /// [`Search::discard`].
    async fn finish(self: Box<Self>) -> SearchResult<()>;
}

/// Something that is wrong with a stored index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDamage {
    /// Key of the object.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Searches collections.
#[async_trait]
pub trait Search: fmt::Debug + Send + Sync {
    /// One page of the answer to a query.
    async fn search(&self, index: IndexId, page: SearchPage<'_>) -> SearchResult<SearchAnswer>;
    /// All hits of a query.
    async fn matching(&self, index: IndexId, query: &Query) -> SearchResult<RoaringBitmap>;
    /// All hits of a query, in that order.
    async fn ordered(&self, index: IndexId, query: &Query, sort: Sort) -> SearchResult<Vec<Hit>> {
        let page = SearchPage { query, sort, offset: 0, limit: usize::MAX, facets: &[] };
        Ok(self.search(index, page).await?.hits)
    }
    /// Makes an index ready that is to be searched: fetches and opens what this process has not
    /// open yet, which may take long and does no work in the meantime.
    async fn prepare(&self, _index: IndexId) -> SearchResult<()> {
        Ok(())
    }
    /// What the texts of an index were analysed by, and queries on it are; of corpus version 0: none.
    ///
    /// # Errors
    /// [`SearchError::Outdated`] where it has another layout than this program reads.
    async fn language(&self, index: IndexId) -> SearchResult<Option<Language>>;
    /// Begins the index that an import makes. One import makes one index.
    ///
    /// # Errors
    /// [`SearchError::Outdated`] where the base has another layout or language than `plan` wants; all documents are to be added afresh then.
    async fn build(&self, plan: IndexPlan) -> SearchResult<Box<dyn IndexBuild>>;
    /// Deletes what was stored of an index whose import will never be committed.
    async fn discard(&self, index: IndexId) -> SearchResult<()>;
    /// Deletes all indexes of a collection up to the newest of `kept` but those of `kept`, and the files that only they need: superseded
    /// ones, and those of imports that died or were overtaken. `kept` must be committed. What is newer may be an import's that is under way.
    async fn retain(&self, collection: CollectionId, kept: &[IndexId]) -> SearchResult<()>;
    /// Lists the keys of all objects that an index consists of; `None` where the engine keeps its indexes itself.
    ///
    /// # Errors
    /// [`SearchError::VersionGone`] where the index is not there at all.
    async fn objects_of(&self, _index: IndexId) -> SearchResult<Option<Vec<String>>> {
        Ok(None)
    }
    /// Looks whether all that is stored of an index is there with its length, and `full` also whether it
    /// has its checksum; gives what is wrong. An engine that keeps its indexes itself has nothing here.
    ///
    /// # Errors
    /// [`SearchError::VersionGone`] where the index is not there at all.
    async fn check(&self, _index: IndexId, _full: bool) -> SearchResult<Vec<IndexDamage>> {
        Ok(Vec::new())
    }
    /// Answers when the engine does; what is part of this process always does.
    async fn ping(&self) -> SearchResult<()>;
    /// The fields that a query may name.
    fn fields(&self) -> Vec<String>;
    /// The fields that can be facets.
    fn facet_fields(&self) -> Vec<String>;
}

/// Runs what blocks, or takes long, on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> SearchResult<T> + Send + 'static) -> SearchResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(SearchError::Index(error.to_string())),
    }
}
