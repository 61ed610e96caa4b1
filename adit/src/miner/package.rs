//! `adit package`: asks for a package, watches it being built, and downloads all that it consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_shared::config::Config;
use adit_shared::digest::Sha256;
use adit_shared::display::Printable;
use adit_shared::domain::{AssetName, MANIFEST_NAME, PackageManifest, RECEIPT_NAME};
use adit_shared::names::fold;
use anyhow::{Context as _, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, Refusal};
use super::download::{Downloads, Item, OtherBytes, may_pass, retry_after};
use super::patience::Patience;
use super::proof::Proof;
use crate::cli::PackageArgs;
use crate::terminal::outln;

/// How often a package that is erased while it is downloaded is asked for again.
const REBUILDS: u32 = 10;
/// Seconds between two looks at a package that is being built, whatever the server asks for.
const POLLS: std::ops::RangeInclusive<u64> = 1..=60;
/// Most bytes of an asset whose length the server does not tell.
const MAX_UNTOLD: u64 = 1 << 30;
/// Most assets of a package.
const MAX_ASSETS: usize = 100_000;

/// Asks for a package, watches it, downloads and verifies it.
pub(crate) async fn package(config: &Config, args: PackageArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let path = format!("/api/docsets/{}/packages", args.docset);
    let package = PackageState::read(client.post(&path, &body(&args)).await?)?;
    if args.no_wait {
        outln!("{}", Printable::line(&package.url));
        return Ok(());
    }
    let package = watch(&client, package).await?;
    for (sha256, place) in fetch(&client, package, args.output.as_deref(), args.force).await? {
        outln!("{sha256}  {}", place.display());
    }
    Ok(())
}

/// Where a package stands, as far as the server's answer can be used.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PackageState {
    /// Its number.
    pub(crate) id: u64,
    docset: u64,
    fingerprint: Sha256,
    status: String,
    terminal: bool,
    #[serde(default)]
    percent: u64,
    eta_seconds: Option<u64>,
    poll_after: Option<u64>,
    problem: Option<String>,
    #[serde(default)]
    url: String,
    /// Size of its archive in bytes.
    pub(crate) size: Option<u64>,
    /// Counts of documents.
    pub(crate) documents: PackageCounts,
}

/// Counts of a package's documents.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct PackageCounts {
    /// Members of the docset.
    pub(crate) requested: u64,
    /// Members of which there is a file.
    pub(crate) included: Option<u64>,
}

