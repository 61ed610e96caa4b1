//! Several machines on one database and one object store: what one imports the others find, and one that is killed or held up does no harm.

mod proxy;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adit_shared::objects::{self, ObjectStore};
use adit_shared::store::{SqlStore, Store as _};
use futures::FutureExt as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use url::Url;

use self::proxy::{Proxy, Rule};
use crate::support::{adit, eventually, expect, last_line, noise, text, write_collection};

/// A database and a store that nobody else uses, a broker, and a folder in which machines have their data folders.
struct Site {
    dir: TempDir,
    database: Url,
    store: Url,
    broker: String,
}

/// Runs a case on a new site, and clears up after it.
#[expect(clippy::print_stdout, reason = "a test that does nothing must say so")]
async fn on_site(case: impl AsyncFnOnce(&Site)) {
    let variables = ["POSTGRES", "S3", "RABBITMQ"].map(|name| std::env::var(format!("ADIT_TEST_{name}_URL")).ok());
    let [Some(postgres), Some(s3), Some(broker)] = variables else {
        println!("skipped: several machines need PostgreSQL, S3 and RabbitMQ, which tests/run starts");
        return;
    };
    let name = format!("several_{:016x}", rand::random::<u64>());
    let (mut database, mut store): (Url, Url) = (postgres.parse().unwrap(), s3.parse().unwrap());
    database.query_pairs_mut().append_pair("options", &format!("-c search_path={name}"));
    store.set_path(&format!("{}/{name}", store.path()));
    let mut admin = PgConnection::connect(&postgres).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).await.unwrap();
    let site = Site { dir: tempfile::tempdir().unwrap(), database, store, broker };

    let outcome = AssertUnwindSafe(case(&site)).catch_unwind().await;
    admin.execute(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).await.unwrap();
    let objects = site.objects().await;
    objects.delete(&keys_below(&*objects, "").await).await.unwrap();
    if let Err(panicked) = outcome {
        resume_unwind(panicked);
    }
}

async fn keys_below(objects: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    objects.list(prefix).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

impl Site {
    async fn objects(&self) -> std::sync::Arc<dyn ObjectStore> {
        objects::open(self.store.as_str()).await.unwrap()
    }

    /// A new machine, with nothing in its data folder.
    fn machine(&self, name: &str) -> Machine<'_> {
        let data = self.dir.path().join(name);
        fs::create_dir(&data).unwrap();
        Machine { site: self, data, store: self.store.clone() }
    }

    /// A line to the object store.
    async fn line(&self, rule: Rule) -> Proxy {
        let (_, endpoint) = self.store.query_pairs().find(|(name, _)| name == "endpoint").unwrap();
        Proxy::to(endpoint.strip_prefix("http://").unwrap().to_owned(), rule).await
    }

    /// A folder of the collection `c` with essays of these numbers; `also` is a word that all of them hold.
    fn essays(&self, numbers: std::ops::Range<u64>, also: &str) -> PathBuf {
        // Enough different words that every file of the index has some length.
        let word = |bytes: &[u8]| format!("w{:08x}", u32::from_le_bytes(bytes.try_into().unwrap()));
        let words = |seed| noise(seed, 12_000).chunks_exact(4).map(word).collect::<Vec<_>>().join(" ");
        let essay = |number| format!("A treatise on mining, {also}. {}", words(number));
        let refs: Vec<String> = numbers.clone().map(|number| format!("essay.{number:02}")).collect();
        let titles: Vec<String> = numbers.clone().map(|number| format!("On pit {number}")).collect();
        let essays: Vec<String> = numbers.map(essay).collect();
        let documents: Vec<_> =
            refs.iter().zip(&titles).zip(&essays).map(|((name, title), essay)| text(name, title, essay)).collect();
        write_collection(self.dir.path(), "c", &documents)
    }
}

struct Machine<'a> {
    site: &'a Site,
    data: PathBuf,
    store: Url,
}

