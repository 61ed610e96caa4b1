//! What the client does when the broker fails it: silence, an ERROR frame, a closed connection, a restart.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use adit_shared::messaging::server::{BrokerServer, ServerConfig};
use adit_shared::messaging::{
    Broker, BrokerConfig, BrokerError, Command, Consumer, Decoder, Delivery, Frame, Item, Outgoing, Queue,
};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One end of a STOMP connection that does only what the test says.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener, connected: Frame) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self { stream, decoder: Decoder::default(), buffer: BytesMut::new() };
        assert_eq!(peer.next().await.unwrap().command, Command::Connect);
        peer.send(connected).await;
        peer
    }

    async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode(&mut self.buffer).unwrap() {
                Some(Item::Frame(frame)) => return Some(frame),
                Some(Item::HeartBeat) => {}
                None if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 => return None,
                None => {}
            }
        }
    }
}

fn connected() -> Frame {
    Frame::new(Command::Connected).header("version", "1.2")
}

async fn listener() -> (TcpListener, BrokerConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap());
    (listener, config)
}

fn config(address: SocketAddr) -> BrokerConfig {
    format!("stomp://{address}").parse().unwrap()
}

fn queue() -> Queue {
    Queue::Package("5".into())
}

/// A consumer that holds two messages, and the peer that gave them.
async fn holding_two(
    listener: &TcpListener,
    config: BrokerConfig,
    connected: Frame,
) -> (Consumer, [Delivery; 2], Peer) {
    let (broker, queue) = (Broker::new(config), queue());
    let giving = async {
        let mut peer = Peer::accept(listener, connected).await;
        let subscribe = peer.next().await.unwrap();
        assert_eq!(subscribe.headers.get("destination"), Some("/queue/package.5"));
        let message = Frame::new(Command::Message).header("subscription", subscribe.headers.get("id").unwrap());
        // Waiting messages may come before the receipt as well as after it.
        peer.send(message.clone().header("ack", "1")).await;
        peer.send(Frame::new(Command::Receipt).header("receipt-id", subscribe.headers.get("receipt").unwrap())).await;
        peer.send(message.header("ack", "2")).await;
        peer
    };
    let (consumer, peer) = tokio::join!(broker.consume(&queue, 2), giving);
    let mut consumer = consumer.unwrap();
    let held = [consumer.next().await.unwrap(), consumer.next().await.unwrap()];
    (consumer, held, peer)
}

#[tokio::test]
async fn no_receipt_in_time_is_an_error_and_the_connection_is_given_up() {
    let (listener, mut config) = listener().await;
    // Long enough for the receipt of SUBSCRIBE on a busy machine.
    config.receipt_timeout = Duration::from_secs(1);
    let (_consumer, [one, two], mut peer) = holding_two(&listener, config, connected()).await;
    let error = one.ack().await.unwrap_err();
    assert!(matches!(&error, BrokerError::NoReceipt { what, .. } if what == "ACK"), "{error}");
    assert_eq!(two.ack().await, Err(error));
    assert_eq!(peer.next().await.map(|frame| frame.command), Some(Command::Ack));
    assert_eq!(peer.next().await.map(|frame| frame.command), Some(Command::Disconnect));
}

#[tokio::test]
async fn an_error_frame_fails_everything_that_waits() {
    let (listener, config) = listener().await;
    let (_consumer, [one, two], mut peer) = holding_two(&listener, config, connected()).await;
    let refusing = async {
        for _ in 0..2 {
            assert_eq!(peer.next().await.map(|frame| frame.command), Some(Command::Ack));
        }
        peer.send(Frame::new(Command::Error).header("message", "memory alarm").body("come back later")).await;
    };
    let (one, two, ()) = tokio::join!(one.ack(), two.ack(), refusing);
    for acked in [one, two] {
        let error = acked.unwrap_err().to_string();
        assert!(error.ends_with("refused: memory alarm: come back later"), "{error}");
    }
}

