//! The attackers: clients with the worst queries, idle sockets, and readers that hardly read.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::miner::build;
use super::queries::CostlyQuery;
use super::support::{Client, Server};
use super::{Outcome, SLUG};

/// Clients that search; half of them have keys.
pub(crate) const CLIENTS: usize = 16;
const IDLE_SOCKETS: u16 = 2000;
const SLOW_READERS: u16 = 200;
/// Sockets of one attacker's address.
const SOCKETS_OF_ADDRESS: u16 = 20;
/// Pause of an attacker whose socket was closed.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes that a slow reader takes at a time, once a second.
const SIP: usize = 1024;
/// Open files that the attackers need.
const OPEN_FILES: u64 = 4096;

/// Raises the number of files that this process may open.
pub(crate) fn raise_open_files() -> Outcome<()> {
    let (soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    if hard < OPEN_FILES {
        return Err(format!("{OPEN_FILES} open files are needed, and {hard} are allowed: see ulimit -Hn").into());
    }
    Ok(rlimit::setrlimit(rlimit::Resource::NOFILE, soft.max(OPEN_FILES), hard)?)
}

/// Counts of what the attackers have done.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    idle_open: AtomicU64,
    idle_closed: AtomicU64,
    readers_closed: AtomicU64,
}

/// A running attack.
pub(crate) struct Attack {
    counts: Arc<Counts>,
    tasks: TaskTracker,
}

impl Attack {
    /// Starts all attackers, and waits until the sockets are open.
    pub(crate) async fn start(
        server: &Server,
        keys: &[String],
        worst: &[CostlyQuery],
        stop: &CancellationToken,
    ) -> Outcome<Self> {
        let wish = json!({"formats": ["txt", "meta"], "layout": "flat"});
        let mut downloads = Vec::new();
        for key in keys {
            let package = build(&Client::new(&server.url, key), "*", &wish).await?;
            let url = package["download"].as_str().unwrap_or_default();
            downloads.push((url.trim_start_matches(&server.url).to_owned(), key));
        }
        let (counts, tasks) = (Arc::new(Counts::default()), TaskTracker::new());
        let address: SocketAddr = server.url.trim_start_matches("http://").parse()?;
        for number in 0..CLIENTS {
            let http = reqwest::Client::builder().local_address(Some(attacker(1, number as u16).into())).build()?;
            let url = format!("{}/api/collections/{SLUG}/search", server.url);
            let (key, worst, counts) = (keys.get(number).cloned(), worst.to_vec(), counts.clone());
            let attacking = async move { search_for_ever(&http, &url, key, &worst, &counts).await };
            tasks.spawn(stop.clone().run_until_cancelled_owned(attacking));
        }
        for (number, (path, key)) in (0..SLOW_READERS).zip(downloads.iter().cycle()) {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\n\r\n");
            let counts = counts.clone();
            let reading = async move { read_for_ever(address, attacker(2, number), &request, &counts).await };
            tasks.spawn(stop.clone().run_until_cancelled_owned(reading));
        }
        for number in 0..IDLE_SOCKETS {
            let counts = counts.clone();
            let idling = async move { idle_for_ever(address, number, &counts).await };
            tasks.spawn(stop.clone().run_until_cancelled_owned(idling));
        }
        tasks.close();
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Self { counts, tasks })
    }

    /// Tells what the attackers have done so far.
    pub(crate) fn counts(&self) -> String {
        self.counts.to_string()
    }

    /// Waits for the end of all attackers, after they were told to stop.
    pub(crate) async fn ended(&self) {
        self.tasks.wait().await;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "attackers: {} searches answered, {} refused (400, 429), {} failed (503 and broken); {} idle sockets open at the end, \
             {} were closed; {} slow readers were sent away",
            count(&self.answered),
            count(&self.refused),
            count(&self.failed),
            count(&self.idle_open),
            count(&self.idle_closed),
            count(&self.readers_closed)
        )
    }
}

/// Gives an attacker an address of the loopback range, which many sockets share.
fn attacker(kind: u8, number: u16) -> Ipv4Addr {
    let group = if kind == 1 { number } else { number / SOCKETS_OF_ADDRESS };
    Ipv4Addr::new(127, kind, (group / 250) as u8, 1 + (group % 250) as u8)
}

async fn search_for_ever(
    http: &reqwest::Client,
    url: &str,
    key: Option<String>,
    worst: &[CostlyQuery],
    counts: &Counts,
) {
    for query in worst.iter().cycle() {
        let request = http.request(Method::POST, url).json(&query.body);
        let request = match &key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        };
        let counter = match request.send().await {
            Ok(answer) if answer.status().is_success() => &counts.answered,
            Ok(answer) if answer.status().is_client_error() => &counts.refused,
            _ => {
                tokio::time::sleep(PAUSE).await;
                &counts.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(address: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(address).await
}

/// Keeps a socket open: silent, with a head that never ends, or idle after a request.
async fn idle_for_ever(address: SocketAddr, number: u16, counts: &Counts) {
    let begun: &[u8] = match number % 3 {
        0 => b"",
        1 => b"GET /healthz HTTP/1.1\r\nhost: loc",
        _ => b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    };
    loop {
        if let Ok(mut stream) = connect(address, attacker(3, number)).await {
            counts.idle_open.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(begun).await;
            let mut buffer = [0; SIP];
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
            counts.idle_open.fetch_sub(1, Ordering::Relaxed);
            counts.idle_closed.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Downloads as slowly as it can, again and again.
async fn read_for_ever(address: SocketAddr, from: Ipv4Addr, request: &str, counts: &Counts) {
    loop {
        if let Ok(mut stream) = connect(address, from).await {
            let _ = stream.write_all(request.as_bytes()).await;
            let mut buffer = [0; SIP];
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            counts.readers_closed.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
