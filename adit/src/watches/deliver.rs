//! Sends a notice to its webhook: Standard Webhooks 1.0.0, to addresses that the guard lets through, with the schedule of attempts.

use std::net::SocketAddr;
use std::time::Duration;

use adit_shared::clock::rfc3339;
use adit_shared::config::Config;
use adit_shared::store::{Attempt, LONGEST_NOTICE_WAIT_MS, Notice, Watch};
use adit_shared::webhook::{Guard, WebhookSecret};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, redirect};
use serde_json::json;

use crate::running;
use crate::services::Services;

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Milliseconds from each attempt to the next, at most [`LONGEST_NOTICE_WAIT_MS`] with [`jitter`]:
/// the schedule of the specification. An attempt comes later where no process is there to make it.
const DELAYS: [i64; 9] =
    [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000];
/// How long the one who has claimed an attempt is left alone, in milliseconds: longer than an attempt takes.
const CLAIM: i64 = 60_000;
/// The longest wait that a receiver can ask for, in milliseconds.
const LONGEST_WAIT: i64 = 86_400_000;
const _: () =
    assert!(DELAYS[DELAYS.len() - 1] / 10 * 11 <= LONGEST_NOTICE_WAIT_MS && LONGEST_WAIT <= LONGEST_NOTICE_WAIT_MS);

/// Sends notices.
pub(super) struct Deliverer<'a> {
    services: &'a Services,
    guard: Guard,
    http: reqwest::Client,
    /// Where the API is, without a slash at its end.
    base: String,
}

/// Looks names up and leaves out what must not be called. The connection goes to what is left, and nothing is looked up again for it.
struct Guarded(Guard);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let may_be_called: Vec<SocketAddr> = found.filter(|address| guard.allows(address.ip())).collect();
            if may_be_called.is_empty() {
                return Err(Box::from("its name leads to no public address"));
            }
            Ok(Box::new(may_be_called.into_iter()) as Addrs)
        })
    }
}

/// A client that calls nothing but what the guard lets through: no proxy, which would look names up by itself, and no redirect.
fn client(guard: &Guard) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("adit/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Guarded(guard.clone()))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(PATIENCE)
        .build()
}

impl<'a> Deliverer<'a> {
    /// With the configured guard and public URL.
    pub(super) fn new(config: &Config, services: &'a Services) -> anyhow::Result<Self> {
        let base = running::api_url(config).trim_end_matches('/').to_owned();
        Ok(Self { services, guard: config.webhooks.clone(), http: client(&config.webhooks)?, base })
    }

    /// Makes one attempt, at its time or `now`; tells whether the receiver took the notice.
    pub(super) async fn send(&self, notice: Notice, now: bool) -> anyhow::Result<bool> {
        let (store, clock) = (&self.services.store, &self.services.clock);
        let wait = if now { 0 } else { notice.wait_ms(clock.now_ms()) };
        tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
        let Some(watch) = store.watch(notice.watch, None).await? else { return Ok(false) };
        let Some((url, secret)) = &watch.new.webhook else { return Ok(false) };
        if !store.claim_notice(&notice, clock.now_ms() + CLAIM).await? {
            return Ok(false);
        }
        let answer = self.call(url, secret, &notice, &watch).await;
        let attempt = attempt(answer, notice.attempts + 1, clock.now_ms());
        if let Attempt::Failed { problem, .. } = &attempt {
            tracing::warn!(watch = %watch.id, docset = %notice.docset, problem, "a webhook was not told");
        }
        store.settle_notice(&notice, &attempt, clock.now_ms()).await?;
        Ok(matches!(attempt, Attempt::Delivered { .. }))
    }

    /// The answer's status and the seconds after which it asks to be called again. Its body is not read.
    async fn call(&self, url: &str, secret: &WebhookSecret, notice: &Notice, watch: &Watch) -> Answer {
        // What may be called may have changed since the watch was made.
        let url = self.guard.read(url).map_err(|why| why.to_string())?;
        let timestamp = self.services.clock.now_ms() / 1000;
        let body = self.body(notice, watch);
        let signature = secret.sign(&notice.message, timestamp, body.as_bytes());
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        let request = request.header("webhook-id", &notice.message).header("webhook-timestamp", timestamp);
        let answer = request.header("webhook-signature", signature).send().await.map_err(|error| told(&error))?;
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        Ok((answer.status(), retry_after))
    }

    /// The same at each attempt.
    fn body(&self, notice: &Notice, watch: &Watch) -> String {
        let url = |path: &str, id: i64| format!("{}/api/{path}/{id}", self.base);
        let data = json!({
            "watch": {"id": watch.id, "url": url("watches", watch.id.0), "name": watch.new.name},
            "collection": watch.collection_slug,
            "corpus_version": notice.corpus_version,
            "docset": {"id": notice.docset, "url": url("docsets", notice.docset.0), "size": notice.documents},
        });
        json!({"type": "watch.found", "timestamp": rfc3339(notice.created), "data": data}).to_string()
    }
}

/// Status and wished pause in seconds, or why there was no answer.
type Answer = Result<(StatusCode, Option<i64>), String>;

/// What can be said of a failed call to the watch's owner, who must learn nothing of the network that we are in.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", PATIENCE.as_secs());
    }
    if error.is_connect() {
        "no connection: its name leads to no public address, or nobody answers there"
    } else {
        "the answer broke off"
    }
    .to_owned()
}

/// What comes of the answer to the attempt of that number.
fn attempt(answer: Answer, number: u32, now: i64) -> Attempt {
    let (status, retry_after) = match answer {
        Ok((status, _)) if status.is_success() => return Attempt::Delivered { status: status.as_u16() },
        Ok((status @ StatusCode::GONE, _)) => return Attempt::Gone { status: status.as_u16() },
        Ok((status, retry_after)) => (Ok(status), retry_after),
        Err(why) => (Err(why), None),
    };
    let wished = retry_after.unwrap_or(0).clamp(0, LONGEST_WAIT / 1000) * 1000;
    let delay = DELAYS.get(number.saturating_sub(1) as usize).map(|delay| jitter(*delay).max(wished));
    Attempt::Failed {
        status: status.as_ref().ok().map(StatusCode::as_u16),
        problem: status.map_or_else(|why| why, |status| format!("the receiver answered {status}")),
        next: delay.map(|delay| now + delay),
    }
}

/// Up to a tenth more, so that what failed together does not come back together.
fn jitter(delay: i64) -> i64 {
    delay + rand::random_range(0..=delay / 10)
}
