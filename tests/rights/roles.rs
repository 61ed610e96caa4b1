//! Every operation of the contract, asked for by every role with whole, narrowed, expired and
//! revoked keys, by an unknown key and without one. Who is refused is told why, and changes
//! nothing; who is not gets what the operation gives.

use std::collections::{BTreeMap, BTreeSet};

use adit_shared::ids::KeyId;
use adit_shared::store::{SqlStore, Store as _};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use super::Site;
use super::walk::{SLUG, operations};
use crate::support::{Client, StoreKind, expect};

/// What an operation needs, in this test's own words.
#[derive(Debug, Clone, Copy)]
enum Needs {
    Nothing,
    /// Nothing; but whoever shows a key must show one with this scope.
    NothingOr(&'static str),
    AnyKey,
    OneOf(&'static [&'static str]),
}
use Needs::{AnyKey, Nothing, NothingOr, OneOf};

/// What was decided for each operation. The program has a table of its own; this one is written out
/// by hand, to be compared with it.
const EXPECTED: [(&str, Needs); 44] = [
    ("checkPackage", OneOf(&["packages:read"])),
    ("createDocset", OneOf(&["docsets:write"])),
    ("createPackage", OneOf(&["packages:write"])),
    ("createWatch", OneOf(&["watches"])),
    ("deleteDocset", OneOf(&["docsets:write"])),
    ("deletePackage", OneOf(&["packages:write"])),
    ("deleteWatch", OneOf(&["watches"])),
    ("diffDocset", OneOf(&["docsets:read"])),
    ("downloadAsset", OneOf(&["packages:read"])),
    ("downloadPackage", OneOf(&["packages:read"])),
    ("dumpDocset", OneOf(&["packages:write"])),
    ("estimatePackage", OneOf(&["docsets:read"])),
    ("followLink", Nothing),
    ("followPackage", OneOf(&["packages:read"])),
    ("followShare", OneOf(&["docsets:write"])),
    ("getCollection", Nothing),
    ("getCollectionSchema", Nothing),
    ("getDocset", OneOf(&["docsets:read"])),
    ("getDocument", Nothing),
    ("getDocumentFile", OneOf(&["documents:read"])),
    ("getDocumentText", OneOf(&["documents:read"])),
    ("getHealth", Nothing),
    ("getManifest", OneOf(&["build"])),
    ("getMe", AnyKey),
    ("getMetrics", OneOf(&["usage"])),
    ("getPackage", OneOf(&["packages:read", "build"])),
    ("getPublicKeys", Nothing),
    ("getReadiness", Nothing),
    ("getShared", OneOf(&["docsets:read"])),
    ("getUsage", OneOf(&["usage"])),
    ("getWatch", OneOf(&["watches"])),
    ("listAssets", OneOf(&["packages:read"])),
    ("listCatalog", OneOf(&["docsets:read"])),
    ("listCollections", Nothing),
    ("listDocsets", OneOf(&["docsets:read"])),
    ("listMembers", OneOf(&["docsets:read"])),
    ("listShares", OneOf(&["docsets:write"])),
    ("listWatches", OneOf(&["watches"])),
    ("listWithdrawals", OneOf(&["packages:read"])),
    ("refreshDocset", OneOf(&["docsets:write"])),
    ("renameDocset", OneOf(&["docsets:write"])),
    ("revokeShare", OneOf(&["docsets:write"])),
    ("search", NothingOr("search")),
    ("shareDocset", OneOf(&["docsets:write"])),
];

/// What each role may do at most.
const ROLES: [(&str, &[&str]); 3] = [
    (
        "miner",
        &["search", "documents:read", "docsets:read", "docsets:write", "packages:read", "packages:write", "watches"],
    ),
    ("packager", &["build"]),
    (
        "operator",
        &[
            "search",
            "documents:read",
            "docsets:read",
            "docsets:write",
            "packages:read",
            "packages:write",
            "watches",
            "usage",
            "build",
        ],
    ),
];

