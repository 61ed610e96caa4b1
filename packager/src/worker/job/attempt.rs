//! One attempt at a package: what is there already is answered, else the archive is planned and built, with progress told meanwhile.

use std::sync::Arc;
use std::time::Duration;

use adit_shared::ids::SaltedPackage;
use adit_shared::messaging::StatusMessage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{Begun, End, Job};
use crate::api::Wanted;
use crate::build::{Build, Built, Progress, State, forget_other};
use crate::error::BuildError;
use crate::plan::Project;
use crate::planning;

/// How long parts that are under way may take to arrive once the packager was told to stop. A part that is cut off is sent again by whoever
/// goes on; more than ten seconds in all would have the process cut off.
const REST: Duration = Duration::from_secs(6);

impl Job {
    /// Makes the archive, or finds that an earlier attempt has.
    pub(super) async fn attempt(&mut self) -> Result<Built, End> {
        self.request.docset = self.packager.api.docset(&self.request)?;
        self.wait_until_steady().await?;
        self.learn_salt().await?;
        let (objects, package) = (self.packager.objects.clone(), self.package);
        let mut state = self.wait_for(State::load(&*objects, package)).await??;
        if self.is_of_another_package(&state).await? {
            tracing::warn!(
                "what is noted beside the archive is of another package of this number, and is not believed"
            );
            state = self.wait_for(forget_other(&*objects, state)).await??;
        }
        let state = self.begin(state)?;
        let noting = async {
            state.save(&*objects, package).await?;
            state.finished(&*objects, package).await
        };
        let built = match self.wait_for(noting).await?? {
            Some(finished) => Built::earlier(finished),
            None => self.make(state).await?,
        };
        // Had it been dismissed and deleted a moment ago, nobody else would know of this archive. That may be so for one that
        // was there already too: whoever finished it may have ended without an answer.
        let (api, request) = (self.packager.api.clone(), self.request.clone());
        let asking = async move {
            match request.package {
                Some(package) => api.wants(&request, package).await,
                // A server that gave it no number cannot change its mind.
                None => Ok(Wanted::UNKNOWN),
            }
        };
        match self.wait_for(asking).await?? {
            Wanted::Yes { .. } => Ok(built),
            Wanted::No => Err(End::Dismissed),
        }
    }

    /// Waits with the first attempt at a request whose process before has died until this process
    /// has run for a while. From then on the attempt counts: a package that ends its packager is
    /// given up, and one that is only there when the packager ends by itself is not.
    async fn wait_until_steady(&mut self) -> Result<(), End> {
        let left = self.packager.config.steady_after.saturating_sub(self.packager.began.elapsed());
        let follows_death = self.counts && self.begun.is_none();
        if follows_death && !left.is_zero() { self.rest(left).await } else { Ok(()) }
    }

    /// Learns the package's salt from the server where the request has none, as those of an older
    /// server: the package lies where the server looks for it.
    async fn learn_salt(&mut self) -> Result<(), End> {
        let Some(package @ SaltedPackage { salt: None, .. }) = self.request.package else { return Ok(()) };
        let (api, request) = (self.packager.api.clone(), self.request.clone());
        match self.wait_for(async move { api.wants(&request, package).await }).await?? {
            Wanted::Yes { salt, .. } => {
                let package = SaltedPackage { salt, ..package };
                (self.package, self.request.package) = (package, Some(package));
                Ok(())
            }
            Wanted::No => Err(End::Dismissed),
        }
    }

    /// Tells whether a memory is of another package that had the same number: a database that was
    /// restored from a backup gives numbers out again, and packages of before there were salts have
    /// nothing else to tell them apart. Where the server tells no fingerprint, the number is all that
    /// there is to go by.
    async fn is_of_another_package(&mut self, state: &State) -> Result<bool, End> {
        let (Some(archive), Some(package)) = (&state.archive, self.request.package) else { return Ok(false) };
        let (api, request) = (self.packager.api.clone(), self.request.clone());
        let wanted = self.wait_for(async move { api.wants(&request, package).await }).await??;
        let Wanted::Yes { fingerprint: Some(fingerprint), .. } = wanted else { return Ok(false) };
        Ok(fingerprint != archive.fingerprint)
    }

    /// One more attempt, to be noted where a crash cannot make it forgotten; the package is this packager's then.
    fn begin(&mut self, mut state: State) -> Result<State, End> {
        if self.begun.is_some_and(|begun| state.attempt() > begun.attempt) {
            return Err(End::Overtaken);
        }
        if self.begun.is_some_and(|begun| begun.number == 0) {
            // The attempt before this one brought the archive on, but had no time to note it.
            state.attempts = 0;
        }
        let before = self.begun.filter(|_| !self.counts).map_or(state.attempts, |begun| begun.before);
        state.begin(self.packager.clock.now_ms(), self.counts);
        self.statuses.begin(state.turn);
        // Before it is stored: of an error nobody knows whether the store did it all the same, and this job's own mark must not seem another's.
        self.begun = Some(Begun { attempt: state.attempt(), number: state.attempts, before });
        self.counts = false;
        let limit = self.packager.config.attempts;
        if state.attempts > limit { Err(BuildError::GivenUp { attempts: limit }.into()) } else { Ok(state) }
    }

