//! Bad input, one by one: each gets a clear problem, nothing breaks.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, expect, small};

async fn problem(response: reqwest::Response, status: u16, kind: &str) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().contains_key("x-request-id"));
    let body = expect(response, status).await;
    assert_eq!((&body["type"], &body["status"]), (&json!(format!("urn:adit:problem:{kind}")), &json!(status)));
    assert!(!body["detail"].as_str().unwrap().is_empty());
    body
}

async fn send_text(server: &Server, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
    server.request(Method::POST, path).header("content-type", "application/json").body(body).send().await.unwrap()
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let (_dir, server) = small(&[]);
    let search = "/api/collections/c/search";
    let broken = problem(send_text(&server, search, "{\"query\": ").await, 400, "malformed-json").await;
    assert!(broken["detail"].as_str().unwrap().contains("line 1"), "{broken}");
    problem(send_text(&server, search, "[]").await, 400, "malformed-json").await;
    problem(server.post(search, &json!({"query": 7})).await, 400, "malformed-json").await;
    let unknown = problem(server.post(search, &json!({"query": "*", "size": 3})).await, 400, "malformed-json").await;
    assert!(unknown["detail"].as_str().unwrap().contains("size"));
    problem(server.request(Method::POST, search).body("query=x").send().await.unwrap(), 415, "unsupported-media-type")
        .await;
    problem(send_text(&server, search, vec![b' '; 10 * 1024 * 1024]).await, 413, "body-too-large").await;
    problem(server.post(search, &json!({"query": "*", "limit": 1001})).await, 400, "invalid-request").await;
}

#[tokio::test]
async fn queries_that_cannot_be_read() {
    let (_dir, server) = small(&[]);
    let search = "/api/collections/c/search";
    let open = problem(server.post(search, &json!({"query": "gold AND (silver"})).await, 400, "invalid-query").await;
    assert!(open["position"].is_u64(), "{open}");
    let field = problem(server.post(search, &json!({"query": "titel:gold"})).await, 400, "unknown-field").await;
    assert_eq!(field["field"], "titel");
    assert!(field["fields"].as_array().unwrap().contains(&json!("title")));
    problem(server.post(search, &json!({"query": "*", "facets": ["colour"]})).await, 400, "unknown-field").await;
    let many = vec!["creator"; 100_000];
    let counted = expect(server.post(search, &json!({"query": "*", "facets": many})).await, 200).await;
    assert_eq!(counted["facets"].as_object().unwrap().len(), 1, "a facet is counted once");
    problem(server.post("/api/docsets", &json!({"collection": "c", "query": "a\0b"})).await, 400, "invalid-query")
        .await;
    problem(
        server.post("/api/docsets", &json!({"collection": "c", "query": "title:\"gold"})).await,
        400,
        "invalid-query",
    )
    .await;
}

#[tokio::test]
async fn cursors_that_do_not_fit() {
    let (_dir, server) = small(&[]);
    let search = "/api/collections/c/search";
    problem(server.post(search, &json!({"query": "*", "cursor": "!!"})).await, 400, "invalid-cursor").await;
    let page = expect(server.post(search, &json!({"query": "mining", "limit": 2})).await, 200).await;
    let cursor = page["next"].as_str().unwrap();
    problem(server.post(search, &json!({"query": "gold", "cursor": cursor})).await, 400, "invalid-cursor").await;
    problem(server.get("/api/docsets?cursor=AAAA").await, 400, "invalid-cursor").await;
    let first = server.docset("c", "*").await;
    server.docset("c", "*").await;
    let docsets = server.json("/api/docsets?limit=1").await;
    let cursor = docsets["next"].as_str().unwrap();
    let path = format!("/api/docsets/{first}/members?cursor={cursor}");
    problem(server.get(&path).await, 400, "invalid-cursor").await;
    problem(server.get("/api/docsets?limit=0").await, 400, "invalid-request").await;
    problem(server.get("/api/docsets?page=2").await, 400, "invalid-request").await;
}