#[tokio::test]
async fn a_broker_with_too_many_connections_is_away_and_tried_again() {
    let (listener, config) = listener().await;
    let full = [
        "the broker serves as many connections as it may: close some, or raise its limit",
        "Bad CONNECT: Virtual host '/' access denied",
        "Exceeded the maximum number of allowed client connections. See the 'maximumConnections' property",
        "Too many connections",
    ];
    let answering = async {
        for message in full {
            let refusal = Frame::new(Command::Error).header("message", message);
            assert_eq!(Peer::accept(&listener, refusal).await.next().await, None);
        }
        let mut peer = Peer::accept(&listener, connected()).await;
        let sent = peer.next().await.unwrap();
        peer.send(Frame::new(Command::Receipt).header("receipt-id", sent.headers.get("receipt").unwrap())).await;
        peer
    };
    let (broker, queue) = (Broker::new(config), queue());
    let asking = async {
        let error = broker.check().await.unwrap_err();
        assert!(matches!(&error, BrokerError::Unreachable { reason, .. } if reason == full[0]), "{error:?}");
        // The three others are met on the way.
        broker.publish(&queue, Outgoing::new("Accepted.")).await.unwrap();
    };
    tokio::join!(answering, asking);
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_given_up_after_three_heart_beats() {
    let (listener, mut config) = listener().await;
    (config.heart_beat, config.receipt_timeout) = (Duration::from_millis(100), Duration::from_secs(60));
    let beating = connected().header("heart-beat", "100,0");
    let (_consumer, [one, _two], _peer) = holding_two(&listener, config, beating).await;
    let error = one.ack().await.unwrap_err().to_string();
    assert!(error.ends_with("the broker sent no heart-beat for 300ms"), "{error}");
}

#[tokio::test]
async fn a_lost_connection_is_replaced_and_the_message_sent_again() {
    let (listener, config) = listener().await;
    let broker = Broker::new(config);
    let peer = async {
        let mut first = Peer::accept(&listener, connected()).await;
        first.next().await.unwrap();
        drop(first);
        let mut second = Peer::accept(&listener, connected()).await;
        let sent = second.next().await.unwrap();
        second.send(Frame::new(Command::Receipt).header("receipt-id", sent.headers.get("receipt").unwrap())).await;
        sent.body
    };
    let queue = queue();
    let (sent, body) = tokio::join!(broker.publish(&queue, Outgoing::new("x")), peer);
    assert_eq!((sent, &body[..]), (Ok(()), &b"x"[..]));
}

#[tokio::test]
async fn a_connection_that_has_died_unseen_is_replaced_while_somebody_still_waits() {
    let (listener, config) = listener().await;
    let broker = Broker::new(config);
    let peer = async {
        let mut silent = Peer::accept(&listener, connected()).await;
        silent.next().await.unwrap();
        let mut second = Peer::accept(&listener, connected()).await;
        let sent = second.next().await.unwrap();
        second.send(Frame::new(Command::Receipt).header("receipt-id", sent.headers.get("receipt").unwrap())).await;
        second
    };
    let queue = queue();
    let (sent, _peer) = tokio::join!(broker.publish(&queue, Outgoing::new("x")), async {
        tokio::time::timeout(Duration::from_secs(20), peer).await.unwrap()
    });
    assert_eq!(sent, Ok(()));
}

#[tokio::test]
async fn a_broker_that_never_answers_is_unreachable() {
    let (_listener, mut config) = listener().await;
    config.connect_timeout = Duration::from_millis(50);
    let error = Broker::new(config).check().await.unwrap_err();
    assert!(matches!(&error, BrokerError::Unreachable { reason, .. } if reason == "no answer within 50ms"), "{error}");
}

#[tokio::test]
async fn what_is_not_a_stomp_broker_is_named_so() {
    let (listener, config) = listener().await;
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let broker = Broker::new(config);
    let (checked, _stream) = tokio::join!(broker.check(), peer);
    let error = checked.unwrap_err().to_string();
    assert!(error.contains(r#"it does not speak STOMP: unknown STOMP command "HTTP/1.1 400"#), "{error}");
}

#[tokio::test]
async fn a_drain_whose_marker_does_not_come_back_takes_nothing_and_closes() {
    let (listener, mut config) = listener().await;
    config.drain_timeout = Duration::from_millis(700);
    let broker = Broker::new(config);
    let peer = async {
        let mut peer = Peer::accept(&listener, connected()).await;
        let id = peer.next().await.unwrap().headers.get("id").unwrap().to_owned();
        let message = Frame::new(Command::Message).header("subscription", id).header("ack", "1").body("x");
        peer.send(message).await;
        let mut commands = Vec::new();
        while let Some(frame) = peer.next().await {
            commands.push(frame.command);
        }
        commands
    };
    let queue = queue();
    let (drained, commands) = tokio::join!(broker.drain(&queue), peer);
    assert!(matches!(drained, Err(BrokerError::NotDrained { .. })), "{drained:?}");
    // Markers, the second after a silence, but no ACK.
    assert!(matches!(&commands[..], [Command::Send, .., Command::Disconnect]), "{commands:?}");
    assert!(!commands.contains(&Command::Ack), "{commands:?}");
}

#[tokio::test]
async fn a_message_that_nobody_here_reads_goes_back_by_closing() {
    let (listener, config) = listener().await;
    let broker = Broker::new(config);
    let peer = async {
        let mut peer = Peer::accept(&listener, connected()).await;
        peer.send(Frame::new(Command::Message).header("subscription", "99")).await;
        assert_eq!(peer.next().await.map(|frame| frame.command), Some(Command::Disconnect));
        assert_eq!(peer.next().await, None);
    };
    let (checked, ()) = tokio::join!(broker.check(), peer);
    checked.unwrap();
}

#[tokio::test]
async fn consumers_and_publishers_survive_a_restart_of_the_broker() {
    let journal = tempfile::tempdir().unwrap();
    let settings = |listen| ServerConfig { listen, journal: Some(journal.path().into()), ..ServerConfig::default() };
    let server = BrokerServer::start(settings(ServerConfig::default().listen)).await.unwrap();
    let address = server.addr().unwrap();
    let (broker, queue) = (Broker::new(config(address)), Queue::PackageRequests);
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    broker.publish(&queue, Outgoing::new("before")).await.unwrap();
    let held = consumer.next().await.unwrap();
    server.shutdown().await;

    assert!(held.ack().await.is_err());
    let publishing = tokio::spawn({
        let (broker, queue) = (broker.clone(), queue.clone());
        async move { broker.publish(&queue, Outgoing::new("meanwhile")).await }
    });
    let restarted = BrokerServer::start(settings(Some(address))).await.unwrap();
    for expected in ["before", "meanwhile"] {
        let delivery = consumer.next().await.unwrap();
        assert_eq!(delivery.message.text(), Ok(expected));
        delivery.ack().await.unwrap();
    }
    publishing.await.unwrap().unwrap();
    drop(consumer);
    assert!(broker.drain(&queue).await.unwrap().unwrap().messages().is_empty());
    restarted.shutdown().await;
}
