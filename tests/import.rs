//! Imports that meet bad folders, other imports and sudden ends.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Server, adit, expect, run, succeed, text, write_collection};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn objects(data: &Path) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        entries.iter().map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(&data.join("objects"))
}

#[tokio::test]
async fn bad_lines_are_named_and_the_rest_goes_in() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("b", "B", "beta")]);
    let mut lines = fs::read_to_string(folder.join("documents.jsonl")).unwrap();
    lines += "{\"ref\": \"broken\", \n";
    lines += &(json!({"ref": "gone", "files": [{"format": "txt", "path": "files/gone.txt"}]}).to_string() + "\n");
    lines += &(json!({"ref": "a", "files": []}).to_string() + "\n");
    lines += &(json!({"ref": "out", "files": [{"format": "txt", "path": "../outside.txt"}]}).to_string() + "\n");
    lines += &json!({"ref": "last", "files": [{"format": "txt", "path": "files/0.txt"}]}).to_string();
    fs::write(folder.join("documents.jsonl"), lines).unwrap();
    fs::write(dir.path().join("outside.txt"), "secret").unwrap();

    let output = run(&data, &["import", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    for (line, reason) in [(3, "column"), (4, "gone.txt cannot be read"), (5, "earlier line"), (6, "leaves the folder")]
    {
        let place = format!("documents.jsonl:{line}: ");
        let found =
            errors.lines().find(|text| text.starts_with(&place)).unwrap_or_else(|| panic!("{place} in {errors}"));
        assert!(found.contains(reason), "{found}");
    }
    let server = Server::start(&data, &[]);
    let all = expect(server.post("/api/collections/c/search", &json!({"query": "*", "sort": "ref"})).await, 200).await;
    let refs: Vec<&str> = all["documents"].as_array().unwrap().iter().map(|d| d["ref"].as_str().unwrap()).collect();
    assert_eq!(refs, ["a", "b", "last"]);
}

#[test]
fn folders_that_are_no_collections_are_refused_with_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let refused = |folder: &Path| {
        let output = run(&data, &["import", folder.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(refused(&dir.path().join("nowhere")).contains("there is no folder"));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(&empty).contains("collection.json"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"A B\", \"name\": \"x\"}").unwrap();
    assert!(refused(&empty).contains("slug"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"a\"}").unwrap();
    assert!(refused(&empty).contains("missing field `name`"));
    fs::write(empty.join("collection.json"), "{\"slug\": \"a\", \"name\": \"x\"}").unwrap();
    assert!(refused(&empty).contains("documents.jsonl"));
}

#[test]
fn an_unchanged_folder_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("b", "B", "beta")]);
    let first = succeed(&data, &["import", folder.to_str().unwrap()]);
    assert!(first.contains("2 added") && first.contains("corpus version 1"), "{first}");
    let stored = objects(&data);
    let second = succeed(&data, &["import", folder.to_str().unwrap()]);
    assert!(second.contains("0 added, 0 updated, 2 unchanged") && second.contains("corpus version 1"), "{second}");
    assert_eq!(objects(&data), stored);
}

#[test]
fn an_import_that_is_stopped_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "A", "alpha")]);
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let stored = objects(&data);
    // A document that never ends: reading it is interrupted by the signal.
    let pipe = folder.join("documents.jsonl");
    fs::remove_file(&pipe).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child =
        adit(&data).args(["import", folder.to_str().unwrap()]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let line = json!({"ref": "b", "files": [{"format": "txt", "path": "files/0.txt"}]}).to_string() + "\n";
    for number in 0..600 {
        std::io::Write::write_all(&mut writer, line.replace("\"b\"", &format!("\"b{number}\"")).as_bytes()).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(writer);

    fs::remove_file(&pipe).unwrap();
    let again = write_collection(dir.path(), "c", &[text("a", "A", "alpha"), text("z", "Z", "zeta")]);
    let report = crate::import::wait_for_lease(&data, &again);
    assert!(report.contains("1 added, 0 updated, 1 unchanged; 2 documents in corpus version 2"), "{report}");
    assert!(objects(&data) > stored);
}

/// Imports with `--wait`: the lease of an import that was killed runs out by itself.
fn wait_for_lease(data: &Path, folder: &Path) -> String {
    succeed(data, &["import", "--wait", folder.to_str().unwrap()])
}
