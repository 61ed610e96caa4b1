//! One request from its delivery to its acknowledgement: attempts until one shows the archive, waits between them, and the ways it can
//! end: the archive is there, it failed, it is not wanted any more, another packager goes on with it, or this one stops and gives it back.
//!
//! What one attempt does is in `attempt`.

mod attempt;

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_shared::digest::Sha256;
use adit_shared::ids::{PackageId, SaltedPackage};
use adit_shared::messaging::{BrokerError, Complete, Delivery, PackageRequest, Queue, StatusMessage};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::order::{Order, Refused, read_order};
use super::running::Claim;
use super::statuses::Statuses;
use super::{Handled, Packager, settle};
use crate::api::{Wanted, download_url};
use crate::build::{Built, Done, State, remove, remove_unfinished};
use crate::error::{BuildError, Fate};

/// How long a link to an archive is good that no server will renew: as long as S3 allows.
const LINK_SECONDS: u64 = 7 * 24 * 3600;
/// What is tried for so long after the packager was told to stop, before it is left to the next one.
const FAREWELL: Duration = Duration::from_secs(3);

/// Takes a request off its message and sees it through.
pub(super) async fn handle(packager: &Arc<Packager>, delivery: Delivery) -> Handled {
    let message = &delivery.message;
    let traceparent = message.traceparent().map(str::to_owned);
    let statuses = |queue| Statuses::new(&packager.broker, queue, traceparent.clone(), packager.clock.now_ms());
    let Order { request, queue } = match read_order(message) {
        Ok(order) => order,
        Err(Refused { reason, queue }) => return refuse(packager, delivery, reason, queue.map(statuses)).await,
    };
    let statuses = statuses(queue);
    let package = request.package.unwrap_or_else(|| unnamed(&request).into());
    let span = tracing::info_span!("package", %package, docset = %request.docset, traceparent);
    let claim = packager.stop.run_until_cancelled(packager.running.build(package)).instrument(span.clone()).await;
    let Some(claim) = claim else { return Handled::GiveBack };
    let packager = packager.clone();
    // Only what was handed out before can have ended with its process; a copy of the request is no sign of that.
    let counts = delivery.redelivered();
    let job = Job {
        packager,
        request,
        package,
        traceparent,
        statuses,
        claim,
        begun: None,
        counts,
        trouble: None,
        looked_again: false,
    };
    job.run(delivery).instrument(span).await
}

/// Tells whoever waits that nothing can be made of a request, and moves it to the dead letters.
async fn refuse(packager: &Packager, delivery: Delivery, reason: String, statuses: Option<Statuses>) -> Handled {
    if let Some(mut statuses) = statuses {
        let failed = StatusMessage::Failed { reason: reason.clone() };
        match packager.say_finally(&mut statuses, &failed).await {
            Err(None) => return Handled::GiveBack,
            Err(Some(error)) => tracing::warn!(%error, "nobody is told that the request is refused"),
            Ok(()) => {}
        }
    }
    packager.bury(Queue::PackageRequests, delivery, &reason).await
}

/// The number under which a package is built that its server has not numbered: the same for the same request, and negative,
/// so that no server's number is met.
fn unnamed(request: &PackageRequest) -> PackageId {
    let hash = Sha256::of(request.to_string().as_bytes());
    let number = hash.0.iter().take(8).fold(0, |number: i64, byte| (number << 8) | i64::from(*byte));
    PackageId(number | i64::MIN)
}

/// Why there is no archive to show.
#[derive(Debug)]
enum End {
    /// It failed.
    Failed(BuildError),
    /// The packager stops.
    Stopped,
    /// Nobody wants the package any more.
    Dismissed,
    /// The same request was taken again later, here or by another packager, which goes on with it.
    Overtaken,
}

impl<E: Into<BuildError>> From<E> for End {
    fn from(error: E) -> Self {
        match error.into() {
            BuildError::Overtaken => Self::Overtaken,
            error => Self::Failed(error),
        }
    }
}

