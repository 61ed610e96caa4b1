//! The shapes of what is sent, and what becomes of answers that a healthy engine does not give. What queries find is tested against a real one.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::query::Queries;
use super::*;
use crate::domain::Access;
use crate::ids::{ImportId, VersionId};
use crate::search::{IndexDocument, Sort, parse};

/// The same with the members of objects by name: whether `serde_json` keeps their order depends on what else is built.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: std::collections::BTreeMap<String, Value> = members.into_iter().collect();
            Value::Object(members.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// The same for each line of a request that is an object.
fn sorted_lines(request: &str) -> String {
    let line = |line: &str| {
        serde_json::from_str::<Value>(line).map_or_else(|_| line.to_owned(), |value| sorted(value).to_string())
    };
    request.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn metadata() -> Map<String, Value> {
    let metadata = json!({"title": "Open minings", "creator": ["Ada B.", "Ada B.", "C"], "issued": ["2018", "2020-06"], "type": "Article"});
    metadata.as_object().unwrap().clone()
}

fn sample(metadata: &Map<String, Value>) -> IndexDocument<'_> {
    let (id, replaces) = (VersionId(9), Some(VersionId(4)));
    let (access, formats) = (&Access::Metadata, vec!["txt"]);
    IndexDocument { id, replaces, r#ref: "jose.00021", access, metadata, formats, text: Some("Of  mines.") }
}

#[test]
fn an_index_is_strict_about_its_fields_and_says_how_it_was_made() {
    let address = Address::parse("opensearch://h?shards=3&replicas=2").unwrap();
    let body = mapping::new_index(&address, Some(Language::En));
    assert_eq!(mapping::language_of(&body["mappings"]["_meta"]), Some(Some(Language::En)));
    assert_eq!(mapping::language_of(&json!({"layout": 0, "mapping": 1})), None);
    let plain = mapping::new_index(&Address::parse("opensearch://h").unwrap(), None);
    assert_eq!(mapping::language_of(&plain["mappings"]["_meta"]), Some(None));
    assert_eq!(plain["settings"]["index"].get("number_of_replicas"), None);
    insta::assert_json_snapshot!(sorted(body));
}

#[test]
fn a_document_is_sent_as_words_with_blanks_between_them() {
    let metadata = metadata();
    insta::assert_json_snapshot!(sorted(mapping::document(&sample(&metadata), Some(Language::En))));
    let plain = mapping::document(&sample(&metadata), None);
    assert_eq!(plain["title"], json!({"exact": ["open minings"]}));
}

#[test]
fn every_construct_has_its_query() {
    let lowered = |text: &str| {
        let query = parse(text).unwrap();
        (text.to_owned(), lower::lower(&query, Some(Language::En), &Queries { stems: true }).unwrap())
    };
    let queries: Map<String, Value> = [
        "*",
        "title:minings",
        "title:=minings",
        r#"title:"open minings"~2"#,
        "title:min*",
        "text:minings~",
        r#"text:"open minings""#,
        "title:minings~",
        "ref:A.1",
        "type: IN [a B]",
        "issued:[2018 TO 2019}",
        "license:*",
        "title:a AND NOT title:b",
        "title:a^2 OR title:b",
        "-title:a",
    ]
    .into_iter()
    .map(lowered)
    .collect();
    insta::assert_json_snapshot!(queries);
}

#[test]
fn a_page_asks_for_exact_counts_and_a_stable_order() {
    let facets = ["year".to_owned()];
    let page = |sort, offset| SearchPage { query: &Query::All, sort, offset, limit: 1000, facets: &facets };
    let pages = [(Sort::Relevance, 0), (Sort::Date, 20), (Sort::Ref, 100_500), (Sort::Ref, usize::MAX)];
    let pages = pages.map(|(sort, offset)| page::of(&page(sort, offset), &json!({"match_all": {}})));
    insta::assert_json_snapshot!(pages);
    let mut walk = Walk::by_id(&json!({"match_all": {}}));
    assert!(!walk.take(json!({"_shards": {"failed": 0}, "hits": {"hits": [{"sort": [7]}]}}), |_| ()).unwrap());
    insta::assert_json_snapshot!(walk.body());
}

/// An engine that gives these answers, one after the other, and then the last one for ever; with what it was asked.
async fn scripted(answers: Vec<(u16, Value)>) -> (OpenSearch, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("elasticsearch+http://u:hunter2@{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut last = answers.next().unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.split();
            let mut reader = BufReader::new(reader);
            let mut lines = Vec::new();
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).await.unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).await.unwrap();
            told.lock().unwrap().push(format!("{}\n{}", lines[0], String::from_utf8(body).unwrap()));
            let (status, answer) = &last;
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(answer.as_bytes()).await.unwrap();
            last = answers.next().unwrap_or(last);
        }
    });
    (OpenSearch::new(Address::parse(&address).unwrap()).unwrap(), asked)
}

