//! Clients that open connections and do nothing with them: they shut out nobody and cost little.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Client, Process, adit, expect, last_line, small_collection, succeed, within};

/// An `adit up` that may open so many files, on a small collection.
struct Limited {
    client: Client,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Limited {
    fn start(files: u32, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        succeed(&data, &["import", small_collection(dir.path()).to_str().unwrap()]);
        let program = adit(&data);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(program.get_program());
        command.args(program.get_args()).args(["--listen", "127.0.0.1:0", "up"]);
        std::env::vars().filter(|(name, _)| name.starts_with("ADIT_")).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.envs(settings.iter().copied());
        let (process, url) = Process::start(command, &dir.path().join("log.txt"), |line| {
            Some(line.trim().strip_prefix("API ")?.trim().trim_end_matches("/api").to_owned())
        });
        let key = last_line(&succeed(&data, &["keys", "create", "test", "--role", "operator"]));
        Self { client: Client::new(&url, &key), process, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.client.url.trim_start_matches("http://")).await.unwrap()
    }

    /// Connections over each of which `text` was sent.
    async fn connections(&self, count: usize, text: &str) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        for _ in 0..count {
            let mut stream = self.connect().await;
            // One that was closed in favour of another takes nothing.
            let _ = stream.write_all(text.as_bytes()).await;
            streams.push(stream);
        }
        streams
    }

    /// Bytes of memory that the process has, or has had at most (`VmRSS`, `VmHWM`); `None` where
    /// the system does not tell.
    fn memory(&self, name: &str) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        Some(line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024)
    }

    /// Waits until everything that was sent before has been taken.
    async fn catch_up(&self) {
        for _ in 0..20 {
            within("an answer", self.client.get("/healthz")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_nothing_shut_out_neither_miners_nor_the_broker() {
    // More than the process may have files.
    const IDLE: usize = 800;
    let server = Limited::start(512, &[("ADIT_HEADER_TIMEOUT", "1h"), ("ADIT_IDLE_TIMEOUT", "1h")]);
    let silent = server.connections(IDLE / 2, "").await;
    let begun = server.connections(IDLE / 2, "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    let client = &server.client;
    let miner = async {
        let docset = client.docset("c", "*").await;
        let (package, archive) = client.archive(docset, &json!({})).await;
        assert_eq!(package["size"], archive.len());
        // The broker, too, finds a file for whoever comes.
        let ready = expect(client.request(Method::GET, "/readyz").send().await.unwrap(), 200).await;
        assert_eq!(ready["message broker"], "ok");
    };
    within("a package, while others hold connections", miner).await;
    drop((silent, begun));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begun_connection_costs_little() {
    const BEGUN: usize = 1000;
    let server = Limited::start(4096, &[("ADIT_HEADER_TIMEOUT", "1h"), ("ADIT_CONNECTIONS_PER_ADDRESS", "2000")]);
    // What the process needs for its first connections is not counted.
    drop(server.connections(10, "GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await);
    server.catch_up().await;
    let Some(before) = server.memory("VmRSS") else { return };
    let silent = server.connections(BEGUN / 2, "").await;
    server.catch_up().await;
    let with_silent = server.memory("VmRSS").unwrap();
    println!("a silent connection: {} bytes", with_silent.saturating_sub(before) / (BEGUN / 2));
    let before = with_silent;
    let begun = server.connections(BEGUN, "GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    server.catch_up().await;
    let each = server.memory("VmRSS").unwrap().saturating_sub(before) / BEGUN;
    println!("a begun connection: {each} bytes");
    assert!(each < 40 * 1024, "{each} bytes for each connection");
    drop((silent, begun));
}

/// Sends a large body but for its end, as far as the server takes it.
async fn send_unfinished(mut stream: TcpStream, head: String) -> TcpStream {
    let sent = async {
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..127 {
            stream.write_all(&[b' '; 64 * 1024]).await?;
        }
        std::io::Result::Ok(())
    };
    // A server that has refused it takes no more.
    let _ = tokio::time::timeout(Duration::from_secs(5), sent).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_take_a_bounded_memory() {
    let server = Limited::start(4096, &[("ADIT_REQUEST_TIMEOUT", "10m"), ("ADIT_STALL_TIMEOUT", "10m")]);
    server.catch_up().await;
    let Some(before) = server.memory("VmHWM") else { return };
    let head = format!(
        "POST /api/docsets HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
         content-length: 8388608\r\n\r\n{{",
        server.client.key
    );
    let mut sending = Vec::new();
    for _ in 0..60 {
        sending.push(tokio::spawn(send_unfinished(server.connect().await, head.clone())));
    }
    let mut refused = 0;
    let mut streams = Vec::new();
    for sent in sending {
        let mut stream = sent.await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await;
        refused += usize::from(matches!(read, Ok(Ok(_))) && answer.ends_with(b"503"));
        streams.push(stream);
    }
    let taken = server.memory("VmHWM").unwrap() - before;
    println!("60 unfinished bodies of 8 MiB: {taken} bytes; {refused} are known to be refused");
    assert!(taken < 150 << 20, "{taken} bytes");
    // Small requests go on.
    within("a docset", server.client.docset("c", "*")).await;
}
