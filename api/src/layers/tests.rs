use adit_shared::config::{CorsOrigins, HttpConfig, MetricsAccess};
use adit_shared::domain::{Role, secret_hash};
use adit_shared::store::Store as _;
use axum::body::Body;
use axum::http::Method;
use futures::{StreamExt as _, stream};
use serde_json::json;

use super::*;
use crate::body_budget::FREE;
use crate::client::PeerAddress;
use crate::state::{Parts, Settings};
use crate::testing::http::{MINER, NOBODY, STRANGER, Server};

/// A server with other settings of HTTP.
async fn server_with(http: HttpConfig) -> Server {
    let server = Server::new().await;
    let app = &server.app;
    let parts = Parts {
        store: app.store.clone(),
        objects: app.objects.clone(),
        search: app.search.clone(),
        broker: app.broker.clone(),
        clock: app.clock.clone(),
        settings: Settings { http, ..app.settings.clone() },
        metrics: crate::metrics::Metrics::default(),
        stop: app.stop.clone(),
        limits: crate::Limits::default(),
    };
    server.with(App::new(parts))
}

#[tokio::test]
async fn a_page_cannot_reach_the_service_by_a_name_of_its_own() {
    let server = Server::new().await;
    let ask = async |path: &str, host: &str| server.ask(Method::GET, NOBODY, path, &[("host", host)]).await;
    let refused = ask("/api/collections", "rebound.example").await;
    assert_eq!(refused.json(421)["type"], "urn:adit:problem:misdirected-request");
    // The request line's host counts, too.
    let absolute = server.ask(Method::GET, NOBODY, "http://rebound.example/api/collections", &[("host", "localhost")]);
    assert_eq!(absolute.await.status, 421);
    for host in ["api.test", "localhost:8080", "127.0.0.1:8080"] {
        assert_eq!(ask("/api/collections", host).await.status, 200, "{host}");
    }
    assert_eq!(ask("/healthz", "whatever.example").await.status, 200);
    let listed = server_with(HttpConfig { allowed_hosts: vec!["adit.internal".into()], ..HttpConfig::default() }).await;
    let answer = listed.ask(Method::GET, NOBODY, "/api/collections", &[("host", "adit.internal:8080")]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn scripts_of_other_origins_read_nothing_unless_they_are_listed() {
    let origin = ("origin", "https://lab.example");
    let allowed = async |server: &Server| {
        let answer = server.ask(Method::GET, NOBODY, "/api/collections", &[origin]).await;
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed(&Server::new().await).await, None);
    let preflight = [origin, ("access-control-request-method", "POST")];
    let answer = Server::new().await.ask(Method::OPTIONS, NOBODY, "/api/docsets", &preflight).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let only = |origin: &str| CorsOrigins::Only(vec![origin.to_owned()]);
    for (cors_origins, expected) in [
        (only("https://lab.example"), Some("https://lab.example")),
        (only("https://other.example"), None),
        (CorsOrigins::Any, Some("*")),
    ] {
        let server = server_with(HttpConfig { cors_origins, ..HttpConfig::default() }).await;
        assert_eq!(allowed(&server).await.as_deref(), expected);
    }
}

#[tokio::test]
async fn documents_run_nothing_in_a_browser() {
    let server = Server::new().await;
    let hostile = "<script>alert(1)</script>";
    server.put("packs/1/00-txt-00001", hostile.as_bytes().to_vec()).await;
    server.import("c", &[("evil", json!({"title": "x"}), &[("html", hostile), ("txt", hostile)])]).await;
    for path in ["/api/documents/1/files/html", "/api/documents/1/text"] {
        let answer = server.get(MINER, path).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, hostile.as_bytes()), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(answer.header("content-disposition").unwrap().starts_with("attachment; filename=\"evil."), "{path}");
    }
    for path in ["/api/collections", "/nowhere", "/docs/", "/openapi.yaml", "/healthz"] {
        let answer = server.get(NOBODY, path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script-src *"), "{path}");
        assert_eq!(policy.contains("script-src 'self'"), path == "/docs/", "{path}");
    }
}

#[tokio::test]
async fn metrics_are_for_operators_unless_they_are_opened() {
    let server = Server::new().await;
    server.world.store.create_key("boss", Role::Operator, None, &secret_hash("boss"), 0).await.unwrap();
    for (key, status) in [(NOBODY, 401), ("wrong", 401), (MINER, 403), ("boss", 200)] {
        assert_eq!(server.get(key, "/metrics").await.status, status, "{key}");
    }
    let bearer = server.ask(Method::GET, NOBODY, "/metrics", &[("authorization", "Bearer boss")]).await;
    assert!(bearer.status == 200 && bearer.body.starts_with(b"# HELP"));
    let of = async |metrics| server_with(HttpConfig { metrics, ..HttpConfig::default() }).await;
    assert_eq!(of(MetricsAccess::Open).await.get(NOBODY, "/metrics").await.status, 200);
    // A request inside the process has no address.
    assert_eq!(of(MetricsAccess::Loopback).await.get(NOBODY, "/metrics").await.status, 401);
    // Nor is a proxy's client on this machine because the proxy is, whatever it says of itself.
    let local = of(MetricsAccess::Loopback).await;
    for (header, status) in
        [(None, 200), (Some(("x-forwarded-for", "127.0.0.1")), 401), (Some(("forwarded", "x")), 401)]
    {
        let peer = PeerAddress([127, 0, 0, 1].into());
        assert_eq!(local.ask_from(peer, "/metrics", header.as_slice()).await.status, status, "{header:?}");
    }
}

#[tokio::test]
async fn request_ids_of_clients_are_taken_over_only_where_they_are_short_and_plain() {
    let server = Server::new().await;
    for (id, taken) in [
        ("trace-7_a.B", true),
        ("", false),
        ("a b", false),
        ("adit_key=secret", false),
        (&*"x".repeat(64), true),
        (&*"x".repeat(65), false),
    ] {
        let answer = server.ask(Method::GET, NOBODY, "/healthz", &[("x-request-id", id)]).await;
        let given = answer.header("x-request-id").unwrap();
        assert_eq!(given == id, taken, "{id}");
        assert!(!given.is_empty());
    }
    let twice = [("x-request-id", "a"), ("x-request-id", "b")];
    let answer = server.ask(Method::GET, NOBODY, "/healthz", &twice).await;
    assert!(answer.header("x-request-id").unwrap().len() > 1);
}

#[tokio::test]
async fn bodies_on_their_way_share_a_bounded_memory() {
    const LARGE: usize = 7 * 1024 * 1024;
    let server = Server::new().await;
    let budget = server.app.limits.bodies.clone();
    // A body that has come but for its end, by a client whose connection stays.
    let unfinished =
        || Body::from_stream(stream::iter([Ok::<_, std::io::Error>(vec![b' '; LARGE])]).chain(stream::pending()));
    let headers = [("content-type", "application/json")];
    let send = |key| server.send(Method::POST, key, "/api/docsets", &headers, unfinished());
    let mut first: Vec<_> = (0..2).map(|_| Box::pin(send(MINER))).collect();
    for request in &mut first {
        // As far as it comes: the miner has no share left for a third.
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), request).await.is_err());
    }
    assert!(budget.held() > LARGE);
    let refused = send(MINER).await;
    let problem = refused.json(503);
    assert_eq!((&problem["part"], refused.header("retry-after")), (&json!("request bodies"), Some("5")));
    // Others are not kept from their work, nor the miner from small requests.
    let small = json!({"collection": "none", "query": "*", "name": "x".repeat(100)});
    for key in [MINER, STRANGER] {
        assert_eq!(server.post(key, "/api/docsets", &small).await.status, 404);
    }
    drop(first);
    assert_eq!(budget.held(), 0);
    assert!(small.to_string().len() < FREE);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_its_operation_needs() {
    let server = Server::new().await;
    let padded = |bytes: usize| Body::from(format!("{}{{\"query\": \"*\"}}", " ".repeat(bytes)));
    let headers = [("content-type", "application/json")];
    let send = |path, bytes| server.send(Method::POST, MINER, path, &headers, padded(bytes));
    assert_eq!(send("/api/collections/c/search", 1024 * 1024).await.status, 413);
    assert_eq!(send("/api/collections/c/search", 1000 * 1024).await.status, 404);
    assert_eq!(send("/api/docsets", 1024 * 1024).await.status, 400, "it names no collection");
    let refs = json!({"collection": "c", "refs": vec!["a"; 200_001]});
    let refused = server.post(MINER, "/api/docsets", &refs).await.json(400);
    assert!(refused["detail"].as_str().unwrap().contains("application/x-ndjson"), "{refused}");
}