fn index(corpus_version: i64) -> IndexId {
    IndexId { collection: CollectionId(7), corpus_version, import: Some(ImportId(0xa1)) }
}

fn meta() -> Value {
    json!({"adit-7-v0000000001-00000000000000a1":
        {"mappings": {"_meta": {"layout": manifest::LAYOUT_VERSION, "mapping": 1}}}})
}

async fn fails(answers: Vec<(u16, Value)>) -> SearchError {
    let (engine, _) = scripted(answers).await;
    engine.matching(index(1), &Query::All).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_none() {
    let part = json!({"_shards": {"failed": 1}, "hits": {"hits": [{"sort": [7]}]}});
    assert!(matches!(fails(vec![(200, meta()), (200, part)]).await, SearchError::Away(_)));
    assert!(matches!(fails(vec![(200, meta()), (200, json!({}))]).await, SearchError::Index(_)));
    assert!(matches!(fails(vec![(200, meta()), (503, json!({}))]).await, SearchError::Away(_)));
    assert!(matches!(fails(vec![(429, json!({}))]).await, SearchError::Away(_)));
    let gone = json!({"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404});
    assert!(matches!(fails(vec![(200, meta()), (404, gone.clone())]).await, SearchError::VersionGone(1)));
    assert!(matches!(fails(vec![(404, gone)]).await, SearchError::VersionGone(1)));
    let other = json!({"adit-7-v0000000001-00000000000000a1": {"mappings": {"_meta": {"layout": 0}}}});
    assert!(matches!(fails(vec![(200, other)]).await, SearchError::Outdated(_)));
}

#[tokio::test]
async fn refusals_say_what_helps_and_no_password() {
    let closed = fails(vec![(401, json!({"error": {"root_cause": [{"type": "security_exception"}]}}))]).await;
    assert!(closed.to_string().contains("ADIT_SEARCH_URL"), "{closed}");
    let long =
        json!({"error": {"root_cause": [{"type": "too_many_clauses", "reason": "maxClauseCount is set to 1024"}]}});
    let long = fails(vec![(200, meta()), (400, long)]).await;
    assert!(matches!(&long, SearchError::Unsupported(text) if text.contains("max_clause_count")), "{long}");
    let away = OpenSearch::new(Address::parse("opensearch+http://u:hunter2@127.0.0.1:1").unwrap()).unwrap();
    let error = away.ping().await.unwrap_err();
    assert!(matches!(error, SearchError::Away(_)));
    for text in [format!("{closed} {closed:?}"), format!("{error} {error:?} {away:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// Answers for a build until its first batch.
fn begun() -> Vec<(u16, Value)> {
    vec![(200, json!({"acknowledged": true})), (200, json!({"timed_out": false}))]
}

async fn build(batches: Vec<(u16, Value)>) -> (SearchResult<()>, Vec<String>) {
    let closed = [(200, json!({"_shards": {"failed": 0}})), (200, json!({"acknowledged": true}))];
    let (engine, asked) = scripted(begun().into_iter().chain(batches).chain(closed).collect()).await;
    let plan = IndexPlan { base: index(1), import: ImportId(0xb2), language: None, afresh: true };
    let mut build = engine.build(plan).await.unwrap();
    let metadata = Map::new();
    build.add(sample(&metadata)).await.unwrap();
    let finished = build.finish().await;
    let asked = asked.lock().unwrap().clone();
    (finished, asked)
}

#[tokio::test]
async fn what_the_engine_had_no_room_for_is_sent_again_in_its_order() {
    let full = json!({"items": [
        {"delete": {"_id": "4", "status": 404}},
        {"index": {"_id": "9", "status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}}]});
    let taken = json!({"items": [{"index": {"_id": "9", "status": 201}}]});
    let (finished, asked) = build(vec![(429, json!({})), (200, full), (200, taken)]).await;
    finished.unwrap();
    let asked: Vec<String> = asked.iter().map(|request| sorted_lines(request)).collect();
    insta::assert_json_snapshot!(asked);
}

#[tokio::test]
async fn a_refused_document_is_named_and_nothing_is_finished() {
    let refused = json!({"items": [
        {"delete": {"_id": "4", "status": 200}},
        {"index": {"_id": "9", "status": 400, "error": {"type": "strict_dynamic_mapping_exception", "reason": "no [x]"}}}]});
    let (finished, asked) = build(vec![(200, refused)]).await;
    let error = finished.unwrap_err().to_string();
    assert!(error.contains("document version 9") && error.contains("strict_dynamic"), "{error}");
    assert_eq!(asked.len(), begun().len() + 1, "{asked:?}");
    let short = json!({"items": [{"delete": {"_id": "4", "status": 200}}]});
    assert!(build(vec![(200, short)]).await.0.is_err());
}
