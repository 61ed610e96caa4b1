//! Changes of a collection, one after the other, by verbs that are killed and tried again until
//! they are acknowledged.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Stage;
use super::ledger::{Counted, Finding};
use super::model::Collection;
use crate::support::Machine;

/// Of a hundred verbs, how many are killed.
const KILLED: u32 = 40;
/// How long a verb runs that will be killed, in milliseconds.
const LIFE: std::ops::Range<u64> = 20..2_000;
/// After so many imports a document is withdrawn, and the index made anew.
const WITHDRAWAL_EVERY: u64 = 3;
const REINDEX_EVERY: u64 = 4;
/// How long a change may be tried, in seconds, beyond which it is stuck.
const PATIENCE: u64 = 600;

pub(super) struct Importer {
    pub(super) stage: Arc<Stage>,
    pub(super) collection: Arc<Collection>,
    pub(super) machine: Machine,
    pub(super) dice: StdRng,
}

impl Importer {
    /// Carries out so many imports, with what comes between them.
    pub(super) async fn run(mut self, imports: u64, folder: &Path) {
        let slug = self.collection.slug.clone();
        for number in 1..=imports {
            self.stage.await_orders((number - 1) as f64 / imports as f64).await;
            let folder = self.collection.begin_import(folder, &mut self.dice);
            self.carry_out("adit import", &["import", "--wait", folder.to_str().unwrap()]).await;
            self.collection.acknowledge();
            self.stage.ledger.count(Counted::Work, "imports");
            if number % WITHDRAWAL_EVERY == 0
                && let Some(name) = self.collection.begin_withdrawal()
            {
                let verb = ["withdraw", "--wait", "--collection", &slug, "--reason", "a mistake", &name];
                self.carry_out("adit withdraw", &verb).await;
                self.collection.acknowledge();
                self.stage.ledger.count(Counted::Work, "withdrawals");
            }
            if number % REINDEX_EVERY == 0 {
                self.carry_out("adit reindex", &["reindex", "--wait", &slug]).await;
                self.stage.ledger.count(Counted::Work, "reindexes");
            }
        }
    }

    /// Tries a verb until it succeeds.
    async fn carry_out(&mut self, name: &str, arguments: &[&str]) {
        let began = Instant::now();
        let ledger = Arc::clone(&self.stage.ledger);
        loop {
            match self.attempt(name, arguments).await {
                Some((Some(0), _)) => return,
                // Neither has a bad line, nor damaged texts.
                Some((Some(2), said)) => {
                    return ledger.find(Finding::Lost, format!("{name} left something out: {said}"));
                }
                Some((code, said)) => {
                    ledger.count(
                        Counted::Repeated,
                        &format!("{name} ended with {}", code.map_or("a signal".to_owned(), |code| code.to_string())),
                    );
                    self.stage.note(&format!("{arguments:?}: {code:?}: {said}"));
                }
                None => ledger.count(Counted::Kill, name),
            }
            if began.elapsed() > Duration::from_secs(PATIENCE) {
                return ledger.find(Finding::Stuck, format!("{arguments:?} does not succeed"));
            }
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(50..1_000))).await;
        }
    }

    /// Runs a verb once: its status and what it said, or nothing where it was killed.
    async fn attempt(&mut self, name: &str, arguments: &[&str]) -> Option<(Option<i32>, String)> {
        let life = self.dice.random_range(LIFE);
        let is_killed = !self.stage.is_calm() && self.dice.random_range(0..100) < KILLED;
        let said = File::create(self.machine.log()).unwrap();
        let mut command = tokio::process::Command::from(self.machine.adit(arguments));
        let mut child = command.stdout(Stdio::null()).stderr(said).kill_on_drop(true).spawn().unwrap();
        let life = if is_killed { Duration::from_millis(life) } else { Duration::from_secs(PATIENCE) };
        if let Ok(status) = tokio::time::timeout(life, child.wait()).await {
            let said = std::fs::read_to_string(self.machine.log()).unwrap();
            return Some((status.unwrap().code(), said.trim().to_owned()));
        }
        child.kill().await.unwrap();
        if !is_killed {
            self.stage.ledger.find(Finding::Stuck, format!("{name} runs for ten minutes"));
        } else if self.dice.random_bool(0.5) {
            self.break_lease().await;
        }
        None
    }

    /// Lets the next change in at once, as an operator does who knows that the last one is dead.
    async fn break_lease(&self) {
        let mut command = tokio::process::Command::from(self.machine.adit(&["leases", "break", &self.collection.slug]));
        // The database may be away; then the lease runs out by itself.
        let output = command.output().await.unwrap();
        if output.status.success() {
            self.stage.ledger.count(Counted::Work, "leases broken");
        }
    }
}
