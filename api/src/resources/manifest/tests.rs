//! What packagers are told.

use adit_shared::store::{NewCollection, Store as _};
use serde_json::{Value, json};

use crate::testing::http::{MINER, PACKAGER, STRANGER, Server};

/// A member's line without the places of its files.
fn member(line: &Value) -> Value {
    let files: Vec<&str> = line["files"].as_array().unwrap().iter().map(|f| f["format"].as_str().unwrap()).collect();
    let mut member = line.clone();
    member["files"] = json!(files);
    member.as_object_mut().unwrap().remove("id");
    member
}

#[tokio::test]
async fn licences_and_metadata_come_as_far_as_they_are_asked_for() {
    let server = Server::new().await;
    let full = json!({"title": "A", "license": "https://example.org/l", "creator": ["X"]});
    let listed = json!({"license": ["no", "text"]});
    server.import("c", &[("a", full.clone(), &[("txt", "one")]), ("b", listed.clone(), &[])]).await;
    let docset = server.docset("c", &["a", "b"]).await;
    let lines = async |query: &str| server.get(PACKAGER, &format!("{docset}/manifest?fmt=txt{query}")).await.lines();

    let plain = lines("").await;
    assert_eq!(plain, lines("&metadata=none").await);
    assert_eq!(plain[0]["documents"], 2);
    assert_eq!(plain[0].get("base"), None);
    assert_eq!(member(&plain[1]), json!({"ref": "a", "name": "a", "files": ["txt"]}));
    assert_eq!(plain[3], json!({"end": 2}));

    let licensed = lines("&metadata=license").await;
    assert_eq!(
        member(&licensed[1]),
        json!({"ref": "a", "name": "a", "files": ["txt"], "license": "https://example.org/l"})
    );
    assert_eq!(member(&licensed[2]), json!({"ref": "b", "name": "b", "files": []}));

    let described = lines("&metadata=full").await;
    assert_eq!(described[1]["metadata"], full);
    assert_eq!(described[1]["license"], "https://example.org/l");
    assert_eq!(described[2]["metadata"], listed);
    assert_eq!(described[2].get("license"), None);

    let refused = server.get(PACKAGER, &format!("{docset}/manifest?fmt=txt&metadata=some")).await.json(400);
    assert!(refused["detail"].as_str().unwrap().contains("`none`, `license`, `full`"), "{refused}");
    assert_eq!(server.get(MINER, &format!("{docset}/manifest?fmt=txt")).await.status, 403);
}

#[tokio::test]
async fn what_a_package_says_about_itself_stays_as_it_was_when_it_was_asked_for() {
    let server = Server::new().await;
    server.world.clock.advance(30 * 24 * 3_600_000);
    server.import("c", &[("a", json!({}), &[("txt", "one")])]).await;
    let docset = server.docset("c", &["a"]).await;
    let package = server.post(MINER, &format!("{docset}/packages"), &json!({"layout": "bag"})).await.json(202);
    let flat = server.post(MINER, &format!("{docset}/packages"), &json!({})).await.json(202);
    let about = async |query: &str| {
        server.get(PACKAGER, &format!("{docset}/manifest?fmt=txt{query}")).await.lines()[0]["about"].clone()
    };
    let expected = json!({
        "collection": "c", "name": "The c", "description": "What it holds",
        "license": "https://example.org/collection", "url": "http://api.test/api", "date": "2023-12-14",
    });
    assert_eq!(about(&format!("&package={}", package["id"])).await, expected);
    assert_eq!(about("").await, expected);
    assert_eq!(about(&format!("&package={}", flat["id"])).await, Value::Null, "nothing in it tells of it");

    // The collection is described anew by an import that leaves the docset as it is.
    let lease = NewCollection { slug: "c".into(), name: "New".into(), ..NewCollection::default() };
    let lease = server.world.store.begin_import(&lease, server.app.clock.now_ms(), 1).await.unwrap();
    server.world.store.abort_import(&lease).await.unwrap();
    assert_eq!(about(&format!("&package={}", package["id"])).await, expected);
    assert_eq!(about("").await["name"], "New");
    let again = server.post(MINER, &format!("{docset}/packages"), &json!({"layout": "bag"})).await.json(202);
    assert_ne!((&again["id"], &again["fingerprint"]), (&package["id"], &package["fingerprint"]));

    let other = server.docset("c", &["a"]).await;
    let path = format!("{other}/manifest?fmt=txt&package={}", package["id"]);
    assert_eq!(server.get(PACKAGER, &path).await.status, 404, "it is of another docset");
}

