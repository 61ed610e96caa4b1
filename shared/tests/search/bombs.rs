//! Searches that are made to take all memory or all time: each is answered, or refused with the
//! reason, and none works on when nobody waits for it.

use std::time::{Duration, Instant};

use adit_shared::search::{
    Highlighter, IndexPlan, Language, Search as _, SearchError, SearchLimits, SearchPage, SearchResult, Sort, Source,
    StopFlag, TantivySearch,
};
use serde_json::{Value, json};

use super::corpus::{Bench, Paper, add, index, made_by, paper, plan};
use super::hostile_queries::hostile_search;

/// Words of texts, the most frequent first.
const WORDS: [&str; 12] =
    ["a", "the", "of", "soil", "water", "mining", "corpus", "python", "fluid", "theory", "motion", "interpreter"];
/// What must happen has this time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What must happen within 100 ms has this time on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

const MIB: usize = 1024 * 1024;

/// Texts of a hostile publisher: one word for a megabyte, two in turn, and many different ones.
fn hostile_papers(texts: usize) -> Vec<Paper> {
    const REFS: [&str; 6] = ["h.1", "h.2", "h.3", "h.4", "h.5", "h.6"];
    let mut words = Vec::new();
    let mut state = 7_u64;
    while words.len() < 60_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(state >> 33).unwrap();
        // Mostly frequent words, and some that stand nowhere else.
        words.push(if place.is_multiple_of(5) { format!("w{}", place % 30_000) } else { WORDS[place % 12].to_owned() });
    }
    let text = |nth: usize| match nth % 3 {
        0 => "a ".repeat(MIB / 2),
        1 => "the of ".repeat(MIB / 7),
        _ => words.join(" "),
    };
    let metadata = |nth: usize| {
        let creators: Vec<String> = (0..300).map(|at| format!("Creator {nth} {at}")).collect();
        json!({"title": "The theory of fluid motion", "creator": creators, "issued": format!("{}", 1990 + nth)})
    };
    (0..texts).map(|nth| paper(nth as u32 + 1, REFS[nth], metadata(nth), &["txt"], &text(nth))).collect()
}

async fn bench_of(papers: &[Paper], language: Option<Language>) -> Bench {
    let bench = Bench::empty().await;
    let mut build = bench.search.build(IndexPlan { language, ..plan(index(0), 1) }).await.unwrap();
    add(&mut *build, papers, &[]).await;
    build.finish().await.unwrap();
    bench
}

/// The same indexes under other limits.
fn limited(bench: &Bench, time: Duration, memory: usize) -> TantivySearch {
    bench.other("limited").with_limits(SearchLimits { time, memory })
}

async fn refusal(search: &TantivySearch, query: Value) -> String {
    let source: Source = serde_json::from_value(query).unwrap();
    match search.matching(made_by(1, 1), &source.read().unwrap()).await {
        Err(SearchError::Unsupported(message)) => message,
        other => panic!("it is not refused: {other:?}"),
    }
}

