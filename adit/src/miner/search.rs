//! `adit search`: prints hits for people, or hands the API's answer on.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use adit_shared::config::Config;
use anyhow::Context as _;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::Client;
use crate::cli::{AnswerFormat, SearchArgs};

/// Carries out `adit search`.
pub(crate) async fn search(config: &Config, args: SearchArgs) -> anyhow::Result<()> {
    let client = Client::new(config)?;
    let path = format!("/api/collections/{}/search", args.collection);
    let query = match &args.dsl {
        Some(file) => read_dsl(file)?,
        None => json!(args.query),
    };
    let mut body = json!({"query": query, "sort": args.sort, "facets": args.facets});
    if args.highlight {
        body["highlight"] = json!(true);
    }
    let whole = matches!(args.format, AnswerFormat::Csv | AnswerFormat::Ndjson);
    if let Some(limit) = args.limit.or((!whole).then_some(10)) {
        body["limit"] = json!(limit);
    }
    match args.format {
        AnswerFormat::Text => print(&client.post(&path, &body).await?),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(&client.post(&path, &body).await?)?),
        AnswerFormat::Csv => hand_on(&client, &path, &body, "text/csv").await?,
        AnswerFormat::Ndjson => hand_on(&client, &path, &body, "application/x-ndjson").await?,
    }
    Ok(())
}

fn read_dsl(file: &Path) -> anyhow::Result<Value> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// Writes an answer to standard output as it comes.
async fn hand_on(client: &Client, path: &str, body: &Value, media_type: &str) -> anyhow::Result<()> {
    let mut chunks = client.post_for(path, body, media_type).await?.bytes_stream();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = chunks.try_next().await.context("the answer broke off: it is not whole")? {
        out.write_all(&chunk)?;
    }
    Ok(out.flush()?)
}

fn print(answer: &Value) {
    // Bold on a terminal.
    let marks = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("[", "]") };
    for document in answer["documents"].as_array().into_iter().flatten() {
        let title = document["metadata"]["title"].as_str().unwrap_or("(no title)");
        println!("{:>8}  {:24}  {title}", document["id"], document["ref"].as_str().unwrap_or_default());
        for (field, snippets) in document["snippets"].as_object().into_iter().flatten() {
            for snippet in snippets.as_array().into_iter().flatten() {
                println!("{:10}{field}: {}", "", marked(snippet, marks));
            }
        }
    }
    for (field, counts) in answer["facets"].as_object().into_iter().flatten() {
        println!("{field}:");
        for count in counts.as_array().into_iter().flatten() {
            println!("{:>8}  {}", count["count"], count["value"].as_str().unwrap_or_default());
        }
    }
    println!("{} hits", answer["hits"]);
}

/// A snippet in one line, with something before and behind each mark.
fn marked(snippet: &Value, (before, behind): (&str, &str)) -> String {
    let places = |end: usize| snippet["marks"].as_array().into_iter().flatten().map(move |mark| mark[end].as_u64());
    let mut line = String::new();
    for (place, character) in (0..).zip(snippet["text"].as_str().unwrap_or_default().chars().map(Some).chain([None])) {
        if places(1).any(|end| end == Some(place)) {
            line.push_str(behind);
        }
        if places(0).any(|start| start == Some(place)) {
            line.push_str(before);
        }
        // Metadata come from anywhere: nothing of them may steer the terminal.
        line.extend(character.map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_places_of_characters() {
        let snippet = json!({"text": "Über\nKohle\u{1b}", "marks": [[0, 4], [5, 10]]});
        assert_eq!(marked(&snippet, ("[", "]")), "[Über] [Kohle] ");
    }
}
