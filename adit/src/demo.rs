//! `adit demo`: the main job once, on real documents that every machine with this source has, told step by step.

mod corpus;

use std::path::PathBuf;

use adit_shared::config::{Config, Secret};
use adit_shared::domain::Role;
use anyhow::bail;
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::miner::{self, Client};
use crate::services::Services;
use crate::terminal::outln;
use crate::up::{Server, stop_signal};
use crate::{import, keys};

const QUERY: &str = "async OR compression OR \"error handling\"";

/// Settings of the demonstration where the user has made none: a data folder of its own in the current one, and any free port.
pub(crate) fn default(name: &str) -> Option<String> {
    match name {
        "ADIT_DATA" => Some("adit-demo".to_owned()),
        "ADIT_LISTEN" => Some("127.0.0.1:0".to_owned()),
        _ => None,
    }
}

/// Runs the demonstration.
pub(crate) async fn run(config: Config, once: bool) -> anyhow::Result<()> {
    step(1, "Start everything in one process: API, packager, message broker, database, search, store");
    let server = Server::start(config.clone()).await?;
    outln!("   {}  (documentation: {}/docs/)", server.url, server.url);
    if let Some(key) = &server.first_key {
        outln!("   an operator's key, shown only now: {key}");
        server.forget_first_key();
    }
    let (url, services) = (server.url.clone(), server.services().clone());
    let job = main_job(&config, &url, &services);
    let stay = async {
        let key = job.await?;
        if !once {
            outln!("The server stays up at {url} until Ctrl-C. Try it yourself: export ADIT_API_KEY={key}");
            stop_signal().await;
        }
        anyhow::Ok(())
    };
    server.run_until_done(stay).await
}

/// Carries the job out and returns the miner's key that it made for itself.
async fn main_job(config: &Config, url: &str, services: &Services) -> anyhow::Result<String> {
    step(2, "Import a corpus: READMEs and licences of the crates that Adit was built from");
    let folder = config.data.join("demo-corpus");
    let found = corpus::write(&folder)?;
    outln!("   {found} crates written as a collection folder: {}", folder.display());
    let imported = import::import(services, &folder, true).await?;
    let counts = imported.counts;
    outln!(
        "   {} added, {} updated, {} unchanged; corpus version {}",
        counts.added,
        counts.updated,
        counts.unchanged,
        imported.collection.corpus_version
    );

    step(3, "Search it and freeze the hits as a docset");
    let (_, secret) = keys::create(&*services.store, "demo", Role::Miner, None).await?;
    let client = Client::with(url, Some(Secret::new(secret.clone())))?;
    let docset =
        client.post("/api/docsets", &json!({"collection": corpus::SLUG, "query": QUERY, "name": "demo"})).await?;
    outln!(
        "   {QUERY}: docset {} of {} documents, fingerprint {}",
        docset["id"],
        docset["size"],
        docset["fingerprint"].as_str().unwrap_or_default()
    );

    step(4, "Ask for a package of it and watch it being built");
    let body = json!({"formats": ["txt", "license", "meta"], "layout": "bag"});
    let asked = client.post(&format!("/api/docsets/{}/packages", docset["id"]), &body).await?;
    let asked = miner::PackageState::read(asked)?;
    let package = miner::watch(&client, asked).await?;
    outln!(
        "   package {}: {} bytes, {} of {} documents included",
        package.id,
        package.size.unwrap_or_default(),
        package.documents.included.unwrap_or_default(),
        package.documents.requested
    );

    step(5, "Download it and verify every byte");
    let target: PathBuf = config.data.join("demo-package.zip");
    let fetched = miner::fetch(&client, package, Some(&target), true).await?;
    let found = miner::examine(&VerifyArgs { paths: vec![target.clone()], ..VerifyArgs::default() })?;
    if !found.faults.is_empty() || !found.bag {
        let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        bail!("the archive is not whole: {}", faults.join("; "));
    }
    for (sha256, _) in &fetched {
        outln!("   SHA-256 {sha256} is right");
    }
    outln!("   all {} files of the bag are whole", found.files);
    outln!("   {}", target.display());
    outln!("Done.");
    Ok(secret)
}

fn step(number: u32, what: &str) {
    outln!("{number}. {what}");
}
