//! Every layout gives back what was imported, value for value and byte for byte, where numbers and lengths are large: more entries than ZIP
//! counts in 16 bits, a text of 2 GB, an archive of more than 4 GiB. (Awkward values are ordered and loaded in `tests/validators`.)

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use adit_shared::digest::Sha256;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::support::{Api, BrokerKind, DatabaseKind, Deployment, StoreKind, eventually, expect, noise, salted};

/// Every layout, and what else its package is asked for with.
fn recipes() -> [Value; 5] {
    [
        json!({"layout": "flat"}),
        json!({"layout": "bag"}),
        json!({"layout": "tar.zst"}),
        json!({"layout": "jsonl"}),
        json!({"layout": "parquet"}),
    ]
}

/// A server with a collection `large`, and a folder to download to.
struct Site {
    deployment: Deployment,
    api: Api,
    docset: i64,
}

impl Site {
    /// Imports documents of one file each, whose contents `write` writes.
    async fn new(
        refs: &[String],
        format: &str,
        mut write: impl FnMut(usize, &mut dyn io::Write) -> io::Result<()>,
    ) -> Self {
        let deployment = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder).await.unwrap();
        let folder = deployment.folder().join("large");
        fs::create_dir_all(folder.join("files")).unwrap();
        fs::write(folder.join("collection.json"), json!({"slug": "large", "name": "Large"}).to_string()).unwrap();
        let mut lines = BufWriter::new(File::create(folder.join("documents.jsonl")).unwrap());
        for (number, r#ref) in refs.iter().enumerate() {
            let path = format!("files/{number}");
            let mut file = BufWriter::new(File::create(folder.join(&path)).unwrap());
            write(number, &mut file).unwrap();
            file.flush().unwrap();
            let line = json!({"ref": r#ref, "metadata": {"title": format!("Document {number}")},
                "files": [{"format": format, "path": path}]});
            writeln!(lines, "{line}").unwrap();
        }
        lines.flush().unwrap();
        deployment.import(&folder);
        fs::remove_dir_all(folder).unwrap();
        let api = deployment.up(&[]);
        let docset = api.client.docset("large", "*").await;
        Self { deployment, api, docset }
    }

    /// Orders a package and waits for it.
    async fn ask(&self, format: &str, recipe: &Value) -> Value {
        let mut recipe = recipe.clone();
        recipe["formats"] = json!([format]);
        let package = self.api.client.ask(self.docset, &recipe).await;
        let package = finished(&self.api, package).await;
        assert_eq!(package["status"], "successful", "{recipe}: {package}");
        package
    }

    /// Orders a package; gives its assets as files, in their order, without manifest and receipt.
    async fn order(&self, format: &str, recipe: &Value) -> Vec<PathBuf> {
        let package = self.ask(format, recipe).await;
        let assets = self.api.client.json(&format!("/api/packages/{}/assets", package["id"])).await;
        let mut paths = Vec::new();
        for asset in assets["assets"].as_array().unwrap() {
            let name = asset["name"].as_str().unwrap();
            if name == "manifest.json" || name == "receipt.jws" {
                continue;
            }
            let path = self.deployment.folder().join(name);
            let mut answer = self.api.client.download(asset["url"].as_str().unwrap()).await;
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let mut hash = sha2::Sha256::new();
            while let Some(chunk) = answer.chunk().await.unwrap() {
                hash.update(&chunk);
                file.write_all(&chunk).unwrap();
            }
            file.flush().unwrap();
            assert_eq!(Sha256(hash.finalize().into()).to_string(), asset["sha256"], "{name}");
            paths.push(path);
        }
        paths
    }
}

