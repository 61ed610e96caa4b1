//! `adit demo`: the main job once, on real documents that every machine with this source has, told step by step.

mod corpus;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use adit_shared::config::{Config, Secret};
use adit_shared::domain::Role;
use anyhow::bail;
use serde_json::json;

use crate::miner::{self, Client};
use crate::services::Services;
use crate::up::{Server, stop_signal};
use crate::{import, keys};

/// Folder of the demonstration, in the current one, unless `--data` names another.
const FOLDER: &str = "adit-demo";
const QUERY: &str = "async OR compression OR \"error handling\"";

/// Runs the demonstration; `own_data` tells that the data folder was named by the user.
pub(crate) async fn run(config: Config, own_data: bool, once: bool) -> anyhow::Result<()> {
    let config = prepare(config, own_data)?;
    step(1, "Start everything in one process: API, packager, message broker, database, search, store");
    let server = Server::start(config.clone()).await?;
    println!("   {}  (documentation: {}/docs/)", server.url, server.url);
    let (url, services) = (server.url.clone(), server.services().clone());
    let job = main_job(&config, &url, &services);
    let stay = async {
        let key = job.await?;
        if !once {
            println!("The server stays up at {url} until Ctrl-C. Try it yourself: export ADIT_API_KEY={key}");
            stop_signal().await;
        }
        anyhow::Ok(())
    };
    server.run_until_done(stay).await
}

/// A data folder of its own and any free port, where the user has named none.
fn prepare(mut config: Config, own_data: bool) -> anyhow::Result<Config> {
    if own_data {
        return Ok(config);
    }
    let data = std::env::current_dir()?.join(FOLDER);
    let defaults = Config::load(|name| (name == "ADIT_DATA").then(|| data.to_string_lossy().into_owned()))?;
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Config { listen: config.listen, ..defaults })
}

/// Carries the job out and returns the miner's key that it made for itself.
async fn main_job(config: &Config, url: &str, services: &Services) -> anyhow::Result<String> {
    step(2, "Import a corpus: READMEs and licences of the crates that Adit was built from");
    let folder = config.data.join("demo-corpus");
    let found = corpus::write(&folder)?;
    println!("   {found} crates written as a collection folder: {}", folder.display());
    let imported = import::import(services, &folder, true).await?;
    let counts = imported.counts;
    println!(
        "   {} added, {} updated, {} unchanged; corpus version {}",
        counts.added, counts.updated, counts.unchanged, imported.collection.corpus_version
    );

    step(3, "Search it and freeze the hits as a docset");
    let (_, secret) = keys::create(&*services.store, "demo", Role::Miner, None).await?;
    let client = Client::with(url, Some(Secret::new(secret.clone())))?;
    let docset = miner::create_docset(&client, corpus::SLUG, Some(QUERY), None, Some("demo")).await?;
    println!(
        "   {QUERY}: docset {} of {} documents, fingerprint {}",
        docset["id"],
        docset["size"],
        docset["fingerprint"].as_str().unwrap_or_default()
    );

    step(4, "Ask for a package of it and watch it being built");
    let body = json!({"formats": ["txt", "license", "meta"], "layout": "bag"});
    let asked = client.post(&format!("/api/docsets/{}/packages", docset["id"]), &body).await?;
    let package = miner::watch(&client, asked).await?;
    println!(
        "   package {}: {} bytes, {} of {} documents included",
        package["id"], package["size"], package["documents"]["included"], package["documents"]["requested"]
    );

    step(5, "Download it and verify every byte");
    let target: PathBuf = config.data.join("demo-package.zip");
    let sha256 = miner::fetch(&client, &package, &target).await?;
    let findings = miner::check(&target)?;
    if !findings.faults.is_empty() || !findings.bag {
        bail!("the archive is not whole: {}", findings.faults.join("; "));
    }
    println!("   SHA-256 {sha256} is right; all {} files of the bag are whole", findings.files);
    println!("   {}", target.display());
    println!("Done.");
    Ok(secret)
}

fn step(number: u32, what: &str) {
    println!("{number}. {what}");
}
