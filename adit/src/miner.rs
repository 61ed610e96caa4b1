//! The miner's verbs: search, docset, package, verify, hydrate and apply. They are clients of the API like any other.

mod apply;
mod bag;
mod client;
mod download;
mod hydrate;
mod package;
mod part;
mod patience;
mod proof;
mod search;
#[cfg(test)]
mod testing;
mod unpack;
mod verify;

use std::path::Path;

use adit_shared::config::Config;
use anyhow::Context as _;
use serde_json::{Value, json};

pub(crate) use self::apply::apply;
pub(crate) use self::client::Client;
pub(crate) use self::hydrate::hydrate;
pub(crate) use self::package::{fetch, package, watch};
pub(crate) use self::search::search;
pub(crate) use self::verify::{examine, verify};
use crate::cli::{DocsetArgs, DocsetVerb};

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
