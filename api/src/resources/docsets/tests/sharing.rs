//! What a link opens, and to whom.

use tower::ServiceExt as _;

use super::*;

const DAY_MS: i64 = 86_400_000;

async fn share(server: &Server, docset: &Value, body: Value) -> Value {
    server.post(MINER, &format!("{}/share", docset["url"].as_str().unwrap()), &body).await.json(201)
}

fn link(share: &Value) -> &str {
    share["link"].as_str().unwrap()
}

async fn follow(server: &Server, link: &str) -> Answer {
    server.post(STRANGER, link, &json!({})).await
}

#[tokio::test]
async fn a_link_opens_a_docset_for_reading_until_it_is_revoked() {
    let server = mines().await;
    let docset = make(&server, json!({"query": "coal"})).await;
    let url = docset["url"].as_str().unwrap();
    let shared = share(&server, &docset, json!({})).await;
    assert_eq!(server.get(STRANGER, url).await.status, 404, "before the link is followed");
    assert_eq!(server.get(NOBODY, link(&shared)).await.status, 401);
    for _ in 0..2 {
        assert_eq!(server.get(STRANGER, link(&shared)).await.json(200), docset, "what the link opens");
        assert_eq!(server.get(STRANGER, url).await.status, 404, "a GET opens nothing");
    }
    assert_eq!(server.get(MINER, &format!("{url}/share")).await.json(200)["shares"][0]["guests"], 0);
    assert_eq!(follow(&server, link(&shared)).await.json(200), docset);
    assert_eq!(server.get(PACKAGER, url).await.status, 403, "packagers read no docsets");

    assert_eq!(server.get(STRANGER, url).await.json(200), docset);
    assert_eq!(server.get(STRANGER, &format!("{url}/members")).await.json(200)["members"].as_array().unwrap().len(), 2);
    let package = server.post(STRANGER, &format!("{url}/packages"), &json!({})).await.json(202);
    assert_eq!(server.get(MINER, package["url"].as_str().unwrap()).await.status, 404, "it is the guest's own");
    assert_eq!(server.get(STRANGER, "/api/docsets").await.json(200)["docsets"], json!([]));

    let second = server.world.app().await;
    let second = async |path: &str| {
        let request =
            axum::http::Request::get(path.trim_start_matches("http://api.test")).header("x-api-key", STRANGER);
        crate::router(second.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    };
    assert_eq!(second(url).await, 200);
    assert_eq!(server.ask(Method::DELETE, MINER, shared["url"].as_str().unwrap(), &[]).await.status, 204);
    for (path, status) in [(url, 404), (link(&shared), 403)] {
        assert_eq!(server.get(STRANGER, path).await.status, status);
        assert_eq!(second(path).await, status, "at once, in all processes");
    }
    assert_eq!(server.get(STRANGER, package["url"].as_str().unwrap()).await.status, 200);
}

#[tokio::test]
async fn links_expire_and_are_listed() {
    let server = mines().await;
    let docset = make(&server, json!({"query": "coal"})).await;
    let url = docset["url"].as_str().unwrap();
    let (short, long) =
        (share(&server, &docset, json!({"days": 1})).await, share(&server, &docset, json!({"days": 9})).await);
    follow(&server, link(&short)).await.json(200);
    follow(&server, link(&short)).await.json(200);
    let list = server.get(MINER, &format!("{url}/share")).await;
    assert_eq!(list.header("cache-control"), Some("private, no-store"));
    let shares = list.json(200)["shares"].clone();
    assert_eq!((&shares[0]["guests"], &shares[1]), (&json!(1), &long));
    let first = server.get(MINER, &format!("{url}/share?limit=1")).await.json(200);
    assert_eq!(first["shares"], json!([shares[0]]));
    let rest = server.get(MINER, &format!("{url}/share?cursor={}", first["next"].as_str().unwrap())).await.json(200);
    assert_eq!((&rest["shares"], &rest["next"]), (&json!([long]), &Value::Null));
    server.world.clock.advance(DAY_MS);
    assert_eq!(server.get(STRANGER, url).await.status, 404);
    assert_eq!(server.get(STRANGER, link(&short)).await.json(403)["type"], "urn:adit:problem:invalid-link");
    follow(&server, link(&long)).await.json(200);
    assert_eq!(server.get(STRANGER, url).await.status, 200);
    for wrong in [json!({"days": 0}), json!({"days": 367}), json!({"days": null}), json!({"hours": 1})] {
        assert_eq!(server.post(MINER, &format!("{url}/share"), &wrong).await.status, 400, "{wrong}");
    }
    let forged = link(&long).replace("/shared/2-", "/shared/1-");
    for wrong in [forged.as_str(), "/api/shared/2", "/api/shared/-", "/api/shared/2-AAAA"] {
        assert_eq!(server.get(STRANGER, wrong).await.status, 403, "{wrong}");
        assert_eq!(follow(&server, wrong).await.status, 403, "{wrong}");
    }
    assert_eq!(server.ask(Method::DELETE, MINER, &format!("{url}/share/99"), &[]).await.status, 404);
}

/// Every operation on a docset is one that guests may do, or one that they may not: whoever adds one decides.
#[tokio::test]
async fn a_guest_reads_and_does_nothing_else() {
    let server = mines().await;
    let docset = make(&server, json!({"query": "coal"})).await;
    let shared = share(&server, &docset, json!({})).await;
    follow(&server, link(&shared)).await.json(200);
    let api: Value = serde_json::from_str(&crate::openapi().to_json().unwrap()).unwrap();
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for (path, item) in api["paths"].as_object().unwrap() {
        let Some(rest) = path.strip_prefix("/api/docsets/{id}") else { continue };
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let path = format!("/api/docsets/{}{}", docset["id"], rest.replace("{share}", &shared["id"].to_string()));
            let path = if rest == "/diff" { format!("{path}?since={}", docset["id"]) } else { path };
            let path = if rest == "/manifest" { format!("{path}?fmt=txt") } else { path };
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = json!({"name": "Theirs"});
            let body = if method == Method::PATCH { body } else { json!({}) };
            let headers = [("content-type", "application/json")];
            let answer = server.send(method, STRANGER, &path, &headers, Body::from(body.to_string())).await;
            if answer.status.is_success() { may.push(id) } else { may_not.push((id, answer.status.as_u16())) }
        }
    }
    may.sort();
    may_not.sort();
    assert_eq!(
        may,
        ["createPackage", "diffDocset", "dumpDocset", "estimatePackage", "getDocset", "listCatalog", "listMembers"]
    );
    let refused = [
        ("deleteDocset", 404),
        ("getManifest", 403),
        ("listShares", 404),
        ("refreshDocset", 404),
        ("renameDocset", 404),
        ("revokeShare", 404),
        ("shareDocset", 404),
    ];
    assert_eq!(may_not, refused.map(|(id, status)| (id.to_owned(), status)));
    assert_eq!(server.get(MINER, docset["url"].as_str().unwrap()).await.json(200), docset, "nothing has changed");
    let own = json!({"collection": "c", "from": {"union": [docset["id"]]}});
    assert_eq!(server.post(STRANGER, "/api/docsets", &own).await.status, 404, "what it is made of must be one's own");
}

