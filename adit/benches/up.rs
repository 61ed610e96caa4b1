//! How much memory the whole program takes: a real `adit up` that builds a small package and a large one, and sends them to a miner.
//!
//! `cargo bench -p adit --bench up` makes corpora of papers (a text and an incompressible "PDF" each), imports each into a data folder of
//! its own with `adit import`, starts `adit up` there, and over HTTP makes a docset, packages and downloads it. It needs 7 GiB in the temporary
//! folder (`TMPDIR` names another). Peak memory is what Linux calls `VmHWM`: all of the process, with program code and mapped files.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

#[path = "corpus/generator.rs"]
#[expect(dead_code, unused_imports, reason = "other benches use the rest of it")]
mod generator;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use generator::{Corpus, Length, Recipe};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Server, succeed};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: f64 = 1048576.0;
/// Corpora: stored bytes, about, and how often each is packaged: what a build leaves behind in memory shows in those after it.
const RUNS: [(&str, u64, u32); 3] = [("200 MiB", 200 << 20, 1), ("2 GiB", 2 << 30, 1), ("200 MiB", 200 << 20, 10)];
/// Bytes of a paper's text, of which about two fifths are stored, and of its PDF.
const TEXT: usize = 50_000;
const PDF: usize = 150_000;

#[tokio::main]
async fn main() -> Outcome<()> {
    println!(
        "{:>8} {:>9} {:>14} {:>7} {:>20} {:>13} {:>25}",
        "", "", "import", "archive", "build", "download", "peak MiB"
    );
    println!(
        "{:>8} {:>9} {:>6} {:>7} {:>7} {:>6} {:>5} {:>7} {:>5} {:>7} {:>7} {:>8} {:>8}",
        "corpus", "documents", "s", "MiB/s", "MiB", "times", "s", "MiB/s", "s", "MiB/s", "started", "built", "sent"
    );
    let mut peaks = Vec::new();
    for (name, bytes, times) in RUNS {
        peaks.push(measure(name, bytes, times).await?);
    }
    println!("peak memory of {} to that of {}: {:.2}", RUNS[1].0, RUNS[0].0, peaks[1] / peaks[0]);
    Ok(())
}

/// Prints a line of the table; gives the peak at its end.
async fn measure(name: &str, bytes: u64, times: u32) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let (source, data) = (folder.path().join("papers"), folder.path().join("data"));
    let documents = bytes / (PDF + TEXT * 2 / 5) as u64;
    let (slug, text) = ("papers".to_owned(), Length::Bytes(TEXT));
    let recipe = Recipe { slug, documents, seed: 1, text, pdf: Some(PDF..PDF + 1), described: false };
    let content = Corpus::write(recipe, &source)?.bytes;
    let began = Instant::now();
    succeed(&data, &["import", &source.to_string_lossy()]);
    let import = began.elapsed().as_secs_f64();
    fs::remove_dir_all(&source)?;

    let server = Server::start(&data, &[]);
    let started = peak(&data)?;
    let docset = server.docset("papers", "*").await;
    let began = Instant::now();
    let mut package = build(&server, docset).await?;
    for _ in 1..times {
        package = build(&server, docset).await?;
    }
    let (build, built) = (began.elapsed().as_secs_f64(), peak(&data)?);
    let size = package["size"].as_u64().ok_or("the package has no size")? as f64 / MIB;
    let began = Instant::now();
    let sent = download(&server, &package).await? as f64 / MIB;
    let (download, peak) = (began.elapsed().as_secs_f64(), peak(&data)?);
    assert_eq!(sent, size, "all of the archive was sent");
    println!(
        "{name:>8} {documents:>9} {import:>6.1} {:>7.0} {size:>7.0} {times:>6} {build:>5.1} {:>7.0} {download:>5.1} {:>7.0} {started:>7.1} {built:>8.1} {peak:>8.1}",
        content as f64 / MIB / import,
        size * f64::from(times) / build,
        size / download,
    );
    Ok(peak)
}

/// Asks for a package with everything in it, and waits until it is there.
async fn build(server: &Server, docset: i64) -> Outcome<Value> {
    let body = json!({"formats": ["txt", "pdf", "meta"], "layout": "flat", "reuse": false});
    let mut package: Value = server.post(&format!("/api/docsets/{docset}/packages"), &body).await.json().await?;
    while package["terminal"] != true {
        tokio::time::sleep(Duration::from_millis(100)).await;
        package = server.json(&format!("/api/packages/{}", package["id"])).await;
    }
    if package["status"] == "successful" { Ok(package) } else { Err(package.to_string().into()) }
}

/// Takes the archive home and throws it away; gives its bytes.
async fn download(server: &Server, package: &Value) -> Outcome<u64> {
    let url = package["download"].as_str().ok_or("there is no download")?;
    let mut response = server.request(Method::GET, url).send().await?.error_for_status()?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        bytes += chunk.len() as u64;
    }
    Ok(bytes)
}

/// Peak resident memory in MiB of the `adit up` that runs on that data folder.
fn peak(data: &Path) -> Outcome<f64> {
    let running: Value = serde_json::from_slice(&fs::read(data.join("running.json"))?)?;
    let status = fs::read_to_string(format!("/proc/{}/status", running["pid"]))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("peak memory is told on Linux only")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
