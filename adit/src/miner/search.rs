//! `adit search`: prints hits for people, or hands the API's answer on.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use adit_shared::config::Config;
use adit_shared::display::{Printable, steers};
use anyhow::Context as _;
use serde_json::{Value, json};

use super::Client;
use super::client::NDJSON;
use crate::cli::{AnswerFormat, SearchArgs};
use crate::terminal::{outln, print_data, print_json, print_json_text, print_styled};

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
        AnswerFormat::Json => print_json(&client.post(&path, &body).await?)?,
        AnswerFormat::Csv => {
            let line = |line: &str| {
                print_data(line.as_bytes());
                Ok(())
            };
            client.post_for_lines(&path, &body, "text/csv", line).await?;
        }
        AnswerFormat::Ndjson => {
            let line = |line: &str| {
                print_json_text(line);
                Ok(())
            };
            client.post_for_lines(&path, &body, NDJSON, line).await?;
        }
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

fn print(answer: &Value) {
    // Bold on a terminal.
    let marks = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("[", "]") };
    for document in answer["documents"].as_array().into_iter().flatten() {
        let title = Printable::line(document["metadata"]["title"].as_str().unwrap_or("(no title)"));
        let r#ref = Printable::line(document["ref"].as_str().unwrap_or_default());
        outln!("{:>8}  {ref:24}  {title}", document["id"]);
        for (field, snippets) in document["snippets"].as_object().into_iter().flatten() {
            for snippet in snippets.as_array().into_iter().flatten() {
                print_styled(&format!("{:10}{}: {}", "", Printable::line(field), marked(snippet, marks)));
            }
        }
    }
    for (field, counts) in answer["facets"].as_object().into_iter().flatten() {
        outln!("{}:", Printable::line(field));
        for count in counts.as_array().into_iter().flatten() {
            outln!("{:>8}  {}", count["count"], Printable::line(count["value"].as_str().unwrap_or_default()));
        }
    }
    outln!("{} hits", answer["hits"]);
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
        line.extend(character.map(|c| if c.is_whitespace() || steers(c) { ' ' } else { c }));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_places_of_characters() {
        let snippet = json!({"text": "Über\nKohle\u{202e}", "marks": [[0, 4], [5, 10]]});
        assert_eq!(marked(&snippet, ("[", "]")), "[Über] [Kohle] ");
    }
}
