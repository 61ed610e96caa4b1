//! The main job from documents to a verified archive, in every layout, with refs of every kind: one journey, the same on every broker,
//! database and object store.

use std::collections::BTreeMap;
use std::process::Command;

use adit_shared::digest::Sha256;
use serde_json::{Value, json};

use crate::support::{
    BrokerKind, Client, DatabaseKind, Deployment, Doc, StoreKind, eventually, expect, noise, salted, text, unzip,
    write_collection,
};

/// Whether a tool that miners use is on this machine; the program itself needs none of them.
fn has(tool: &str, arguments: &[&str]) -> bool {
    let found = Command::new(tool).args(arguments).output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {tool} {arguments:?} is not on this machine");
    }
    found
}

fn accepted_by(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {text}");
}

/// Refs that would be dangerous or ambiguous as file names.
fn awkward() -> Vec<String> {
    let mut refs: Vec<String> = [
        "with space",
        "Ünïcödé",
        "日本語",
        "../../etc/passwd",
        "/absolute",
        "..",
        "Case",
        "case",
        "a/b",
        "a\\b",
        "nul",
        "x:y*?",
        "tab\there",
        "%41",
        ".hidden",
        "trailing.",
    ]
    .map(str::to_owned)
    .to_vec();
    refs.push("long".repeat(50));
    refs.push("É".repeat(200));
    refs
}

fn sources(refs: &[String]) -> Vec<Doc<'_>> {
    let files = |n: usize| {
        let mut files = vec![("txt", format!("text number {n} ").repeat(n * 40).into_bytes())];
        if n.is_multiple_of(2) {
            files.push(("pdf", noise(n as u64, 30_000 + n)));
        }
        if n.is_multiple_of(3) {
            files.push(("xml", format!("<doc n=\"{n}\"/>").into_bytes()));
        }
        files
    };
    let document = |(n, r)| Doc { r#ref: r, metadata: json!({"title": format!("Title {n}")}), files: files(n) };
    refs.iter().map(String::as_str).enumerate().map(document).collect()
}

