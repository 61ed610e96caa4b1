//! Parts that are killed and come back while packages are built and asked for: nothing is lost, and who asks meanwhile is told which part
//! is away.

use std::sync::{Arc, Mutex};

use adit_shared::digest::Sha256;
use adit_shared::objects::ObjectStore;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{
    BrokerKind, Client, Deployment, Private, PrivateServer, eventually, expect, import_noise, stored_parts,
};

/// Documents of the package that is being built when a part goes away: 18 parts of 8 MiB.
const DOCUMENTS: usize = 72;

/// A client that goes on asking whatever happens, and looks at how it is answered.
struct Patrol {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// The parts that answers have named as away, in order.
    away: Arc<Mutex<Vec<String>>>,
}

impl Patrol {
    /// Asks for a package, for its archive, for a file, for a search and for new packages, over and over.
    fn start(client: Client, docset: i64, package: i64) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let away = Arc::<Mutex<Vec<String>>>::default();
        let told = away.clone();
        let task = tokio::spawn(async move {
            for layout in ["flat", "bag"].into_iter().cycle() {
                if stopped.is_cancelled() {
                    break;
                }
                let package = format!("/api/packages/{package}");
                let ask = json!({"formats": ["meta"], "layout": layout});
                let requests = [
                    client.request(Method::GET, &package),
                    client.request(Method::GET, &format!("{package}/download")),
                    client.request(Method::GET, "/api/documents/1/files/meta"),
                    client.request(Method::POST, "/api/collections/big/search").json(&json!({"query": "noise"})),
                    client.request(Method::POST, &format!("/api/docsets/{docset}/packages")).json(&ask),
                ];
                for request in requests {
                    let missing = missing_part(request.send().await.unwrap()).await;
                    told.lock().unwrap().extend(missing);
                }
            }
        });
        Self { stop, task, away }
    }

    /// Those parts, so far.
    fn away(&self) -> Vec<String> {
        self.away.lock().unwrap().clone()
    }

    /// Ends it; it panics here if an answer was not as it should be.
    async fn end(self) -> Vec<String> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.away.lock().unwrap().clone()
    }
}

/// The part that an answer says is away. Answers are good, or say "not ready" of an archive, or 503 with all that a client needs to know.
async fn missing_part(answer: Response) -> Option<String> {
    let (status, url) = (answer.status().as_u16(), answer.url().clone());
    if status != 503 {
        let body = answer.bytes().await;
        assert!(matches!(status, 200 | 202 | 302 | 409), "{url}: {status} {body:?}");
        // One that had begun may be cut off, which a client notices; what comes to its end is whole.
        if let Ok(body) = body {
            assert!(status == 302 || serde_json::from_slice::<Value>(&body).is_ok(), "{url}: {status} {body:?}");
        }
        return None;
    }
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait} s");
    let problem = expect(answer, 503).await;
    assert_eq!(problem["type"], "urn:adit:problem:unavailable", "{url}: {problem}");
    Some(problem["part"].as_str().unwrap().to_owned())
}

/// What `/readyz` says.
async fn ready(client: &Client) -> Value {
    let answer = client.get("/readyz").await;
    let status = answer.status().as_u16();
    assert_eq!(status == 503, answer.headers().contains_key("retry-after"));
    expect(answer, status).await
}

