//! Real sockets against a listener with short time-outs. What must not happen in time is kept hours
//! away.

use std::net::SocketAddr;
use std::time::Duration;

use adit_shared::domain::{Role, secret_hash};
use adit_shared::store::Store as _;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::routing::{any, get, post};
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::client::PeerAddress;
use crate::extract::Json;
use crate::layers;
use crate::testing::World;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A time-out that a test waits for.
const SOON: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_hours(1);

/// Settings under which nobody is dropped.
fn patient() -> HttpConfig {
    HttpConfig { header_timeout: HOUR, idle_timeout: HOUR, stall_timeout: HOUR, ..HttpConfig::default() }
}

struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

async fn start(router: Router, config: HttpConfig) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let ended = tokio::spawn(serve_connections(listener, router, config, usize::MAX, stop.clone()));
    Listening { address, stop, ended }
}

fn hello() -> Router {
    let router = Router::new().route("/", get(|| async { "hello" }));
    let router = router.route("/length", post(async |Json(body): Json<serde_json::Value>| body.to_string()));
    router
        .route("/peer", get(async |request: Request| request.extensions().get::<PeerAddress>().unwrap().0.to_string()))
}

impl Listening {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection over which `text` was sent.
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// All that comes until the connection ends, in whatever way it does.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = soon("the connection's end", stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// The head of an answer and its body of that many bytes.
async fn read_answer(stream: &mut TcpStream, body: usize) -> String {
    let mut all = Vec::new();
    soon("an answer", async {
        while !all.ends_with(b"\r\n\r\n") {
            all.push(stream.read_u8().await.unwrap());
        }
        for _ in 0..body {
            all.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_silent_connection_is_dropped() {
    let server = start(hello(), HttpConfig { header_timeout: SOON, ..patient() }).await;
    assert_eq!(rest(&mut server.connect().await).await, "");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_dropped_however_regularly_it_comes() {
    let server = start(hello(), HttpConfig { header_timeout: SOON, ..patient() }).await;
    let (mut read, mut write) = server.say("GET / HTTP/1.1\r\nhost: a\r\nx-long: ").await.into_split();
    tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SOON / 10).await;
        }
    });
    let mut all = Vec::new();
    let _ = soon("the connection's end", read.read_to_end(&mut all)).await;
    assert!(!String::from_utf8_lossy(&all).contains("200 OK"));
}

#[tokio::test]
async fn the_second_head_of_a_connection_has_no_more_time_than_the_first() {
    let server = start(hello(), HttpConfig { header_timeout: SOON, ..patient() }).await;
    let mut stream = server.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_answer(&mut stream, 5).await.ends_with("hello"));
    stream.write_all(b"GET / HT").await.unwrap();
    assert!(!rest(&mut stream).await.contains("200 OK"));
}

#[tokio::test]
async fn a_connection_without_a_further_request_is_dropped() {
    let server = start(hello(), HttpConfig { idle_timeout: SOON, ..patient() }).await;
    let mut stream = server.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_answer(&mut stream, 5).await.ends_with("hello"));
    assert_eq!(rest(&mut stream).await, "");
}

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

const CHUNK: usize = 16 * 1024;

/// So many chunks, and word when they are no more wanted.
fn download(chunks: usize, dropped: mpsc::UnboundedSender<()>) -> Router {
    let answer = move || {
        let guard = Dropped(dropped.clone());
        let chunks = stream::iter(0..chunks).map(move |_| {
            let _ = &guard;
            Ok::<_, std::convert::Infallible>(Bytes::from_static(&[7; CHUNK]))
        });
        std::future::ready(Body::from_stream(chunks))
    };
    Router::new().route("/", get(answer))
}

