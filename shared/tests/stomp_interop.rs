//! Clients that others wrote talk to the embedded broker: what it calls STOMP is what they call STOMP.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::future::Future;
use std::time::Duration;

use adit_shared::messaging::server::{BrokerServer, ServerConfig};
use tokio::time::timeout;

/// Long enough for a busy machine; a test that works never waits so long.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("nothing came from the broker")
}

async fn start() -> BrokerServer {
    let credentials = Some(("guest".to_owned(), "guest".to_owned()));
    BrokerServer::start(ServerConfig { credentials, ..ServerConfig::default() }).await.unwrap()
}

mod iridium {
    use futures::StreamExt as _;
    use iridium_stomp::connection::{AckMode, ConnError, ConnectOptions};
    use iridium_stomp::{Connection, Frame, SubscriptionOptions};
    use tokio::sync::mpsc;

    use super::*;

    async fn connect(server: &BrokerServer) -> Connection {
        soon(Connection::connect(&server.addr().unwrap().to_string(), "guest", "guest", Connection::NO_HEARTBEAT))
            .await
            .unwrap()
    }

    fn send(queue: &str, body: impl Into<Vec<u8>>) -> Frame {
        Frame::new("SEND").header("destination", queue).header("persistent", "true").set_body(body)
    }

    async fn confirmed(connection: &Connection, frame: Frame) {
        connection.send_frame_confirmed(frame, DEADLINE).await.unwrap();
    }

    fn bodies(frames: &[Frame]) -> Vec<&str> {
        frames.iter().map(|frame| std::str::from_utf8(&frame.body).unwrap()).collect()
    }

    #[tokio::test]
    async fn any_body_and_any_header_pass_through() {
        let server = start().await;
        let connection = connect(&server).await;
        let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        confirmed(&connection, send("/queue/a/b", body.clone()).header("odd: name", "back\\slash: and\nmore")).await;
        let mut subscription = connection.subscribe("/queue/a/b", AckMode::Auto).await.unwrap();
        let message = soon(subscription.next()).await.unwrap();
        assert_eq!(message.body, body);
        assert_eq!(message.get_header("odd: name"), Some("back\\slash: and\nmore"));
        assert_eq!(message.get_header("destination"), Some("/queue/a/b"));
        assert_eq!(message.get_header("content-length"), Some("100000"));
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_cumulative_acknowledgement_counts_for_all_before() {
        let server = start().await;
        let connection = connect(&server).await;
        for body in ["1", "2", "3"] {
            confirmed(&connection, send("/queue/q", body)).await;
        }
        let mut subscription = connection.subscribe("/queue/q", AckMode::Client).await.unwrap();
        let messages: Vec<Frame> = soon(subscription.by_ref().take(3).collect()).await;
        assert_eq!(bodies(&messages), ["1", "2", "3"]);
        subscription.ack_frame(&messages[1]).await.unwrap();
        connection.close().await.unwrap();
        let left = server.queues();
        assert_eq!((left[0].ready, left[0].unacknowledged), (1, 0));
        let other = connect(&server).await;
        let message = soon(other.subscribe("/queue/q", AckMode::Auto).await.unwrap().next()).await.unwrap();
        assert_eq!((message.body.as_slice(), message.get_header("redelivered")), (&b"3"[..], Some("true")));
    }

    #[tokio::test]
    async fn a_refused_message_comes_again_until_it_is_declared_dead() {
        let server = start().await;
        let connection = connect(&server).await;
        confirmed(&connection, send("/queue/q", "poison")).await;
        let one = SubscriptionOptions::new().header("prefetch-count", "1");
        let mut subscription =
            connection.subscribe_with_options("/queue/q", AckMode::ClientIndividual, one).await.unwrap();
        let first = soon(subscription.next()).await.unwrap();
        assert_eq!(first.get_header("redelivered"), None);
        subscription.nack_frame(&first).await.unwrap();
        let second = soon(subscription.next()).await.unwrap();
        assert_eq!(second.get_header("delivery-count"), Some("1"));
        let id = second.get_header("ack").unwrap();
        confirmed(&connection, Frame::new("NACK").header("id", id).header("requeue", "false")).await;
        let mut dead = connection.subscribe("/queue/q/dead", AckMode::Auto).await.unwrap();
        assert_eq!(soon(dead.next()).await.unwrap().body, b"poison");
    }

    #[tokio::test]
    async fn transactions_commit_and_abort() {
        let server = start().await;
        let connection = connect(&server).await;
        for (name, end) in [("kept", "COMMIT"), ("dropped", "ABORT")] {
            connection.begin(name).await.unwrap();
            confirmed(&connection, send("/queue/q", name).header("transaction", name)).await;
            confirmed(&connection, Frame::new(end).header("transaction", name)).await;
        }
        assert_eq!(server.queues()[0].ready, 1);
        let mut subscription = connection.subscribe("/queue/q", AckMode::Auto).await.unwrap();
        assert_eq!(soon(subscription.next()).await.unwrap().body, b"kept");
    }

    #[tokio::test]
    async fn refusals_reach_the_client() {
        let server = start().await;
        let address = server.addr().unwrap().to_string();
        let stranger = soon(Connection::connect(&address, "guest", "wrong", Connection::NO_HEARTBEAT)).await;
        assert!(
            matches!(stranger, Err(ConnError::ServerRejected(error)) if error.message.contains("passcode is wrong"))
        );
        let old = ConnectOptions::new().accept_version("1.0");
        let old =
            soon(Connection::connect_with_options(&address, "guest", "guest", Connection::NO_HEARTBEAT, old)).await;
        assert!(matches!(old, Err(ConnError::ServerRejected(error)) if error.message.contains("speaks STOMP 1.2")));
        let connection = connect(&server).await;
        let refused = connection.send_frame_confirmed(send("/topic/news", "x"), DEADLINE).await;
        assert!(matches!(refused, Err(ConnError::FrameRejected(error)) if error.message.contains("no destination")));
    }

    #[tokio::test]
    async fn heart_beats_arrive() {
        let config = ServerConfig { heart_beat: Duration::from_millis(50), ..ServerConfig::default() };
        let server = BrokerServer::start(config).await.unwrap();
        let (notify, mut beats) = mpsc::channel(1);
        let options = ConnectOptions::new().heartbeat_notify(notify);
        let address = server.addr().unwrap().to_string();
        let connection = soon(Connection::connect_with_options(&address, "", "", "50,50", options)).await.unwrap();
        for _ in 0..3 {
            soon(beats.recv()).await.unwrap();
        }
        connection.close().await.unwrap();
    }
}

mod stomp_rs_crate {
    use std::collections::HashMap;

