//! What the DSL means as a tree, and what is refused in which words.

use proptest::prelude::*;
use serde_json::json;

use super::super::SearchError;
use super::*;

fn tree(query: &Value) -> SearchResult<Query> {
    read(query.as_object().unwrap())
}

/// Each query with its tree, or why it is refused.
fn shown(queries: &[Value]) -> String {
    let line = |query: &Value| match tree(query) {
        Ok(tree) => format!("{query}\n  {tree:?}\n"),
        Err(error) => format!("{query}\n  {error}\n"),
    };
    queries.iter().map(line).collect()
}

fn refusal(query: &Value) -> String {
    tree(query).unwrap_err().to_string()
}

#[test]
fn each_kind_of_query_has_its_tree() {
    let told = shown(&[
        json!({"match_all": {}}),
        json!({"match_all": {"boost": 2}}),
        json!({"match": {"title": "open mining"}}),
        json!({"match": {"year": 2018}}),
        json!({"match": {"title.exact": {"query": "open mining", "operator": "AND", "boost": 1.5}}}),
        json!({"match": {"title": {"query": "a b c", "minimum_should_match": "-25%", "fuzziness": "AUTO"}}}),
        json!({"match": {"title": {"query": "a b c", "operator": "or", "minimum_should_match": 2, "fuzziness": 1}}}),
        json!({"match_phrase": {"text": "soil moisture"}}),
        json!({"match_phrase": {"text": {"query": "soil moisture", "slop": 3, "boost": 1.0}}}),
        json!({"multi_match": {"query": "soil moisture"}}),
        json!({"multi_match": {"query": "soil moisture", "fields": ["title^3", "abstract.exact"], "operator": "and"}}),
        json!({"multi_match": {"query": "soil moisture", "fields": "title", "type": "most_fields", "fuzziness": "2"}}),
        json!({"multi_match": {"query": "soil moisture", "type": "cross_fields", "minimum_should_match": "75%"}}),
        json!({"multi_match": {"query": "soil moisture", "fields": ["title"], "type": "phrase", "slop": 1, "boost": 0}}),
        json!({"term": {"language.keyword": "en"}}),
        json!({"term": {"type": {"value": "Article", "boost": 4, "case_insensitive": true}}}),
        json!({"terms": {"format": ["pdf", "xml"], "boost": 2}}),
        json!({"terms": {"year": [2018, "2019"]}}),
        json!({"range": {"issued": {"gte": "2018-06", "lt": 2020}}}),
        json!({"range": {"issued": {"gt": "2018", "boost": 3}}}),
        json!({"range": {"year": {}}}),
        json!({"exists": {"field": "abstract"}}),
        json!({"prefix": {"title": "hydro"}}),
        json!({"prefix": {"title": {"value": "hydro", "boost": 2}}}),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn a_text_in_the_query_language_is_read_with_other_default_fields() {
    let of = |query: &str, more: Value| {
        let mut members = more.as_object().unwrap().clone();
        members.insert("query".to_owned(), json!(query));
        json!({"query_string": members})
    };
    let told = shown(&[
        of("soil", json!({})),
        of("soil moisture", json!({})),
        of("soil moisture", json!({"default_operator": "AND"})),
        of("soil +moisture -(a b) AND c", json!({"boost": 2})),
        of("soil OR -moisture", json!({"default_field": "title"})),
        of(
            "=soil title:moisture hydro* (issued:>2018)^2",
            json!({"fields": ["title.exact^3", "abstract"], "default_operator": "and"}),
        ),
        of("(soil", json!({"default_field": "title"})),
        of("soil", json!({"default_field": "title", "fields": ["title"]})),
        of("soil", json!({"default_operator": "not"})),
        of("soil", json!({"analyze_wildcard": true})),
    ]);
    insta::assert_snapshot!(told);
    let sides = |text: &str| tree(&of(text, json!({}))).unwrap();
    assert_eq!(sides("a b OR c"), sides("a OR b OR c"));
    assert_eq!(sides("a b AND c d"), sides("a OR (b AND c) OR d"));
    assert_eq!(sides("a NOT b"), sides("a -b"));
}

#[test]
fn clauses_are_one_object_or_several_in_an_array() {
    let all = json!({"match_all": {}});
    let told = shown(&[
        json!({"bool": {}}),
        json!({"bool": {"must": [], "should": []}}),
        json!({"bool": {"must": all, "filter": [{"exists": {"field": "title"}}], "boost": 2}}),
        json!({"bool": {"must_not": {"bool": {"should": [all, all]}}}}),
        json!({"bool": {"should": [all, all], "minimum_should_match": "50%"}}),
        json!({"bool": {"should": [all, all], "minimum_should_match": 0}}),
        json!({"bool": {"should": [all, all], "filter": all, "minimum_should_match": 0}}),
        json!({"bool": {"should": [all, all], "minimum_should_match": -1}}),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn what_is_not_taken_is_named_by_its_path() {
    let all = json!({"match_all": {}});
    let told = shown(&[
        json!({}),
        json!({"match_all": {}, "exists": {"field": "title"}}),
        json!({"query": {"match_all": {}}}),
        json!({"match_all": []}),
        json!({"fuzzy": {"title": "mining"}}),
        json!({"bool": {"must": [all, {"match": {"title": {"query": "a", "analyzer": "english"}}}]}}),
        json!({"bool": {"filter": {"bool": {"must_not": [{"wildcard": {"title": "min*"}}]}}}}),
        json!({"bool": {"must": "mining"}}),
        json!({"bool": {"must": [["mining"]]}}),
        json!({"bool": {"should": [all], "minimum_should_match": 2}}),
        json!({"bool": {"should": [all], "minimum_should_match": "3<90%"}}),
        json!({"match": {"title": true}}),
        json!({"match": {"title": ["a"]}}),
        json!({"match": {"title": "a", "abstract": "a"}}),
        json!({"match": {"title": {"operator": "and"}}}),
        json!({"match": {"title": {"query": {}}}}),
        json!({"match": {"title": {"query": "a", "operator": "xor"}}}),
        json!({"match": {"title": {"query": "a", "operator": "and", "minimum_should_match": 1}}}),
        json!({"match": {"title": {"query": "a", "fuzziness": "AUTO:1,2"}}}),
        json!({"match": {"title": {"query": "a", "fuzziness": 3}}}),
        json!({"match": {"title": {"query": "a", "prefix_length": 2}}}),
        json!({"match": {"title": {"query": "a", "boost": -1}}}),
        json!({"match": {"title": {"query": "a", "boost": "2"}}}),
        json!({"match": {"title.keyword": "a"}}),
        json!({"match_phrase": {"title": {"query": "a", "slop": -1}}}),
        json!({"multi_match": {"query": "a", "fields": []}}),
        json!({"multi_match": {"query": "a", "fields": ["title", 3]}}),
        json!({"multi_match": {"query": "a", "fields": ["*_en"]}}),
        json!({"multi_match": {"query": "a", "fields": ["title^x"]}}),
        json!({"multi_match": {"query": "a", "type": "phrase_prefix"}}),
        json!({"multi_match": {"query": "a", "type": "phrase", "operator": "and"}}),
        json!({"multi_match": {"query": "a", "type": "cross_fields", "fuzziness": 1}}),
        json!({"multi_match": {"query": "a", "tie_breaker": 0.3}}),
        json!({"term": {"type": {"value": "a", "case_insensitive": false}}}),
        json!({"term": {"type": null}}),
        json!({"terms": {"type": []}}),
        json!({"terms": {"type": ["a", null]}}),
        json!({"terms": {"type": {"index": "x", "id": "1", "path": "y"}}}),
        json!({"terms": {"boost": 1}}),
        json!({"range": {"issued": "2018"}}),
        json!({"range": {"issued": {"gte": "01/2018", "format": "MM/yyyy"}}}),
        json!({"range": {"issued": {"gte": "2018", "time_zone": "+01:00"}}}),
        json!({"range": {"issued": {"gte": "2018", "gt": "2018"}}}),
        json!({"range": {"issued": {"lte": null}}}),
        json!({"exists": {"field": ["title"]}}),
        json!({"exists": {}}),
        json!({"prefix": {"title": {"value": "a", "rewrite": "constant_score"}}}),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn members_that_ask_for_nothing_are_taken() {
    let plain = tree(&json!({"bool": {"must": [{"match": {"title": "soil"}}]}}));
    let as_clients_write_it = json!({"bool": {"adjust_pure_negative": true, "boost": 1.0, "must": [{"match": {"title": {
        "query": "soil", "operator": "OR", "prefix_length": 0, "max_expansions": 50, "fuzzy_transpositions": true, "lenient": false,
        "zero_terms_query": "NONE", "auto_generate_synonyms_phrase_query": true, "boost": 1.0}}}]}});
    assert_eq!(tree(&as_clients_write_it).unwrap(), plain.unwrap());
}

#[test]
fn depth_size_and_number_are_bounded() {
    let nested = |depth| (0..depth).fold(json!({"match_all": {}}), |inner, _| json!({"bool": {"must": [inner]}}));
    assert!(tree(&nested(MAX_DEPTH)).is_ok());
    assert!(refusal(&nested(MAX_DEPTH + 1)).ends_with("must[0] is nested too deep: 32 levels are the most"));
    let clauses = |count| json!({"bool": {"should": vec![json!({"match_all": {}}); count]}});
    assert!(tree(&clauses(MAX_CLAUSES - 1)).is_ok());
    assert_eq!(refusal(&clauses(MAX_CLAUSES)), "bool.should[1023] is one clause too many: there may be 1024");
    let values = |count, value: &str| json!({"terms": {"ref": vec![value; count]}});
    assert!(tree(&values(MAX_VALUES, "https://doi.org/10.21105/jose.00015")).is_ok());
    assert_eq!(refusal(&values(MAX_VALUES + 1, "a")), "terms.ref must have 1 to 4096 values");
    assert_eq!(refusal(&values(1, &"a".repeat(MAX_BYTES))), "the query may be 262144 bytes long at most");
    let long = "é".repeat(100_000);
    assert_eq!(refusal(&json!({"match": {long: null}})).chars().take_while(|c| *c != '…').count(), "match.".len() + 64);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        "\\PC{0,8}|AUTO|and|[0-9-]{1,3}%|title(\\.exact|\\.keyword|\\^2)?|phrase".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let name = prop_oneof![
            proptest::sample::select(KINDS.map(|(kind, _)| kind).to_vec()).prop_map(str::to_owned),
            "must|must_not|should|filter|minimum_should_match|boost|query|fields?|type|operator|value|slop|fuzziness|gte?|lte?|title|\\PC{0,4}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_gives_a_tree_or_an_error_that_says_where(inner in any_json(), kind in proptest::sample::select(KINDS.map(|(kind, _)| kind).to_vec())) {
        let query = json!({kind: inner});
        match tree(&query) {
            Ok(_) => {}
            Err(SearchError::Unsupported(message)) => prop_assert!(message.starts_with(kind), "{message}"),
            Err(SearchError::Syntax { message, .. }) => prop_assert!(message.contains("query_string.query"), "{message}"),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
