//! The query language and the answers: every construct, every mistake, orders, pages and facets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use adit_shared::search::{Query, Search, SearchError, SearchPage, Sort, parse};
use proptest::prelude::*;
use serde_json::json;

use crate::corpus::{Bench, Paper, ids, index, page, paper};

pub(crate) async fn every_construct_finds_what_it_says<S: Search>(bench: Bench<S>) {
    let bench = bench.and_papers().await;
    for (query, expected) in [
        // words, in any default field, joined by AND
        ("python", vec![1, 2, 3, 8]),
        ("PYTHON learning", vec![1, 2, 8]),
        ("python fluid", vec![1, 2]),
        ("python AND fluid", vec![1, 2]),
        ("lambda OR fluid", vec![1, 2, 3, 7]),
        ("lambda OR python fluid", vec![1, 2, 3]),
        ("(lambda OR python) learning", vec![1, 2, 8]),
        ("python NOT fluid", vec![3, 8]),
        ("python -fluid -lambda", vec![8]),
        ("-python", vec![4, 5, 6, 7]),
        ("NOT (python OR fluid)", vec![4, 5, 6]),
        ("lambda OR NOT python", vec![3, 4, 5, 6, 7]),
        ("+lambda OR python", vec![3]),
        ("*", vec![1, 2, 3, 4, 5, 6, 7, 8]),
        ("python & – learning", vec![1, 2, 8]),
        ("doesn't", vec![3]),
        // words lose case and diacritics on both sides
        ("roman", vec![3]),
        ("ROMÁN", vec![3]),
        ("warme uber", vec![4]),
        ("Navier-Stokes", vec![1]),
        // the journal is no default field
        ("journal", vec![]),
        ("isPartOf:journal", vec![1, 2, 3, 5, 8]),
        // phrases
        ("\"lambda calculus\"", vec![3]),
        ("\"calculus lambda\"", vec![]),
        ("\"lambda interpreter\"", vec![]),
        ("\"lambda interpreter\"~1", vec![3]),
        ("“lambda calculus”", vec![3]),
        ("creator:\"lorena barba\"", vec![1, 8]),
        ("creator:\"barba gilbert\"", vec![]),
        ("学習", vec![6]),
        ("機械学習 -習学", vec![6]),
        // fields
        ("title:python", vec![1, 8]),
        ("title:(python steps)", vec![1]),
        ("title:(lambda OR creator:einstein)", vec![3, 4]),
        ("creator:barba title:cfd", vec![1]),
        ("ref:jose.00016", vec![2]),
        ("ref:undated", vec![7]),
        ("ref:\"arxiv/深層学習\"", vec![6]),
        ("identifier:\"HTTPS://doi.org/10.21105/jose.00029\"", vec![3]),
        ("identifier:https\\://doi.org/10.21105/jose.00029", vec![3]),
        ("language:DE", vec![4]),
        ("type:article -language:en", vec![4]),
        ("format:xml", vec![2]),
        ("abstract:brownian", vec![7]),
        ("subject:motion", vec![4, 7]),
        // prefixes
        ("lamb*", vec![3]),
        ("Molekular*", vec![4]),
        ("title:pyth*", vec![1, 8]),
        ("ref:JOSE.000*", vec![1, 2, 3, 5]),
        ("phys* OR wärm*", vec![4, 5]),
        // sets
        ("language: IN [ja de]", vec![4, 6]),
        ("format:IN [ xml \"pdf\" ]", vec![1, 2, 3, 5]),
        ("creator: IN [einstein \"ariel rokem\"]", vec![2, 4]),
        ("issued: IN [1905 2020-06]", vec![4, 5]),
        // existence
        ("abstract:*", vec![7]),
        ("-text:*", vec![5, 7]),
        ("-issued:*", vec![7]),
        ("format:*", vec![1, 2, 3, 4, 5, 6, 8]),
        // boosts change the order only
        ("python^3 OR lambda^0.5", vec![1, 2, 3, 8]),
        ("(python fluid)^2", vec![1, 2]),
    ] {
        assert_eq!(bench.ids(query).await, expected, "{query}");
    }
}

