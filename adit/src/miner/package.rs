//! `adit package`: asks for a package, watches it being built, and downloads all that it consists of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_shared::config::Config;
use adit_shared::digest::Sha256;
use adit_shared::domain::{MANIFEST_NAME, PackageManifest, RECEIPT_NAME};
use anyhow::{Context as _, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bag::safe_names;
use super::client::{Client, Refusal};
use super::download::{Downloads, Item, may_pass, retry_after};
use super::part::hash_file;
use super::patience::Patience;
use super::proof::Proof;
use crate::cli::PackageArgs;

/// How often a package that is erased while it is downloaded is asked for again.
const REBUILDS: u32 = 10;

/// Asks for a package, watches it, downloads and verifies it.
pub(crate) async fn package(config: &Config, args: PackageArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let package = client.post(&format!("/api/docsets/{}/packages", args.docset), &body(&args)).await?;
    if args.no_wait {
        println!("{}", package["url"].as_str().unwrap_or_default());
        return Ok(());
    }
    let package = watch(&client, package).await?;
    for (sha256, place) in fetch(&client, package, args.output.as_deref()).await? {
        println!("{sha256}  {}", place.display());
    }
    Ok(())
}

fn body(args: &PackageArgs) -> Value {
    let mut body = json!({"formats": args.formats, "layout": args.layout});
    // What was not asked for is left to the server.
    let options = [
        ("compression", args.compression.as_ref().map(|compression| json!(compression))),
        ("shard_bytes", args.shard_bytes.map(|bytes| json!(bytes))),
        ("dehydrated", args.dehydrated.then_some(json!(true))),
        ("delta_from", args.delta_from.map(|(what, id)| json!({what.as_str(): id}))),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

/// Polls a package, at the pace that the server asks for, until it is there. Trouble of the server or the network is waited out.
pub(crate) async fn watch(client: &Client, mut package: Value) -> anyhow::Result<Value> {
    let path = format!("/api/packages/{}", package["id"]);
    let style = ProgressStyle::with_template("building {bar:40} {pos:>3}%  {msg}");
    let bar = ProgressBar::new(100).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while package["terminal"] != true {
        bar.set_position(package["percent"].as_u64().unwrap_or(0));
        bar.set_message(package["eta_seconds"].as_u64().map(|s| format!("{s} s left")).unwrap_or_default());
        tokio::time::sleep(Duration::from_secs(package["poll_after"].as_u64().unwrap_or(1))).await;
        package = patiently(async || client.get(&path).await)
            .await
            .with_context(|| format!("{path} cannot be watched any more; the build goes on without it"))?;
    }
    bar.finish_and_clear();
    match package["status"].as_str() {
        Some("successful") => Ok(package),
        Some("failed") => {
            bail!("the package could not be built: {}", package["problem"].as_str().unwrap_or("no reason was given"))
        }
        _ => bail!("the package was dismissed"),
    }
}

/// Asks again and again where the server may come round.
async fn patiently<T>(ask: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let patience = Patience::default();
    loop {
        match ask().await {
            Err(error) if may_pass(&error) && patience.wait(retry_after(&error)).await => {}
            done => return done,
        }
    }
}

/// One of the things that a package consists of.
#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    size: Option<u64>,
    sha256: Option<Sha256>,
}

impl Asset {
    /// Whether it tells of the others, and holds nothing itself.
    fn is_proof(&self) -> bool {
        [MANIFEST_NAME, RECEIPT_NAME].contains(&self.name.as_str())
    }
}

/// Downloads all that a finished package consists of, goes on where an earlier download stopped, and verifies each SHA-256. What is erased
/// meanwhile is built again, with the same bytes. `output` is the place of the archive, or a folder, which packages in shards always get.
///
/// Gives the archive, or the shards, with their SHA-256; manifest and receipt lie beside.
pub(crate) async fn fetch(
    client: &Client,
    mut package: Value,
    output: Option<&Path>,
) -> anyhow::Result<Vec<(Sha256, PathBuf)>> {
    let style = ProgressStyle::with_template("downloading {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for _ in 0..REBUILDS {
        let error = match fetch_assets(client, &package, output, &bar).await {
            Ok(fetched) => {
                bar.finish_and_clear();
                return Ok(fetched);
            }
            Err(error) => error,
        };
        let Some(body) = erased(&error) else { return Err(error) };
        let path = format!("/api/docsets/{}/packages", package["docset"]);
        let asked = patiently(async || client.post(&path, body).await).await;
        package = watch(client, asked.context("the package was erased and cannot be built again")?).await?;
    }
    bail!("the package was erased {REBUILDS} times while it was downloaded; run it again to go on")
}

/// What to ask for again, if the server says that the package was erased.
fn erased(error: &anyhow::Error) -> Option<&Value> {
    let refusal = error.downcast_ref::<Refusal>().filter(|refusal| refusal.status == StatusCode::GONE)?;
    refusal.problem["rebuild"].get("body")
}

async fn fetch_assets(
    client: &Client,
    package: &Value,
    output: Option<&Path>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<(Sha256, PathBuf)>> {
    // Not the URLs of the answers: the server may be known under another one here, and the key is for this one.
    let list = format!("/api/packages/{}/assets", package["id"]);
    let answer = patiently(async || client.get(&list).await).await?;
    let mut assets: Vec<Asset> = serde_json::from_value(answer["assets"].clone()).context("cannot read the assets")?;
    assets.sort_by_key(Asset::is_proof);
    let places = places(package, &assets, output)?;
    bar.set_length(assets.iter().filter_map(|asset| asset.size).sum());
    bar.set_position(0);
    let mut fetched = Vec::new();
    for (asset, place) in assets.iter().zip(places) {
        let downloads = Downloads { client, patience: &Patience::default(), bar };
        let item = Item { url: format!("{list}/{}", asset.name), size: asset.size, sha256: asset.sha256, gzip: false };
        let sha256 = match asset.sha256.filter(|sha256| is_there(&place, asset.size, *sha256)) {
            Some(sha256) => {
                bar.inc(asset.size.unwrap_or(0));
                sha256
            }
            None => downloads.run(&item, &place, &place).await?,
        };
        fetched.push((asset, sha256, place));
    }
    agree(package, &fetched)?;
    let contents = fetched.into_iter().filter(|(asset, ..)| !asset.is_proof());
    Ok(contents.map(|(_, sha256, place)| (sha256, place)).collect())
}

/// Compares what was fetched with the package's manifest, if it has one: what is signed is that, and not what the server says.
fn agree(package: &Value, fetched: &[(&Asset, Sha256, PathBuf)]) -> anyhow::Result<()> {
    let Some((.., place)) = fetched.iter().find(|(asset, ..)| asset.name == MANIFEST_NAME) else { return Ok(()) };
    let bytes = std::fs::read(place).with_context(|| format!("cannot read {}", place.display()))?;
    let manifest = PackageManifest::parse(&bytes).map_err(|error| anyhow!("{}: {error}", place.display()))?;
    let contents = fetched.iter().filter(|(asset, ..)| !asset.is_proof());
    let found: BTreeMap<&str, Sha256> = contents.map(|(asset, sha256, _)| (asset.name.as_str(), *sha256)).collect();
    let named: BTreeMap<&str, Sha256> =
        manifest.assets.iter().map(|asset| (asset.name.as_str(), asset.sha256)).collect();
    let is_this = package["fingerprint"].as_str().is_none_or(|own| own == manifest.package.to_string());
    if !is_this || named != found {
        bail!("{} is not the manifest of what the server has sent; tell its operator", place.display());
    }
    Ok(())
}

fn is_there(place: &Path, size: Option<u64>, sha256: Sha256) -> bool {
    let length = std::fs::metadata(place).ok().map(|metadata| metadata.len());
    length.is_some() && length == size && hash_file(place).is_ok_and(|(_, found)| found == sha256)
}

/// Where each asset is to be: in a folder under its own name, or, of an archive that is to lie elsewhere, there and beside it.
fn places(package: &Value, assets: &[Asset], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    for asset in assets {
        ensure!(safe_names(&asset.name)?.len() == 1, "{:?} is no name of a file", asset.name);
    }
    let mut contents = assets.iter().filter(|asset| !asset.is_proof());
    let archive = contents.next().filter(|_| contents.next().is_none());
    let Some(archive) = archive else {
        let fingerprint = package["fingerprint"].as_str().unwrap_or_default();
        let folder = output.map_or_else(|| PathBuf::from(format!("package-{fingerprint:.12}")), Path::to_owned);
        std::fs::create_dir_all(&folder).with_context(|| {
            format!("the package has several parts, and {} cannot be their folder", folder.display())
        })?;
        return Ok(assets.iter().map(|asset| folder.join(&asset.name)).collect());
    };
    let archive_place = match output {
        Some(folder) if folder.is_dir() => folder.join(&archive.name),
        Some(file) => file.to_owned(),
        None => PathBuf::from(&archive.name),
    };
    let proof = Proof::beside(&archive_place);
    let place = |asset: &Asset| match asset.name.as_str() {
        MANIFEST_NAME => proof.manifest.clone(),
        RECEIPT_NAME => proof.receipt.clone(),
        _ => archive_place.clone(),
    };
    Ok(assets.iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_of(names: &[&str], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
        let asset = |name: &&str| Asset { name: (*name).to_owned(), size: None, sha256: None };
        let assets: Vec<Asset> = names.iter().map(asset).collect();
        places(&json!({"fingerprint": "0123456789abcdef"}), &assets, output)
    }

    #[test]
    fn an_archive_has_its_proof_beside_it_and_shards_have_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path(), dir.path().join("out.zip"));
        let archive = ["bag-0123.zip", "manifest.json", "receipt.jws"];
        let below = |folder: &Path, names: &[&str]| names.iter().map(|name| folder.join(name)).collect::<Vec<_>>();
        let beside = ["bag-0123.zip", "bag-0123.zip.manifest.json", "bag-0123.zip.receipt.jws"];
        assert_eq!(places_of(&archive, None).unwrap(), below(Path::new(""), &beside));
        assert_eq!(places_of(&archive, Some(folder)).unwrap(), below(folder, &beside));
        let beside = ["out.zip", "out.zip.manifest.json", "out.zip.receipt.jws"];
        assert_eq!(places_of(&archive, Some(&file)).unwrap(), below(folder, &beside));
        let shards = ["a-00001-of-00002.zip", "a-00002-of-00002.zip", "manifest.json"];
        let new = folder.join("new");
        assert_eq!(places_of(&shards, Some(&new)).unwrap(), below(&new, &shards));
        assert!(new.is_dir());
        std::fs::write(&file, "").unwrap();
        assert!(places_of(&shards, Some(&file)).is_err());
    }

    #[test]
    fn a_server_names_no_other_folder() {
        for name in ["../a", "/a", "a/b", "..", ""] {
            assert!(places_of(&[name], None).is_err(), "{name}");
        }
    }
}