    /// Plans the archive and builds it.
    async fn make(&mut self, state: State) -> Result<Built, End> {
        let project = self.plan().await?;
        let began = self.packager.clock.now_ms();
        let built = self.build(state, project.clone()).await?;
        if built.parts_reused == 0 {
            self.packager.speed.learn(project.size(), self.packager.clock.now_ms() - began);
        }
        Ok(built)
    }

    /// Plans the package, if it is wanted. Of a docset so large that this takes a while, it says meanwhile that it is at it.
    async fn plan(&mut self) -> Result<Arc<Project>, End> {
        let halt = CancellationToken::new();
        let (packager, request, traceparent) = (self.packager.clone(), self.request.clone(), self.traceparent.clone());
        let planning = async move {
            packager.api.check_key(&request).await?;
            let mut promised = None;
            if let Some(package) = request.package {
                match packager.api.wants(&request, package).await? {
                    Wanted::Yes { documents, .. } => promised = documents,
                    Wanted::No => return Ok(None),
                }
            }
            let manifest = packager.api.manifest(&request, traceparent.as_deref()).await?;
            let part_size = packager.config.part_size;
            let project = planning::plan(manifest, &request.recipe, part_size).await?;
            project.check_promise(promised)?;
            Ok(Some(project))
        };
        let halted = halt.clone();
        let planning = async move { halted.run_until_cancelled(planning).await.unwrap_or(Ok(None)) };
        Ok(Arc::new(self.attend(planning, &halt, None, || StatusMessage::Accepted { seconds: None }).await?))
    }

    /// Builds and reports. A build that is called off comes to rest before this returns, so that nothing appears in the store later.
    async fn build(&mut self, state: State, project: Arc<Project>) -> Result<Built, End> {
        let halt = CancellationToken::new();
        let (progress, seen) = watch::channel(Progress::default());
        let (objects, spare) = (self.packager.objects.clone(), self.packager.spare.clone());
        let build = Build::new(objects, self.package, project.clone(), state, progress, spare)
            .signed(self.packager.config.signing_key.clone());
        let seconds = self.packager.speed.seconds(project.size());
        let accepted = StatusMessage::Accepted { seconds: Some(seconds) };
        let status = || report(&project, *seen.borrow());
        let built = self.attend(build.run(halt.clone()), &halt, Some(accepted), status).await;
        let parts_sent = seen.borrow().sent;
        if let (Err(_), 1..) = (&built, parts_sent) {
            tracing::info!(parts_sent, "the build is not finished, but further");
            self.trouble = None;
            self.counts = true;
            self.begun = self.begun.map(|begun| Begun { number: 0, ..begun });
        }
        built
    }

    /// Waits for a task, which gives nothing once it was halted or nobody wants the package. Tells `first` at once and the status about
    /// once a second; a broker that is away holds nothing up.
    async fn attend<T: Send + 'static>(
        &mut self,
        task: impl Future<Output = Result<Option<T>, BuildError>> + Send + 'static,
        halt: &CancellationToken,
        first: Option<StatusMessage>,
        status: impl Fn() -> StatusMessage,
    ) -> Result<T, End> {
        let mut task = AbortOnDropHandle::new(tokio::spawn(task.in_current_span()));
        let called_off = self.called_off();
        let (packager, statuses) = (&self.packager, &mut self.statuses);
        let telling = async {
            if let Some(first) = first {
                statuses.mention(&first).await;
            }
            statuses.keep_telling(packager.config.progress_every, status).await
        };
        let end = tokio::select! {
            result = &mut task => return result??.ok_or(End::Dismissed),
            end = called_off => end,
            never = telling => match never {},
        };
        halt.cancel();
        match (packager.within(REST, &mut task).await, end) {
            // It had just been finished.
            (Some(Ok(Ok(Some(result)))), End::Stopped | End::Overtaken) => Ok(result),
            (_, end) => Err(end),
        }
    }
}

fn report(project: &Project, progress: Progress) -> StatusMessage {
    let size = project.size();
    let percent = u8::try_from(progress.bytes.saturating_mul(100) / size.max(1)).unwrap_or(100).min(100);
    StatusMessage::Progress {
        percent,
        documents: Some((progress.members, project.requested())),
        bytes: Some((progress.bytes, size)),
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
        let project = corpus.project(Layout::Flat, 1024);
        let said = |parts: u32, members| {
            let bytes = (u64::from(parts) * 1024).min(project.size());
            report(&project, Progress { parts, bytes, sent: parts, members }).to_string()
        };
        assert_eq!(said(0, 0), "Progress: 0%\nDocuments: 0/10\nBytes: 0/10902");
        assert_eq!(said(5, 4), "Progress: 46%\nDocuments: 4/10\nBytes: 5120/10902");
        assert_eq!(said(11, 10), "Progress: 100%\nDocuments: 10/10\nBytes: 10902/10902");
    }
}