pub(crate) async fn dates_are_spans_and_included_bounds_are_included_whole<S: Search>(bench: Bench<S>) {
    let bench = bench.and_papers().await;
    for (query, expected) in [
        ("issued:2018", vec![1, 2, 3, 6]),
        ("issued:2018-11", vec![1]),
        ("issued:2018-11-12", vec![1]),
        ("issued:2018-11-13", vec![]),
        ("year:1905", vec![4]),
        ("year:[2019 TO 2020-06]", vec![5]),
        ("year:[2019 TO 2020]", vec![5, 8]),
        ("issued:[2018 TO 2020-06]", vec![1, 2, 3, 5, 6]),
        ("issued:[2018-07-04 TO 2018-10-24]", vec![2, 3]),
        ("issued:{2018-07-04 TO 2018-10-24}", vec![]),
        ("issued:{2018-07 TO 2018-11}", vec![3]),
        ("issued:[2020 TO *]", vec![5, 8]),
        ("issued:[* TO 1905]", vec![4]),
        ("issued:[* TO *]", vec![1, 2, 3, 4, 5, 6, 8]),
        ("issued:>=2020-12-31", vec![8]),
        ("issued:>= 2020", vec![5, 8]),
        ("issued:>2020-06", vec![8]),
        ("issued:<2018", vec![4]),
        ("issued:<=2018-07", vec![2, 4]),
        ("-issued:2018", vec![4, 5, 7, 8]),
        ("year:2018", vec![1, 2, 3, 6]),
        ("decade:2010s OR decade:1900S", vec![1, 2, 3, 4, 6]),
        ("issued:[2020 TO 2018]", vec![]),
        // half past midnight in Paris is still the old year in UTC
        ("issued:\"2018-12-31T23:30:00Z\"", vec![6]),
        ("issued:[2018-12-31T23:30:00Z TO 2018-12-31T23:30:00Z]", vec![6]),
        ("issued:[0001 TO 9999]", vec![1, 2, 3, 4, 5, 6, 8]),
    ] {
        assert_eq!(bench.ids(query).await, expected, "{query}");
    }
}

pub(crate) async fn mistakes_are_named<S: Search>(bench: Bench<S>) {
    let bench = bench.and_papers().await;
    let fails = async |query: &str| ids(&bench.search, 1, query).await.map(drop).unwrap_err();
    for (query, wanted) in [("python AND", 10), ("title:\"a", 6), ("", 0), ("a (b", 2)] {
        let error = fails(query).await;
        assert!(matches!(error, SearchError::Syntax { position, .. } if position == wanted), "{query}: {error}");
    }
    for field in ["titel", "Title", "id", "_has", "title.x"] {
        let error = fails(&format!("{field}:x")).await;
        assert!(
            matches!(&error, SearchError::UnknownField { field: named, known } if named == field && known.contains(&"title".to_owned())),
            "{error}"
        );
    }
    for query in [
        "issued:soon",
        "issued:[2018 TO soon]",
        "issued:2018*",
        "title:[a TO b]",
        "ref:[a TO b]",
        "decade:[1990 TO 2000]",
        "state-of*",
        "&*",
        "a*",
        "ref:jose~1",
        "issued:2018~",
        "\"a b\"~99",
        "…",
    ] {
        let error = fails(query).await;
        assert!(matches!(error, SearchError::Unsupported(_)), "{query}: {error:?}");
    }
    for bounded in ["ab* ".repeat(33), "a ".repeat(600), format!("\"{}\"", "a ".repeat(600)), "word~ ".repeat(10)] {
        assert!(matches!(fails(&bounded).await, SearchError::Unsupported(_)), "{bounded}");
    }
    let facets = ["title".to_owned()];
    let unknown = SearchPage { query: &Query::All, sort: Sort::Ref, offset: 0, limit: 1, facets: &facets };
    let error = bench.search.search(index(1), unknown).await.unwrap_err();
    assert!(matches!(error, SearchError::UnknownField { known, .. } if known == bench.search.facet_fields()));
}

