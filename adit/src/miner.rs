//! The miner's verbs: search, docset, package, verify, hydrate and apply. They are clients of the API like any other.

mod apply;
mod bag;
mod client;
mod docset;
mod download;
mod hydrate;
mod package;
mod part;
mod patience;
mod proof;
#[cfg(test)]
mod testing;
mod unpack;
mod verify;

use adit_shared::config::Config;
use serde_json::json;

pub(crate) use self::apply::apply;
pub(crate) use self::client::Client;
pub(crate) use self::docset::docset;
pub(crate) use self::hydrate::hydrate;
pub(crate) use self::package::{fetch, package, watch};
pub(crate) use self::verify::{examine, verify};
use crate::cli::SearchArgs;

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