/// The part goes away in the middle of a build and comes back: all that was asked for is built, and its bytes are what they would have been.
async fn an_outage(deployment: &Deployment, server: &mut PrivateServer, part: &str, end: fn(&mut PrivateServer)) {
    import_noise(deployment, DOCUMENTS);
    let running = deployment.start(&[("ADIT_RESEND_AFTER", "2s")]);
    let docset = running.docset("big", "*").await;
    let body = json!({"formats": ["pdf", "meta"]});
    let package = running.ask(docset, &body).await;
    let asked = running.json(&format!("/api/packages/{package}")).await;
    let objects = deployment.objects().await;
    eventually("some parts are stored", || async { (stored_parts(&*objects, &asked).await >= 3).then_some(()) }).await;
    let doomed = running.package(docset, &json!({"formats": ["meta"], "layout": "tar.zst"})).await;
    let patrol = Patrol::start(running.client().clone(), docset, package);
    end(server);
    eventually("operators and clients are told that it is away", || async {
        let told = ready(&running).await[part] == "away" && !patrol.away().is_empty();
        (told || patrol.task.is_finished()).then_some(())
    })
    .await;
    if part == "message broker" {
        let deleted = running.request(Method::DELETE, &format!("/api/packages/{}", doomed["id"])).send().await.unwrap();
        assert_eq!(expect(deleted, 200).await["content"], "erased");
    }
    server.start_again();
    if part == "message broker" {
        eventually("what was deleted meanwhile is gone", || async {
            is_gone(&*objects, doomed["id"].as_i64().unwrap()).await.then_some(())
        })
        .await;
    }
    eventually("all parts are back", || async {
        let ready = ready(&running).await;
        ready.as_object().unwrap().values().all(|state| state == "ok").then_some(())
    })
    .await;
    let finished = running.finished_through_outages(package).await;
    let away = patrol.end().await;
    assert!(away.iter().all(|away| away == part), "{away:?}");
    assert_eq!(finished["status"], "successful", "{finished}");
    let undisturbed = running.package(docset, &json!({"formats": ["pdf", "meta"], "reuse": false})).await;
    assert_ne!(undisturbed["id"], finished["id"]);
    assert_eq!(undisturbed["sha256"], finished["sha256"]);
    let bytes = running.download(finished["download"].as_str().unwrap()).await.bytes().await.unwrap();
    assert_eq!(finished["sha256"], Sha256::of(&bytes).to_string());
    for layout in ["flat", "bag"] {
        let other = running.package(docset, &json!({"formats": ["meta"], "layout": layout})).await;
        assert_eq!(other["status"], "successful", "what was asked for meanwhile is there: {other}");
    }
    running.stop();
}

/// Tells whether nothing of a package is in the store.
async fn is_gone(objects: &dyn ObjectStore, package: i64) -> bool {
    let number = package.to_string();
    let is_of_it = |key: &str| {
        let name = key.strip_prefix("packages/").unwrap_or_default();
        name.split(|c: char| !c.is_ascii_digit()).next() == Some(&number)
    };
    !objects.list("packages/").await.unwrap().iter().any(|(key, _)| is_of_it(key))
}

async fn a_broker_is_killed(name: &str, variable: &str, kind: BrokerKind) {
    let Some(mut server) = PrivateServer::start(name, variable) else { return };
    let private = Private { broker: Some((&server, kind)), ..Private::default() };
    let Some(deployment) = Deployment::with(private).await else { return };
    an_outage(&deployment, &mut server, "message broker", PrivateServer::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_killed_and_comes_back() {
    a_broker_is_killed("rabbitmq", "ADIT_TEST_RABBITMQ_URL", BrokerKind::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activemq_is_killed_and_comes_back() {
    a_broker_is_killed("activemq", "ADIT_TEST_ACTIVEMQ_URL", BrokerKind::ActiveMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_restarted() {
    let Some(mut server) = PrivateServer::start("postgres", "ADIT_TEST_POSTGRES_URL") else { return };
    let Some(deployment) = Deployment::with(Private { database: Some(&server), ..Private::default() }).await else {
        return;
    };
    an_outage(&deployment, &mut server, "database", PrivateServer::stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_is_killed_and_comes_back() {
    let Some(mut server) = PrivateServer::start("seaweedfs", "ADIT_TEST_S3_URL") else { return };
    let Some(deployment) = Deployment::with(Private { store: Some(&server), ..Private::default() }).await else {
        return;
    };
    an_outage(&deployment, &mut server, "object store", PrivateServer::kill).await;
}
