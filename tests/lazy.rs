//! Statuses are read only when a client asks, and nothing is lost when nobody does.

use adit_shared::domain::Package;
use adit_shared::ids::{PackageId, SaltedPackage};
use adit_shared::store::{SqlStore, Store as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, Server, StoreKind, eventually, small, small_collection,
};

async fn ask(server: &Client) -> i64 {
    let docset = server.docset("c", "*").await;
    server.ask(docset, &json!({})).await
}

/// Waits, without asking the server, until the packager has said its last word.
async fn built(deployment: &Deployment, package: SaltedPackage) {
    let objects = deployment.objects().await;
    let result = format!("packages/{package}/build.json");
    eventually("the build is done", || async {
        let build: Value = serde_json::from_slice(&objects.get(&result, None).await.ok()?).unwrap();
        build["done"].is_object().then_some(())
    })
    .await;
    eventually("its request is acknowledged", || async {
        (deployment.waiting("docsets/package").await == 0).then_some(())
    })
    .await;
}

async fn row(store: &SqlStore, package: i64) -> Package {
    store.package(PackageId(package), None).await.unwrap().unwrap()
}

/// Statuses wait in the queue until a client asks; then one poll takes them all.
async fn statuses_wait_until_a_client_asks(deployment: &Deployment) {
    deployment.import(&small_collection(deployment.folder()));
    let server = deployment.start(&[]);
    let package = ask(&server).await;
    let store = deployment.store().await;
    let salted = row(&store, package).await.salted();
    let name = format!("package/{salted}");
    built(deployment, salted).await;
    // "Complete" at least, which is said before the request is acknowledged; a build as short as this may say nothing else. Nobody has
    // asked, so it still waits and the database knows nothing of it.
    assert!(deployment.waiting(&name).await >= 1);
    let before = row(&store, package).await;
    assert_eq!((before.status.as_str(), before.heard), ("accepted", None));

    let answer = server.json(&format!("/api/packages/{package}")).await;
    assert_eq!((&answer["status"], &answer["percent"]), (&json!("successful"), &json!(100)));
    let after = row(&store, package).await;
    assert_eq!(after.status.as_str(), "successful");
    assert!(after.sequence > before.sequence && after.sha256.is_some());
    assert_eq!(deployment.waiting(&name).await, 0, "one poll takes all");
    server.stop();
}

/// What nobody reads goes away, and the truth comes out all the same when somebody asks at last.
async fn an_unread_queue_expires_and_the_truth_still_comes_out(deployment: &Deployment) {
    deployment.import(&small_collection(deployment.folder()));
    let server = deployment.start(&[("ADIT_QUEUE_EXPIRY", "2s"), ("ADIT_RESEND_AFTER", "1s")]);
    let package = ask(&server).await;
    let store = deployment.store().await;
    let salted = row(&store, package).await.salted();
    let name = format!("package/{salted}");
    built(deployment, salted).await;
    eventually("the statuses are gone", || async { (deployment.waiting(&name).await == 0).then_some(()) }).await;
    assert_eq!(row(&store, package).await.status.as_str(), "accepted", "nobody has read anything");

    let finished = server.finished(package).await;
    assert_eq!(finished["status"], "successful");
    let row = row(&store, package).await;
    assert!(row.sends >= 2, "the server has asked again");
    let archive = server.download(&format!("/api/packages/{package}/download")).await.bytes().await.unwrap();
    assert_eq!(row.size, Some(archive.len() as u64));
    server.stop();
}

/// Each on each broker.
macro_rules! on_each_broker {
    ($($module:ident: $broker:ident;)+) => {
        $(
            mod $module {
                use super::{BrokerKind, DatabaseKind, Deployment, StoreKind};

                #[tokio::test]
                async fn statuses_wait_until_a_client_asks() {
                    let parts = Deployment::new(BrokerKind::$broker, DatabaseKind::Sqlite, StoreKind::Folder);
                    if let Some(deployment) = parts.await {
                        super::statuses_wait_until_a_client_asks(&deployment).await;
                    }
                }

                #[tokio::test]
                async fn an_unread_queue_expires_and_the_truth_still_comes_out() {
                    if let Some(deployment) = Deployment::forgetful(BrokerKind::$broker).await {
                        super::an_unread_queue_expires_and_the_truth_still_comes_out(&deployment).await;
                    }
                }
            }
        )+
    };
}

on_each_broker! {
    embedded: Embedded;
    rabbitmq: RabbitMq;
    activemq: ActiveMq;
}

#[tokio::test]
async fn a_poll_with_the_entity_tag_of_what_is_known_gets_304() {
    let (_dir, server) = small(&[]);
    let package = ask(&server).await;
    server.finished(package).await;
    let path = format!("/api/packages/{package}");
    let etag = server.get(&path).await.headers()["etag"].clone();
    let again = server.request(Method::GET, &path).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert!(again.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn events_tell_every_change_until_the_end() {
    let (_dir, server) = small(&[]);
    let package = ask(&server).await;
    let answer = server.get(&format!("/api/packages/{package}/events")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let last = text.lines().rfind(|line| line.starts_with("data:")).unwrap();
    let last: Value = serde_json::from_str(last.trim_start_matches("data:")).unwrap();
    assert_eq!((&last["status"], &last["terminal"]), (&json!("successful"), &json!(true)));
}

#[tokio::test]
async fn an_open_event_stream_sends_no_request_twice() {
    let (_dir, server) = small(&[("ADIT_RESEND_AFTER", "3600s")]);
    let package = ask(&server).await;
    let events = format!("/api/packages/{package}/events");
    let (stream, polled) = tokio::join!(server.get(&events), server.finished(package));
    assert_eq!(polled["status"], "successful");
    let text = stream.text().await.unwrap();
    assert!(text.contains("\"status\":\"successful\""), "what another client's poll took in is told here too: {text}");
    let url = format!("sqlite://{}", server.data.join("adit.sqlite").display());
    assert_eq!(row(&SqlStore::open(&url).await.unwrap(), package).await.sends, 1);
    let last = text.lines().rfind(|line| line.starts_with("id:")).unwrap().trim_start_matches("id:").trim().to_owned();
    let again = server.request(Method::GET, &events).header("last-event-id", last).send().await.unwrap();
    assert_eq!(again.status(), 204, "who has seen the end is told not to come back");
}

#[tokio::test]
async fn an_expired_package_is_built_anew_for_who_asks_again() {
    let (_dir, server) = small(&[("ADIT_PACKAGE_TTL", "1s")]);
    let docset = server.docset("c", "*").await;
    let first = server.package(docset, &json!({})).await;
    eventually("it has expired", || async {
        let package = server.json(&format!("/api/packages/{}", first["id"])).await;
        (package["content"] == "erased").then_some(())
    })
    .await;
    let second = server.package(docset, &json!({})).await;
    assert_ne!(second["id"], first["id"]);
    assert_eq!((&second["status"], &second["sha256"]), (&json!("successful"), &first["sha256"]));
}

#[tokio::test]
async fn archives_are_served_after_the_server_has_moved() {
    let (_dir, server) = small(&[]);
    let docset = server.docset("c", "*").await;
    let (package, bytes) = server.archive(docset, &json!({})).await;
    let data = server.data.clone();
    assert!(server.stop().success());
    let server = Server::start(&data, &[]);
    let answer = server.get(&format!("/api/packages/{}/download", package["id"])).await;
    assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap().as_ref()), (200, bytes.as_slice()));
}
