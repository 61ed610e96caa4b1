//! The engine against a plain evaluator: thousands of generated queries over a generated corpus find the same documents, whether they are given
//! as trees, in the query language or in the Elasticsearch DSL.
//!
//! A disagreement is told with its seed and the smallest query that shows it.

#![expect(clippy::unwrap_used, reason = "what prepares a test may fail as loudly as the test itself")]

#[path = "agreement/corpus.rs"]
mod corpus;
#[path = "agreement/examples.rs"]
mod examples;
#[path = "agreement/generate.rs"]
mod generate;
#[path = "agreement/naive.rs"]
mod naive;
#[path = "agreement/print.rs"]
mod print;
#[path = "agreement/shrink.rs"]
mod shrink;

use std::sync::Arc;

use adit_shared::ids::{CollectionId, ImportId, IndexId};
use adit_shared::objects;
use adit_shared::search::{
    Address, IndexPlan, Language, OpenSearch, Query, Search, SearchError, SearchPage, SearchResult, Sort, Source,
    TantivySearch, TextRights,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use corpus::Document;
use naive::Naive;

/// An engine over a corpus, whose imports have all come in.
struct Bench {
    runtime: Runtime,
    search: Arc<dyn Search>,
    folder: TempDir,
}

fn index(version: usize) -> IndexId {
    let import = u64::try_from(version).unwrap();
    IndexId { collection: CollectionId(7), corpus_version: version.try_into().unwrap(), import: Some(ImportId(import)) }
}

impl Bench {
    fn new(imports: &[Vec<Document>], language: Option<Language>) -> Self {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let url = format!("file://{}", folder.path().join("objects").display());
        let objects = runtime.block_on(objects::open(&url)).unwrap();
        let search = Arc::new(TantivySearch::new(objects, folder.path().join("cache")));
        Self { runtime, search, folder }.with(imports, language)
    }

    /// The same on the outside engine, if there is one.
    fn outside(imports: &[Vec<Document>], language: Option<Language>) -> Option<Self> {
        let url = std::env::var("ADIT_TEST_SEARCH_URL").ok()?;
        let sign = if url.contains('?') { '&' } else { '?' };
        let address = Address::parse(&format!("{url}{sign}prefix=t{:016x}", rand::random::<u64>())).unwrap();
        let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        Some(Self { runtime, search: Arc::new(OpenSearch::new(address).unwrap()), folder }.with(imports, language))
    }

    fn with(self, imports: &[Vec<Document>], language: Option<Language>) -> Self {
        self.runtime.block_on(async {
            for (version, documents) in imports.iter().enumerate() {
                let import = ImportId(version as u64 + 1);
                let plan = IndexPlan { base: index(version), import, language, afresh: false };
                let mut build = self.search.build(plan).await.unwrap();
                for document in documents {
                    build.add(document.entry()).await.unwrap();
                }
                build.finish().await.unwrap();
            }
        });
        self
    }

    fn found(&self, version: usize, query: &Query) -> SearchResult<Vec<u32>> {
        Ok(self.runtime.block_on(self.search.matching(index(version), query))?.into_iter().collect())
    }

    /// The hits of the whole answer, best first; an engine goes other ways to them where it weighs.
    fn weighed(&self, version: usize, query: &Query) -> SearchResult<Vec<u32>> {
        let page = SearchPage { query, sort: Sort::Relevance, offset: 0, limit: 10_000, facets: &[] };
        let answer = self.runtime.block_on(self.search.search(index(version), page))?;
        let mut hits: Vec<u32> = answer.hits.iter().map(|hit| hit.id.0).collect();
        hits.sort_unstable();
        assert_eq!(answer.total, hits.len() as u64);
        Ok(hits)
    }

    /// Takes its indexes away, wherever they are.
    fn remove(self, versions: usize) {
        for version in 1..=versions {
            self.runtime.block_on(self.search.discard(index(version))).unwrap();
        }
        self.folder.close().unwrap();
    }

    /// What the engine finds, if it is not what the plain evaluator does.
    fn disagreement(&self, version: usize, query: &Query, naive: &mut Naive) -> Option<String> {
        let expected = naive.matching(query);
        match (self.found(version, query), expected) {
            (Ok(found), Some(expected)) if found == expected => {
                let weighed = self.weighed(version, query);
                (!weighed.as_ref().is_ok_and(|weighed| *weighed == expected))
                    .then(|| format!("by relevance: {weighed:?}\nexpected:     {expected:?}"))
            }
            (Err(SearchError::Unsupported(message)), None) if message.contains("no letter or digit") => None,
            (found, expected) => Some(format!("the engine: {found:?}\nexpected:   {expected:?}")),
        }
    }
}

/// How many queries were compared, and how many of them in each of the two languages.
#[derive(Debug, Default)]
struct Compared {
    trees: usize,
    hits: usize,
    texts: usize,
    objects: usize,
}

/// Documents of each import of a corpus that a person can look through.
const FEW: [usize; 4] = [150, 40, 40, 5];
/// Engines go through documents in blocks of some hundreds or thousands.
const MANY: [usize; 2] = [6000, 200];

fn check(seeds: std::ops::Range<u64>, language: Option<Language>, counts: &[usize]) -> Compared {
    let imports = corpus::imports(2018, counts);
    compare(Bench::new(&imports, language), seeds, language, &imports)
}

fn compare(
    bench: Bench,
    seeds: std::ops::Range<u64>,
    language: Option<Language>,
    imports: &[Vec<Document>],
) -> Compared {
    let mut compared = Compared::default();
    let newest = imports.len();
    let mut by_version: Vec<(usize, Vec<&Document>, Naive)> = [newest, newest - 1]
        .map(|version| {
            let documents = corpus::after(&imports[..version]);
            let naive = Naive::new(&documents, language);
            (version, documents, naive)
        })
        .into();
    for seed in seeds {
        let (version, documents, naive) = &mut by_version[usize::from(seed % 10 == 0)];
        let query = generate::query(seed, documents);
        if bench.disagreement(*version, &query, naive).is_some() {
            let query = shrink::shrink(query, |query| bench.disagreement(*version, query, naive).is_some());
            let told = bench.disagreement(*version, &query, naive).unwrap();
            panic!("seed {seed}, {language:?}, version {version}:\n{query:#?}\n{told}");
        }
        let Some(expected) = naive.matching(&query) else { continue };
        let Query::AskedBy(_, rights) = &query else { panic!("seed {seed}: nobody asks {query:?}") };
        compared.trees += 1;
        compared.hits += usize::from(!expected.is_empty() && expected.len() < documents.len());
        if let Some(text) = print::text(&query, naive).filter(|text| text.len() < 8000) {
            compared.texts += 1;
            read_back(&bench, *version, rights, &Source::Text(text), &expected);
        }
        if let Some(Value::Object(object)) = print::dsl(&query) {
            compared.objects += 1;
            read_back(&bench, *version, rights, &Source::Dsl(object), &expected);
        }
    }
    bench.remove(newest);
    compared
}

/// What is written in one of the languages finds what the tree does.
fn read_back(bench: &Bench, version: usize, rights: &TextRights, source: &Source, expected: &[u32]) {
    let kept = Source::from_stored(&source.stored());
    assert_eq!(&kept, source);
    let asked = |query| Query::AskedBy(Box::new(query), rights.clone());
    let found = source.read().and_then(|query| bench.found(version, &asked(query)));
    let found = found.unwrap_or_else(|error| panic!("{error}\n{source:?}"));
    assert_eq!(found, expected, "{source:?}\n{rights:?}");
}

/// Queries that all find nothing, or everything, would agree easily.
fn worth_while(compared: &Compared) {
    eprintln!("{compared:?}");
    assert!(compared.hits * 2 > compared.trees, "{compared:?}");
    assert!(compared.texts * 3 > compared.trees && compared.objects * 3 > compared.trees, "{compared:?}");
}

#[test]
fn words_of_no_language_are_found_as_the_tree_says() {
    worth_while(&check(0..4700, None, &FEW));
}

#[test]
fn words_among_many_documents_are_found_as_the_tree_says() {
    worth_while(&check(5000..5080, None, &MANY));
    worth_while(&check(5500..5580, Some(Language::En), &MANY));
}

#[test]
fn english_words_are_found_as_the_tree_says() {
    worth_while(&check(10_000..14_700, Some(Language::En), &FEW));
}

#[test]
fn german_and_japanese_words_are_found_as_the_tree_says() {
    worth_while(&check(20_000..20_250, Some(Language::De), &FEW));
    worth_while(&check(30_000..30_250, Some(Language::Ja), &FEW));
}

#[test]
fn the_outside_engine_finds_what_the_tree_says() {
    for (seeds, language, counts) in [
        (0..300, None, &FEW[..]),
        (10_000..10_300, Some(Language::En), &FEW),
        (20_000..20_050, Some(Language::De), &FEW),
        (30_000..30_050, Some(Language::Ja), &FEW),
        (5000..5050, Some(Language::En), &MANY),
    ] {
        let imports = corpus::imports(2018, counts);
        let Some(bench) = Bench::outside(&imports, language) else {
            println!("skipped: ADIT_TEST_SEARCH_URL is not set");
            return;
        };
        worth_while(&compare(bench, seeds, language, &imports));
    }
}
