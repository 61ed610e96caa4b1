//! Who has a package, its manifest, its receipt and the service's public keys can prove it without the service.

use std::path::{Path, PathBuf};
use std::process::Output;

use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Doc, Server, adit, expect, noise, run, succeed, succeeded, text, write_collection};

/// A data folder with a collection `c` of four documents of 600 kB and one without a PDF, and a server on it.
fn served(dir: &Path) -> Server {
    let refs = ["a", "b", "c", "d"];
    let pdf =
        |(n, r)| Doc { r#ref: r, metadata: json!({"title": "noise"}), files: vec![("pdf", noise(n as u64, 600_000))] };
    let mut documents: Vec<Doc<'_>> = refs.into_iter().enumerate().map(pdf).collect();
    documents.push(text("e", "A text", "Some words."));
    let folder = write_collection(dir, "c", &documents);
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    succeed(&data, &["import", folder.to_str().unwrap()]);
    Server::start(&data, &[])
}

/// `adit package`: the SHA-256 and place of each part.
fn order(server: &Client, arguments: &[&str], output: &Path) -> Vec<(String, PathBuf)> {
    let mut command = adit(output.parent().unwrap());
    command.args(["--url", &server.url, "package", "1", "--formats", "pdf", "-o"]).arg(output).args(arguments);
    let saved = succeeded(command.env("ADIT_API_KEY", &server.key));
    let line = |line: &str| line.split_once("  ").map(|(sha256, place)| (sha256.to_owned(), place.into())).unwrap();
    saved.lines().map(line).collect()
}

/// `adit verify` with those keys, and with no server to ask.
fn verify(target: &Path, keys: &Path) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let arguments = ["verify", target.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
    run(nowhere.path(), &arguments)
}

fn passes(target: &Path, keys: &Path) -> String {
    let output = verify(target, keys);
    assert!(output.status.success(), "{}: {}", target.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is said of a package that is not right.
fn fails(target: &Path, keys: &Path) -> String {
    let output = verify(target, keys);
    assert_eq!(output.status.code(), Some(1), "{}", target.display());
    assert!(output.stdout.is_empty(), "nothing is said that could be taken for its being right");
    String::from_utf8(output.stderr).unwrap()
}

async fn published(server: &Client, to: &Path) -> PathBuf {
    let answer = server.get("/.well-known/jwks.json").await;
    assert_eq!(answer.headers()["content-type"], "application/jwk-set+json");
    std::fs::write(to, answer.bytes().await.unwrap()).unwrap();
    to.to_owned()
}

/// The packages of every kind below `dir`, as they are named to `adit verify`.
fn order_all(server: &Client, dir: &Path) -> Vec<PathBuf> {
    let layouts: [(&str, &[&str]); 8] = [
        ("flat.zip", &["--layout", "flat"]),
        ("bag.zip", &["--layout", "bag"]),
        ("dehydrated.zip", &["--layout", "bag", "--dehydrated"]),
        ("bag.tar.zst", &["--layout", "tar.zst"]),
        ("shards", &["--layout", "bag", "--shard-bytes", "1048576"]),
        ("flat-shards", &["--layout", "flat", "--shard-bytes", "1048576"]),
        ("lines", &["--layout", "jsonl", "--shard-bytes", "1048576"]),
        ("tables", &["--layout", "parquet"]),
    ];
    let order = |(name, arguments): (&str, &[&str])| {
        let target = dir.join(name);
        let parts = order(server, arguments, &target);
        assert_eq!(parts.len() > 1, !name.contains('.'), "{parts:?}");
        target
    };
    layouts.into_iter().map(order).collect()
}

/// All files of a package: the archive's own and its proof, or those in its folder.
fn files(target: &Path) -> Vec<PathBuf> {
    if target.is_dir() {
        return std::fs::read_dir(target).unwrap().map(|entry| entry.unwrap().path()).collect();
    }
    let beside = |ending: &str| PathBuf::from(format!("{}{ending}", target.display()));
    vec![target.to_owned(), beside(".manifest.json"), beside(".receipt.jws")]
}

#[tokio::test]
async fn a_package_is_proved_without_the_service_and_a_changed_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let server = served(dir.path());
    assert_eq!(server.docset("c", "*").await, 1);
    let targets = order_all(&server, dir.path());
    let keys = published(&server, &dir.path().join("keys.json")).await;
    assert!(server.stop().success());

    for target in &targets {
        let said = passes(target, &keys);
        assert!(said.contains("signed with the trusted key"), "{said}");
        assert!(said.contains("5 documents were requested: 4 are included, 1 omitted"), "{said}");
        for (number, file) in files(target).into_iter().enumerate() {
            let whole = std::fs::read(&file).unwrap();
            for place in
                noise(number as u64, 64).chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            {
                let bit = (place % (whole.len() as u64 * 8)) as usize;
                let mut changed = whole.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&file, changed).unwrap();
                let said = fails(target, &keys);
                assert!(said.contains(file.to_str().unwrap()), "bit {bit} of {}: {said}", file.display());
            }
            std::fs::remove_file(&file).unwrap();
            assert!(fails(target, &keys).contains(target.to_str().unwrap()));
            std::fs::write(&file, whole).unwrap();
        }
        passes(target, &keys);
    }
}

#[tokio::test]
async fn old_receipts_outlive_their_key_as_long_as_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let server = served(dir.path());
    server.docset("c", "*").await;
    let old_package = dir.path().join("old.zip");
    order(&server, &["--layout", "flat"], &old_package);
    let old_keys = published(&server, &dir.path().join("old.json")).await;
    let (data, key) = (server.data.clone(), server.key.clone());
    assert!(server.stop().success());

    let new_key = dir.path().join("new.pem");
    let new_alone = dir.path().join("new.json");
    std::fs::write(&new_alone, succeed(&data, &["keys", "signing", "--out", new_key.to_str().unwrap()])).unwrap();
    let settings = [("ADIT_SIGNING_KEY", new_key.to_str().unwrap()), ("ADIT_PUBLIC_KEYS", old_keys.to_str().unwrap())];
    let server = Server::start(&data, &settings);
    let both = published(&server, &dir.path().join("both.json")).await;
    let new_package = dir.path().join("new.zip");
    order(&server, &["--layout", "bag"], &new_package);
    let (old_said, new_said) = (passes(&old_package, &both), passes(&new_package, &both));
    let by = |said: &str| said.lines().find(|line| line.contains("signed with")).unwrap().to_owned();
    assert_ne!(by(&old_said), by(&new_said));
    assert!(fails(&new_package, &old_keys).contains("not among the trusted ones"));
    assert!(fails(&old_package, &new_alone).contains("not among the trusted ones"));

    // What is built again is the same, and is signed by the key of the day.
    let owner = Client::new(&server.url, &key);
    let again = dir.path().join("again.zip");
    order(&owner, &["--layout", "flat"], &again);
    passes(&again, &old_keys);
    let package = owner.package(1, &json!({"formats": ["pdf"], "layout": "flat"})).await;
    expect(owner.request(Method::DELETE, package["url"].as_str().unwrap()).send().await.unwrap(), 200).await;
    // The receipt that is there is another one.
    order(&owner, &["--layout", "flat", "--force"], &again);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&old_package).unwrap());
    passes(&again, &new_alone);
}
