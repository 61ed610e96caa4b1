//! Asking for packages with options.

use adit_shared::domain::{Holdings, OwnLimit, Package};
use adit_shared::ids::DocsetId;
use adit_shared::objects::ObjectKey;
use adit_shared::store::Store as _;
use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::http::{MINER, NOBODY, STRANGER, Server};

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

async fn ask(server: &Server, docset: &str, wish: Value) -> Value {
    let answer = server.post(MINER, &format!("{docset}/packages"), &wish).await;
    assert!(answer.status.is_success(), "{}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn what_is_there_or_was_given_up_is_built_again_for_its_price() {
    let (server, docset) = server().await;
    server.limit(MINER, 100).await;
    let cost = async |wish: Value| {
        let asked = ask(&server, &docset, wish).await;
        (asked["cost"].as_u64().unwrap(), asked["id"].as_i64().unwrap())
    };
    let first = cost(json!({})).await;
    assert_eq!(first.0, 1);
    for wish in [json!({}), json!({"reuse": false})] {
        assert_eq!(cost(wish).await, (0, first.1), "it is being built, and not a second time at its side");
    }
    server.finish(first.1, 3).await;
    assert_eq!(cost(json!({})).await, (0, first.1));
    let mut last = first.1;
    for _ in 0..3 {
        let again = cost(json!({"reuse": false})).await;
        assert_eq!(again.0, 1, "a second copy of what is there");
        assert!(again.1 > last);
        last = again.1;
        server.finish(last, 3).await;
    }
    // Both that are there expire.
    server.world.clock.advance(3_600_000);
    for wish in [json!({"reuse": false}), json!({})] {
        let (free, id) = cost(wish).await;
        assert_eq!(free, 0, "what has expired is free once more");
        assert!(id > last);
        server.finish(id, 3).await;
        last = id;
        server.world.clock.advance(3_600_000);
    }
    for _ in 0..2 {
        let (_, id) = cost(json!({})).await;
        assert_eq!(server.ask(Method::DELETE, MINER, &format!("/api/packages/{id}"), &[]).await.status, 200);
        let (again, id) = cost(json!({})).await;
        assert_eq!(again, 1, "its owner has dismissed it");
        server.finish(id, 3).await;
        assert_eq!(server.ask(Method::DELETE, MINER, &format!("/api/packages/{id}"), &[]).await.status, 200);
        let estimate = server.get(MINER, &format!("{docset}/estimate")).await.json(200);
        assert_eq!(estimate["cost"], 1);
        let (again, id) = cost(json!({})).await;
        assert_eq!(again, 1, "its owner has deleted it");
        server.finish(id, 3).await;
        server.world.clock.advance(3_600_000);
    }
}

async fn put_archive(server: &Server, package: &Package) {
    let extension = package.recipe.layout.extension();
    let key = ObjectKey::Archive { package: package.salted(), fingerprint: &package.fingerprint, extension };
    server.put(&key.to_string(), "archive").await;
}

#[tokio::test]
async fn a_dump_costs_nothing_until_it_is_fetched() {
    let (server, docset) = server().await;
    server.limit(MINER, 1).await;
    let dump = format!("{docset}/dump");
    let mut id = 0;
    for _ in 0..3 {
        let answer = server.get(MINER, &dump).await;
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("1"));
        let asked = answer.json(202);
        assert_eq!(asked["cost"], 0);
        id = asked["id"].as_i64().unwrap();
    }
    let package = server.world.row_of(id).await;
    assert_eq!((package.sends, package.paid, package.pay_later), (1, false, true));
    let estimate = server.get(MINER, &format!("{docset}/estimate")).await.json(200);
    assert_eq!(estimate["cost"], 1, "it is to be paid for still");
    let refused = server.get(MINER, &format!("{docset}/dump?fmts=pdf")).await.json(429);
    assert_eq!(refused["violated-policies"], json!(["documents"]), "nobody has more built than a day's documents");

    server.finish(id, 7).await;
    put_archive(&server, &package).await;
    let ready = server.get(MINER, &dump).await;
    assert_eq!((ready.status.as_u16(), ready.header("x-ratelimit-remaining")), (303, Some("1")));
    let download = ready.header("location").unwrap();
    assert_eq!(server.ask(Method::HEAD, MINER, download, &[]).await.status, 200);
    assert!(!server.world.row_of(id).await.paid);
    for _ in 0..2 {
        let answer = server.ask(Method::GET, MINER, download, &[("range", "bytes=1-")]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-remaining")), (206, Some("0")));
    }
    assert!(server.world.row_of(id).await.paid);
    assert_eq!(ask(&server, &docset, json!({})).await["cost"], 0);
}

#[tokio::test]
async fn a_dump_is_not_given_to_who_cannot_pay_nor_by_its_links() {
    let (server, docset) = server().await;
    server.limit(MINER, 1).await;
    let id = server.get(MINER, &format!("{docset}/dump")).await.json(202)["id"].as_i64().unwrap();
    let package = server.world.row_of(id).await;
    server.finish(id, 7).await;
    put_archive(&server, &package).await;
    let assets = server.get(MINER, &format!("/api/packages/{id}/assets")).await.json(200)["assets"].clone();
    let (url, link) = (assets[0]["url"].as_str().unwrap(), assets[0]["link"].as_str().unwrap());
    server.put("packs/1/00-txt-00001", "one").await;
    assert_eq!(server.get(MINER, "/api/documents/1/text").await.status, 200, "the document of the day");
    for (key, path) in [(MINER, url), (NOBODY, link), (MINER, &format!("/api/packages/{id}/download"))] {
        assert_eq!(server.get(key, path).await.json(429)["violated-policies"], json!(["documents"]), "{path}");
    }
    server.world.clock.advance(1000);
    server.limit(MINER, 2).await;
    assert_eq!(server.get(NOBODY, link).await.status, 200, "its owner pays");
    assert!(server.world.row_of(id).await.paid);
}

#[tokio::test]
async fn a_package_that_was_asked_for_by_get_is_charged_when_it_is_asked_for_by_post() {
    let (server, docset) = server().await;
    server.limit(MINER, 1).await;
    let id = server.get(MINER, &format!("{docset}/dump")).await.json(202)["id"].clone();
    let asked = ask(&server, &docset, json!({})).await;
    assert_eq!((&asked["id"], &asked["cost"], &asked["quota_after"]), (&id, &json!(1), &json!(0)));
    assert_eq!(server.world.row_of(id.as_i64().unwrap()).await.sends, 1);
}

#[tokio::test]
async fn a_key_has_no_more_than_it_may_and_is_told_what_of() {
    let (server, docset) = server().await;
    let key = server.world.store.keys().await.unwrap().into_iter().find(|key| key.name == MINER).unwrap().id;
    let limit = async |own| assert!(server.world.store.limit_key_holdings(key, &own).await.unwrap());
    let at_most = OwnLimit::AtMost;
    let refused = async |wish: Value| {
        let problem = server.post(MINER, &format!("{docset}/packages"), &wish).await.json(409);
        assert_eq!(problem["type"], "urn:adit:problem:limit-reached");
        (problem["of"].as_str().unwrap().to_owned(), problem["limit"].as_u64().unwrap())
    };
    limit(Holdings { unfinished: at_most(1), ..Holdings::default() }).await;
    let first = ask(&server, &docset, json!({})).await["id"].as_i64().unwrap();
    assert_eq!(refused(json!({"layout": "bag"})).await, ("unfinished".to_owned(), 1));
    assert_eq!(server.get(MINER, &format!("{docset}/dump?fmts=pdf")).await.status, 409, "nor by GET");
    server.finish(first, 500).await;
    let second = ask(&server, &docset, json!({"layout": "bag"})).await["id"].as_i64().unwrap();
    server.finish(second, 500).await;
    limit(Holdings { packages: at_most(2), ..Holdings::default() }).await;
    assert_eq!(refused(json!({"layout": "jsonl"})).await, ("packages".to_owned(), 2));
    limit(Holdings { stored_bytes: at_most(1000), ..Holdings::default() }).await;
    assert_eq!(refused(json!({"layout": "jsonl"})).await, ("stored_bytes".to_owned(), 1000));
    let held = server.get(MINER, "/api/me").await.json(200)["holdings"].clone();
    assert_eq!(held["stored_bytes"], json!({"limit": 1000, "own": true, "role_limit": 1_u64 << 40, "used": 1000}));
    assert_eq!(held["packages"], json!({"limit": 1000, "own": false, "role_limit": 1000, "used": 2}));
    assert_eq!(server.ask(Method::DELETE, MINER, &format!("/api/packages/{first}"), &[]).await.status, 200);
    ask(&server, &docset, json!({"layout": "jsonl"})).await;

    limit(Holdings { docsets: at_most(1), ..Holdings::default() }).await;
    let wish = json!({"collection": "c", "refs": ["a"]});
    let full = server.post(MINER, "/api/docsets", &wish).await.json(409);
    assert_eq!((&full["of"], &full["limit"]), (&json!("docsets"), &json!(1)));
    assert!(full["detail"].as_str().unwrap().contains("delete some"), "{full}");
    assert_eq!(server.ask(Method::DELETE, MINER, &docset, &[]).await.status, 204);
    assert_eq!(server.post(MINER, "/api/docsets", &wish).await.status, 201);
}
