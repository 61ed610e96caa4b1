//! What the search engine promises, on small real documents in a real object store (a folder).

#![expect(clippy::unwrap_used, reason = "what prepares a test may fail as loudly as the test itself")]

#[path = "search/analysis.rs"]
mod analysis;
#[path = "search/corpus.rs"]
mod corpus;
#[path = "search/language.rs"]
mod language;
#[path = "search/ordered.rs"]
mod ordered;
#[path = "search/versions.rs"]
mod versions;