/// Large packages take more time than most conditions may.
async fn finished(api: &Api, package: i64) -> Value {
    let began = std::time::Instant::now();
    loop {
        let package = api.client.json(&format!("/api/packages/{package}")).await;
        if package["terminal"] == true {
            return package;
        }
        assert!(began.elapsed().as_secs() < 900, "not terminal: {package}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// A file's SHA-256 and length.
fn sum(mut content: impl Read) -> (Sha256, u64) {
    let (mut hash, mut length, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = content.read(&mut buffer).unwrap();
        if read == 0 {
            return (Sha256(hash.finalize().into()), length);
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

/// What a package holds, by the name or path of each file or row: hash and length of its content.
type Contents = BTreeMap<String, (Sha256, u64)>;

/// Files of a ZIP archive.
fn zip_contents(path: &Path) -> Contents {
    let mut zip = zip::ZipArchive::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let entries = (0..zip.len()).map(|index| {
        let entry = zip.by_index(index).unwrap();
        (entry.name().unwrap().into_owned(), sum(entry))
    });
    entries.collect()
}

/// Files of a tar archive.
fn tar_contents(path: &Path) -> Contents {
    let decoder = zstd::stream::read::Decoder::new(File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(decoder);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), sum(entry))
    });
    entries.collect()
}

/// What a line says; its text is hashed, not kept.
#[derive(serde::Deserialize)]
struct Row {
    name: String,
    text: Hashed,
    text_sha256: String,
    text_bytes: Option<String>,
}

/// Hash and length of a text.
struct Hashed((Sha256, u64));

impl<'de> serde::Deserialize<'de> for Hashed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Hashed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Hashed, E> {
                Ok(Hashed(sum(text.as_bytes())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Texts of the lines of a table, by name; what a line says of the hash is true.
fn jsonl_contents(path: &Path) -> Contents {
    let decoder = BufReader::new(zstd::stream::read::Decoder::new(File::open(path).unwrap()).unwrap());
    let rows = serde_json::Deserializer::from_reader(decoder).into_iter::<Row>().map(|row| {
        let Row { name, text: Hashed(found), text_sha256, text_bytes } = row.unwrap();
        assert_eq!((text_sha256, text_bytes), (found.0.to_string(), None));
        (name, found)
    });
    rows.collect()
}

/// The same of a Parquet file.
fn parquet_contents(path: &Path) -> Contents {
    use parquet::file::reader::FileReader as _;
    use parquet::record::RowAccessor as _;
    let reader = parquet::file::serialized_reader::SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> =
        reader.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_owned()).collect();
    let at = |name: &str| names.iter().position(|other| other == name).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let found = sum(row.get_string(at("text")).unwrap().as_bytes());
        assert_eq!(*row.get_string(at("text_sha256")).unwrap(), found.0.to_string());
        (row.get_string(at("name")).unwrap().clone(), found)
    });
    rows.collect()
}

/// The documents' contents in a package of any layout.
fn contents(layout: &str, format: &str, assets: &[PathBuf]) -> Contents {
    let (last, shards) = assets.split_last().unwrap();
    let files = match layout {
        "flat" | "bag" => zip_contents(last),
        "tar.zst" => tar_contents(last),
        "jsonl" => return shards.iter().flat_map(|shard| jsonl_contents(shard)).collect(),
        _ => return shards.iter().flat_map(|shard| parquet_contents(shard)).collect(),
    };
    let name = |path: &str| {
        let name = path.strip_suffix(&format!(".{format}"))?;
        if layout == "flat" { Some(name.to_owned()) } else { Some(name.split_once("/data/")?.1.to_owned()) }
    };
    files.into_iter().filter_map(|(path, found)| Some((name(&path)?, found))).collect()
}

/// Orders every one of these layouts, and compares.
async fn assert_round_trips(site: &Site, format: &str, recipes: &[Value], expected: &Contents) {
    for recipe in recipes {
        let assets = site.order(format, recipe).await;
        let layout = recipe["layout"].as_str().unwrap();
        let found = contents(layout, format, &assets);
        assert!(found == *expected, "{recipe}: {} of {} documents", found.len(), expected.len());
        assets.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[tokio::test]
async fn seventy_thousand_documents_come_out_in_every_layout() {
    let refs: Vec<String> = (0..70_000).map(|n| format!("d{n:05}")).collect();
    let text = |n: usize| if n.is_multiple_of(7) { String::new() } else { format!("text {n} \u{5D0}\u{1F4A9}") };
    let site = Site::new(&refs, "txt", |n, file| file.write_all(text(n).as_bytes())).await;
    let expected = refs.iter().enumerate().map(|(n, r#ref)| (r#ref.clone(), sum(text(n).as_bytes()))).collect();
    assert_round_trips(&site, "txt", &recipes(), &expected).await;
}

/// Two thousand million bytes: what 32 bits with a sign just count.
const LONG: u64 = 2_000_000_000;

#[tokio::test]
async fn a_text_of_two_gigabytes_comes_out_in_every_layout() {
    let line = "The quick brown fox jumps over the lazy \u{1F98A}.\n";
    let lines = LONG / line.len() as u64 * line.len() as u64;
    let text = || Repeated { line, at: 0 }.take(lines).chain(io::repeat(b'.').take(LONG - lines));
    let site = Site::new(&["long".to_owned()], "txt", |_, file| io::copy(&mut text(), file).map(|_| ())).await;
    let expected = Contents::from([("long".to_owned(), sum(text()))]);
    assert_eq!(expected["long"].1, LONG);
    assert_round_trips(&site, "txt", &recipes(), &expected).await;
}

/// A line again and again.
struct Repeated {
    line: &'static str,
    at: usize,
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.line.as_bytes()[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at = (self.at + length) % self.line.len();
        Ok(length)
    }
}

#[tokio::test]
async fn an_archive_of_more_than_four_gibibytes_holds_every_byte() {
    let refs: Vec<String> = (0..65).map(|n| format!("big.{n:02}")).collect();
    let block = noise(1, 64 << 20);
    // Noise that differs from document to document, and costs nothing to make.
    let content = |n: usize| block[n * 4099..].chain(&block[..n * 4099]);
    let site = Site::new(&refs, "pdf", |n, file| io::copy(&mut content(n), file).map(|_| ())).await;
    let expected: Contents = refs.iter().enumerate().map(|(n, r#ref)| (r#ref.clone(), sum(content(n)))).collect();
    for layout in ["flat", "bag", "tar.zst"] {
        let package = site.ask("pdf", &json!({"layout": layout})).await;
        assert!(package["size"].as_u64().unwrap() > 4 << 30);
        // Where it is in the store: there is not room for another one everywhere.
        let folder = site.deployment.folder().join(format!("data/objects/packages/{}", salted(&package)));
        let archive = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let archive = archive.filter(|path| path.is_file() && path.extension().unwrap() != "json").collect::<Vec<_>>();
        assert!(contents(layout, "pdf", &archive) == expected, "{layout}");
        let url = format!("/api/packages/{}", package["id"]);
        expect(site.api.client.request(Method::DELETE, &url).send().await.unwrap(), 200).await;
        eventually("the archive is gone", || async { (!archive[0].exists()).then_some(()) }).await;
    }
}
