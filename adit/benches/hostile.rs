//! Measures what a miner notices of hostile clients: a real `adit up` with its usual limits, first left alone, then under attack.
//!
//! `cargo bench -p adit --bench hostile` imports 10,000 notes and the texts of a hostile publisher, looks for the worst
//! queries by a seeded search over the query grammar, and then measures a miner who searches, polls and downloads:
//! alone, and beside 16 clients with those queries, 2,000 idle sockets and 200 readers that read a KiB a second.
//! The attack lasts `ADIT_BENCH_SECONDS` (600). All traffic is on the loopback range, where each attacker has
//! an address of its own. Prints Markdown, as it stands in `docs/PERFORMANCE.md`, and ends with 1 where a goal is missed.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

#[path = "hostile/attack.rs"]
mod attack;
#[path = "corpus/generator.rs"]
#[expect(dead_code, reason = "other benches use the rest of it")]
mod generator;
#[path = "hostile/miner.rs"]
mod miner;
#[path = "hostile/queries.rs"]
mod queries;

use std::env;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use generator::{Corpus, Recipe};
use miner::Figures;
use serde_json::json;
use support::{Server, last_line, succeed};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Slug of the collection.
const SLUG: &str = "notes";
/// Notes of 150 words on average.
const DOCUMENTS: u64 = 10_000;
/// Texts of the hostile publisher: one word over and over, about a megabyte each.
const HOSTILE_TEXTS: u64 = 4;
/// Time for which the miner is measured alone.
const QUIET: Duration = Duration::from_secs(30);
const SECONDS: u64 = 600;
const MIB: f64 = 1_048_576.0;

/// Goals of the bench: seconds of the miner's 99th percentile, and MiB of the server.
const MAX_P99: Duration = Duration::from_secs(1);
const MAX_MEMORY: f64 = 512.0;

#[tokio::main]
async fn main() -> Outcome<()> {
    attack::raise_open_files()?;
    let seconds = env::var("ADIT_BENCH_SECONDS").map_or(Ok(SECONDS), |seconds| seconds.parse())?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    import(folder.path(), &data)?;
    let server = Server::start(&data, &[("ADIT_LOG", "warn"), ("ADIT_WORKERS", "1")]);
    let miner_key = server.new_key("miner", &[]);
    let hostile_keys: Vec<String> =
        (0..attack::CLIENTS / 2).map(|n| server.new_key(&format!("hostile {n}"), &[])).collect();

    let began = Instant::now();
    let searcher = server.new_key("who looks for queries", &["--per-minute", "unlimited"]);
    let worst = queries::find_worst(&server, &searcher).await?;
    eprintln!("{} worst queries found in {:.0} s", worst.len(), began.elapsed().as_secs_f64());
    for query in worst.iter().take(4) {
        let begins: String = query.body.to_string().chars().take(100).collect();
        eprintln!("  {:.3} s ({}): {begins}…", query.took.as_secs_f64(), query.status);
    }

    let miner = miner::Miner::prepare(&server, &miner_key).await?;
    let quiet = miner.work_for(QUIET).await;
    let before = memory(&data, "VmRSS")?;
    let stop = CancellationToken::new();
    let attack = attack::Attack::start(&server, &hostile_keys, &worst, &stop).await?;
    let attacked = miner.work_for(Duration::from_secs(seconds)).await;
    let counts = attack.counts();
    let alive = server.get("/healthz").await.status() == 200;
    stop.cancel();
    attack.ended().await;
    let peak = memory(&data, "VmHWM")?;

    print_table(&quiet, &attacked);
    println!("\n{counts}");
    println!(
        "\nmemory of `adit up`: {before:.0} MiB before, at most {peak:.0} MiB; alive after {seconds} s: {alive}\n"
    );
    let goals = [
        ("no answer of 5xx for the miner", attacked.iter().all(|figures| figures.failed() == 0)),
        ("p99 of the miner below 1 s", attacked.iter().all(|figures| figures.percentile(99) < MAX_P99)),
        ("memory below 512 MiB", peak < MAX_MEMORY),
        ("alive at the end", alive),
    ];
    for (goal, met) in goals {
        println!("- {goal}: {}", if met { "met" } else { "MISSED" });
    }
    if goals.iter().all(|(_, met)| *met) { Ok(()) } else { Err("a goal is missed".into()) }
}

/// Imports the notes, and the texts of the hostile publisher among them.
fn import(folder: &Path, data: &Path) -> Outcome<()> {
    let source = folder.join("source");
    Corpus::write(Recipe::texts(SLUG, DOCUMENTS, 125), &source)?;
    let mut lines = OpenOptions::new().append(true).open(source.join("documents.jsonl"))?;
    for number in 0..HOSTILE_TEXTS {
        let word = if number % 2 == 0 { "a ".to_owned() } else { format!("{} ", generator::word(30)) };
        let path = format!("files/hostile.{number}.txt");
        fs::write(source.join(&path), word.repeat((1 << 20) / word.len()))?;
        let files = json!([{"format": "txt", "path": path}]);
        writeln!(lines, "{}", json!({"ref": format!("hostile.{number}"), "metadata": {"title": "a"}, "files": files}))?;
    }
    drop(lines);
    let imported = succeed(data, &["import", &source.to_string_lossy()]);
    eprintln!("{}", last_line(&imported));
    Ok(fs::remove_dir_all(source)?)
}

/// Reads a figure of the server's memory from /proc, in MiB.
fn memory(data: &Path, name: &str) -> Outcome<f64> {
    let running: serde_json::Value = serde_json::from_slice(&fs::read(data.join("running.json"))?)?;
    let status = fs::read_to_string(format!("/proc/{}/status", running["pid"]))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.ok_or("memory is told on Linux only")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / MIB)
}

/// Prints the miner's figures, quiet and attacked side by side.
fn print_table(quiet: &[Figures], attacked: &[Figures]) {
    println!(
        "| the miner's | alone: requests, p50, p99 | attacked: requests, p50, p99, worst | ratio of p50 | refused (429), 5xx or broken |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (quiet, attacked) in quiet.iter().zip(attacked) {
        println!(
            "| {} | {}, {:.1} ms, {:.1} ms | {}, {:.1} ms, {:.1} ms, {:.0} ms | {:.1} | {}, {} |",
            quiet.name,
            quiet.requests(),
            milliseconds(quiet.percentile(50)),
            milliseconds(quiet.percentile(99)),
            attacked.requests(),
            milliseconds(attacked.percentile(50)),
            milliseconds(attacked.percentile(99)),
            milliseconds(attacked.percentile(100)),
            attacked.percentile(50).div_duration_f64(quiet.percentile(50)),
            attacked.refused(),
            attacked.failed(),
        );
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
