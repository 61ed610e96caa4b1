//! How fast an import is, beside the raw cost of its bytes: to read the same files, compress them in the same way and write what comes out.
//!
//! `cargo bench -p adit --bench import` makes a corpus of 100 000 texts of 2 to 50 kB with all metadata, and lets both have their turns: `adit import`
//! into a new deployment, with SQLite and, where `tests/run` has started it, PostgreSQL; and the raw work, on all cores, with nothing around it. Both write
//! to the same disk and wait until it has what they wrote; both find the texts in the page cache. `ADIT_BENCH_SIZES` names other numbers of
//! documents, `ADIT_BENCH_ROUNDS` how often each is measured (2); the best counts. It needs 5 GB in `TMPDIR`.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

#[path = "corpus/generator.rs"]
#[expect(dead_code, unused_imports, reason = "other benches use the rest of it")]
mod generator;
#[path = "import/raw.rs"]
mod raw;

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use generator::{Corpus, Recipe};
use raw::Raw;
use support::{BrokerKind, DatabaseKind, Deployment, StoreKind};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let sizes = env::var("ADIT_BENCH_SIZES").unwrap_or_else(|_| "10000,100000".to_owned());
    let rounds = env::var("ADIT_BENCH_ROUNDS").map_or(Ok(2), |rounds| rounds.parse::<u32>())?;
    println!(
        "| documents | MB | database | import s | documents/s | MB/s | raw: read s | and compress s | and write s | MB/s | import's share |"
    );
    println!("|{}", " --- |".repeat(11));
    for documents in sizes.split(',') {
        let folder = tempfile::tempdir()?;
        let recipe = Recipe::texts("texts", documents.parse()?, 2000);
        let corpus = Corpus::write(recipe, &folder.path().join("corpus"))?;
        for kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
            if let Some(measured) = measure(&corpus, kind, rounds).await? {
                println!("{}", row(&corpus, kind, &measured));
            }
        }
    }
    Ok(())
}

/// The shortest times.
struct Measured {
    import: Duration,
    raw: Raw,
}

/// Has both done in turns; nothing where there is no such database.
async fn measure(corpus: &Corpus, database: DatabaseKind, rounds: u32) -> Outcome<Option<Measured>> {
    let mut best: Option<Measured> = None;
    for _ in 0..rounds.max(1) {
        let Some(deployment) = Deployment::new(BrokerKind::Embedded, database, StoreKind::Folder).await else {
            return Ok(None);
        };
        let raw = Raw::measure(corpus, deployment.folder())?;
        let began = Instant::now();
        deployment.import(&corpus.folder);
        let import = began.elapsed();
        best = Some(match best {
            Some(best) => Measured { import: best.import.min(import), raw: best.raw.least(&raw) },
            None => Measured { import, raw },
        });
    }
    Ok(best)
}

fn row(corpus: &Corpus, database: DatabaseKind, measured: &Measured) -> String {
    let (documents, megabytes) = (corpus.documents as f64, corpus.bytes as f64 / 1e6);
    let [import, read, compressed, written] =
        [measured.import, measured.raw.read, measured.raw.compressed, measured.raw.written]
            .map(|took| took.as_secs_f64());
    format!(
        "| {documents} | {megabytes:.0} | {database:?} | {import:.1} | {:.0} | **{:.0}** | {read:.1} | {compressed:.1} | {written:.1} | **{:.0}** | **{:.2}** |",
        documents / import,
        megabytes / import,
        megabytes / written,
        written / import,
    )
}
