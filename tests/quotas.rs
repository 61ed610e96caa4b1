//! Quotas that several API processes share, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::domain::Allowance;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Api, BrokerKind, Client, DatabaseKind, Deployment, StoreKind, eventually, expect, import_noise, last_line, small,
    succeed, text, write_collection,
};

/// Clients of each process.
const CLIENTS: usize = 12;
/// Documents of the day, for each of the keys.
const DOCUMENTS: u64 = 2000;
/// Documents that are imported: for each answer one, refusals too.
const IMPORTED: u64 = DOCUMENTS + 300;
/// Requests of a minute.
const REQUESTS: u64 = 1000;
/// What one process may hold of them at once: a killed one loses no more.
const LEASE: u64 = DOCUMENTS / 256;
/// What a storm may take, in milliseconds; none begins so shortly before a window ends.
const STORM_MS: i64 = 50_000;

/// One answer to a client.
struct Answer {
    sent: Instant,
    received: Instant,
    granted: bool,
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    answers: Vec<Answer>,
    /// Requests that were never answered.
    lost: u64,
}

impl Seen {
    fn granted(&self) -> u64 {
        self.answers.iter().filter(|answer| answer.granted).count() as u64
    }

    /// Nobody was refused while something was left: whoever asked after a refusal had been told was refused as well.
    fn must_be_fair(&self) {
        let refused = self.answers.iter().filter(|answer| !answer.granted).map(|answer| answer.received).min();
        let last = self.answers.iter().filter(|answer| answer.granted).map(|answer| answer.sent).max();
        let (first_refusal, last_grant) = (refused.unwrap(), last.unwrap());
        assert!(last_grant <= first_refusal, "granted {:?} after a refusal", last_grant - first_refusal);
    }
}

/// What clients ask for, one after the other.
type Paths = Arc<dyn Fn() -> String + Send + Sync>;

/// The same each time.
fn always(path: &'static str) -> Paths {
    Arc::new(move || path.to_owned())
}

/// Another document each time: the same one costs once.
fn each_document() -> Paths {
    let next = AtomicU64::new(1);
    Arc::new(move || format!("/api/documents/{}/text", next.fetch_add(1, Ordering::Relaxed)))
}

/// A client asks again and again until it is refused, or until its server is gone.
async fn ask_until_refused(server: Client, key: String, paths: Paths) -> Seen {
    let mut seen = Seen::default();
    loop {
        let sent = Instant::now();
        let Ok(response) = server.request_as(Some(&key), reqwest::Method::GET, &paths()).send().await else {
            seen.lost += 1;
            return seen;
        };
        let (status, refused) = (response.status(), response.headers().contains_key("retry-after"));
        let Ok(body) = response.bytes().await else {
            seen.lost += 1;
            return seen;
        };
        let granted = status == 200;
        assert!(granted || status == 429 && refused, "{status}: {}", String::from_utf8_lossy(&body));
        seen.answers.push(Answer { sent, received: Instant::now(), granted });
        if !granted {
            return seen;
        }
    }
}

/// Lets many clients of all processes loose on one key.
async fn storm(apis: &[&Client], key: &str, paths: Paths) -> Seen {
    let clients = apis.iter().flat_map(|api| std::iter::repeat_n(*api, CLIENTS));
    let running: Vec<_> =
        clients.map(|api| tokio::spawn(ask_until_refused(api.clone(), key.to_owned(), paths.clone()))).collect();
    let mut all = Seen::default();
    for seen in join_all(running).await {
        let seen = seen.unwrap();
        all.answers.extend(seen.answers);
        all.lost += seen.lost;
    }
    all
}

/// Waits until a window has so many milliseconds left; tells when it ends.
async fn window(allowance: Allowance, needed: i64) -> i64 {
    loop {
        let now = SystemClock.now_ms();
        let end = allowance.window_end(now);
        if end - now >= needed {
            return end;
        }
        tokio::time::sleep(Duration::from_millis(u64::try_from(end - now).unwrap())).await;
    }
}

fn key(deployment: &Deployment, limits: &[&str]) -> String {
    last_line(&deployment.succeed(&[&["keys", "create", "storm"], limits].concat()))
}

async fn me(server: &Client, key: &str) -> Value {
    expect(server.request_as(Some(key), reqwest::Method::GET, "/api/me").send().await.unwrap(), 200).await
}

const TEXT: &str = "/api/documents/1/text";

