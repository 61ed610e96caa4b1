//! Searches over the whole API: what they tell of texts, to whom, and what that costs.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Allowance, Metric, Month};
use adit_shared::store::Store as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::testing::http::{Answer, Doc, MINER, NOBODY, STRANGER, Server};

mod extraction;

const TEXT: &str = "Under the hill lies coal. Nobody has mined coal there.";
const SEARCH: &str = "/api/collections/c/search";

/// A server on five open works and one restricted to the entitlement `press`, all with the same
/// text.
async fn server() -> Server {
    let server = Server::new().await;
    let files = &[("txt", TEXT)][..];
    let closed = json!({"title": "Closed coal", "accessRights": "restricted:press"});
    let mut documents: Vec<Doc<'_>> =
        ["a", "b", "c", "d", "e"].map(|name| (name, json!({"title": "Open coal"}), files)).into();
    documents.push(("closed", closed, files));
    server.import("c", &documents).await;
    server.put("packs/1/00-txt-00001", TEXT).await;
    server
}

async fn found(server: &Server, key: &str, query: Value) -> Vec<String> {
    let answer = server.post(key, SEARCH, &json!({"query": query, "sort": "ref"})).await.json(200);
    let refs = answer["documents"].as_array().unwrap().iter().map(|hit| hit["ref"].as_str().unwrap().to_owned());
    refs.collect()
}

/// Works on the page that show a piece of their text, and why others do not.
fn shown(answer: &Answer) -> (Vec<String>, Vec<String>) {
    let answer = answer.json(200);
    let (mut shown, mut withheld) = (Vec::new(), Vec::new());
    for hit in answer["documents"].as_array().unwrap() {
        let name = hit["ref"].as_str().unwrap();
        if !hit["snippets"]["text"].is_null() {
            shown.push(name.to_owned());
        }
        if let Some(why) = hit["text_withheld"].as_str() {
            withheld.push(format!("{name} {why}"));
        }
    }
    (shown, withheld)
}

async fn taken(server: &Server) -> u64 {
    let key = server.world.store.keys().await.unwrap().into_iter().find(|key| key.name == MINER).unwrap();
    let day = Allowance::Documents.window(server.app.clock.now_ms());
    let standing = server.world.store.standing(key.id, Allowance::Documents, day).await.unwrap();
    standing.taken - server.app.quotas().unused(&key, Allowance::Documents)
}

