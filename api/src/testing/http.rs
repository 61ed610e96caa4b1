//! Requests to the whole API in process, by a miner, another miner and a packager, over documents that are rows and indexed metadata without bytes.

use adit_shared::digest::Sha256;
use adit_shared::domain::{
    Access, Encoding, FileRecord, Limits, OwnLimit, Place, Role, Status, content_hash, secret_hash,
};
use adit_shared::ids::{KeyId, PackageId};
use adit_shared::names;
use adit_shared::search::{IndexDocument, IndexPlan};
use adit_shared::store::{NewCollection, NewDocument, StatusUpdate, Store as _};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

use super::World;
use crate::client::PeerAddress;
use crate::state::App;

/// Keys; that of nobody is none.
pub(crate) const MINER: &str = "miner's";
pub(crate) const STRANGER: &str = "stranger's";
pub(crate) const PACKAGER: &str = "packager's";
pub(crate) const NOBODY: &str = "";

/// A document's ref, metadata, and files by format.
pub(crate) type Doc<'a> = (&'a str, Value, &'a [(&'a str, &'a str)]);

pub(crate) struct Server {
    pub(crate) world: World,
    pub(crate) app: App,
    router: Router,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body, which must have come with that status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The lines of NDJSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        std::str::from_utf8(&self.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Server {
    pub(crate) async fn new() -> Self {
        let world = World::new().await;
        let app = world.app().await;
        for (key, role) in [(MINER, Role::Miner), (STRANGER, Role::Miner), (PACKAGER, Role::Packager)] {
            world.store.create_key(key, role, None, &secret_hash(key), 0).await.unwrap();
        }
        Self { router: crate::router(app.clone()), app, world }
    }

    pub(crate) async fn ask(&self, method: Method, key: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, key, path, headers, Body::empty()).await
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(Method::GET, key, path, &[]).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, key, path, &headers, Body::from(body.to_string())).await
    }

    /// The same server with other parts.
    pub(crate) fn with(self, app: App) -> Self {
        Self { router: crate::router(app.clone()), app, ..self }
    }

    /// The number of a key.
    pub(crate) async fn key_id(&self, key: &str) -> KeyId {
        let keys = self.world.store.keys().await.unwrap();
        keys.iter().find(|known| known.name == key).unwrap().id
    }

    /// Limits the documents a day of a key.
    pub(crate) async fn limit(&self, key: &str, documents: u64) {
        let id = self.key_id(key).await;
        let own = Limits { documents: OwnLimit::AtMost(documents), requests: OwnLimit::AsRole };
        assert!(self.world.store.limit_key(id, &own).await.unwrap());
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let path = path.strip_prefix("http://api.test").unwrap_or(path);
        let mut request = Request::builder().method(method).uri(path);
        if key != NOBODY {
            request = request.header("x-api-key", key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(request.body(body).unwrap()).await
    }

    /// A GET without a key by a client at that address.
    pub(crate) async fn ask_from(&self, peer: PeerAddress, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = Request::builder().uri(path).extension(peer);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.answer(request.body(Body::empty()).unwrap()).await
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 30).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Imports documents, as new versions where they are there already.
    pub(crate) async fn import(&self, slug: &str, documents: &[Doc<'_>]) {
        let store = &self.world.store;
        let license = Some("https://example.org/collection".to_owned());
        let (name, description) = (format!("The {slug}"), "What it holds".to_owned());
        let collection = NewCollection { slug: slug.into(), name, description, license, ..NewCollection::default() };
        let now = self.app.clock.now_ms();
        let lease = store.begin_import(&collection, now, 1000).await.unwrap();
        let refs: Vec<String> = documents.iter().map(|(r#ref, ..)| (*r#ref).to_owned()).collect();
        let current = store.current_documents(&lease, &refs).await.unwrap();
        let mut id = store.reserve_versions(u32::try_from(documents.len()).unwrap()).await.unwrap();
        let mut rows = Vec::new();
        for (r#ref, metadata, files) in documents {
            let mut files: Vec<FileRecord> = files.iter().map(|(format, content)| file(format, content)).collect();
            files.sort_by(|a, b| a.format.cmp(&b.format));
            let name = names::safe_name(r#ref);
            let hashed = files.iter().map(|f| (&f.format, f.media_type.as_str(), f.size, &f.sha256));
            let old = current.get(*r#ref);
            rows.push(NewDocument {
                id,
                r#ref: (*r#ref).to_owned(),
                version: old.map_or(1, |old| old.version + 1),
                folded_name: names::fold(&name),
                content_hash: content_hash(r#ref, &name, hashed),
                name,
                access: Access::of(metadata.as_object().unwrap(), &slug.parse().unwrap()).unwrap().unwrap_or_default(),
                metadata: metadata.as_object().unwrap().clone(),
                replaces: old.map(|old| old.id),
                files,
            });
            id.0 += 1;
        }
        store.stage_documents(&lease, &rows).await.unwrap();
        let plan = IndexPlan { base: lease.base, import: lease.import, language: None, afresh: false };
        let mut index = self.app.search.build(plan).await.unwrap();
        for row in &rows {
            let NewDocument { id, replaces, r#ref, metadata, files, .. } = row;
            let (id, replaces) = (*id, *replaces);
            let formats = files.iter().map(|file| file.format.as_str()).collect();
            index.add(IndexDocument { id, replaces, r#ref, metadata, formats, text: None }).await.unwrap();
        }
        index.finish().await.unwrap();
        store.commit_import(&lease, now).await.unwrap();
    }

    /// The path of a new docset of these works.
    pub(crate) async fn docset(&self, slug: &str, refs: &[&str]) -> String {
        let body = serde_json::json!({"collection": slug, "refs": refs});
        let answer = self.post(MINER, "/api/docsets", &body).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        answer.header("location").unwrap().to_owned()
    }

    /// The same, but with nothing read of the body.
    pub(crate) async fn open(&self, key: &str, path: &str) -> axum::response::Response {
        let request = Request::builder().uri(path).header("x-api-key", key).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Another API process on the same parts.
    pub(crate) async fn second(&self) -> (App, Router) {
        let app = self.world.app().await;
        (app.clone(), crate::router(app))
    }

    /// Finishes a package as its packager would; it expires in an hour.
    pub(crate) async fn finish(&self, package: i64, size: u64) {
        let now = self.app.clock.now_ms();
        let update = StatusUpdate {
            sequence: 1,
            status: Some(Status::Successful),
            size: Some(size),
            expires: Some(now + 3_600_000),
            ..StatusUpdate::default()
        };
        let package = self.world.store.update_package(PackageId(package), &update, now).await.unwrap().unwrap();
        assert_eq!(package.status, Status::Successful);
    }

    pub(crate) async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.app.objects.put(key, bytes.into()).await.unwrap();
    }
}

fn file(format: &str, content: &str) -> FileRecord {
    let size = content.len() as u64;
    FileRecord {
        format: format.parse().unwrap(),
        media_type: "text/plain".into(),
        size,
        sha256: Sha256::of(content.as_bytes()),
        crc32: 1,
        deflate_crc32: None,
        encoding: Encoding::Identity,
        place: Place { object: "packs/1/00-txt-00001".into(), offset: 0, stored: size },
    }
}
