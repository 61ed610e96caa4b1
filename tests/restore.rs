//! A database of an hour ago beside a store and a broker of now: which things are lost, and that nothing of what is lost is taken for what is
//! made anew under the same numbers.

use std::path::PathBuf;

use adit_shared::digest::Sha256;
use adit_shared::ids::{PackageId, SaltedPackage};
use adit_shared::messaging::{
    Broker, BrokerServer, Complete, DeleteRequest, Outgoing, Queue, ServerConfig, StatusMessage,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use url::Url;

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, StoreKind, eventually, expect, salted, small_collection, text, unzip,
    write_collection,
};

/// The database as it was.
enum Backup {
    /// A folder of `adit storage backup`.
    Folder(PathBuf),
    /// A database of that name on the server at that URL.
    Database(Url, String),
}

impl Backup {
    /// Copies the database. On PostgreSQL nothing may be connected meanwhile.
    async fn make(deployment: &Deployment) -> Self {
        let url = deployment.setting("ADIT_DATABASE_URL");
        if url.starts_with("sqlite:") {
            let folder = deployment.folder().join("backup");
            deployment.succeed(&["storage", "backup", folder.to_str().unwrap()]);
            return Self::Folder(folder);
        }
        let url: Url = url.parse().unwrap();
        let name = url.path().trim_start_matches('/').to_owned();
        on_server(&url, format!("CREATE DATABASE {name}_backup TEMPLATE {name}")).await;
        Self::Database(url, name)
    }

    /// Puts the copy in the place of the database; the object store and the broker stay as they are.
    async fn restore(self, deployment: &Deployment) {
        match self {
            Self::Folder(folder) => {
                for file in ["adit.sqlite-wal", "adit.sqlite-shm"] {
                    // A server that was stopped in order leaves none.
                    let _ = std::fs::remove_file(deployment.data.join(file));
                }
                std::fs::copy(folder.join("adit.sqlite"), deployment.data.join("adit.sqlite")).unwrap();
            }
            Self::Database(url, name) => {
                on_server(&url, format!("DROP DATABASE {name} WITH (FORCE)")).await;
                on_server(&url, format!("ALTER DATABASE {name}_backup RENAME TO {name}")).await;
            }
        }
    }
}

async fn on_server(url: &Url, statement: String) {
    let mut server = url.clone();
    server.set_path("/postgres");
    let mut admin = PgConnection::connect(server.as_str()).await.unwrap();
    admin.execute(AssertSqlSafe(statement)).await.unwrap();
    admin.close().await.unwrap();
}

/// A docset of a word, with its package and links to both.
struct Work {
    word: &'static str,
    docset: i64,
    package: Value,
    archive: Vec<u8>,
    share: String,
    link: String,
}

impl Work {
    async fn make(client: &Client, word: &'static str) -> Self {
        let docset = client.docset("c", word).await;
        let (package, archive) = client.archive(docset, &json!({"formats": ["txt"]})).await;
        let texts = unzip(&archive);
        assert!(texts.values().any(|bytes| String::from_utf8_lossy(bytes).contains(word)), "{:?}", texts.keys());
        let assets = client.json(package["assets"].as_str().unwrap()).await;
        let share = client.post(&format!("/api/docsets/{docset}/share"), &json!({})).await;
        let work = Self {
            word,
            docset,
            share: expect(share, 201).await["link"].as_str().unwrap().to_owned(),
            link: assets["assets"][0]["link"].as_str().unwrap().to_owned(),
            package,
            archive,
        };
        work.check(client).await;
        work
    }

    fn salted(&self) -> SaltedPackage {
        salted(&self.package)
    }

    fn paths(&self) -> [String; 2] {
        [format!("/api/docsets/{}", self.docset), format!("/api/packages/{}", self.package["id"])]
    }

    /// What the server claims of the package is what it gives.
    async fn check(&self, client: &Client) {
        let package = client.json(&self.paths()[1]).await;
        assert_eq!((&package["status"], &package["content"]), (&json!("successful"), &json!("available")));
        assert_eq!(package["salt"], self.package["salt"]);
        let bytes = client.download(package["download"].as_str().unwrap()).await.bytes().await.unwrap();
        assert!(bytes == self.archive, "{}", self.word);
        assert_eq!(package["sha256"], Sha256::of(&bytes).to_string(), "{}", self.word);
        assert_eq!(package["size"], bytes.len());
    }

    /// Which of its links, to the docset and to the archive, open something at the server that now runs.
    async fn opens(&self, client: &Client) -> [bool; 2] {
        let path = |link: &str| link[link.find("/api/").unwrap()..].to_owned();
        let shared = client.get(&path(&self.share)).await.status().as_u16();
        let asset = client.request_as(None, Method::GET, &path(&self.link)).send().await.unwrap();
        [shared, asset.status().as_u16()].map(|status| match status {
            200 | 302 => true,
            403 => false,
            other => panic!("{}: {other}", self.word),
        })
    }

