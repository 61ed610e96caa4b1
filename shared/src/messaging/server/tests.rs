//! The broker over real sockets, frame by frame: sessions, refusals, restarts, limits. Independent clients meet it in
//! `tests/stomp_interop.rs`.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::clock::ManualClock;
use crate::messaging::broker::{Broker, BrokerError, Outgoing, socket_url};
use crate::messaging::frame::{Command, Decoder, Frame, Item};
use crate::messaging::queues::Queue;

/// Long enough for a busy machine; a test that works never waits so long.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client that does exactly what it is told.
struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Client {
    async fn open(server: &BrokerServer) -> Self {
        let stream = TcpStream::connect(server.addr().unwrap()).await.unwrap();
        Self { stream, buffer: BytesMut::new(), decoder: Decoder::new(Limits::default()) }
    }

    async fn connect(server: &BrokerServer) -> Self {
        let mut client = Self::open(server).await;
        let connected = client.ask(Frame::new(Command::Connect).header("accept-version", "1.2")).await;
        assert_eq!(connected.command, Command::Connected, "{connected:?}");
        client
    }

    async fn tell(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode(&mut self.buffer).unwrap() {
                Some(Item::Frame(frame)) => return Some(frame),
                Some(Item::HeartBeat) => {}
                None => {
                    let read = self.stream.read_buf(&mut self.buffer);
                    if timeout(DEADLINE, read).await.expect("the broker says nothing").unwrap() == 0 {
                        return None;
                    }
                }
            }
        }
    }

    async fn ask(&mut self, frame: Frame) -> Frame {
        self.tell(frame).await;
        self.hear().await.unwrap()
    }

    /// Sends with a receipt and waits for that.
    async fn sure(&mut self, frame: Frame) {
        let receipt = self.ask(frame.header("receipt", "r")).await;
        assert_eq!((receipt.command, receipt.headers.get("receipt-id")), (Command::Receipt, Some("r")), "{receipt:?}");
    }

    /// The ERROR that a frame brings, after which the connection is closed.
    async fn fails(mut self, frame: Frame) -> Frame {
        let error = self.ask(frame).await;
        assert_eq!(error.command, Command::Error, "{error:?}");
        assert_eq!(self.hear().await, None);
        error
    }

    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(text(&self.hear().await.unwrap()));
        }
        bodies
    }
}

fn text(frame: &Frame) -> String {
    String::from_utf8(frame.body.to_vec()).unwrap()
}

fn send(queue: &str, body: &str) -> Frame {
    let frame = Frame::new(Command::Send).header("destination", format!("/queue/{queue}"));
    frame.header("persistent", true).body(body.to_owned())
}

fn subscribe(queue: &str, ack: &str) -> Frame {
    let frame = Frame::new(Command::Subscribe).header("id", "s").header("destination", format!("/queue/{queue}"));
    frame.header("ack", ack)
}

fn ack(message: &Frame) -> Frame {
    Frame::new(Command::Ack).header("id", message.headers.get("ack").unwrap())
}

async fn start() -> BrokerServer {
    BrokerServer::start(ServerConfig::default()).await.unwrap()
}

fn message_of(error: &Frame) -> &str {
    error.headers.get("message").unwrap()
}

