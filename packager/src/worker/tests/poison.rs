//! Messages that nothing can be made of: each is told and put away at once, and the next one is
//! built.

use adit_shared::messaging::{Command, Frame};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// How a poisoned request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What is wrong with it is ignored.
    Built,
    /// The package is told, and the message is a dead letter.
    Failed,
}

/// A request with its number, for the docset that there is.
fn request(world: &World, number: usize) -> String {
    format!("{}/docsets/5?fmt=txt&package={number}", world.api)
}

/// Sends a request as a client would that keeps to no rules. Of repeated headers the first counts.
async fn send(world: &World, number: usize, headers: &[(&str, &str)], body: &[u8]) {
    let mut stream = TcpStream::connect(world.server.addr().unwrap()).await.unwrap();
    let mut out = BytesMut::new();
    Frame::new(Command::Connect).header("accept-version", "1.2").encode(&mut out);
    let mut frame = Frame::new(Command::Send).header("destination", Queue::PackageRequests).header("receipt", "r");
    for (name, value) in headers {
        frame = frame.header(name, value);
    }
    let frame = frame.header("reply-to", format!("/queue/package/{number}")).header("persistent", true);
    frame.body(body.to_vec()).encode(&mut out);
    stream.write_all(&out).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("RECEIPT") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
}

/// Requests that are poisoned in their headers.
fn poisoned_headers(world: &World) -> Vec<(&'static str, String, String, End)> {
    let good = TRACEPARENT;
    let url = |number: usize| request(world, number);
    let long = "0".repeat(60_000);
    [
        ("traceparent", format!("{good}\r\nx-evil: 1"), End::Built),
        ("traceparent", format!("{good}\n"), End::Built),
        ("traceparent", long.clone(), End::Built),
        ("traceparent", "é\u{7f}\u{1}".to_owned(), End::Built),
        ("sequence", "99999999999999999999".to_owned(), End::Built),
        ("adit-marker", "somebody's".to_owned(), End::Built),
        ("content-type", "application/json".to_owned(), End::Failed),
        ("content-type", long.clone(), End::Failed),
        ("reply-to", "/queue/docsets/package".to_owned(), End::Failed),
        ("reply-to", "/queue/docsets/delete".to_owned(), End::Failed),
        ("reply-to", "/queue/package/1/dead".to_owned(), End::Failed),
        ("reply-to", "/topic/news".to_owned(), End::Failed),
        ("reply-to", "/queue/package/1\n/queue/package/2".to_owned(), End::Failed),
        ("reply-to", "/queue/package/../docsets/package".to_owned(), End::Failed),
        ("reply-to", long, End::Failed),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (name, value, end))| (name, value, url(1000 + at), end))
    .collect()
}

/// Requests that are poisoned in their bodies, with `N` for the number.
fn poisoned_bodies(world: &World) -> Vec<(Vec<u8>, End)> {
    let api = &world.api;
    let asking = |query: &str| format!("{api}/docsets/5?{query}").into_bytes();
    vec![
        (b"".to_vec(), End::Failed),
        (b"\xff\xfe\0".to_vec(), End::Failed),
        (vec![0xff; 3 << 20], End::Failed),
        (asking(&format!("fmt=txt&package=N#{}", "x".repeat(70_000))), End::Failed),
        (b"http://".to_vec(), End::Failed),
        (b"ftp://evil.example/api/docsets/5?package=N".to_vec(), End::Failed),
        (b"http://evil.example:99999/api/docsets/5?package=N".to_vec(), End::Failed),
        (b"http://[::1/api/docsets/5?package=N".to_vec(), End::Failed),
        (b"http://evil.example/api/docsets/99999999999999999999?package=N".to_vec(), End::Failed),
        (b"http://evil.example/api/docsets/6?package=N".to_vec(), End::Failed),
        (asking("package=99999999999999999999"), End::Failed),
        (asking("package=-9223372036854775808"), End::Failed),
        (asking("package=N&shard_bytes=99999999999999999999"), End::Failed),
        (asking("package=N&fmt=%00"), End::Failed),
        (asking("package=N&layout=zip"), End::Failed),
        (asking("package=N&layout=bag&delta_from=9223372036854775807"), End::Failed),
        // The server is known, whatever address a request names.
        (b"http://127.0.0.1:0/api/docsets/5?package=N".to_vec(), End::Built),
        (b"http://user:pass@evil.example/api/docsets/5?package=N".to_vec(), End::Built),
        (b"http://169.254.169.254/docsets/5?package=N".to_vec(), End::Built),
    ]
}

#[tokio::test]
async fn a_poisoned_message_is_told_and_put_away_and_the_next_one_is_built_at_once() {
    let world = World::new().await;
    // What would be waited for, would be for the hour that it is in service.
    let worker = world.packager_with(|config| (config.workers, config.patience) = (1, Duration::from_hours(1)));
    let mut cases = Vec::new();
    for (name, value, body, end) in poisoned_headers(&world) {
        cases.push((format!("{name}: {value:.40?}"), vec![(name, value)], body.into_bytes(), end));
    }
    for (body, end) in poisoned_bodies(&world) {
        let number = 1000 + cases.len();
        let text = String::from_utf8(body.clone()).map(|text| text.replace("=N", &format!("={number}")).into_bytes());
        let body = text.unwrap_or(body);
        cases.push((format!("{:.60?}", String::from_utf8_lossy(&body)), vec![], body, end));
    }
    let mut dead = 0;
    for (at, (name, headers, body, end)) in cases.iter().enumerate() {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        send(&world, 1000 + at, &headers, body).await;
        let last = world.statuses(&(1000 + at).to_string()).await.pop().unwrap().1;
        match (end, &last) {
            (End::Built, StatusMessage::Complete(_)) => {}
            (End::Failed, StatusMessage::Failed { reason }) => {
                assert!(reason.len() > 10 && !reason.contains(" s)"), "{name}: {reason}");
                dead += 1;
            }
            (_, other) => panic!("{name}: {other}"),
        }
        send(&world, 5000 + at, &[], request(&world, 5000 + at).as_bytes()).await;
        let last = world.statuses(&(5000 + at).to_string()).await.pop().unwrap().1;
        assert!(matches!(last, StatusMessage::Complete(_)), "after {name}: {last}");
    }
    // Where nobody can be told.
    for reply_to in ["/topic/x", "/queue/docsets/delete"] {
        send(&world, 0, &[("reply-to", reply_to)], b"make me a package").await;
        dead += 1;
    }
    world.wait_for(&Queue::Dead(Box::new(Queue::PackageRequests)), dead).await;
    world.wait_for(&Queue::PackageRequests, 0).await;
    // Nothing was written anywhere else.
    for queue in world.server.queues() {
        let known = queue.name.starts_with("docsets/") || queue.name.starts_with("package/");
        assert!(known && queue.name != "package/1/dead" && queue.name != "docsets/delete/dead", "{queue:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_delete_that_makes_no_sense_is_put_away_at_once() {
    let world = World::new().await;
    let worker = world.packager_with(|config| config.patience = Duration::from_hours(1));
    for bad in ["", "Delete: 99999999999999999999", "Delete: ../../x", "Delete: 7\u{0}"] {
        world.broker.publish(&Queue::Deletes, Outgoing::new(bad)).await.unwrap();
    }
    world.wait_for(&Queue::Dead(Box::new(Queue::Deletes)), 4).await;
    world.wait_for(&Queue::Deletes, 0).await;
    worker.stop().await;
}
