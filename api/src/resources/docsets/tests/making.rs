//! What docsets are made of.

use super::*;

#[tokio::test]
async fn a_docset_is_made_of_a_query_of_refs_or_of_other_docsets_and_says_so() {
    let server = mines().await;
    let coal = make(&server, json!({"query": "coal", "name": "Coal"})).await;
    assert_eq!((coal["name"].as_str(), coal["query"].as_str()), (Some("Coal"), Some("coal")));
    assert_eq!(coal["origin"], json!({"query": "coal", "refs": null, "from": null, "sample": null, "watch": null}));
    assert_eq!(refs(&server, &coal).await, ["a", "b"]);
    let given = make(&server, json!({"refs": ["c", "a", "d", "a"]})).await;
    assert_eq!(given["origin"], json!({"query": null, "refs": 3, "from": null, "sample": null, "watch": null}));
    assert_eq!(
        (given["query"].clone(), refs(&server, &given).await),
        (Value::Null, vec!["a".into(), "c".into(), "d".into()])
    );

    let of = |name: &str| json!({name: [coal["id"], given["id"]]});
    for (operation, expected) in
        [("union", &["a", "b", "c", "d"][..]), ("intersection", &["a"]), ("difference", &["b"])]
    {
        let made = make(&server, json!({"from": of(operation)})).await;
        assert_eq!(made["origin"]["from"], of(operation));
        assert_eq!(
            (made["query"].clone(), refs(&server, &made).await),
            (Value::Null, expected.iter().map(|r| (*r).to_owned()).collect())
        );
        let same = make(&server, json!({"refs": expected})).await;
        let measured =
            |docset: &Value| [docset["fingerprint"].clone(), docset["formats"].clone(), docset["bytes"].clone()];
        assert_eq!(measured(&made), measured(&same), "however it was made");
    }
    let shown = server.get(MINER, coal["url"].as_str().unwrap()).await.json(200);
    assert_eq!(shown, coal);
    let listed = server.get(MINER, "/api/docsets?limit=1").await.json(200);
    assert_eq!(listed["docsets"][0]["origin"]["refs"], 1);
}