#[tokio::test]
async fn a_message_carries_what_the_sender_and_the_broker_say() {
    let server = start().await;
    let mut client = Client::open(&server).await;
    let connected = client.ask(Frame::new(Command::Stomp).header("accept-version", "1.0,1.1,1.2")).await;
    assert_eq!(connected.headers.get("version"), Some("1.2"));
    assert_eq!(connected.headers.get("server"), Some(concat!("Adit/", env!("CARGO_PKG_VERSION"))));
    let sent = send("a/b", "hello").header("sequence", "7").header("trace", "a:b\\c\nd").header("ack", "forged");
    client.sure(sent).await;
    let message = client.ask(subscribe("a/b", "client")).await;
    let names: Vec<_> = message.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["subscription", "message-id", "destination", "ack", "persistent", "sequence", "trace"]);
    assert_eq!(message.headers.get("destination"), Some("/queue/a/b"));
    assert_eq!(message.headers.get("trace"), Some("a:b\\c\nd"));
    assert_eq!(text(&message), "hello");
    client.sure(ack(&message)).await;
    client.sure(Frame::new(Command::Disconnect)).await;
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn refusals_say_why_and_end_the_connection() {
    let server = start().await;
    let plain = Frame::new;
    let long = format!("/queue/{}", "x".repeat(256));
    let to = |destination: &str| Frame::new(Command::Send).header("destination", destination);
    let nack = |id: &str| Frame::new(Command::Nack).header("id", id);
    for (frame, why) in [
        (plain(Command::Send), "SEND frame: header \"destination\" is missing"),
        (plain(Command::Ack), "ACK frame: header \"id\" is missing"),
        (plain(Command::Begin), "BEGIN frame: header \"transaction\" is missing"),
        (plain(Command::Subscribe).header("destination", "/queue/a"), "SUBSCRIBE frame: header \"id\" is missing"),
        (to("/topic/news"), "\"/topic/news\" is no destination here"),
        (to("/queue/"), "\"/queue/\" is no destination here"),
        (to(&long), "with a name of 1 to 255 bytes"),
        (send("a", "").header("expires", "tomorrow"), "header \"expires\" is \"tomorrow\""),
        (send("a", "").header("transaction", "t"), "transaction \"t\" is not open"),
        (plain(Command::Commit).header("transaction", "t"), "transaction \"t\" is not open"),
        (plain(Command::Unsubscribe).header("id", "s"), "no subscription \"s\""),
        (subscribe("a", "sometimes"), "header \"ack\" is \"sometimes\""),
        (subscribe("a", "client").header("prefetch-count", "-1"), "header \"prefetch-count\" is \"-1\""),
        (subscribe("a", "client").header("selector", "x > 1"), "selectors are not supported"),
        (nack("1-1"), "no delivery \"1-1\""),
        (nack("nonsense"), "no delivery \"nonsense\""),
        (nack("1-1").header("requeue", "maybe"), "header \"requeue\" is \"maybe\""),
        (plain(Command::Connect), "CONNECT frame: a connection begins with CONNECT"),
        (plain(Command::Message), "MESSAGE is a frame for servers"),
    ] {
        let error = Client::connect(&server).await.fails(frame.header("receipt", "r-1")).await;
        assert!(message_of(&error).contains(why), "{why}: {error:?}");
        assert_eq!(error.headers.get("receipt-id"), Some("r-1"));
        assert!(text(&error).contains(why));
    }
}

