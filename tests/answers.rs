//! What a search answers: pages behind one another, the whole of it in lines, and on the command line.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Doc, Server, adit, expect, succeeded, write_collection};
use tempfile::TempDir;

/// More documents than are read at once for an answer in lines.
const DOCUMENTS: usize = 613;

/// A server on a collection of many documents, with metadata that are awkward in a spreadsheet.
fn many() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let refs: Vec<String> = (0..DOCUMENTS).map(|n| format!("doc.{}", n * 7919 % DOCUMENTS)).collect();
    let documents = refs.iter().enumerate().map(|(n, r)| Doc {
        r#ref: r,
        metadata: json!({"title": format!("=HYPERLINK(\"x\") no. {n}, \"quoted\""), "creator": ["Doe, Jane", "Roe, R."],
                         "abstract": "one\r\ntwo", "issued": format!("{}", 1900 + n % 100)}),
        files: vec![("txt", format!("coal {}", "iron ".repeat(n % 17)).into_bytes())],
    });
    let documents: Vec<Doc<'_>> = documents.collect();
    let folder = write_collection(dir.path(), "c", &documents);
    let data = dir.path().join("data");
    crate::support::succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, &[]);
    (dir, server)
}

async fn lines(server: &Server, accept: &str, body: &Value) -> Response {
    let request = server.request_as(None, Method::POST, "/api/collections/c/search").header("accept", accept);
    request.json(body).send().await.unwrap()
}

