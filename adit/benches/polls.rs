//! What polling costs: a real `adit api` on a real broker, and clients that ask as fast as they are answered.
//!
//! `cargo bench -p adit --bench polls` runs on what the variables of `tests/run` tell of: RabbitMQ and then ActiveMQ, PostgreSQL (else SQLite). Each
//! client has a package of its own and says what its packager would say, then polls: every poll but the idle ones finds a new status and must
//! show it. There is no think time, so with many clients the figures are those of a saturated machine, on which clients, server, broker and
//! database share the cores.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

#[cfg(test)] // which a bench is; clippy then lets it unwrap
#[path = "../../tests/support.rs"]
#[expect(dead_code, unused_imports, reason = "the journeys use the rest of it")]
mod support;

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::digest::Sha256;
use adit_shared::domain::{Holdings, Layout, Limits, OwnLimit, Recipe, Role, Selection, secret_hash};
use adit_shared::ids::SaltedPackage;
use adit_shared::messaging::{Broker, Outgoing, Queue, Session, StatusMessage};
use adit_shared::store::{NewCollection, NewDocset, NewPackage, SqlStore, Store as _};
use futures::future::{join_all, try_join_all};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::StatusCode;
use support::{Api, BrokerKind, DatabaseKind, Deployment, StoreKind};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CLIENTS: [usize; 3] = [1, 100, 1000];
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// Packages whose statuses wait unread, and how many each.
const WAITING: (usize, usize) = (10_000, 3);
/// Connections that packagers speak over.
const SESSIONS: usize = 8;
const SECRET: &str = "adit_bench";

/// What a client does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Polls; nothing waits.
    Idle,
    /// The same, but all clients ask for one package.
    IdleOfOne,
    /// Polls; a new status waits.
    Poll,
    /// Drains the queue itself, without a server between; a new status waits.
    Drain,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let postgres = env::var_os("ADIT_TEST_POSTGRES_URL").is_some();
    let database = if postgres { DatabaseKind::Postgres } else { DatabaseKind::Sqlite };
    for (broker, waiting) in [(BrokerKind::RabbitMq, true), (BrokerKind::ActiveMq, false)] {
        if let Some(deployment) = Deployment::new(broker, database, StoreKind::Folder).await {
            println!("{broker:?}, {database:?}");
            measure(&deployment, waiting).await?;
        }
    }
    Ok(())
}

/// Prints the table.
async fn measure(deployment: &Deployment, waiting: bool) -> Outcome<()> {
    let most = CLIENTS.into_iter().max().unwrap_or_default();
    let packages = packages(&deployment.store().await, most + if waiting { WAITING.0 } else { 0 }).await?;
    let (polled, unread) = packages.split_at(most);
    let site = Arc::new(Site::start(deployment, polled).await?);
    println!(
        "{:24} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}",
        "", "clients", "times/s", "drains/s", "p50 ms", "p99 ms", "worst ms", "CPU ms", "not 200", "stale"
    );
    for (name, work) in
        [("drain, no server", Work::Drain), ("idle poll", Work::Idle), ("idle poll of one package", Work::IdleOfOne)]
    {
        for clients in CLIENTS {
            site.row(name, work, clients).await?;
        }
    }
    let mut quiet = Vec::new();
    for clients in CLIENTS {
        quiet.push(site.row("poll", Work::Poll, clients).await?);
    }
    if waiting {
        let began = Instant::now();
        site.fill(unread).await?;
        println!(
            "{} packages with {} statuses each were filled in {:.0} s",
            WAITING.0,
            WAITING.1,
            began.elapsed().as_secs_f64()
        );
        for (clients, quiet) in CLIENTS.into_iter().zip(quiet) {
            let full = site.row("poll beside them", Work::Poll, clients).await?;
            println!("{:24} p50 {:.2} times that without them", "", full / quiet);
        }
    }
    Ok(())
}

/// Makes packages, as if their requests had been sent.
async fn packages(store: &SqlStore, count: usize) -> Outcome<Vec<SaltedPackage>> {
    let key = store.create_key("bench", Role::Miner, None, &secret_hash(SECRET), 0).await?.id;
    let unlimited = Limits { documents: OwnLimit::Unlimited, requests: OwnLimit::Unlimited };
    store.limit_key(key, &unlimited).await?;
    store.limit_key_holdings(key, &Holdings::default().map(|_, ()| OwnLimit::Unlimited)).await?;
    let (slug, name) = ("c".to_owned(), "C".to_owned());
    let lease = store.begin_import(&NewCollection { slug, name, ..NewCollection::default() }, 0, 1000).await?;
    let collection = store.commit_import(&lease, 0).await?;
    let docset = NewDocset {
        owner: key,
        collection: collection.id,
        name: None,
        origin: Selection::Refs(0).into(),
        corpus_version: collection.corpus_version,
        members: Default::default(),
        fingerprint: Sha256::of(b"docset"),
        formats: Vec::new(),
        created: 0,
    };
    let docset = store.create_docset(&docset).await?.id;
    let mut made = Vec::with_capacity(count);
    for number in 0..count {
        let fingerprint = Sha256::of(&number.to_be_bytes());
        let formats = vec!["txt".parse()?];
        let new = NewPackage {
            owner: key,
            docset,
            recipe: Recipe::new(formats, Layout::Flat),
            about: None,
            fingerprint,
            clearance: Default::default(),
            requested: 1,
            created: 0,
        };
        let (package, _) = store.create_package(&new, false).await?;
        store.claim_sending(&package, SystemClock.now_ms()).await?;
        made.push(package.salted());
    }
    Ok(made)
}