#[tokio::test]
async fn a_delta_tells_what_is_unchanged_and_what_is_gone() {
    let server = Server::new().await;
    server
        .import(
            "c",
            &[
                ("same", json!({}), &[("txt", "1"), ("pdf", "1")]),
                ("text changed", json!({}), &[("txt", "2"), ("pdf", "2")]),
                ("pdf dropped", json!({}), &[("txt", "3"), ("pdf", "3")]),
                ("left out", json!({}), &[("txt", "4"), ("pdf", "4")]),
                ("xml only", json!({}), &[("xml", "5")]),
            ],
        )
        .await;
    let refs = ["same", "text changed", "pdf dropped", "left out", "xml only"];
    let base = server.docset("c", &refs).await;
    server
        .import(
            "c",
            &[
                ("text changed", json!({}), &[("txt", "2b"), ("pdf", "2")]),
                ("pdf dropped", json!({}), &[("txt", "3")]),
                ("new", json!({}), &[("txt", "6")]),
            ],
        )
        .await;
    let docset = server.docset("c", &["same", "text changed", "pdf dropped", "new"]).await;
    let base_id = base.rsplit('/').next().unwrap();
    let lines = server.get(PACKAGER, &format!("{docset}/manifest?fmt=pdf,txt&base={base_id}")).await.lines();
    let fingerprint = server.get(MINER, &base).await.json(200)["fingerprint"].clone();
    assert_eq!((&lines[0]["base"], &lines[0]["documents"]), (&fingerprint, &json!(4)));
    let mut unchanged: Vec<Value> = lines[1..5].iter().map(|line| json!([line["ref"], line["unchanged"]])).collect();
    unchanged.sort_by_key(Value::to_string);
    assert_eq!(
        unchanged,
        [
            json!(["new", null]),
            json!(["pdf dropped", ["txt"]]),
            json!(["same", ["pdf", "txt"]]),
            json!(["text changed", ["pdf"]]),
        ]
    );
    let gone: Vec<&Value> = lines[5..lines.len() - 1].iter().collect();
    assert_eq!(
        gone,
        [&json!({"gone": "pdf dropped", "formats": ["pdf"]}), &json!({"gone": "left out", "formats": ["pdf", "txt"]})]
    );
    assert_eq!(lines.last(), Some(&json!({"end": 4})));

    server.import("d", &[("same", json!({}), &[("txt", "1")])]).await;
    let foreign = server.docset("d", &["same"]).await;
    let refused = server.get(PACKAGER, &format!("{foreign}/manifest?fmt=txt&base={base_id}")).await.json(400);
    assert_eq!(refused["type"], "urn:adit:problem:invalid-recipe");
    assert_eq!(server.get(PACKAGER, &format!("{docset}/manifest?fmt=txt&base=99")).await.status, 404);
}

#[tokio::test]
async fn a_delta_of_many_documents_is_told_whole() {
    let server = Server::new().await;
    let refs: Vec<String> = (0..2600).map(|n| format!("doc.{n}")).collect();
    let files = [("txt", "same")];
    let all = |skip: usize, step: usize| {
        refs.iter().skip(skip).step_by(step).map(|r| (r.as_str(), json!({}), &files[..])).collect::<Vec<_>>()
    };
    server.import("c", &all(0, 1)).await;
    let old: Vec<&str> = refs.iter().map(String::as_str).take(2000).collect();
    let base = server.docset("c", &old).await;
    // New versions of every second one, with the same text.
    server.import("c", &all(0, 2)).await;
    let new: Vec<&str> = refs.iter().map(String::as_str).skip(1000).collect();
    let docset = server.docset("c", &new).await;
    let base = base.rsplit('/').next().unwrap();
    let lines = server.get(PACKAGER, &format!("{docset}/manifest?fmt=txt&base={base}")).await.lines();
    let number = |text: &Value| text.as_str().unwrap().strip_prefix("doc.").unwrap().parse::<usize>().unwrap();
    let members = &lines[1..1601];
    assert!(members.is_sorted_by_key(|line| line["id"].as_u64()));
    for line in members {
        assert_eq!(line.get("unchanged").is_some(), number(&line["ref"]) < 2000, "{line}");
    }
    let gone: Vec<usize> = lines[1601..lines.len() - 1].iter().map(|line| number(&line["gone"])).collect();
    assert_eq!(gone, (0..1000).collect::<Vec<_>>());
    assert_eq!(lines.last(), Some(&json!({"end": 1600})));
    assert_eq!(server.get(STRANGER, &docset).await.status, 404);
}