#[tokio::test]
async fn a_sample_is_drawn_of_anything_and_is_the_same_for_the_same_seed() {
    let server = mines().await;
    let all = make(&server, json!({"query": "*"})).await;
    let sample = json!({"size": 2, "seed": 7});
    let drawn = make(&server, json!({"query": "*", "sample": sample})).await;
    assert_eq!((drawn["size"].as_u64(), &drawn["origin"]["sample"]), (Some(2), &sample));
    let everything: Vec<&str> = WORKS.map(|(r#ref, _)| r#ref).to_vec();
    for same in [json!({"refs": everything}), json!({"from": {"union": [all["id"]]}})] {
        let mut same = same;
        same["sample"] = json!({"size": 2.0, "seed": 7});
        assert_eq!(make(&server, same).await["fingerprint"], drawn["fingerprint"]);
    }
    let lines: String = everything.iter().map(|text| format!("{}\n", json!(text))).collect();
    let of_lines = ask_lines(&server, "/api/docsets?collection=c&sample_size=2&sample_seed=7", lines).await.json(201);
    assert_eq!(of_lines["fingerprint"], drawn["fingerprint"]);
    let whole = make(&server, json!({"query": "*", "sample": {"size": 9, "seed": 7}})).await;
    assert_eq!(whole["fingerprint"], all["fingerprint"]);
}

#[tokio::test]
async fn refs_come_in_lines_too() {
    let server = mines().await;
    let lines = "\"a\"\r\n\n{\"ref\": \"c\", \"id\": 7}\n\"a\"";
    let made = ask_lines(&server, "/api/docsets?collection=c&name=Lines", lines).await.json(201);
    assert_eq!((made["name"].as_str(), &made["origin"]["refs"]), (Some("Lines"), &json!(2)));
    assert_eq!(refs(&server, &made).await, ["a", "c"]);
    // What members are listed as is taken as refs.
    let listed = server
        .ask(
            Method::GET,
            MINER,
            &format!("{}/members", made["url"].as_str().unwrap()),
            &[("accept", "application/x-ndjson")],
        )
        .await;
    let again = ask_lines(&server, "/api/docsets?collection=c", listed.body).await.json(201);
    assert_eq!(again["fingerprint"], made["fingerprint"]);

    let unknown: String = (0..12_000).map(|n| format!("\"x{n}\"\n")).chain(["\"a\"\n".to_owned()]).collect();
    let refused = ask_lines(&server, "/api/docsets?collection=c", unknown).await.json(422);
    assert_eq!((refused["count"].as_u64(), refused["unknown"].as_array().unwrap().len()), (Some(12_000), 20));
    assert_eq!(refused["unknown"][0], "x0");
    let bad = ask_lines(&server, "/api/docsets?collection=c", "\"a\"\na\n\n{\"id\": 1}\n").await.json(400);
    assert_eq!((&bad["type"], &bad["lines"]), (&json!("urn:adit:problem:malformed-json"), &json!([2, 4])));
    let many = ask_lines(&server, "/api/docsets?collection=c", "\"a\"\n".repeat(1_000_001)).await.json(413);
    assert!(many["detail"].as_str().unwrap().contains("1000000 refs"));
}

#[tokio::test]
async fn what_cannot_be_made_is_refused() {
    let server = mines().await;
    let theirs =
        server.post(STRANGER, "/api/docsets", &json!({"collection": "c", "refs": ["a"]})).await.json(201)["id"].clone();
    server.import("other", &[work("a", json!({}))]).await;
    let other =
        server.post(MINER, "/api/docsets", &json!({"collection": "other", "refs": ["a"]})).await.json(201)["id"]
            .clone();
    let (a, b) = (make(&server, json!({"refs": ["a"]})).await, make(&server, json!({"refs": ["b"]})).await);
    for (asked, status, word) in [
        (json!({}), 400, "exactly one of query, refs and from"),
        (json!({"query": "*", "refs": ["a"]}), 400, "exactly one"),
        (json!({"refs": ["a"], "from": {"union": [a["id"]]}}), 400, "exactly one"),
        (json!({"query": "*", "sample": {"size": 0, "seed": 1}}), 400, "1 document"),
        (json!({"query": "*", "sample": {"size": 1}}), 400, "seed"),
        (json!({"query": "*", "sample": {"size": 1, "seed": 1, "salt": 1}}), 400, "salt"),
        (json!({"from": {"union": []}}), 400, "1 to 100 docsets"),
        (json!({"from": {"union": [theirs]}}), 404, "docset"),
        (json!({"from": {"union": [a["id"], 99]}}), 404, "docset"),
        (json!({"from": {"union": [a["id"], other]}}), 400, "of the collection other"),
        (json!({"from": {"intersection": [a["id"], b["id"]]}}), 422, "nothing is selected"),
        (json!({"refs": []}), 422, "nothing is selected"),
        (json!({"refs": ["a", "z"]}), 422, "1 of 2 refs"),
    ] {
        let refused = ask(&server, asked.clone()).await.json(status);
        assert!(refused["detail"].as_str().unwrap().contains(word), "{asked}: {refused}");
    }
    for (path, status) in [
        ("/api/docsets", 400),
        ("/api/docsets?collection=none", 404),
        ("/api/docsets?collection=c&sample_size=1", 400),
        ("/api/docsets?collection=c&sample_size=0&sample_seed=1", 400),
        ("/api/docsets?collection=c&name=", 400),
        ("/api/docsets?collection=c&query=x", 400),
    ] {
        assert_eq!(ask_lines(&server, path, "\"a\"\n").await.status, status, "{path}");
    }
    assert_eq!(ask_lines(&server, "/api/docsets?collection=c", "").await.status, 422);
    let both = server.post(MINER, "/api/docsets?collection=c", &json!({"collection": "c", "refs": ["a"]})).await;
    assert_eq!(both.status, 400);
    let text = server.send(Method::POST, MINER, "/api/docsets", &[("content-type", "text/plain")], Body::empty()).await;
    assert_eq!(text.status, 415);
}