/// A server, and who speaks to it.
struct Site {
    api: Api,
    http: reqwest::Client,
    broker: Broker,
    sessions: Vec<Session>,
    polled: Vec<SaltedPackage>,
    /// Of the last status: as "documents done" it tells whether a poll showed what had been said.
    sequence: AtomicU64,
}

impl Site {
    async fn start(deployment: &Deployment, polled: &[SaltedPackage]) -> Outcome<Self> {
        let api = deployment.machine("api").api(&[("ADIT_LOG", "warn"), ("ADIT_RESEND_AFTER", "24h")]);
        let broker = Broker::new(deployment.setting("ADIT_BROKER_URL").parse()?);
        let sessions = try_join_all((0..SESSIONS).map(|_| broker.session())).await?;
        let (http, polled) = (reqwest::Client::new(), polled.to_owned());
        Ok(Self { api, http, broker, sessions, polled, sequence: AtomicU64::new(0) })
    }

    /// Says a package's next status, as its packager would; gives its number.
    async fn say(&self, package: SaltedPackage) -> Outcome<u64> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let status = StatusMessage::Progress { percent: 50, documents: Some((sequence, u64::MAX >> 1)), bytes: None };
        let message = Outgoing::new(status).header("sequence", sequence);
        let session = &self.sessions[sequence as usize % SESSIONS];
        session.publish(&Queue::Package(package.to_string()), message).await?;
        Ok(sequence)
    }

    /// Says statuses that nobody reads.
    async fn fill(&self, packages: &[SaltedPackage]) -> Outcome<()> {
        let saying = packages.iter().map(|&package| async move {
            for _ in 0..WAITING.1 {
                self.say(package).await?;
            }
            Outcome::Ok(())
        });
        stream::iter(saying).buffer_unordered(200).try_collect().await
    }

    /// Prints a row of the table; gives its p50 in milliseconds.
    async fn row(self: &Arc<Self>, name: &str, work: Work, clients: usize) -> Outcome<f64> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + MEASURED;
        let running = (0..clients).map(|client| {
            let site = self.clone();
            let package = self.polled[if work == Work::IdleOfOne { 0 } else { client }];
            tokio::spawn(async move { site.client(work, package, begin, end).await })
        });
        let running: Vec<_> = running.collect();
        tokio::time::sleep_until(begin.into()).await;
        let before = (self.drains().await?, self.cpu()?);
        tokio::time::sleep_until(end.into()).await;
        let (drains, cpu) = (self.drains().await? - before.0, self.cpu()? - before.1);
        let mut seen = Seen::default();
        for client in join_all(running).await {
            seen.add(client??);
        }
        seen.times.sort_unstable();
        let per_second = |count: f64| count / MEASURED.as_secs_f64();
        println!(
            "{name:24} {clients:>7} {:>8.0} {:>8.0} {:>8.2} {:>8.2} {:>8.2} {:>7.3} {:>7} {:>6}",
            per_second(seen.times.len() as f64),
            per_second(drains),
            seen.at(0.5),
            seen.at(0.99),
            seen.at(1.0),
            cpu / seen.times.len() as f64,
            seen.refused,
            seen.stale
        );
        Ok(seen.at(0.5))
    }

    /// One client at work; what it began between `begin` and `end` counts.
    async fn client(&self, work: Work, package: SaltedPackage, begin: Instant, end: Instant) -> Outcome<Seen> {
        let mut seen = Seen::default();
        while Instant::now() < end {
            let idle = matches!(work, Work::Idle | Work::IdleOfOne);
            let said = if idle { 0 } else { self.say(package).await? };
            let began = Instant::now();
            let (refused, stale) = match work {
                Work::Drain => self.drain(package).await?,
                Work::Idle | Work::IdleOfOne | Work::Poll => self.poll(package, said).await?,
            };
            if (begin..end).contains(&began) {
                seen.times.push(began.elapsed());
                seen.refused += u64::from(refused);
                seen.stale += u64::from(stale);
            }
        }
        Ok(seen)
    }

    /// Whether the poll was refused, and whether it showed anything else than the status of that number (0 for any).
    async fn poll(&self, package: SaltedPackage, said: u64) -> Outcome<(bool, bool)> {
        let request =
            self.http.get(format!("{}/api/packages/{}", self.api.url, package.id)).header("x-api-key", SECRET);
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        let refused = status != StatusCode::OK;
        Ok((refused, !refused && said > 0 && !text.contains(&format!("\"done\":{said},"))))
    }

    async fn drain(&self, package: SaltedPackage) -> Outcome<(bool, bool)> {
        let Ok(Some(drained)) = self.broker.drain(&Queue::Package(package.to_string())).await else {
            return Ok((true, false));
        };
        let stale = drained.messages().is_empty();
        Ok((drained.ack().await.is_err(), stale))
    }

    /// Queues that the server has drained so far.
    async fn drains(&self) -> Outcome<f64> {
        let url = format!("{}/metrics", self.api.url);
        let text = self.http.get(url).bearer_auth(&self.api.key).send().await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("adit_status_queue_drains_total "));
        Ok(line.ok_or("drains are not counted")?.parse()?)
    }

    /// Milliseconds that the server has computed so far, in its own code and in the kernel for it.
    fn cpu(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.api.process.id()))?;
        // Fields 14 and 15 of proc_pid_stat(5), counted from behind the name, which may hold spaces: hundredths of a second.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? * 10.0)
    }
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    refused: u64,
    stale: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.refused += other.refused;
        self.stale += other.stale;
    }

    /// The time, in milliseconds, that this share of all times does not exceed; they must be sorted.
    fn at(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        self.times.get((last as f64 * share) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}
