//! One request from its delivery to its acknowledgement: attempts, progress, and the three ways it can end (the archive is there,
//! it failed, it is not wanted any more), or its going back to the queue when the packager stops.

use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::ids::PackageId;
use adit_shared::messaging::{Complete, Delivery, PackageRequest, Queue, StatusMessage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::running::Claim;
use super::statuses::Statuses;
use super::{Handled, Packager, settle};
use crate::api::{ApiError, download_url};
use crate::build::{Build, Built, Finished, Progress, State, remove, remove_unfinished};
use crate::error::{BuildError, Fate};
use crate::plan::Plan;
use crate::planning;

/// How long a link to an archive is good that no server will renew: as long as S3 allows.
const LINK_SECONDS: u64 = 7 * 24 * 3600;

/// Takes a request off its message and sees it through.
pub(super) async fn handle(packager: &Arc<Packager>, delivery: Delivery) -> Handled {
    let message = &delivery.message;
    let text = message.text().map_err(|error| error.to_string());
    let request = text.and_then(|text| text.parse::<PackageRequest>().map_err(|error| error.to_string()));
    let mut request = match request {
        Ok(request) => request,
        Err(reason) => return packager.bury(Queue::PackageRequests, delivery, &reason).await,
    };
    request.formats.sort_unstable();
    let Some(statuses) = Statuses::to(&packager.broker, message, &request) else {
        let reason = "there is no reply-to header, and the URL does not end in a docset's number";
        return packager.bury(Queue::PackageRequests, delivery, reason).await;
    };
    let package = request.package.unwrap_or_else(|| unnamed(&request));
    let traceparent = message.headers.get("traceparent").map(str::to_owned);
    let span = tracing::info_span!("package", %package, docset = %request.docset, traceparent);
    let Some(claim) = packager.running.build(package).instrument(span.clone()).await else {
        tracing::info!(%package, "the same request is being worked on; this one is dropped");
        return settle(delivery).await;
    };
    let packager = packager.clone();
    let job = Job { packager, request, package, traceparent, statuses, claim, attempt: 0 };
    job.run(delivery).instrument(span).await
}

/// The number under which a package is built that its server has not numbered: the same for the same request, and negative,
/// so that no server's number is met.
fn unnamed(request: &PackageRequest) -> PackageId {
    let hash = Sha256::of(request.to_string().as_bytes());
    let number = hash.0.iter().take(8).fold(0, |number: i64, byte| (number << 8) | i64::from(*byte));
    PackageId(number | i64::MIN)
}

/// Why an attempt has no archive to show.
#[derive(Debug)]
enum End {
    /// It failed.
    Failed(BuildError),
    /// The packager stops.
    Stopped,
    /// Nobody wants the package any more.
    Dismissed,
}

impl<E: Into<BuildError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A request that is being worked on.
struct Job {
    packager: Arc<Packager>,
    request: PackageRequest,
    package: PackageId,
    traceparent: Option<String>,
    statuses: Statuses,
    claim: Claim,
    /// Number of the attempt, over all deliveries of the request.
    attempt: u32,
}

impl Job {
    async fn run(mut self, delivery: Delivery) -> Handled {
        let _asking = self.ask_while_running();
        loop {
            let error = match self.attempt().await {
                Ok(built) => return self.complete(delivery, built).await,
                Err(End::Stopped) => return self.give_back().await,
                Err(End::Dismissed) => return self.dismiss(delivery).await,
                Err(End::Failed(error)) => error,
            };
            let tried = self.attempt;
            if error.fate() == Fate::Reject || tried >= self.packager.config.attempts {
                return match self.finished_elsewhere().await {
                    Some(built) => self.complete(delivery, built).await,
                    None => self.fail(delivery, &error).await,
                };
            }
            let wait = self.packager.config.wait_after(tried);
            tracing::warn!(attempt = tried, %error, ?wait, "trying again");
            tokio::select! {
                () = self.packager.stop.cancelled() => return self.give_back().await,
                () = self.claim.dismissed().cancelled() => return self.dismiss(delivery).await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One attempt: what an earlier one has finished is answered at once, else the archive is planned and built.
    async fn attempt(&mut self) -> Result<Built, End> {
        self.request.docset = self.packager.api.docset(&self.request)?;
        let state = self.begin().await?;
        if let Some(finished) = state.finished(&*self.packager.objects, self.package).await? {
            return Ok(Built { finished, parts_reused: finished.done.parts });
        }
        let plan = self.plan().await?;
        let seconds = self.packager.speed.seconds(plan.size());
        self.statuses.mention(&StatusMessage::Accepted { seconds: Some(seconds) }).await;
        let began = self.packager.clock.now_ms();
        let built = self.build(state, plan).await?;
        if built.parts_reused == 0 {
            self.packager.speed.learn(built.finished.archive.size, self.packager.clock.now_ms() - began);
        }
        // Had it been dismissed a moment ago, nobody else would know of this archive.
        if !self.is_wanted().await.unwrap_or(true) {
            return Err(End::Dismissed);
        }
        Ok(built)
    }

    /// Counts the attempt where a crash cannot make it forgotten.
    async fn begin(&mut self) -> Result<State, End> {
        // If the store cannot even be asked, the attempt counts for this delivery.
        self.attempt += 1;
        let (objects, limit) = (&*self.packager.objects, self.packager.config.attempts);
        let mut state = State::load(objects, self.package).await?;
        state.begin(self.packager.clock.now_ms());
        self.attempt = self.attempt.max(state.attempts);
        self.statuses.begin(state.turn);
        state.save(objects, self.package).await?;
        if self.attempt > limit {
            return Err(BuildError::GivenUp { attempts: limit }.into());
        }
        Ok(state)
    }

    /// Plans the archive, if it is wanted. Of a docset so large that this takes a while, it says meanwhile that it is at it.
    async fn plan(&mut self) -> Result<Arc<Plan>, End> {
        let halt = CancellationToken::new();
        let (packager, request, traceparent) = (self.packager.clone(), self.request.clone(), self.traceparent.clone());
        let planning = async move {
            packager.api.check_key(&request).await?;
            if let Some(package) = request.package
                && !packager.api.wants(&request, package).await?
            {
                return Ok(None);
            }
            let manifest = packager.api.manifest(&request, traceparent.as_deref()).await?;
            let part_size = packager.config.part_size;
            planning::plan(manifest, &request.formats, request.layout, part_size).await.map(Some)
        };
        let halted = halt.clone();
        let planning = async move { halted.run_until_cancelled(planning).await.unwrap_or(Ok(None)) };
        Ok(Arc::new(self.attend(planning, &halt, || StatusMessage::Accepted { seconds: None }).await?))
    }

    /// Builds and reports. A build that is called off comes to rest before this returns, so that nothing appears in the store later.
    async fn build(&mut self, state: State, plan: Arc<Plan>) -> Result<Built, End> {
        let halt = CancellationToken::new();
        let (progress, seen) = watch::channel(Progress::default());
        let (objects, spare) = (self.packager.objects.clone(), self.packager.spare.clone());
        let build = Build::new(objects, self.package, plan.clone(), state, progress, spare);
        let status = || report(&plan, *seen.borrow());
        self.attend(build.run(halt.clone()), &halt, status).await
    }

    /// Waits for a task, which gives nothing once it was halted or nobody wants the package, and tells the status about once a second.
    async fn attend<T: Send + 'static>(
        &mut self,
        task: impl Future<Output = Result<Option<T>, BuildError>> + Send + 'static,
        halt: &CancellationToken,
        status: impl Fn() -> StatusMessage,
    ) -> Result<T, End> {
        let (stop, dismissed) = (self.packager.stop.clone(), self.claim.dismissed().clone());
        let mut task = AbortOnDropHandle::new(tokio::spawn(task.in_current_span()));
        let every = self.packager.config.progress_every;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                result = &mut task => return result??.ok_or(End::Dismissed),
                () = stop.cancelled() => break End::Stopped,
                () = dismissed.cancelled() => break End::Dismissed,
                _ = ticks.tick() => self.statuses.mention(&status()).await,
            }
        };
        halt.cancel();
        match (task.await, end) {
            // It had just been finished.
            (Ok(Ok(Some(result))), End::Stopped) => Ok(result),
            (_, end) => Err(end),
        }
    }

    /// Whether the server that asked still wants the package; one that gave it no number cannot change its mind.
    async fn is_wanted(&self) -> Result<bool, ApiError> {
        match self.request.package {
            Some(package) => self.packager.api.wants(&self.request, package).await,
            None => Ok(true),
        }
    }

    /// Asks the server time and again, and calls the build off when it is not wanted any more. A server that is away changes nothing.
    fn ask_while_running(&self) -> Option<AbortOnDropHandle<()>> {
        let (api, request) = (self.packager.api.clone(), self.request.clone());
        let (package, every) = (request.package?, self.packager.config.ask_every);
        let dismissed = self.claim.dismissed().clone();
        let asking = async move {
            loop {
                tokio::time::sleep(every).await;
                match api.wants(&request, package).await {
                    Ok(true) => {}
                    Ok(false) => return dismissed.cancel(),
                    Err(error) => tracing::debug!(%error, "building on without an answer"),
                }
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(asking.in_current_span())))
    }

    /// What another process has made of the same request meanwhile: then it is of no account that this one failed.
    async fn finished_elsewhere(&self) -> Option<Built> {
        // A request that names none of the server's docsets cannot be answered with an archive of one.
        self.packager.api.docset(&self.request).ok()?;
        let objects = &*self.packager.objects;
        let state = State::load(objects, self.package).await.ok()?;
        let finished = state.finished(objects, self.package).await.ok()??;
        Some(Built { finished, parts_reused: finished.done.parts })
    }

    async fn complete(mut self, delivery: Delivery, built: Built) -> Handled {
        let Finished { archive, sha256, done } = built.finished;
        let url = match self.url(&archive.key(self.package)).await {
            Ok(url) => url,
            Err(error) => return self.fail(delivery, &error).await,
        };
        let complete = Complete {
            url,
            size: Some(archive.size),
            sha256: Some(sha256),
            documents: Some(done.documents),
            omitted: Some(done.omitted),
            parts_reused: Some(built.parts_reused),
        };
        tracing::info!(size = archive.size, %sha256, built.parts_reused, monotonic_counter.packages_built = 1, "complete");
        if self.insist(&StatusMessage::Complete(complete)).await { settle(delivery).await } else { Handled::GiveBack }
    }

    /// Where the archive can be fetched: from the server that asked; where that has no number for it, from the store.
    async fn url(&self, key: &str) -> Result<String, BuildError> {
        if let Some(package) = self.request.package {
            return Ok(download_url(&self.request, package)?.into());
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        let link = self.packager.objects.presign(key, name, LINK_SECONDS).await?;
        Ok(link.unwrap_or_else(|| key.to_owned()))
    }

    async fn fail(mut self, delivery: Delivery, error: &BuildError) -> Handled {
        let reason = match self.attempt {
            0 | 1 => error.to_string(),
            attempts => format!("{error} (after {attempts} attempts)"),
        };
        tracing::error!(reason, monotonic_counter.packages_failed = 1, "failed");
        if let Err(error) = remove_unfinished(&*self.packager.objects, self.package).await {
            tracing::warn!(%error, "what there was of the archive is still there");
        }
        if !self.insist(&StatusMessage::Failed { reason: reason.clone() }).await {
            return Handled::GiveBack;
        }
        self.packager.bury(Queue::PackageRequests, delivery, &reason).await
    }

    async fn dismiss(mut self, delivery: Delivery) -> Handled {
        tracing::info!("dismissed");
        if let Err(error) = remove(&*self.packager.objects, self.package).await {
            tracing::warn!(%error, "what there was of the archive is still there; trying again later");
            return Handled::GiveBack;
        }
        if self.insist(&StatusMessage::Dismissed).await { settle(delivery).await } else { Handled::GiveBack }
    }

    /// Leaves the request to whoever takes it next, with what was built; that this attempt has no result is nobody's fault.
    async fn give_back(self) -> Handled {
        let objects = &*self.packager.objects;
        let uncounted = async {
            let mut state = State::load(objects, self.package).await?;
            state.attempts = state.attempts.saturating_sub(1);
            state.save(objects, self.package).await
        };
        if let Err(error) = uncounted.await {
            tracing::warn!(%error, "the attempt counts although the packager was stopped");
        }
        tracing::info!("given back unfinished");
        Handled::GiveBack
    }

    /// Says a last status until the broker has it; `false` if it does not take it.
    async fn insist(&mut self, status: &StatusMessage) -> bool {
        for attempt in 1..=self.packager.config.attempts {
            let Err(error) = self.statuses.say(status).await else { return true };
            tracing::warn!(attempt, %error, "the last status is not said yet");
            self.packager.pause(self.packager.config.wait_after(attempt)).await;
            if self.packager.stop.is_cancelled() {
                break;
            }
        }
        false
    }
}

fn report(plan: &Plan, progress: Progress) -> StatusMessage {
    let percent = u8::try_from(progress.bytes.saturating_mul(100) / plan.size().max(1)).unwrap_or(100).min(100);
    StatusMessage::Progress {
        percent,
        documents: Some((plan.members_done(progress.parts), plan.requested())),
        bytes: Some((progress.bytes, plan.size())),
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::domain::{Encoding, Layout};

    use super::*;
    use crate::testing::Corpus;

    #[test]
    fn progress_tells_documents_and_bytes() {
        let mut corpus = Corpus::default();
        for i in 0..10 {
            corpus.add(&format!("d{i}"), &[("pdf", &[0; 1000], Encoding::Identity)]);
        }
        let plan = corpus.plan(Layout::Flat, 1024);
        let said = |parts| {
            let bytes = u64::from(parts) * 1024;
            report(&plan, Progress { parts, bytes: bytes.min(plan.size()) }).to_string()
        };
        assert_eq!(said(0), "Progress: 0%\nDocuments: 0/10\nBytes: 0/10902");
        assert_eq!(said(5), "Progress: 46%\nDocuments: 4/10\nBytes: 5120/10902");
        assert_eq!(said(11), "Progress: 100%\nDocuments: 10/10\nBytes: 10902/10902");
    }

    #[test]
    fn equal_requests_without_a_number_have_one_number() {
        let number = |text: &str| unnamed(&text.parse().unwrap());
        assert_eq!(number("http://h/api/docsets/5?fmt=txt"), number("http://h/api/docsets/5?fmts=txt"));
        assert_ne!(number("http://h/api/docsets/5?fmt=txt"), number("http://h/api/docsets/6?fmt=txt"));
        assert!(number("http://h/api/docsets/5").0 < 0);
    }
}