#[tokio::test]
async fn pages_follow_one_another_without_gap_or_repetition() {
    let (_dir, server) = small(&[]);
    let mut refs = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let body = json!({"query": "mining", "sort": "ref", "limit": 2, "cursor": cursor});
        let page = expect(server.post("/api/collections/c/search", &body).await, 200).await;
        refs.extend(page["documents"].as_array().unwrap().iter().map(|d| d["ref"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(refs, ["doc.0", "doc.1", "doc.2", "doc.3", "doc.4"]);
    let docset = server.docset("c", "*").await;
    for (list, whole) in [("members", "members"), ("catalog", "documents")] {
        let mut path = format!("{}/api/docsets/{docset}/{list}?limit=2", server.url);
        let mut found = Vec::new();
        loop {
            let answer = server.get(&path).await;
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            let page = expect(answer, 200).await;
            found.extend(page[whole].as_array().unwrap().iter().map(|d| d["ref"].as_str().unwrap().to_owned()));
            assert_eq!(link.is_none(), page["next"].is_null());
            let Some(link) = link else { break };
            path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        }
        assert_eq!(found, refs);
        let request = server
            .request(Method::GET, &format!("/api/docsets/{docset}/{list}"))
            .header("accept", "application/x-ndjson");
        let lines = request.send().await.unwrap().text().await.unwrap();
        let refs_of_lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["ref"].clone()).collect();
        assert_eq!(refs_of_lines, refs.iter().map(|r| json!(r)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn things_that_are_not_there() {
    let (_dir, server) = small(&[]);
    problem(server.post("/api/collections/none/search", &json!({"query": "*"})).await, 404, "not-found").await;
    problem(server.post("/api/docsets", &json!({"collection": "none", "query": "*"})).await, 404, "not-found").await;
    for path in
        ["/api/collections/none", "/api/documents/999", "/api/documents/x", "/api/docsets/999", "/api/packages/999"]
    {
        problem(server.get(path).await, 404, "not-found").await;
    }
    for path in ["/nowhere", "/api/api/packages/999"] {
        problem(server.get(path).await, 404, "no-such-path").await;
    }
    let wrong_method = server.request(Method::PUT, "/api/docsets").send().await.unwrap();
    assert!(wrong_method.headers().contains_key("allow"));
    problem(wrong_method, 405, "method-not-allowed").await;
}

#[tokio::test]
async fn docsets_that_would_be_empty_or_unclear() {
    let (_dir, server) = small(&[]);
    problem(server.post("/api/docsets", &json!({"collection": "c", "query": "platinum"})).await, 422, "empty-docset")
        .await;
    problem(server.post("/api/docsets", &json!({"collection": "c", "refs": []})).await, 422, "empty-docset").await;
    let unknown = server.post("/api/docsets", &json!({"collection": "c", "refs": ["doc.1", "doc.77"]})).await;
    assert_eq!(problem(unknown, 422, "unknown-refs").await["unknown"], json!(["doc.77"]));
    problem(server.post("/api/docsets", &json!({"collection": "c"})).await, 400, "invalid-request").await;
    problem(
        server.post("/api/docsets", &json!({"collection": "c", "query": "*", "refs": ["doc.1"]})).await,
        400,
        "invalid-request",
    )
    .await;
    let docset = server.docset("c", "*").await;
    let packages = format!("/api/docsets/{docset}/packages");
    problem(server.post(&packages, &json!({"layout": "tar"})).await, 400, "invalid-request").await;
    problem(server.post(&packages, &json!({"formats": []})).await, 400, "invalid-request").await;
    problem(server.post(&packages, &json!({"formats": ["../x"]})).await, 400, "unknown-format").await;
}

#[tokio::test]
async fn keys_that_are_missing_wrong_or_revoked() {
    let (_dir, server) = small(&[]);
    let me = |key: Option<&'static str>| server.request_as(key, Method::GET, "/api/me").send();
    let missing = me(None).await.unwrap();
    assert!(missing.headers().contains_key("www-authenticate"));
    problem(missing, 401, "unauthorized").await;
    problem(me(Some("adit_wrong")).await.unwrap(), 401, "unauthorized").await;
    for (method, path) in [
        (Method::GET, "/api/docsets"),
        (Method::POST, "/api/docsets"),
        (Method::GET, "/api/documents/1/text"),
        (Method::GET, "/api/packages/1"),
    ] {
        let request = server.request_as(None, method, path).json(&json!({"collection": "c", "query": "*"}));
        problem(request.send().await.unwrap(), 401, "unauthorized").await;
    }
    for path in ["/api/collections", "/api/collections/c", "/api/collections/c/schema", "/api/documents/1"] {
        assert_eq!(server.request_as(None, Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    let key = server.new_key("short-lived", &[]);
    let with_key = async || server.request_as(Some(&key), Method::GET, "/api/me").send().await.unwrap();
    let id = expect(with_key().await, 200).await["id"].to_string();
    crate::support::succeed(&server.data, &["keys", "revoke", &id]);
    problem(with_key().await, 401, "unauthorized").await;
    let listed = crate::support::succeed(&server.data, &["keys", "list"]);
    assert!(listed.contains("short-lived") && !listed.contains(&key));
}

#[tokio::test]
async fn what_belongs_to_another_miner_is_not_there() {
    let (_dir, server) = small(&[]);
    let (alice, bob) = (server.new_key("alice", &[]), server.new_key("bob", &[]));
    let as_alice = |method, path: &str| server.request_as(Some(&alice), method, path);
    let docset = expect(
        as_alice(Method::POST, "/api/docsets").json(&json!({"collection": "c", "query": "*"})).send().await.unwrap(),
        201,
    )
    .await;
    let docset = format!("/api/docsets/{}", docset["id"]);
    let package =
        expect(as_alice(Method::POST, &format!("{docset}/packages")).json(&json!({})).send().await.unwrap(), 202).await;
    let package = format!("/api/packages/{}", package["id"]);
    let others = ["", "/members", "/catalog", "/estimate", "/dump"].map(|end| format!("{docset}{end}"));
    for path in others.iter().chain([&package, &format!("{package}/download"), &format!("{package}/events")]) {
        problem(server.request_as(Some(&bob), Method::GET, path).send().await.unwrap(), 404, "not-found").await;
    }
    for path in [&docset, &package] {
        problem(server.request_as(Some(&bob), Method::DELETE, path).send().await.unwrap(), 404, "not-found").await;
    }
    let renamed =
        server.request_as(Some(&bob), Method::PATCH, &docset).json(&json!({"name": "mine"})).send().await.unwrap();
    problem(renamed, 404, "not-found").await;
    problem(
        server.request_as(Some(&bob), Method::GET, &format!("{docset}/manifest?fmt=txt")).send().await.unwrap(),
        403,
        "forbidden",
    )
    .await;
    assert_eq!(
        expect(server.request_as(Some(&bob), Method::GET, "/api/docsets").send().await.unwrap(), 200).await["docsets"],
        json!([])
    );
    problem(as_alice(Method::PATCH, &docset).json(&json!({})).send().await.unwrap(), 400, "malformed-json").await;
    let patched =
        expect(as_alice(Method::PATCH, &docset).json(&json!({"name": "mine"})).send().await.unwrap(), 200).await;
    assert_eq!(patched["name"], "mine");
    assert_eq!(as_alice(Method::DELETE, &docset).send().await.unwrap().status(), 204);
    problem(as_alice(Method::GET, &package).send().await.unwrap(), 404, "not-found").await;
}
