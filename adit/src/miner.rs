//! The miner's verbs: search, docset, package and verify. They are clients of the API like any other.

mod archive;
mod client;
mod download;
mod proof;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adit_shared::config::Config;
use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

pub(crate) use self::client::Client;
use self::client::Refusal;
pub(crate) use self::download::download;
pub(crate) use self::verify::{examine, verify};
use crate::cli::{DocsetArgs, DocsetVerb, PackageArgs, SearchArgs};

/// How long a watch goes on while the server only fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Wait after a failure, where the server names no other.
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// `adit search`: prints hits.
pub(crate) async fn search(config: &Config, args: SearchArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let body = json!({"query": args.query, "limit": args.limit, "sort": args.sort, "facets": args.facets});
    let answer = client.post(&format!("/api/collections/{}/search", args.collection), &body).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    for document in answer["documents"].as_array().into_iter().flatten() {
        let title = document["metadata"]["title"].as_str().unwrap_or("(no title)");
        println!("{:>8}  {:24}  {title}", document["id"], document["ref"].as_str().unwrap_or_default());
    }
    for (field, counts) in answer["facets"].as_object().into_iter().flatten() {
        println!("{field}:");
        for count in counts.as_array().into_iter().flatten() {
            println!("{:>8}  {}", count["count"], count["value"].as_str().unwrap_or_default());
        }
    }
    println!("{} hits", answer["hits"]);
    Ok(())
}

/// `adit docset`: makes, lists and shows docsets.
pub(crate) async fn docset(config: &Config, args: DocsetArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    match args.verb {
        DocsetVerb::Create { collection, query, refs, name } => {
            let refs = refs.as_deref().map(read_refs).transpose()?;
            let docset = create_docset(&client, &collection, query.as_deref(), refs, name.as_deref()).await?;
            print_docset(&docset);
            println!("{}", docset["id"]);
        }
        DocsetVerb::List => {
            let mut path = Some("/api/docsets".to_owned());
            while let Some(page) = path {
                let page = client.get(&page).await?;
                page["docsets"].as_array().into_iter().flatten().for_each(print_docset);
                path = page["next"].as_str().map(|cursor| format!("/api/docsets?cursor={cursor}"));
            }
        }
        DocsetVerb::Show { id } => {
            println!("{}", serde_json::to_string_pretty(&client.get(&format!("/api/docsets/{id}")).await?)?)
        }
    }
    Ok(())
}

/// Makes a docset of a query or of refs.
pub(crate) async fn create_docset(
    client: &Client,
    collection: &str,
    query: Option<&str>,
    refs: Option<Vec<String>>,
    name: Option<&str>,
) -> anyhow::Result<Value> {
    let mut body = json!({"collection": collection, "name": name});
    match refs {
        Some(refs) => body["refs"] = json!(refs),
        None => body["query"] = json!(query),
    }
    client.post("/api/docsets", &body).await
}

fn read_refs(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn print_docset(docset: &Value) {
    let what = docset["query"].as_str().map_or_else(|| "of refs".to_owned(), |query| format!("of {query:?}"));
    let name = docset["name"].as_str().unwrap_or_default();
    println!(
        "docset {}: {} documents {what} in {} {name}",
        docset["id"],
        docset["size"],
        docset["collection"].as_str().unwrap_or_default()
    );
}

/// `adit package`: asks, watches, downloads, verifies.
pub(crate) async fn package(config: &Config, args: PackageArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let body = json!({"formats": args.formats, "layout": args.layout});
    let package = client.post(&format!("/api/docsets/{}/packages", args.docset), &body).await?;
    if args.no_wait {
        println!("{}", package["url"].as_str().unwrap_or_default());
        return Ok(());
    }
    let package = watch(&client, package).await?;
    let target = args.output.unwrap_or_else(|| PathBuf::from(default_name(&package)));
    let sha256 = fetch(&client, &package, &target).await?;
    println!("{}  {}", sha256, target.display());
    Ok(())
}

/// The name that the server gives the download, too.
fn default_name(package: &Value) -> String {
    if package["layout"] == "bag"
        && let Some(Ok(fingerprint)) = package["fingerprint"].as_str().map(str::parse)
    {
        return adit_packager::bag_folder(&fingerprint) + ".zip";
    }
    let formats: Vec<&str> = package["formats"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("docset-{}-{}-{}.zip", package["docset"], formats.join("-"), package["layout"].as_str().unwrap_or_default())
}

/// Polls a package, at the pace that the server asks for, until its archive is there. Trouble of the server or the network is waited out
/// for [`PATIENCE`].
pub(crate) async fn watch(client: &Client, mut package: Value) -> anyhow::Result<Value> {
    let path = format!("/api/packages/{}", package["id"]);
    let style = ProgressStyle::with_template("building {bar:40} {pos:>3}%  {msg}");
    let bar = ProgressBar::new(100).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while package["terminal"] != true {
        bar.set_position(package["percent"].as_u64().unwrap_or(0));
        bar.set_message(package["eta_seconds"].as_u64().map(|s| format!("{s} s left")).unwrap_or_default());
        tokio::time::sleep(Duration::from_secs(package["poll_after"].as_u64().unwrap_or(1))).await;
        package = poll(client, &path).await?;
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

/// GETs a package, again and again where the server may come round.
async fn poll(client: &Client, path: &str) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        let error = match client.get(path).await {
            Ok(package) => return Ok(package),
            Err(error) => error,
        };
        let refusal = error.downcast_ref::<Refusal>();
        let wait = refusal.and_then(|refusal| refusal.retry_after).unwrap_or(BETWEEN_TRIES);
        if refusal.is_some_and(|refusal| !refusal.may_pass()) || began.elapsed() + wait > PATIENCE {
            return Err(error.context(format!("{path} cannot be watched any more; the build goes on without it")));
        }
        tokio::time::sleep(wait).await;
    }
}

/// Downloads a finished package to `target`, goes on where an earlier download stopped, and verifies the SHA-256.
pub(crate) async fn fetch(client: &Client, package: &Value, target: &Path) -> anyhow::Result<Sha256> {
    if !package["download"].is_string() {
        bail!("the archive was erased; ask for the package again");
    }
    // Not the URL of the answer: the server may be known under another one here, and the key is for this one.
    let path = format!("/api/packages/{}/download", package["id"]);
    let size = package["size"].as_u64();
    let expected = package["sha256"].as_str().map(str::parse).transpose()?;
    download(client, &path, target, size, expected).await
}
