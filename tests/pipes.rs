//! Standard streams that fail: a server outlives whoever reads its log and its output, and a verb
//! ends quietly when nobody reads on.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;

use crate::support::{Client, PATIENCE, Server, adit, eventually, small, text, write_collection};

/// Exit status of a verb whose output nobody reads: 128 and the number of SIGPIPE.
const READER_GONE: Option<i32> = Some(141);

/// A pipe that took nothing for so long is full.
const QUIET: Duration = Duration::from_millis(500);

/// A server process of this test alone. It is killed when it goes out of scope.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the end of a process, which must come.
fn await_end(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// The first line with that text, which must come; after it nobody reads on.
fn await_line(output: ChildStdout, text: &'static str) -> String {
    let (found, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let _ = found.send(lines.find(|line| line.contains(text)));
    });
    told.recv_timeout(PATIENCE).expect("it says nothing").expect("it ended too soon")
}

/// A pipe's writing end that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn a_server_outlives_its_readers() {
    for log in [unread(), File::options().write(true).open("/dev/full").unwrap().into()] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut command = adit(&data);
        command.args(["--listen", "127.0.0.1:0", "--log", "debug", "up"]).stdout(Stdio::piped()).stderr(log);
        let mut server = Owned(command.spawn().unwrap());
        let line = await_line(server.0.stdout.take().unwrap(), "API ");
        let url = line.trim().trim_start_matches("API").trim().trim_end_matches("/api").to_owned();
        let key = adit(&data).args(["keys", "create", "t"]).output().unwrap().stdout;
        let client = Client::new(&url, String::from_utf8(key).unwrap().lines().last().unwrap());
        for _ in 0..3 {
            for path in ["/healthz", "/readyz", "/api/collections"] {
                assert_eq!(client.get(path).await.status(), 200, "{path}");
            }
        }
    }
}

/// A pipe that is full to its last byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filling = writer.try_clone().unwrap();
    let (written, told) = mpsc::channel();
    // The write that does not fit waits until somebody reads.
    std::thread::spawn(move || while written.send(()).is_ok() && filling.write_all(&[b'\n'; 512]).is_ok() {});
    while told.recv_timeout(QUIET).is_ok() {}
    (reader, writer)
}

#[tokio::test]
async fn a_server_does_not_wait_for_its_log_reader() {
    let (mut reader, log) = full_pipe();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = adit(&data);
    command.args(["--listen", "127.0.0.1:0", "--log", "trace", "up"]).stdout(Stdio::piped()).stderr(log);
    let mut server = Owned(command.spawn().unwrap());
    drop(command);
    let line = await_line(server.0.stdout.take().unwrap(), "API ");
    let url = line.trim().trim_start_matches("API").trim().trim_end_matches("/api").to_owned();
    let key = adit(&data).args(["keys", "create", "t", "--role", "operator"]).output().unwrap().stdout;
    let client = Client::new(&url, String::from_utf8(key).unwrap().lines().last().unwrap());
    eventually("more lines were logged than are kept", async || {
        let answers = join_all((0..32).map(|_| client.get("/api/collections"))).await;
        assert!(answers.iter().all(|answer| answer.status() == 200));
        let metrics = client.get("/metrics").await.text().await.unwrap();
        let lost = metrics.lines().find_map(|line| line.strip_prefix("adit_log_lines_lost_total "));
        (lost.unwrap() != "0").then_some(())
    })
    .await;
    assert_eq!(client.get("/readyz").await.status(), 200);
    // Somebody reads again: what was lost is told.
    let (found, told) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(&mut reader).lines().map_while(Result::ok);
        let _ = found.send(lines.into_iter().any(|line| line.contains("log lines were lost")));
        // The reader stays, and reads no more.
        std::thread::park();
    });
    assert!(told.recv_timeout(PATIENCE).unwrap());
    let id = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let began = Instant::now();
    while server.0.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it waits for its reader at its end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_verb_ends_quietly_when_nobody_reads_on() {
    let (dir, server) = small(&[]);
    let key = server.new_key("miner", &[]);
    let verb = |arguments: &[&str]| -> Command {
        let mut command = adit(&server.data);
        command.args(arguments).env("ADIT_API_KEY", &key).current_dir(dir.path());
        command
    };
    for arguments in [
        &["search", "c", "mining"][..],
        &["search", "c", "mining", "--format", "json"],
        &["search", "c", "mining", "--format", "ndjson"],
        &["search", "c", "mining", "--format", "csv"],
        &["docset", "list"],
        &["docset", "create", "c", "mining"],
        &["package", "1", "--formats", "txt"],
        &["keys", "list"],
        &["queues"],
        &["usage", "--csv"],
        &["watches", "list"],
        &["openapi"],
        &["import", "c-folder"],
    ] {
        let child = verb(arguments).stdout(unread()).stderr(Stdio::piped()).spawn().unwrap();
        let output = await_end(child);
        let said = String::from_utf8_lossy(&output.stderr);
        // A verb may have had nothing to print.
        assert!(output.status.code() == READER_GONE || output.status.success(), "{arguments:?}: {output:?}");
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{arguments:?}: {said}");
        // With its log in the same pipe, as `2>&1 | head` has it.
        let child = verb(&[&["--log", "debug"], arguments].concat()).stdout(unread()).stderr(unread()).spawn().unwrap();
        let output = await_end(child);
        assert!(output.status.code() == READER_GONE || output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_verb_goes_on_without_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = write_collection(dir.path(), "c", &[text("a", "On gold", "A treatise on mining gold.")]);
    let mut command = adit(&data);
    command.args(["--log", "trace", "import"]).arg(&folder).stdout(Stdio::piped()).stderr(unread());
    let output = await_end(command.spawn().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 added"), "{output:?}");
    let server = Server::start(&data, &[]);
    assert_eq!(server.json("/api/collections").await["collections"][0]["documents"], json!(1));
}

#[test]
fn what_cannot_be_printed_for_another_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = adit(&dir.path().join("data"));
    let mut child = command.arg("openapi").stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("cannot write to standard output") && !said.contains("panicked"), "{said}");
}
