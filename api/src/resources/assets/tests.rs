//! What a package consists of, and the ways to it.

use adit_packager::archive_name;
use adit_shared::digest::Sha256;
use adit_shared::domain::{
    Asset, Content, MANIFEST_NAME, MANIFEST_TYPE, ManifestDocuments, Package, PackageManifest, Payload, RECEIPT_NAME,
    Scope, Status,
};
use adit_shared::objects::ObjectKey;
use adit_shared::store::{StatusUpdate, Store as _};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::http::{Answer, MINER, NOBODY, PACKAGER, STRANGER, Server};

/// A server, and a package of it that is asked for.
async fn asked(wish: &Value) -> (Server, Package) {
    let server = Server::new().await;
    server.import("c", &[("a", json!({}), &[("txt", "one")])]).await;
    let docset = server.docset("c", &["a"]).await;
    let package = server.post(MINER, &format!("{docset}/packages"), wish).await.json(202);
    let package = server.world.row_of(package["id"].as_i64().unwrap()).await;
    (server, package)
}

/// Takes a packager's last word in.
async fn complete(server: &Server, package: &Package, location: &str) {
    let update = StatusUpdate {
        sequence: 1,
        status: Some(Status::Successful),
        location: Some(location.to_owned()),
        size: Some(7),
        sha256: Some(Sha256::of(b"archive")),
        ..StatusUpdate::default()
    };
    server.world.store.update_package(package.id, &update, 0).await.unwrap();
}

/// A package as a packager leaves it: these assets, manifest and receipt.
async fn built(wish: &Value, assets: &[(&str, &str)]) -> (Server, Package) {
    let (server, package) = asked(wish).await;
    let fingerprint = &package.fingerprint;
    let key = |name: &str| ObjectKey::Asset { package: package.salted(), fingerprint, name }.to_string();
    let manifest = PackageManifest {
        r#type: MANIFEST_TYPE.to_owned(),
        package: *fingerprint,
        docset: Sha256::of(b"docset"),
        selection: None,
        formats: package.recipe.formats.clone(),
        layout: package.recipe.layout,
        compression: None,
        shard_bytes: package.recipe.options.shard_bytes,
        dehydrated: false,
        delta_from: None,
        documents: ManifestDocuments { requested: 1, included: 1, ..ManifestDocuments::default() },
        payload: Payload { files: 1, bytes: 3 },
        assets: assets
            .iter()
            .map(|(name, content)| Asset {
                name: (*name).to_owned(),
                media_type: "application/x-test".to_owned(),
                size: content.len() as u64,
                sha256: Sha256::of(content.as_bytes()),
                documents: Some(1),
            })
            .collect(),
    };
    let extension = package.recipe.layout.extension();
    let archive = ObjectKey::Archive { package: package.salted(), fingerprint, extension }.to_string();
    for (name, content) in assets {
        let at = if name.starts_with("archive.") { archive.clone() } else { key(name) };
        server.put(&at, content.as_bytes().to_vec()).await;
    }
    server.put(&key(MANIFEST_NAME), manifest.to_bytes().unwrap()).await;
    server.put(&key(RECEIPT_NAME), "header..signature").await;
    complete(&server, &package, &format!("http://api.test/api/packages/{}/download", package.id)).await;
    (server, package)
}