    /// Says again what was said of the package, and what may be said of it yet.
    async fn say_again(&self, broker: &Broker, url: &str) {
        let (package, queue) = (self.salted(), Queue::Package(self.salted().to_string()));
        let SaltedPackage { id: PackageId(id), salt } = package;
        let body = format!("{url}/api/docsets/{}?fmt=txt&package={id}&salt={}", self.docset, salt.unwrap());
        let request = Outgoing::new(body).header("reply-to", queue.clone());
        broker.publish(&Queue::PackageRequests, request).await.unwrap();
        let complete = Complete { url: "http://elsewhere/lost.zip".to_owned(), size: Some(5), ..Complete::default() };
        let status = Outgoing::new(StatusMessage::Complete(complete)).header("sequence", i64::MAX);
        broker.publish(&queue, status).await.unwrap();
        broker.publish(&Queue::Deletes, Outgoing::new(DeleteRequest { package })).await.unwrap();
    }
}

/// Leaves messages on the broker while nobody is there to take them.
async fn leave(deployment: &Deployment, works: &[&Work]) {
    let embedded = deployment.environment().iter().all(|(name, _)| name != "ADIT_BROKER_URL");
    let journal = Some(deployment.data.join("broker"));
    let server = match embedded {
        true => Some(BrokerServer::start(ServerConfig { journal, ..ServerConfig::default() }).await.unwrap()),
        false => None,
    };
    let url = match &server {
        Some(server) => format!("stomp://{}", server.addr().unwrap()),
        None => deployment.setting("ADIT_BROKER_URL").to_owned(),
    };
    let broker = Broker::new(url.parse().unwrap());
    for work in works {
        work.say_again(&broker, "http://lost").await;
    }
    drop(broker);
    if let Some(server) = server {
        server.shutdown().await;
    }
}

/// The broker of what runs, as another program reaches it.
fn broker_of(deployment: &Deployment) -> Broker {
    let note = std::fs::read(deployment.data.join("running.json")).ok();
    let running: Option<Value> = note.map(|note| serde_json::from_slice(&note).unwrap());
    let url = match &running {
        Some(running) => running["broker"].as_str().unwrap(),
        None => deployment.setting("ADIT_BROKER_URL"),
    };
    Broker::new(url.parse().unwrap())
}

async fn is_quiet(deployment: &Deployment) {
    for queue in ["docsets/package", "docsets/delete"] {
        eventually("no message waits", || async { (deployment.waiting(queue).await == 0).then_some(()) }).await;
        assert_eq!(deployment.waiting(&format!("{queue}/dead")).await, 0);
    }
}

/// Which of these are not there.
async fn lost(client: &Client, paths: &[String]) -> Vec<String> {
    let mut lost = Vec::new();
    for path in paths {
        match client.get(path).await.status().as_u16() {
            200 => {}
            404 => lost.push(path.clone()),
            other => panic!("{path}: {other}"),
        }
    }
    lost
}

async fn an_old_database_meets_a_later_store_and_broker(deployment: &Deployment) {
    deployment.import(&small_collection(deployment.folder()));
    let server = deployment.start(&[]);
    let kept = Work::make(&server, "coal").await;
    server.stop();
    let backup = Backup::make(deployment).await;

    let server = deployment.start(&[]);
    let later = [text("doc.9", "On tin", "A treatise on mining tin.")];
    let later = write_collection(&deployment.folder().join("later"), "c", &later);
    deployment.import(&later);
    let gone = [Work::make(&server, "tin").await, Work::make(&server, "iron").await, Work::make(&server, "gold").await];
    server.stop();
    backup.restore(deployment).await;
    leave(deployment, &gone.each_ref()).await;

    let server = deployment.start(&[]);
    is_quiet(deployment).await;
    deployment.succeed(&["storage", "check", "--full"]);
    // What is lost is what was made after the backup, and nothing else.
    let made: Vec<String> = [&kept].into_iter().chain(&gone).flat_map(Work::paths).collect();
    assert_eq!(lost(&server, &made).await, made[2..]);
    assert_eq!(server.search("c", &json!({"query": "tin"})).await["hits"], 0);
    kept.check(&server).await;
    assert_eq!(kept.opens(&server).await, [true, true]);
    deployment.import(&later);
    assert_eq!(server.search("c", &json!({"query": "tin"})).await["hits"], 1);

    // Other things get the lost numbers; the last is the same as one that was lost.
    let mut new = Vec::new();
    for (before, word) in gone.iter().zip(["copper", "silver", "gold"]) {
        let work = Work::make(&server, word).await;
        assert_eq!((work.docset, &work.package["id"]), (before.docset, &before.package["id"]));
        assert_ne!(work.package["salt"], before.package["salt"]);
        assert_eq!(work.archive == before.archive, word == before.word);
        new.push(work);
    }
    let broker = broker_of(deployment);
    for work in &gone {
        work.say_again(&broker, &server.url).await;
    }
    is_quiet(deployment).await;
    for (work, before) in new.iter().zip(&gone) {
        work.check(&server).await;
        assert_eq!(work.opens(&server).await, [true, true]);
        assert_eq!(before.opens(&server).await, [false, false], "{}", before.word);
    }
    deployment.succeed(&["storage", "check", "--full"]);
    server.stop();
}

#[tokio::test]
async fn numbers_come_again_and_nothing_of_the_lost_is_taken_for_the_new() {
    let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
    an_old_database_meets_a_later_store_and_broker(&deployment).await;
}

#[tokio::test]
async fn the_same_on_postgresql_s3_and_rabbitmq() {
    let deployment = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::S3).await;
    let Some(deployment) = deployment else { return };
    an_old_database_meets_a_later_store_and_broker(&deployment).await;
}
