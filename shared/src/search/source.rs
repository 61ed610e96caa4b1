//! A query as a miner writes it: in the query language, or as an object of the Elasticsearch query DSL.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Query, SearchResult, dsl};

/// A query in one of its two languages; see `docs/SEARCH.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Source {
    /// In the query language.
    #[schema(examples("title:mining AND issued:[2018 TO 2020]"))]
    Text(String),
    /// In the Elasticsearch query DSL: an object with one member, such as `match`.
    Dsl(Map<String, Value>),
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// [`super::SearchError::Syntax`] and [`super::SearchError::Unsupported`]. Which fields there are, only the engine says.
    pub fn read(&self) -> SearchResult<Query> {
        match self {
            Self::Text(text) => super::parse(text),
            Self::Dsl(object) => dsl::read(object),
        }
    }

    /// As it is kept: a text, which begins with a brace only if it is an object.
    #[must_use]
    pub fn stored(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Dsl(object) => serde_json::to_string(object).unwrap_or_default(),
        }
    }

    /// What [`Source::stored`] made.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        let object = || serde_json::from_str(text).ok().map(Self::Dsl);
        if text.starts_with('{') { object() } else { None }.unwrap_or_else(|| Self::Text(text.to_owned()))
    }
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
