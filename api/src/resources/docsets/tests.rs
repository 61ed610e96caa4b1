//! Docsets over the whole API: how they are made, made anew, compared and shared, and what is refused.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::http::{Answer, Doc, MINER, NOBODY, PACKAGER, STRANGER, Server};

mod making;
mod sharing;
mod through_time;

/// A server with the works `a` to `e`, whose titles say in which fields they are.
async fn mines() -> Server {
    let server = Server::new().await;
    server.import("c", &WORKS.map(|(r#ref, title)| work(r#ref, json!({"title": title})))).await;
    server
}

const WORKS: [(&str, &str); 5] = [("a", "coal iron"), ("b", "coal"), ("c", "iron"), ("d", "iron gold"), ("e", "gold")];

fn work(r#ref: &str, metadata: Value) -> Doc<'_> {
    (r#ref, metadata, &[("txt", "one")])
}

/// A new docset of the miner, of what is asked for in the collection `c`.
async fn make(server: &Server, asked: Value) -> Value {
    ask(server, asked).await.json(201)
}

async fn ask(server: &Server, mut asked: Value) -> Answer {
    asked["collection"] = json!("c");
    server.post(MINER, "/api/docsets", &asked).await
}

async fn ask_lines(server: &Server, path: &str, lines: impl Into<Body>) -> Answer {
    let headers = [("content-type", "application/x-ndjson; charset=utf-8")];
    server.send(Method::POST, MINER, path, &headers, lines.into()).await
}

/// The refs of a docset's members, in the order of ids.
async fn refs(server: &Server, docset: &Value) -> Vec<String> {
    let members = server.get(MINER, &format!("{}/members", docset["url"].as_str().unwrap())).await.json(200);
    members["members"].as_array().unwrap().iter().map(|member| member["ref"].as_str().unwrap().to_owned()).collect()
}
