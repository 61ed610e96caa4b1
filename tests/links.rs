//! Links that need no key, on each kind of store.

use reqwest::Method;
use serde_json::json;

use crate::support::{BrokerKind, Client, DatabaseKind, Deployment, StoreKind, small_collection};

/// Reads as programs do that know nothing of keys: they follow redirects, ask by HEAD how long it is, and take pieces.
async fn a_link_can_be_read_by_any_program(server: &Client, store: StoreKind) {
    let docset = server.docset("c", "*").await;
    let (package, whole) = server.archive(docset, &json!({})).await;
    let list = server.json(package["assets"].as_str().unwrap()).await;
    let archive = &list["assets"][0];
    assert_eq!((&archive["size"], &archive["sha256"]), (&package["size"], &package["sha256"]));
    let link = archive["link"].as_str().unwrap();
    assert!(link.ends_with(".zip"));
    let reader = reqwest::Client::new();
    let ask = async |method: Method, range: Option<&str>| {
        let request = reader.request(method, link);
        let request = range.iter().fold(request, |request, range| request.header("range", *range));
        request.send().await.unwrap()
    };
    let head = ask(Method::HEAD, None).await;
    assert_eq!((head.status().as_u16(), head.url().as_str()), (200, link));
    assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    let piece = ask(Method::GET, Some("bytes=5-9")).await;
    assert_eq!(piece.status(), 206);
    // Readers that compare what HEAD and GET say must not take one content for two.
    assert_eq!(head.headers().contains_key("etag"), store == StoreKind::Folder);
    assert!(head.headers().get("etag").is_none_or(|tag| piece.headers().get("etag") == Some(tag)));
    assert_eq!(piece.bytes().await.unwrap(), whole[5..10]);
    assert!(ask(Method::GET, None).await.bytes().await.unwrap() == whole);
    let forged = link.replace("/packages/", "a/packages/");
    assert_eq!(reader.get(forged).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_link_can_be_read_by_any_program_on_each_store() {
    for store in [StoreKind::Folder, StoreKind::S3] {
        let Some(deployment) = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, store).await else {
            continue;
        };
        deployment.import(&small_collection(deployment.folder()));
        let server = deployment.start(&[]);
        a_link_can_be_read_by_any_program(&server, store).await;
        server.stop();
    }
}
