//! The log tells who asked for what by key ids and routes, and holds nothing that opens anything.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, DatabaseKind, Deployment, StoreKind, expect, small_collection, text, write_collection,
};

/// All that our own crates say.
const FILTER: &str = "info,adit=debug,adit_api=debug,adit_packager=debug,adit_shared=debug,tower_http=debug";

/// The part of a link that carries its right: all behind the last word of its route.
fn right_of(link: &str) -> String {
    link.rsplit('/').find(|part| part.len() > 20).unwrap_or(link).to_owned()
}

async fn a_whole_walk_leaves_no_secret_in_the_log(store: StoreKind) {
    let Some(deployment) = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, store).await else { return };
    deployment.import(&small_collection(deployment.folder()));
    let settings = [("ADIT_LOG", FILTER), ("ADIT_WEBHOOK_ALLOW", "127.0.0.0/8"), ("ADIT_METRICS", "operator")];
    let server = deployment.start(&settings);
    let mut secrets: Vec<(&str, String)> = vec![("key", server.key.clone())];
    // Keys and queries that lead nowhere.
    let lost = "/api/nowhere/canary-path?token=canary-query";
    server.request_as(Some("adit_canary_of_a_wrong_key"), Method::GET, lost).send().await.unwrap();
    let odd = server.request(Method::GET, "/healthz").header("x-request-id", "canary id").send().await.unwrap();
    assert_eq!(odd.status(), 200);
    secrets.extend(["canary-path", "canary-query", "adit_canary", "canary id"].map(|text| (text, text.to_owned())));
    // A package, its links, and presigned URLs where the store has them.
    let docset = server.docset("c", "*").await;
    let (package, _) = server.archive(docset, &json!({})).await;
    let assets = server.json(package["assets"].as_str().unwrap()).await;
    let link = assets["assets"][0]["link"].as_str().unwrap();
    let followed = server.get(link).await;
    secrets.push(("link", right_of(link.rsplit_once('/').unwrap().0)));
    if let Some(presigned) = followed.headers().get("location") {
        let presigned: url::Url = presigned.to_str().unwrap().parse().unwrap();
        let signature = presigned.query_pairs().find(|(name, _)| name == "X-Amz-Signature").unwrap().1;
        secrets.push(("presigned URL", signature.into_owned()));
    }
    let share = expect(server.post(&format!("/api/docsets/{docset}/share"), &json!({})).await, 201).await;
    let share = share["link"].as_str().unwrap();
    let other = deployment.key("miner");
    server.request_as(Some(&other), Method::GET, share.strip_prefix(&server.url).unwrap()).send().await.unwrap();
    secrets.extend([("share link", right_of(share)), ("other key", other)]);
    // A watch whose webhook nobody answers.
    let wish = json!({"query": "mining", "webhook": "http://127.0.0.1:1024/hook/canary-of-a-webhook"});
    let watch = expect(server.post("/api/collections/c/watch", &wish).await, 201).await;
    secrets.push(("webhook secret", watch["secret"].as_str().unwrap().to_owned()));
    secrets.push(("webhook URL", "canary-of-a-webhook".to_owned()));
    let imported = import_more(&deployment, &settings);
    secrets.extend(broker_password(&deployment).map(|password| ("broker's password", password)));
    server.stop();

    let log = std::fs::read_to_string(deployment.log()).unwrap() + &imported;
    for (what, secret) in &secrets {
        assert!(secret.len() > 8, "{what}: {secret}");
        assert!(!log.contains(secret.as_str()), "the {what} stands in the log: {}", line_with(&log, secret));
    }
    for said in ["route=\"/api/docsets/{id}/packages\"", " key=", "method=\"POST\""] {
        assert!(log.contains(said), "{said} does not stand in the log:\n{log}");
    }
}

/// Imports a changed document; gives what that logs.
fn import_more(deployment: &Deployment, settings: &[(&str, &str)]) -> String {
    let folder = write_collection(deployment.folder(), "c", &[text("doc.9", "On tin", "A treatise on mining tin.")]);
    let mut import: Command = deployment.adit(&["import", folder.to_str().unwrap()]);
    let output = import.envs(settings.iter().copied()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The password of the broker inside, where it has one.
fn broker_password(deployment: &Deployment) -> Option<String> {
    let running = std::fs::read_to_string(deployment.data.join("running.json")).ok()?;
    let running: Value = serde_json::from_str(&running).unwrap();
    let url: url::Url = running["broker"].as_str()?.parse().ok()?;
    url.password().map(str::to_owned)
}

fn line_with<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_default()
}

#[tokio::test]
async fn a_whole_walk_leaves_no_secret_in_the_log_on_each_store() {
    for store in [StoreKind::Folder, StoreKind::S3] {
        a_whole_walk_leaves_no_secret_in_the_log(store).await;
    }
}
