use std::env;
use std::time::Instant;

use adit_shared::signing::PublicKeys;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::*;
use crate::testing::World;

/// Hands connections on to a server until it freezes: then nothing moves, and nothing is closed either.
async fn line_to(server: String, frozen: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (server, mut frozen) = (server.clone(), frozen.clone());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(&server).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                    _ = frozen.wait_for(|frozen| *frozen) => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    port
}

#[tokio::test]
async fn public_keys_may_be_kept_by_anybody() {
    let world = World::new().await;
    let app = world.app().await;
    let answer = super::public_keys(State(app.clone())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/jwk-set+json");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "public, max-age=300");
    let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
    let keys = PublicKeys::parse(std::str::from_utf8(&body).unwrap()).unwrap();
    assert_eq!(keys, app.settings.public_keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_hangs_counts_as_away() {
    // The server's credentials are in the environment beside its URL.
    let Ok(url) = env::var("ADIT_TEST_S3_URL") else { return };
    let mut url: Url = url.parse().unwrap();
    let mut parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let endpoint = parameters.iter_mut().find(|(name, _)| name == "endpoint").unwrap();
    let (freeze, frozen) = watch::channel(false);
    let port = line_to(endpoint.1.replace("http://", ""), frozen).await;
    endpoint.1 = format!("http://127.0.0.1:{port}");
    url.query_pairs_mut().clear().extend_pairs(parameters);
    let world = World::new().await;
    let app = world.app_on(world.broker(), url.as_str()).await;
    assert_eq!(readyz(State(app.clone())).await.status(), StatusCode::OK);

    freeze.send_replace(true);
    let asked = Instant::now();
    let answer = readyz(State(app)).await;
    assert!(asked.elapsed() < PATIENCE * 2);
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
    let parts: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(parts, json!({"database": "ok", "object store": "away", "message broker": "ok", "search index": "ok"}));
}