pub(crate) async fn pages_follow_each_other_in_every_order<S: Search>(bench: Bench<S>) {
    let bench = bench.and_papers().await;
    for (query, sort, expected) in [
        ("*", Sort::Relevance, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        ("*", Sort::Date, vec![8, 5, 6, 1, 3, 2, 4, 7]),
        ("*", Sort::Ref, vec![7, 6, 4, 2, 1, 3, 5, 8]),
        ("python", Sort::Date, vec![8, 1, 3, 2]),
    ] {
        for size in [1, 3, 8, 100] {
            let mut got = Vec::new();
            loop {
                let answer = page(&bench.search, 1, query, sort, got.len(), size).await.unwrap();
                assert_eq!(answer.total, expected.len() as u64);
                assert!(answer.hits.iter().all(|hit| hit.score.is_some() == (sort == Sort::Relevance)));
                if answer.hits.is_empty() {
                    break;
                }
                got.extend(answer.hits.iter().map(|hit| hit.id.0));
            }
            assert_eq!(got, expected, "{query} {sort:?} by {size}");
        }
    }
    let best = page(&bench.search, 1, "python", Sort::Relevance, 0, 1).await.unwrap();
    assert_eq!(best.hits[0].id.0, 8, "the paper that says it most often, in the shortest text");
    let boosted = page(&bench.search, 1, "python OR lambda^50", Sort::Relevance, 0, 1).await.unwrap();
    assert_eq!(boosted.hits[0].id.0, 3);
    let counted = page(&bench.search, 1, "python", Sort::Ref, 0, 0).await.unwrap();
    assert_eq!((counted.total, counted.hits.len()), (4, 0));
    let beyond = page(&bench.search, 1, "python", Sort::Date, usize::MAX, usize::MAX).await.unwrap();
    assert_eq!((beyond.total, beyond.hits.len()), (4, 0));
}

pub(crate) async fn facets_count_values_as_they_are_written<S: Search>(bench: Bench<S>) {
    let bench = bench.and_papers().await;
    let facets = bench.search.facet_fields();
    let wanted = SearchPage { query: &Query::All, sort: Sort::Relevance, offset: 0, limit: 0, facets: &facets };
    let answer = bench.search.search(index(1), wanted).await.unwrap();
    let of = |field: &str| -> Vec<(String, u64)> {
        answer.facets[field].iter().map(|facet| (facet.value.clone(), facet.count)).collect()
    };
    assert_eq!(answer.facets.len(), facets.len());
    assert_eq!(of("language"), [("en".into(), 5), ("de".into(), 1), ("ja".into(), 1)]);
    assert_eq!(of("format"), [("txt".into(), 6), ("pdf".into(), 4), ("xml".into(), 1)]);
    // A value that a document repeats counts once; another spelling is another value.
    assert_eq!(
        of("subject"),
        [("Brownian motion".into(), 2), ("brownian motion".into(), 1), ("kinetic theory".into(), 1)]
    );
    assert_eq!(of("year"), [("2018".into(), 4), ("2020".into(), 2), ("1905".into(), 1)]);
    assert_eq!(of("decade"), [("2010s".into(), 4), ("2020s".into(), 2), ("1900s".into(), 1)]);
    assert_eq!(of("creator")[0], ("Lorena Barba".into(), 2));
    assert!(of("creator").contains(&("7".into(), 1)));
    let some = SearchPage {
        query: &parse("python").unwrap(),
        facets: &["year".to_owned()],
        ..SearchPage { query: &Query::All, sort: Sort::Date, offset: 0, limit: 2, facets: &[] }
    };
    let answer = bench.search.search(index(1), some).await.unwrap();
    assert_eq!((answer.total, answer.hits.len(), answer.facets["year"].len()), (4, 2, 2));
}

pub(crate) async fn a_facet_has_a_hundred_values_at_most_the_most_frequent_first<S: Search>(bench: Bench<S>) {
    let papers: Vec<Paper> = (1..=150)
        .map(|id| paper(id, "x", json!({"subject": (0..150).filter(|n| n % id == 0).collect::<Vec<u32>>()}), &[], ""))
        .collect();
    bench.import(1, &papers, &[]).await;
    let facets = ["subject".to_owned()];
    let wanted = SearchPage { query: &Query::All, sort: Sort::Ref, offset: 0, limit: 0, facets: &facets };
    let values = &bench.search.search(index(1), wanted).await.unwrap().facets["subject"];
    assert_eq!(values.len(), 100);
    assert_eq!((values[0].value.as_str(), values[0].count), ("0", 150));
    assert!(values.windows(2).all(|pair| (pair[1].count, &pair[0].value) < (pair[0].count, &pair[1].value)));
}

#[tokio::test]
async fn facets_are_exact_over_all_parts_of_an_index() {
    // Few values that many have and many that few have; in each import others are frequent.
    for rare in [300_u32, 25_000] {
        let bench = Bench::empty().await;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for version in 1..=3_u32 {
            let of = |n: u32| -> Vec<String> {
                let frequent = (0..150).filter(|value| n.is_multiple_of(2 + (value + 50 * version) % 60));
                let frequent = frequent.map(|value| format!("often {value}"));
                let rare = (0..rare).filter(|value| value % 40 == n && value.is_multiple_of(version));
                frequent.chain(rare.map(|value| format!("rare {value}"))).collect()
            };
            let papers: Vec<Paper> = (0..40)
                .map(|n| {
                    let subjects = of(n);
                    subjects.iter().for_each(|value| *counts.entry(value.clone()).or_default() += 1);
                    paper(version * 100 + n, "x", json!({"subject": subjects}), &[], "")
                })
                .collect();
            bench.import(version, &papers, &[]).await;
        }
        let mut expected: Vec<(u64, String)> = counts.into_iter().map(|(value, count)| (count, value)).collect();
        expected.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        expected.truncate(100);
        let facets = ["subject".to_owned()];
        let wanted = SearchPage { query: &Query::All, sort: Sort::Ref, offset: 0, limit: 0, facets: &facets };
        let answer = bench.search.search(index(3), wanted).await.unwrap();
        let found: Vec<_> = answer.facets["subject"].iter().map(|facet| (facet.count, facet.value.clone())).collect();
        assert_eq!(found, expected);
    }
}

const WORDS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

/// Thirty-two documents: every set of the words.
static SETS: LazyLock<(tokio::runtime::Runtime, Bench)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let papers: Vec<Paper> = (0..32)
        .map(|set: u32| {
            let words: Vec<&str> = (0..5).filter(|bit| set >> bit & 1 == 1).map(|bit| WORDS[bit as usize]).collect();
            paper(set, "x", json!({"title": words.first(), "abstract": words.get(1..)}), &[], "")
        })
        .collect();
    let bench = runtime.block_on(async {
        let bench = Bench::empty().await;
        // Two segments and a few deletions, as in real life.
        bench.import(1, &papers[..20], &[]).await;
        bench.import(2, &papers[20..], &[]).await;
        bench
    });
    (runtime, bench)
});

