//! Rights: a key gets what it is entitled to and nothing else, by whatever route; what a package leaves out for that, it says.

#[path = "rights/canaries.rs"]
mod canaries;
#[path = "rights/roles.rs"]
mod roles;
#[path = "rights/walk.rs"]
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::store::{NewCollection, SqlStore, Store as _};
use serde_json::{Value, json};

use self::canaries::{CLOSED, OPEN, RESTRICTED, WITHDRAWN, content};
use self::walk::{Others, SLUG, Walk};
use crate::support::{
    Api, BrokerKind, DatabaseKind, Deployment, Doc, StoreKind, expect, last_line, succeeded, unzip, write_collection,
};

/// A document whose every file has the canary.
fn document(r#ref: &'static str, access: Option<&str>, canary: &str) -> Doc<'static> {
    let mut metadata = json!({"title": "A work", "issued": "2020-05-01", "subject": ["mining"]});
    if let Some(access) = access {
        metadata["accessRights"] = json!(access);
    }
    Doc { r#ref, metadata, files: ["txt", "pdf", "xml"].map(|format| (format, content(canary))).to_vec() }
}

const METADATA_ONLY: &str = "http://purl.org/coar/access_right/c_14cb";

/// The collection when it was open in parts that are not open any more.
fn first() -> Vec<Doc<'static>> {
    let [own, press, old] = RESTRICTED;
    vec![
        document("open", None, OPEN),
        document("own", Some("restricted"), own),
        document("press", Some("restricted:press"), press),
        document("closed", Some(METADATA_ONLY), CLOSED),
        document("changed", Some("open"), old),
        document("gone", None, WITHDRAWN),
    ]
}

/// The same later.
fn second() -> Vec<Doc<'static>> {
    let mut documents = first();
    documents.retain(|document| document.r#ref != "changed");
    documents.push(document("changed", Some("http://purl.org/coar/access_right/c_16ec"), RESTRICTED[0]));
    documents
}

struct Site {
    deployment: Deployment,
    api: Api,
    /// All versions of all documents.
    documents: Vec<i64>,
}

impl Site {
    async fn new(store: StoreKind) -> Option<Self> {
        let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, store).await?;
        deployment.import(&write_collection(deployment.folder(), SLUG, &first()));
        let api = deployment.up(&[]);
        let mut documents = ids(&api).await;
        deployment.import(&write_collection(deployment.folder(), SLUG, &second()));
        documents.extend(ids(&api).await);
        documents.sort_unstable();
        documents.dedup();
        assert_eq!(documents.len(), 7, "one has two versions");
        deployment.succeed(&["withdraw", "gone", "--collection", SLUG, "--reason", "Retracted."]);
        Some(Self { deployment, api, documents })
    }

    /// A new key with these arguments.
    fn key(&self, arguments: &[&str]) -> String {
        last_line(&self.deployment.succeed(&[&["keys", "create", "walker"], arguments].concat()))
    }

    /// The same server for another key.
    fn client(&self, key: &str) -> crate::support::Client {
        crate::support::Client::new(&self.api.client.url, key)
    }

    /// Something of another's, with everything in it that anybody can have.
    async fn others(&self) -> Others {
        let docset = self.api.client.docset(SLUG, "*").await;
        let wish = json!({"formats": ["txt", "pdf", "xml", "meta"], "layout": "bag"});
        let package = self.api.client.package(docset, &wish).await;
        let (id, fingerprint) = (package["id"].as_i64().unwrap(), package["fingerprint"].as_str().unwrap());
        let shared = self.api.client.docset(SLUG, "title:work").await;
        let link = expect(self.api.client.post(&format!("/api/docsets/{shared}/share"), &json!({})).await, 201).await;
        let link = link["link"].as_str().unwrap().to_owned();
        Others { docset, package: id, fingerprint: fingerprint.to_owned(), shared, link }
    }

    async fn walk(&self, key: Option<&str>, others: &Others) -> BTreeMap<String, BTreeSet<&'static str>> {
        let mut walk = Walk::new(&self.api.client, key, &self.documents, others);
        walk.everything().await;
        walk.found
    }
}

