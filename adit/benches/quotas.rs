//! What quotas cost: a real `adit up`, and clients of one key that ask as fast as they are answered, side by side without and with limits.
//!
//! `cargo bench -p adit --bench quotas` runs on SQLite, and on PostgreSQL where `tests/run` tells of one. The key without limits is not counted; the
//! other has limits that it does not reach.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

use std::error::Error;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use support::{BrokerKind, Client, DatabaseKind, Deployment, StoreKind, last_line, small_collection};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CLIENTS: [usize; 2] = [1, 50];
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);
/// Keys without and with limits, and what they are made with.
const KEYS: [(&str, [&str; 4]); 2] = [
    ("unlimited", ["--quota", "unlimited", "--per-minute", "unlimited"]),
    ("limited", ["--quota", "100000000", "--per-minute", "10000000"]),
];
const PATHS: [(&str, &str); 2] = [("metadata", "/api/documents/1"), ("text", "/api/documents/1/text")];

#[tokio::main]
async fn main() -> Outcome<()> {
    println!(
        "{:10} {:10} {:12} {:>7} {:>10} {:>8} {:>8}",
        "database", "asked for", "quota", "clients", "requests/s", "p50 ms", "p99 ms"
    );
    for database in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let Some(deployment) = Deployment::new(BrokerKind::Embedded, database, StoreKind::Folder).await else {
            continue;
        };
        deployment.import(&small_collection(deployment.folder()));
        let server = deployment.start(&[("ADIT_LOG", "warn")]);
        for (what, path) in PATHS {
            for (quota, limits) in KEYS {
                for clients in CLIENTS {
                    let key = last_line(&deployment.succeed(&[&["keys", "create", "bench"], &limits[..]].concat()));
                    let name = format!("{database:?}");
                    print!("{name:10} {what:10} {quota:12} {clients:>7} ");
                    measure(server.client(), &key, path, clients).await?;
                }
            }
        }
        server.stop();
    }
    Ok(())
}

/// Prints the rest of a row.
async fn measure(server: &Client, key: &str, path: &'static str, clients: usize) -> Outcome<()> {
    let begin = Instant::now() + WARM_UP;
    let running = (0..clients).map(|_| tokio::spawn(ask(server.clone(), key.to_owned(), path, begin)));
    let mut times = Vec::new();
    for client in join_all(running).await {
        times.extend(client??);
    }
    times.sort_unstable();
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * share) as usize).map_or(f64::NAN, |time: &Duration| time.as_secs_f64() * 1000.0)
    };
    let rate = times.len() as f64 / MEASURED.as_secs_f64();
    println!("{rate:>10.0} {:>8.2} {:>8.2}", at(0.5), at(0.99));
    Ok(())
}

/// One client at work; what it began after the warm-up counts.
async fn ask(server: Client, key: String, path: &'static str, begin: Instant) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    while Instant::now() < begin + MEASURED {
        let began = Instant::now();
        let response = server.request_as(Some(&key), Method::GET, path).send().await?;
        response.error_for_status()?.bytes().await?;
        if began >= begin {
            times.push(began.elapsed());
        }
    }
    Ok(times)
}
