//! A handful of real papers, and an engine over them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use adit_shared::domain::Access;
use adit_shared::ids::{CollectionId, ImportId, IndexId, VersionId};
use adit_shared::objects::{self, ObjectStore};
use adit_shared::search::{
    IndexBuild, IndexDocument, IndexPlan, Search, SearchAnswer, SearchPage, SearchResult, Sort, Source, TantivySearch,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The collection of all tests.
pub(crate) const COLLECTION: CollectionId = CollectionId(7);

/// The index of a corpus version, made by the import of the same number.
pub(crate) fn index(corpus_version: u32) -> IndexId {
    made_by(corpus_version, corpus_version.into())
}

/// The index of a corpus version that this import has made, or tried to make.
pub(crate) fn made_by(corpus_version: u32, import: u64) -> IndexId {
    IndexId { collection: COLLECTION, corpus_version: corpus_version.into(), import: Some(ImportId(import)) }
}

/// What an import makes on top of `base`.
pub(crate) fn plan(base: IndexId, import: u64) -> IndexPlan {
    IndexPlan { base, import: ImportId(import), language: None, afresh: false }
}

/// A document in the hands of a test.
#[derive(Debug, Clone)]
pub(crate) struct Paper {
    pub(crate) id: u32,
    pub(crate) r#ref: &'static str,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) formats: Vec<&'static str>,
    pub(crate) text: Option<String>,
}

pub(crate) fn paper(id: u32, r#ref: &'static str, metadata: Value, formats: &[&'static str], text: &str) -> Paper {
    let Value::Object(metadata) = metadata else { panic!("metadata is an object") };
    let text = (!text.is_empty()).then(|| text.to_owned());
    Paper { id, r#ref, metadata, formats: formats.to_vec(), text }
}

const CC_BY: &str = "http://creativecommons.org/licenses/by/4.0/";

/// Papers 1 to 8, not in the order of their refs or dates.
pub(crate) fn papers() -> Vec<Paper> {
    let jose = |title: &str, creator: Value, issued: &str, doi: &str| {
        json!({"title": title, "creator": creator, "issued": issued, "publisher": "The Open Journal",
               "isPartOf": "Journal of Open Source Education", "type": "Article", "language": "en",
               "identifier": format!("https://doi.org/10.21105/{doi}"), "license": CC_BY})
    };
    vec![
        paper(
            1,
            "jose.00021",
            jose(
                "CFD Python: the 12 steps to Navier-Stokes equations",
                json!(["Lorena Barba", "Gilbert Forsyth"]),
                "2018-11-12",
                "jose.00021",
            ),
            &["pdf", "txt"],
            "CFD Python, a.k.a. the 12 steps to Navier–Stokes, is a practical module for learning the foundations of Computational Fluid Dynamics.",
        ),
        paper(
            2,
            "jose.00016",
            jose(
                "A short course about fitting models with the scipy.optimize module",
                json!("Ariel Rokem"),
                "2018-07-04",
                "jose.00016",
            ),
            &["pdf", "txt", "xml"],
            "Fitting a model to data is a fundamental step in learning from data. The short course uses Python and fluid examples.",
        ),
        paper(
            3,
            "jose.00029",
            jose(
                "Mikrokosmos: an educational lambda calculus interpreter",
                json!(["Mario Roma\u{301}n"]),
                "2018-10-24",
                "jose.00029",
            ),
            &["pdf", "txt"],
            "Mikrokosmos is an untyped lambda calculus interpreter. It doesn't need Python.",
        ),
        paper(
            4,
            "gdz.PPN235181684",
            json!({"title": "Über die von der molekularkinetischen Theorie der Wärme geforderte Bewegung", "creator": "Albert Einstein",
                   "issued": 1905, "language": "de", "type": "Article", "subject": ["Brownian motion", "kinetic theory", "brownian motion"]}),
            &["txt"],
            "In dieser Arbeit soll gezeigt werden, daß nach der molekularkinetischen Theorie der Wärme in Flüssigkeiten Körper Bewegungen ausführen.",
        ),
        paper(
            5,
            "jose.00075",
            jose(
                "An introduction to programming Physics-Informed Neural Networks",
                json!(["Barba Torres"]),
                "2020-06",
                "jose.00075",
            ),
            &["pdf"],
            "",
        ),
        paper(
            6,
            "arxiv/深層学習",
            json!({"title": "深層学習の基礎", "issued": ["2019-01-01T00:30:00+01:00", "not a date"], "language": "ja", "license": CC_BY, "extent": {"pages": 4}}),
            &["txt"],
            "機械学習 (machine learning) と深層学習の違い。",
        ),
        paper(
            7,
            "Undated",
            json!({"title": "An undated note on fluid motion", "subject": "Brownian motion", "abstract": "About motion. About Brownian things."}),
            &[],
            "",
        ),
        paper(
            8,
            "jose.00100",
            jose("Teaching Python with Python", json!(["Lorena Barba", null, 7]), "2020-12-31", "jose.00100"),
            &["txt"],
            "Python Python Python: learning by doing.",
        ),
    ]
}

/// A folder as object store, and an engine; Tantivy has its cache there too.
pub(crate) struct Bench<S = TantivySearch> {
    pub(crate) folder: TempDir,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) search: S,
}

impl Bench {
    pub(crate) async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().join("objects").display());
        let objects = objects::open(&url).await.unwrap();
        let search = TantivySearch::new(Arc::clone(&objects), folder.path().join("cache"));
        Self { folder, objects, search }
    }

    pub(crate) async fn with_papers() -> Self {
        Self::empty().await.and_papers().await
    }

    /// Another engine over the same objects, with its cache in `folder`.
    pub(crate) fn other(&self, folder: &str) -> TantivySearch {
        TantivySearch::new(Arc::clone(&self.objects), self.cache(folder))
    }

    pub(crate) fn cache(&self, folder: &str) -> std::path::PathBuf {
        self.folder.path().join(folder)
    }
}