/// Ids of the documents as they are now.
async fn ids(api: &Api) -> Vec<i64> {
    let found = api.client.search(SLUG, &json!({"query": "*", "limit": 100})).await;
    found["documents"].as_array().unwrap().iter().map(|document| document["id"].as_i64().unwrap()).collect()
}

fn everywhere(found: &BTreeMap<String, BTreeSet<&'static str>>) -> BTreeSet<&'static str> {
    found.values().flatten().copied().collect()
}

async fn nobody_gets_more_than_he_may(store: StoreKind) {
    let Some(site) = Site::new(store).await else { return };
    let others = site.others().await;
    let nothing = site.walk(None, &others).await;
    assert!(everywhere(&nothing).iter().all(|canary| *canary == OPEN), "without a key: {nothing:?}");
    for (role, expected) in [("miner", BTreeSet::from([OPEN])), ("packager", BTreeSet::new())] {
        let key = site.key(&["--role", role]);
        let found = site.walk(Some(&key), &others).await;
        assert_eq!(everywhere(&found), expected, "{role}: {found:?}");
    }
    // The same walk finds what there is to be found.
    let key = site.key(&["--entitlement", "press", "--entitlement", SLUG]);
    let found = site.walk(Some(&key), &others).await;
    assert_eq!(everywhere(&found), RESTRICTED.into_iter().chain([OPEN]).collect(), "{found:?}");
    for operation in
        ["getDocumentText", "getDocumentFile", "downloadAsset", "downloadPackage", "followLink", "dumpDocset"]
    {
        assert!(found[operation].contains(RESTRICTED[1]), "{operation} leads to texts, and none was found: {found:?}");
    }
}

#[tokio::test]
async fn no_operation_gives_what_a_key_may_not_have() {
    nobody_gets_more_than_he_may(StoreKind::Folder).await;
}

#[tokio::test]
async fn no_operation_gives_what_a_key_may_not_have_on_s3() {
    nobody_gets_more_than_he_may(StoreKind::S3).await;
}

#[tokio::test]
async fn who_may_not_have_a_file_is_told_why() {
    let site = Site::new(StoreKind::Folder).await.unwrap();
    let miner = site.client(&site.key(&["--entitlement", "press"]));
    assert_eq!(miner.json("/api/me").await["entitlements"], json!(["press"]));
    let answers = async |r#ref: &str, end: &str, status: u16| {
        let document = document_of(&site.api, r#ref).await;
        expect(miner.get(&format!("/api/documents/{}{end}", document["id"])).await, status).await
    };
    let own = answers("own", "/text", 403).await;
    assert_eq!((&own["type"], &own["entitlement"]), (&json!("urn:adit:problem:rights-missing"), &json!(SLUG)));
    let closed = answers("closed", "/files/txt", 403).await;
    assert_eq!((&closed["type"], &closed["entitlement"]), (&json!("urn:adit:problem:rights-missing"), &Value::Null));
    answers("closed", "/files/meta", 200).await;
    answers("press", "/files/pdf", 200).await;
    let shown = answers("press", "", 200).await;
    assert_eq!((&shown["access"], &shown["entitlement"]), (&json!("restricted"), &json!("press")));
    assert_eq!(answers("closed", "", 200).await["access"], "metadata");
    assert_eq!(answers("changed", "", 200).await["entitlement"], SLUG);

    // Entitlements hold from one request to the next.
    let key = last_line(&site.deployment.succeed(&["keys", "list"]));
    let id = key.split_whitespace().next().unwrap();
    site.deployment.succeed(&["keys", "grant", id, SLUG]);
    answers("own", "/text", 200).await;
    site.deployment.succeed(&["keys", "deny", id, SLUG]);
    answers("own", "/text", 403).await;
}

async fn document_of(api: &Api, r#ref: &str) -> Value {
    let found = api.client.search(SLUG, &json!({"query": format!("ref:{}", r#ref), "limit": 1})).await;
    found["documents"][0].clone()
}

/// Files of a bag or a flat archive, by their paths below its base directory.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let path = |path: String| path.split_once('/').map_or(path.clone(), |(_, path)| path.to_owned());
    unzip(archive).into_iter().map(|(name, content)| (path(name), content)).collect()
}

#[tokio::test]
async fn a_package_tells_what_it_leaves_out() {
    let site = Site::new(StoreKind::Folder).await.unwrap();
    let miner = site.client(&site.key(&["--entitlement", "press"]));
    let docset = miner.docset(SLUG, "*").await;
    for layout in ["flat", "bag", "tar.zst", "jsonl", "parquet"] {
        let estimate = miner.json(&format!("/api/docsets/{docset}/estimate?fmts=txt,meta&layout={layout}")).await;
        assert_eq!(estimate["omitted"], json!({"format": 0, "rights": 3, "withdrawn": 0}));
        let (package, archive) = miner.archive(docset, &json!({"formats": ["txt", "meta"], "layout": layout})).await;
        let counts = json!({"requested": 5, "done": 5, "included": 2, "omitted": 3, "rights": 3, "withdrawn": 0});
        assert_eq!(package["documents"], counts, "{layout}");
        if estimate["exact"] == true {
            assert_eq!(estimate["bytes"], package["size"]);
        }
        let manifest = miner.download(&format!("{}/manifest.json", package["assets"].as_str().unwrap())).await;
        let written = manifest.bytes().await.unwrap();
        let manifest: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(manifest["documents"], json!({"requested": 5, "included": 2, "omitted": 3, "rights": 3}));
        verify(&site, layout, &archive, &written);
        if layout != "bag" {
            continue;
        }
        let files = files(&archive);
        let text = |name: &str| std::str::from_utf8(&files[name]).unwrap();
        let omitted: Vec<Value> =
            text("omitted.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let omitted: BTreeMap<_, _> =
            omitted.iter().map(|line| (line["ref"].as_str().unwrap(), &line["reason"])).collect();
        let rights = json!("rights");
        assert_eq!(omitted, ["changed", "closed", "own"].map(|r#ref| (r#ref, &rights)).into());
        let license = "https://creativecommons.org/licenses/by/4.0/";
        for line in [format!("data/press.txt,{license},restricted:press"), format!("data/press.json,{license},open")] {
            assert!(text("rights.csv").lines().any(|found| found == line), "{line}");
        }
    }
    // Metadata is for everybody.
    let (package, archive) = miner.archive(docset, &json!({"formats": ["meta"]})).await;
    assert_eq!((&package["documents"]["included"], files(&archive).len()), (&json!(5), 5));
    // Who is entitled to more asks again, and gets another package.
    let entitled = site.client(&site.key(&["--entitlement", "press", "--entitlement", SLUG]));
    let docset = entitled.docset(SLUG, "*").await;
    let more = entitled.package(docset, &json!({"formats": ["meta"]})).await;
    assert_eq!(more["fingerprint"], package["fingerprint"], "of what is open to all there is one package");
    let more = entitled.package(docset, &json!({})).await;
    assert_eq!((&more["documents"]["included"], &more["documents"]["rights"]), (&json!(4), &json!(1)));
}

/// `adit verify` of an archive with its manifest (of tables, of the archive alone).
fn verify(site: &Site, layout: &str, archive: &[u8], written: &[u8]) {
    let manifest: Value = serde_json::from_slice(written).unwrap();
    let assets = manifest["assets"].as_array().unwrap();
    let path = site.deployment.folder().join(assets.last().unwrap()["name"].as_str().unwrap());
    std::fs::write(&path, archive).unwrap();
    if ["flat", "bag", "tar.zst"].contains(&layout) {
        let beside = format!("{}.manifest.json", path.display());
        std::fs::write(beside, written).unwrap();
    }
    site.deployment.succeed(&["verify", path.to_str().unwrap()]);
}

/// A miner's folder, and the program in it.
struct Work<'a> {
    site: &'a Site,
    key: String,
    folder: PathBuf,
}

impl Work<'_> {
    /// Standard output of a verb that must succeed.
    fn succeed(&self, arguments: &[&str]) -> String {
        let mut command = self.site.deployment.adit(&["--url", &self.site.api.client.url]);
        succeeded(command.args(arguments).env("ADIT_API_KEY", &self.key).current_dir(&self.folder))
    }

    /// Downloads a bag of all formats and unpacks it into a folder of that name.
    fn bag(&self, docset: i64, name: &str, options: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let (docset, archive) = (docset.to_string(), format!("{name}.zip"));
        let wish = ["package", &docset, "--formats", "txt,pdf,meta", "--layout", "bag", "--output", &archive];
        self.succeed(&[&wish, options].concat());
        let files = files(&std::fs::read(self.folder.join(archive)).unwrap());
        for (path, content) in &files {
            let place = self.folder.join(name).join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, content).unwrap();
        }
        files
    }

    fn read(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let (root, mut files, mut folders) = (self.folder.join(name), BTreeMap::new(), vec![self.folder.join(name)]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

/// Whatever a key could have when its old package was made, and whatever it may have now: the delta leads from the one to the other.
#[tokio::test]
async fn a_delta_leads_to_what_the_key_may_have_now() {
    let site = Site::new(StoreKind::Folder).await.unwrap();
    let key = site.key(&[]);
    let folder = site.deployment.folder().join("work");
    std::fs::create_dir(&folder).unwrap();
    let work = Work { site: &site, key: key.clone(), folder };
    let miner = site.client(&key);
    let docset = miner.docset(SLUG, "*").await;
    let me = miner.json("/api/me").await["id"].to_string();
    let package = async |delta: bool| {
        // The newest of this docset that is whole, or not.
        let mut newest = 0;
        for id in 1..=50 {
            let found = miner.get(&format!("/api/packages/{id}")).await;
            let found: Value = if found.status() == 200 { found.json().await.unwrap() } else { continue };
            newest = if found["delta_from"].is_null() != delta { id } else { newest };
        }
        format!("package:{newest}")
    };
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().filter(|path| path.starts_with("data/")).count();

    let mut old = work.bag(docset, "bag", &[]);
    assert_eq!(names(&old), 3, "of one document");
    for (step, (verb, name, documents)) in
        [("grant", "press", 2), ("grant", SLUG, 4), ("deny", "press", 3), ("deny", SLUG, 1)].into_iter().enumerate()
    {
        let base = package(false).await;
        site.deployment.succeed(&["keys", verb, &me, name]);
        let full = work.bag(docset, &format!("full-{step}"), &[]);
        assert_eq!(names(&full), 3 * documents);
        assert_ne!(old, full);
        let delta = format!("delta-{step}");
        let brought = work.bag(docset, &delta, &["--delta-from", &base]);
        assert!(verb == "grant" || names(&brought) == 0, "what is only withheld brings nothing");
        work.succeed(&["apply", &format!("{delta}.zip"), "bag"]);
        assert!(work.read("bag") == full, "after {verb} {name}");
        // Hydrating gives what the key may have, and nothing is missing then.
        work.bag(docset, &format!("dry-{step}"), &["--dehydrated"]);
        work.succeed(&["hydrate", &format!("dry-{step}")]);
        assert!(work.read(&format!("dry-{step}")) == full);
        old = full;
    }
}

/// What searches find.
async fn hits(api: &Api, query: &str) -> Value {
    api.client.search(SLUG, &json!({"query": query, "limit": 0})).await["hits"].clone()
}

#[tokio::test]
async fn a_withdrawn_document_is_given_to_nobody_until_that_is_taken_back() {
    let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
    let folder = write_collection(deployment.folder(), SLUG, &first());
    deployment.import(&folder);
    let api = deployment.up(&[]);
    let docset = api.client.docset(SLUG, "*").await;
    let wish = json!({"formats": ["txt"], "layout": "bag"});
    let before = api.client.package(docset, &wish).await;
    let metadata = api.client.package(docset, &json!({"formats": ["meta"]})).await;
    let id = document_of(&api, "gone").await["id"].clone();
    let withdrawals = async |package: &Value| {
        api.client.json(&format!("{}/withdrawals", package["url"].as_str().unwrap())).await["members"].clone()
    };
    assert_eq!(withdrawals(&before).await, json!([]));

    let said = deployment.succeed(&["withdraw", "gone", "--collection", SLUG, "--reason", "Retracted by its authors."]);
    assert!(said.contains("1 withdrawn; 5 documents in corpus version 2"), "{said}");
    for end in ["text", "files/pdf", "files/meta"] {
        let gone = expect(api.client.get(&format!("/api/documents/{id}/{end}")).await, 410).await;
        assert_eq!((&gone["type"], &gone["reason"]), (&json!("urn:adit:problem:withdrawn"), &json!("withdrawn")));
        assert!(gone["detail"].as_str().unwrap().contains("Retracted by its authors."));
    }
    let document = api.client.json(&format!("/api/documents/{id}")).await;
    let shown = (&document["withdrawn"]["reason"], &document["current"]);
    assert_eq!(shown, (&json!("Retracted by its authors."), &json!(false)));
    assert_eq!(api.client.json(&format!("/api/docsets/{docset}")).await["withdrawn"], 1);
    for list in ["members", "catalog"] {
        let entries = api.client.json(&format!("/api/docsets/{docset}/{list}")).await;
        let entries = entries[if list == "members" { list } else { "documents" }].as_array().unwrap().clone();
        let marked = entries.iter().filter(|entry| !entry["withdrawn"].is_null()).map(|entry| &entry["ref"]);
        assert_eq!((entries.len(), marked.collect::<Vec<_>>()), (6, vec![&json!("gone")]));
    }
    assert_eq!((hits(&api, "*").await, hits(&api, WITHDRAWN).await), (json!(5), json!(0)));
    let collection = api.client.json(&format!("/api/collections/{SLUG}")).await;
    assert_eq!((&collection["documents"], &collection["formats"][0]["documents"]), (&json!(5), &json!(5)));
    let refs = json!({"collection": SLUG, "refs": ["open", "gone"]});
    assert_eq!(expect(api.client.post("/api/docsets", &refs).await, 422).await["unknown"], json!(["gone"]));

    let (after, archive) = api.client.archive(docset, &wish).await;
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    let counts = json!({"requested": 6, "done": 6, "included": 4, "omitted": 2, "rights": 1, "withdrawn": 1});
    assert_eq!(after["documents"], counts);
    let omitted = String::from_utf8(files(&archive)["omitted.jsonl"].clone()).unwrap();
    assert!(omitted.contains(&format!("{{\"id\":{id},\"ref\":\"gone\",\"reason\":\"withdrawn\"}}\n")), "{omitted}");
    for package in [&before, &metadata] {
        let listed = withdrawals(package).await;
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["ref"]), (1, &json!("gone")));
        assert_eq!(listed[0]["withdrawn"]["reason"], "Retracted by its authors.");
    }
    assert_eq!(withdrawals(&after).await, json!([]));

    // An import leaves it as it is, however it comes.
    let mut again = first();
    again.last_mut().unwrap().files[0].1 = b"other words".to_vec();
    let folder = write_collection(deployment.folder(), SLUG, &again);
    let imported = deployment.adit(&["import", folder.to_str().unwrap()]).output().unwrap();
    assert!(imported.status.success());
    assert!(String::from_utf8_lossy(&imported.stderr).contains("1 line(s) were left out"));
    deployment.succeed(&["reindex", SLUG]);
    assert_eq!(hits(&api, "*").await, 5);

    let undo = ["withdraw", "gone", "--collection", SLUG, "--undo"];
    let said = deployment.succeed(&undo);
    assert!(said.contains("1 given again; 6 documents"), "{said}");
    assert_eq!((hits(&api, "*").await, hits(&api, WITHDRAWN).await), (json!(6), json!(1)));
    let text = api.client.get(&format!("/api/documents/{id}/text")).await;
    assert_eq!(text.text().await.unwrap().as_bytes(), content(WITHDRAWN));
    assert_eq!(api.client.json(&format!("/api/docsets/{docset}")).await["withdrawn"], 0);
    assert_eq!(withdrawals(&before).await, json!([]));
    assert_eq!(api.client.package(docset, &wish).await["id"], before["id"], "nothing is left out any more");
    assert_eq!(deployment.adit(&undo).output().unwrap().status.code(), Some(1), "it is not withdrawn");
    assert!(deployment.import(&folder).contains("1 updated"));
}

#[tokio::test]
async fn a_withdrawal_waits_for_no_import() {
    let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
    let folder = write_collection(deployment.folder(), SLUG, &first());
    deployment.import(&folder);
    let api = deployment.up(&[]);
    let id = document_of(&api, "gone").await["id"].clone();
    let store = SqlStore::open(deployment.setting("ADIT_DATABASE_URL")).await.unwrap();
    let collection = NewCollection { slug: SLUG.to_owned(), name: SLUG.to_owned(), ..NewCollection::default() };
    // As long ahead as a lease may be: more would be void.
    let lease = store.begin_import(&collection, SystemClock.now_ms(), 60_000).await.unwrap();

    let withdraw = ["withdraw", "gone", "--collection", SLUG, "--reason", "Retracted."];
    let withdrawing = deployment.adit(&withdraw).output().unwrap();
    let said = String::from_utf8_lossy(&withdrawing.stderr);
    assert_eq!(withdrawing.status.code(), Some(75), "{said}");
    assert!(said.contains("withheld, but searches still find them"), "{said}");
    expect(api.client.get(&format!("/api/documents/{id}/text")).await, 410).await;
    let found = api.client.search(SLUG, &json!({"query": WITHDRAWN})).await;
    assert_eq!(found["documents"][0]["withdrawn"]["reason"], "Retracted.");

    store.abort_import(&lease).await.unwrap();
    assert!(deployment.import(&folder).contains("5 documents in corpus version 2"), "the next import settles it");
    assert_eq!(hits(&api, WITHDRAWN).await, 0);
}

#[tokio::test]
async fn phrases_of_closed_texts_are_for_the_entitled_in_watches_and_new_indexes_too() {
    let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
    deployment.import(&write_collection(deployment.folder(), SLUG, &first()));
    let api = deployment.up(&[]);
    let key = |arguments: &[&str]| {
        let key = last_line(&deployment.succeed(&[&["keys", "create", "k"], arguments].concat()));
        crate::support::Client::new(&api.client.url, &key)
    };
    let (miner, entitled) = (key(&[]), key(&["--entitlement", SLUG]));
    let query = json!({"query": "\"beside the\""});
    let mut watches = Vec::new();
    for client in [&miner, &entitled] {
        let made = expect(client.post(&format!("/api/collections/{SLUG}/watch"), &query).await, 201).await;
        watches.push(format!("/api/watches/{}", made["id"]));
    }
    deployment.import(&write_collection(deployment.folder(), SLUG, &second()));
    let notices =
        [miner.json(&watches[0]).await, entitled.json(&watches[1]).await].map(|watch| watch["notices"].clone());
    assert_eq!((notices[0].as_array().unwrap().len(), &notices[1][0]["documents"]), (0, &json!(1)), "{notices:?}");

    let found = async || {
        let mut hits = Vec::new();
        for client in [&miner, &entitled, &api.client] {
            hits.push(client.search(SLUG, &query).await["hits"].as_u64().unwrap());
        }
        hits
    };
    assert_eq!(found().await, [2, 4, 5]);
    deployment.succeed(&["reindex", SLUG]);
    assert_eq!(found().await, [2, 4, 5]);
    deployment.succeed(&["withdraw", "own", "gone", "--collection", SLUG, "--reason", "Retracted."]);
    assert_eq!(found().await, [1, 2, 3]);
    deployment.succeed(&["withdraw", "own", "gone", "--collection", SLUG, "--undo"]);
    assert_eq!(found().await, [2, 4, 5]);
}