async fn assets(server: &Server, package: &Package) -> Vec<Value> {
    let list = server.get(MINER, &format!("/api/packages/{}/assets", package.id)).await;
    assert_eq!(list.header("cache-control"), Some("private, no-store"));
    list.json(200)["assets"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_asset_is_listed_and_can_be_fetched_with_a_key_or_by_its_link() {
    let shards = [("archive.zip", "archive"), ("data-00001-of-00001.parquet", "rows")];
    let (server, package) = built(&json!({"layout": "parquet"}), &shards).await;
    let list = assets(&server, &package).await;
    let names: Vec<&str> = list.iter().map(|asset| asset["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["archive.zip", "data-00001-of-00001.parquet", "manifest.json", "receipt.jws"]);
    assert_eq!(list[1]["documents"], 1);
    let types: Vec<&str> = list.iter().map(|asset| asset["media_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["application/x-test", "application/x-test", "application/json", "application/jose"]);
    for asset in &list {
        let (url, link) = (asset["url"].as_str().unwrap(), asset["link"].as_str().unwrap());
        let name = asset["name"].as_str().unwrap();
        assert!(link.ends_with(&format!("/{name}")), "programs go by the name");
        let tag = format!("\"{}\"", asset["sha256"].as_str().unwrap());
        assert_eq!(server.get(PACKAGER, url).await.status, 403, "packagers build packages, and read none");
        for (key, url) in [(MINER, url), (NOBODY, link)] {
            let whole = server.get(key, url).await;
            assert_eq!((whole.status.as_u16(), whole.body.len() as u64), (200, asset["size"].as_u64().unwrap()));
            assert_eq!(Sha256::of(&whole.body).to_string(), asset["sha256"]);
            assert_eq!(whole.header("etag"), Some(tag.as_str()));
            assert_eq!(whole.header("content-type"), asset["media_type"].as_str());
            assert_eq!(whole.header("content-disposition").unwrap(), format!("attachment; filename=\"{name}\""));
            assert!(whole.header("repr-digest").unwrap().starts_with("sha-256=:"));
            let part = server.ask(Method::GET, key, url, &[("range", "bytes=1-2"), ("if-range", &tag)]).await;
            assert_eq!((part.status.as_u16(), &part.body[..]), (206, &whole.body[1..3]));
            let head = server.ask(Method::HEAD, key, url, &[]).await;
            assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), whole.header("content-length"));
            assert_eq!(head.header("etag"), Some(tag.as_str()), "the bytes come from here");
        }
        assert_eq!(server.get(NOBODY, url).await.status, 401);
        assert_eq!(server.get(STRANGER, url).await.status, 404);
    }
    let missing = server.get(MINER, &format!("/api/packages/{}/assets/other.zip", package.id)).await.json(404);
    assert_eq!(missing["assets"], json!(names));
    for outside in ["..%2Fbuild.json", "..%2F..%2F..%2Fadit.db", "%00"] {
        assert_eq!(server.get(MINER, &format!("/api/packages/{}/assets/{outside}", package.id)).await.status, 404);
    }
    let download = server.get(MINER, &format!("/api/packages/{}/download", package.id)).await;
    assert_eq!(&download.body[..], b"archive");
    let view = server.get(MINER, &format!("/api/packages/{}", package.id)).await.json(200);
    assert_eq!(view["assets"], format!("http://api.test/api/packages/{}/assets", package.id));
}

#[tokio::test]
async fn a_link_ends_with_the_key_that_it_was_made_for() {
    let (server, package) = built(&json!({}), &[("archive.zip", "archive")]).await;
    let link = assets(&server, &package).await[0]["link"].as_str().unwrap().to_owned();
    let (id, store, now) = (server.key_id(MINER).await, &server.world.store, server.app.clock.now_ms());
    let opens = async || server.get(NOBODY, &link).await.status.as_u16();
    assert_eq!(opens().await, 200);
    store.set_key_expiry(id, Some(now + 1)).await.unwrap();
    assert_eq!(opens().await, 200);
    server.world.clock.advance(1);
    assert_eq!(server.get(NOBODY, &link).await.json(403)["type"], "urn:adit:problem:invalid-link");
    store.set_key_expiry(id, None).await.unwrap();
    assert_eq!(opens().await, 200, "it was renewed");
    store.set_key_scopes(id, Some(&[Scope::PackagesWrite].into())).await.unwrap();
    assert_eq!(opens().await, 403, "the key may not fetch assets itself");
    store.set_key_scopes(id, None).await.unwrap();
    store.revoke_key(id, now).await.unwrap();
    assert_eq!(opens().await, 403);
}

#[tokio::test]
async fn the_download_of_a_package_in_shards_is_its_manifest() {
    let shards = [("bag-00001-of-00002.zip", "one"), ("bag-00002-of-00002.zip", "two")];
    let (server, package) = built(&json!({"layout": "bag", "shard_bytes": 1 << 20}), &shards).await;
    let list = assets(&server, &package).await;
    for (asset, (_, content)) in list.iter().zip(shards) {
        assert_eq!(&server.get(NOBODY, asset["link"].as_str().unwrap()).await.body[..], content.as_bytes());
    }
    let manifest = server.get(NOBODY, list[2]["link"].as_str().unwrap()).await;
    let download = server.get(MINER, &format!("/api/packages/{}/download", package.id)).await;
    assert_eq!(download.body, manifest.body);
    assert_eq!(download.header("content-type"), Some("application/json"));
    assert_eq!(download.header("etag"), manifest.header("etag"));
    let name = format!("attachment; filename=\"bag-{}.manifest.json\"", &package.fingerprint.to_string()[..12]);
    assert_eq!(download.header("content-disposition"), Some(name.as_str()));
}

#[tokio::test]
async fn a_link_ends_and_is_for_one_asset() {
    let (server, package) = built(&json!({}), &[("archive.zip", "archive")]).await;
    let list = assets(&server, &package).await;
    let link = list[0]["link"].as_str().unwrap();
    for other in [link.replace("archive.zip", "manifest.json"), link.replace("/links/1", "/links/2")] {
        assert_ne!(other, link);
        let refused = server.get(NOBODY, &other).await.json(403);
        assert_eq!(refused["type"], "urn:adit:problem:invalid-link");
        assert!(refused["detail"].as_str().unwrap().contains(&format!("/api/packages/{}/assets", package.id)));
    }
    // Another process of the same installation takes it too.
    let second = crate::router(server.world.app().await);
    let request = axum::http::Request::get(link).body(axum::body::Body::empty()).unwrap();
    assert_eq!(tower::ServiceExt::oneshot(second, request).await.unwrap().status(), 200);

    server.world.clock.advance(24 * 3_600_000);
    assert_eq!(server.get(NOBODY, link).await.status, 200);
    server.world.clock.advance(3_600_000);
    assert_eq!(server.get(NOBODY, link).await.status, 403);
    let fresh = assets(&server, &package).await;
    let fresh = fresh[0]["link"].as_str().unwrap();
    assert_eq!(server.get(NOBODY, fresh).await.status, 200);

    server.world.store.erase_package(package.id, None).await.unwrap();
    let gone = server.get(NOBODY, fresh).await.json(410);
    assert_eq!(gone["rebuild"]["body"], json!({"formats": ["txt"], "layout": "flat"}));
}

#[tokio::test]
async fn an_archive_that_is_elsewhere_is_the_only_asset() {
    let (server, package) = asked(&json!({})).await;
    complete(&server, &package, "https://elsewhere.test/5.zip").await;
    let list = assets(&server, &package).await;
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["name"], &list[0]["size"]),
        (&json!(archive_name(&package.recipe, &package.fingerprint)), &json!(7))
    );
    for (key, url) in [(MINER, &list[0]["url"]), (NOBODY, &list[0]["link"])] {
        let answer = server.get(key, url.as_str().unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (302, Some("https://elsewhere.test/5.zip")));
    }
}

#[tokio::test]
async fn what_is_not_there_yet_or_any_more_is_told_apart() {
    let wish = json!({"layout": "bag", "shard_bytes": 2_000_000});
    let (server, package) = asked(&wish).await;
    let paths =
        ["/assets", "/assets/manifest.json", "/download"].map(|end| format!("/api/packages/{}{end}", package.id));
    for path in &paths {
        assert_eq!(server.get(MINER, path).await.json(409)["type"], "urn:adit:problem:package-not-ready", "{path}");
    }
    // Complete, but the store has lost everything.
    complete(&server, &package, &format!("http://api.test/api/packages/{}/download", package.id)).await;
    assert_eq!(server.get(MINER, &paths[2]).await.status, 410);
    for path in &paths {
        let gone = server.get(MINER, path).await.json(410);
        assert_eq!(gone["rebuild"]["body"], json!({"formats": ["txt"], "layout": "bag", "shard_bytes": 2_000_000}));
    }
    let again = server.post(MINER, gone_url(&server, &paths[0]).await.as_str(), &wish).await.json(202);
    assert_eq!(again["fingerprint"], package.fingerprint.to_string(), "the same bytes again");
}

async fn gone_url(server: &Server, path: &str) -> String {
    server.get(MINER, path).await.json(410)["rebuild"]["url"].as_str().unwrap().to_owned()
}

/// The key of a package's archive.
fn archive_of(package: &Package) -> String {
    let extension = package.recipe.layout.extension();
    ObjectKey::Archive { package: package.salted(), fingerprint: &package.fingerprint, extension }.to_string()
}

/// Asserts that the answer tells how to ask for the package again, and that this costs nothing and makes a new one.
async fn assert_rebuilt(server: &Server, package: &Package, answer: &Answer) {
    let rebuild = answer.json(410)["rebuild"].clone();
    let asked = server.post(MINER, rebuild["url"].as_str().unwrap(), &rebuild["body"]).await.json(202);
    assert_ne!(asked["id"], package.id.0);
    assert_eq!(asked["cost"], 0);
}

#[tokio::test]
async fn an_archive_of_another_length_is_not_there() {
    for other in ["archiv", "archive.", ""] {
        let (server, package) = built(&json!({"layout": "flat"}), &[("archive.zip", "archive")]).await;
        server.put(&archive_of(&package), other).await;
        let answer = server.get(MINER, &format!("/api/packages/{}/download", package.id)).await;
        assert_rebuilt(&server, &package, &answer).await;
    }
}

#[tokio::test]
async fn a_package_is_compared_when_somebody_asks_and_erased_where_it_is_damaged() {
    let shards = [("data-00001-of-00001.parquet", "rows")];
    for (body, assets) in
        [(json!({"layout": "flat"}), &[("archive.zip", "archive")][..]), (json!({"layout": "parquet"}), &shards[..])]
    {
        let (server, package) = built(&body, assets).await;
        let check = format!("/api/packages/{}/check", package.id);
        let ask = async |key| server.send(Method::POST, key, &check, &[], Body::empty()).await;
        let found = ask(MINER).await.json(200);
        assert_eq!(found["assets"], 3, "with manifest and receipt: {found}");
        assert_eq!((ask(STRANGER).await.status.as_u16(), ask(NOBODY).await.status.as_u16()), (404, 401));
        let (name, content) = assets[0];
        let fingerprint = &package.fingerprint;
        let key = match name {
            "archive.zip" => archive_of(&package),
            name => ObjectKey::Asset { package: package.salted(), fingerprint, name }.to_string(),
        };
        server.put(&key, content.to_uppercase()).await;
        assert_rebuilt(&server, &package, &ask(MINER).await).await;
        let package = server.world.row(&package).await;
        assert_eq!(package.content, Content::Erased);
    }
}
