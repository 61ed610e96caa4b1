//! Builds an archive into the object store by its plan, part by part, and goes on where an earlier build of it stopped.
//!
//! Parts pass through three stations: drawn up and filled with data (several at once), proved and hashed (one after the
//! other), uploaded (several at once). However large the archive, only a handful of parts are in memory.
//! Two processes may build one package at once: before a part, each looks into the state whether the other took the request later,
//! and the earlier one lets go. What both upload until then is the same bytes.
//! What the request was and whom to tell is the business of [`crate::worker`].

mod site;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::ids::PackageId;
use adit_shared::objects::{ObjectStore, Part};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::BuildError;
use crate::plan::Plan;
use crate::read::{Filled, Reader, Spare};
use crate::sha::Midstate;
use crate::verify::{Damage, Verifier};
use site::Site;
pub(crate) use site::{remove, remove_unfinished};
pub(crate) use state::{Archive, Done, Finished, State, seconds};

/// Parts that are drawn up ahead of the one that is hashed.
const AHEAD: usize = 2;
/// Parts that are uploaded at once.
const UPLOADS: usize = 2;

/// One build of one package.
#[derive(Debug)]
pub(crate) struct Build {
    objects: Arc<dyn ObjectStore>,
    package: PackageId,
    plan: Arc<Plan>,
    state: State,
    progress: watch::Sender<Progress>,
    spare: Spare,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Parts that are in the store.
    pub(crate) parts: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those of the parts that this build has sent.
    pub(crate) sent: u32,
}

/// What came of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Built {
    /// The archive.
    pub(crate) finished: Finished,
    /// Parts of it that an earlier build had uploaded.
    pub(crate) parts_reused: u32,
    /// Parts that this build has uploaded.
    pub(crate) parts_sent: u32,
}

impl Built {
    /// An archive that was there already.
    pub(crate) fn earlier(finished: Finished) -> Self {
        Self { finished, parts_reused: finished.done.parts, parts_sent: 0 }
    }
}

/// What is to be done with a part.
#[derive(Debug, Clone, Copy)]
struct Task {
    number: u32,
    put: bool,
    hash: bool,
}

/// What passes from part to part in the order of the archive.
#[derive(Debug)]
struct Ledger {
    verifier: Verifier,
    midstate: Midstate,
    sha256: Option<Sha256>,
}

