//! Building an asset by its plan: any part can be drawn up on its own, so only those that the store lacks are.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::objects::Part;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::site::{self, Site};
use super::{Archive, Build, UPLOADS};
use crate::error::BuildError;
use crate::plan::Plan;
use crate::read::{Filled, Reader};
use crate::sha::Midstate;
use crate::verify::{Damage, Verifier};

/// Parts that are drawn up ahead of the one that is hashed.
const AHEAD: usize = 2;

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
    /// Builds the asset; returns its size and SHA-256, unless it was halted.
    pub(super) async fn planned(
        &mut self,
        plan: &Arc<Plan>,
        archive: &Archive,
        halt: &CancellationToken,
    ) -> Result<Option<(u64, Sha256)>, BuildError> {
        let site = Site::open(&*self.objects, &archive.key, plan).await?;
        let reused = site.held();
        let bytes: u64 = reused.values().map(|part| part.size).sum();
        self.progress.send_modify(|progress| {
            progress.parts += reused.len() as u32;
            progress.bytes += bytes;
        });
        let parts = self.build_missing(plan, &site, reused, halt).await?;
        let (Some(parts), Some(sha256)) = (parts, self.state.sha256) else { return Ok(None) };
        if let Site::Open { upload, .. } = &site {
            self.assert_ours().await?;
            site::complete(&*self.objects, upload, &parts, plan.size()).await?;
        }
        Ok(Some((plan.size(), sha256)))
    }

    /// Builds the parts that the store lacks, and draws up again those that were never hashed. Returns all parts, if it was not halted.
    async fn build_missing(
        &mut self,
        plan: &Arc<Plan>,
        site: &Site,
        mut parts: BTreeMap<u32, Part>,
        halt: &CancellationToken,
    ) -> Result<Option<Vec<Part>>, BuildError> {
        let mut uploads = JoinSet::new();
        let mut result = self.pass(plan, site, &mut parts, &mut uploads, halt).await;
        // However it ended: what is under way comes to its end, so that nothing appears in the store later.
        while let Some(uploaded) = uploads.join_next().await {
            result = result.and(self.note(&mut parts, uploaded, |parts| plan.members_done(parts)));
        }
        result?;
        let all = parts.len() == plan.parts() as usize;
        Ok(all.then(|| parts.into_values().collect()))
    }

    /// Passes the parts from station to station.
    async fn pass(
        &mut self,
        plan: &Arc<Plan>,
        site: &Site,
        parts: &mut BTreeMap<u32, Part>,
        uploads: &mut JoinSet<Result<Part, BuildError>>,
        halt: &CancellationToken,
    ) -> Result<(), BuildError> {
        let spare = self.spare.clone();
        let reader = Reader::new(self.objects.clone(), plan.clone(), spare.clone());
        let midstate = self.state.hashed.clone().unwrap_or_default();
        let tasks = self.tasks(plan, parts, midstate.length());
        let mut filled = std::pin::pin!(ahead(&reader, tasks));
        let mut ledger = Ledger { verifier: Verifier::new(), midstate, sha256: self.state.sha256 };
        while let Some(Some((task, part))) = halt.run_until_cancelled(filled.next()).await {
            let (checked, bytes) = check(&reader, ledger, task, part?).await?;
            ledger = checked;
            if task.hash {
                self.state.hashed = Some(ledger.midstate.clone());
                self.state.sha256 = ledger.sha256;
            }
            self.save_now_and_then().await?;
            let (true, Site::Open { upload, .. }) = (task.put, site) else {
                spare.give(bytes);
                continue;
            };
            while uploads.len() >= UPLOADS
                && let Some(uploaded) = uploads.join_next().await
            {
                self.note(parts, uploaded, |parts| plan.members_done(parts))?;
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

    fn tasks(&self, plan: &Plan, held: &BTreeMap<u32, Part>, hashed: u64) -> Vec<Task> {
        let task = |number| Task {
            number,
            put: !held.contains_key(&number),
            hash: self.state.sha256.is_none() && plan.part_range(number).start >= hashed,
        };
        (1..=plan.parts()).map(task).filter(|task| task.put || task.hash).collect()
    }
}

/// Proves that the part's data is what was imported, and hashes the part.
async fn check(reader: &Reader, mut ledger: Ledger, task: Task, part: Filled) -> Result<(Ledger, Bytes), BuildError> {
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
    let last = task.number == reader.plan().parts();
    let checked = tokio::task::spawn_blocking(move || {
        let result = ledger.take(&part, task.hash, last);
        (ledger, part, result)
    });
    let (ledger, Filled { bytes, pieces }, result) = checked.await?;
    reader.done_with(pieces);
    result.map_err(|(position, damage)| reader.document(position, damage.to_string()))?;
    Ok((ledger, bytes.freeze()))
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
