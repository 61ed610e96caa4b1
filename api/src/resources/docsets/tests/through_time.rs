//! Docsets across imports: what is frozen stays, what is made anew is of the newest corpus version, and the difference is told.

use super::*;

/// Changes `b`, and brings `f`, both of coal.
async fn later(server: &Server) {
    let works = [("b", "coal silver"), ("f", "coal")];
    server.import("c", &works.map(|(r#ref, title)| (r#ref, json!({"title": title}), &[("txt", "two")][..]))).await;
}

async fn refresh(server: &Server, docset: &Value) -> Answer {
    server.post(MINER, &format!("{}/refresh", docset["url"].as_str().unwrap()), &json!({})).await
}

async fn diff(server: &Server, docset: &Value, since: &Value, more: &str) -> Value {
    let path = format!("{}/diff?since={}{more}", docset["url"].as_str().unwrap(), since["id"]);
    server.get(MINER, &path).await.json(200)
}

fn told(entries: &Value) -> Vec<&str> {
    entries.as_array().unwrap().iter().map(|entry| entry["ref"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_docset_is_made_anew_of_the_newest_corpus_version() {
    let server = mines().await;
    let coal = make(&server, json!({"query": "coal", "name": "Coal"})).await;
    let given = make(&server, json!({"refs": ["b", "c"]})).await;
    let both = make(&server, json!({"from": {"union": [coal["id"], given["id"]]}})).await;
    let of_both = make(&server, json!({"from": {"difference": [both["id"], given["id"]]}})).await;
    for docset in [&coal, &given, &both, &of_both] {
        assert_eq!(&refresh(&server, docset).await.json(200), docset, "nothing has changed");
    }
    later(&server).await;
    for (docset, expected) in
        [(&coal, &["a", "b", "f"][..]), (&given, &["b", "c"]), (&both, &["a", "b", "c", "f"]), (&of_both, &["a", "f"])]
    {
        let answer = refresh(&server, docset).await;
        let new = answer.json(201);
        assert!(answer.header("location").is_some_and(|location| new["url"].as_str().unwrap().ends_with(location)));
        let mut now = refs(&server, &new).await;
        now.sort();
        assert_eq!(now, expected);
        assert_eq!(
            (&new["origin"], &new["name"], &new["corpus_version"]),
            (&docset["origin"], &docset["name"], &json!(2))
        );
        assert_eq!(refresh(&server, docset).await.json(200), new, "asked for twice it is made once");
        let again = server.post(MINER, &format!("{}/refresh", docset["url"].as_str().unwrap()), &json!({})).await;
        assert_eq!(again.json(200), new);
        assert_eq!(refresh(&server, &new).await.json(200), new);
        let old = server.get(MINER, docset["url"].as_str().unwrap()).await.json(200);
        assert_eq!(&old, docset, "what is frozen stays");
    }
}

#[tokio::test]
async fn a_sample_is_drawn_anew_of_what_there_is_now() {
    let server = mines().await;
    let drawn = make(&server, json!({"query": "*", "sample": {"size": 3, "seed": 5}})).await;
    let of_refs = make(&server, json!({"refs": ["a", "b", "c"], "sample": {"size": 2, "seed": 5}})).await;
    let (before, of_refs_before) = (refs(&server, &drawn).await, refs(&server, &of_refs).await);
    server.import("c", &WORKS.map(|(r#ref, title)| (r#ref, json!({"title": title}), &[("txt", "two")][..]))).await;
    let new = refresh(&server, &drawn).await.json(201);
    assert_eq!(refs(&server, &new).await, before, "works stay in the sample when they change");
    let new = refresh(&server, &of_refs).await.json(201);
    assert_eq!(refs(&server, &new).await, of_refs_before, "only the sample's refs are kept");
}

#[tokio::test]
async fn what_cannot_be_made_anew_says_why() {
    let server = mines().await;
    let part = make(&server, json!({"refs": ["a"]})).await;
    let whole = make(&server, json!({"from": {"union": [part["id"]]}})).await;
    server.ask(Method::DELETE, MINER, part["url"].as_str().unwrap(), &[]).await;
    let gone = refresh(&server, &whole).await.json(409);
    assert_eq!(gone["type"], "urn:adit:problem:origin-gone");
    assert!(gone["detail"].as_str().unwrap().contains("was deleted"));
    let silver = make(&server, json!({"query": "title:coal NOT title:iron"})).await;
    server.import("c", &[("b", json!({"title": "silver"}), &[("txt", "two")])]).await;
    assert_eq!(refresh(&server, &silver).await.json(422)["type"], "urn:adit:problem:empty-docset");
}

#[tokio::test]
async fn a_difference_tells_what_came_changed_and_left() {
    let server = mines().await;
    let old = make(&server, json!({"query": "coal OR gold"})).await;
    later(&server).await;
    let new = make(&server, json!({"query": "coal OR iron"})).await;
    let whole = diff(&server, &new, &old, "").await;
    assert_eq!(whole["counts"], json!({"added": 2, "changed": 1, "withdrawn": 1}));
    assert_eq!(
        (told(&whole["added"]), told(&whole["changed"]), told(&whole["withdrawn"])),
        (vec!["c", "f"], vec!["b"], vec!["e"])
    );
    assert_eq!((&whole["changed"][0]["id"], &whole["changed"][0]["was"]), (&json!(6), &json!(2)));
    assert_eq!(whole["next"], Value::Null);
    let back = diff(&server, &old, &new, "").await;
    assert_eq!(
        (told(&back["added"]), told(&back["changed"]), told(&back["withdrawn"])),
        (vec!["e"], vec!["b"], vec!["c", "f"])
    );
    assert_eq!(diff(&server, &new, &new, "").await["counts"], json!({"added": 0, "changed": 0, "withdrawn": 0}));

    for limit in 1..=5 {
        let (mut seen, mut more) = (Vec::new(), format!("&limit={limit}"));
        loop {
            let page = diff(&server, &new, &old, &more).await;
            assert_eq!(page["counts"], whole["counts"]);
            seen.extend(
                ["added", "changed", "withdrawn"].iter().flat_map(|kind| page[kind].as_array().unwrap().clone()),
            );
            let Some(next) = page["next"].as_str() else { break };
            more = format!("&limit={limit}&cursor={next}");
        }
        let all: Vec<Value> =
            ["added", "changed", "withdrawn"].iter().flat_map(|kind| whole[kind].as_array().unwrap().clone()).collect();
        assert_eq!(seen, all, "in pages of {limit}");
    }
    let path = format!("{}/diff?since={}", new["url"].as_str().unwrap(), old["id"]);
    let first = server.get(MINER, &format!("{path}&limit=1")).await;
    let link = first.header("link").unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert_eq!(told(&server.get(MINER, &link).await.json(200)["added"]), ["f"]);
    let lines = server.ask(Method::GET, MINER, &path, &[("accept", "application/x-ndjson")]).await.lines();
    let told: Vec<_> =
        lines.iter().map(|l| (l["change"].as_str().unwrap(), l["ref"].as_str().unwrap(), l["was"].as_u64())).collect();
    assert_eq!(told, [("added", "c", None), ("added", "f", None), ("changed", "b", Some(2)), ("withdrawn", "e", None)]);
}

#[tokio::test]
async fn only_docsets_of_one_collection_are_compared() {
    let server = mines().await;
    server.import("other", &[work("a", json!({}))]).await;
    let docset = make(&server, json!({"refs": ["a"]})).await;
    let url = docset["url"].as_str().unwrap();
    let other = server.post(MINER, "/api/docsets", &json!({"collection": "other", "refs": ["a"]})).await.json(201);
    assert_eq!(server.get(MINER, &format!("{url}/diff?since={}", other["id"])).await.status, 400);
    for (query, status) in [
        ("", 400),
        ("?since=99", 404),
        ("?since=1&limit=0", 400),
        ("?since=1&cursor=x", 400),
        ("?since=1&until=2", 400),
    ] {
        assert_eq!(server.get(MINER, &format!("{url}/diff{query}")).await.status, status, "{query}");
    }
}
