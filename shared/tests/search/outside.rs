//! The outside engine: how versions of an index come and go there.

use adit_shared::ids::VersionId;
use adit_shared::objects;
use adit_shared::search::{Address, IndexPlan, Language, OpenSearch, Query, Search as _, SearchError, Sort};
use serde_json::json;

use crate::corpus::{Bench, COLLECTION, Paper, add, ids, ids_in, index, made_by, page, paper, papers, plan};

/// Versions and imports that the tests here make.
const VERSIONS: u32 = 4;
const IMPORTS: [u64; 4] = [21, 22, 31, 41];

/// Runs a test on an empty engine, if there is one.
pub(crate) async fn on_engine<F: Future<Output = ()>>(test: impl FnOnce(Bench<OpenSearch>) -> F) {
    let Ok(url) = std::env::var("ADIT_TEST_SEARCH_URL") else {
        println!("skipped: ADIT_TEST_SEARCH_URL is not set");
        return;
    };
    let sign = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{sign}prefix=t{:016x}", rand::random::<u64>());
    let search = OpenSearch::new(Address::parse(&url).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let objects = objects::open(&format!("file://{}", folder.path().display())).await.unwrap();
    test(Bench { folder, objects, search: search.clone() }).await;
    for version in 1..=VERSIONS {
        for import in IMPORTS.into_iter().chain([version.into()]) {
            search.discard(made_by(version, import)).await.unwrap();
        }
    }
}

fn new_edition() -> Paper {
    paper(9, "jose.00021", json!({"title": "CFD Julia: the 12 steps", "issued": "2021"}), &["txt"], "Now in Julia.")
}

#[tokio::test]
async fn an_old_version_answers_as_before_and_replaced_documents_vanish_from_the_new_one() {
    on_engine(async |bench| {
        let bench = bench.and_papers().await;
        bench.import(2, &[new_edition()], &[(9, 1)]).await;
        let engine = &bench.search;
        assert_eq!(ids(engine, 1, "cfd").await.unwrap(), [1]);
        assert_eq!(ids(engine, 2, "cfd").await.unwrap(), [9]);
        assert_eq!(ids(engine, 2, "ref:jose.00021").await.unwrap(), [9]);
        assert_eq!(ids(engine, 1, "julia").await.unwrap(), [0; 0]);
        assert_eq!(ids(engine, 2, "*").await.unwrap(), [2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(page(engine, 2, "*", Sort::Date, 0, 1).await.unwrap().hits[0].id.0, 9);
        // Without a document.
        let mut build = engine.build(plan(index(2), 3)).await.unwrap();
        build.remove(VersionId(9)).await.unwrap();
        build.remove(VersionId(1)).await.unwrap();
        build.finish().await.unwrap();
        assert_eq!(ids(engine, 3, "*").await.unwrap(), [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(ids(engine, 2, "cfd").await.unwrap(), [9]);
    })
    .await;
}

#[tokio::test]
async fn an_empty_collection_has_no_hits_and_still_reads_queries() {
    on_engine(async |bench| {
        let engine = &bench.search;
        assert_eq!(ids(engine, 0, "python OR *").await.unwrap(), [0; 0]);
        assert!(matches!(ids(engine, 0, "titel:x").await, Err(SearchError::UnknownField { .. })));
        assert!(matches!(ids(engine, 3, "a").await, Err(SearchError::VersionGone(3))));
        assert!(matches!(engine.build(plan(index(3), 4)).await.err(), Some(SearchError::VersionGone(3))));
        bench.import(1, &[], &[]).await;
        assert_eq!(ids(engine, 1, "*").await.unwrap(), [0; 0]);
        engine.ping().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn two_imports_that_make_one_version_do_not_disturb_each_other_and_what_is_not_kept_goes() {
    on_engine(async |bench| {
        let bench = bench.and_papers().await;
        let engine = &bench.search;
        let mut one = engine.build(plan(index(1), 21)).await.unwrap();
        let mut two = engine.build(plan(index(1), 22)).await.unwrap();
        add(&mut *one, &[new_edition()], &[(9, 1)]).await;
        add(&mut *two, &[Paper { id: 10, ..new_edition() }], &[(10, 2)]).await;
        one.finish().await.unwrap();
        two.finish().await.unwrap();
        let (won, lost) = (made_by(2, 21), made_by(2, 22));
        assert_eq!(ids_in(engine, won, "cfd OR rokem").await.unwrap(), [2, 9]);
        assert_eq!(ids_in(engine, lost, "cfd OR rokem").await.unwrap(), [1, 10]);

        // One import is under way, one died in the middle.
        let mut under_way = engine.build(plan(won, 31)).await.unwrap();
        drop(engine.build(plan(index(1), 41)).await.unwrap());
        assert!(matches!(engine.retain(COLLECTION, &[index(2)]).await, Err(SearchError::VersionGone(2))));
        engine.retain(COLLECTION, &[won]).await.unwrap();
        engine.retain(COLLECTION, &[won]).await.unwrap();
        for gone in [index(1), lost] {
            assert!(matches!(ids_in(engine, gone, "*").await, Err(SearchError::VersionGone(_))));
        }
        assert_eq!(ids_in(engine, won, "cfd OR rokem").await.unwrap(), [2, 9]);
        add(&mut *under_way, &[Paper { id: 11, ..new_edition() }], &[(11, 9)]).await;
        under_way.finish().await.unwrap();
        assert_eq!(ids_in(engine, made_by(3, 31), "cfd").await.unwrap(), [11]);
        engine.discard(made_by(3, 31)).await.unwrap();
        assert!(matches!(ids_in(engine, made_by(3, 31), "*").await, Err(SearchError::VersionGone(3))));
    })
    .await;
}

#[tokio::test]
async fn an_index_of_another_language_is_made_anew_beside_the_old_one() {
    on_engine(async |bench| {
        let bench = bench.and_papers().await;
        let engine = &bench.search;
        let english = IndexPlan { language: Some(Language::En), ..plan(index(1), 2) };
        assert!(matches!(engine.build(english).await.err(), Some(SearchError::Outdated(_))));
        let mut anew = engine.build(IndexPlan { afresh: true, ..english }).await.unwrap();
        add(&mut *anew, &papers(), &[]).await;
        assert_eq!(ids(engine, 1, "learned").await.unwrap(), [0; 0]);
        anew.finish().await.unwrap();
        assert_eq!(
            (engine.language(index(1)).await.unwrap(), engine.language(index(2)).await.unwrap()),
            (None, Some(Language::En))
        );
        assert_eq!(ids(engine, 1, "learned").await.unwrap(), [0; 0]);
        assert_eq!(ids(engine, 2, "learned").await.unwrap(), [1, 2, 6, 8]);
        assert_eq!(ids(engine, 2, "=learned").await.unwrap(), [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn many_hits_come_whole_and_pages_reach_deep() {
    on_engine(async |bench| {
        let many: Vec<Paper> = (1..=25_000)
            .map(|id| {
                paper(
                    id,
                    "x",
                    json!({"subject": format!("s{}", id % 300)}),
                    &[],
                    if id % 2 == 0 { "even" } else { "odd" },
                )
            })
            .collect();
        bench.import(1, &many, &[]).await;
        let engine = &bench.search;
        assert_eq!(engine.matching(index(1), &Query::All).await.unwrap(), (1..=25_000).collect());
        assert_eq!(
            engine.matching(index(1), &adit_shared::search::parse("even").unwrap()).await.unwrap().len(),
            12_500
        );
        for sort in [Sort::Relevance, Sort::Ref] {
            let deep = page(engine, 1, "odd", sort, 12_490, 1000).await.unwrap();
            assert_eq!(deep.total, 12_500);
            assert!(deep.hits.iter().map(|hit| hit.id.0).eq((24_981..=25_000).step_by(2)), "{sort:?}");
        }
        let subject = ["subject".to_owned()];
        let query = Query::All;
        let wanted =
            adit_shared::search::SearchPage { query: &query, sort: Sort::Ref, offset: 0, limit: 0, facets: &subject };
        let answer = engine.search(index(1), wanted).await.unwrap();
        assert_eq!((answer.total, answer.facets["subject"].len()), (25_000, 100));
        assert!(answer.facets["subject"].iter().all(|counted| counted.count == 84));
    })
    .await;
}
