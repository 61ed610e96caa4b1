//! The requests that clients of the earlier service make, in its own parameter names: collections, schema, search in the Elasticsearch DSL, documents, text as
//! PDF, docsets, members, catalog, dump. One journey, written as such a client would.

use std::fmt::Write as _;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Client, Doc, Server, eventually, expect, succeed, unzip, write_collection};

/// A PDF file of one page with a line of text (ISO 32000-1), which readers open.
fn pdf(line: &str) -> Vec<u8> {
    let content = format!("BT /F1 12 Tf 72 720 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = String::from("%PDF-1.4\n");
    let mut places = String::from("0000000000 65535 f \n");
    for (number, object) in (1..).zip(&objects) {
        writeln!(places, "{:010} 00000 n ", file.len()).unwrap();
        writeln!(file, "{number} 0 obj\n{object}\nendobj").unwrap();
    }
    let start = file.len();
    write!(file, "xref\n0 6\n{places}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").unwrap();
    file.into_bytes()
}

/// Ref, title, subject, date.
const PAPERS: [(&str, &str, &str, &str); 5] = [
    ("soil.1", "Soil moisture from space", "remote sensing", "2017-03"),
    ("soil.2", "Soil moisture in the field", "field work", "2018-06-30"),
    ("soil.3", "Ground water and soil", "field work", "2019"),
    ("ore.1", "Mining of copper ore", "mining", "2018"),
    ("ore.2", "Soil after mining", "mining", "2020-01-15"),
];

fn papers() -> Vec<Doc<'static>> {
    let paper = |(r#ref, title, subject, issued): (&'static str, &str, &str, &str)| Doc {
        r#ref,
        metadata: json!({"title": title, "subject": [subject], "issued": issued, "type": "Article", "language": "en"}),
        files: vec![("txt", format!("{title}. A paper about {subject}.").into_bytes()), ("pdf", pdf(title))],
    };
    PAPERS.into_iter().map(paper).collect()
}

fn refs(documents: &Value) -> Vec<&str> {
    let mut refs: Vec<&str> =
        documents.as_array().unwrap().iter().map(|document| document["ref"].as_str().unwrap()).collect();
    refs.sort_unstable();
    refs
}

/// What the client looks for in all of this: papers on soil of three years that are not about mining.
fn wanted() -> Value {
    json!({"bool": {
        "must": [{"match": {"title": {"query": "soil", "operator": "and"}}}],
        "filter": [{"range": {"issued": {"gte": "2017", "lt": "2020"}}}, {"terms": {"type.keyword": ["Article"]}}],
        "must_not": [{"term": {"subject": "mining"}}]
    }})
}

#[tokio::test]
async fn what_clients_of_the_earlier_service_ask_for_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    succeed(&data, &["import", write_collection(dir.path(), "papers", &papers()).to_str().unwrap()]);
    let server = Server::start(&data, &[]);
    collections_and_schema(&server).await;
    let hit = search(&server).await;
    document_and_text(&server, &hit).await;
    let docset = docsets(&server).await;
    members_and_catalog(&server, docset).await;
    for (parameters, formats) in
        [("fmts=txt,meta", &["json", "txt"][..]), ("fmt=txt", &["txt"]), ("fmts=pdf", &["pdf"]), ("", &["txt"])]
    {
        dump(&server, docset, parameters, formats).await;
    }
    expect(server.request(Method::DELETE, &format!("/api/docsets/{docset}")).send().await.unwrap(), 204).await;
    expect(server.get(&format!("/api/docsets/{docset}")).await, 404).await;
}

async fn collections_and_schema(server: &Client) {
    let list = server.json("/api/collections").await;
    assert_eq!(list["collections"][0]["slug"], "papers");
    let collection = server.json("/api/collections/papers").await;
    assert_eq!(collection["documents"], PAPERS.len());
    let schema = server.json("/api/collections/papers/schema").await;
    assert!(schema["properties"]["title"].is_object(), "{schema}");
}

