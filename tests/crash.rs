//! What survives a power cut, or an orderly end, in the middle of a build: everything that is stored already.

use std::path::Path;

use adit_shared::digest::Sha256;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, Process, StoreKind, eventually, import_noise, stored_parts,
};

/// Documents of 2 MiB: enough parts of 8 MiB that a build is seen at work.
const DOCUMENTS: usize = 240;
/// What the upload of their package takes: 480 MiB and what surrounds them.
const PARTS: usize = 61;

/// Flat: a bag names the server's URL, and a server that is started again has another port here.
fn everything(reuse: bool) -> Value {
    json!({"formats": ["pdf", "meta"], "layout": "flat", "reuse": reuse})
}

/// Waits until the build of a package is in the middle of its upload; gives the parts that are stored.
async fn in_the_middle(deployment: &Deployment, package: &Value) -> usize {
    let objects = deployment.objects().await;
    eventually("some parts are stored", || async {
        let stored = stored_parts(&*objects, package).await;
        (stored >= 5).then_some(stored)
    })
    .await
}

/// The archive is whole, the same as that of a build that nobody disturbed, and no part was sent twice that was stored when the build was cut off.
async fn goes_on_where_it_stopped(client: &Client, package: &Value, stored: usize, log: &Path) {
    let resumed = client.finished(package["id"].as_i64().unwrap()).await;
    assert_eq!(resumed["status"], "successful", "{resumed}");
    let told = |log: &str, name: &str| -> usize {
        let value = log.rsplit_once(&format!("{name}=")).expect("the packager tells how many parts").1;
        value.split_whitespace().next().unwrap().parse().unwrap()
    };
    let log = std::fs::read_to_string(log).unwrap();
    let (reused, sent) = (told(&log, "parts_reused"), told(&log, "parts_sent"));
    assert!(reused >= stored, "{stored} parts were stored, and only {reused} of them used again");
    assert_eq!(reused + sent, PARTS, "the others were sent, and no more than those");

    let undisturbed = client.package(package["docset"].as_i64().unwrap(), &everything(false)).await;
    assert_ne!(undisturbed["id"], resumed["id"]);
    assert_eq!(undisturbed["sha256"], resumed["sha256"]);
    let bytes = client.download(resumed["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(resumed["sha256"], Sha256::of(&bytes).to_string());
}

#[tokio::test]
async fn a_server_that_was_killed_goes_on_with_its_build() {
    let parts = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder);
    let deployment = parts.await.expect("nothing needs to be installed for it");
    import_noise(&deployment, DOCUMENTS);
    let running = deployment.start(&[("ADIT_RESEND_AFTER", "1s")]);
    let package = running.ask(running.docset("big", "*").await, &everything(true)).await;
    let package = running.json(&format!("/api/packages/{package}")).await;
    in_the_middle(&deployment, &package).await;
    running.kill();
    let stored = in_the_middle(&deployment, &package).await;

    let running = deployment.start(&[("ADIT_RESEND_AFTER", "1s")]);
    goes_on_where_it_stopped(&running, &package, stored, deployment.log()).await;
    running.stop();
}

/// One packager ends in the middle of a build, and another takes its place.
async fn another_packager_goes_on(end: impl FnOnce(Process)) {
    let parts = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3);
    let Some(deployment) = parts.await else { return };
    import_noise(&deployment, DOCUMENTS);
    // Were the request sent again, it would not be the broker that gives it to another packager.
    let api = deployment.machine("api").api(&[("ADIT_RESEND_AFTER", "1h")]);
    let first = deployment.machine("first").packager(&api.url, &[]);
    let package = api.ask(api.docset("big", "*").await, &everything(true)).await;
    let package = api.json(&format!("/api/packages/{package}")).await;
    in_the_middle(&deployment, &package).await;
    end(first);
    let stored = in_the_middle(&deployment, &package).await;
    eventually("the request is back in its queue", || async {
        (deployment.waiting("docsets/package").await == 1).then_some(())
    })
    .await;

    let other = deployment.machine("other");
    let process = other.packager(&api.url, &[]);
    goes_on_where_it_stopped(&api, &package, stored, other.log()).await;
    assert!(process.stop().success() && api.process.stop().success());
}

#[tokio::test]
async fn another_packager_goes_on_with_the_build_of_one_that_was_killed() {
    another_packager_goes_on(Process::kill).await;
}

#[tokio::test]
async fn another_packager_goes_on_with_the_build_of_one_that_was_asked_to_stop() {
    another_packager_goes_on(|process| assert!(process.stop().success())).await;
}
