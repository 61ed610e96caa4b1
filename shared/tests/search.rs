//! What the search engines promise, on small real documents: Tantivy in a real object store (a folder) always, and the outside engine where
//! `ADIT_TEST_SEARCH_URL` names one (each test makes indexes of its own there, and deletes them).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what prepares a test may fail as loudly as the test itself, and what is skipped is said"
)]

#[path = "search/analysis.rs"]
mod analysis;
#[path = "search/bombs.rs"]
mod bombs;
#[path = "search/corpus.rs"]
mod corpus;
#[path = "search/hostile_queries.rs"]
mod hostile_queries;
#[path = "search/language.rs"]
mod language;
#[path = "search/ordered.rs"]
mod ordered;
#[path = "search/outside.rs"]
mod outside;
#[path = "search/versions.rs"]
mod versions;

/// Makes of each case one test for each engine.
macro_rules! on_every_engine {
    ($($case:ident),+ $(,)?) => {
        mod tantivy {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::language::$case(crate::corpus::Bench::empty().await).await;
                }
            )+
        }
        mod opensearch {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::outside::on_engine(crate::language::$case).await;
                }
            )+
        }
    };
}

on_every_engine! {
    every_construct_finds_what_it_says,
    dates_are_spans_and_included_bounds_are_included_whole,
    mistakes_are_named,
    pages_follow_each_other_in_every_order,
    facets_count_values_as_they_are_written,
    a_facet_has_a_hundred_values_at_most_the_most_frequent_first,
}
