//! The examples of `docs/SEARCH.md` in the Elasticsearch DSL do what is said there.

use adit_shared::search::Source;
use serde_json::Value;

use crate::{Bench, FEW, corpus};

fn section() -> &'static str {
    let page = include_str!("../../../docs/SEARCH.md");
    let behind = page.split_once("## The Elasticsearch DSL\n").unwrap().1;
    behind.split_once("\n## ").unwrap().0
}

fn object(text: &str) -> Source {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { panic!("{text} is no object") };
    Source::Dsl(object)
}

/// The rows of two cells with code whose first begins with a brace.
fn pairs(section: &str) -> Vec<(&str, &str)> {
    section
        .lines()
        .filter(|line| line.starts_with("| `{"))
        .map(|line| line.trim_start_matches("| `").trim_end_matches("` |").split_once("` | `").unwrap())
        .collect()
}

#[test]
fn both_languages_find_what_the_page_says_is_the_same() {
    let imports = corpus::imports(7, &FEW);
    let bench = Bench::new(&imports, None);
    let found = |source: &Source| {
        let query = source.read().unwrap_or_else(|error| panic!("{source:?}: {error}"));
        bench.found(FEW.len(), &query).unwrap_or_else(|error| panic!("{source:?}: {error}"))
    };
    let pairs = pairs(section());
    assert!(pairs.len() > 15);
    for (dsl, text) in pairs {
        let hits = found(&object(dsl));
        assert_eq!(hits, found(&Source::from(text)), "{dsl} {text}");
        assert!(!hits.is_empty(), "{dsl} finds nothing");
    }
    for block in section().split("```json\n").skip(1) {
        found(&object(block.split_once("```").unwrap().0));
    }
}