/// How a walker stands.
#[derive(Debug, Clone)]
enum Standing {
    NoKey,
    /// Its key is refused wherever it is shown, for this kind of problem.
    Invalid(&'static str),
    /// It has these scopes.
    Has(Vec<&'static str>),
}

/// What an operation must answer to a walker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedAnswer {
    Given,
    Refused(u16, &'static str),
}

/// The answer by the table above.
fn expected(needs: Needs, standing: &Standing, path: &str) -> ExpectedAnswer {
    let no_scope = ExpectedAnswer::Refused(403, "forbidden");
    match (standing, needs) {
        // The service's own pages know no keys.
        (Standing::Invalid(_), Nothing) if !path.starts_with("/api/") => ExpectedAnswer::Given,
        (Standing::Invalid(kind), _) => ExpectedAnswer::Refused(401, kind),
        (Standing::NoKey, Nothing | NothingOr(_)) | (Standing::Has(_), Nothing | AnyKey) => ExpectedAnswer::Given,
        (Standing::NoKey, _) => ExpectedAnswer::Refused(401, "unauthorized"),
        (Standing::Has(scopes), NothingOr(scope)) if scopes.contains(&scope) => ExpectedAnswer::Given,
        (Standing::Has(scopes), OneOf(any)) if any.iter().any(|scope| scopes.contains(scope)) => ExpectedAnswer::Given,
        (Standing::Has(_), _) => no_scope,
    }
}

/// A request: method, path, body, and the statuses of success.
type Asked = (Method, String, Option<Value>, &'static [u16]);

/// Things of the miner's that are walked on; the spare ones are deleted.
struct Things {
    document: i64,
    docset: i64,
    spare_docset: i64,
    package: i64,
    spare_package: i64,
    watch: i64,
    spare_watch: i64,
    share: String,
    spare_share: i64,
    /// A link to an asset, which an operator has asked for.
    link: String,
}

impl Things {
    async fn make(site: &Site, miner: &Client) -> Self {
        let docset = miner.docset(SLUG, "*").await;
        let spare_docset = miner.docset(SLUG, "title:work").await;
        let package = miner.package(docset, &json!({"formats": ["txt"]})).await;
        let spare_package = miner.package(docset, &json!({"formats": ["meta"]})).await;
        assert_eq!((&package["status"], &spare_package["status"]), (&json!("successful"), &json!("successful")));
        let (package, spare_package) = (package["id"].as_i64().unwrap(), spare_package["id"].as_i64().unwrap());
        let watch = async || {
            let made = miner.post(&format!("/api/collections/{SLUG}/watch"), &json!({"query": "*"})).await;
            expect(made, 201).await["id"].as_i64().unwrap()
        };
        let share = async || expect(miner.post(&format!("/api/docsets/{docset}/share"), &json!({})).await, 201).await;
        let shared = share().await["link"].as_str().unwrap().to_owned();
        let assets = site.api.client.json(&format!("/api/packages/{package}/assets")).await;
        let path = |url: &str| url.trim_start_matches(&site.api.client.url).to_owned();
        Self {
            document: site.documents[0],
            docset,
            spare_docset,
            package,
            spare_package,
            watch: watch().await,
            spare_watch: watch().await,
            share: path(&shared),
            spare_share: share().await["id"].as_i64().unwrap(),
            link: path(assets["assets"][0]["link"].as_str().unwrap()),
        }
    }

    /// A request for an operation that must succeed for whoever has the right; with the statuses of
    /// success.
    fn request(&self, operation: &str) -> Asked {
        let collection = |end: &str| format!("/api/collections/{SLUG}{end}");
        let document = |end: &str| format!("/api/documents/{}{end}", self.document);
        let docset = |end: &str| format!("/api/docsets/{}{end}", self.docset);
        let package = |end: &str| format!("/api/packages/{}{end}", self.package);
        let get = |path: String| -> Asked { (Method::GET, path, None, &[200]) };
        let post = |path: String, body: Value, statuses: &'static [u16]| -> Asked {
            (Method::POST, path, Some(body), statuses)
        };
        let delete = |path: String, statuses: &'static [u16]| -> Asked { (Method::DELETE, path, None, statuses) };
        match operation {
            "listCollections" => get("/api/collections".to_owned()),
            "getCollection" => get(collection("")),
            "getCollectionSchema" => get(collection("/schema")),
            "search" => post(collection("/search"), json!({"query": "*"}), &[200]),
            "createWatch" => post(collection("/watch"), json!({"query": "*"}), &[201]),
            "getDocument" => get(document("")),
            "getDocumentText" => get(document("/text")),
            "getDocumentFile" => get(document("/files/txt")),
            "listDocsets" => get("/api/docsets".to_owned()),
            "createDocset" => {
                post("/api/docsets".to_owned(), json!({"collection": SLUG, "query": "*", "name": "new"}), &[201])
            }
            "getDocset" => get(docset("")),
            "renameDocset" => (Method::PATCH, docset(""), Some(json!({"name": "other"})), &[200]),
            "deleteDocset" => delete(format!("/api/docsets/{}", self.spare_docset), &[204]),
            "listMembers" => get(docset("/members")),
            "listCatalog" => get(docset("/catalog")),
            "diffDocset" => get(docset(&format!("/diff?since={}", self.docset))),
            "estimatePackage" => get(docset("/estimate")),
            "dumpDocset" => (Method::GET, docset("/dump?fmts=pdf"), None, &[202, 303]),
            "getManifest" => get(docset("/manifest?fmt=txt")),
            "createPackage" => post(docset("/packages"), json!({"formats": ["xml"]}), &[200, 202]),
            "refreshDocset" => (Method::POST, docset("/refresh"), None, &[200, 201]),
            "shareDocset" => post(docset("/share"), json!({}), &[201]),
            "listShares" => get(docset("/share")),
            "revokeShare" => delete(docset(&format!("/share/{}", self.spare_share)), &[204]),
            "getShared" => get(self.share.clone()),
            "followShare" => post(self.share.clone(), json!({}), &[200]),
            "getPackage" => get(package("")),
            "followPackage" => get(package("/events")),
            "listAssets" => get(package("/assets")),
            "checkPackage" => (Method::POST, package("/check"), None, &[200]),
            "downloadAsset" => get(package("/assets/manifest.json")),
            "downloadPackage" => get(package("/download")),
            "listWithdrawals" => get(package("/withdrawals")),
            "deletePackage" => delete(format!("/api/packages/{}", self.spare_package), &[200]),
            "followLink" => get(self.link.clone()),
            "listWatches" => get("/api/watches".to_owned()),
            "getWatch" => get(format!("/api/watches/{}", self.watch)),
            "deleteWatch" => delete(format!("/api/watches/{}", self.spare_watch), &[204]),
            "getMe" => get("/api/me".to_owned()),
            "getUsage" => get("/api/usage".to_owned()),
            "getPublicKeys" => get("/.well-known/jwks.json".to_owned()),
            "getHealth" => get("/healthz".to_owned()),
            "getReadiness" => get("/readyz".to_owned()),
            "getMetrics" => get("/metrics".to_owned()),
            new => panic!("the contract has an operation {new}; teach this walk how it is asked for, and who may"),
        }
    }
}

/// All that a request could change: rows, objects and queues. What counts requests is left out.
#[derive(Debug, PartialEq, Eq)]
struct State {
    rows: BTreeMap<String, BTreeSet<String>>,
    objects: BTreeSet<(String, u64)>,
    queues: Value,
}

impl State {
    async fn of(site: &Site) -> Self {
        let queues = serde_json::from_str(&site.deployment.succeed(&["queues", "--json"])).unwrap();
        Self { rows: Self::rows(site).await, objects: Self::objects(site), queues }
    }

    async fn rows(site: &Site) -> BTreeMap<String, BTreeSet<String>> {
        let mut database = SqliteConnection::connect(site.deployment.setting("ADIT_DATABASE_URL")).await.unwrap();
        let mut strings = async |sql: String| -> Vec<String> {
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut database).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        };
        let mut all = BTreeMap::new();
        for table in strings("SELECT name FROM sqlite_schema WHERE type = 'table'".to_owned()).await {
            if ["allowances", "usage_counts"].contains(&table.as_str()) {
                continue;
            }
            let columns = strings(format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let columns: Vec<String> = columns
                .into_iter()
                .filter(|column| (table.as_str(), column.as_str()) != ("api_keys", "last_used"))
                .map(|column| format!("quote(\"{column}\")"))
                .collect();
            let rows = strings(format!("SELECT {} FROM \"{table}\"", columns.join(" || ',' || "))).await;
            all.insert(table, rows.into_iter().collect());
        }
        all
    }

    fn objects(site: &Site) -> BTreeSet<(String, u64)> {
        let (mut objects, mut folders) = (BTreeSet::new(), vec![site.deployment.data.join("objects")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => _ = objects.insert((path.display().to_string(), entry.metadata().unwrap().len())),
                }
            }
        }
        objects
    }
}

/// Waits until all packages are terminal, so that nothing changes by itself.
async fn rest(site: &Site, store: &SqlStore) {
    for docset in store.docsets(None, None, 10_000).await.unwrap() {
        for package in store.packages_of(docset.id).await.unwrap() {
            if !package.status.is_terminal() {
                site.api.client.finished(package.id.0).await;
            }
        }
    }
}

/// A walker: a name for messages, its key, and how it stands.
struct Walker<'a> {
    name: String,
    key: Option<&'a str>,
    standing: Standing,
}

