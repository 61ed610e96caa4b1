//! `adit docset`: makes, lists, shows, compares, refreshes, shares, names and deletes docsets.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use adit_shared::config::Config;
use adit_shared::display::Printable;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::Client;
use crate::cli::{DocsetArgs, DocsetVerb, NewDocsetArgs};
use crate::terminal::{outln, print_json, print_json_text};

/// `adit docset`.
pub(crate) async fn docset(config: &Config, args: DocsetArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let path = |id: i64| format!("/api/docsets/{id}");
    match args.verb {
        DocsetVerb::Create(args) => print_new(&create(&client, args).await?),
        DocsetVerb::List => each(&client, "/api/docsets", "docsets", print_docset).await?,
        DocsetVerb::Show { id } => print_json(&client.get(&path(id)).await?)?,
        DocsetVerb::Diff { id, since, json } => {
            diff(&client, &format!("{}/diff?since={since}", path(id)), json).await?
        }
        DocsetVerb::Refresh { id } => print_new(&client.post(&format!("{}/refresh", path(id)), &json!({})).await?),
        DocsetVerb::Rename { id, name } => print_docset(&client.patch(&path(id), &json!({"name": name})).await?),
        DocsetVerb::Delete { id } => client.delete(&path(id)).await?,
        DocsetVerb::Share { id, revoke: Some(share), .. } => {
            client.delete(&format!("{}/share/{share}", path(id))).await?;
        }
        DocsetVerb::Share { id, list: true, .. } => {
            each(&client, &format!("{}/share", path(id)), "shares", print_share).await?;
        }
        DocsetVerb::Share { id, days, .. } => {
            let body = days.map_or_else(|| json!({}), |days| json!({"days": days}));
            let share = client.post(&format!("{}/share", path(id)), &body).await?;
            outln!("link {}, until {}", share["id"], text(&share, "expires"));
            outln!("{}", text(&share, "link"));
        }
        DocsetVerb::Open { link } => print_new(&client.post(&client.shared_path(&link)?, &json!({})).await?),
    }
    Ok(())
}

async fn create(client: &Client, args: NewDocsetArgs) -> anyhow::Result<Value> {
    if let Some(file) = &args.refs {
        let mut query = Serializer::new(String::new());
        query.append_pair("collection", &args.collection);
        let sample = [("sample_size", args.sample), ("sample_seed", args.seed)];
        query.extend_pairs(sample.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.to_string()))));
        query.extend_pairs(args.name.map(|name| ("name", name)));
        return client.post_lines(&format!("/api/docsets?{}", query.finish()), refs(file)?).await;
    }
    let mut body = json!({"collection": args.collection, "name": args.name});
    let operations = [("union", args.union), ("intersection", args.intersection), ("difference", args.difference)];
    if let Some((operation, ids)) = operations.into_iter().find(|(_, ids)| !ids.is_empty()) {
        body["from"] = json!({operation: ids});
    } else if let Some(file) = &args.dsl {
        let source = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        body["query"] = serde_json::from_slice::<serde_json::Map<_, _>>(&source)
            .with_context(|| format!("{} is no JSON object", file.display()))?
            .into();
    } else {
        body["query"] = json!(args.query);
    }
    if let (Some(size), Some(seed)) = (args.sample, args.seed) {
        body["sample"] = json!({"size": size, "seed": seed});
    }
    client.post("/api/docsets", &body).await
}

/// A file of refs as NDJSON.
fn refs(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = BufReader::new(File::open(path).with_context(unreadable)?);
    let mut lines = Vec::new();
    for line in file.lines() {
        let line = line.with_context(unreadable)?;
        if !line.is_empty() {
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
    }
    Ok(lines)
}

/// All pages of a list, whose entries stand in the member `entries`.
async fn each(client: &Client, path: &str, entries: &str, print: impl Fn(&Value)) -> anyhow::Result<()> {
    let (mut next, mut last) = (Some(path.to_owned()), None);
    while let Some(page) = next {
        let page = client.get(&page).await?;
        page[entries].as_array().into_iter().flatten().for_each(&print);
        let cursor = page["next"].as_str().map(str::to_owned);
        ensure!(cursor.is_none() || cursor != last, "the server gives the same page again and again");
        next = cursor
            .as_ref()
            .map(|cursor| format!("{path}?{}", Serializer::new(String::new()).append_pair("cursor", cursor).finish()));
        last = cursor;
    }
    Ok(())
}

async fn diff(client: &Client, path: &str, json: bool) -> anyhow::Result<()> {
    const KINDS: [&str; 3] = ["added", "changed", "withdrawn"];
    let mut counts = [0_u64; KINDS.len()];
    client
        .get_lines(path, |line| {
            if json {
                print_json_text(line);
                return Ok(());
            }
            let entry: Value = serde_json::from_str(line).context("the server's answer is not NDJSON")?;
            let change = entry["change"].as_str().unwrap_or_default();
            outln!("{:9}  {}", Printable::line(change), text(&entry, "ref"));
            KINDS.iter().zip(&mut counts).filter(|(kind, _)| **kind == change).for_each(|(_, count)| *count += 1);
            Ok(())
        })
        .await?;
    if !json {
        let [added, changed, withdrawn] = counts;
        outln!("{added} added, {changed} changed, {withdrawn} withdrawn");
    }
    Ok(())
}

fn print_share(share: &Value) {
    let (expires, link) = (text(share, "expires"), text(share, "link"));
    outln!("link {}, until {expires}, followed by {} keys: {link}", share["id"], share["guests"]);
}

/// A text of an answer, as it can stand in a line.
fn text<'a>(value: &'a Value, member: &str) -> Printable<'a> {
    Printable::line(value[member].as_str().unwrap_or_default())
}

fn print_new(docset: &Value) {
    print_docset(docset);
    outln!("{}", docset["id"]);
}

/// `docset 5: 12 documents of "title:mining" in papers Mine`.
fn print_docset(docset: &Value) {
    let origin = &docset["origin"];
    let sample = if origin["sample"].is_object() { "drawn " } else { "" };
    let what = match (&origin["query"], &origin["from"]) {
        (Value::Null, Value::Object(operation)) => {
            let operation = operation.iter().map(|(name, ids)| format!("the {name} of {ids}"));
            Printable::line(&operation.collect::<String>()).to_string()
        }
        (Value::Null, _) => "refs".to_owned(),
        (query, _) => Printable::line(&query.to_string()).to_string(),
    };
    let (collection, name) = (text(docset, "collection"), text(docset, "name"));
    outln!("docset {}: {} documents {sample}of {what} in {collection} {name}", docset["id"], docset["size"]);
}
