//! Checks of the query languages that must hold for any input; see [`crate::fuzzing`].

use std::sync::LazyLock;

use roaring::RoaringBitmap;
use serde_json::{Map, Value, json};
use tantivy::{Index, IndexWriter, Searcher};

use super::control::{SearchControl, SearchLimits};
use super::controlled::ControlledSearch;
use super::opensearch::lower_for;
use super::schema::Layout;
use super::{Bool, IndexDocument, Language, Query, SearchResult, Source, collect, lower, schema, words};
use crate::domain::Access;
use crate::ids::VersionId;

/// Deepest tree: both languages have at most 32 groups within groups, each of which has a few
/// levels.
const MAX_DEPTH: usize = 160;
/// Memory in bytes for the postings of the small indexes; Tantivy's least.
const WRITER_MEMORY: usize = 15_000_000;

/// Documents that are searched: few, so that a query costs little.
static INDEXES: LazyLock<[(Option<Language>, Searcher); 2]> = LazyLock::new(|| {
    let index = |language| match small_index(language) {
        Ok(searcher) => (language, searcher),
        Err(error) => panic!("no index to search: {error}"),
    };
    [None, Some(Language::En)].map(index)
});

fn small_index(language: Option<Language>) -> SearchResult<Searcher> {
    let layout = Layout::of(language);
    let builder = Index::builder().schema(layout.schema.clone()).tokenizers(words::tokenizers(language));
    let index = builder.create_in_ram()?;
    let mut writer: IndexWriter = index.writer_with_num_threads(1, WRITER_MEMORY)?;
    let documents = [
        (
            "a.1",
            json!({"title": "Soil and mining", "issued": "2018-06-30", "language": "en"}),
            "the soil of the mine the soil",
        ),
        ("b.2", json!({"title": "Méthodes", "creator": ["Ada L.", "Bo"], "issued": "1999"}), "a a a b a b c"),
        (
            "c.3",
            json!({"subject": ["x", "y z"], "type": "Text", "issued": ["2001-02", "soon"]}),
            "東京 deep-sea o'clock",
        ),
        ("d.4", json!({}), ""),
    ];
    for (id, (r#ref, metadata, text)) in (1_u32..).zip(&documents) {
        let empty = Map::new();
        let metadata = metadata.as_object().unwrap_or(&empty);
        let (id, formats) = (VersionId(id), vec!["txt"]);
        let access = &Access::Open;
        let document = IndexDocument { id, replaces: None, r#ref, access, metadata, formats, text: Some(text) };
        writer.add_document(schema::entry(layout, &document))?;
    }
    writer.commit()?;
    Ok(index.reader()?.searcher())
}

/// Reads a text as a query of the query language; checks the tree, and searches for it.
pub fn check_query_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let source = Source::Text(text.clone());
    let Ok(query) = source.read() else { return };
    assert_eq!(Source::from_stored(&source.stored()), source, "it is kept as another query");
    let nodes = check_tree(&query, 0);
    assert!(nodes <= 2 * text.len() + 1, "{nodes} nodes");
    check_search(query);
}

/// Reads bytes as a query of the Elasticsearch DSL; checks the tree, and searches for it.
pub fn check_query_dsl(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
    let source = Source::Dsl(object);
    let Ok(query) = source.read() else { return };
    let again = Source::from_stored(&source.stored()).read();
    assert_eq!(again.ok().as_ref(), Some(&query), "it is kept as another query");
    check_tree(&query, 0);
    check_search(query);
}

/// Counts the nodes of a tree, none of which may lie too deep.
fn check_tree(query: &Query, depth: usize) -> usize {
    assert!(depth <= MAX_DEPTH, "a tree of more than {MAX_DEPTH} levels");
    let below = match query {
        Query::Bool(Bool { must, filter, should, must_not, .. }) => {
            [must, filter, should, must_not].into_iter().flatten().map(|query| check_tree(query, depth + 1)).sum()
        }
        Query::Boosted(inner, _) => check_tree(inner, depth + 1),
        _ => 0,
    };
    below + 1
}

/// Searches for a query and for what it excludes: together that is every document, and none is in
/// both.
fn check_search(query: Query) {
    let inverse = Query::Bool(Bool { must_not: vec![query.clone()], ..Bool::default() });
    for (language, searcher) in INDEXES.iter() {
        let search = |query: &Query| -> SearchResult<RoaringBitmap> {
            let control = SearchControl::new(SearchLimits::default().memory);
            let queries = lower::IndexQueries::new(Layout::of(*language), &control);
            let query = lower::lower(query, *language, &queries)?.controlled(&control);
            collect::ids(&ControlledSearch::new(searcher, query, queries.bytes(), true, &control)?)
        };
        // An outside engine takes what the own one takes.
        let outside = lower_for(&query, *language);
        let Ok(found) = search(&query) else { continue };
        assert!(outside.is_ok(), "only Tantivy takes it: {outside:?}");
        let Ok(others) = search(&inverse) else { panic!("it can be searched for, but not excluded") };
        assert!(found.is_disjoint(&others), "{found:?} and {others:?}");
        assert_eq!(found | others, (1..=4).collect::<RoaringBitmap>());
    }
}