/// Asks for every operation; what must be refused comes first, and leaves everything as it was.
/// Gives the number of operations.
async fn walk(site: &Site, store: &SqlStore, things: &Things, walker: &Walker<'_>) -> usize {
    let (mut refused, mut given) = (Vec::new(), Vec::new());
    for (operation, needs) in EXPECTED {
        let (_, path, ..) = things.request(operation);
        match expected(needs, &walker.standing, &path) {
            ExpectedAnswer::Given => given.push((operation, needs)),
            ExpectedAnswer::Refused(status, kind) => refused.push((operation, needs, status, kind)),
        }
    }
    rest(site, store).await;
    let before = State::of(site).await;
    for (operation, needs, status, kind) in &refused {
        let (method, path, body, _) = things.request(operation);
        let who = format!("{operation} by {}", walker.name);
        let answer = ask(site, walker, method.clone(), &path, body.as_ref()).await;
        let problem = expect(answer, *status).await;
        assert_eq!(problem["type"], format!("urn:adit:problem:{kind}"), "{who}: {problem}");
        if *status == 403 {
            let scopes = match needs {
                OneOf(scopes) => json!(scopes),
                NothingOr(scope) => json!([scope]),
                Nothing | AnyKey => panic!("{who}: no scope is needed"),
            };
            assert_eq!(problem["scopes"], scopes, "{who}");
        }
        if method == Method::GET {
            assert_eq!(ask(site, walker, Method::HEAD, &path, None).await.status(), *status, "HEAD for {who}");
        }
    }
    assert_eq!(State::of(site).await, before, "what was refused to {} changed something", walker.name);
    for (operation, _) in &given {
        let (method, path, body, statuses) = things.request(operation);
        let answer = ask(site, walker, method, &path, body.as_ref()).await;
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(statuses.contains(&status), "{operation} by {}: {status} {text}", walker.name);
    }
    refused.len() + given.len()
}