impl PackageState {
    /// Reads the server's answer.
    pub(crate) fn read(answer: Value) -> anyhow::Result<Self> {
        serde_json::from_value(answer).context("the server's answer is no package")
    }
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
pub(crate) async fn watch(client: &Client, mut package: PackageState) -> anyhow::Result<PackageState> {
    let path = format!("/api/packages/{}", package.id);
    let style = ProgressStyle::with_template("building {bar:40} {pos:>3}%  {msg}");
    let bar = ProgressBar::new(100).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while !package.terminal {
        bar.set_position(package.percent.min(100));
        bar.set_message(package.eta_seconds.map(|s| format!("{s} s left")).unwrap_or_default());
        let pause = package.poll_after.unwrap_or(1).clamp(*POLLS.start(), *POLLS.end());
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let answer = patiently(async || client.get(&path).await)
            .await
            .with_context(|| format!("{path} cannot be watched any more; the build goes on without it"))?;
        let id = std::mem::replace(&mut package, PackageState::read(answer)?).id;
        ensure!(package.id == id, "the server answers for package {id} with package {}", package.id);
    }
    bar.finish_and_clear();
    match package.status.as_str() {
        "successful" => Ok(package),
        "failed" => {
            let reason = package.problem.as_deref().unwrap_or("no reason was given");
            bail!("the package could not be built: {}", Printable::line(reason))
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
    name: AssetName,
    size: Option<u64>,
    sha256: Option<Sha256>,
}

impl Asset {
    /// Whether it tells of the others, and holds nothing itself.
    fn is_proof(&self) -> bool {
        [MANIFEST_NAME, RECEIPT_NAME].contains(&self.name.as_str())
    }
}

/// Reads the list of a package's assets: names that are one harmless segment of a path, and no two
/// that are one file.
fn read_assets(answer: &Value) -> anyhow::Result<Vec<Asset>> {
    let list = answer["assets"].as_array().context("the server's answer lists no assets")?;
    ensure!(
        (1..=MAX_ASSETS).contains(&list.len()),
        "the server lists {} assets, and no package has so many",
        list.len()
    );
    let read = list.iter().map(Asset::deserialize).collect::<Result<Vec<_>, _>>();
    let mut assets = read.context("the server's list of assets cannot be used")?;
    let mut names = BTreeSet::new();
    for asset in &assets {
        ensure!(names.insert(fold(asset.name.as_str())), "two of the package's assets would be named {}", asset.name);
    }
    assets.sort_by_key(Asset::is_proof);
    Ok(assets)
}

/// Downloads all that a finished package consists of, goes on where an earlier download stopped,
/// and verifies each SHA-256. What is erased meanwhile, or turns out to be damaged in the server's
/// store, is built again, with the same bytes.
/// `output` is the place of the archive, or a folder, which packages in shards always get. Other
/// files that are there already are an error, unless `overwrite` is set.
///
/// Gives the archive, or the shards, with their SHA-256; manifest and receipt lie beside.
pub(crate) async fn fetch(
    client: &Client,
    mut package: PackageState,
    output: Option<&Path>,
    overwrite: bool,
) -> anyhow::Result<Vec<(Sha256, PathBuf)>> {
    let style = ProgressStyle::with_template("downloading {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for _ in 0..REBUILDS {
        let patience = Patience::default();
        let downloads = Downloads { client, patience: &patience, bar: &bar, overwrite };
        let error = match fetch_assets(downloads, &package, output).await {
            Ok(fetched) => {
                bar.finish_and_clear();
                return Ok(fetched);
            }
            Err(error) if error.is::<OtherBytes>() => have_checked(client, &package, error).await,
            Err(error) => error,
        };
        let Some(body) = erased(&error) else { return Err(error) };
        let path = format!("/api/docsets/{}/packages", package.docset);
        let asked = patiently(async || client.post(&path, body).await).await;
        let asked = PackageState::read(asked.context("the package was erased and cannot be built again")?)?;
        package = watch(client, asked).await?;
    }
    bail!("the package was erased {REBUILDS} times while it was downloaded; run it again to go on")
}

/// Lets the server compare a package, of which other bytes have come, with its SHA-256. Gives the
/// server's refusal if it is damaged there; else the error stays, for then the bytes were changed
/// on their way.
async fn have_checked(client: &Client, package: &PackageState, error: anyhow::Error) -> anyhow::Error {
    let path = format!("/api/packages/{}/check", package.id);
    match patiently(async || client.post(&path, &json!({})).await).await {
        Err(refused) if erased(&refused).is_some() => refused,
        _ => error,
    }
}

/// What to ask for again, if the server says that the package was erased.
fn erased(error: &anyhow::Error) -> Option<&Value> {
    let refusal = error.downcast_ref::<Refusal>().filter(|refusal| refusal.status == StatusCode::GONE)?;
    refusal.problem["rebuild"].get("body")
}

async fn fetch_assets(
    downloads: Downloads<'_>,
    package: &PackageState,
    output: Option<&Path>,
) -> anyhow::Result<Vec<(Sha256, PathBuf)>> {
    // Not the URLs of the answers: the server may be known under another one here, and the key is for this one.
    let list = format!("/api/packages/{}/assets", package.id);
    let assets = read_assets(&patiently(async || downloads.client.get(&list).await).await?)?;
    let places = places(package, &assets, output)?;
    let sizes = assets.iter().filter_map(|asset| asset.size);
    downloads.bar.set_length(sizes.fold(0, u64::saturating_add));
    downloads.bar.set_position(0);
    let mut fetched = Vec::new();
    for (asset, place) in assets.iter().zip(places) {
        let downloads = Downloads { patience: &Patience::default(), ..downloads };
        let url = format!("{list}/{}", asset.name);
        let item = Item { url, size: asset.size, most: MAX_UNTOLD, sha256: asset.sha256, gzip: false };
        let sha256 = downloads.run(&item, &place, &place).await?;
        fetched.push((asset, sha256, place));
    }
    agree(package, &fetched)?;
    let contents = fetched.into_iter().filter(|(asset, ..)| !asset.is_proof());
    Ok(contents.map(|(_, sha256, place)| (sha256, place)).collect())
}

/// Compares what was fetched with the package's manifest, if it has one: what is signed is that, and not what the server says.
fn agree(package: &PackageState, fetched: &[(&Asset, Sha256, PathBuf)]) -> anyhow::Result<()> {
    let Some((.., place)) = fetched.iter().find(|(asset, ..)| asset.name.as_str() == MANIFEST_NAME) else {
        return Ok(());
    };
    let bytes = fs::read(place).with_context(|| format!("cannot read {}", place.display()))?;
    let manifest = PackageManifest::parse(&bytes).map_err(|error| anyhow!("{}: {error}", place.display()))?;
    let contents = fetched.iter().filter(|(asset, ..)| !asset.is_proof());
    let found: BTreeMap<&str, Sha256> = contents.map(|(asset, sha256, _)| (asset.name.as_str(), *sha256)).collect();
    let named: BTreeMap<&str, Sha256> =
        manifest.assets.iter().map(|asset| (asset.name.as_str(), asset.sha256)).collect();
    if package.fingerprint != manifest.package || named != found {
        bail!("{} is not the manifest of what the server has sent; tell its operator", place.display());
    }
    Ok(())
}

/// Where each asset is to be: in a folder under its own name, or, of an archive that is to lie elsewhere, there and beside it.
fn places(package: &PackageState, assets: &[Asset], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let mut contents = assets.iter().filter(|asset| !asset.is_proof());
    let archive = contents.next().filter(|_| contents.next().is_none());
    let Some(archive) = archive else {
        let own = || PathBuf::from(format!("package-{}", &package.fingerprint.to_string()[..12]));
        let folder = output.map_or_else(own, Path::to_owned);
        make_folder(&folder, output.is_some()).with_context(|| {
            format!("the package has several parts, and {} cannot be their folder", folder.display())
        })?;
        return Ok(assets.iter().map(|asset| folder.join(asset.name.as_str())).collect());
    };
    let archive_place = match output {
        Some(folder) if folder.is_dir() => folder.join(archive.name.as_str()),
        Some(file) => file.to_owned(),
        None => PathBuf::from(archive.name.as_str()),
    };
    let proof = Proof::beside(&archive_place);
    let place = |asset: &Asset| match asset.name.as_str() {
        MANIFEST_NAME => proof.manifest.clone(),
        RECEIPT_NAME => proof.receipt.clone(),
        _ => archive_place.clone(),
    };
    Ok(assets.iter().map(place).collect())
}

/// Makes a folder where there is none. One that the user has not named is no symbolic link.
fn make_folder(folder: &Path, named: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    ensure!(named || !fs::symlink_metadata(folder)?.is_symlink(), "it is a symbolic link; name the folder by --output");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Hostile;
    use super::*;

    fn state(status: &str, terminal: bool) -> Value {
        json!({"id": 7, "docset": 1, "fingerprint": Sha256::of(b"p"), "status": status, "terminal": terminal,
            "documents": {"requested": 1}})
    }

    fn places_of(names: &[&str], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
        let assets: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let package = PackageState::read(state("successful", true))?;
        places(&package, &read_assets(&json!({"assets": assets}))?, output)
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
        fs::write(&file, "").unwrap();
        assert!(places_of(&shards, Some(&file)).is_err());
    }

    #[test]
    fn a_server_names_no_other_folder() {
        for name in ["../a", "/a", "a/b", "..", "", ".bashrc", "con.zip", "a\n", "a\u{1b}[2J"] {
            assert!(places_of(&[name], None).is_err(), "{name}");
        }
        assert!(places_of(&["a.zip", "A.ZIP"], None).unwrap_err().to_string().contains("would be named"));
        assert!(read_assets(&json!({"assets": []})).is_err());
    }

    /// What a server answers when a package is asked for, listed and downloaded: none of it writes
    /// outside of the folder or over anything in it, and each is told.
    #[tokio::test]
    async fn a_hostile_server_is_told_of_and_writes_nothing() {
        let good = json!({"assets": [{"name": "a.zip", "size": 3, "sha256": Sha256::of(b"abc")}]});
        let with = |member: &str, value: Value| {
            let mut package = state("successful", true);
            package[member] = value;
            package.to_string()
        };
        let listed = |asset: Value| json!({"assets": [asset]}).to_string();
        let package = state("successful", true).to_string();
        let (hash, other) = (Sha256::of(b"abc").to_string(), Sha256::of(b"x").to_string());
        let deep = "[".repeat(100_000);
        let cases: Vec<(&str, String, String)> = vec![
            ("a fingerprint is a path", with("fingerprint", json!("/../../.ssh/")), good.to_string()),
            ("an id is a path", with("id", json!("1/../../docsets/1")), good.to_string()),
            ("an id is negative", with("id", json!(-1)), good.to_string()),
            ("a number is none", package.replace("\"id\":7", "\"id\":NaN"), good.to_string()),
            ("a number is too large", package.replace("\"id\":7", "\"id\":1e999"), good.to_string()),
            ("JSON is too deep", deep.clone(), good.to_string()),
            ("a name is a dot file", package.clone(), listed(json!({"name": ".bashrc", "size": 3, "sha256": hash}))),
            ("a name is a path", package.clone(), listed(json!({"name": "../x", "size": 3, "sha256": hash}))),
            ("a hash is a path", package.clone(), listed(json!({"name": "x", "size": 3, "sha256": "../x"}))),
            ("a size is a text", package.clone(), listed(json!({"name": "x", "size": "NaN", "sha256": hash}))),
            ("a size is absurd", package.clone(), listed(json!({"name": "x", "size": u64::MAX, "sha256": hash}))),
            ("a size is wrong", package.clone(), listed(json!({"name": "x", "size": 2, "sha256": hash}))),
            ("a hash is wrong", package.clone(), listed(json!({"name": "x", "size": 3, "sha256": other}))),
            (
                "a file of mine has that name",
                package.clone(),
                listed(json!({"name": "mine", "size": 3, "sha256": hash})),
            ),
            ("a list is JSON of 80 MB", package.clone(), format!("{{\"assets\":[\"{}\"]}}", "x".repeat(80 << 20))),
            ("a list is no list", package.clone(), "{\"assets\": {}}".to_owned()),
        ];
        for (what, package, list) in cases {
            let server = Hostile::start(move |path| {
                Hostile::answer(
                    200,
                    match path {
                        "/api/docsets/1/packages" => package.as_bytes(),
                        "/api/packages/7/assets" => list.as_bytes(),
                        _ => b"abc",
                    },
                )
            })
            .await;
            let dir = tempfile::tempdir().unwrap();
            let (folder, before) = (dir.path().join("a/b"), b"precious".as_slice());
            fs::create_dir_all(&folder).unwrap();
            for name in ["mine", ".bashrc"] {
                fs::write(folder.join(name), before).unwrap();
            }
            let client = server.client();
            let outcome = async {
                let package = PackageState::read(client.post("/api/docsets/1/packages", &json!({})).await?)?;
                fetch(&client, watch(&client, package).await?, Some(&folder), false).await
            };
            let outcome = tokio::time::timeout(Duration::from_secs(60), outcome).await.expect(what);
            assert!(outcome.is_err(), "{what}");
            let left = super::super::testing::read(dir.path());
            assert_eq!(left.keys().collect::<Vec<_>>(), ["a/b/.bashrc", "a/b/mine"], "{what}");
            assert!(left.values().all(|content| content == before), "{what}");
        }
    }

    #[tokio::test]
    async fn a_server_that_wants_to_be_asked_at_once_is_asked_each_second() {
        let server = Hostile::start(|_| {
            let mut package = state("running", false);
            package["poll_after"] = json!(0);
            Hostile::answer(200, package.to_string().as_bytes())
        })
        .await;
        let mut package = state("running", false);
        package["poll_after"] = json!(0);
        let (client, package) = (server.client(), PackageState::read(package).unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(2500), watch(&client, package)).await.is_err());
        assert!(server.asked().len() <= 3, "{}", server.asked().len());
    }
}
