//! How fast archives are built, and that a large one takes no more memory than a small one.
//!
//! `cargo bench -p adit-packager --bench memory` makes packs (200 MiB and 2 GiB of papers, and a million notes of a line or two),
//! and for each corpus starts a process of its own with all that a laptop has: a broker, a server for the manifest, and a packager.
//! The store is a temporary folder, which needs 5 GiB, or an empty one of your own: `ADIT_BENCH_STORE=s3://…`.
//! Peak memory is what Linux calls `VmHWM`; MiB are those of the stored files.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use adit_packager::manifest::{End, Header, Member, line};
use adit_packager::{PackagerConfig, run};
use adit_shared::clock::SystemClock;
use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Encoding, FileRecord, Format, META, Place};
use adit_shared::ids::{DocsetId, VersionId};
use adit_shared::messaging::{Broker, BrokerServer, Outgoing, Queue, ServerConfig, StatusMessage};
use adit_shared::objects::{ObjectStore, open};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const MIB: u64 = 1 << 20;
/// Bytes of one pack.
const PACK: usize = 32 << 20;

/// A corpus to measure.
struct Shape {
    name: &'static str,
    /// Stored bytes, about.
    bytes: u64,
    /// Length of a text in bytes.
    text: usize,
    /// Layout of the package.
    layout: &'static str,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "200 MiB", bytes: 200 * MIB, text: 36_000, layout: "flat" },
    Shape { name: "2 GiB", bytes: 2048 * MIB, text: 36_000, layout: "flat" },
    Shape { name: "a million", bytes: 256 * MIB, text: 180, layout: "flat" },
    Shape { name: "200 MiB", bytes: 200 * MIB, text: 36_000, layout: "tar.zst" },
    Shape { name: "200 MiB", bytes: 200 * MIB, text: 36_000, layout: "jsonl" },
    Shape { name: "200 MiB", bytes: 200 * MIB, text: 36_000, layout: "parquet" },
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["build", manifest, store, package, layout] => build(manifest.into(), store, package, layout).await,
        ["--bench"] => compare().await,
        _ => {
            println!("nothing measured: run it as cargo bench -p adit-packager --bench memory");
            Ok(())
        }
    }
}

async fn compare() -> Outcome<()> {
    println!(
        "{:>11} {:>8} {:>10} {:>8} {:>8} {:>8} {:>9}",
        "corpus", "layout", "documents", "MiB", "seconds", "MiB/s", "peak MiB"
    );
    let mut peaks = Vec::new();
    for (package, shape) in SHAPES.iter().enumerate() {
        let folder = tempfile::tempdir()?;
        let manifest = folder.path().join("manifest.ndjson");
        let store = std::env::var("ADIT_BENCH_STORE");
        let store = store.unwrap_or_else(|_| format!("file://{}/store", folder.path().display()));
        let documents = make(&manifest, &store, shape).await?;
        let mut build = Command::new(std::env::current_exe()?);
        let built =
            build.arg("build").arg(&manifest).arg(&store).arg(package.to_string()).arg(shape.layout).output()?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into());
        }
        let text = String::from_utf8(built.stdout)?;
        let [seconds, peak] = text.split_whitespace().collect::<Vec<_>>()[..] else { return Err(text.into()) };
        let (seconds, peak) = (seconds.parse::<f64>()?, peak.parse::<f64>()? / MIB as f64);
        let (name, layout, mib) = (shape.name, shape.layout, shape.bytes as f64 / MIB as f64);
        let speed = mib / seconds;
        println!("{name:>11} {layout:>8} {documents:>10} {mib:>8.0} {seconds:>8.1} {speed:>8.0} {peak:>9.1}");
        peaks.push(peak);
    }
    println!("peak memory of 2 GiB to that of 200 MiB: {:.2}", peaks[1] / peaks[0]);
    Ok(())
}