#[tokio::test]
async fn the_handshake_refuses_strangers() {
    let credentials = Some(("adit".to_owned(), "secret".to_owned()));
    let config = ServerConfig { credentials, max_connections: 1, ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let connect = |version: &str| Frame::new(Command::Connect).header("accept-version", version);
    let shown = |passcode: &str| connect("1.2").header("login", "adit").header("passcode", passcode);
    for (frame, why) in [
        (connect("1.0"), "this broker speaks STOMP 1.2 and 1.1"),
        (connect("1.2"), "login or passcode is wrong"),
        (shown("guess"), "login or passcode is wrong"),
        (shown("secret").header("heart-beat", "often"), "header \"heart-beat\" is \"often\""),
        (send("a", "x"), "SEND frame: a connection begins with CONNECT"),
    ] {
        let error = Client::open(&server).await.fails(frame).await;
        assert!(message_of(&error).contains(why), "{error:?}");
        assert_eq!(error.headers.get("version"), why.contains("speaks").then_some("1.1,1.2"));
    }
    let mut client = Client::open(&server).await;
    assert_eq!(client.ask(shown("secret")).await.command, Command::Connected);
    let error = Client::open(&server).await.fails(shown("secret")).await;
    assert!(message_of(&error).contains("as many connections as it may"), "{error:?}");
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let limit = Limits::default().body_bytes;
    let head = format!("SEND\ndestination:/queue/a\ncontent-length:{}\n\n", limit + 1);
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let error = client.hear().await.unwrap();
    assert!(message_of(&error).contains("the body is longer"), "{error:?}");
    // A client that goes on writing nevertheless still gets to read it.
    let mut client = Client::connect(&server).await;
    client.stream.write_all(&vec![b'A'; 4 << 20]).await.unwrap();
    assert_eq!(client.hear().await.unwrap().command, Command::Error);
}

#[tokio::test]
async fn unacknowledged_messages_go_to_another_when_a_connection_drops() {
    let server = start().await;
    let (mut first, mut second) = (Client::connect(&server).await, Client::connect(&server).await);
    first.sure(subscribe("work", "client-individual").header("prefetch-count", "2")).await;
    for body in ["1", "2", "3"] {
        second.sure(send("work", body)).await;
    }
    assert_eq!(first.bodies(2).await, ["1", "2"]);
    second.tell(subscribe("work", "client-individual").header("activemq.prefetchSize", "9")).await;
    assert_eq!(second.bodies(1).await, ["3"]);
    drop(first);
    for body in ["1", "2"] {
        let again = second.hear().await.unwrap();
        assert_eq!(text(&again), body);
        assert_eq!((again.headers.get("redelivered"), again.headers.get("delivery-count")), (Some("true"), Some("1")));
    }
}

#[tokio::test]
async fn a_transaction_happens_whole_or_not_at_all() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let within = |frame: Frame| frame.header("transaction", "t");
    client.sure(send("in", "job")).await;
    let job = client.ask(subscribe("in", "client-individual")).await;
    client.sure(within(Frame::new(Command::Begin))).await;
    client.sure(within(send("out", "undone"))).await;
    client.sure(within(ack(&job))).await;
    client.sure(within(Frame::new(Command::Abort))).await;
    let counts = || server.queues().into_iter().map(|q| (q.name, q.ready, q.unacknowledged)).collect::<Vec<_>>();
    assert_eq!(counts(), [("in".to_owned(), 0, 1)]);
    client.sure(within(Frame::new(Command::Begin))).await;
    client.sure(within(send("out", "done"))).await;
    client.sure(within(ack(&job))).await;
    assert_eq!(counts(), [("in".to_owned(), 0, 1)]);
    client.sure(within(Frame::new(Command::Commit))).await;
    assert_eq!(counts(), [("in".to_owned(), 0, 0), ("out".to_owned(), 1, 0)]);
}

#[tokio::test]
async fn an_older_client_acknowledges_by_message_id() {
    let server = start().await;
    let mut client = Client::open(&server).await;
    let connected = client.ask(Frame::new(Command::Connect).header("accept-version", "1.0,1.1")).await;
    assert_eq!(connected.headers.get("version"), Some("1.1"));
    client.sure(send("q", "1")).await;
    let message = client.ask(subscribe("q", "client")).await;
    let settle = Frame::new(Command::Ack).header("subscription", "s");
    client.sure(settle.header("message-id", message.headers.get("message-id").unwrap())).await;
    assert_eq!(server.queues()[0].unacknowledged, 0);
}

#[tokio::test]
async fn an_operator_sees_the_queues_without_using_them() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    client.sure(send("package/5", "12345")).await;
    let look = Frame::new(Command::Subscribe).header("id", "look").header("destination", "/broker/queues");
    let message = client.ask(look.clone()).await;
    assert_eq!(message.headers.get("subscription"), Some("look"));
    insta::assert_snapshot!(
        text(&message),
        @r#"[{"name":"package/5","ready":1,"unacknowledged":0,"consumers":0,"bytes":19}]"#
    );
    let seen: Vec<QueueInfo> = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(seen, server.queues());
    client.sure(Frame::new(Command::Unsubscribe).header("id", "look")).await;
    assert_eq!(client.ask(look).await.command, Command::Message);
}