impl<S: Search> Bench<S> {
    /// With the papers as corpus version 1.
    pub(crate) async fn and_papers(self) -> Self {
        self.import(1, &papers(), &[]).await;
        self
    }

    /// Imports papers as that version; `replaced` pairs new ids with old ones.
    pub(crate) async fn import(&self, version: u32, papers: &[Paper], replaced: &[(u32, u32)]) {
        let mut build = self.search.build(plan(index(version - 1), version.into())).await.unwrap();
        add(&mut *build, papers, replaced).await;
        build.finish().await.unwrap();
    }

    pub(crate) async fn ids(&self, query: &str) -> Vec<u32> {
        ids(&self.search, 1, query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

pub(crate) async fn add(build: &mut dyn IndexBuild, papers: &[Paper], replaced: &[(u32, u32)]) {
    for paper in papers {
        let replaces = replaced.iter().find(|(new, _)| *new == paper.id).map(|(_, old)| VersionId(*old));
        let document = IndexDocument {
            id: VersionId(paper.id),
            replaces,
            r#ref: paper.r#ref,
            access: &Access::Open,
            metadata: &paper.metadata,
            formats: paper.formats.clone(),
            text: paper.text.as_deref(),
        };
        build.add(document).await.unwrap();
    }
}

/// All matching ids in a corpus version; a page of the same query must agree.
pub(crate) async fn ids(search: &impl Search, version: u32, query: &str) -> SearchResult<Vec<u32>> {
    ids_in(search, index(version), query).await
}

pub(crate) async fn ids_in(search: &impl Search, index: IndexId, query: &str) -> SearchResult<Vec<u32>> {
    let all: Vec<u32> = search.matching(index, &Source::from(query).read()?).await?.iter().collect();
    let whole =
        SearchPage { query: &Source::from(query).read()?, sort: Sort::Relevance, offset: 0, limit: 1000, facets: &[] };
    let answer = search.search(index, whole).await?;
    assert_eq!(answer.total, all.len() as u64, "{query}");
    assert_eq!(
        answer.hits.iter().map(|hit| hit.id.0).collect::<BTreeSet<_>>(),
        all.iter().copied().collect(),
        "{query}"
    );
    Ok(all)
}

pub(crate) async fn page(
    search: &impl Search,
    version: u32,
    query: &str,
    sort: Sort,
    offset: usize,
    limit: usize,
) -> SearchResult<SearchAnswer> {
    search
        .search(index(version), SearchPage { query: &Source::from(query).read()?, sort, offset, limit, facets: &[] })
        .await
}

/// Every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