impl Machine<'_> {
    /// The same machine, but its way to the object store is this line.
    fn through(&self, line: &Proxy) -> Self {
        let mut store = self.store.clone();
        let pairs: Vec<(String, String)> =
            store.query_pairs().filter(|(name, _)| name != "endpoint").map(|(k, v)| (k.into(), v.into())).collect();
        let endpoint = format!("http://127.0.0.1:{}", line.port);
        store.query_pairs_mut().clear().extend_pairs(pairs).append_pair("endpoint", &endpoint);
        Self { site: self.site, data: self.data.clone(), store }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = adit(&self.data);
        command.env("ADIT_DATABASE_URL", self.site.database.as_str()).env("ADIT_STORE_URL", self.store.as_str());
        command.env("ADIT_BROKER_URL", &self.site.broker).args(arguments);
        command
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn import(&self, folder: &Path) -> String {
        self.succeed(&["import", folder.to_str().unwrap()])
    }

    fn start_import(&self, folder: &Path, flags: &[&str]) -> Child {
        let mut command = self.command(&["import", folder.to_str().unwrap()]);
        command.args(flags).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The index files that it has whole.
    fn cached(&self) -> BTreeSet<String> {
        entries(&self.data.join("cache/1/files"))
    }

    /// Its private folders of open indexes.
    fn scratches(&self) -> Vec<PathBuf> {
        let names = entries(&self.data.join("cache/1")).into_iter().filter(|name| name.starts_with("scratch-"));
        names.map(|name| self.data.join("cache/1").join(name)).collect()
    }

    fn api(&self) -> Api {
        let key = last_line(&self.succeed(&["keys", "create", "test", "--role", "operator"]));
        let log = File::options().create(true).append(true).open(self.data.join("log.txt")).unwrap();
        let mut command = self.command(&["--listen", "127.0.0.1:0", "api"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("Adit API on ").and_then(|url| url.strip_suffix("/api"));
        let url = url.unwrap_or_else(|| panic!("{line:?}; see {}", self.data.join("log.txt").display())).to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Api { child, url, key, http: reqwest::Client::new() }
    }
}

fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A running `adit api`. It is killed when it goes out of scope.
struct Api {
    child: Child,
    url: String,
    key: String,
    http: reqwest::Client,
}

impl Api {
    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.url)).header("x-api-key", &self.key);
        request.json(body).send().await.unwrap()
    }

    /// The answer to a search, without this process's own address in it.
    async fn search(&self, body: &Value) -> Value {
        let answer = expect(self.post("/api/collections/c/search", body).await, 200).await;
        serde_json::from_str(&answer.to_string().replace(&self.url, "")).unwrap()
    }

    /// Hits of a query, and the corpus version that they are from.
    async fn count(&self, query: &str) -> (u64, u64) {
        let answer = self.search(&json!({"query": query, "limit": 0})).await;
        (answer["hits"].as_u64().unwrap(), answer["corpus_version"].as_u64().unwrap())
    }

    async fn docset(&self, query: &str) -> Value {
        expect(self.post("/api/docsets", &json!({"collection": "c", "query": query})).await, 201).await
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_imports_the_others_find_on_their_next_request() {
    on_site(async |site| {
        site.machine("importer").import(&site.essays(0..30, "first"));
        let (a, b) = (site.machine("a").api(), site.machine("b").api());
        let pages = |cursor: &Value| json!({"query": "mining", "limit": 4, "facets": ["year"], "cursor": cursor});
        let first = a.search(&pages(&Value::Null)).await;
        assert_eq!((&first["hits"], &first["corpus_version"]), (&json!(30), &json!(1)));
        assert_eq!(first, b.search(&pages(&Value::Null)).await);
        let (of_a, of_b) = (a.docset("mining").await, b.docset("mining").await);
        for field in ["fingerprint", "corpus_version", "size", "bytes"] {
            assert!(!of_a[field].is_null());
            assert_eq!(of_a[field], of_b[field], "{field}");
        }
        // A page may come from another process than the one before.
        let second = b.search(&pages(&first["next"])).await;
        assert_eq!(second, a.search(&pages(&first["next"])).await);

        // A third machine has nothing of the version that it builds on.
        site.machine("another importer").import(&site.essays(28..32, "changed"));
        for api in [&a, &b] {
            assert_eq!(api.count("mining").await, (32, 2));
            assert_eq!(api.count("changed").await, (4, 2));
            assert_eq!(api.count("first").await, (28, 2));
            // Who has begun to page goes on in the version where they began.
            assert_eq!(api.search(&pages(&first["next"])).await, second);
        }
        assert_eq!(a.docset("*").await["fingerprint"], b.docset("*").await["fingerprint"]);
        assert_eq!(a.docset("first").await["size"], 28, "a docset of the newest version");

        site.machine("third importer").import(&site.essays(30..33, "again"));
        for api in [&a, &b] {
            expect(api.post("/api/collections/c/search", &pages(&first["next"])).await, 410).await;
            assert_eq!(api.count("mining").await, (33, 3));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_killed_while_it_fetched_an_index_starts_clean() {
    on_site(async |site| {
        site.machine("importer").import(&site.essays(0..30, "first"));
        let all = json!({"query": "mining", "limit": 50, "sort": "ref"});
        let (undisturbed, machine) = (site.machine("undisturbed"), site.machine("killed"));
        let expected = undisturbed.api().search(&all).await;

        let line = site.line(Rule { request: ("GET", "/files/"), pass: 2, answer: Some(40_000) }).await;
        let api = machine.through(&line).api();
        let request = tokio::spawn(api.http.post(format!("{}/api/collections/c/search", api.url)).json(&all).send());
        line.holds().await;
        let partial = || {
            machine.scratches().iter().flat_map(|scratch| fs::read_dir(scratch).unwrap()).any(|file| {
                let file = file.unwrap();
                file.path().is_file() && file.metadata().unwrap().len() > 0
            })
        };
        eventually("a part of a file is on the disk", async || partial().then_some(())).await;
        drop(api);
        assert!(request.await.unwrap().is_err(), "nothing was answered");
        let whole = machine.cached();
        assert!(whole.len() < undisturbed.cached().len() && whole.is_subset(&undisturbed.cached()));
        assert_eq!(machine.scratches().len(), 1, "what a killed process leaves");

        let line = site.line(Rule { request: ("GET", "/files/"), pass: usize::MAX, answer: None }).await;
        let api = machine.through(&line).api();
        assert_eq!(machine.scratches(), [] as [PathBuf; 0]);
        assert_eq!(api.search(&all).await, expected);
        assert_eq!(machine.cached(), undisturbed.cached());
        assert_eq!(machine.scratches().len(), 1);
        assert_eq!(line.seen(), undisturbed.cached().len() - whole.len(), "what was whole is not fetched again");
    })
    .await;
}

/// Holds up the import of corpus version 2 before its last step: the index's files are stored, the manifest is not.
const LAST_STEP: Rule = Rule { request: ("PUT", "/v0000000002"), pass: 0, answer: None };

#[tokio::test(flavor = "multi_thread")]
async fn of_two_imports_at_once_one_waits_or_is_told_and_nothing_is_lost() {
    on_site(async |site| {
        site.machine("importer").import(&site.essays(0..3, "old"));
        let line = site.line(LAST_STEP).await;
        let mut first = site.machine("first").through(&line).start_import(&site.essays(3..5, "one"), &[]);
        line.holds().await;

        let (second, folder) = (site.machine("second"), site.essays(4..7, "two"));
        let told = second.start_import(&folder, &[]).wait_with_output().unwrap();
        assert_eq!(told.status.code(), Some(75));
        let reason = String::from_utf8(told.stderr).unwrap();
        assert!(reason.contains("another import into this collection is running"), "{reason}");
        assert!(reason.contains("try again later, or wait with --wait"), "{reason}");
        let mut waiting = second.start_import(&folder, &["--wait"]);
        let mut said = String::new();
        BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "another import into c is running; waiting for it\n");

        line.release();
        assert!(first.wait().unwrap().success());
        assert!(waiting.wait().unwrap().success());
        let api = site.machine("api").api();
        for (query, hits) in [("mining", 7), ("old", 3), ("one", 1), ("two", 3)] {
            assert_eq!(api.count(query).await, (hits, 3), "{query}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_held_up_for_longer_than_its_lease_changes_nothing() {
    on_site(async |site| {
        let importer = site.machine("importer");
        importer.import(&site.essays(0..3, "old"));
        let line = site.line(LAST_STEP).await;
        let late = site.machine("late").through(&line).start_import(&site.essays(3..5, "late"), &[]);
        line.holds().await;
        signal(&late, "-STOP");
        // Its lease runs out, and another takes its place.
        importer.succeed(&["import", "--wait", site.essays(3..6, "winner").to_str().unwrap()]);
        let api = site.machine("api").api();
        assert_eq!(api.count("winner").await, (3, 2));

        line.release();
        signal(&late, "-CONT");
        let late = late.wait_with_output().unwrap();
        let said = String::from_utf8(late.stderr).unwrap();
        assert_eq!(late.status.code(), Some(1), "{said}");
        assert!(said.contains("overtaken"), "{said}");
        for api in [&api, &site.machine("fresh").api()] {
            for (query, hits) in [("mining", 6), ("winner", 3), ("late", 0)] {
                assert_eq!(api.count(query).await, (hits, 2), "{query}");
            }
        }

        // The next import removes what the late one could not, and nothing else.
        importer.import(&site.essays(6..7, "next"));
        assert_eq!(api.count("winner").await, (3, 3));
        let objects = site.objects().await;
        let store = SqlStore::open(site.database.as_str()).await.unwrap();
        let collection = store.collection("c").await.unwrap().unwrap();
        let packs: BTreeSet<String> = store.pack_keys(collection.id).await.unwrap().into_iter().collect();
        assert_eq!(keys_below(&*objects, "packs/").await, packs.into_iter().collect::<Vec<_>>());
        let kept = store.indexes(collection.id, 9).await.unwrap();
        let made_by: Vec<String> = kept.iter().map(|index| index.import.unwrap().to_string()).collect();
        store.close().await;
        for key in keys_below(&*objects, "indexes/").await {
            assert!(made_by.iter().any(|import| key.contains(import)), "{key} is of none of {made_by:?}");
        }
    })
    .await;
}
