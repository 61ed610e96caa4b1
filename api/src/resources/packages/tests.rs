//! Asking for packages with options.

use adit_shared::ids::DocsetId;
use adit_shared::store::Store as _;
use serde_json::{Value, json};

use crate::testing::http::{MINER, STRANGER, Server};

/// A server with a docset of the collection `c`; its path.
async fn server() -> (Server, String) {
    let server = Server::new().await;
    server.import("c", &[("a", json!({}), &[("txt", "one"), ("pdf", "two")])]).await;
    let docset = server.docset("c", &["a"]).await;
    (server, docset)
}

#[tokio::test]
async fn a_package_shows_and_sends_what_was_chosen() {
    let (server, docset) = server().await;
    let ask = async |wish: Value| server.post(MINER, &format!("{docset}/packages"), &wish).await.json(202);
    let flat = ask(json!({})).await;
    for (member, value) in [("compression", json!(null)), ("shard_bytes", json!(null)), ("delta_from", json!(null))] {
        assert_eq!(flat[member], value, "{member}");
    }
    assert_eq!((&flat["dehydrated"], &flat["assets"]), (&json!(false), &json!(null)));

    let wishes = [
        json!({"layout": "jsonl", "compression": "gzip", "shard_bytes": 2_000_000}),
        json!({"layout": "parquet", "shard_bytes": 3.0e6}),
        json!({"layout": "tar.zst"}),
        json!({"layout": "bag", "dehydrated": true}),
        json!({"layout": "bag", "delta_from": {"docset": 1}}),
    ];
    let mut fingerprints = vec![flat["fingerprint"].clone()];
    for wish in wishes {
        let package = ask(wish.clone()).await;
        for (member, value) in wish.as_object().unwrap() {
            let same = &package[member] == value || package[member].as_f64() == value.as_f64();
            assert!(same, "{member}: {}", package[member]);
        }
        assert_eq!(ask(wish.clone()).await["id"], package["id"], "an equal wish is the same package");
        assert!(!fingerprints.contains(&package["fingerprint"]), "{wish}");
        fingerprints.push(package["fingerprint"].clone());
        let rows = server.world.row_of(package["id"].as_i64().unwrap()).await;
        assert!(rows.about.is_some());
        assert_eq!(rows.sends, 1);
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_the_member_and_the_remedy() {
    let (server, docset) = server().await;
    server.import("d", &[("a", json!({}), &[("txt", "one")])]).await;
    let foreign = server.docset("d", &["a"]).await;
    let path = format!("{docset}/packages");
    let flat = server.post(MINER, &path, &json!({})).await.json(202)["id"].clone();
    let bag = server.post(MINER, &path, &json!({"layout": "bag", "formats": ["pdf"]})).await.json(202)["id"].clone();
    let foreign: i64 = foreign.rsplit('/').next().unwrap().parse().unwrap();
    let cases = [
        (json!({"layout": "zip"}), "there are: flat, bag, tar.zst, jsonl, parquet"),
        (json!({"layout": "jsonl", "compression": "lzma"}), "there are: none, gzip, zstd"),
        (json!({"layout": "parquet", "compression": "gzip"}), "compression is for layout jsonl, not for parquet"),
        (json!({"dehydrated": true}), "dehydrated is for layout bag, not for flat"),
        (json!({"layout": "bag", "dehydrated": true, "shard_bytes": 2_000_000}), "dehydrated and shard_bytes"),
        (json!({"shard_bytes": 5}), "shard_bytes is 5, and must be 1048576 at least"),
        (json!({"shard_bytes": -5}), "no whole number"),
        (json!({"shard_bytes": 2_000_000.5}), "no whole number"),
        (json!({"delta_from": {"docset": 1}}), "delta_from is for layout bag, not for flat"),
        (json!({"layout": "bag", "delta_from": {"docset": foreign}}), "give one of the same collection"),
        (json!({"layout": "bag", "delta_from": {"package": flat}}), "give a package of layout bag, or a docset"),
        (json!({"layout": "bag", "delta_from": {"package": bag}}), "of other formats (pdf); ask for the same"),
        (json!({"layout": "bag", "delta_from": {"docset": 1, "package": 1}}), "exactly one of docset and package"),
        (json!({"layout": "bag", "delta_from": {"docsets": 1}}), "unknown field `docsets`"),
        (json!({"layout": "bag", "delta_from": {"docset": 1, "package": null}}), "delta_from.package"),
        (json!({"layout": "bag", "delta_from": 1}), "delta_from"),
        (json!({"shards": 1}), "unknown field `shards`"),
    ];
    for (wish, remedy) in cases {
        let refused = server.post(MINER, &path, &wish).await.json(400);
        assert!(refused["detail"].as_str().unwrap().contains(remedy), "{wish}: {refused}");
    }
    let delta = json!({"layout": "bag", "formats": ["pdf"], "delta_from": {"package": bag}});
    assert_eq!(server.post(MINER, &path, &delta).await.json(202)["delta_from"], json!({"docset": 1}));
    for base in [json!({"docset": 99}), json!({"package": 99})] {
        let wish = json!({"layout": "bag", "delta_from": base});
        assert_eq!(server.post(MINER, &path, &wish).await.status, 404, "{base}");
    }
}

#[tokio::test]
async fn a_delta_starts_from_ones_own_only() {
    let (server, docset) = server().await;
    let bag = server.post(MINER, &format!("{docset}/packages"), &json!({"layout": "bag"})).await.json(202);
    let theirs = server.post(STRANGER, "/api/docsets", &json!({"collection": "c", "refs": ["a"]})).await.json(201);
    let path = format!("{}/packages", theirs["url"].as_str().unwrap());
    for base in [json!({"docset": 1}), json!({"package": bag["id"]})] {
        let wish = json!({"layout": "bag", "delta_from": base});
        assert_eq!(server.post(STRANGER, &path, &wish).await.json(404)["type"], "urn:adit:problem:not-found");
    }
}

#[tokio::test]
async fn an_estimate_is_exact_or_says_that_it_is_not() {
    let (server, docset) = server().await;
    let estimate = async |query: &str| server.get(MINER, &format!("{docset}/estimate?fmts=txt,pdf{query}")).await;
    let flat = estimate("").await.json(200);
    assert_eq!((&flat["layout"], &flat["exact"]), (&json!("flat"), &json!(true)));
    for query in ["", "&dehydrated=true", "&shard_bytes=1048576", "&delta_from=1"] {
        assert_eq!(estimate(&format!("&layout=bag{query}")).await.json(200)["exact"], true, "{query}");
    }
    for query in ["&layout=jsonl&compression=none", "&layout=parquet&shard_bytes=1048576", "&layout=tar.zst"] {
        let bound = estimate(query).await.json(200);
        assert_eq!((&bound["exact"], &bound["included"]), (&json!(false), &json!(1)), "{query}");
        assert!(bound["bytes"].as_u64().unwrap() > 6, "{query}");
    }
    let refused = estimate("&dehydrated=true").await.json(400);
    assert_eq!(refused["detail"], "dehydrated is for layout bag, not for flat");
    assert_eq!(estimate("&layout=bag&delta_from=99").await.status, 404);
}

#[tokio::test]
async fn what_would_not_be_paid_for_is_refused_before_it_is_made() {
    let server = Server::new().await;
    let documents: Vec<_> = ["a", "b"].map(|r| (r, json!({}), &[("txt", "one")][..])).into();
    server.import("c", &documents).await;
    let docset = server.docset("c", &["a", "b"]).await;
    server.limit(MINER, 1).await;
    let refused = server.post(MINER, &format!("{docset}/packages"), &json!({})).await;
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("1"), "what is left is told, though it is too little");
    assert_eq!(refused.json(429)["violated-policies"], json!(["documents"]));
    assert_eq!(server.world.store.packages_of(DocsetId(1)).await.unwrap(), []);
    let estimate = server.get(MINER, &format!("{docset}/estimate")).await.json(200);
    assert_eq!((&estimate["cost"], &estimate["quota_after"]), (&json!(2), &json!(-1)));
}

#[tokio::test]
async fn a_package_whose_request_could_not_be_sent_is_charged_once() {
    let (server, docset) = server().await;
    server.limit(MINER, 1).await;
    let (works, path) = (server.app.clone(), format!("{docset}/packages"));
    let away = server.world.app_on("stomp://127.0.0.1:1".parse().unwrap(), &server.world.objects()).await;
    let server = server.with(away);
    for _ in 0..2 {
        assert_eq!(server.post(MINER, &path, &json!({})).await.json(503)["part"], "message broker");
    }
    let server = server.with(works);
    let refused = server.post(MINER, &path, &json!({"layout": "bag"})).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-ratelimit-remaining")), (429, Some("0")));
    // The first one may be asked for again, and is sent when its maker had the time to do it.
    server.world.clock.advance(11_000);
    let asked = server.post(MINER, &path, &json!({})).await.json(202);
    assert_eq!((&asked["cost"], &asked["quota_after"]), (&json!(0), &json!(0)));
    assert_eq!(server.world.row_of(asked["id"].as_i64().unwrap()).await.sends, 1);
}
