//! What the journeys share: the program and its servers, a client, collection folders, and waiting for conditions.
//!
//! [`Server`] is an `adit up` with everything inside; [`Deployment`] puts the same journeys on other brokers, databases and object stores.

// The paths are for the benches, which take this file in from elsewhere.
#[path = "support/client.rs"]
mod client;
#[path = "support/deployment.rs"]
mod deployment;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/parts.rs"]
mod parts;
#[path = "support/program.rs"]
mod program;
#[path = "support/samples.rs"]
mod samples;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use client::{Client, expect};
pub(crate) use deployment::{Deployment, Private};
pub(crate) use machine::{API_USER, Api, Machine, PACKAGER_USER};
pub(crate) use parts::{BrokerKind, DatabaseKind, PrivateServer, StoreKind};
pub(crate) use program::{Process, adit, last_line, run, succeed, succeeded};
pub(crate) use samples::{Doc, import_noise, noise, salted, stored_parts, text, unzip, write_collection};

/// How long a condition may take to come true before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, future).await;
    came.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running `adit up`, which is a client of itself too. It is killed when it goes out of scope.
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    client: Client,
    process: Process,
}

impl Server {
    /// Starts `adit up` on `data` with further settings, and makes an operator's key.
    pub(crate) fn start(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = adit(data);
        command.args(["--listen", "127.0.0.1:0", "up"]).envs(environment.iter().copied());
        let (process, url) = Process::start(command, &data.join("log.txt"), |line| {
            Some(line.trim().strip_prefix("API ")?.trim().trim_end_matches("/api").to_owned())
        });
        let key = last_line(&succeed(data, &["keys", "create", "test", "--role", "operator"]));
        Self { data: data.to_owned(), client: Client::new(&url, &key), process }
    }

    /// Kills the process as a power cut would: SIGKILL.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    pub(crate) fn stop(self) -> ExitStatus {
        self.process.stop()
    }

    /// A new key of that role.
    pub(crate) fn new_key(&self, name: &str, arguments: &[&str]) -> String {
        last_line(&succeed(&self.data, &[&["keys", "create", name], arguments].concat()))
    }
}

impl std::ops::Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Writes a small collection folder `c` below `parent`.
pub(crate) fn small_collection(parent: &Path) -> PathBuf {
    let words = ["coal", "iron", "copper", "silver", "gold"];
    let refs: Vec<String> = (0..words.len()).map(|i| format!("doc.{i}")).collect();
    let documents: Vec<Doc<'_>> = refs
        .iter()
        .zip(words)
        .map(|(r, word)| text(r, &format!("On {word}"), &format!("A treatise on mining {word}. ").repeat(50)))
        .collect();
    write_collection(parent, "c", &documents)
}

/// A data folder with a small collection `c` imported, and a server on it.
pub(crate) fn small(environment: &[(&str, &str)]) -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let folder = small_collection(dir.path());
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, environment);
    (dir, server)
}