#[tokio::test]
async fn messages_and_idle_queues_expire_by_the_clock() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let config = ServerConfig { queue_expiry: Duration::from_secs(60), ..ServerConfig::default() };
    let server = BrokerServer::start_with_clock(config, clock.clone()).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.sure(send("q", "absolute").header("expires", 1_010_000)).await;
    client.sure(send("q", "relative").header("expiration", 20_000)).await;
    client.sure(send("q", "never").header("expires", 0)).await;
    client.sure(send("package/5", "status")).await;
    let ready = || server.queues().into_iter().map(|q| (q.name, q.ready)).collect::<Vec<_>>();
    clock.advance(10_000);
    assert_eq!(ready(), [("package/5".to_owned(), 1), ("q".to_owned(), 2)]);
    clock.advance(10_000);
    assert_eq!(ready(), [("package/5".to_owned(), 1), ("q".to_owned(), 1)]);
    clock.advance(39_999);
    assert_eq!(ready().len(), 2);
    clock.advance(1);
    assert_eq!(ready(), [("q".to_owned(), 1)]);
}

#[tokio::test]
async fn persistent_messages_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = |path| ServerConfig { journal: Some(path), ..ServerConfig::default() };
    let server = BrokerServer::start(config(folder.path().to_owned())).await.unwrap();
    let mut client = Client::connect(&server).await;
    for body in ["1", "2", "3", "4"] {
        client.sure(send("q", body)).await;
    }
    let transient = Frame::new(Command::Send).header("destination", "/queue/q").body("transient");
    client.sure(transient).await;
    let first = client.ask(subscribe("q", "client-individual")).await;
    let others = client.bodies(4).await;
    assert_eq!(others, ["2", "3", "4", "transient"]);
    client.sure(ack(&first)).await;
    // What a killed process leaves behind is its file as it is at that moment.
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("broker.journal"), killed.path().join("broker.journal")).unwrap();
    server.shutdown().await;
    assert_eq!(client.hear().await, None);
    for left in [killed.path(), folder.path()] {
        let server = BrokerServer::start(config(left.to_owned())).await.unwrap();
        let mut client = Client::connect(&server).await;
        let second = client.ask(subscribe("q", "client-individual")).await;
        assert_eq!((text(&second), second.headers.get("redelivered")), ("2".to_owned(), Some("true")));
        assert_eq!(client.bodies(2).await, ["3", "4"]);
        assert_eq!(server.queues()[0].unacknowledged, 3);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_broken_journal_refuses_persistent_messages_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig { journal: Some(folder.path().to_owned()), ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.sure(send("q", "1")).await;
    std::fs::remove_dir_all(folder.path()).unwrap();
    server.hub.journal.as_ref().unwrap().rewrite(vec![]);
    let error = client.fails(send("q", "2").header("receipt", "r")).await;
    assert!(message_of(&error).contains("cannot keep persistent messages"), "{error:?}");
    let mut client = Client::connect(&server).await;
    client.sure(Frame::new(Command::Send).header("destination", "/queue/q").body("3")).await;
    let error = client.fails(send("q", "4")).await;
    assert!(message_of(&error).contains("failed"), "{error:?}");
}

#[tokio::test]
async fn a_journal_that_failed_is_written_anew_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let config = |path| ServerConfig { journal: Some(path), ..ServerConfig::default() };
    let server = BrokerServer::start(config(journal.clone())).await.unwrap();
    let mut client = Client::connect(&server).await;
    for body in ["1", "2", "3"] {
        client.sure(send("q", body)).await;
    }
    let first = client.ask(subscribe("q", "client-individual")).await;
    assert_eq!(client.bodies(2).await, ["2", "3"]);

    // What fails first is a compaction.
    std::fs::remove_dir_all(&journal).unwrap();
    let opened = server.hub.journal.as_ref().unwrap();
    opened.rewrite(vec![]);
    let mut progress = opened.progress();
    timeout(DEADLINE, progress.wait_for(|progress| progress.failed.is_some())).await.unwrap().unwrap();
    let mut refused = Client::connect(&server).await;
    refused.tell(send("q", "refused")).await;
    assert!(message_of(&refused.hear().await.unwrap()).contains("cannot keep persistent messages"));
    // What is done meanwhile is done in memory.
    client.tell(ack(&first)).await;
    while server.queues()[0].unacknowledged > 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    std::fs::create_dir(&journal).unwrap();
    timeout(DEADLINE, progress.wait_for(|progress| progress.failed.is_none())).await.unwrap().unwrap();
    Client::connect(&server).await.sure(send("q", "4")).await;
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(journal.join("broker.journal"), killed.path().join("broker.journal")).unwrap();
    let after = BrokerServer::start(config(killed.path().to_owned())).await.unwrap();
    let mut client = Client::connect(&after).await;
    client.tell(subscribe("q", "client-individual")).await;
    assert_eq!(client.bodies(3).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn heart_beats_go_both_ways_and_silence_ends_the_connection() {
    let config = ServerConfig { heart_beat: Duration::from_millis(20), ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let mut client = Client::open(&server).await;
    let connect = Frame::new(Command::Connect).header("accept-version", "1.2");
    let connected = client.ask(connect.clone().header("heart-beat", "0,30")).await;
    assert_eq!(connected.headers.get("heart-beat"), Some("20,0"));
    let mut beats = 0;
    while beats < 3 {
        assert_ne!(timeout(DEADLINE, client.stream.read_buf(&mut client.buffer)).await.unwrap().unwrap(), 0);
        assert!(client.buffer.iter().all(|byte| *byte == b'\n'));
        beats += std::mem::take(&mut client.buffer).len();
    }
    let mut silent = Client::open(&server).await;
    assert_eq!(silent.ask(connect.header("heart-beat", "10,0")).await.command, Command::Connected);
    let error = silent.hear().await.unwrap();
    assert_eq!(message_of(&error), "nothing was heard for 60 ms, although heart-beats were agreed");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_neither_the_broker_nor_others() {
    let server = start().await;
    let mut sleeper = Client::connect(&server).await;
    sleeper.sure(subscribe("q", "client-individual")).await;
    let mut client = Client::connect(&server).await;
    // Far more than socket buffers and the window take together.
    let body = "x".repeat(1 << 20);
    for _ in 0..40 {
        client.sure(send("q", &body)).await;
    }
    let held = server.queues()[0].unacknowledged;
    assert!(held < 40, "{held}");
    client.tell(subscribe("q", "client-individual").header("prefetch-count", "1")).await;
    assert_eq!(client.hear().await.unwrap().body.len(), body.len());
    assert_eq!(sleeper.bodies(39).await.len(), 39);
}

#[tokio::test]
async fn full_queues_refuse_more() {
    let config = ServerConfig { max_bytes: 1000, ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let mut client = Client::connect(&server).await;
    client.sure(send("q", &"x".repeat(800))).await;
    let error = client.fails(send("q", &"x".repeat(100))).await;
    assert!(message_of(&error).contains("may hold 1000: consume messages"), "{error:?}");
    assert_eq!(server.queues()[0].ready, 1);
}

fn inside(server: &BrokerServer) -> Broker {
    Broker::new(server.inside().into())
}

#[tokio::test]
async fn a_flood_of_silent_connections_shuts_nobody_out() {
    let credentials = Some(("adit".to_owned(), "secret".to_owned()));
    let config = ServerConfig { credentials, max_strangers: 8, max_connections: 2, ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let login = Frame::new(Command::Connect).header("accept-version", "1.2").header("login", "adit");
    let login = login.header("passcode", "secret");
    let mut known = Client::open(&server).await;
    assert_eq!(known.ask(login.clone()).await.command, Command::Connected);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.addr().unwrap()).await.unwrap());
    }
    // Who has logged in stays; who comes is let in; and inside nobody notices.
    known.sure(send("q", "1")).await;
    let mut newcomer = Client::open(&server).await;
    assert_eq!(newcomer.ask(login.clone()).await.command, Command::Connected);
    inside(&server).publish(&Queue::Deletes, Outgoing::new("Delete: 1")).await.unwrap();
    // Those that are left out are left out at once, or two seconds later.
    for stream in &mut silent {
        assert_eq!(timeout(DEADLINE, stream.read(&mut [0; 64])).await.unwrap().unwrap_or(0), 0);
    }
    // Of those who log in there are as many as may be, and the inside does not count.
    let error = Client::open(&server).await.fails(login).await;
    assert!(message_of(&error).contains("as many connections as it may"), "{error:?}");
    inside(&server).publish(&Queue::Deletes, Outgoing::new("Delete: 2")).await.unwrap();
}

#[tokio::test]
async fn before_the_login_a_client_may_say_little() {
    let server = start().await;
    for (head, why) in [
        (format!("CONNECT\nlogin:{}", "x".repeat(9000)), "longer than 7168 bytes"),
        ("CONNECT\ncontent-length:4194304\n\n".to_owned(), "the body is longer than 1024 bytes"),
        (format!("CONNECT\n\n{}", "x".repeat(2000)), "the body is longer than 1024 bytes"),
        (format!("CONNECT\n{}", "a:b\n".repeat(33)), "more than 32 headers"),
    ] {
        let mut client = Client::open(&server).await;
        client.stream.write_all(head.as_bytes()).await.unwrap();
        let error = client.hear().await.unwrap();
        assert!(message_of(&error).contains(why), "{error:?}");
    }
    // After it, as much as ever.
    let mut client = Client::connect(&server).await;
    client.sure(send("q", &"x".repeat(1 << 20)).header("long", "y".repeat(60_000))).await;
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_wherever_it_lies() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("deep".repeat(40));
    std::fs::create_dir(&deep).unwrap();
    for folder in [folder.path(), &deep] {
        let path = folder.join("broker.sock");
        // What a process that was killed leaves behind.
        drop(std::os::unix::net::UnixListener::bind(folder.join("broker.sock")));
        let credentials = Some(("adit".to_owned(), "secret".to_owned()));
        let config = ServerConfig { listen: None, socket: Some(path.clone()), credentials, ..ServerConfig::default() };
        let server = BrokerServer::start(config.clone()).await.unwrap();
        assert_eq!(server.addr(), None);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let broker = Broker::new(socket_url(&path).parse().unwrap());
        broker.publish(&Queue::Deletes, Outgoing::new("Delete: 1")).await.unwrap();
        assert_eq!(broker.queues().await.unwrap(), server.queues());
        server.shutdown().await;
        assert!(!path.exists());
        let late = Broker::new(socket_url(&path).parse().unwrap());
        assert!(matches!(late.check().await, Err(BrokerError::Unreachable { .. })));
        std::fs::write(&path, "somebody's file").unwrap();
        let error = BrokerServer::start(config).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
    }
}

#[tokio::test]
async fn the_process_itself_needs_no_socket() {
    let config = ServerConfig { listen: None, ..ServerConfig::default() };
    let server = BrokerServer::start(config).await.unwrap();
    let broker = inside(&server);
    let mut consumer = broker.consume(&Queue::PackageRequests, 1).await.unwrap();
    let body = "x".repeat(3 << 20);
    broker.publish(&Queue::PackageRequests, Outgoing::new(&body)).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    assert_eq!(delivery.message.body.len(), body.len());
    delivery.ack().await.unwrap();
    let late = inside(&server);
    server.shutdown().await;
    let error = late.check().await.unwrap_err();
    assert!(matches!(&error, BrokerError::Unreachable { reason, .. } if reason.contains("has ended")), "{error}");
}