/// Waits until no thread works on a search.
async fn wait_until_idle(search: &TantivySearch) {
    let began = Instant::now();
    while search.running() > 0 {
        assert!(began.elapsed() < AT_ONCE, "{} searches work on", search.running());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_phrase_has_64_words_at_most() {
    let bench = Bench::with_papers().await;
    for words in [65, 4000] {
        let phrase = vec!["a"; words].join(" ");
        for query in [json!(format!("text:\"{phrase}\"~50")), json!({"match_phrase": {"title": phrase}})] {
            assert!(refusal(&bench.search, query).await.contains("64 words"), "{words}");
        }
    }
    let hyphens = vec!["a"; 100].join("-");
    assert!(refusal(&bench.search, json!(hyphens)).await.contains("64 words"));
    let longest = parse(&format!("text:\"{}\"~50", vec!["python"; 64].join(" ")));
    bench.search.matching(index(1), &longest).await.unwrap();
}

#[tokio::test]
async fn equal_words_of_a_phrase_share_their_places() {
    // 524,288 places take two megabytes; 64 lists of them would take 128.
    let bench = bench_of(&hostile_papers(1), None).await;
    let search = limited(&bench, PATIENCE, 16 * MIB);
    for slop in [0, 50] {
        let query = parse(&format!("text:\"{}\"~{slop}", vec!["a"; 64].join(" ")));
        let found = search.matching(index(1), &query).await.unwrap();
        assert_eq!(found.len(), 1, "{slop}");
    }
    let most = limited(&bench, PATIENCE, MIB);
    let message = refusal(&most, json!("text:\"a a\"~1")).await;
    assert!(message.contains("1 MiB") && message.contains("shorter phrases"), "{message}");
}

#[tokio::test]
async fn similar_words_are_short_and_few() {
    let bench = Bench::with_papers().await;
    let long = "x".repeat(33);
    assert!(refusal(&bench.search, json!(format!("text:{long}~2"))).await.contains("32 letters"));
    let word = |at: usize| format!("text:{}{at}~2", &long[..30]);
    let words = |count: usize| (0..count).map(word).collect::<Vec<_>>().join(" OR ");
    assert!(refusal(&bench.search, json!(words(17))).await.contains("16 words"));
    bench.search.matching(index(1), &parse(&words(16))).await.unwrap();
    bench.search.matching(index(1), &parse(&format!("text:{}~2", &long[..32]))).await.unwrap();
    // Their automata are charged, once for all fields.
    let tight = limited(&bench, PATIENCE, MIB);
    let message = refusal(&tight, json!(words(16))).await;
    assert!(message.contains("shorter words with ~"), "{message}");
    tight.matching(index(1), &parse("pyhton~")).await.unwrap();
}

#[tokio::test]
async fn a_prefix_takes_no_memory_for_its_length() {
    let bench = Bench::with_papers().await;
    let long = json!({"prefix": {"ref": "jose".repeat(50_000)}});
    let source: Source = serde_json::from_value(long).unwrap();
    let tight = limited(&bench, PATIENCE, MIB);
    assert_eq!(tight.matching(index(1), &source.read().unwrap()).await.unwrap().len(), 0);
    assert_eq!(tight.matching(index(1), &parse("ref:jose*")).await.unwrap().len(), 5);
}

#[tokio::test]
async fn what_collects_hits_is_charged() {
    let bench = bench_of(&hostile_papers(3), None).await;
    let all = parse("*");
    let search = limited(&bench, PATIENCE, 4096);
    let facets = ["creator".to_owned()];
    let page = |limit, facets| SearchPage { query: &all, sort: Sort::Ref, offset: 0, limit, facets };
    let facets = search.search(index(1), page(0, &facets)).await.unwrap_err().to_string();
    assert!(facets.contains("fewer facets"), "{facets}");
    for sort in [Sort::Relevance, Sort::Date, Sort::Ref] {
        assert_eq!(search.ordered(index(1), &all, sort).await.err().map(|error| error.to_string()), None, "{sort:?}");
    }
    let search = limited(&bench, PATIENCE, 64);
    assert!(search.search(index(1), page(3, &[])).await.unwrap_err().to_string().contains("so deep a page"));
    assert!(search.ordered(index(1), &all, Sort::Date).await.unwrap_err().to_string().contains("narrow the query"));
}

/// A query that takes far longer than [`AT_ONCE`]: the words of its phrases never stand close
/// enough, by one place, so that all of a text's hundred thousand are tried one by one.
fn endless() -> adit_shared::search::Query {
    let phrase = |slop: usize| format!("text:\"{}\"~{slop}", vec!["the"; slop + 2].join(" "));
    let dsl: Vec<Value> = (0..60).map(|at| json!({"query_string": {"query": phrase(45 + at % 6)}})).collect();
    let source: Source = serde_json::from_value(json!({"bool": {"should": dsl}})).unwrap();
    source.read().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_nobody_waits_for_ends() {
    let bench = bench_of(&hostile_papers(6), None).await;
    let search = bench.search.clone();
    search.prepare(index(1)).await.unwrap();
    let query = endless();
    for dropped in 0..3 {
        let page = SearchPage { query: &query, sort: Sort::Relevance, offset: 0, limit: 10, facets: &[] };
        let asked: std::pin::Pin<Box<dyn Future<Output = SearchResult<()>> + Send>> = match dropped {
            0 => Box::pin(async { search.search(index(1), page).await.map(drop) }),
            1 => Box::pin(async { search.matching(index(1), &query).await.map(drop) }),
            _ => Box::pin(async { search.ordered(index(1), &query, Sort::Relevance).await.map(drop) }),
        };
        let working = async {
            while search.running() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = asked => panic!("it ended by itself: {answer:?}"),
            () = working => {}
        }
        wait_until_idle(&search).await;
    }
    let limited = limited(&bench, Duration::from_millis(200), 64 * MIB);
    limited.prepare(index(1)).await.unwrap();
    assert!(matches!(limited.matching(index(1), &query).await, Err(SearchError::TimedOut)));
    wait_until_idle(&limited).await;
    // The threads are free for others.
    assert_eq!(bench.search.matching(index(1), &parse("title:theory")).await.unwrap().len(), 6);
}

#[test]
fn a_highlighter_that_nobody_waits_for_finds_nothing_more() {
    let (stop, text) = (StopFlag::default(), "python ".repeat(1000));
    let highlighter = Highlighter::new(&parse("text:pyhton~2"), None).stopped_by(stop.clone());
    assert_eq!(highlighter.snippets("text", &text, 3).len(), 3);
    stop.stop();
    assert_eq!(highlighter.snippets("text", &text, 3), Vec::new());
}

/// Each hostile search ends in its time, and its answer is one and the same however it is asked
/// for, or it is refused with a reason.
async fn endure(language: Option<Language>, seeds: std::ops::Range<u64>) {
    let bench = bench_of(&hostile_papers(3), language).await;
    let search = limited(&bench, Duration::from_secs(2), 32 * MIB);
    search.prepare(index(1)).await.unwrap();
    let (mut answered, mut refused, mut timed_out) = (0, 0, 0);
    for seed in seeds {
        let body = hostile_search(seed, &WORDS);
        let source: Source = serde_json::from_value(body["query"].clone()).unwrap();
        let facets: Vec<String> = serde_json::from_value(body["facets"].clone()).unwrap_or_default();
        let sort: Sort = serde_json::from_value(body["sort"].clone()).unwrap();
        let limit = usize::try_from(body["limit"].as_u64().unwrap()).unwrap();
        let asked = async {
            let query = source.read()?;
            let page = SearchPage { query: &query, sort, offset: 0, limit, facets: &facets };
            let (answer, found) = (search.search(index(1), page).await?, search.matching(index(1), &query).await?);
            let ordered = search.ordered(index(1), &query, sort).await?;
            assert_eq!((answer.total, found.len()), (found.len(), ordered.len() as u64), "{seed}: {body}");
            assert!(ordered.starts_with(&answer.hits), "{seed}: {body}");
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{seed} does not end: {body}")) {
            Ok(()) => answered += 1,
            Err(SearchError::TimedOut) => timed_out += 1,
            Err(SearchError::Unsupported(_) | SearchError::Syntax { .. }) => refused += 1,
            Err(error) => panic!("{seed}: {error}: {body}"),
        }
        wait_until_idle(&search).await;
    }
    println!("{answered} answered, {refused} refused, {timed_out} out of time");
    assert!(answered > 0 && refused > 0, "the generator writes both: {answered}, {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_searches_of_words_as_they_are_end() {
    endure(None, 0..40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_searches_of_stems_end() {
    endure(Some(Language::En), 40..80).await;
}

fn parse(query: &str) -> adit_shared::search::Query {
    Source::from(query).read().unwrap()
}
