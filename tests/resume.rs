//! Downloads over a line that breaks again and again, while the archive is erased and built anew.

mod cutter;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use adit_shared::digest::Sha256;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Child;
use url::Url;

use self::cutter::Cutter;
use crate::support::{
    Api, BrokerKind, Client, DatabaseKind, Deployment, StoreKind, eventually, expect, import_noise, noise, within,
};

/// How often the line breaks.
const CUTS: usize = 10;

/// Where the line breaks, counted in bytes of the archive, in rising order.
fn cuts(size: u64) -> Vec<u64> {
    let seed = rand::random();
    eprintln!("the seed of the cuts is {seed}");
    let random = noise(seed, CUTS * 8);
    let mut cuts: Vec<u64> =
        random.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) % (size - 1) + 1).collect();
    cuts.sort_unstable();
    // A line that breaks twice at one byte brings nothing in between.
    cuts.dedup();
    cuts
}

/// `adit package` to `target`, of the server at `url`.
fn order(site: &Deployment, server: &Client, url: &str, docset: i64, target: &Path) -> Child {
    let command = site.adit(&["--url", url, "package", &docset.to_string(), "--formats", "pdf", "--output"]);
    let mut command = tokio::process::Command::from(command);
    command.arg(target).env("ADIT_API_KEY", &server.key);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn erase(server: &Client, package: &Value) {
    expect(server.request(Method::DELETE, package["url"].as_str().unwrap()).send().await.unwrap(), 200).await;
}

/// Downloads over `line`, at `url`, as it breaks, and checks what comes.
async fn every_byte_comes_once(site: &Deployment, server: &Client, mut line: Cutter, url: &str) {
    let (docset, body) = (server.docset("big", "*").await, json!({"formats": ["pdf"]}));
    let mut package = server.package(docset, &body).await;
    let size = package["size"].as_u64().unwrap();
    let assets = server.json(&format!("/api/packages/{}/assets", package["id"])).await;
    let all: u64 = assets["assets"].as_array().unwrap().iter().map(|asset| asset["size"].as_u64().unwrap()).sum();
    let cuts = cuts(size);
    line.cut_at(&cuts);
    let target = site.folder().join("out.zip");
    let part = site.folder().join("out.zip.part");
    let mut download = order(site, server, url, docset, &target);
    for (number, position) in cuts.iter().enumerate() {
        within("the line breaks", line.broken()).await;
        assert_eq!(line.bytes(), *position);
        match number {
            // Another archive of the same bytes is there.
            2 => {
                erase(server, &package).await;
                package = server.package(docset, &body).await;
            }
            // Whoever downloads must ask for it.
            5 => erase(server, &package).await,
            // The machine is switched off.
            7 => {
                eventually("what came is on the disk", async || {
                    (fs::metadata(&part).unwrap().len() == *position).then_some(())
                })
                .await;
                download.kill().await.unwrap();
                download = order(site, server, url, docset, &target);
            }
            _ => {}
        }
        line.mend();
    }
    let ended = within("the download ends", download.wait_with_output()).await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(line.bytes(), all, "no byte came twice");
    let bytes = fs::read(&target).unwrap();
    let sha256 = package["sha256"].as_str().unwrap();
    assert_eq!(Sha256::of(&bytes).to_string(), sha256);
    assert!(String::from_utf8(ended.stdout).unwrap().starts_with(sha256));
    let left: Vec<_> = fs::read_dir(site.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".part")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_folder_comes_over_a_line_that_breaks() {
    let site = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
    import_noise(&site, 8);
    let Api { client, process } = site.up(&[]);
    let line = Cutter::to(client.url.strip_prefix("http://").unwrap(), "/assets/").await;
    let url = line.url();
    every_byte_comes_once(&site, &client, line, &url).await;
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_an_object_store_comes_over_a_line_that_breaks() {
    let Some(site) = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::S3).await else { return };
    import_noise(&site, 8);
    let store: Url = site.setting("ADIT_STORE_URL").parse().unwrap();
    let (_, endpoint) = store.query_pairs().find(|(name, _)| name == "endpoint").unwrap();
    let line = Cutter::to(endpoint.strip_prefix("http://").unwrap(), "response-content-disposition").await;
    // The links that the server makes lead over the line; nothing else that it asks of the store looks like them.
    let Api { client, process } = site.through(&line.url()).up(&[]);
    let url = client.url.clone();
    every_byte_comes_once(&site, &client, line, &url).await;
    assert!(process.stop().success());
}
