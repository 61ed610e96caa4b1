use std::time::Duration;

use adit_shared::domain::{Content, Package, Status};
use adit_shared::messaging::{Broker, BrokerConfig, Queue};
use adit_shared::store::{StatusUpdate, Store as _};
use axum::http::Method;
use serde_json::json;

use super::*;
use crate::testing::World;
use crate::testing::http::{MINER, Server};

/// A broker that is away.
fn nobody() -> BrokerConfig {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config: BrokerConfig = format!("stomp://127.0.0.1:{port}").parse().unwrap();
    config.publish_timeout = Duration::from_millis(50);
    config
}

async fn built(world: &World) -> Package {
    let package = world.package().await;
    let done = StatusUpdate { sequence: 1, status: Some(Status::Successful), ..StatusUpdate::default() };
    world.store.update_package(package.id, &done, 1).await.unwrap().unwrap()
}

async fn sent(world: &World) -> usize {
    let deletes = Broker::new(world.broker()).drain(&Queue::Deletes).await.unwrap().unwrap();
    deletes.messages().len()
}

/// Runs what runs beside the service, until everything is sent.
async fn keep_until_all_is_sent(world: &World, app: &App) {
    let stop = CancellationToken::new();
    let watch = async {
        while !world.store.pending_deletes(1).await.unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    tokio::join!(keep_sending(app, stop.clone()), watch);
}

#[tokio::test]
async fn a_delete_that_a_process_could_not_send_is_sent_by_the_next_one() {
    let world = World::new().await;
    let package = built(&world).await;
    let app = world.app_on(nobody(), &world.objects()).await;
    dispatch::erase(&app, &package).await.unwrap();
    assert_eq!(world.row(&package).await.content, Content::Erased);
    drop(app);
    let pending = world.store.pending_deletes(9).await.unwrap();
    assert_eq!((pending.len(), sent(&world).await), (1, 0));

    keep_until_all_is_sent(&world, &world.app().await).await;
    assert_eq!(sent(&world).await, 1);
}

#[tokio::test]
async fn who_deletes_is_answered_while_the_broker_is_away() {
    let server = Server::new().await;
    server.import("papers", &[("a", json!({"title": "Soil"}), &[("txt", "soil")])]).await;
    let docset = server.docset("papers", &["a"]).await;
    let asked = server.post(MINER, &format!("{docset}/packages"), &json!({})).await.json(202);
    let package = asked["id"].as_i64().unwrap();
    server.finish(package, 10).await;
    let away = server.world.app_on(nobody(), &server.world.objects()).await;
    let server = server.with(away);
    let deleted = server.ask(Method::DELETE, MINER, &format!("/api/packages/{package}"), &[]).await;
    assert_eq!(deleted.json(200)["content"], "erased");
    let deleted = server.ask(Method::DELETE, MINER, &docset, &[]).await;
    assert_eq!(deleted.status, 204);
    keep_until_all_is_sent(&server.world, &server.world.app().await).await;
    assert_eq!(sent(&server.world).await, 1);
}

#[tokio::test]
async fn what_expires_while_the_broker_is_away_is_deleted_when_it_is_back() {
    let world = World::new().await;
    let package = built(&world).await;
    world.run_sql("UPDATE packages SET expires = 5").await;
    let app = world.app_on(nobody(), &world.objects()).await;
    let shown = dispatch::refresh(&app, world.row(&package).await).await.unwrap();
    assert_eq!(shown.content, Content::Erased);
    dispatch::erase_expired(&app).await;
    keep_until_all_is_sent(&world, &world.app().await).await;
    assert_eq!(sent(&world).await, 1);
}