/// A request that is being worked on.
struct Job {
    packager: Arc<Packager>,
    request: PackageRequest,
    package: SaltedPackage,
    traceparent: Option<String>,
    statuses: Statuses,
    claim: Claim,
    /// The newest attempt of this job, as it is noted beside the archive.
    begun: Option<Begun>,
    /// The next attempt is one more. Not the first of a request that was not handed out before, nor one after a part was away.
    counts: bool,
    /// A part is away or in trouble.
    trouble: Option<Trouble>,
    /// Says that the package was planned anew because an object was missing.
    looked_again: bool,
}

/// What a job knows of its newest attempt.
#[derive(Debug, Clone, Copy)]
struct Begun {
    /// See [`State::attempt`].
    attempt: (u64, u64),
    /// Its number, over all deliveries of the request; 0 once it has brought the archive on. See [`State`].
    number: u32,
    /// How many there were before it that count.
    before: u32,
}

/// A series of attempts that one part's trouble ended.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// Which part's: the server's or the store's.
    part: Discriminant<BuildError>,
    since: Instant,
    waits: u32,
}

impl Trouble {
    /// One more attempt that ended so. What ended those `before` may be over.
    fn more(before: Option<Self>, error: &BuildError) -> Self {
        let part = discriminant(error);
        let same = before.filter(|before| before.part == part);
        let Self { since, waits, .. } = same.unwrap_or_else(|| Self { part, since: Instant::now(), waits: 0 });
        Self { part, since, waits: waits + 1 }
    }
}

impl Job {
    async fn run(mut self, delivery: Delivery) -> Handled {
        let _asking = self.ask_while_running();
        let end = loop {
            let error = match self.attempt().await {
                Ok(built) => return self.complete(delivery, built).await,
                Err(End::Failed(error)) => error,
                Err(end) => break end,
            };
            if self.may_have_moved(&error) {
                tracing::warn!(%error, "planning anew: a sweep may have moved the file");
                continue;
            }
            let Some(wait) = self.wait_after(&error) else { break End::Failed(error) };
            tracing::warn!(attempt = self.number(), %error, ?wait, "trying again");
            if let Err(end) = self.rest(wait).await {
                break end;
            }
        };
        match end {
            End::Failed(error) => self.fail(delivery, &error).await,
            End::Stopped => self.give_back().await,
            End::Dismissed => self.dismiss(delivery).await,
            End::Overtaken => self.let_go(delivery).await,
        }
    }

    fn number(&self) -> u32 {
        self.begun.map_or(0, |begun| begun.number)
    }

    /// Tells whether to plan anew at once, by what the database says now: an object is missing, as when
    /// a sweep has moved its files since the package was planned. Once in a job is enough.
    fn may_have_moved(&mut self, error: &BuildError) -> bool {
        matches!(error, BuildError::Document { is_missing: true, .. })
            && !std::mem::replace(&mut self.looked_again, true)
    }

    /// How long to wait until the next attempt; `None` if there is to be none.
    fn wait_after(&mut self, error: &BuildError) -> Option<Duration> {
        let config = &self.packager.config;
        match error.fate() {
            Fate::Reject => None,
            Fate::Retry => {
                (self.counts, self.trouble) = (true, None);
                (self.number() < config.attempts).then(|| config.wait_after(self.number()))
            }
            Fate::Wait => {
                let trouble = *self.trouble.insert(Trouble::more(self.trouble, error));
                let wait = config.wait_after(trouble.waits).max(error.retry_after().unwrap_or_default());
                (trouble.since.elapsed() < config.patience).then(|| wait.min(config.longest_backoff))
            }
        }
    }

