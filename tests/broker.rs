//! The broker of a deployment: how the embedded one is reached, what the users of `deploy/` may do,
//! and that no secret leaves.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use adit_shared::messaging::{Broker, BrokerConfig, BrokerError, Outgoing, Queue};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::{
    API_USER, BrokerKind, DatabaseKind, Deployment, PACKAGER_USER, PrivateServer, Server, StoreKind, adit, small,
    small_collection, succeed, within,
};

/// What `adit up` says of itself in its data folder.
fn note(data: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(data.join("running.json")).unwrap()).unwrap()
}

/// TCP ports that a process listens on: sockets in the state LISTEN (`0A`) whose inode it holds
/// (`man 5 proc`).
fn listening(process: u32) -> Vec<u16> {
    let holds: Vec<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_str()?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default());
    let rows =
        tables.iter().flat_map(|table| table.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let held = rows.filter(|row| row[3] == "0A" && holds.contains(&format!("socket:[{}]", row[9])));
    held.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}

#[tokio::test]
async fn everything_in_one_process_opens_no_port_but_the_apis() {
    let (_dir, server) = small(&[]);
    let note = note(&server.data);
    let ports = listening(u32::try_from(note["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect::<Vec<_>>(), [server.url.as_str()]);
    let socket = server.data.join("broker.sock");
    let metadata = socket.symlink_metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(note["broker"], format!("stomp+unix://{}", socket.display()));
    // The verbs and a package find their way without it.
    let queues: Value = serde_json::from_str(&succeed(&server.data, &["queues", "--json"])).unwrap();
    assert!(
        queues.as_array().unwrap().iter().any(|queue| queue["name"] == "docsets/package" && queue["consumers"] == 1)
    );
    let docset = server.docset("c", "*").await;
    assert_eq!(server.package(docset, &serde_json::json!({"formats": ["txt"]})).await["status"], "successful");
    let data = server.data.clone();
    assert!(server.stop().success());
    assert!(!data.join("broker.sock").exists());
}

#[tokio::test]
async fn a_socket_is_found_in_a_deep_folder_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a rather long name of a folder ".repeat(3).trim()).join("b".repeat(60)).join("data");
    std::fs::create_dir_all(&data).unwrap();
    succeed(&data, &["import", small_collection(dir.path()).to_str().unwrap()]);
    Server::start(&data, &[]).kill();
    assert!(data.join("broker.sock").exists());
    let server = Server::start(&data, &[]);
    let queues = succeed(&server.data, &["queues"]);
    assert!(queues.contains("docsets/package"), "{queues}");
}

#[tokio::test]
async fn a_flood_on_the_brokers_port_loses_no_package() {
    let (_dir, server) = small(&[("ADIT_BROKER_LISTEN", "127.0.0.1:0")]);
    let process = u32::try_from(note(&server.data)["pid"].as_u64().unwrap()).unwrap();
    let port = listening(process).into_iter().find(|port| !server.url.ends_with(&format!(":{port}"))).unwrap();
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let docset = server.docset("c", "*").await;
    let package = server.package(docset, &serde_json::json!({"formats": ["txt"]})).await;
    assert_eq!(package["status"], "successful", "{package}");
    // Who knows the passcode comes in nevertheless; who does not, does not.
    let file = server.data.join("broker-passcode");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let passcode = std::fs::read_to_string(file).unwrap();
    let broker = |passcode: &str| -> Broker {
        Broker::new(format!("stomp://adit:{}@127.0.0.1:{port}", passcode.trim()).parse().unwrap())
    };
    let queues = broker(&passcode).queues().await.unwrap();
    assert!(!queues.iter().any(|queue| queue.name.ends_with("/dead")), "{queues:?}");
    let refused = broker("wrong").check().await;
    assert!(matches!(refused, Err(BrokerError::Refused { .. })), "{refused:?}");
    for stream in &mut flood {
        let left = within("a silent connection is closed", stream.read(&mut [0; 16])).await;
        assert_eq!(left.unwrap_or(0), 0);
    }
    assert!(server.stop().success());
}

#[test]
fn a_packager_must_be_told_where_its_key_goes_and_shows_it_in_clear_text_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |environment: &[(&str, &str)], arguments: &[&str]| {
        let output = adit(dir.path()).envs(environment.iter().copied()).args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let broker = ("ADIT_BROKER_URL", "stomp://127.0.0.1:1");
    let key = ("ADIT_API_KEY", "hunter2");
    let error = fails(&[broker, key], &["packager"]);
    assert!(error.contains("set ADIT_PUBLIC_URL (or --url)"), "{error}");
    let error = fails(&[broker, key, ("ADIT_PUBLIC_URL", "http://adit.example")], &["packager"]);
    assert!(error.contains("ADIT_PUBLIC_URL would send the packager's key to adit.example"), "{error}");
    let error = fails(&[broker, key], &["--url", "http://me:hunter2@adit.example", "packager"]);
    assert!(error.contains("--url holds credentials") && !error.contains("hunter2"), "{error}");
    let error = fails(&[("ADIT_DATABASE_URL", "postgres://u:hunter2@db.example/adit")], &["keys", "list"]);
    assert!(error.contains("sslmode=verify-full") && !error.contains("hunter2"), "{error}");
}

/// Reads a message of a queue; false when that is refused.
async fn may_read(broker: &Broker, queue: &Queue) -> bool {
    let reading = async { broker.consume(queue, 1).await?.next().await };
    // Somebody has written to it: RabbitMQ may send its receipt before its refusal.
    match within("a message or a refusal", reading).await {
        Ok(_) => true,
        Err(BrokerError::Refused { .. }) => false,
        Err(other) => panic!("{queue}: {other}"),
    }
}

/// Writes to a queue; false when that is refused.
async fn may_write(broker: &Broker, queue: &Queue) -> bool {
    match within("an answer to SEND", broker.publish(queue, Outgoing::new("Delete: 1"))).await {
        Ok(()) => true,
        Err(BrokerError::Refused { .. }) => false,
        Err(other) => panic!("{queue}: {other}"),
    }
}

/// The users of `deploy/` may do what their roles need, and no more.
async fn each_user_keeps_to_its_queues(url: &str) {
    let broker = |user: &str| {
        let mut url: url::Url = url.parse().unwrap();
        url.set_username(user).unwrap();
        let mut config: BrokerConfig = url.as_str().parse().unwrap();
        config.publish_timeout = Duration::from_secs(60);
        Broker::new(config)
    };
    let (api, packager) = (broker(API_USER), broker(PACKAGER_USER));
    let dead = |queue: Queue| Queue::Dead(Box::new(queue));
    let number = format!("{:016x}", rand::random::<u64>());
    for (queue, [api_reads, api_writes, packager_reads, packager_writes]) in [
        (Queue::PackageRequests, [false, true, true, true]),
        (Queue::Deletes, [false, true, true, true]),
        (Queue::Package(number), [true, true, false, true]),
        (dead(Queue::PackageRequests), [false, false, false, true]),
        (dead(Queue::Deletes), [false, false, false, true]),
    ] {
        assert_eq!(may_write(&api, &queue).await, api_writes, "the API writes to {queue}");
        // RabbitMQ lets packagers write to the queues that they read: who reads declares.
        if !packager_reads {
            assert_eq!(may_write(&packager, &queue).await, packager_writes, "the packager writes to {queue}");
        }
        assert_eq!(may_read(&api, &queue).await, api_reads, "the API reads {queue}");
        assert_eq!(may_read(&packager, &queue).await, packager_reads, "the packager reads {queue}");
    }
}

#[tokio::test]
async fn users_of_rabbitmq_keep_to_their_queues() {
    let parts = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Sqlite, StoreKind::Folder);
    let Some(deployment) = parts.await else { return };
    each_user_keeps_to_its_queues(deployment.setting("ADIT_BROKER_URL")).await;
}

#[tokio::test]
async fn users_of_activemq_keep_to_their_queues() {
    let Some(server) = PrivateServer::start("activemq", "ADIT_TEST_ACTIVEMQ_URL") else { return };
    each_user_keeps_to_its_queues(&server.variable("ADIT_TEST_ACTIVEMQ_URL")).await;
}

/// RabbitMQ says no more than that access is refused, so its limit looks like a wrong virtual host.
#[tokio::test]
async fn rabbitmq_with_as_many_connections_as_it_may_is_away() {
    let parts = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Sqlite, StoreKind::Folder);
    let Some(deployment) = parts.await else { return };
    let url = deployment.setting("ADIT_BROKER_URL");
    let broker = Broker::new(url.parse().unwrap());
    broker.check().await.unwrap();
    let (console, vhost) = (std::env::var("ADIT_TEST_RABBITMQ_CONSOLE_URL").unwrap(), url.rsplit('/').next().unwrap());
    let limit = format!("{console}/api/vhost-limits/{vhost}/max-connections");
    let limited = reqwest::Client::new().put(limit).header("content-type", "application/json").body(r#"{"value": 0}"#);
    assert!(limited.send().await.unwrap().status().is_success());
    let error = Broker::new(url.parse().unwrap()).check().await.unwrap_err();
    assert!(matches!(&error, BrokerError::Unreachable { .. }), "{error:?}");
}
