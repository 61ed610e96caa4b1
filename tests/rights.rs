//! Rights: a key gets what it is entitled to and nothing else, by whatever route; what a package leaves out for that, it says.

#[path = "rights/canaries.rs"]
mod canaries;
#[path = "rights/walk.rs"]
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use self::canaries::{BAIT, CLOSED, OPEN, RESTRICTED, content};
use self::walk::{Others, SLUG, Walk};
use crate::support::{
    Api, BrokerKind, DatabaseKind, Deployment, Doc, StoreKind, expect, last_line, unzip, write_collection,
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
        let mut walk = Walk::new(&self.api.client.url, key, &self.documents, others);
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