async fn ask(site: &Site, walker: &Walker<'_>, method: Method, path: &str, body: Option<&Value>) -> reqwest::Response {
    let request = site.api.client.request_as(walker.key, method, path);
    body.iter().fold(request, |request, body| request.json(body)).send().await.unwrap()
}

/// A key of each role, with its number.
async fn keys(site: &Site) -> Vec<(&'static str, &'static [&'static str], String, i64)> {
    let mut keys = Vec::new();
    for (role, scopes) in ROLES {
        let key = site.key(&["--role", role]);
        let id = site.client(&key).json("/api/me").await["id"].as_i64().unwrap();
        keys.push((role, scopes, key, id));
    }
    keys
}

#[tokio::test]
async fn every_operation_is_given_to_whom_it_is_for_and_refused_to_everybody_else() {
    let site = Site::new(StoreKind::Folder).await.unwrap();
    let contract = site.api.client.json("/openapi.json").await;
    let names: Vec<String> = EXPECTED.map(|(operation, _)| operation.to_owned()).into();
    assert_eq!(operations(&contract), names, "who may use each operation is decided here, too");
    let store = site.deployment.store().await;
    let keys = keys(&site).await;
    let miner = site.client(&keys[0].2);
    let set = |id: i64, scope: &str| site.deployment.succeed(&["keys", "set", &id.to_string(), "--scope", scope]);
    let (mut combinations, mut walkers) = (0, 0);
    let mut walk_by = async |walker: Walker<'_>, things: &Things| {
        combinations += walk(&site, &store, things, &walker).await;
        walkers += 1;
    };

    let things = Things::make(&site, &miner).await;
    walk_by(Walker { name: "nobody".to_owned(), key: None, standing: Standing::NoKey }, &things).await;
    let unknown = Walker {
        name: "an unknown key".to_owned(),
        key: Some("adit_unknown"),
        standing: Standing::Invalid("unauthorized"),
    };
    walk_by(unknown, &things).await;
    for (role, scopes, key, id) in &keys {
        let things = Things::make(&site, &miner).await;
        let standing = Standing::Has(scopes.to_vec());
        walk_by(Walker { name: format!("a {role}"), key: Some(key), standing }, &things).await;
        for scope in *scopes {
            let things = Things::make(&site, &miner).await;
            set(*id, scope);
            let name = format!("a {role} with the scope {scope} alone");
            walk_by(Walker { name, key: Some(key), standing: Standing::Has(vec![*scope]) }, &things).await;
            set(*id, "role");
        }
    }
    // The miner comes last: the things are its own.
    let things = Things::make(&site, &miner).await;
    for (role, _, key, id) in keys.iter().rev() {
        assert!(store.set_key_expiry(KeyId(*id), Some(1)).await.unwrap());
        let standing = Standing::Invalid("key-expired");
        walk_by(Walker { name: format!("an expired {role}"), key: Some(key), standing }, &things).await;
    }
    for (role, _, key, id) in keys.iter().rev() {
        site.deployment.succeed(&["keys", "revoke", &id.to_string()]);
        let standing = Standing::Invalid("unauthorized");
        walk_by(Walker { name: format!("a revoked {role}"), key: Some(key), standing }, &things).await;
    }
    assert_eq!((walkers, combinations), (28, 28 * EXPECTED.len()));
    eprintln!("walked {combinations} combinations: {} operations by {walkers} walkers", EXPECTED.len());
}