async fn ndjson(server: &Server, body: &Value) -> Vec<Value> {
    let answer = lines(server, "application/x-ndjson", body).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_whole_answer_is_its_pages_in_every_order_and_form() {
    let (_dir, server) = many();
    for sort in ["relevance", "date", "ref"] {
        let mut body = json!({"query": "coal iron", "sort": sort, "limit": 100});
        let mut paged: Vec<Value> = Vec::new();
        loop {
            let page = server.search("c", &body).await;
            paged.extend(page["documents"].as_array().unwrap().iter().cloned());
            assert_eq!(page["next"].is_null(), paged.len() as u64 == page["hits"].as_u64().unwrap());
            body["cursor"] = page["next"].clone();
            if page["next"].is_null() {
                break;
            }
        }
        assert!(paged.len() > 500 && paged.len() < DOCUMENTS);
        let wish = json!({"query": "coal iron", "sort": sort});
        assert_eq!(ndjson(&server, &wish).await, paged, "by {sort}");

        let answer = lines(&server, "text/csv", &wish).await;
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
        assert_eq!(answer.headers()["x-total-hits"], paged.len().to_string().as_str());
        assert_eq!(answer.headers()["x-corpus-version"], "1");
        let text = answer.text().await.unwrap();
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(
            rows.headers().unwrap().iter().take(6).collect::<Vec<_>>(),
            ["id", "ref", "version", "url", "score", "title"]
        );
        for (row, document) in rows.records().map(Result::unwrap).zip(&paged) {
            let title = document["metadata"]["title"].as_str().unwrap();
            assert_eq!((&row[0], &row[1]), (document["id"].to_string().as_str(), document["ref"].as_str().unwrap()));
            assert_eq!(
                (row[5].to_owned(), &row[6], &row[16]),
                (format!("'{title}"), "Doe, Jane; Roe, R.", "one\r\ntwo")
            );
            assert_eq!(&row[15], "meta; txt");
        }
        assert_eq!(text.matches("'=HYPERLINK").count(), paged.len());
    }
    let none = lines(&server, "text/csv", &json!({"query": "nothing-has-this"})).await.text().await.unwrap();
    assert!(none.starts_with("id,ref,version,url,") && none.ends_with(",abstract\r\n") && none.lines().count() == 1);
}

#[tokio::test]
async fn lines_begin_at_a_cursor_end_at_a_limit_and_have_no_facets() {
    let (_dir, server) = many();
    let all = ndjson(&server, &json!({"query": "*", "sort": "ref"})).await;
    assert_eq!(all.len(), DOCUMENTS);
    let first = server.search("c", &json!({"query": "*", "sort": "ref", "limit": 7})).await;
    let rest = json!({"query": "*", "sort": "ref", "cursor": first["next"], "limit": 300});
    assert_eq!(ndjson(&server, &rest).await, all[7..307]);
    assert_eq!(ndjson(&server, &json!({"query": "*", "limit": 0})).await, Vec::<Value>::new());
    let refused = lines(&server, "text/csv", &json!({"query": "*", "facets": ["year"]})).await;
    assert_eq!(expect(refused, 406).await["type"], "urn:adit:problem:not-acceptable");
    let refused = lines(&server, "text/csv", &json!({"query": "titel:x"})).await;
    assert_eq!(expect(refused, 400).await["type"], "urn:adit:problem:unknown-field");
}

#[tokio::test]
async fn a_cursor_goes_on_in_its_question_and_version() {
    let (dir, server) = many();
    let first = server.search("c", &json!({"query": "coal", "sort": "ref", "limit": 5, "facets": ["year"]})).await;
    let next = first["next"].as_str().unwrap();
    for other in [json!({"query": "iron", "sort": "ref"}), json!({"query": "coal"})] {
        let mut body = other;
        body["cursor"] = json!(next);
        let refused = expect(server.post("/api/collections/c/search", &body).await, 400).await;
        assert_eq!(refused["type"], "urn:adit:problem:invalid-cursor");
    }
    let added = Doc { r#ref: "aaa", metadata: json!({"title": "new"}), files: vec![("txt", b"coal".to_vec())] };
    let folder = write_collection(dir.path(), "c", &[added]);
    crate::support::succeed(&server.data, &["import", folder.to_str().unwrap()]);
    // How much is shown, and whether facets are counted, may change from page to page.
    let body = json!({"query": "coal", "sort": "ref", "limit": 3, "cursor": next, "facets": ["language", "year"]});
    let second = server.search("c", &body).await;
    assert_eq!((&second["corpus_version"], &second["hits"]), (&json!(1), &first["hits"]));
    assert_eq!(second["facets"]["year"], first["facets"]["year"]);
    assert_eq!(second["documents"].as_array().unwrap().len(), 3);
    assert_eq!(server.search("c", &json!({"query": "coal", "limit": 0})).await["corpus_version"], 2);
}

#[tokio::test]
async fn the_command_line_prints_answers_in_every_form() {
    let (_dir, server) = many();
    let search = |arguments: &[&str]| succeeded(adit(&server.data).args(["search", "c"]).args(arguments));
    let csv = search(&["coal", "--format", "csv"]);
    assert_eq!(csv::Reader::from_reader(csv.as_bytes()).records().count(), DOCUMENTS);
    assert_eq!(search(&["coal", "--format", "ndjson", "--limit", "12"]).lines().count(), 12);
    let page: Value = serde_json::from_str(&search(&["coal", "--format", "json"])).unwrap();
    assert_eq!((page["documents"].as_array().unwrap().len(), &page["hits"]), (10, &json!(DOCUMENTS)));
    assert!(search(&["coal"]).ends_with("613 hits\n"));
}

/// A server on documents of which one is restricted, and one says the word far behind its beginning.
fn some() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let document = |r#ref, metadata, text: String| Doc { r#ref, metadata, files: vec![("txt", text.into_bytes())] };
    let documents = [
        document(
            "open",
            json!({"title": "Öffnung der Grube", "subject": ["Kohle", "Erz"]}),
            "𝄞 Über Kohle. ".repeat(40),
        ),
        document("closed", json!({"title": "Kohle", "accessRights": "restricted"}), "Die geheime Kohle.".to_owned()),
        document("long", json!({"title": "Ein Band"}), format!("{}Kohle", "Wort ".repeat(300_000))),
    ];
    let folder = write_collection(dir.path(), "c", &documents);
    let data = dir.path().join("data");
    crate::support::succeed(&data, &["import", folder.to_str().unwrap()]);
    let server = Server::start(&data, &[]);
    (dir, server)
}

/// The snippets of each document by its ref.
async fn snippets(server: &Server, key: Option<&str>, body: &Value) -> std::collections::BTreeMap<String, Value> {
    let request = server.request_as(key, Method::POST, "/api/collections/c/search").json(body);
    let answer = expect(request.send().await.unwrap(), 200).await;
    let documents = answer["documents"].as_array().unwrap().iter();
    documents.map(|document| (document["ref"].as_str().unwrap().to_owned(), document["snippets"].clone())).collect()
}

/// What the marks of a field's snippets stand on.
fn marked(snippets: &Value, field: &str) -> Vec<String> {
    let mut words = Vec::new();
    for snippet in snippets[field].as_array().into_iter().flatten() {
        let text: Vec<char> = snippet["text"].as_str().unwrap().chars().collect();
        for mark in snippet["marks"].as_array().unwrap() {
            let (from, to) = (mark[0].as_u64().unwrap() as usize, mark[1].as_u64().unwrap() as usize);
            words.push(text[from..to].iter().collect());
        }
    }
    words
}

#[tokio::test]
async fn snippets_show_where_words_stand_to_those_who_may_read_them() {
    let (_dir, server) = some();
    let miner = server.new_key("miner", &[]);
    let body = json!({"query": "kohle", "highlight": true});
    let public = snippets(&server, None, &body).await;
    assert_eq!((public.len(), marked(&public["open"], "subject")), (3, vec!["Kohle".to_owned()]));
    assert!(public.values().all(|snippets| snippets["text"].is_null()), "of texts there are none without a key");
    let open = snippets(&server, Some(&miner), &body).await;
    assert_eq!(marked(&open["open"], "subject"), ["Kohle"]);
    let words = marked(&open["open"], "text");
    assert!(words.len() > 5 && words.iter().all(|word| word == "Kohle"), "{words:?}");
    assert!(open["open"]["text"].as_array().unwrap().len() <= 3);
    assert_eq!(open["closed"], json!({"title": [{"text": "Kohle", "marks": [[0, 5]]}]}), "a text that nobody may read");
    assert_eq!(open["long"], json!({}), "a text is looked at from its beginning, for a MiB");
    let entitled = snippets(&server, Some(&server.key), &body).await;
    assert_eq!(marked(&entitled["closed"], "text"), ["Kohle"]);

    let chosen = json!({"query": "kohle", "highlight": {"fields": ["text"], "size": 1}});
    let chosen = snippets(&server, Some(&miner), &chosen).await;
    assert_eq!(chosen["open"]["text"].as_array().unwrap().len(), 1);
    assert!(chosen["open"]["subject"].is_null());
    let of_title = snippets(&server, None, &json!({"query": "title:grube", "highlight": true})).await;
    assert_eq!(
        (marked(&of_title["open"], "title"), &of_title["open"]["text"]),
        (vec!["Grube".to_owned()], &Value::Null)
    );
    assert_eq!(snippets(&server, None, &json!({"query": "kohle"})).await["open"], Value::Null);
    let wrong = json!({"query": "kohle", "highlight": {"fields": ["titel"]}});
    let refused = server.post("/api/collections/c/search", &wrong).await;
    assert_eq!(expect(refused, 400).await["type"], "urn:adit:problem:unknown-field");
    let refused = lines(&server, "application/x-ndjson", &body).await;
    assert_eq!(expect(refused, 406).await["type"], "urn:adit:problem:not-acceptable");

    let printed = succeeded(adit(&server.data).args(["search", "c", "title:grube", "--highlight"]));
    assert!(printed.contains("title: Öffnung der [Grube]"), "{printed}");
    let dsl = server.data.join("dsl.json");
    std::fs::write(&dsl, json!({"match": {"title": "grube"}}).to_string()).unwrap();
    assert!(succeeded(adit(&server.data).args(["search", "c", "--dsl", dsl.to_str().unwrap()])).ends_with("1 hits\n"));
}
