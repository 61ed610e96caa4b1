//! The packager as a process sees it: workers that take requests off the broker one at a time, and one that takes deletes.
//!
//! What a worker does with a request is in `job`, with a delete in `deletes`; what it says meanwhile in `statuses`;
//! `running` keeps two of them from working on one package.

mod deletes;
mod job;
mod order;
mod running;
mod statuses;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_shared::clock::{Clock, rfc3339};
use adit_shared::messaging::{Broker, BrokerError, Consumer, Delivery, Incoming, Outgoing, Queue};
use adit_shared::objects::ObjectStore;
use adit_shared::signing::SigningKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::{Api, ApiError};
use crate::plan::PART_SIZE;
use crate::read::Spare;
use crate::sha;
use running::Running;

/// How long after it was told to stop a packager drops what it still does with a message, which goes back to the queue. The process
/// is given ten seconds.
const LAST: Duration = Duration::from_secs(9);

/// Bytes of a body and characters of a reason that a dead letter keeps.
const DEAD_BODY: usize = 32 << 10;
const DEAD_REASON: usize = 2000;

/// How a packager works. Start from [`PackagerConfig::new`].
#[derive(Clone)]
pub struct PackagerConfig {
    /// The key (role packager) that the server is shown.
    pub api_key: String,
    /// URL of the server's API, such as `http://localhost:8080/api`: it is asked whatever server a request names, and only it is
    /// shown the key.
    pub api: Url,
    /// Packages that are built at once. 1.
    pub workers: usize,
    /// How often a package is tried before it has failed. Not counted are attempts that brought the archive on, and those that ended
    /// because a part was away. 5.
    pub attempts: u32,
    /// How long a store or server that is away or in trouble is waited for before the package has failed. 1 h.
    pub patience: Duration,
    /// How long this process must have run before it makes an attempt that counts, of a request
    /// whose process before has died: one that is killed at once time and again is no fault of the
    /// package. 1 s.
    pub steady_after: Duration,
    /// Wait before the second attempt; it doubles with each further one. 1 s.
    pub backoff: Duration,
    /// The longest such wait. 60 s.
    pub longest_backoff: Duration,
    /// Time between two reports of progress. 1 s.
    pub progress_every: Duration,
    /// Time between two questions whether a package is still wanted. 2 s.
    pub ask_every: Duration,
    /// Length of an upload's parts in bytes, made a multiple of 64; S3 wants 5 MiB at least. A build holds five of them. [`PART_SIZE`].
    pub part_size: u64,
    /// The key that signs receipts. `None`: packages have none.
    pub signing_key: Option<SigningKey>,
}

impl PackagerConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(api_key: String, api: Url) -> Self {
        Self {
            api_key,
            api,
            workers: 1,
            attempts: 5,
            patience: Duration::from_hours(1),
            steady_after: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
            progress_every: Duration::from_secs(1),
            ask_every: Duration::from_secs(2),
            part_size: PART_SIZE,
            signing_key: None,
        }
    }

    /// How long to wait when so many attempts have failed.
    fn wait_after(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        self.backoff.saturating_mul(1 << doublings).min(self.longest_backoff)
    }
}

impl fmt::Debug for PackagerConfig {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api, workers, attempts, part_size, .. } = self;
        write!(
            f,
            "PackagerConfig {{ api: {api}, workers: {workers}, attempts: {attempts}, part_size: {part_size}, … }}"
        )
    }
}

/// Why a packager ended.
#[derive(Debug, thiserror::Error)]
pub enum PackagerError {
    /// It cannot ask the server anything: its key is refused, or a miner's.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The broker refuses: its credentials, or the queue.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A worker broke off: a defect.
    #[error("a worker broke off: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// Takes requests and deletes until `stop` is cancelled; then gives unfinished work back to the broker, for another packager or
/// for a later start to go on with, and returns.
///
/// # Errors
/// When the server refuses the key or says that it is a miner's, and when the broker refuses the
/// credentials. A broker, server or store that is away is waited for, at the start too.
pub async fn run(
    config: PackagerConfig,
    broker: Broker,
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), PackagerError> {
    let api = Api::new(&config.api_key, config.api.clone())?;
    stop.run_until_cancelled(api.check_known()).await.unwrap_or(Ok(()))?;
    let part_size = config.part_size.max(1).next_multiple_of(sha::BLOCK);
    let config = PackagerConfig { part_size, ..config };
    // One worker that cannot go on ends them all, and the others get to give their work back.
    let stop = stop.child_token();
    let workers = config.workers.max(1);
    let running = Running::default();
    let packager = Arc::new(Packager {
        config,
        api,
        broker,
        objects,
        clock,
        running,
        speed: Speed::default(),
        spare: Spare::default(),
        began: Instant::now(),
        stop: stop.clone(),
    });
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(packager.clone().serve(Task::Build));
    }
    tasks.spawn(packager.serve(Task::Delete));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        stop.cancel();
        let ended = ended.map_err(PackagerError::from).and_then(|ended| ended.map_err(PackagerError::from));
        result = result.and(ended);
    }
    result
}

/// What all workers share.
#[derive(Debug)]
struct Packager {
    config: PackagerConfig,
    api: Api,
    broker: Broker,
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    running: Running,
    speed: Speed,
    spare: Spare,
    /// When this process began to take requests.
    began: Instant,
    stop: CancellationToken,
}