/// What an archive must hold, by (ref, format).
fn expected(documents: &[Doc<'_>]) -> BTreeMap<(String, String), Vec<u8>> {
    let file = |r: &str, (format, content): &(&str, Vec<u8>)| ((r.to_owned(), (*format).to_owned()), content.clone());
    documents.iter().flat_map(|d| d.files.iter().map(|f| file(d.r#ref, f))).collect()
}

/// The journey, on each combination of parts.
macro_rules! journeys {
    ($($name:ident: $broker:ident, $database:ident, $store:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let parts = Deployment::new(BrokerKind::$broker, DatabaseKind::$database, StoreKind::$store);
                if let Some(deployment) = parts.await {
                    the_main_job(&deployment).await;
                }
            }
        )+
    };
}

journeys! {
    embedded_sqlite_folder: Embedded, Sqlite, Folder;
    embedded_sqlite_s3: Embedded, Sqlite, S3;
    embedded_postgres_folder: Embedded, Postgres, Folder;
    embedded_postgres_s3: Embedded, Postgres, S3;
    rabbitmq_sqlite_folder: RabbitMq, Sqlite, Folder;
    rabbitmq_sqlite_s3: RabbitMq, Sqlite, S3;
    rabbitmq_postgres_folder: RabbitMq, Postgres, Folder;
    rabbitmq_postgres_s3: RabbitMq, Postgres, S3;
    activemq_sqlite_folder: ActiveMq, Sqlite, Folder;
    activemq_sqlite_s3: ActiveMq, Sqlite, S3;
    activemq_postgres_folder: ActiveMq, Postgres, Folder;
    activemq_postgres_s3: ActiveMq, Postgres, S3;
}

async fn the_main_job(deployment: &Deployment) {
    let refs = awkward();
    let documents = sources(&refs);
    deployment.import(&write_collection(deployment.folder(), "odd", &documents));
    let server = deployment.start(&[]);
    every_file_comes_out_as_it_went_in(deployment, &server, &documents).await;
    equal_packages_have_equal_bytes(deployment, &server).await;
    dump_answers_202_until_the_archive_is_ready(&server).await;
    a_docset_keeps_what_it_froze_when_the_corpus_moves_on(deployment, &server).await;
    server.stop();
}

async fn every_file_comes_out_as_it_went_in(deployment: &Deployment, server: &Client, documents: &[Doc<'_>]) {
    let docset = server.docset("odd", "*").await;
    let count = documents.len();
    for layout in ["flat", "bag"] {
        let body = json!({"formats": ["txt", "pdf", "xml", "meta"], "layout": layout});
        let estimate =
            server.json(&format!("/api/docsets/{docset}/estimate?fmts=txt,pdf,xml,meta&layout={layout}")).await;
        let (package, bytes) = server.archive(docset, &body).await;
        assert_eq!(package["sha256"], Sha256::of(&bytes).to_string());
        assert_eq!((&package["size"], &estimate["bytes"]), (&json!(bytes.len()), &json!(bytes.len())));
        let told =
            json!({"requested": count, "done": count, "included": count, "omitted": 0, "rights": 0, "withdrawn": 0});
        assert_eq!(package["documents"], told);
        let stem = format!("{layout}-{}", &package["fingerprint"].as_str().unwrap()[..12]);
        let (folder, name) = ((layout == "bag").then(|| stem.clone()), format!("{stem}.zip"));
        let download = server.download(package["download"].as_str().unwrap()).await;
        assert_eq!(download.headers()["content-disposition"], format!("attachment; filename=\"{name}\""));
        check_archive(&deployment.folder().join(format!("{layout}.zip")), &bytes, documents, folder.as_deref());
    }
}

fn check_archive(path: &std::path::Path, bytes: &[u8], documents: &[Doc<'_>], bag: Option<&str>) {
    let entries = unzip(bytes);
    let base = bag.map(|folder| format!("{folder}/")).unwrap_or_default();
    assert!(entries.keys().all(|name| name.starts_with(&base)), "a bag unpacks into one folder");
    let payload = base + if bag.is_some() { "data/" } else { "" };
    let payload = |name: &String| name.strip_prefix(&payload).map(str::to_owned);
    let files: BTreeMap<String, &Vec<u8>> =
        entries.iter().filter_map(|(name, content)| Some((payload(name)?, content))).collect();
    // The metadata of each document tells its ref, which leads from safe names back to the sources.
    let mut found = BTreeMap::new();
    let folded: std::collections::BTreeSet<String> = files.keys().map(|name| name.to_lowercase()).collect();
    assert_eq!(folded.len(), files.len(), "names are told apart even where case is ignored");
    for (name, content) in files.iter().filter(|(name, _)| name.ends_with(".json")) {
        let meta: Value = serde_json::from_slice(content).unwrap();
        let stem = name.strip_suffix(".json").unwrap();
        assert!(name.len() <= 255 && !name.contains(['/', '\\', ':']) && !name.starts_with('.'), "{name}");
        for format in ["txt", "pdf", "xml"] {
            if let Some(content) = files.get(&format!("{stem}.{format}")) {
                found.insert((meta["ref"].as_str().unwrap().to_owned(), format.to_owned()), (*content).clone());
            }
        }
    }
    assert!(found == expected(documents), "every file equals its source");
    std::fs::write(path, bytes).unwrap();
    let file = path.to_str().unwrap();
    if has("unzip", &["-v"]) {
        accepted_by("unzip", &["-tq", file]);
    }
    if has("python3", &["--version"]) {
        accepted_by(
            "python3",
            &["-c", "import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None", file],
        );
    }
    if let Some(base) = bag.filter(|_| has("python3", &["-c", "import bagit"])) {
        let folder = path.with_extension("unpacked");
        accepted_by("python3", &["-m", "zipfile", "-e", file, folder.to_str().unwrap()]);
        let unpacked: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(unpacked, [base]);
        accepted_by("python3", &["-m", "bagit", "--validate", folder.join(base).to_str().unwrap()]);
    }
}

async fn dump_answers_202_until_the_archive_is_ready(server: &Client) {
    let docset = server.docset("odd", "number").await;
    for parameter in ["fmts=txt,meta", "fmt=meta"] {
        let path = format!("/api/docsets/{docset}/dump?{parameter}");
        let first = server.get(&path).await;
        assert_eq!(first.status(), 202);
        assert!(first.headers().contains_key("retry-after"));
        let location = first.headers()["location"].to_str().unwrap().to_owned();
        let package = server.json(&location).await;
        assert_eq!(package["layout"], "flat");
        let download = eventually("303", || async {
            let answer = server.get(&path).await;
            match answer.status().as_u16() {
                202 => None,
                303 => Some(answer.headers()["location"].to_str().unwrap().to_owned()),
                other => panic!("{other}: {}", answer.text().await.unwrap()),
            }
        })
        .await;
        let archive = server.download(&download).await;
        assert_eq!(archive.headers()["content-type"], "application/zip");
        assert!(!unzip(&archive.bytes().await.unwrap()).is_empty());
    }
    let unknown = expect(server.get(&format!("/api/docsets/{docset}/dump?fmts=docx")).await, 400).await;
    assert_eq!(unknown["type"], "urn:adit:problem:unknown-format");
    assert_eq!(unknown["formats"], json!(["meta", "pdf", "txt", "xml"]));
    let default = server.get(&format!("/api/docsets/{docset}/dump")).await;
    assert_eq!(default.status(), 202);
}

async fn equal_packages_have_equal_bytes(deployment: &Deployment, server: &Client) {
    let docset = server.docset("odd", "*").await;
    let objects = deployment.objects().await;
    let ask = |reuse: bool| json!({"formats": ["meta", "txt"], "layout": "bag", "reuse": reuse});
    let (first, bytes) = server.archive(docset, &ask(true)).await;
    let again = expect(server.post(&format!("/api/docsets/{docset}/packages"), &ask(true)).await, 200).await;
    assert_eq!((&again["id"], &again["terminal"]), (&first["id"], &json!(true)));

    let (second, second_bytes) = server.archive(docset, &ask(false)).await;
    assert_ne!(second["id"], first["id"]);
    assert!(bytes == second_bytes, "built twice");

    for package in [&first, &second] {
        let url = package["url"].as_str().unwrap();
        let deleted = expect(server.request(reqwest::Method::DELETE, url).send().await.unwrap(), 200).await;
        assert_eq!((&deleted["content"], &deleted["download"]), (&json!("erased"), &Value::Null));
        let gone = expect(server.get(&format!("{url}/download")).await, 410).await;
        assert_eq!(gone["rebuild"]["body"]["layout"], "bag");
        let prefix = format!("packages/{}/", salted(package));
        eventually("the packager has deleted the archive", || async {
            objects.list(&prefix).await.unwrap().is_empty().then_some(())
        })
        .await;
    }
    let (third, third_bytes) = server.archive(docset, &ask(true)).await;
    assert!(third["id"] != first["id"] && third["id"] != second["id"]);
    assert!(bytes == third_bytes, "deleted and built again");

    let other = server.docset("odd", "*").await;
    let (fourth, fourth_bytes) = server.archive(other, &ask(true)).await;
    assert_eq!(fourth["fingerprint"], first["fingerprint"]);
    assert!(bytes == fourth_bytes, "another docset of the same documents");
}

async fn a_docset_keeps_what_it_froze_when_the_corpus_moves_on(deployment: &Deployment, server: &Client) {
    let dir = deployment.folder();
    let folder = write_collection(dir, "c", &[text("a", "A", "first words"), text("b", "B", "other words")]);
    deployment.import(&folder);
    let old = server.docset("c", "words").await;
    write_collection(
        dir,
        "c",
        &[text("a", "A", "second words"), text("b", "B", "other words"), text("n", "N", "new words")],
    );
    let report = deployment.import(&folder);
    assert!(report.contains("1 added, 1 updated, 1 unchanged"), "{report}");

    let hits = async |query: &str| server.search("c", &json!({"query": query})).await;
    assert_eq!(hits("words").await["hits"], 3);
    assert_eq!(hits("first").await["hits"], 0);
    let second = hits("second").await;
    assert_eq!((&second["hits"], &second["documents"][0]["version"]), (&json!(1), &json!(2)));
    assert_eq!(second["corpus_version"], 2);

    let (_, bytes) = server.archive(old, &json!({})).await;
    assert_eq!(
        unzip(&bytes),
        BTreeMap::from([("a.txt".into(), b"first words".to_vec()), ("b.txt".into(), b"other words".to_vec())])
    );
    let new = server.docset("c", "words").await;
    let (_, bytes) = server.archive(new, &json!({})).await;
    assert_eq!(unzip(&bytes).len(), 3);
}
