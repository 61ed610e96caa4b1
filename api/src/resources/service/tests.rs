use std::env;
use std::time::{Duration, Instant};

use adit_shared::messaging::server::{BrokerServer, ServerConfig};
use adit_shared::messaging::{BrokerConfig, Outgoing, Queue};
use adit_shared::signing::PublicKeys;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use super::*;
use crate::readiness::PATIENCE;
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
    // What was found before is good for a second.
    let frozen = async {
        loop {
            let asked = Instant::now();
            let found = parts(&app).await;
            assert!(asked.elapsed() < PATIENCE * 2);
            if found["object store"] == "away" {
                break found;
            }
        }
    };
    let found = timeout(PATIENCE * 4, frozen).await.unwrap();
    assert_eq!(found, json!({"database": "ok", "object store": "away", "message broker": "ok", "search index": "ok"}));
}

/// The parts as `/readyz` tells of them.
async fn parts(app: &App) -> Value {
    let answer = readyz(State(app.clone())).await;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
    let parts: Value = serde_json::from_slice(&body).unwrap();
    let is_ready = parts.as_object().unwrap().values().all(|state| state == "ok");
    assert_eq!(status == StatusCode::OK, is_ready, "{status} {parts}");
    parts
}

/// Waits until `/readyz` names these parts as away, and no others.
async fn await_away(app: &App, away: &[&str]) {
    let told = async {
        loop {
            let found = parts(app).await;
            let found: Vec<_> = found.as_object().unwrap().iter().filter(|(_, state)| *state == "away").collect();
            if found.iter().map(|(part, _)| part.as_str()).eq(away.iter().copied()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE * 4, told).await.unwrap_or_else(|_| panic!("it is never told of {away:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_answers_and_takes_nothing_is_away_until_it_does() {
    let world = World::new().await;
    let journal = tempfile::tempdir().unwrap();
    let journal = journal.path().join("journal");
    let config = ServerConfig { journal: Some(journal.clone()), ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let app = world.app_on(server.inside().into(), &world.objects()).await;
    await_away(&app, &[]).await;

    world.run_sql("CREATE TRIGGER full_disk BEFORE UPDATE ON counters BEGIN SELECT RAISE(ROLLBACK, 'full'); END").await;
    await_away(&app, &["database"]).await;
    world.run_sql("DROP TRIGGER full_disk").await;
    await_away(&app, &[]).await;

    let objects = std::path::PathBuf::from(world.objects().replace("file://", ""));
    std::fs::rename(objects.join(".tmp"), objects.join(".gone")).unwrap();
    await_away(&app, &["object store"]).await;
    std::fs::rename(objects.join(".gone"), objects.join(".tmp")).unwrap();
    await_away(&app, &[]).await;

    // A journal is written anew when it has grown and most of it is done.
    std::fs::remove_dir_all(&journal).unwrap();
    let queue = Queue::Package("large".to_owned());
    for _ in 0..6 {
        app.broker.publish(&queue, Outgoing::new("x".repeat(900_000))).await.unwrap();
    }
    // The answer to that is lost with the journal.
    let _ = app.broker.drain(&queue).await.unwrap().unwrap().ack().await;
    await_away(&app, &["message broker"]).await;
    std::fs::create_dir(&journal).unwrap();
    await_away(&app, &[]).await;
}

/// A broker that takes connections and never says anything.
async fn silent_broker() -> (BrokerConfig, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!("stomp://{}", listener.local_addr().unwrap()).parse().unwrap();
    (config, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_told_of_within_five_seconds_though_another_part_says_nothing() {
    let world = World::new().await;
    let (broker, _listener) = silent_broker().await;
    let app = world.app_on(broker, &world.objects()).await;
    world.run_sql("INSERT INTO counters (name, value) VALUES ('write_trials', 1)").await;
    world.run_sql("CREATE TRIGGER full_disk BEFORE UPDATE ON counters BEGIN SELECT RAISE(ROLLBACK, 'full'); END").await;
    let began = Instant::now();
    await_away(&app, &["database", "message broker"]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.run_sql("DROP TRIGGER full_disk").await;
    let began = Instant::now();
    await_away(&app, &["message broker"]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn many_who_ask_cost_one_trial_a_second() {
    let world = World::new().await;
    let app = world.app().await;
    let asking = (0..50).map(|_| parts(&app));
    futures::future::join_all(asking).await;
    let trials = world.trials_of_writing().await;
    assert!((1..=2).contains(&trials), "{trials}");
}
