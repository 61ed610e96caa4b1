//! What the search engine promises, on small real documents in a real object store (a folder).

#[path = "search/corpus.rs"]
mod corpus;
#[path = "search/language.rs"]
mod language;
#[path = "search/versions.rs"]
mod versions;
