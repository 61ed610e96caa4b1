//! What reading documents costs, and how many can be read at once.

use adit_shared::domain::{Allowance, Metric, Month, OwnLimit};
use adit_shared::store::Store as _;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::poll;
use serde_json::json;
use tower::ServiceExt as _;

use crate::testing::http::{Answer, Doc, MINER, STRANGER, Server};

const DAY_MS: i64 = 86_400_000;

/// A server with documents whose files are not stored compressed, and a limit for the miner.
async fn server(documents: u64) -> Server {
    let server = Server::new().await;
    let files: &[_] = &[("txt", "four"), ("pdf", "four")];
    let (a, b, empty) = (("a", json!({}), files), ("b", json!({}), files), ("c", json!({}), &[("txt", "")][..]));
    server.import("c", &[a, b, empty]).await;
    server.put("packs/1/00-txt-00001", "four").await;
    server.limit(MINER, documents).await;
    server
}

async fn part(server: &Server, path: &str, range: &str) -> Answer {
    server.ask(Method::GET, MINER, path, &[("range", range)]).await
}

/// Status, and documents that are left.
fn seen(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status.as_u16(), answer.header("x-ratelimit-remaining"))
}

#[tokio::test]
async fn a_range_is_free_because_it_was_paid_for_and_not_because_it_is_one() {
    let server = server(3).await;
    let (first, second) = ("/api/documents/1/files/pdf", "/api/documents/2/files/pdf");
    for head in ["/api/documents/1/text", first] {
        assert_eq!(seen(&server.ask(Method::HEAD, MINER, head, &[]).await), (200, Some("3")));
    }
    for range in ["bytes=1-", "bytes=1-", "bytes=0-1", "bytes=-1", "bytes=1-1"] {
        assert_eq!(seen(&part(&server, first, range).await), (206, Some("2")), "{range}");
    }
    assert_eq!(seen(&server.get(MINER, first).await), (200, Some("2")), "all of it is what was paid for");
    assert_eq!(seen(&server.get(MINER, "/api/documents/1/text").await), (200, Some("1")), "another format");
    let tag = server.get(MINER, first).await.header("etag").unwrap().to_owned();
    let known = server.ask(Method::GET, MINER, second, &[("if-none-match", &tag)]).await;
    assert_eq!(seen(&known), (304, Some("1")), "the same bytes, which are not sent");
    assert_eq!(seen(&part(&server, second, "bytes=9-").await), (416, Some("1")));
    assert_eq!(seen(&server.get(MINER, "/api/documents/3/text").await), (200, Some("0")), "an empty file");
    assert_eq!(seen(&server.get(MINER, "/api/documents/3/text").await), (200, Some("0")));

    for range in ["bytes=1-", "bytes=3-3", "bytes=-1", "bytes=0-"] {
        assert_eq!(seen(&part(&server, second, range).await), (429, Some("0")), "{range}");
    }
    assert_eq!(seen(&part(&server, first, "bytes=2-").await), (206, Some("0")));
    server.world.clock.advance(DAY_MS);
    assert_eq!(seen(&part(&server, first, "bytes=2-").await), (206, Some("2")), "on another day it is paid anew");
}

