//! What searches and docsets cost, and how that grows with the collection: a real `adit api` over HTTP, with SQLite and with PostgreSQL.
//!
//! `cargo bench -p adit --bench search` makes corpora of 10 000, 100 000 and 1 000 000 notes of 150 words, imports each and asks. One client asks at a
//! time, other words each time. PostgreSQL is measured where `tests/run` has started it; `ADIT_BENCH_SIZES` names other numbers of documents. A million
//! needs 20 GB in `TMPDIR`. What it prints is Markdown, as it stands in `docs/PERFORMANCE.md`.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

#[path = "search/docsets.rs"]
mod docsets;
#[path = "corpus/generator.rs"]
#[expect(dead_code, reason = "other benches use the rest of it")]
mod generator;
#[path = "search/questions.rs"]
mod questions;
#[path = "search/report.rs"]
mod report;

use std::env;
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use adit_shared::messaging::{BrokerServer, ServerConfig};
use generator::{Corpus, Recipe};
use report::{Column, Figure};
use support::{Api, BrokerKind, DatabaseKind, Deployment, Process, StoreKind};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The collection.
const SLUG: &str = "notes";
/// Words of a text at the median; 150 on average.
const WORDS: u32 = 125;
const MIB: f64 = 1048576.0;

#[tokio::main]
async fn main() -> Outcome<()> {
    let sizes = env::var("ADIT_BENCH_SIZES").unwrap_or_else(|_| "10000,100000,1000000".to_owned());
    let sizes: Vec<u64> = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let mut columns: Vec<Vec<Column>> = vec![Vec::new(), Vec::new()];
    for documents in sizes {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::write(Recipe::texts(SLUG, documents, WORDS), folder.path())?;
        for (kind, columns) in [DatabaseKind::Sqlite, DatabaseKind::Postgres].into_iter().zip(&mut columns) {
            if let Some(deployment) = Deployment::new(BrokerKind::Embedded, kind, StoreKind::Folder).await {
                eprintln!("{kind:?}, {documents} documents");
                columns.push(measure(&deployment, &corpus).await?);
            }
        }
    }
    for (name, columns) in ["SQLite", "PostgreSQL"].into_iter().zip(columns) {
        if !columns.is_empty() {
            println!("{}", report::table(name, &columns));
        }
    }
    Ok(())
}

/// Imports the corpus and asks all that is asked.
async fn measure(deployment: &Deployment, corpus: &Corpus) -> Outcome<Column> {
    let mut column = Column::new(corpus.documents);
    let began = Instant::now();
    deployment.import(&corpus.folder);
    column.add("import, s", Figure::seconds(began.elapsed()));
    let objects = deployment.objects().await;
    let index: u64 = objects.list("indexes/").await?.into_iter().map(|(_, size)| size).sum();
    column.add("index, MB", Figure::megabytes(index));
    column.add("database, MB", Figure::megabytes(docsets::database_size(deployment).await?));
    let began = Instant::now();
    deployment.succeed(&["reindex", SLUG]);
    column.add("index built anew by `adit reindex`, s", Figure::seconds(began.elapsed()));

    let broker = BrokerServer::start(ServerConfig::default()).await?;
    let broker = format!("stomp://{}", broker.addr().ok_or("the broker has no address")?);
    let api = deployment.machine("api").api(&[("ADIT_LOG", "warn"), ("ADIT_BROKER_URL", &broker)]);
    let began = Instant::now();
    api.search(SLUG, &serde_json::json!({"query": "*", "limit": 0})).await;
    column.add("first search of a new process, s", Figure::seconds(began.elapsed()));
    questions::ask_all(&api, &mut column).await?;
    docsets::measure(&api, deployment, &mut column).await?;
    column.add("peak memory of `adit api`, MiB", Figure::number(peak(&api)?));
    Ok(column)
}

/// How long something took.
async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let began = Instant::now();
    let result = work.await;
    (began.elapsed(), result)
}

/// Peak resident memory (`VmHWM`) of the server in MiB.
fn peak(api: &Api) -> Outcome<f64> {
    let process: &Process = &api.process;
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("peak memory is told on Linux only")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / MIB)
}
