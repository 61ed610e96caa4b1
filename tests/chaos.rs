//! Everything at once: imports, docsets, packages, downloads and deletions, while every process is
//! killed at random moments, broker and database are ended and started again, and the line to the
//! object store breaks. Nothing may be lost.
//!
//! The model of truth is the test's: `model` knows what each collection must hold, `importer`
//! changes collections, `miner` orders and `order` verifies, `processes` kills, `flaky` is the line
//! to the store, `ledger` counts, `settle` looks at the end. `tests/chaos/run` runs it for longer.

mod flaky;
mod front;
mod importer;
mod ledger;
mod miner;
mod model;
mod order;
mod plan;
mod processes;
mod settle;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use self::flaky::FlakyLine;
use self::front::Front;
use self::importer::Importer;
use self::ledger::Ledger;
use self::miner::Miner;
use self::model::Collection;
use self::order::Order;
use self::plan::{Plan, SHORT};
use self::processes::{Supervised, restart_part};
use crate::support::{BrokerKind, Client, DatabaseKind, Deployment, Machine, Private, PrivateServer, StoreKind};

/// Parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Chaos,
    /// Nothing is killed any more, and nothing breaks.
    Calm,
    /// The servers are asked to stop.
    Over,
}

/// What all tasks of a run share.
struct Stage {
    ledger: Arc<Ledger>,
    front: Front,
    phase: watch::Sender<Phase>,
    plan: Plan,
    /// Packages that are still to be ordered.
    orders: AtomicU64,
    notes: Mutex<File>,
}

impl Stage {
    fn is_calm(&self) -> bool {
        *self.phase.borrow() >= Phase::Calm
    }

    fn is_over(&self) -> bool {
        *self.phase.borrow() == Phase::Over
    }

    async fn calm(&self) {
        self.phase.subscribe().wait_for(|phase| *phase >= Phase::Calm).await.unwrap();
    }

    /// Waits for the end, and says that it came.
    async fn over(&self) -> bool {
        self.phase.subscribe().wait_for(|phase| *phase == Phase::Over).await.unwrap();
        true
    }