/// What a worker does all day.
#[derive(Debug, Clone, Copy)]
enum Task {
    Build,
    Delete,
}

impl Task {
    /// Where its messages come from.
    fn queue(self) -> Queue {
        match self {
            Self::Build => Queue::PackageRequests,
            Self::Delete => Queue::Deletes,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// It was acknowledged, or its connection is lost and it will come again.
    Settled,
    /// It must go back to the queue.
    GiveBack,
}

impl Packager {
    /// Handles the messages of a queue one by one until the packager stops.
    async fn serve(self: Arc<Self>, task: Task) -> Result<(), BrokerError> {
        let Some(mut consumer) = self.consumer(task, true).await? else { return Ok(()) };
        let mut failures = 0;
        loop {
            loop {
                let delivery = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(()),
                    delivery = consumer.next() => delivery?,
                };
                let handling = async {
                    match task {
                        Task::Build => job::handle(&self, delivery).await,
                        Task::Delete => deletes::handle(&self, delivery).await,
                    }
                };
                if self.within(LAST, handling).await.unwrap_or(Handled::GiveBack) == Handled::GiveBack {
                    break;
                }
                failures = 0;
            }
            // A message goes back when its consumer goes.
            drop(consumer);
            failures += 1;
            self.pause(self.config.wait_after(failures)).await;
            consumer = match self.consumer(task, false).await? {
                Some(consumer) => consumer,
                None => return Ok(()),
            };
        }
    }

    /// Reads a queue as soon as the broker is there; `None` once the packager stops. A refusal is final at the start, where it is the
    /// operator's mistake.
    async fn consumer(&self, task: Task, at_start: bool) -> Result<Option<Consumer>, BrokerError> {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let queue = task.queue();
            let opened = self.stop.run_until_cancelled(self.broker.consume(&queue, 1)).await;
            failures += 1;
            let wait = self.config.wait_after(failures);
            match opened {
                None => break,
                Some(Ok(consumer)) => return Ok(Some(consumer)),
                Some(Err(error @ BrokerError::Refused { .. })) if at_start => return Err(error),
                Some(Err(error)) => tracing::warn!(%queue, %error, ?wait, "the broker is waited for"),
            }
            self.pause(wait).await;
        }
        Ok(None)
    }

    /// Waits for some work, but no longer than so long after the packager was told to stop.
    async fn within<T>(&self, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = over => None,
        }
    }

    /// Waits, but not once the packager stops.
    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Moves a message that nothing can be done with to the queue's dead letters, with the reason, for an operator to see.
    async fn bury(&self, queue: Queue, delivery: Delivery, reason: &str) -> Handled {
        let reason: String = reason.chars().take(DEAD_REASON).collect();
        tracing::warn!(%queue, reason, monotonic_counter.messages_buried = 1, "a message goes to the dead queue");
        let copy = dead_letter(&delivery.message).header("reason", reason);
        let copy = copy.header("buried", rfc3339(self.clock.now_ms()));
        match self.broker.publish(&Queue::Dead(Box::new(queue)), copy).await {
            Ok(()) => settle(delivery).await,
            // It would refuse it again and again, and nothing behind the message would ever be
            // read.
            Err(error @ BrokerError::Refused { .. }) => {
                tracing::error!(%error, "the dead queue does not take it; the broker is to move it there itself");
                settled(delivery.reject().await)
            }
            Err(error) => {
                tracing::error!(%error, "the dead queue does not take it");
                Handled::GiveBack
            }
        }
    }
}

/// Acknowledges a message whose effect is stored.
async fn settle(delivery: Delivery) -> Handled {
    settled(delivery.ack().await)
}

fn settled(outcome: Result<(), BrokerError>) -> Handled {
    if let Err(error) = outcome {
        tracing::warn!(%error, "a message was not acknowledged and will come again");
    }
    Handled::Settled
}

/// A copy of a message that every broker takes, whatever the message was: the beginning of its body
/// as text, and those of its headers that make sense.
fn dead_letter(message: &Incoming) -> Outgoing {
    let body = &message.body[..message.body.len().min(DEAD_BODY)];
    let mut copy = Outgoing::new(String::from_utf8_lossy(body));
    if let Ok(Some(queue)) = message.reply_to() {
        copy = copy.header("reply-to", queue);
    }
    if let Some(traceparent) = message.traceparent() {
        copy = copy.header("traceparent", traceparent);
    }
    copy
}

/// How fast archives come about here, to say how long the next one will take.
#[derive(Debug)]
struct Speed(AtomicU64);

impl Default for Speed {
    /// 20 MB/s, what any store should do.
    fn default() -> Self {
        Self(AtomicU64::new(20_000_000))
    }
}

impl Speed {
    /// Seconds that so many bytes should take; at least one.
    fn seconds(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.0.load(Ordering::Relaxed).max(1)).max(1)
    }

    /// Learns from a build; one of less than a second says little.
    fn learn(&self, bytes: u64, ms: i64) {
        if let Some(measured) = u64::try_from(ms).ok().filter(|ms| *ms >= 1000).map(|ms| bytes / (ms / 1000)) {
            let known = self.0.load(Ordering::Relaxed);
            self.0.store((known + measured) / 2, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