#[derive(Debug, Clone)]
enum Expression {
    Word(usize),
    Not(Box<Expression>, bool),
    And(Vec<Expression>, bool),
    Or(Vec<Expression>),
}

impl Expression {
    fn holds(&self, set: u32) -> bool {
        match self {
            Self::Word(word) => set >> word & 1 == 1,
            Self::Not(inner, _) => !inner.holds(set),
            Self::And(all, _) => all.iter().all(|inner| inner.holds(set)),
            Self::Or(any) => any.iter().any(|inner| inner.holds(set)),
        }
    }

    /// As few parentheses as precedence allows: NOT before AND before OR.
    fn write(&self) -> String {
        let grouped = |inner: &Self, group: bool| if group { format!("({})", inner.write()) } else { inner.write() };
        match self {
            Self::Word(word) => WORDS[*word].to_owned(),
            Self::Not(inner, sign) => {
                let text = grouped(inner, !matches!(**inner, Self::Word(_)));
                if *sign { format!("-{text}") } else { format!("NOT {text}") }
            }
            Self::And(all, explicit) => {
                let parts: Vec<String> = all.iter().map(|inner| grouped(inner, matches!(inner, Self::Or(_)))).collect();
                parts.join(if *explicit { " AND " } else { " " })
            }
            Self::Or(any) => any.iter().map(Self::write).collect::<Vec<_>>().join(" OR "),
        }
    }
}

fn expression() -> impl Strategy<Value = Expression> {
    (0..5_usize).prop_map(Expression::Word).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), any::<bool>()).prop_map(|(inner, sign)| Expression::Not(Box::new(inner), sign)),
            (prop::collection::vec(inner.clone(), 2..4), any::<bool>())
                .prop_map(|(all, explicit)| Expression::And(all, explicit)),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

proptest! {
    #[test]
    fn boolean_queries_agree_with_a_naive_evaluator(expression in expression()) {
        let (runtime, bench) = &*SETS;
        let query = expression.write();
        let expected: BTreeSet<u32> = (0..32).filter(|set| expression.holds(*set)).collect();
        let got: BTreeSet<u32> = runtime.block_on(ids(&bench.search, 2, &query)).unwrap().into_iter().collect();
        prop_assert_eq!(got, expected, "{}", query);
    }

    #[test]
    fn no_query_panics(
        query in r#"\PC{0,40}|([ab*'"()\[\]{}:^~+\\/<>=, -]|alpha |beta|AND |OR |NOT |IN \[| TO |title:|issued:|year:|ref:|2018|-06|[0-9]){0,30}"#,
    ) {
        let (runtime, bench) = &*SETS;
        match runtime.block_on(ids(&bench.search, 2, &query)) {
            Ok(_) | Err(SearchError::UnknownField { .. } | SearchError::Unsupported(_)) => {}
            Err(SearchError::Syntax { position, .. }) => prop_assert!(position <= query.chars().count()),
            Err(other) => return Err(TestCaseError::fail(format!("{query}: {other}"))),
        }
    }
}