    /// Tells whether one more package is to be ordered.
    fn claim_order(&self) -> bool {
        self.orders.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Waits until this share of all packages is ordered, so that changes go on beside them to the
    /// end.
    async fn await_orders(&self, share: f64) {
        let left = |orders: u64| (orders as f64) > self.plan.packages as f64 * (1.0 - share);
        while left(self.orders.load(Ordering::SeqCst)) && !self.is_calm() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes a line for whoever looks for the reason of a finding.
    fn note(&self, line: &str) {
        writeln!(self.notes.lock().unwrap(), "{line}").unwrap();
    }
}

/// Starts supervising a server of that kind.
fn supervise(
    stage: &Arc<Stage>,
    (name, kind): (&'static str, &'static str),
    machine: &Machine,
    dice: StdRng,
    command: impl Fn(&Machine) -> Command + Send + Sync + 'static,
) -> JoinHandle<()> {
    let (stage, machine) = (Arc::clone(stage), machine.clone());
    let log = machine.log().to_owned();
    tokio::spawn(Supervised { stage, name, kind, command: Box::new(move || command(&machine)), log, dice }.run())
}

/// A server of the API, or everything in one process.
fn server_command(machine: &Machine, verb: &str, address: SocketAddr, front: &str) -> Command {
    let mut command = machine.adit(&["--listen", &address.to_string(), verb]);
    command.env("ADIT_PUBLIC_URL", front).env("ADIT_RESEND_AFTER", "2s");
    command
}

/// A run: its deployment, and what goes on there.
struct Run {
    plan: Plan,
    stage: Arc<Stage>,
    deployment: Deployment,
    /// Where verbs run: what they share with the servers.
    machine: fn(&Deployment, &str) -> Machine,
    line: Option<FlakyLine>,
    servers: Vec<JoinHandle<()>>,
    parts: Vec<JoinHandle<PrivateServer>>,
}

impl Run {
    async fn new(plan: Plan, deployment: Deployment, machine: fn(&Deployment, &str) -> Machine) -> Self {
        let ledger = Arc::new(Ledger::new(plan.seed));
        let notes = Mutex::new(File::create(deployment.folder().join("chaos.log")).unwrap());
        let stage = Stage {
            ledger,
            front: Front::open().await,
            phase: watch::Sender::new(Phase::Chaos),
            plan,
            orders: AtomicU64::new(plan.packages),
            notes,
        };
        Self { plan, stage: Arc::new(stage), deployment, machine, line: None, servers: Vec::new(), parts: Vec::new() }
    }

    /// The machine of that name; its way to the store is the flaky line, where there is one.
    fn machine(&self, name: &str) -> Machine {
        let machine = (self.machine)(&self.deployment, name);
        self.line.as_ref().map_or(machine.clone(), |line| machine.through(&line.endpoint()))
    }

    /// Opens the flaky line to the object store.
    async fn open_line(&mut self) {
        let store: Url = self.deployment.setting("ADIT_STORE_URL").parse().unwrap();
        let (_, endpoint) = store.query_pairs().find(|(name, _)| name == "endpoint").unwrap();
        let server = endpoint.strip_prefix("http://").unwrap().to_owned();
        self.line = Some(FlakyLine::to(server, self.plan.seed, Arc::clone(&self.stage.ledger)).await);
    }

    fn supervise(
        &mut self,
        name: &'static str,
        kind: &'static str,
        command: impl Fn(&Machine) -> Command + Send + Sync + 'static,
    ) {
        let dice = self.plan.dice(100 + self.servers.len() as u64);
        let machine = self.machine(name);
        self.servers.push(supervise(&self.stage, (name, kind), &machine, dice, command));
    }

    /// Lets imports and miners do all that the plan says, while everything breaks.
    async fn work(&self) -> (Vec<Arc<Collection>>, Vec<(Miner, Vec<Order>)>) {
        let Plan { collections, imports, miners, .. } = self.plan;
        let collections: Vec<_> = (0..collections).map(|number| Arc::new(Collection::new(number))).collect();
        let keys: Vec<String> = (0..miners).map(|_| self.deployment.key("operator")).collect();
        let mut importing = Vec::new();
        for (number, collection) in collections.iter().enumerate() {
            let machine = self.machine(&format!("importer-{number}"));
            let (stage, collection, dice) =
                (Arc::clone(&self.stage), Arc::clone(collection), self.plan.dice(200 + number as u64));
            let share = share(imports, collections.len(), number);
            let folder = self.deployment.folder().to_owned();
            let importer = Importer { stage, collection, machine, dice };
            importing.push(tokio::spawn(async move { importer.run(share, &folder).await }));
        }
        let mut mining = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let (client, stage) = (Client::new(&self.stage.front.url(), key), Arc::clone(&self.stage));
            let (outside, dice) = (reqwest::Client::new(), self.plan.dice(300 + number as u64));
            let miner =
                Miner { stage, collections: collections.clone(), client, outside, dice, deleted: BTreeSet::new() };
            mining.push(tokio::spawn(miner.run()));
        }
        let telling = async {
            for second in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if second % 20 == 0 {
                    eprintln!("chaos: {}", self.stage.ledger.progress());
                }
                if second == self.plan.limit {
                    self.calm_down();
                }
            }
        };
        let working = async { (join_all(importing).await, join_all(mining).await) };
        let (imported, mined) = tokio::select! {
            done = working => done,
            () = telling => unreachable!("it goes on for ever"),
        };
        imported.into_iter().for_each(|ended| ended.unwrap());
        (collections, mined.into_iter().map(|ended| ended.unwrap()).collect())
    }

    /// From now on nothing is killed, and nothing breaks.
    fn calm_down(&self) {
        if let Some(line) = &self.line {
            line.clear_up();
        }
        if !self.stage.is_calm() {
            self.stage.ledger.remark(format!("calm after {:.0} s", self.stage.ledger.seconds()));
            self.stage.phase.send_replace(Phase::Calm);
        }
    }

