//! Keys that end, keys that were given few scopes, and when keys were last used.

use std::time::Duration;

use adit_shared::domain::Scope;
use adit_shared::store::Store as _;
use axum::body::Body;
use axum::http::Request;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::testing::http::{Answer, MINER, NOBODY, PACKAGER, Server};

const HOUR_MS: i64 = 3_600_000;

async fn with_collection() -> Server {
    let server = Server::new().await;
    server.import("c", &[("a", json!({"title": "A work"}), &[("txt", "four")])]).await;
    server
}

/// The answers to everything of some kinds that the API has.
async fn answers(server: &Server, key: &str) -> Vec<Answer> {
    let search = json!({"query": "*"});
    vec![
        server.get(key, "/api/me").await,
        server.get(key, "/api/docsets").await,
        server.get(key, "/api/collections").await,
        server.get(key, "/api/documents/1").await,
        server.post(key, "/api/collections/c/search", &search).await,
        server.get(key, "/api/nowhere").await,
    ]
}

fn kind(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["type"].as_str().unwrap_or_default().trim_start_matches("urn:adit:problem:").to_owned()
}

#[tokio::test]
async fn a_key_is_valid_until_the_instant_at_which_it_expires() {
    let server = with_collection().await;
    let (id, store) = (server.key_id(MINER).await, &server.world.store);
    store.set_key_expiry(id, Some(1_700_000_001_000)).await.unwrap();
    server.world.clock.advance(999);
    assert_eq!(server.get(MINER, "/api/me").await.json(200)["expires"], "2023-11-14T22:13:21.000Z");
    server.world.clock.advance(1);
    for answer in answers(&server, MINER).await {
        assert_eq!((answer.status.as_u16(), kind(&answer).as_str()), (401, "key-expired"));
        let problem = answer.json(401);
        assert_eq!(problem["expired"], "2023-11-14T22:13:21.000Z");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("`adit keys set {id} --expires")), "{problem}");
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
        assert_eq!(answer.header("ratelimit"), None, "it uses nothing up");
    }
    // An operator renews it.
    store.set_key_expiry(id, Some(1_700_000_009_000)).await.unwrap();
    assert_eq!(server.get(MINER, "/api/me").await.status, 200);
    store.revoke_key(id, 1_700_000_002_000).await.unwrap();
    for answer in answers(&server, MINER).await {
        let problem = answer.json(401);
        assert_eq!(problem["type"], "urn:adit:problem:unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains("revoked at 2023-11-14T22:13:22.000Z"), "{problem}");
    }
}

#[tokio::test]
async fn a_key_that_is_unknown_is_refused_wherever_it_is_shown() {
    let server = with_collection().await;
    for answer in answers(&server, "another's").await {
        assert_eq!((answer.status.as_u16(), kind(&answer).as_str()), (401, "unauthorized"));
    }
    let statuses: Vec<u16> = answers(&server, NOBODY).await.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [401, 401, 200, 200, 200, 404], "without a key it is as it was");
    assert_eq!(server.get("another's", "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_key_without_the_scope_is_told_which_it_needs_and_who_can_give_it() {
    let server = with_collection().await;
    let id = server.key_id(MINER).await;
    server.world.store.set_key_scopes(id, Some(&[Scope::Search, Scope::DocsetsRead].into())).await.unwrap();
    let me = server.get(MINER, "/api/me").await.json(200);
    assert_eq!(me["scopes"], json!(["search", "docsets:read"]));
    assert_eq!(server.get(MINER, "/api/docsets").await.status, 200);
    assert_eq!(server.post(MINER, "/api/collections/c/search", &json!({"query": "*"})).await.status, 200);

    let body = json!({"collection": "c", "query": "*"});
    let refused = server.post(MINER, "/api/docsets", &body).await;
    let challenge = "Bearer realm=\"adit\", error=\"insufficient_scope\", scope=\"docsets:write\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
    let problem = refused.json(403);
    assert_eq!(
        (&problem["type"], &problem["scopes"]),
        (&json!("urn:adit:problem:forbidden"), &json!(["docsets:write"]))
    );
    assert!(problem["detail"].as_str().unwrap().contains(&format!("`adit keys set {id} --scope")), "{problem}");
    assert_eq!(server.get(MINER, "/api/documents/1/text").await.json(403)["scopes"], json!(["documents:read"]));

    let refused = server.post(PACKAGER, "/api/docsets", &body).await.json(403);
    assert!(refused["detail"].as_str().unwrap().contains("a key of role miner or operator"), "{refused}");
    let refused = server.post(PACKAGER, "/api/collections/c/search", &json!({"query": "*"})).await;
    assert_eq!(refused.json(403)["scopes"], json!(["search"]));
    assert_eq!(server.get(MINER, "/api/packages/1").await.json(403)["scopes"], json!(["packages:read", "build"]));
    assert_eq!(server.get(PACKAGER, "/api/packages/1").await.status, 404);
    assert_eq!(server.world.store.docsets(None, None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn the_hour_of_a_keys_last_use_is_stored_once() {
    let server = with_collection().await;
    let stored = async || {
        server.app.usage().flush().await;
        server.world.store.key(server.key_id(MINER).await).await.unwrap().unwrap().last_used
    };
    let hour = 1_700_000_000_000 / HOUR_MS * HOUR_MS;
    assert_eq!(stored().await, None);
    assert_eq!(server.get(MINER, "/api/me").await.json(200)["last_used"], Value::Null);
    assert_eq!(stored().await, Some(hour));
    let me = server.get(MINER, "/api/me").await.json(200);
    assert_eq!(me["last_used"], adit_shared::clock::rfc3339(hour));
    assert!(!server.app.usage().has_key_use(), "there is nothing more to store of this hour");
    server.world.clock.advance(HOUR_MS);
    // What is refused for want of a scope, or of quota, is a use too.
    server.get(MINER, "/api/usage").await.json(403);
    assert!(server.app.usage().has_key_use());
    assert_eq!(stored().await, Some(hour + HOUR_MS));

    // A write that fails is made again, and no request fails for it.
    server.world.clock.advance(HOUR_MS);
    assert_eq!(server.get(MINER, "/api/me").await.status, 200);
    let broken = server.world.store.clone();
    broken.close().await;
    server.app.usage().flush().await;
    assert!(server.app.usage().has_key_use());
}

/// Of a package that is being built.
#[tokio::test]
async fn an_event_stream_ends_with_its_key() {
    let server = with_collection().await;
    let docset = server.docset("c", &["a"]).await;
    let package = server.post(MINER, &format!("{docset}/packages"), &json!({})).await.json(202);
    let (id, now) = (server.key_id(MINER).await, server.app.clock.now_ms());
    server.world.store.set_key_expiry(id, Some(now + 1000)).await.unwrap();
    let events = format!("/api/packages/{}/events", package["id"]);
    let request = Request::get(events).header("x-api-key", MINER).body(Body::empty()).unwrap();
    let response = crate::router(server.app.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut frames = response.into_body().into_data_stream();
    let first = frames.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: status"), "{first:?}");
    server.world.clock.advance(1000);
    // Keep-alive comments may come before the end, and would go on for ever.
    let rest = async { while frames.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), rest).await.expect("the stream goes on");
}