    use stomp_rs::connection::{Connection, ConnectionError};
    use stomp_rs::protocol::frame::{Ack, AckMode, Connect, Send, Subscribe};
    use stomp_rs::protocol::{Frame, ServerCommand, StompMessage};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    struct Client {
        connection: Connection,
        incoming: Receiver<Result<StompMessage<ServerCommand>, ConnectionError>>,
    }

    impl Client {
        async fn connect(server: &BrokerServer) -> Self {
            let (sender, incoming) = channel(100);
            let connection = Connection::new(TcpStream::connect(server.addr().unwrap()).await.unwrap(), sender).await;
            let mut client = Self { connection, incoming };
            let connect = Connect::new("1.2", "adit").header("login", "guest").header("passcode", "guest");
            client.connection.emit(connect).await.unwrap();
            assert_eq!(client.hear().await.command, ServerCommand::Connected);
            client
        }

        async fn hear(&mut self) -> Frame<ServerCommand> {
            loop {
                if let StompMessage::Frame(frame) = soon(self.incoming.recv()).await.unwrap().unwrap() {
                    return frame;
                }
            }
        }

        async fn receipt(&mut self, id: &str) {
            let frame = self.hear().await;
            assert_eq!((frame.command, &*frame.headers["receipt-id"]), (ServerCommand::Receipt, id));
        }

        async fn message(&mut self) -> (String, HashMap<String, String>) {
            let frame = self.hear().await;
            assert_eq!(frame.command, ServerCommand::Message);
            (frame.body, frame.headers)
        }
    }

    #[tokio::test]
    async fn messages_are_sent_received_and_acknowledged_one_by_one() {
        let server = start().await;
        let mut client = Client::connect(&server).await;
        for body in ["one", "two"] {
            client.connection.emit(Send::new("/queue/work").body(body).receipt(body)).await.unwrap();
            client.receipt(body).await;
        }
        let subscribe = Subscribe::new("s", "/queue/work").ack(AckMode::ClientIndividual);
        client.connection.emit(subscribe).await.unwrap();
        let (first, second) = (client.message().await, client.message().await);
        assert_eq!((&*first.0, &*second.0), ("one", "two"));
        assert_eq!(second.1["subscription"], "s");
        client.connection.emit(Ack::new(&second.1["ack"]).receipt("acked")).await.unwrap();
        client.receipt("acked").await;
        assert_eq!(server.queues()[0].unacknowledged, 1);
        client.connection.close().await;
    }

    #[tokio::test]
    async fn what_a_dropped_connection_held_is_delivered_again_in_order() {
        let server = start().await;
        let mut first = Client::connect(&server).await;
        first.connection.emit(Subscribe::new("s", "/queue/work").ack(AckMode::Client)).await.unwrap();
        for body in ["1", "2", "3"] {
            first.connection.emit(Send::new("/queue/work").body(body)).await.unwrap();
        }
        for body in ["1", "2", "3"] {
            let (text, headers) = first.message().await;
            assert_eq!((&*text, headers.get("redelivered")), (body, None));
        }
        // No DISCONNECT: the socket is closed, and that is all.
        first.connection.close().await;
        let mut second = Client::connect(&server).await;
        second.connection.emit(Subscribe::new("t", "/queue/work").ack(AckMode::Client)).await.unwrap();
        for body in ["1", "2", "3"] {
            let (text, headers) = second.message().await;
            assert_eq!((&*text, &*headers["redelivered"], &*headers["delivery-count"]), (body, "true", "1"));
        }
        second.connection.close().await;
    }
}