    /// Lets it get calm, looks at everything that was acknowledged, and ends the servers.
    async fn settle(&mut self, collections: &[Arc<Collection>], mined: Vec<(Miner, Vec<Order>)>) {
        self.calm_down();
        let parts = join_all(std::mem::take(&mut self.parts)).await;
        // All that comes after it proves that it took nothing that is needed.
        settle::sweep(&self.stage, &self.deployment).await;
        let looking = mined.into_iter().enumerate().map(async |(number, (mut miner, mut orders))| {
            for order in &mut orders {
                miner.look_again(order).await;
            }
            if number == 0 {
                for collection in collections {
                    miner.take_stock(collection).await;
                }
            }
        });
        join_all(looking).await;
        settle::look_at_everything(&self.stage, &self.deployment).await;
        self.stage.phase.send_replace(Phase::Over);
        for ended in join_all(std::mem::take(&mut self.servers)).await {
            ended.unwrap();
        }
        drop(parts);
    }

    /// The whole run, up to its report, which must be clean.
    async fn carry_out(mut self) {
        let (collections, mined) = self.work().await;
        self.settle(&collections, mined).await;
        let report = self.stage.ledger.report();
        eprintln!("{report}");
        if !self.stage.ledger.is_clean() {
            let kept = self.keep_logs();
            panic!("logs are in {}\n{report}", kept.display());
        }
    }

    /// Keeps the logs of a run that found something.
    fn keep_logs(&self) -> PathBuf {
        let kept = tempfile::Builder::new().prefix("adit-chaos-").tempdir().unwrap().keep();
        for entry in std::fs::read_dir(self.deployment.folder()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                std::fs::copy(&path, kept.join(entry.file_name())).unwrap();
            }
        }
        kept
    }
}

/// How much of `all` falls to one of so many.
fn share(all: u64, among: usize, number: usize) -> u64 {
    let among = among as u64;
    all / among + u64::from((number as u64) < all % among)
}

/// RabbitMQ, PostgreSQL and SeaweedFS under an API process, two packagers and an `adit up`.
async fn on_servers(plan: Plan) {
    let Some(broker) = PrivateServer::start("rabbitmq", "ADIT_TEST_RABBITMQ_URL") else { return };
    let Some(database) = PrivateServer::start("postgres", "ADIT_TEST_POSTGRES_URL") else { return };
    let private =
        Private { broker: Some((&broker, BrokerKind::RabbitMq)), database: Some(&database), ..Private::default() };
    let Some(deployment) = Deployment::with(private).await else { return };
    let mut run = Run::new(plan, deployment, Deployment::machine).await;
    run.open_line().await;
    let front = run.stage.front.url();
    let key = run.deployment.key("packager");
    let (url, address) = (front.clone(), run.stage.front.add_server());
    run.supervise("api", "adit api", move |machine| server_command(machine, "api", address, &url));
    let (url, address) = (front.clone(), run.stage.front.add_server());
    run.supervise("up", "adit up", move |machine| {
        // It is an API process and a packager at once.
        let mut broker: Url = machine.setting("ADIT_BROKER_URL").parse().unwrap();
        broker.set_username("adit").unwrap();
        let mut command = server_command(machine, "up", address, &url);
        command.env("ADIT_BROKER_URL", broker.as_str());
        command
    });
    for name in ["packager-1", "packager-2"] {
        let (url, key) = (front.clone(), key.clone());
        run.supervise(name, "adit packager", move |machine| machine.packager_command(&url, &key));
    }
    for (name, server, number) in [("RabbitMQ", broker, 1), ("PostgreSQL", database, 2)] {
        run.parts.push(tokio::spawn(restart_part(Arc::clone(&run.stage), name, server, plan.dice(number))));
    }
    run.carry_out().await;
}

/// One `adit up` with everything inside.
async fn on_embedded_parts(plan: Plan) {
    let parts = Deployment::new(BrokerKind::Embedded, DatabaseKind::Sqlite, StoreKind::Folder);
    let deployment = parts.await.expect("nothing needs to be installed for it");
    let mut run = Run::new(plan, deployment, |deployment, name| deployment.with_log(name)).await;
    let (url, address) = (run.stage.front.url(), run.stage.front.add_server());
    run.supervise("up", "adit up", move |machine| server_command(machine, "up", address, &url));
    run.carry_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_everything_breaks() {
    on_servers(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_one_process_with_everything_inside_is_killed() {
    on_embedded_parts(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is asked to: tests/chaos/run"]
async fn nothing_is_lost_in_a_long_run() {
    on_servers(Plan::of_environment()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is asked to: tests/chaos/run --embedded"]
async fn nothing_is_lost_in_a_long_run_of_one_process() {
    on_embedded_parts(Plan::of_environment()).await;
}