#[tokio::test]
async fn what_is_covered_is_no_item_again() {
    let server = server(3).await;
    for range in ["bytes=1-", "bytes=2-", "bytes=3-"] {
        part(&server, "/api/documents/1/files/pdf", range).await;
    }
    server.get(MINER, "/api/documents/1/files/pdf").await;
    server.app.usage().flush().await;
    let collection = server.world.store.collection("c").await.unwrap().unwrap().id;
    let sums = server.world.store.usage(&Month::of(server.app.clock.now_ms()), None).await.unwrap();
    let count = |metric| sums.get(&(collection, metric)).copied().unwrap_or_default();
    assert_eq!(count(Metric::Charged), 1);
    assert_eq!(count(Metric::Requests), 2, "the first part, and the whole");
    assert_eq!(count(Metric::Bytes), 3 + 2 + 1 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_parts_at_once_are_charged_once() {
    let server = server(1).await;
    let parts = (0..50).map(|i| {
        let range = format!("bytes={}-", i % 4);
        let server = &server;
        async move { part(server, "/api/documents/1/files/pdf", &range).await.status }
    });
    assert_eq!(join_all(parts).await, [StatusCode::PARTIAL_CONTENT; 50]);
    assert_eq!(seen(&part(&server, "/api/documents/2/files/pdf", "bytes=1-").await), (429, Some("0")));
}

async fn ask_second(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).header("x-api-key", MINER).header("range", "bytes=1-").body(Body::empty());
    router.clone().oneshot(request.unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn processes_share_what_was_paid_for() {
    let server = server(2).await;
    let (app, second) = server.second().await;
    let key = server.world.store.keys().await.unwrap().into_iter().find(|key| key.name == MINER).unwrap().id;
    let day = Allowance::Documents.window(server.app.clock.now_ms());
    let taken = async || server.world.store.standing(key, Allowance::Documents, day).await.unwrap().taken;
    let (first_file, second_file) = ("/api/documents/1/files/pdf", "/api/documents/2/files/pdf");
    assert_eq!(part(&server, first_file, "bytes=1-").await.status, 206);
    server.app.quotas().save_charges().await;
    assert_eq!((ask_second(&second, first_file).await.as_u16(), taken().await), (206, 1), "it was paid for elsewhere");

    let own = adit_shared::domain::Limits { documents: OwnLimit::AtMost(3), requests: OwnLimit::AsRole };
    server.world.store.limit_key(key, &own).await.unwrap();
    assert_eq!(ask_second(&second, second_file).await, 206);
    assert_eq!(part(&server, second_file, "bytes=1-").await.status, 206);
    assert_eq!(taken().await, 3, "neither knows of the other yet");
    server.app.quotas().save_charges().await;
    app.quotas().save_charges().await;
    assert_eq!(taken().await, 2, "what was charged twice is given back");
    assert_eq!(ask_second(&second, "/api/documents/1/text").await, 206);
    assert_eq!(ask_second(&second, "/api/documents/2/text").await, 429);
}

#[tokio::test]
async fn downloads_that_are_not_read_hold_up_only_their_own_key() {
    let server = server(9).await;
    let path = "/api/documents/1/files/pdf";
    let mut unread = Vec::new();
    while server.app.limits.downloads.taken() < 64 {
        unread.push(server.open(MINER, path).await);
    }
    let mut waits = Box::pin(server.open(MINER, path));
    while server.app.limits.downloads.in_line() == 0 {
        assert!(poll!(&mut waits).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(STRANGER, path).await.status, 200);
    unread.pop();
    assert_eq!(waits.await.status(), 200);
    drop(unread);
    assert_eq!(server.app.limits.downloads.taken(), 0);
}

const PACK: &str = "packs/1/00-txt-00001";
const BLOCK: usize = 64 * 1024;

/// A server with one document, whose only file is a PDF of that content.
async fn one_pdf(content: &str) -> Server {
    let server = Server::new().await;
    let document: Doc<'_> = ("a", json!({}), &[("pdf", content)]);
    server.import("c", &[document]).await;
    server.put(PACK, content.to_owned()).await;
    server
}

fn flipped(content: &str, at: usize) -> Vec<u8> {
    let mut bytes = content.as_bytes().to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Asserts that it is the problem that names the document.
fn assert_damaged(answer: &Answer) {
    let problem = answer.json(500);
    assert_eq!(problem["type"], "urn:adit:problem:damaged-file");
    assert_eq!((&problem["document"], &problem["format"]), (&json!(1), &json!("pdf")));
    assert!(problem["detail"].as_str().unwrap().contains("document 1 (a)"), "{problem}");
}

#[tokio::test]
async fn no_damaged_byte_is_served_whole_or_in_part_and_none_is_charged() {
    let path = "/api/documents/1/files/pdf";
    for length in [1, 4, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 17] {
        let content = "0123456789abcdef".repeat(length / 16 + 1)[..length].to_owned();
        let server = one_pdf(&content).await;
        server.limit(MINER, 5).await;
        server.put(PACK, flipped(&content, length - 1)).await;
        assert_damaged(&server.get(MINER, path).await);
        for range in ["bytes=0-0", "bytes=-1", "bytes=0-"] {
            assert_damaged(&part(&server, path, range).await);
        }
        server.put(PACK, content[..length - 1].to_owned()).await;
        assert_damaged(&server.get(MINER, path).await);
        server.app.objects.delete(&[PACK.to_owned()]).await.unwrap();
        assert_damaged(&server.get(MINER, path).await);

        server.put(PACK, content.clone()).await;
        let whole = server.get(MINER, path).await;
        assert_eq!((seen(&whole), &whole.body[..]), ((200, Some("4")), content.as_bytes()), "{length}");
    }
}

#[tokio::test]
async fn every_range_of_a_long_file_is_what_was_imported() {
    let path = "/api/documents/1/files/pdf";
    let content: String = (0..40_000).map(|number| format!("{number} ")).collect();
    let server = one_pdf(&content).await;
    let edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, content.len() - 1];
    for from in edges {
        for to in edges.into_iter().filter(|to| *to >= from) {
            let answer = part(&server, path, &format!("bytes={from}-{to}")).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (206, &content.as_bytes()[from..=to]),
                "{from}-{to}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_rots_while_it_is_known_is_cut_off_before_the_damage() {
    let path = "/api/documents/1/files/pdf";
    let content = "0123456789abcdef".repeat(5 * BLOCK / 16);
    let server = one_pdf(&content).await;
    assert_eq!(server.get(MINER, path).await.status, 200);
    server.put(PACK, flipped(&content, 3 * BLOCK)).await;
    let first = part(&server, path, "bytes=5-99").await;
    assert_eq!((first.status.as_u16(), &first.body[..]), (206, &content.as_bytes()[5..100]), "of a sound block");
    let mut body = server.open(MINER, path).await.into_body().into_data_stream();
    let (mut sent, mut is_cut) = (0, false);
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(bytes) => sent += bytes.len(),
            Err(_) => is_cut = true,
        }
    }
    assert_eq!((sent, is_cut), (3 * BLOCK, true));
    assert_damaged(&server.get(MINER, path).await);
    assert_damaged(&part(&server, path, "bytes=5-99").await);
}

#[tokio::test]
async fn a_damaged_block_of_a_known_file_is_the_problem_where_it_comes_first() {
    let path = "/api/documents/1/files/pdf";
    let content = "0123456789abcdef".repeat(5 * BLOCK / 16);
    let server = one_pdf(&content).await;
    assert_eq!(server.get(MINER, path).await.status, 200);
    server.put(PACK, flipped(&content, 3 * BLOCK)).await;
    assert_damaged(&part(&server, path, &format!("bytes={}-", 4 * BLOCK - 1)).await);
}