/// Makes a corpus: half of its stored bytes are texts in gzip members, half are incompressible files. Returns the number of documents.
async fn make(manifest: &Path, store: &str, shape: &Shape) -> Outcome<u64> {
    let objects = open(store).await?;
    let mut manifest = std::io::BufWriter::new(std::fs::File::create(manifest)?);
    let mut noise = Noise(1);
    let texts: Vec<Sample> = (0..64).map(|_| Sample::gzip(&noise.text(shape.text))).collect::<Outcome<_>>()?;
    let scans: Vec<Sample> = (0..8).map(|_| Sample::identity(noise.bytes(400_000))).collect();
    let packs = shape.bytes.div_ceil(2 * PACK as u64);
    let (text_pack, text_count) = pack(&texts);
    let (scan_pack, scan_count) = pack(&scans);
    let documents = packs * text_count;
    let formats: Vec<Format> = [META, "pdf", "txt"].into_iter().map(str::parse).collect::<Result<_, _>>()?;
    let header = Header {
        docset: DocsetId(1),
        fingerprint: Sha256::of(shape.name.as_bytes()),
        documents,
        formats,
        about: Some(About {
            collection: "bench".to_owned(),
            name: "Bench".to_owned(),
            description: String::new(),
            license: None,
            tdm: None,
            url: "https://adit.example/api".to_owned(),
            date: "2026-01-31".to_owned(),
        }),
        base: None,
        selection: None,
    };
    manifest.write_all(&line(&header)?)?;
    let mut id = 0;
    for number in 0..packs {
        let keys = ["txt", "pdf"].map(|format| format!("packs/1/bench-{format}-{number:05}"));
        objects.put(&keys[0], text_pack.clone().into()).await?;
        objects.put(&keys[1], scan_pack.clone().into()).await?;
        for nth in 0..text_count {
            id += 1;
            let mut files = vec![file("txt", &texts, &keys[0], nth)?];
            if nth < scan_count {
                files.insert(0, file("pdf", &scans, &keys[1], nth)?);
            }
            let r#ref = format!("document.{id:08}");
            let member = Member::new(VersionId(id), r#ref.clone(), r#ref, files);
            manifest.write_all(&line(&member)?)?;
        }
    }
    manifest.write_all(&line(&End { end: documents })?)?;
    manifest.flush()?;
    Ok(documents)
}

/// The file that is the `nth` of a pack in which `samples` follow each other again and again.
fn file(format: &str, samples: &[Sample], object: &str, nth: u64) -> Outcome<FileRecord> {
    let sample = &samples[nth as usize % samples.len()];
    let round: u64 = samples.iter().map(|sample| sample.stored.len() as u64).sum();
    let before: u64 = samples[..nth as usize % samples.len()].iter().map(|sample| sample.stored.len() as u64).sum();
    let place = Place {
        object: object.to_owned(),
        offset: nth / samples.len() as u64 * round + before,
        stored: sample.stored.len() as u64,
    };
    Ok(FileRecord {
        format: format.parse()?,
        media_type: if format == "txt" { "text/plain" } else { "application/octet-stream" }.to_owned(),
        size: sample.size,
        sha256: sample.sha256,
        crc32: sample.crc32,
        encoding: sample.encoding,
        deflate_crc32: None,
        place,
    })
}

fn pack(samples: &[Sample]) -> (Vec<u8>, u64) {
    let mut pack = Vec::with_capacity(PACK);
    let mut count = 0;
    while pack.len() < PACK {
        pack.extend_from_slice(&samples[count as usize % samples.len()].stored);
        count += 1;
    }
    (pack, count)
}

struct Sample {
    stored: Vec<u8>,
    encoding: Encoding,
    size: u64,
    sha256: Sha256,
    crc32: u32,
}

impl Sample {
    fn identity(content: Vec<u8>) -> Self {
        let (size, sha256, crc32) = (content.len() as u64, Sha256::of(&content), crc32fast::hash(&content));
        Self { stored: content, encoding: Encoding::Identity, size, sha256, crc32 }
    }

    fn gzip(content: &[u8]) -> Outcome<Self> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content)?;
        let (size, sha256, crc32) = (content.len() as u64, Sha256::of(content), crc32fast::hash(content));
        Ok(Self { stored: encoder.finish()?, encoding: Encoding::Gzip, size, sha256, crc32 })
    }
}

/// Numbers that look random and are the same in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }

    /// Words of which the frequent ones are far more frequent, so that it deflates to about a third, as prose does.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(len + 8);
        while text.len() < len {
            let rank = (self.next() % 4096) * (self.next() % 4096) / 4096;
            text.extend_from_slice(format!("{:x} ", (rank + 1).wrapping_mul(0x9e37) % 1_048_576).as_bytes());
        }
        text
    }
}

/// Builds the package in this process; prints the seconds and the peak memory in bytes.
async fn build(manifest: PathBuf, store: &str, package: &str, layout: &str) -> Outcome<()> {
    let objects: Arc<dyn ObjectStore> = open(store).await?;
    let router = Router::new()
        .route(
            "/api/docsets/1/manifest",
            get(async move || match tokio::fs::File::open(&manifest).await {
                Ok(file) => Ok(Body::from_stream(ReaderStream::with_capacity(file, 64 << 10))),
                Err(error) => Err(error.to_string()),
            }),
        )
        .route("/api/packages/{id}", get(async || r#"{"status": "running"}"#));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let api = format!("http://{}/api", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let server = BrokerServer::start(ServerConfig::default()).await?;
    let broker = Broker::new(format!("stomp://{}", server.addr().ok_or("the broker has no address")?).parse()?);
    let stop = CancellationToken::new();
    let config = PackagerConfig::new("key".to_owned(), api.parse()?);
    let packager = tokio::spawn(run(config, broker.clone(), objects, Arc::new(SystemClock), stop.clone()));

    let began = Instant::now();
    let request = format!("{api}/docsets/1?fmt=meta,pdf,txt&layout={layout}&package={package}");
    broker.publish(&Queue::PackageRequests, Outgoing::new(request)).await?;
    finish(&broker).await?;
    println!("{} {}", began.elapsed().as_secs_f64(), peak()?);
    stop.cancel();
    packager.await??;
    server.shutdown().await;
    Ok(())
}

/// Waits for the last status.
async fn finish(broker: &Broker) -> Outcome<()> {
    let mut statuses = broker.consume(&Queue::Package("1".to_owned()), 10).await?;
    loop {
        let delivery = statuses.next().await?;
        let status: StatusMessage = delivery.message.text()?.parse()?;
        delivery.ack().await?;
        match status {
            StatusMessage::Accepted { .. } | StatusMessage::Progress { .. } => {}
            StatusMessage::Complete(_) => return Ok(()),
            other => return Err(other.to_string().into()),
        }
    }
}

/// Peak resident memory of this process in bytes.
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("peak memory is told on Linux only")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