/// A client whose system takes little for it that it does not read.
async fn small_reader(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let server = start(download(1 << 20, sender), HttpConfig { stall_timeout: SOON, ..patient() }).await;
    let _reader = small_reader(server.address).await;
    soon("the answer is given up", dropped.recv()).await;
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_it_over_many_time_outs() {
    const CHUNKS: usize = 96;
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let stall_timeout = Duration::from_secs(2);
    let server = start(download(CHUNKS, sender), HttpConfig { stall_timeout, ..patient() }).await;
    let mut reader = small_reader(server.address).await;
    let (mut seen, mut part, began) = (0, vec![0; 8 * 1024], Instant::now());
    loop {
        let read = soon("a part", reader.read(&mut part)).await.unwrap();
        if read == 0 {
            break;
        }
        seen += read;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(seen > CHUNKS * CHUNK, "{seen}");
    assert!(began.elapsed() > 2 * stall_timeout, "that was not slow");
    soon("the answer is done", dropped.recv()).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408_and_the_connection_closed() {
    let server = start(hello(), HttpConfig { stall_timeout: SOON, ..patient() }).await;
    let head =
        "POST /length HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":";
    let mut stream = server.say(head).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("urn:adit:problem:body-stalled"), "{answer}");
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_lines() {
    let server = start(hello(), patient()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
    for head in [long, many] {
        let answer = rest(&mut server.say(&head).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD - 100));
    assert!(rest(&mut server.say(&fits).await).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let server = start(hello(), patient()).await;
    for head in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        // What follows must never be answered as a request of its own.
        let answer = rest(&mut server.say(&format!("{head}GET / HTTP/1.0\r\nhost: a\r\n\r\n")).await).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 505");
        assert!(refused && !answer.contains("hello"), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn this_is_no_proxy_and_switches_to_no_other_protocol() {
    let server = start(hello(), patient()).await;
    let answer = rest(&mut server.say("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";
    let answer = read_answer(&mut server.say(upgrade).await, 5).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn requests_know_their_client_behind_a_trusted_proxy_and_nobody_else_can_name_one() {
    let request = "GET /peer HTTP/1.0\r\nx-forwarded-for: 192.0.2.7\r\n\r\n";
    let trusting = HttpConfig { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..patient() };
    for (config, client) in [(trusting, "192.0.2.7"), (patient(), "127.0.0.1")] {
        let server = start(hello(), config).await;
        let answer = rest(&mut server.say(request).await).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{client}")), "{answer}");
    }
}

#[tokio::test]
async fn whoever_fills_the_places_with_work_keeps_out_neither_operators_nor_checks_of_health() {
    let world = World::new().await;
    world.store.create_key("operator's", Role::Operator, None, &secret_hash("operator's"), 0).await.unwrap();
    world.store.create_key("miner's", Role::Miner, None, &secret_hash("miner's"), 0).await.unwrap();
    let router = Router::new()
        .route("/api/collections", any(std::future::pending::<()>))
        .route("/api/me", get(|| async { "quick" }))
        .route("/healthz", get(|| async { "ok" }));
    let router = layers::wrap(router, &world.app().await);
    let config = HttpConfig { connections: 32, connections_per_address: Some(4), ..patient() };
    let server = start(router, config).await;
    let ask = async |path: &str, key: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n");
        rest(&mut server.say(&request).await).await
    };
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(server.say("GET /api/collections HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
    }
    // Until all four are being answered, a new one takes the place of one that is not.
    let refused = soon("no public place is left", async {
        loop {
            let answer = ask("/api/collections", "").await;
            if !answer.is_empty() {
                break answer;
            }
        }
    });
    let refused = refused.await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too-many-connections"), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    assert!(ask("/api/me", "miner's").await.starts_with("HTTP/1.1 503"));
    assert!(ask("/api/me", "operator's").await.ends_with("quick"));
    assert!(ask("/healthz", "").await.ends_with("ok"));
    // Silent connections do not hold the reserve either.
    let _silent = [server.connect().await, server.connect().await, server.connect().await];
    assert!(ask("/api/me", "operator's").await.ends_with("quick"));
    // When operators fill it, everybody is told so.
    let last = soon("no place is left", async {
        loop {
            busy.push(
                server.say("GET /api/collections HTTP/1.1\r\nhost: localhost\r\nx-api-key: operator's\r\n\r\n").await,
            );
            let mut answer = [0; 12];
            let read = tokio::time::timeout(SOON, busy.last_mut().unwrap().read_exact(&mut answer)).await;
            if matches!(read, Ok(Ok(_))) {
                break answer;
            }
        }
    });
    assert_eq!(last.await, *b"HTTP/1.1 503");
}

#[tokio::test]
async fn idle_connections_give_way_to_new_ones() {
    let server = start(hello(), HttpConfig { connections: 16, ..patient() }).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(server.connect().await);
    }
    let mut stream = server.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_answer(&mut stream, 5).await.ends_with("hello"));
    assert_eq!(rest(&mut idle[0]).await, "", "the oldest one is closed");
}

#[tokio::test]
async fn a_stop_answers_what_runs_and_closes_what_is_idle() {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = move || {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            "done"
        }
    };
    let (begun, mut begins) = mpsc::unbounded_channel();
    let router = hello().route("/slow", get(async move || (begun.send(()).unwrap(), slow().await).1));
    let server = start(router, patient()).await;
    let (mut silent, mut idle) = (server.connect().await, server.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    read_answer(&mut idle, 5).await;
    let mut running = server.say("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    soon("the request runs", begins.recv()).await;
    server.stop.cancel();
    assert_eq!((rest(&mut silent).await, rest(&mut idle).await), (String::new(), String::new()));
    assert!(!server.ended.is_finished());
    release.send_replace(true);
    assert!(rest(&mut running).await.ends_with("done"));
    soon("the listener's end", server.ended).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