async fn documents_of_a_day(deployment: &Deployment, apis: &[&Client]) {
    let key = key(deployment, &["--quota", &DOCUMENTS.to_string(), "--per-minute", "unlimited"]);
    window(Allowance::Documents, STORM_MS).await;
    let seen = storm(apis, &key, each_document()).await;
    assert_eq!((seen.granted(), seen.lost), (DOCUMENTS, 0));
    seen.must_be_fair();
    for api in apis {
        let me = me(api, &key).await;
        assert_eq!((&me["remaining"], &me["usage"][0]["documents"]), (&json!(0), &json!(DOCUMENTS)));
    }
}

/// Parts of the same files through all processes are charged once, and go on through each of them
/// when nothing is left.
async fn parts_of_files(deployment: &Deployment, apis: &[&Client]) {
    let key = key(deployment, &["--quota", "3", "--per-minute", "unlimited"]);
    window(Allowance::Documents, STORM_MS).await;
    let found = apis[0].search("big", &json!({"query": "*"})).await;
    let files: Vec<String> = found["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| format!("/api/documents/{}/files/pdf", found["id"]))
        .collect();
    assert_eq!(files.len(), 3);
    let part = async |api: &Client, path: &str, from: u64| {
        let request = api.request_as(Some(&key), reqwest::Method::GET, path);
        let answer = request.header("range", format!("bytes={from}-{}", from + 99)).send().await.unwrap();
        answer.status().as_u16()
    };
    for (number, file) in files.iter().enumerate() {
        assert_eq!(part(apis[number], file, 1000).await, 206);
    }
    let store = deployment.store().await;
    let day = Allowance::Documents.window(SystemClock.now_ms());
    let hash = adit_shared::domain::secret_hash(&key);
    let mut parts = Vec::new();
    for file in &files {
        for api in apis {
            parts.extend((0..10).map(|n| part(api, file, n * 7)));
        }
    }
    assert!(join_all(parts).await.iter().all(|status| *status == 206), "all of it was paid for");
    eventually("it is charged once", || async {
        let store: &dyn adit_shared::store::Store = &store;
        (store.caller(&hash, day).await.unwrap().unwrap().1 == 3).then_some(())
    })
    .await;
    for api in apis {
        let api: &Client = api;
        assert_eq!(part(api, "/api/documents/1/files/txt", 0).await, 429);
        assert_eq!(part(api, &files[0], 5).await, 206);
    }
}

async fn requests_of_a_minute(deployment: &Deployment, apis: &[&Client]) {
    let key = key(deployment, &["--per-minute", &REQUESTS.to_string()]);
    // A machine that is so slow that the minute passes meanwhile is given another one.
    for _ in 0..5 {
        let end = window(Allowance::Requests, STORM_MS).await;
        let seen = storm(apis, &key, always("/api/documents/1")).await;
        if SystemClock.now_ms() < end {
            assert_eq!((seen.granted(), seen.lost), (REQUESTS, 0));
            seen.must_be_fair();
            return;
        }
    }
    panic!("{REQUESTS} requests never fitted into a minute");
}

async fn a_killed_process(deployment: &Deployment, apis: [Api; 3]) {
    let key = key(deployment, &["--quota", &DOCUMENTS.to_string(), "--per-minute", "unlimited"]);
    window(Allowance::Documents, STORM_MS).await;
    let [killed, stays, stays_too] = apis;
    let clients = [killed.client.clone(), stays.client.clone(), stays_too.client.clone()];
    let killing = async {
        let store = deployment.store().await;
        let hash = adit_shared::domain::secret_hash(&key);
        let day = Allowance::Documents.window(SystemClock.now_ms());
        let store: Arc<dyn adit_shared::store::Store> = Arc::new(store);
        eventually("a third is taken", || async {
            let (_, taken) = store.caller(&hash, day).await.unwrap().unwrap();
            (taken > DOCUMENTS / 3).then_some(())
        })
        .await;
        killed.process.kill();
    };
    let apis: Vec<&Client> = clients.iter().collect();
    let (seen, ()) = tokio::join!(storm(&apis, &key, each_document()), killing);
    seen.must_be_fair();
    let (granted, lost) = (seen.granted(), seen.lost);
    assert!(granted <= DOCUMENTS && granted + lost + LEASE >= DOCUMENTS, "{granted} granted, {lost} unanswered");
    for process in [stays.process, stays_too.process] {
        assert!(process.stop().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_over_three_processes_under_load() {
    let parts = Deployment::new(BrokerKind::RabbitMq, DatabaseKind::Postgres, StoreKind::Folder);
    let Some(deployment) = parts.await else { return };
    let refs: Vec<String> = (0..IMPORTED).map(|number| format!("doc.{number}")).collect();
    let documents: Vec<_> = refs.iter().map(|r#ref| text(r#ref, "On copper", "copper")).collect();
    deployment.import(&write_collection(deployment.folder(), "c", &documents));
    import_noise(&deployment, 3);
    let apis = ["api-1", "api-2", "api-3"].map(|name| deployment.machine(name).api(&[]));
    let clients: Vec<&Client> = apis.iter().map(|api| &api.client).collect();
    documents_of_a_day(&deployment, &clients).await;
    parts_of_files(&deployment, &clients).await;
    requests_of_a_minute(&deployment, &clients).await;
    a_killed_process(&deployment, apis).await;
}

#[tokio::test]
async fn limits_are_of_roles_and_of_keys() {
    let (_dir, server) = small(&[]);
    let adit = |arguments: &[&str]| succeed(&server.data, arguments);
    assert!(adit(&["keys", "limits"]).lines().any(|line| line.split_whitespace().eq([
        "miner",
        "unlimited",
        "6000",
        "10000",
        "1000",
        "20",
        "1099511627776"
    ])));
    adit(&["keys", "limits", "miner", "--quota", "7"]);
    let key = server.new_key("small", &["--per-minute", "100", "--docsets", "1"]);
    let shown = me(&server, &key).await;
    assert_eq!((&shown["quota"], &shown["package"]), (&json!(7), &json!(null)));
    let documents = &shown["allowances"]["documents"];
    assert_eq!((&documents["own"], &documents["limit"], &documents["used"]), (&json!(false), &json!(7), &json!(0)));
    let requests = &shown["allowances"]["requests"];
    assert_eq!(
        (&requests["own"], &requests["limit"], &requests["role_limit"]),
        (&json!(true), &json!(100), &json!(6000))
    );
    let docsets = &shown["holdings"]["docsets"];
    assert_eq!((&docsets["limit"], &docsets["own"], &docsets["role_limit"]), (&json!(1), &json!(true), &json!(10_000)));
    let listed = adit(&["keys", "list"]);
    let line = listed.lines().find(|line| line.contains("small [docsets 1,")).unwrap();
    let id = line.split_whitespace().next().unwrap();
    assert!(line.contains(" 7 ") && line.contains(" 100*"), "{line}");
    adit(&["keys", "set", id, "--quota", "unlimited", "--per-minute", "role"]);
    let shown = me(&server, &key).await;
    assert_eq!((&shown["quota"], &shown["allowances"]["requests"]["limit"]), (&json!(null), &json!(6000)));

    adit(&["keys", "set", id, "--quota", "6", "--docsets", "role"]);
    adit(&["keys", "limits", "miner", "--unfinished", "5"]);
    assert_eq!(me(&server, &key).await["holdings"]["unfinished"]["limit"], 5);
    let get = async |path: &str| server.request_as(Some(&key), reqwest::Method::GET, path).send().await.unwrap();
    let docset = server.request_as(Some(&key), reqwest::Method::POST, "/api/docsets");
    let docset = expect(docset.json(&json!({"collection": "c", "query": "*"})).send().await.unwrap(), 201).await;
    let estimate = format!("/api/docsets/{}/estimate", docset["id"]);
    let estimated = expect(get(&estimate).await, 200).await;
    assert_eq!((&estimated["cost"], &estimated["quota_after"]), (&json!(5), &json!(1)));
    let cost = expect(get(&format!("/api/me?docset={}", docset["id"])).await, 200).await;
    assert_eq!(cost["package"], json!({"docset": docset["id"], "cost": 5, "quota_after": 1}));
    let package =
        server.request_as(Some(&key), reqwest::Method::POST, &format!("/api/docsets/{}/packages", docset["id"]));
    let asked = expect(package.json(&json!({})).send().await.unwrap(), 202).await;
    assert_eq!((&asked["cost"], &asked["quota_after"]), (&json!(5), &json!(1)));
    let estimated = expect(get(&estimate).await, 200).await;
    assert_eq!((&estimated["cost"], &estimated["quota_after"]), (&json!(0), &json!(1)), "it is paid for");
    let answer = get(&format!("{estimate}?layout=bag")).await;
    let ours = answer.headers()["ratelimit-policy"].to_str().unwrap().to_owned();
    assert_eq!(ours, "\"documents\";q=6;w=86400;qu=\"documents\", \"requests\";q=6000;w=60");
    assert_eq!(expect(answer, 200).await["quota_after"], -4);
}

#[tokio::test]
async fn every_request_with_a_key_is_counted_once() {
    let (_dir, server) = small(&[]);
    let key = server.new_key("few", &["--per-minute", "6"]);
    window(Allowance::Requests, 20_000).await;
    let ask = async |method: reqwest::Method, path: &str| {
        let answer = server.request_as(Some(&key), method, path).send().await.unwrap();
        let left = answer.headers().get("ratelimit").map(|left| left.to_str().unwrap().to_owned());
        let left = left.map(|left| left.split([';', '=']).nth(2).unwrap().parse::<u64>().unwrap());
        (answer.status().as_u16(), left)
    };
    let get = reqwest::Method::GET;
    assert_eq!(ask(get.clone(), "/api/collections").await, (200, Some(5)), "where no key is needed, too");
    assert_eq!(ask(get.clone(), "/api/docsets/99").await, (404, Some(4)));
    assert_eq!(ask(get.clone(), "/api/docsets?limit=x").await, (400, Some(3)));
    assert_eq!(ask(get.clone(), "/api/nowhere").await, (404, Some(2)));
    assert_eq!(ask(reqwest::Method::PUT, "/api/me").await, (405, Some(1)));
    assert_eq!(ask(get.clone(), "/healthz").await, (200, None), "the service's own pages are not counted");
    assert_eq!(ask(get.clone(), "/api/me").await, (200, Some(0)));
    assert_eq!(ask(get.clone(), "/api/me").await, (429, Some(0)));
    assert_eq!(ask(get, "/api/collections").await, (429, Some(0)));
    let refused = server.request_as(Some(&key), reqwest::Method::GET, "/api/me").send().await.unwrap();
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<i64>().unwrap() <= 60);
    let problem = expect(refused, 429).await;
    assert_eq!(
        (&problem["type"], &problem["violated-policies"]),
        (&json!("urn:adit:problem:quota-spent"), &json!(["requests"]))
    );
    assert_eq!(server.get("/api/me").await.headers().get("ratelimit"), None, "an operator is unlimited");
}

#[tokio::test]
async fn use_is_reported_in_the_terms_of_counter() {
    let (_dir, server) = small(&[]);
    let key = server.new_key("miner", &[]);
    let get = async |path: &str| server.request_as(Some(&key), reqwest::Method::GET, path).send().await.unwrap();
    let bytes = get(TEXT).await.bytes().await.unwrap().len() + get(TEXT).await.bytes().await.unwrap().len();
    server.search("c", &json!({"query": "copper"})).await;
    assert_eq!(get("/api/usage").await.status(), 403, "it is for operators");
    let data = server.data.clone();
    assert!(server.stop().success());
    let report: Value = serde_json::from_str(&succeed(&data, &["usage"])).unwrap();
    let item = &report["Report_Items"][0];
    assert_eq!(
        (&report["Report_Header"]["Release"], &item["Item_ID"]["Proprietary"]),
        (&json!("5.1"), &json!("adit:c"))
    );
    let month = &report["Report_Header"]["Report_Filters"]["Begin_Date"].as_str().unwrap()[..7];
    let count = |kind: usize, metric: &str| item["Attribute_Performance"][kind]["Performance"][metric][month].as_u64();
    assert_eq!(item["Attribute_Performance"][0]["Access_Method"], "TDM");
    assert_eq!(count(0, "Searches_Regular"), Some(1));
    assert_eq!(count(1, "Total_Item_Requests"), Some(2));
    assert!(count(1, "Unique_Item_Requests").is_some_and(|unique| unique <= 2), "1, unless a new hour began between");
    assert_eq!(
        (count(1, "adit:Documents_Charged"), count(1, "adit:Bytes")),
        (Some(1), Some(bytes as u64)),
        "read twice, and paid for once"
    );
    let table = succeed(&data, &["usage", "--csv", "--month", month, "--collection", "c"]);
    assert!(table.contains(",,,Adit,adit:c,Database_Full,TDM,Searches_Regular,1,1\r\n"), "{table}");
    let nothing: Value = serde_json::from_str(&succeed(&data, &["usage", "--month", "2020-02"])).unwrap();
    assert_eq!(nothing["Report_Items"], json!([]));
}
