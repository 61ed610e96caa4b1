//! Documents and archives over HTTP: encodings, ranges, entity tags, digests, quotas.

use std::io::Read as _;

use adit_shared::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, StoreKind, expect, noise, small, small_collection, succeed, text,
    write_collection,
};

/// The `Repr-Digest` of these bytes (RFC 9530).
fn digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::of(bytes).0))
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

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
    assert_eq!(header(&plain, "repr-digest"), Some(digest(expected.as_bytes()).as_str()));
    let tag = plain.headers()["etag"].clone();
    let head = server.request(Method::HEAD, &path).send().await.unwrap();
    for name in ["etag", "content-length", "content-type", "repr-digest", "accept-ranges", "vary"] {
        assert!(head.headers().contains_key(name));
        assert_eq!(header(&head, name), header(&plain, name), "{name}");
    }
    assert_eq!(plain.text().await.unwrap(), expected);

    let packed = server.request(Method::GET, &path).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_ne!(packed.headers()["etag"], tag);
    assert_eq!(header(&packed, "repr-digest"), None, "it would be of the coded bytes, of which no hash is kept");
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
    // For HEAD there are no ranges.
    let head = server.request(Method::HEAD, url).header("range", "bytes=1-").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, Some(&*whole.len().to_string())));
    for answer in [&head, &piece("bytes=5-9").await] {
        assert_eq!(header(answer, "etag"), Some(&*format!("\"{}\"", Sha256::of(&whole))));
        assert_eq!(header(answer, "repr-digest"), Some(digest(&whole).as_str()), "of the whole, whatever part is sent");
        assert!(header(answer, "content-disposition").unwrap().starts_with("attachment; filename=\"flat-"));
    }
}

/// The validator of an archive is that of its bytes: it holds for the archive that is built in its place, too.
async fn a_download_can_go_on_in_an_archive_that_was_built_again(server: &Client) {
    let docset = server.docset("c", "*").await;
    let (first, whole) = server.archive(docset, &json!({})).await;
    expect(server.request(Method::DELETE, first["url"].as_str().unwrap()).send().await.unwrap(), 200).await;
    let (second, _) = server.archive(docset, &json!({})).await;
    assert_ne!(first["id"], second["id"]);
    let url = second["download"].as_str().unwrap();
    let ask = async |method: Method, headers: &[(&str, &str)]| {
        let request = server.request(method, url);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    };
    let head = ask(Method::HEAD, &[]).await;
    assert_eq!((head.status().as_u16(), header(&head, "location")), (200, None), "a HEAD is answered here");
    let tag = header(&head, "etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", first["sha256"].as_str().unwrap()));
    assert_eq!(header(&head, "repr-digest"), Some(digest(&whole).as_str()));

    let rest = [("range", "bytes=100-"), ("if-range", tag.as_str())];
    let answer = ask(Method::GET, &rest).await;
    let answer = match header(&answer, "location") {
        Some(link) => reqwest::Client::new().get(link).header("range", "bytes=100-").send().await.unwrap(),
        None => answer,
    };
    assert_eq!(answer.status(), 206);
    let disposition = header(&answer, "content-disposition").unwrap();
    assert_eq!(disposition, format!("attachment; filename=\"{}\"", flat_name(&second)));
    assert!(answer.bytes().await.unwrap() == whole[100..]);

    // No object store heeds If-Range: what must not be joined is never redirected to it.
    let stale = ask(Method::GET, &[("range", "bytes=100-"), ("if-range", "\"other\"")]).await;
    assert_eq!((stale.status().as_u16(), header(&stale, "content-range")), (200, None));
    assert!(stale.bytes().await.unwrap() == whole);
    assert_eq!(ask(Method::GET, &[("if-none-match", &tag)]).await.status(), 304);
}

#[tokio::test]
async fn a_download_can_go_on_in_an_archive_that_was_built_again_on_each_store() {
    for store in [StoreKind::Folder, StoreKind::S3] {
        let Some(deployment) = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, store).await else {
            continue;
        };
        deployment.import(&small_collection(deployment.folder()));
        let server = deployment.start(&[]);
        a_download_can_go_on_in_an_archive_that_was_built_again(&server).await;
        server.stop();
    }
}

#[tokio::test]
async fn a_file_that_is_stored_as_it_is_can_be_fetched_in_pieces() {
    let (dir, server) = small(&[]);
    let pdf = noise(1, 5000);
    let mut document = text("pit", "A pit", "deep");
    document.files.push(("pdf", pdf.clone()));
    succeed(&server.data, &["import", write_collection(dir.path(), "pits", &[document]).to_str().unwrap()]);
    let hits = server.search("pits", &json!({"query": "*"})).await;
    let path = format!("/api/documents/{}/files/pdf", hits["documents"][0]["id"]);
    let piece = server.request(Method::GET, &path).header("range", "bytes=4000-").send().await.unwrap();
    assert_eq!((piece.status().as_u16(), header(&piece, "repr-digest")), (206, Some(digest(&pdf).as_str())));
    assert!(piece.bytes().await.unwrap() == pdf[4000..]);
}

#[tokio::test]
async fn scripts_in_browsers_may_resume_and_check_downloads() {
    let (_dir, server) = small(&[("ADIT_CORS_ORIGINS", "https://x.example")]);
    let answer = server.request(Method::GET, "/api/collections").header("origin", "https://x.example").send().await;
    let answer = answer.unwrap();
    let exposed = header(&answer, "access-control-expose-headers").unwrap();
    for name in
        ["accept-ranges", "content-range", "etag", "ratelimit", "ratelimit-policy", "repr-digest", "retry-after"]
    {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name} is not in {exposed}");
    }
    let preflight = server.request(Method::OPTIONS, "/api/packages/1/download").header("origin", "https://x.example");
    let preflight = preflight.header("access-control-request-method", "GET").send().await.unwrap();
    let allowed = header(&preflight, "access-control-allow-headers").unwrap();
    for name in ["range", "if-range", "if-none-match", "x-api-key", "authorization"] {
        assert!(allowed.split(',').any(|allowed| allowed.trim() == name), "{name} is not in {allowed}");
    }
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
    assert_eq!(header(&again, "x-ratelimit-remaining"), Some("1"), "asking again is free");
    assert!(again.status().is_success());
    assert_eq!(again.json::<Value>().await.unwrap()["cost"], 0);
    let text = send(Method::GET, "/api/documents/1/text", json!(null)).await;
    assert_eq!((text.status().as_u16(), text.headers()["x-ratelimit-remaining"].to_str().unwrap()), (200, "0"));
    let head = send(Method::HEAD, "/api/documents/1/text", json!(null)).await;
    assert_eq!(head.status(), 200, "a look at the head costs nothing");
    let again = send(Method::GET, "/api/documents/1/text", json!(null)).await;
    assert_eq!(again.status(), 200, "it is paid for today");
    let refused = send(Method::GET, "/api/documents/2/text", json!(null)).await;
    assert!(header(&refused, "ratelimit").unwrap().starts_with("\"documents\";r=0;t="));
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
    assert_eq!(ready, json!({"database": "ok", "message broker": "ok", "object store": "ok", "search index": "ok"}));
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

/// The name of a flat archive.
fn flat_name(package: &Value) -> String {
    format!("flat-{}.zip", &package["fingerprint"].as_str().unwrap()[..12])
}
