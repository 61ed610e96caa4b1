//! How fast a package is made, beside what else could make it: Adit, a Python packager of the kind that Adit replaces, `zip`, and the floors
//! below which nothing can go, which are to upload the finished archive's bytes and to write them with `dd`.
//!
//! `cargo bench -p adit --bench packages` measures all of them in one run, in turns, on the same store and the same documents, so that the ratios
//! hold although speeds differ from machine to machine. It starts `adit api` and `adit packager` as processes of their own, on a broker in
//! this one. These variables change what is measured:
//!
//! - `ADIT_BENCH_RUNS`: corpora and their documents, `texts:1000,papers:300,notes:1000,notes:10000` if it is not set (see [`corpus`]);
//! - `ADIT_BENCH_STORE`: the only store to measure on (`file:///folder` or `s3://…`, empty; with `AWS_*` credentials). Without it a temporary folder
//!   is measured, and the S3 server of `tests/run` where there is one: `tests/run --with seaweedfs --exec cargo bench -p adit --bench packages`;
//! - `ADIT_BENCH_ROUNDS`: how often Adit and the floors are measured, in turns; the best counts (3);
//! - `ADIT_BENCH_SAMPLE`: documents that the Python packager and `zip` are given; what they would take for all is reckoned from that (2000);
//! - `ADIT_WORKERS`: as many packages at once are asked of one packager, in a measurement of their own (1: none).
//!
//! A corpus needs four times its bytes in `TMPDIR`. What it prints is Markdown, as it stands in `docs/PERFORMANCE.md`.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

#[path = "packages/baselines.rs"]
mod baselines;
#[path = "packages/corpus.rs"]
mod corpus;
#[path = "packages/floors.rs"]
mod floors;
#[path = "corpus/generator.rs"]
#[expect(dead_code, unused_imports, reason = "other benches use the rest of it")]
mod generator;
#[path = "packages/site.rs"]
mod site;

use std::env;
use std::error::Error;
use std::time::Duration;

use baselines::{Baseline, Python};
use corpus::{Corpus, Run};
use floors::Floors;
use site::Site;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const MB: f64 = 1e6;
const MIB: f64 = 1048576.0;

/// What is measured, and how.
struct Settings {
    runs: Vec<Run>,
    /// Stores by name; a folder of the run's own where there is no URL.
    stores: Vec<(&'static str, Option<String>)>,
    rounds: u32,
    sample: u64,
    workers: usize,
}

impl Settings {
    fn read() -> Outcome<Self> {
        let runs = env::var("ADIT_BENCH_RUNS");
        let runs = runs.as_deref().unwrap_or("texts:1000,papers:300,notes:1000,notes:10000");
        let number = |name, usual: u64| env::var(name).map_or(Ok(usual), |value| value.parse());
        let mut stores = vec![("folder", None)];
        if let Ok(url) = env::var("ADIT_BENCH_STORE") {
            stores = vec![(if url.starts_with("s3:") { "S3" } else { "folder" }, Some(url))];
        } else if let Ok(url) = env::var("ADIT_TEST_S3_URL") {
            stores.push(("S3", Some(url.replacen('?', "/bench?", 1))));
        }
        Ok(Self {
            runs: runs.split(',').map(str::parse).collect::<Result<_, _>>()?,
            stores,
            rounds: u32::try_from(number("ADIT_BENCH_ROUNDS", 3)?)?.max(1),
            sample: number("ADIT_BENCH_SAMPLE", 2000)?.max(1),
            workers: usize::try_from(number("ADIT_WORKERS", 1)?)?.max(1),
        })
    }
}

/// The times of one corpus on one store.
struct Measured {
    /// Bytes of the archive.
    archive: u64,
    adit: Duration,
    python: Option<Baseline>,
    zip: Option<Baseline>,
    floors: Floors,
    /// Peak memory in bytes of the packager, of the same with several workers, and of `adit up`.
    peaks: [u64; 3],
    import: Duration,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let settings = Settings::read()?;
    let python = Python::prepare();
    println!(
        "| store | corpus | documents | archive MiB | Adit s | documents/s | MB/s | Python s | × | zip s | × | \
         upload floor s | Adit's share | dd s | Adit's share | peak MiB: packager | `ADIT_WORKERS={}` | `adit up` |",
        settings.workers
    );
    println!("|{}", " --- |".repeat(18));
    for run in &settings.runs {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::write(run, folder.path())?;
        let zip = baselines::zip(&corpus, settings.sample);
        for (name, url) in &settings.stores {
            let measured = measure(&settings, &corpus, url.as_deref(), python.as_ref(), zip.clone()).await?;
            println!("{}", row(name, &corpus, &measured));
        }
    }
    Ok(())
}

/// Imports the corpus, and lets everybody have his turn on it.
async fn measure(
    settings: &Settings,
    corpus: &Corpus,
    store: Option<&str>,
    python: Option<&Python>,
    zip: Option<Baseline>,
) -> Outcome<Measured> {
    let site = Site::open(corpus, store).await?;
    let first = site.build().await?;
    let copy = floors::Copy::of(&site, &first).await?;
    let mut adit = first.took;
    let mut floors = copy.measure().await?;
    site.forget(&first).await?;
    for _ in 1..settings.rounds {
        let package = site.build().await?;
        site.forget(&package).await?;
        adit = adit.min(package.took);
        floors = floors.least(copy.measure().await?);
    }
    let packager = site.packager_peak()?;
    let python = python.and_then(|python| python.measure(&site, settings.sample));
    let (archive, import) = (first.size, site.import);
    let (site, workers) = site.with_workers(settings.workers).await?;
    let up = site.up_peak().await?;
    Ok(Measured { archive, adit, python, zip, floors, peaks: [packager, workers, up], import })
}

fn row(store: &str, corpus: &Corpus, measured: &Measured) -> String {
    let adit = measured.adit.as_secs_f64();
    let (archive, documents) = (measured.archive as f64, corpus.run.documents as f64);
    let baseline = |baseline: &Option<Baseline>| {
        let Some(baseline) = baseline else { return "– | –".to_owned() };
        let about = if baseline.sampled { "≈ " } else { "" };
        let seconds = baseline.took.as_secs_f64();
        format!("{about}{seconds:.1} | **{:.0}**", seconds / adit)
    };
    let floor = |floor: Option<Duration>| {
        floor.map_or("– | –".to_owned(), |floor| {
            format!("{:.2} | **{:.2}**", floor.as_secs_f64(), floor.as_secs_f64() / adit)
        })
    };
    let [packager, workers, up] =
        measured.peaks.map(|peak| if peak == 0 { "–".to_owned() } else { format!("{:.0}", peak as f64 / MIB) });
    eprintln!("{} on {store}: imported at {:.0} documents/s", corpus.run, documents / measured.import.as_secs_f64());
    format!(
        "| {store} | {} | {documents} | {:.0} | {adit:.2} | {:.0} | {:.0} | {} | {} | {} | {} | {packager} | {workers} | {up} |",
        corpus.run.kind,
        archive / MIB,
        documents / adit,
        archive / MB / adit,
        baseline(&measured.python),
        baseline(&measured.zip),
        floor(Some(measured.floors.upload)),
        floor(measured.floors.dd),
    )
}
