//! Rights: a key gets what it is entitled to and nothing else, by whatever route; what a package leaves out for that, it says.

#[path = "rights/canaries.rs"]
mod canaries;
#[path = "rights/walk.rs"]
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use self::canaries::{CLOSED, OPEN, RESTRICTED, content};
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
        assert_eq!(documents.len(), 6, "one has two versions");
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
        Others { docset, package: id, fingerprint: fingerprint.to_owned() }
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
    assert!(everywhere(&nothing).is_empty(), "without a key: {nothing:?}");
    for role in ["miner", "packager"] {
        let key = site.key(&["--role", role]);
        let found = site.walk(Some(&key), &others).await;
        assert_eq!(everywhere(&found), BTreeSet::from([OPEN]), "{role}: {found:?}");
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