impl Build {
    /// A build by `plan` that goes on from `state`, in which the caller has counted its attempt, in buffers out of `spare`.
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        package: PackageId,
        plan: Arc<Plan>,
        state: State,
        progress: watch::Sender<Progress>,
        spare: Spare,
    ) -> Self {
        Self { objects, package, plan, state, progress, spare }
    }

    /// Builds what is missing. What was uploaded when the build fails, or is dropped, stays for the next one. Once `halt` is
    /// cancelled, nothing more is begun, and when nothing is under way either, the result is `None`.
    pub(crate) async fn run(mut self, halt: CancellationToken) -> Result<Option<Built>, BuildError> {
        let archive = Archive::of(&self.plan);
        self.turn_to(archive).await?;
        let site = Site::open(&*self.objects, &archive.key(self.package), &self.plan).await?;
        let reused = site.held();
        let parts_reused = reused.len() as u32;
        let bytes = reused.values().map(|part| part.size).sum();
        self.progress.send_replace(Progress { parts: parts_reused, bytes, sent: 0 });
        let parts = self.build_missing(&site, reused, &halt).await?;
        let (Some(parts), Some(sha256)) = (parts, self.state.sha256) else { return Ok(None) };
        if let Site::Open { upload, .. } = &site {
            self.assert_ours().await?;
            site::complete(&*self.objects, upload, &parts, self.plan.size()).await?;
        }
        let done = self.finish(archive).await?;
        let parts_sent = self.progress.borrow().sent;
        Ok(Some(Built { finished: Finished { archive, sha256, done }, parts_reused, parts_sent }))
    }

    /// Fails once a later attempt, in another process, goes on with the package, or has an earlier one finished after all.
    async fn assert_ours(&self) -> Result<(), BuildError> {
        let stored = State::load(&*self.objects, self.package).await?;
        // That it had been finished before this attempt, which found the archive gone, counts for nothing.
        let finished = stored.done.is_some() && self.state.done.is_none() && stored.archive == self.state.archive;
        if finished || stored.attempt() > self.state.attempt() { Err(BuildError::Overtaken) } else { Ok(()) }
    }

    /// Writes down how far it is, unless others go on.
    async fn save(&self) -> Result<(), BuildError> {
        self.assert_ours().await?;
        Ok(self.state.save(&*self.objects, self.package).await?)
    }

    /// Notes which archive this is before there is anything of it, so that whatever happens, all of it can be found and removed.
    async fn turn_to(&mut self, archive: Archive) -> Result<(), BuildError> {
        self.assert_ours().await?;
        if let Some(other) = self.state.archive.filter(|other| *other != archive) {
            site::abandon(&*self.objects, self.package, &other).await?;
        }
        self.state.turn_to(archive);
        self.state.done = None;
        Ok(self.state.save(&*self.objects, self.package).await?)
    }

    /// Notes the result beside the archive, which makes the same request free of work from now on.
    async fn finish(&mut self, archive: Archive) -> Result<Done, BuildError> {
        let done = Done { documents: self.plan.included(), omitted: self.plan.omitted(), parts: self.plan.parts() };
        self.state.done = Some(done);
        // Whoever took the request over at the last moment is told by this, and statuses after it have greater numbers still.
        let stored = State::load(&*self.objects, self.package).await?;
        (self.state.turn, self.state.by) = self.state.attempt().max(stored.attempt());
        self.state.save(&*self.objects, self.package).await?;
        // Two packagers that began at the same moment have an upload each, and one is left over.
        site::abandon(&*self.objects, self.package, &archive).await?;
        Ok(done)
    }

    /// Builds the parts that the store lacks, and draws up again those that were never hashed. Returns all parts, if it was not halted.
    async fn build_missing(
        &mut self,
        site: &Site,
        mut parts: BTreeMap<u32, Part>,
        halt: &CancellationToken,
    ) -> Result<Option<Vec<Part>>, BuildError> {
        let mut uploads = JoinSet::new();
        let mut result = self.pass(site, &mut parts, &mut uploads, halt).await;
        // However it ended: what is under way comes to its end, so that nothing appears in the store later.
        while let Some(uploaded) = uploads.join_next().await {
            result = result.and(self.note(&mut parts, uploaded));
        }
        result?;
        let all = parts.len() == self.plan.parts() as usize;
        Ok(all.then(|| parts.into_values().collect()))
    }

    /// Passes the parts from station to station.
    async fn pass(
        &mut self,
        site: &Site,
        parts: &mut BTreeMap<u32, Part>,
        uploads: &mut JoinSet<Result<Part, BuildError>>,
        halt: &CancellationToken,
    ) -> Result<(), BuildError> {
        let spare = self.spare.clone();
        let reader = Reader::new(self.objects.clone(), self.plan.clone(), spare.clone());
        let midstate = self.state.hashed.clone().unwrap_or_default();
        let tasks = self.tasks(parts, midstate.length());
        let mut filled = std::pin::pin!(ahead(&reader, tasks));
        let mut ledger = Ledger { verifier: Verifier::new(), midstate, sha256: self.state.sha256 };
        while let Some(Some((task, part))) = halt.run_until_cancelled(filled.next()).await {
            let (checked, bytes) = self.check(&reader, ledger, task, part?).await?;
            ledger = checked;
            if task.hash {
                self.state.hashed = Some(ledger.midstate.clone());
                self.state.sha256 = ledger.sha256;
                self.save().await?;
            } else {
                self.assert_ours().await?;
            }
            let (true, Site::Open { upload, .. }) = (task.put, site) else {
                spare.give(bytes);
                continue;
            };
            while uploads.len() >= UPLOADS
                && let Some(uploaded) = uploads.join_next().await
            {
                self.note(parts, uploaded)?;
            }
            let (objects, upload, spare) = (self.objects.clone(), upload.clone(), spare.clone());
            uploads.spawn(async move {
                let part = objects.put_part(&upload, task.number, bytes.clone()).await?;
                spare.give(bytes);
                Ok(part)
            });
        }
        Ok(())
    }

    fn tasks(&self, held: &BTreeMap<u32, Part>, hashed: u64) -> Vec<Task> {
        let task = |number| Task {
            number,
            put: !held.contains_key(&number),
            hash: self.state.sha256.is_none() && self.plan.part_range(number).start >= hashed,
        };
        (1..=self.plan.parts()).map(task).filter(|task| task.put || task.hash).collect()
    }

    /// Takes the result of an upload. An attempt that brings the archive on, if only by a part, is none too many.
    fn note(
        &mut self,
        parts: &mut BTreeMap<u32, Part>,
        uploaded: Result<Result<Part, BuildError>, JoinError>,
    ) -> Result<(), BuildError> {
        let part = uploaded??;
        self.progress.send_modify(|progress| {
            progress.parts += 1;
            progress.bytes += part.size;
            progress.sent += 1;
        });
        self.state.attempts = 0;
        parts.insert(part.number, part);
        Ok(())
    }

    /// Proves that the part's data is what was imported, and hashes the part.
    async fn check(
        &self,
        reader: &Reader,
        mut ledger: Ledger,
        task: Task,
        part: Filled,
    ) -> Result<(Ledger, Bytes), BuildError> {
        if let Some(first) = part.pieces.first().filter(|piece| ledger.verifier.missing(piece) > 0) {
            // The file that goes on in this part was begun by an earlier build: its first bytes must be seen too.
            let mut before = std::pin::pin!(reader.before(first));
            while let Some((piece, bytes)) = before.try_next().await? {
                let fed = tokio::task::spawn_blocking(move || {
                    let result = ledger.verifier.feed(&piece, &bytes);
                    (ledger, result)
                });
                let result;
                (ledger, result) = fed.await?;
                result.map_err(|damage| reader.document(piece.position, damage.to_string()))?;
            }
        }
        let last = task.number == self.plan.parts();
        let checked = tokio::task::spawn_blocking(move || {
            let result = ledger.take(&part, task.hash, last);
            (ledger, part.bytes.freeze(), result)
        });
        let (ledger, bytes, result) = checked.await?;
        result.map_err(|(position, damage)| reader.document(position, damage.to_string()))?;
        Ok((ledger, bytes))
    }
}

impl Ledger {
    fn take(&mut self, part: &Filled, hash: bool, last: bool) -> Result<(), (u64, Damage)> {
        for piece in &part.pieces {
            let bytes = &part.bytes[piece.at..piece.at + piece.len];
            self.verifier.feed(piece, bytes).map_err(|damage| (piece.position, damage))?;
        }
        match (hash, last) {
            (true, true) => self.sha256 = Some(self.midstate.clone().finish(&part.bytes)),
            // Every part but the last is whole blocks long.
            (true, false) => _ = self.midstate.absorb(&part.bytes),
            (false, _) => {}
        }
        Ok(())
    }
}

/// Draws up the tasks' parts in order, some of them ahead of what is asked for.
fn ahead(reader: &Reader, tasks: Vec<Task>) -> impl Stream<Item = (Task, Result<Filled, BuildError>)> + use<> {
    let reader = reader.clone();
    stream::iter(tasks)
        .map(move |task| {
            let reader = reader.clone();
            let part = AbortOnDropHandle::new(tokio::spawn(async move { reader.part(task.number).await }));
            async move { (task, part.await.map_err(BuildError::from).flatten()) }
        })
        .buffered(AHEAD)
}

#[cfg(test)]
mod tests;