#[tokio::test]
async fn what_guests_have_paid_for_outlives_its_docset() {
    let server = mines().await;
    let docset = make(&server, json!({"query": "coal"})).await;
    let url = docset["url"].as_str().unwrap();
    follow(&server, link(&share(&server, &docset, json!({})).await)).await.json(200);
    let ask = async |key| server.post(key, &format!("{url}/packages"), &json!({})).await.json(202);
    let (own, theirs) = (ask(MINER).await, ask(STRANGER).await);
    let (own, theirs) = (own["url"].as_str().unwrap(), theirs["url"].as_str().unwrap());
    assert_eq!(server.ask(Method::DELETE, MINER, url, &[]).await.status, 204);
    for key in [MINER, STRANGER] {
        assert_eq!(server.get(key, url).await.status, 404);
    }
    assert_eq!(server.get(MINER, "/api/docsets").await.json(200)["docsets"], json!([]));
    assert_eq!(server.get(MINER, own).await.status, 404);
    assert_eq!(server.get(STRANGER, theirs).await.json(200)["status"], "accepted");
    let manifest = server.get(PACKAGER, &format!("{url}/manifest?fmt=txt")).await;
    assert_eq!(manifest.status, 200, "it is built still");

    let id = theirs.rsplit('/').next().unwrap().parse().unwrap();
    server.finish(id, 3).await;
    assert_eq!(server.get(STRANGER, theirs).await.json(200)["content"], "available");
    server.world.clock.advance(DAY_MS);
    assert_eq!(server.get(STRANGER, theirs).await.json(200)["content"], "erased");
    crate::dispatch::erase_expired(&server.app).await;
    assert_eq!(server.get(STRANGER, theirs).await.status, 404);
    assert_eq!(server.get(PACKAGER, &format!("{url}/manifest?fmt=txt")).await.status, 404, "nothing is left of it");
}

#[tokio::test]
async fn a_docset_is_made_anew_by_post_only() {
    let server = mines().await;
    let docset = make(&server, json!({"query": "coal"})).await;
    let path = format!("{}/refresh", docset["url"].as_str().unwrap());
    let refused = server.get(MINER, &path).await;
    assert_eq!((refused.header("allow"), refused.status.as_u16()), (Some("POST"), 405));
    assert_eq!(server.post(MINER, &path, &json!({})).await.status, 200);
}