    /// Waits for what is no build, unless the packager stops, and says meanwhile that the request is not forgotten, so that the server does
    /// not send it again. Nothing else breaks it off: what the store was asked to keep must not appear there after it was removed.
    async fn wait_for<T>(&mut self, task: impl Future<Output = T>) -> Result<T, End> {
        let stop = self.packager.stop.clone();
        let accepted = || StatusMessage::Accepted { seconds: None };
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(End::Stopped),
            result = task => Ok(result),
            never = self.statuses.keep_telling(self.packager.config.progress_every, accepted) => match never {},
        }
    }

    /// Waits until the next attempt.
    async fn rest(&mut self, wait: Duration) -> Result<(), End> {
        let called_off = self.called_off();
        match self.wait_for(timeout(wait, called_off)).await? {
            Ok(end) => Err(end),
            Err(_) => Ok(()),
        }
    }

    /// Waits until somebody else says that the work on the package must end.
    fn called_off(&self) -> impl Future<Output = End> + use<> {
        let (dismissed, overtaken) = (self.claim.dismissed().clone(), self.claim.overtaken().clone());
        let stop = self.packager.stop.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => End::Stopped,
                () = dismissed.cancelled() => End::Dismissed,
                () = overtaken.cancelled() => End::Overtaken,
            }
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
                    Ok(Wanted::Yes { .. }) => {}
                    Ok(Wanted::No) => return dismissed.cancel(),
                    Err(error) => tracing::debug!(%error, "building on without an answer"),
                }
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(asking.in_current_span())))
    }

    /// What stands beside the archive; nothing where this job has not begun, and where the store does not tell.
    async fn state(&self) -> Option<State> {
        self.begun?;
        State::load(&*self.packager.objects, self.package).await.ok()
    }

    /// The archive, if this or another process has finished it.
    async fn finished(&self, state: Option<&State>) -> Option<Built> {
        let finished = state?.finished(&*self.packager.objects, self.package).await;
        finished.ok().flatten().map(Built::earlier)
    }

    async fn complete(mut self, delivery: Delivery, built: Built) -> Handled {
        let Done { key, size, sha256, documents, omitted, .. } = built.done;
        let complete = Complete {
            url: self.url(&key).await,
            size: Some(size),
            sha256: Some(sha256),
            documents: Some(documents),
            omitted: Some(omitted),
            parts_reused: Some(built.parts_reused),
        };
        let Built { parts_reused, parts_sent, .. } = built;
        tracing::info!(size, %sha256, parts_reused, parts_sent, monotonic_counter.packages_built = 1, "complete");
        match self.insist(&StatusMessage::Complete(complete)).await {
            Ok(()) => settle(delivery).await,
            Err(reason) => self.leave(delivery, reason).await,
        }
    }

    /// Where the archive can be fetched: from the server that asked; where that has no number for it, from the store.
    async fn url(&self, key: &str) -> String {
        if let Some(url) = self.request.package.and_then(|package| download_url(&self.request, package.id).ok()) {
            return url.into();
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        let link = self.packager.objects.presign(key, name, LINK_SECONDS).await;
        link.ok().flatten().unwrap_or_else(|| key.to_owned())
    }

    /// Tells that it failed, unless another process sees that otherwise: one that has finished it, or still works on it.
    async fn fail(mut self, delivery: Delivery, error: &BuildError) -> Handled {
        let state = self.state().await;
        if let Some(built) = self.finished(state.as_ref()).await {
            return self.complete(delivery, built).await;
        }
        if let (Some(begun), Some(state)) = (self.begun, &state)
            && state.attempt() > begun.attempt
        {
            return self.let_go(delivery).await;
        }
        let trouble = self.trouble.filter(|_| error.fate() == Fate::Wait);
        let reason = match (trouble, self.number()) {
            (Some(trouble), _) => format!("{error} (for {} s)", trouble.since.elapsed().as_secs()),
            (None, 0 | 1) => error.to_string(),
            (None, attempts) => format!("{error} (after {attempts} attempts)"),
        };
        tracing::error!(reason, monotonic_counter.packages_failed = 1, "failed");
        // Where the state cannot be read, nobody knows whose the objects are.
        if let (Some(begun), Some(_)) = (self.begun, &state)
            && let Err(error) = remove_unfinished(&*self.packager.objects, self.package, begun.attempt).await
        {
            tracing::warn!(%error, "what there was of the archive is still there");
        }
        match self.insist(&StatusMessage::Failed { reason: reason.clone() }).await {
            Ok(()) => self.packager.bury(Queue::PackageRequests, delivery, &reason).await,
            Err(reason) => self.leave(delivery, reason).await,
        }
    }

    async fn dismiss(mut self, delivery: Delivery) -> Handled {
        tracing::info!("dismissed");
        if let Err(error) = remove(&*self.packager.objects, self.package).await {
            tracing::warn!(%error, "what there was of the archive is still there; trying again later");
            return Handled::GiveBack;
        }
        match self.insist(&StatusMessage::Dismissed).await {
            Ok(()) => settle(delivery).await,
            Err(reason) => self.leave(delivery, reason).await,
        }
    }

    /// Leaves the package to whoever took the request later, and will say how it ended. If it has ended meanwhile, that is said here too:
    /// which of the two statuses has the greater number is not known.
    async fn let_go(self, delivery: Delivery) -> Handled {
        match self.finished(self.state().await.as_ref()).await {
            Some(built) => self.complete(delivery, built).await,
            None => {
                self.uncount().await;
                tracing::info!("the request was taken again later, and is left to whoever did");
                settle(delivery).await
            }
        }
    }

    /// Leaves the request to whoever takes it next, with what was built; that this attempt has no result is nobody's fault.
    async fn give_back(self) -> Handled {
        self.uncount().await;
        tracing::info!("given back unfinished");
        Handled::GiveBack
    }

    /// Makes the attempt that is being left count for nothing, unless another has begun since.
    async fn uncount(&self) {
        let objects = &*self.packager.objects;
        let uncounting = async {
            let mut state = State::load(objects, self.package).await?;
            if let Some(begun) = self.begun.filter(|begun| begun.attempt == state.attempt()) {
                state.attempts = state.attempts.min(begun.before);
                state.save(objects, self.package).await?;
            }
            Ok::<_, BuildError>(())
        };
        if !matches!(timeout(FAREWELL, uncounting).await, Ok(Ok(()))) {
            tracing::warn!("the attempt counts although it was only broken off");
        }
    }

    /// [`Packager::say_finally`] with the statuses of this job.
    async fn insist(&mut self, status: &StatusMessage) -> Result<(), Option<BrokerError>> {
        self.packager.say_finally(&mut self.statuses, status).await
    }

    /// What becomes of a request whose last status was not said: it comes again, unless that would
    /// end the same way.
    async fn leave(self, delivery: Delivery, refused: Option<BrokerError>) -> Handled {
        match refused {
            None => Handled::GiveBack,
            Some(reason) => self.packager.bury(Queue::PackageRequests, delivery, &reason.to_string()).await,
        }
    }
}

