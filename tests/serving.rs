//! Documents and archives over HTTP: encodings, ranges, entity tags, quotas.

use std::io::Read as _;

use reqwest::Method;
use serde_json::json;

use crate::support::{expect, small};

#[tokio::test]
async fn a_text_is_sent_compressed_as_it_lies_or_decoded() {
    let (_dir, server) = small(&[]);
    let hits = expect(server.post("/api/collections/c/search", &json!({"query": "copper"})).await, 200).await;
    let document = server.json(hits["documents"][0]["url"].as_str().unwrap()).await;
    let expected = "A treatise on mining copper. ".repeat(50);
    let path = format!("/api/documents/{}/text", document["id"]);
    let plain = server.get(&path).await;
    assert_eq!(plain.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(plain.headers()["content-length"], expected.len().to_string().as_str());
    let tag = plain.headers()["etag"].clone();
    assert_eq!(plain.text().await.unwrap(), expected);

    let packed = server.request(Method::GET, &path).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_ne!(packed.headers()["etag"], tag);
    let bytes = packed.bytes().await.unwrap();
    assert!(bytes.len() < expected.len() / 2);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, expected);

    let known = server.request(Method::GET, &path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let pdf = server.request(Method::GET, &path).header("accept", "application/pdf").send().await.unwrap();
    assert_eq!(expect(pdf, 404).await["formats"], json!(["meta", "txt"]));
}

#[tokio::test]
async fn an_archive_can_be_fetched_in_pieces() {
    let (_dir, server) = small(&[]);
    let docset = server.docset("c", "*").await;
    let (package, whole) = server.archive(docset, &json!({})).await;
    let url = package["download"].as_str().unwrap();
    let piece = async |range: &str| server.request(Method::GET, url).header("range", range).send().await.unwrap();
    let head = piece("bytes=0-99").await;
    assert_eq!(head.status(), 206);
    assert_eq!(head.headers()["content-range"], format!("bytes 0-99/{}", whole.len()).as_str());
    assert_eq!(head.bytes().await.unwrap(), whole[..100]);
    assert_eq!(piece("bytes=100-").await.bytes().await.unwrap(), whole[100..]);
    assert_eq!(piece(&format!("bytes={}-", whole.len())).await.status(), 416);
    let stale = server
        .request(Method::GET, url)
        .header("range", "bytes=1-")
        .header("if-range", "\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!((stale.status().as_u16(), stale.bytes().await.unwrap().len()), (200, whole.len()));
    let head = server.request(Method::HEAD, url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()),
        (200, whole.len().to_string().as_str())
    );
}

#[tokio::test]
async fn quotas_count_documents_once() {
    let (_dir, server) = small(&[]);
    let key = server.new_key("small", &["--quota", "6"]);
    let send = async |method: Method, path: &str, body: serde_json::Value| {
        let request = server.request_as(Some(&key), method, path);
        if body.is_null() { request.send().await.unwrap() } else { request.json(&body).send().await.unwrap() }
    };
    let docset = expect(send(Method::POST, "/api/docsets", json!({"collection": "c", "query": "*"})).await, 201).await;
    let path = format!("/api/docsets/{}/packages", docset["id"]);
    let asked = send(Method::POST, &path, json!({})).await;
    assert_eq!((asked.status().as_u16(), asked.headers()["x-ratelimit-remaining"].to_str().unwrap()), (202, "1"));
    let again = send(Method::POST, &path, json!({})).await;
    assert!(
        again.status().is_success() && !again.headers().contains_key("x-ratelimit-remaining"),
        "asking again is free"
    );
    let text = send(Method::GET, "/api/documents/1/text", json!(null)).await;
    assert_eq!((text.status().as_u16(), text.headers()["x-ratelimit-remaining"].to_str().unwrap()), (200, "0"));
    let head = send(Method::HEAD, "/api/documents/1/text", json!(null)).await;
    assert_eq!(head.status(), 200, "a look at the head costs nothing");
    let refused = send(Method::GET, "/api/documents/1/text", json!(null)).await;
    assert!(refused.headers().contains_key("retry-after") && refused.headers().contains_key("x-ratelimit-reset"));
    assert_eq!(expect(refused, 429).await["type"], "urn:adit:problem:quota-spent");
    let other = expect(send(Method::POST, &path, json!({"layout": "bag"})).await, 429).await;
    assert_eq!(other["type"], "urn:adit:problem:quota-spent");
    let me = expect(send(Method::GET, "/api/me", json!(null)).await, 200).await;
    assert_eq!((&me["remaining"], &me["usage"][0]["documents"]), (&json!(0), &json!(6)));
}

#[tokio::test]
async fn the_service_tells_how_it_is() {
    let (_dir, server) = small(&[]);
    let ready = server.json("/readyz").await;
    assert_eq!(ready, json!({"database": "ok", "message broker": "ok", "object store": "ok"}));
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("adit_http_requests_total{method=\"GET\",route=\"/readyz\",status=\"200\"} 1"),
        "{metrics}"
    );
    let contract = server.get("/openapi.yaml").await.text().await.unwrap();
    assert_eq!(
        contract,
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.yaml")).unwrap(),
        "openapi.yaml is stale: adit openapi > openapi.yaml"
    );
    let docs = server.get("/docs/").await;
    assert!(docs.status().is_success() && docs.text().await.unwrap().contains("swagger"));
    assert!(server.stop().success());
}
