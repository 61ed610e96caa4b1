//! What every handler is handed: the ports, the clock and the settings.

use std::sync::Arc;
use std::time::Duration;

use adit_shared::clock::Clock;
use adit_shared::config::HttpConfig;
use adit_shared::messaging::Broker;
use adit_shared::objects::ObjectStore;
use adit_shared::search::Search;
use adit_shared::signing::PublicKeys;
use adit_shared::store::{Store, StoreResult};
use adit_shared::webhook::Guard;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::anonymous_allowance::{AnonymousAllowance, AnonymousLimits};
use crate::body_budget::BodyBudget;
use crate::checked_files::CheckedFiles;
use crate::client::ClientId;
use crate::deletes::{DeleteSending, keep_sending};
use crate::fair_pool::{FairPermit, FairPool};
use crate::links::{Key, Signer};
use crate::metrics::Metrics;
use crate::problem::{ApiResult, Problem};
use crate::quota::Quotas;
use crate::readiness::ReadinessTrials;
use crate::usage::Usage;

/// The API's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URL that clients use; without a trailing slash in its path.
    pub public_url: Url,
    /// How long a finished archive is kept.
    pub package_ttl: Duration,
    /// Silence after which a poll sends a request again.
    pub resend_after: Duration,
    /// How long the API works on one request.
    pub request_timeout: Duration,
    /// The keys that receipts can be checked with.
    pub public_keys: PublicKeys,
    /// What webhooks may be called.
    pub webhooks: Guard,
    /// Connections, proxies and browsers.
    pub http: HttpConfig,
    /// Allowances of addresses without a key.
    pub anonymous: AnonymousLimits,
}

/// How much of what takes long goes on at once in one process. No client has more than its share of
/// any of it.
#[derive(Debug)]
pub struct Limits {
    /// Passes over all members of a docset; more of them wait.
    pub passes: Arc<FairPool>,
    /// Open event streams; more of them are refused.
    pub streams: Arc<FairPool>,
    /// Hits that snippets are made of, each with a text of a MiB at most in memory; more of them wait.
    pub texts: Arc<FairPool>,
    /// Answers of many lines; more of them wait.
    pub lines: Arc<FairPool>,
    /// Files and archives that are being sent from here; more of them wait.
    pub downloads: Arc<FairPool>,
    /// Memory of bodies that are on their way.
    pub bodies: Arc<BodyBudget>,
    /// Searches that work; more of them wait, by turns of their clients.
    pub searches: Arc<FairPool>,
    /// Pages of many hits, from when their documents are read until they are sent; more of them wait.
    pub pages: Arc<FairPool>,
    /// Whole answers of many hits, each in memory until its client has read it; more of them are refused.
    pub answers: Arc<FairPool>,
}

/// Searches in line, at most; a client has a quarter of them.
const WAITING_SEARCHES: usize = 64;

/// Cores of the machine, or two where it has less or does not tell.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2)
}

/// A place for each core, of which a client has half at most: a search keeps a core busy.
fn search_places() -> Arc<FairPool> {
    let places = cores();
    FairPool::new(places, places.div_ceil(2), WAITING_SEARCHES)
}

impl Default for Limits {
    /// Four passes keep the database free for everybody else; 200 streams are read once a second with ease;
    /// eight answers of a million hits take a hundred megabytes.
    fn default() -> Self {
        Self {
            passes: FairPool::new(4, 1, 400),
            streams: FairPool::new(200, 20, 0),
            texts: FairPool::new(2 * cores(), 2, 2000),
            lines: FairPool::new(64, 8, 400),
            downloads: FairPool::new(512, 64, 2000),
            bodies: BodyBudget::usual(),
            searches: search_places(),
            pages: FairPool::new(48, 3, 400),
            answers: FairPool::new(8, 2, 0),
        }
    }
}

/// The API's state; cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    links: Key,
    quotas: Quotas,
    usage: Usage,
    anonymous: AnonymousAllowance,
    readiness: ReadinessTrials,
    checked_files: CheckedFiles,
    delete_sending: DeleteSending,
}

/// The parts of [`App`].
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The object store.
    pub objects: Arc<dyn ObjectStore>,
    /// The search engine.
    pub search: Arc<dyn Search>,
    /// The broker.
    pub broker: Broker,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub settings: Settings,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// Told when the process stops: what would go on by itself ends.
    pub stop: CancellationToken,
    /// Bounds on work that takes long.
    pub limits: Limits,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let quotas = Quotas::new(parts.store.clone(), parts.clock.clone());
        let usage = Usage::new(parts.store.clone(), parts.clock.clone());
        let anonymous = AnonymousAllowance::new(parts.settings.anonymous);
        let (links, readiness, checked_files) = (Key::default(), ReadinessTrials::default(), CheckedFiles::default());
        let delete_sending = DeleteSending::default();
        Self(Arc::new(Inner { parts, links, quotas, usage, anonymous, readiness, checked_files, delete_sending }))
    }

    /// What keys may use, as far as this process holds it.
    pub(crate) fn quotas(&self) -> &Quotas {
        &self.0.quotas
    }

    /// What callers without a key have used.
    pub(crate) fn anonymous(&self) -> &AnonymousAllowance {
        &self.0.anonymous
    }

    /// Trials of the parts, shared by all who ask.
    pub(crate) fn readiness(&self) -> &ReadinessTrials {
        &self.0.readiness
    }

    /// Reads documents' files.
    pub(crate) fn checked_files(&self) -> &CheckedFiles {
        &self.0.checked_files
    }

    /// How far this process is with sending deletes.
    pub(crate) fn delete_sending(&self) -> &DeleteSending {
        &self.0.delete_sending
    }

    /// Counts of what is used.
    pub(crate) fn usage(&self) -> &Usage {
        &self.0.usage
    }

    /// Runs the service, and what has to be done beside it from time to time; what it holds for its clients goes back to the database at its
    /// end.
    pub async fn while_serving<T>(&self, serve: impl Future<Output = T>) -> T {
        let served = CancellationToken::new();
        let keeping = async {
            let outcome = serve.await;
            served.cancel();
            outcome
        };
        let deletes = keep_sending(self, served.clone());
        tokio::join!(keeping, self.quotas().keep(served.clone()), self.usage().keep(served.clone()), deletes).0
    }

    /// Signs links and checks them.
    pub(crate) async fn links(&self) -> StoreResult<Signer> {
        self.0.links.signer(&*self.store, self.clock.now_ms()).await
    }

    /// Waits for the right to pass over all members of a docset.
    ///
    /// # Errors
    /// [`Kind::TooManyRequests`](crate::problem::Kind::TooManyRequests) or [`Kind::Unavailable`](crate::problem::Kind::Unavailable) where too many wait.
    pub async fn pass(&self, client: ClientId) -> ApiResult<FairPermit> {
        self.limits.passes.acquire(client).await.map_err(|full| Problem::no_place(full, "passes over docsets"))
    }

    /// The path of an API resource as clients address it: with the path of the public URL before it.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.settings.public_url.path().trim_end_matches('/'))
    }

    /// The absolute URL of an API resource.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.settings.public_url.as_str().trim_end_matches('/'))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}
