//! Several processes of each kind at work on one broker and one database.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, Process, StoreKind, eventually, expect, text, within,
    write_collection,
};

/// Packages that are asked for at once, and clients that poll for them.
const PACKAGES: usize = 200;

/// Docsets of one document each, so that no package is like another.
async fn docsets(client: &Client, refs: &[String]) -> Vec<i64> {
    let make = async |r: &String| {
        let docset = expect(client.post("/api/docsets", &json!({"collection": "c", "refs": [r]})).await, 201).await;
        docset["id"].as_i64().unwrap()
    };
    let mut docsets = Vec::new();
    for refs in refs.chunks(20) {
        docsets.extend(join_all(refs.iter().map(make)).await);
    }
    docsets
}

/// Asks for a package at one server, and polls for it at either, until it is there.
async fn ask_and_poll(servers: &[Client], number: usize, docset: i64) -> Value {
    let package = servers[number % servers.len()].ask(docset, &json!({"formats": ["txt", "meta"]})).await;
    loop {
        let server = &servers[rand::random_range(0..servers.len())];
        let package = server.json(&format!("/api/packages/{package}")).await;
        if package["terminal"] == true {
            return package;
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(10..500))).await;
    }
}

/// How often each package was built to its end, by the logs of the packagers.
fn builds(logs: &[String]) -> BTreeMap<i64, usize> {
    let mut builds = BTreeMap::new();
    for line in logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(" complete ")) {
        let package = line.split_once("package{package=").expect("every line of a build names its package").1;
        let package = package.split([' ', '}', '-']).next().unwrap().parse().unwrap();
        *builds.entry(package).or_default() += 1;
    }
    builds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_packages_are_each_built_once_though_packagers_come_and_go() {
    let parts = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3);
    let Some(deployment) = parts.await else { return };
    let refs: Vec<String> = (0..PACKAGES).map(|n| format!("doc.{n:03}")).collect();
    let documents: Vec<_> = refs.iter().map(|r| text(r, r, &format!("This is {r}. ").repeat(100))).collect();
    deployment.import(&write_collection(deployment.folder(), "c", &documents));

    let apis = ["api-1", "api-2"].map(|name| deployment.machine(name).api(&[("ADIT_RESEND_AFTER", "1h")]));
    let key = deployment.key("operator");
    let servers = apis.each_ref().map(|api| Client::new(&api.url, &key));
    let docsets = docsets(&servers[0], &refs).await;
    let packagers = ["packager-1", "packager-2", "packager-3"].map(|name| deployment.machine(name));
    let [leaves, stays, stays_too] =
        packagers.each_ref().map(|machine| machine.packager(&apis[0].url, &[("ADIT_WORKERS", "2")]));

    let asking = docsets.iter().enumerate().map(|(number, docset)| ask_and_poll(&servers, number, *docset));
    let leaving = async {
        eventually("it has built some, and more wait", || async {
            (builds(&[leaves.log()]).len() >= 10).then_some(())
        })
        .await;
        let status = tokio::task::spawn_blocking(|| leaves.stop()).await.unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(packagers[0].log()).unwrap());
    };
    let (packages, ()) = within("all packages", async { tokio::join!(join_all(asking), leaving) }).await;

    for package in &packages {
        assert_eq!(package["status"], "successful", "{package}");
        assert_eq!(package["documents"]["included"], 1);
    }
    let logs = packagers.map(|machine| std::fs::read_to_string(machine.log()).unwrap());
    let built = builds(&logs);
    assert_eq!(built.len(), PACKAGES);
    let twice: Vec<_> = built.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // "Complete" is said before its request is acknowledged.
    eventually("every request is acknowledged", || async {
        (deployment.waiting("docsets/package").await == 0).then_some(())
    })
    .await;
    assert_eq!(deployment.waiting("docsets/package/dead").await, 0);
    for process in [stays, stays_too].into_iter().chain(apis.map(|api| api.process)) {
        assert!(Process::stop(process).success());
    }
}
