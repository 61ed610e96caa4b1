//! `asyncapi.yaml` says what the code does: the same queues, and examples that the code reads and writes to the letter.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends in a panic")]

use std::collections::BTreeMap;

use adit_shared::messaging::{DeleteRequest, PackageRequest, Queue, StatusMessage};
use serde::Deserialize;

#[derive(Deserialize)]
struct AsyncApi {
    channels: BTreeMap<String, Channel>,
    components: Components,
}

#[derive(Deserialize)]
struct Channel {
    address: String,
    messages: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Components {
    messages: BTreeMap<String, Message>,
}

#[derive(Deserialize)]
struct Message {
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    payload: String,
}

fn document() -> AsyncApi {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../asyncapi.yaml");
    yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What a message looks like after it went through the code.
fn rewritten(message: &str, body: &str) -> String {
    match message {
        "packageRequest" => body.parse::<PackageRequest>().unwrap().to_string(),
        "deleteRequest" => body.parse::<DeleteRequest>().unwrap().to_string(),
        _ => body.parse::<StatusMessage>().unwrap().to_string(),
    }
}

#[test]
fn addresses_are_those_of_the_code() {
    let queues = [
        Queue::PackageRequests,
        Queue::Deletes,
        Queue::Package("{package}".to_owned()),
        Queue::Dead(Box::new(Queue::PackageRequests)),
    ];
    let mut expected: Vec<String> = queues.iter().map(Queue::logical).collect();
    let mut found: Vec<String> = document().channels.into_values().map(|channel| channel.address).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn examples_are_read_and_written_to_the_letter() {
    for (name, message) in document().components.messages {
        assert!(!message.examples.is_empty(), "{name}");
        for Example { payload } in message.examples {
            assert_eq!(rewritten(&name, &payload), payload, "{name}");
        }
    }
}

#[test]
fn every_status_that_the_code_knows_is_in_the_document() {
    let document = document();
    let names: Vec<&String> = document.channels["package"].messages.keys().collect();
    assert_eq!(names, ["accepted", "complete", "dismissed", "failed", "progress"]);
    for name in names {
        let body = &document.components.messages[name].examples[0].payload;
        // No default branch: a new kind of status does not compile until it is named here, and so in the document.
        let kind = match body.parse::<StatusMessage>().unwrap() {
            StatusMessage::Accepted { .. } => "accepted",
            StatusMessage::Progress { .. } => "progress",
            StatusMessage::Complete(_) => "complete",
            StatusMessage::Failed { .. } => "failed",
            StatusMessage::Dismissed => "dismissed",
        };
        assert_eq!(kind, name);
    }
}