async fn entitle(server: &Server, key: &str) {
    let known = server.world.store.keys().await.unwrap().into_iter().find(|known| known.name == key).unwrap();
    server.world.store.grant(known.id, &"press".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn no_snippet_of_a_text_is_shown_without_a_key() {
    let server = server().await;
    let ask = async |key, highlight: Value| {
        server.post(key, SEARCH, &json!({"query": "coal", "sort": "ref", "highlight": highlight})).await
    };
    for named in [json!({"fields": ["text"]}), json!({"fields": ["title", "text"], "size": 1})] {
        let refused = ask(NOBODY, named).await;
        assert_eq!(refused.json(401)["type"], "urn:adit:problem:unauthorized");
    }
    for all in [json!(true), json!({"size": 2})] {
        assert_eq!(ask("unknown key", all.clone()).await.status, 401);
        let answer = ask(NOBODY, all).await;
        assert_eq!(answer.json(200)["documents"][0]["snippets"]["title"][0]["text"], "Open coal");
        let all = ["a key", "b key", "c key", "closed key", "d key", "e key"];
        assert_eq!(shown(&answer), (vec![], all.map(str::to_owned).into()));
        assert!(!String::from_utf8_lossy(&answer.body).contains("hill"));
    }
    let (open, withheld) = shown(&ask(STRANGER, json!(true)).await);
    assert_eq!((open.concat().as_str(), withheld), ("abcde", vec!["closed rights".to_owned()]));
    let titles = shown(&ask(NOBODY, json!({"fields": ["title"]})).await);
    assert_eq!(titles, (vec![], vec![]), "nothing is withheld that was not asked for");
    let of_title = json!({"query": "title:coal", "highlight": true});
    assert_eq!(shown(&server.post(NOBODY, SEARCH, &of_title).await), (vec![], vec![]));
}

#[tokio::test]
async fn a_text_that_gives_snippets_costs_a_document_once_for_key_and_day() {
    let server = server().await;
    server.limit(MINER, 4).await;
    let page = async |limit| {
        let body = json!({"query": "text:coal -ref:closed", "sort": "ref", "limit": limit, "highlight": true});
        server.post(MINER, SEARCH, &body).await
    };
    let none = json!({"query": "title:coal", "highlight": true});
    shown(&server.post(MINER, SEARCH, &none).await);
    assert_eq!(taken(&server).await, 0, "snippets of metadata are free");
    for _ in 0..3 {
        assert_eq!(shown(&page(2).await).0, ["a", "b"]);
        assert_eq!(taken(&server).await, 2);
    }
    let (open, withheld) = shown(&page(5).await);
    assert_eq!((open.concat().as_str(), withheld), ("abcd", vec!["e quota".to_owned()]));
    assert_eq!(server.get(MINER, "/api/documents/1/text").await.status, 200, "its text is paid for");
    assert_eq!(server.get(MINER, "/api/documents/5/text").await.status, 429, "it is the quota of texts");
    assert_eq!(shown(&page(4).await).0.concat(), "abcd", "what is paid for is shown");

    server.app.usage().flush().await;
    let month = Month::of(server.app.clock.now_ms());
    let sums = server.world.store.usage(&month, None).await.unwrap();
    let collection = server.world.store.collection("c").await.unwrap().unwrap().id;
    let of = |metric| sums.get(&(collection, metric)).copied();
    let given = [Metric::Charged, Metric::Requests, Metric::UniqueRequests].map(of);
    assert_eq!(given, [Some(4), Some(3 * 2 + 4 + 1 + 4), Some(4)]);

    server.world.clock.advance(Allowance::Documents.seconds() * 1000);
    assert_eq!(shown(&page(5).await).0.concat(), "abcd", "tomorrow it costs again");
    assert_eq!(taken(&server).await, 4);
}

#[tokio::test]
async fn snippets_at_once_are_charged_once() {
    let server = server().await;
    server.limit(MINER, 100).await;
    let body = json!({"query": "text:coal", "highlight": true});
    let asked = futures::future::join_all((0..8).map(|_| server.post(MINER, SEARCH, &body))).await;
    assert!(asked.iter().all(|answer| shown(answer).0.len() == 5));
    assert_eq!(taken(&server).await, 5);
}

#[tokio::test]
async fn what_tells_more_than_single_words_finds_closed_texts_for_the_entitled_only() {
    let server = server().await;
    entitle(&server, MINER).await;
    let words = ["text:coal", "coal", "text:=hill", "ref:closed text:mined", "text:hill text:mined"];
    let more = [
        json!("text:\"lies coal\""),
        json!("\"lies coal\""),
        json!("text:\"coal lies\"~2"),
        json!("text:lies-coal"),
        json!("hil*"),
        json!("text:hil*"),
        json!("text:hull~1"),
        json!({"match": {"text": {"query": "hull", "fuzziness": 1}}}),
        json!({"match_phrase": {"text": "lies coal"}}),
        json!({"multi_match": {"query": "lies coal", "type": "phrase"}}),
        json!({"term": {"text": "lies coal"}}),
        json!({"terms": {"text.exact": ["under hill", "lies coal"]}}),
        json!({"prefix": {"text": "hil"}}),
        json!({"query_string": {"query": "\"lies coal\"", "default_field": "text"}}),
    ];
    for query in words {
        assert!(found(&server, NOBODY, json!(query)).await.contains(&"closed".to_owned()), "{query}");
    }
    for query in more {
        for key in [NOBODY, STRANGER] {
            assert_eq!(found(&server, key, query.clone()).await.concat(), "abcde", "{query}");
        }
        assert_eq!(found(&server, MINER, query.clone()).await.concat(), "abcclosedde", "{query}");
        let without = json!({"bool": {"must": {"term": {"ref": "closed"}}, "must_not": query}});
        if without["bool"]["must_not"].is_object() {
            assert_eq!(found(&server, NOBODY, without).await, ["closed"]);
        }
    }
    let title = found(&server, NOBODY, json!("title:\"closed coal\" title:clos*")).await;
    assert_eq!(title, ["closed"], "metadata are open to everybody");
}

#[tokio::test]
async fn a_docset_of_a_query_has_what_its_key_may_find_now() {
    let server = server().await;
    let body = json!({"collection": "c", "query": "\"lies coal\""});
    let docset = server.post(STRANGER, "/api/docsets", &body).await.json(201);
    assert_eq!(docset["size"], 5);
    let refresh = format!("{}/refresh", docset["url"].as_str().unwrap());
    entitle(&server, STRANGER).await;
    assert_eq!(server.post(STRANGER, &refresh, &json!({})).await.json(201)["size"], 6);
    let empty = json!({"collection": "c", "query": "ref:closed text:hil*"});
    assert_eq!(server.post(MINER, "/api/docsets", &empty).await.status, 422);
    assert_eq!(server.post(STRANGER, "/api/docsets", &empty).await.status, 201);
}

#[tokio::test]
async fn a_cursor_asks_an_older_version_nothing_but_its_own_question() {
    let server = server().await;
    let opened = [("closed", json!({"title": "Open for a while"}), &[("txt", TEXT)][..])];
    server.import("c", &opened).await;
    let ask = async |query: &str, cursor: Option<&str>| {
        let body = json!({"query": query, "limit": 1, "sort": "ref", "cursor": cursor});
        server.post(NOBODY, SEARCH, &body).await
    };
    let first = ask("text:\"lies coal\"", None).await.json(200);
    assert_eq!(first["hits"], 6);
    let closed = json!({"title": "Closed again", "accessRights": "restricted:press"});
    server.import("c", &[("closed", closed, &[("txt", TEXT)])]).await;
    assert_eq!(ask("text:\"lies coal\"", None).await.json(200)["hits"], 5);
    let next = first["next"].as_str().unwrap();
    assert_eq!(ask("text:\"lies coal\"", Some(next)).await.json(200)["hits"], 6, "the answer goes on");
    assert_eq!(ask("text:\"coal nobody\"", Some(next)).await.json(400)["type"], "urn:adit:problem:invalid-cursor");

    // As cursors were made before they were sealed.
    let (list, mut position): (String, Value) = {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(next).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    position["question"] = json!(Sha256::of(b"Ref\ntext:\"coal nobody\""));
    let forged = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(list, position)).unwrap());
    assert_eq!(ask("text:\"coal nobody\"", Some(&forged)).await.status, 400);
}

#[tokio::test]
async fn an_operator_can_keep_closed_texts_from_being_found_at_all() {
    let server = server().await;
    entitle(&server, MINER).await;
    server.describe("c", |collection| collection.hide_closed_text = true).await;
    for query in ["text:coal", "text:=hill", "text:hill~", "text:\"lies coal\""] {
        for key in [NOBODY, STRANGER] {
            assert_eq!(found(&server, key, json!(query)).await.concat(), "abcde", "{query}");
        }
        assert_eq!(found(&server, MINER, json!(query)).await.concat(), "abcclosedde", "{query}");
    }
    assert_eq!(found(&server, NOBODY, json!("title:closed")).await, ["closed"]);
    server.describe("c", |_| ()).await;
    assert_eq!(found(&server, NOBODY, json!("text:coal")).await.concat(), "abcclosedde");
}

#[tokio::test]
async fn a_damaged_text_gives_no_snippet_and_keeps_nobody_from_the_hits() {
    let server = server().await;
    let wanted = json!({"query": "coal", "sort": "ref", "highlight": true});
    let sound = shown(&server.post(MINER, SEARCH, &wanted).await).0;
    assert_eq!(sound, ["a", "b", "c", "d", "e"]);
    for damaged in [TEXT.replacen('o', "x", 1), TEXT[1..].to_owned()] {
        server.put("packs/1/00-txt-00001", damaged).await;
        let answer = server.post(MINER, SEARCH, &wanted).await;
        assert_eq!(answer.json(200)["documents"].as_array().unwrap().len(), 6);
        assert_eq!(shown(&answer).0, Vec::<String>::new());
    }
}