impl Packager {
    /// Says a last status until the broker has it, however long it is away.
    ///
    /// # Errors
    /// `None` when the packager stops first; the broker's reason when it refuses this status again and again.
    async fn say_finally(&self, statuses: &mut Statuses, status: &StatusMessage) -> Result<(), Option<BrokerError>> {
        statuses.end();
        let mut refusals = 0;
        let saying = async {
            for attempt in 1.. {
                let Err(error) = statuses.say(status).await else { break };
                refusals += u32::from(matches!(error, BrokerError::Refused { .. }));
                if refusals >= self.config.attempts {
                    return Err(Some(error));
                }
                tracing::warn!(attempt, %error, "the last status is not said yet");
                sleep(self.config.wait_after(attempt)).await;
            }
            Ok(())
        };
        self.within(FAREWELL, saying).await.unwrap_or(Err(None))
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::objects::ObjectError;

    use super::*;
    use crate::api::ApiError;

    #[test]
    fn the_patience_with_one_part_says_nothing_of_another() {
        let store = BuildError::Store(ObjectError::Unavailable(String::new()));
        let server = BuildError::Api(ApiError::Unreachable(String::new()));
        let first = Trouble::more(None, &store);
        let second = Trouble::more(Some(first), &BuildError::Store(ObjectError::Refused(String::new())));
        assert_eq!((second.since, second.waits), (first.since, 2));
        assert_eq!(Trouble::more(Some(second), &server).waits, 1);
    }

    #[test]
    fn equal_requests_without_a_number_have_one_number() {
        let number = |text: &str| unnamed(&text.parse().unwrap());
        assert_eq!(number("http://h/api/docsets/5?fmt=txt"), number("http://h/api/docsets/5?fmts=txt"));
        assert_ne!(number("http://h/api/docsets/5?fmt=txt"), number("http://h/api/docsets/6?fmt=txt"));
        assert!(number("http://h/api/docsets/5").0 < 0);
    }
}
