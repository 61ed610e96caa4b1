//! Servers that are killed at random moments and started again, as a supervisor does.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::Stage;
use super::ledger::{Counted, Finding};
use crate::support::{PATIENCE, PrivateServer};

/// How long a process lives that is killed while it starts, in milliseconds, and of how many in a
/// hundred that is so.
const SHORT_LIFE: std::ops::Range<u64> = 10..2_000;
const SHORT: u32 = 20;
/// For how long a part is away, in milliseconds.
const PART_AWAY: std::ops::Range<u64> = 0..4_000;

/// A server of Adit's, over all its lives.
pub(super) struct Supervised {
    pub(super) stage: Arc<Stage>,
    /// Its name, which is that of its machine.
    pub(super) name: &'static str,
    /// Its kind, as the report names it.
    pub(super) kind: &'static str,
    /// Makes the command of the next life.
    pub(super) command: Box<dyn Fn() -> std::process::Command + Send + Sync>,
    /// Where its log goes.
    pub(super) log: PathBuf,
    pub(super) dice: StdRng,
}

impl Supervised {
    /// Starts it again and again until the run is over, when it is asked to stop.
    pub(super) async fn run(mut self) {
        while !self.stage.is_over() {
            let is_short = self.dice.random_range(0..100) < SHORT;
            let (least, most) = self.stage.plan.process_life;
            let life = self.dice.random_range(if is_short { SHORT_LIFE } else { least..most });
            self.live(Duration::from_millis(life)).await;
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..1_500))).await;
        }
    }

    async fn live(&self, life: Duration) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::from((self.command)());
        let mut child = command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = AtomicBool::new(false);
        let reading = async {
            self.read(lines, &is_ready).await;
            std::future::pending::<()>().await;
        };
        let killing = async {
            tokio::time::sleep(life).await;
            // Whoever lives when it gets calm is left alone.
            if self.stage.is_calm() { self.stage.over().await } else { false }
        };
        tokio::select! {
            status = child.wait() => self.note_end(&format!("{status:?}"), is_ready.load(Ordering::SeqCst)),
            () = reading => {}
            is_over = killing => {
                if is_over {
                    stop(&self.stage, self.name, &mut child).await;
                } else {
                    child.kill().await.unwrap();
                    self.stage.ledger.count(Counted::Kill, self.kind);
                }
            }
        }
    }

    /// Reads on, so that the process never blocks on a full pipe.
    async fn read(&self, mut lines: Lines<BufReader<ChildStdout>>, is_ready: &AtomicBool) {
        while let Ok(Some(line)) = lines.next_line().await {
            if ["Adit API", "Adit is up", "Adit packager"].iter().any(|start| line.starts_with(start)) {
                is_ready.store(true, Ordering::SeqCst);
            }
        }
    }

    /// A start may be refused while the parts are away; who was ready goes on whatever happens.
    fn note_end(&self, status: &str, was_ready: bool) {
        if was_ready {
            self.stage.ledger.find(Finding::Unexpected, format!("{} ended by itself: {status}", self.name));
        } else {
            self.stage.ledger.count(Counted::Repeated, &format!("starts of {}", self.kind));
        }
    }
}

/// Asks a process to stop, which it must do.
async fn stop(stage: &Stage, name: &str, child: &mut Child) {
    let id = child.id().unwrap().to_string();
    let _ = Command::new("kill").args(["-TERM", &id]).status().await;
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(status) => {
            stage.ledger.find(Finding::Unexpected, format!("{name} was asked to stop and ended with {status:?}"))
        }
        Err(_) => stage.ledger.find(Finding::Stuck, format!("{name} was asked to stop and does not")),
    }
}

/// Ends a part under the processes at random, by force or in order, and starts it again.
pub(super) async fn restart_part(
    stage: Arc<Stage>,
    name: &'static str,
    mut server: PrivateServer,
    mut dice: StdRng,
) -> PrivateServer {
    loop {
        let (least, most) = stage.plan.part_life;
        let life = Duration::from_millis(dice.random_range(least..most));
        tokio::select! {
            () = tokio::time::sleep(life) => {}
            () = stage.calm() => return server,
        }
        let (is_killed, away) = (dice.random_bool(0.5), Duration::from_millis(dice.random_range(PART_AWAY)));
        let restarting = tokio::task::spawn_blocking(move || {
            if is_killed {
                server.kill()
            } else {
                server.stop()
            }
            std::thread::sleep(away);
            server.start_again();
            server
        });
        server = restarting.await.unwrap();
        let how = if is_killed { "killed" } else { "stopped" };
        stage.ledger.count(Counted::Restart, &format!("{name} {how}"));
    }
}