/// Pages through the answer; gives a document of it.
async fn search(server: &Client) -> Value {
    let mut body = json!({"query": wanted(), "limit": 2});
    let first = server.search("papers", &body).await;
    assert_eq!(first["hits"], 3);
    body["cursor"] = first["next"].clone();
    let second = server.search("papers", &body).await;
    assert_eq!((first["documents"].as_array().unwrap().len(), second["next"].is_null()), (2, true));
    let all: Vec<Value> =
        [&first, &second].iter().flat_map(|page| page["documents"].as_array().unwrap().clone()).collect();
    assert_eq!(refs(&json!(all)), ["soil.1", "soil.2", "soil.3"]);

    let counted = server.search("papers", &json!({"query": {"match_all": {}}, "limit": 0})).await;
    assert_eq!((&counted["hits"], &counted["documents"]), (&json!(PAPERS.len()), &json!([])));

    let odd = json!({"query": {"bool": {"must": [{"match_all": {}}, {"fuzzy": {"title": "soill"}}]}}});
    let refused = expect(server.post("/api/collections/papers/search", &odd).await, 400).await;
    assert_eq!(refused["type"], "urn:adit:problem:invalid-query");
    assert!(refused["detail"].as_str().unwrap().starts_with("bool.must[1].fuzzy is not supported"), "{refused}");
    first["documents"][0].clone()
}

async fn document_and_text(server: &Client, hit: &Value) {
    let path = format!("/api/documents/{}", hit["id"]);
    let document = server.json(&path).await;
    assert_eq!((&document["ref"], &document["metadata"]), (&hit["ref"], &hit["metadata"]));
    let title = document["metadata"]["title"].as_str().unwrap();
    let text = async |accept: &str| -> Response {
        server.request(Method::GET, &format!("{path}/text")).header("accept", accept).send().await.unwrap()
    };
    let plain = text("text/plain").await;
    assert!(plain.text().await.unwrap().starts_with(title));
    let printed = text("application/pdf").await;
    assert_eq!(
        (printed.status().as_u16(), &printed.headers()["content-type"]),
        (200, &"application/pdf".parse().unwrap())
    );
    assert_eq!(printed.bytes().await.unwrap(), pdf(title));
}

/// Makes, lists, shows and renames docsets; gives the one of the query.
async fn docsets(server: &Client) -> i64 {
    let body = json!({"collection": "papers", "name": "Soil", "query": wanted()});
    let made = server.post("/api/docsets", &body).await;
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let docset = expect(made, 201).await;
    assert_eq!((&docset["size"], &docset["query"]), (&json!(3), &wanted()));
    let chosen = json!({"collection": "papers", "refs": ["ore.1", "ore.2"]});
    let chosen = expect(server.post("/api/docsets", &chosen).await, 201).await;

    let first = server.json("/api/docsets?limit=1").await;
    assert_eq!(first["docsets"][0]["id"], chosen["id"]);
    let second = server.json(&format!("/api/docsets?limit=1&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!((&second["docsets"][0]["id"], &second["next"]), (&docset["id"], &Value::Null));

    assert_eq!(server.json(&location).await["query"], wanted());
    let renamed = server.request(Method::PATCH, &location).json(&json!({"name": "Soil and water"}));
    assert_eq!(expect(renamed.send().await.unwrap(), 200).await["name"], "Soil and water");
    docset["id"].as_i64().unwrap()
}

async fn members_and_catalog(server: &Client, docset: i64) {
    for (list, documents) in [("members", "members"), ("catalog", "documents")] {
        let path = format!("/api/docsets/{docset}/{list}");
        let first = server.json(&format!("{path}?limit=2")).await;
        let second = server.json(&format!("{path}?limit=2&cursor={}", first["next"].as_str().unwrap())).await;
        assert_eq!(refs(&first[documents]), ["soil.1", "soil.2"]);
        assert_eq!((refs(&second[documents]), &second["next"]), (vec!["soil.3"], &Value::Null));
    }
    let catalog = server.json(&format!("/api/docsets/{docset}/catalog")).await;
    assert_eq!(catalog["documents"][0]["metadata"]["subject"], json!(["remote sensing"]));
}

/// Asks again and again until it is led to the archive, which has each member in these formats.
async fn dump(server: &Client, docset: i64, parameters: &str, extensions: &[&str]) {
    let path = format!("/api/docsets/{docset}/dump?{parameters}");
    let download = eventually("the dump is ready", || async {
        let answer = server.get(&path).await;
        match answer.status().as_u16() {
            202 => {
                assert!(answer.headers().contains_key("retry-after") && answer.headers().contains_key("location"));
                None
            }
            303 => Some(answer.headers()["location"].to_str().unwrap().to_owned()),
            status => panic!("{path}: {status}: {}", answer.text().await.unwrap()),
        }
    })
    .await;
    let archive = server.download(&download).await.bytes().await.unwrap();
    let names: Vec<String> = unzip(&archive).into_keys().collect();
    let expected: Vec<String> = ["soil.1", "soil.2", "soil.3"]
        .iter()
        .flat_map(|r#ref| extensions.iter().map(move |extension| format!("{ref}.{extension}")))
        .collect();
    assert_eq!(names, expected, "{path}");
}
