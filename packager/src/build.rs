//! Builds a package into the object store, asset by asset and part by part, and goes on where an earlier build of it stopped.
//!
//! Parts pass through three stations: drawn up and filled with data (several at once), proved and hashed (one after the
//! other), uploaded (several at once). However large the archive, only a handful of parts are in memory.
//! Two processes may build one package at once: before a part, each looks into the state whether the other took the request later,
//! and the earlier one lets go. What both upload until then is the same bytes.
//! What the request was and whom to tell is the business of [`crate::worker`].

mod planned;
mod site;
mod state;
mod streamed;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_shared::digest::Sha256;
use adit_shared::domain::{Asset, MANIFEST_NAME, RECEIPT_NAME};
use adit_shared::ids::SaltedPackage;
use adit_shared::objects::{ObjectError, ObjectStore, Part};
use adit_shared::signing::SigningKey;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::plan::{AssetPlan, Index, Plan, Project, Source};
use crate::read::Spare;
pub(crate) use site::{forget_other, remove, remove_unfinished};
use state::package_folder;
pub(crate) use state::{Archive, Done, State, Stored, seconds};

/// Parts that are uploaded at once.
const UPLOADS: usize = 2;
/// How often a build notes how far it is, and looks whether another process goes on with the package. To do so at every part would cost a
/// folder as many syncs again as the parts themselves. What a build that is cut off had not noted is read and hashed again, but not sent again.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// One build of one package.
#[derive(Debug)]
pub(crate) struct Build {
    objects: Arc<dyn ObjectStore>,
    package: SaltedPackage,
    project: Arc<Project>,
    state: State,
    progress: watch::Sender<Progress>,
    spare: Spare,
    /// Signs the package's manifest.
    key: Option<SigningKey>,
    /// When the state was written last, and with how many attempts.
    noted: Option<(Instant, u32)>,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Parts that are in the store, of all assets.
    pub(crate) parts: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those of the parts that this build has sent.
    pub(crate) sent: u32,
    /// Members of the docset whose files are in them.
    pub(crate) members: u64,
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// The package.
    pub(crate) done: Done,
    /// Parts of it that an earlier build had uploaded.
    pub(crate) parts_reused: u32,
    /// Parts that this build has uploaded.
    pub(crate) parts_sent: u32,
}

impl Built {
    /// A package that was there already.
    pub(crate) fn earlier(done: Done) -> Self {
        Self { parts_reused: done.parts, done, parts_sent: 0 }
    }
}

impl Build {
    /// A build of `project` that goes on from `state`, in which the caller has counted its attempt, in buffers out of `spare`.
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        package: SaltedPackage,
        project: Arc<Project>,
        state: State,
        progress: watch::Sender<Progress>,
        spare: Spare,
    ) -> Self {
        Self { objects, package, project, state, progress, spare, key: None, noted: None }
    }

    /// Has the package's manifest signed.
    pub(crate) fn signed(self, key: Option<SigningKey>) -> Self {
        Self { key, ..self }
    }

    /// Builds what is missing. What was uploaded when the build fails, or is dropped, stays for the next one. Once `halt` is
    /// cancelled, nothing more is begun, and when nothing is under way either, the result is `None`.
    pub(crate) async fn run(mut self, halt: CancellationToken) -> Result<Option<Built>, BuildError> {
        let project = self.project.clone();
        for asset in &project.assets {
            // Turning to an asset notes the one before it, and that the package is still this build's.
            if !self.asset(asset, &halt).await? {
                return Ok(None);
            }
        }
        let manifest = self.describe().await?;
        let done = self.finish(manifest).await?;
        let Progress { parts, sent, .. } = *self.progress.borrow();
        Ok(Some(Built { done, parts_reused: parts - sent, parts_sent: sent }))
    }

    /// The plan of the archive about a table's shards, which are there.
    async fn index(&self, index: &Arc<Index>) -> Result<Arc<Plan>, BuildError> {
        let (index, mut shards) = (index.clone(), self.stored());
        shards.retain(|asset| asset.documents.is_some());
        Ok(tokio::task::spawn_blocking(move || index.plan(&shards).map(Arc::new)).await??)
    }

    /// Those of the package's assets that are there.
    fn stored(&self) -> Vec<Asset> {
        let stored = |asset: &AssetPlan| {
            let key = self.project.key(self.package, &asset.name);
            self.state.stored(&key).map(|stored| stored.asset.clone())
        };
        self.project.assets.iter().filter_map(stored).collect()
    }

    /// Builds an asset, unless it is there; `false` if it was halted.
    async fn asset(&mut self, asset: &AssetPlan, halt: &CancellationToken) -> Result<bool, BuildError> {
        let archive = Archive::of(self.package, &self.project, asset);
        if let Some(stored) = self.state.stored(&archive.key)
            && self.objects.size(&archive.key).await? == Some(stored.asset.size)
        {
            let (parts, bytes) = (stored.parts, asset.source.size());
            self.progress.send_modify(|progress| {
                progress.parts += parts;
                progress.bytes += bytes;
            });
            return Ok(true);
        }
        self.turn_to(&archive).await?;
        let before = self.progress.borrow().parts;
        let built = match &asset.source {
            Source::Plan(plan) => self.planned(plan, &archive, halt).await?,
            Source::Stream(stream, _) => self.streamed(stream, &archive, halt).await?,
            Source::Index(index) => {
                let plan = self.index(index).await?;
                self.planned(&plan, &archive, halt).await?
            }
        };
        let Some((size, sha256)) = built else { return Ok(false) };
        let parts = self.progress.borrow().parts - before;
        let AssetPlan { name, media_type, documents, .. } = asset;
        let asset =
            Asset { name: name.clone(), media_type: (*media_type).to_owned(), size, sha256, documents: *documents };
        self.state.assets.retain(|stored| stored.key != archive.key);
        self.state.assets.push(Stored { asset, key: archive.key, parts });
        Ok(true)
    }

    /// Puts the package's manifest and receipt beside its assets; returns the manifest's bytes.
    async fn describe(&self) -> Result<Vec<u8>, BuildError> {
        self.assert_ours().await?;
        // No manifest names what is not there, whatever has happened to assets that were stored long ago.
        let listed: HashMap<_, _> = self.objects.list(&package_folder(self.package)).await?.into_iter().collect();
        if let Some(lost) = self.state.assets.iter().find(|stored| listed.get(&stored.key) != Some(&stored.asset.size))
        {
            return Err(ObjectError::NotFound(lost.key.clone()).into());
        }
        let manifest = self.project.manifest(self.stored()).to_bytes();
        let manifest = manifest.map_err(|error| ObjectError::Unavailable(format!("the manifest: {error}")))?;
        let put = |name, bytes: Vec<u8>| {
            let key = self.project.key(self.package, name);
            async move { self.objects.put(&key, bytes.into()).await }
        };
        if let Some(key) = &self.key {
            put(RECEIPT_NAME, key.sign_detached(&manifest).into_bytes()).await?;
        }
        put(MANIFEST_NAME, manifest.clone()).await?;
        Ok(manifest)
    }

    /// Fails once a later attempt, in another process, goes on with the package, or has an earlier one finished after all.
    async fn assert_ours(&self) -> Result<(), BuildError> {
        let stored = State::load(&*self.objects, self.package).await?;
        // That it had been finished before this attempt, which found the archive gone, counts for nothing.
        let finished = stored.done.is_some() && self.state.done.is_none() && stored.archive == self.state.archive;
        if finished || stored.attempt() > self.state.attempt() { Err(BuildError::Overtaken) } else { Ok(()) }
    }

    /// Writes down how far it is, unless others go on.
    async fn save(&mut self) -> Result<(), BuildError> {
        self.assert_ours().await?;
        self.write().await
    }

    /// The same, if that was long ago, or if the attempt has turned out to be one that brings the package on.
    async fn save_now_and_then(&mut self) -> Result<(), BuildError> {
        match self.noted {
            Some((at, attempts)) if at.elapsed() < NOTE_EVERY && attempts == self.state.attempts => Ok(()),
            _ => self.save().await,
        }
    }

    async fn write(&mut self) -> Result<(), BuildError> {
        self.state.save(&*self.objects, self.package).await?;
        self.noted = Some((Instant::now(), self.state.attempts));
        Ok(())
    }

    /// Notes which object this is before there is anything of it, so that whatever happens, all of it can be found and removed.
    async fn turn_to(&mut self, archive: &Archive) -> Result<(), BuildError> {
        self.assert_ours().await?;
        if let Some(other) = self.state.archive.as_ref().filter(|other| *other != archive) {
            site::abandon(&*self.objects, other).await?;
        }
        self.state.turn_to(archive);
        self.state.done = None;
        self.write().await
    }

    /// Notes the result beside the assets, which makes the same request free of work from now on.
    async fn finish(&mut self, manifest: Vec<u8>) -> Result<Done, BuildError> {
        let key = |name: &str| self.project.key(self.package, name);
        let archive = self.project.archive().and_then(|name| self.state.stored(&key(&name)));
        let (key, size, sha256) = match archive {
            Some(stored) => (stored.key.clone(), stored.asset.size, stored.asset.sha256),
            None => (key(MANIFEST_NAME), manifest.len() as u64, Sha256::of(&manifest)),
        };
        let parts = self.progress.borrow().parts;
        let (documents, omitted) = (self.project.included(), self.project.omitted());
        let done = Done { key, size, sha256, documents, omitted, parts };
        self.state.done = Some(done.clone());
        // Whoever took the request over at the last moment is told by this, and statuses after it have greater numbers still.
        let stored = State::load(&*self.objects, self.package).await?;
        (self.state.turn, self.state.by) = self.state.attempt().max(stored.attempt());
        self.write().await?;
        if let Some(archive) = &self.state.archive {
            // Two packagers that began at the same moment have an upload each, and one is left over.
            site::abandon(&*self.objects, archive).await?;
        }
        Ok(done)
    }

    /// Takes the result of an upload; `members` tells of how many documents the files are in so many parts of the asset. An attempt that brings the package on, if only by a part, is none too many.
    fn note(
        &mut self,
        parts: &mut BTreeMap<u32, Part>,
        uploaded: Result<Result<Part, BuildError>, JoinError>,
        members: impl FnOnce(u32) -> u64,
    ) -> Result<(), BuildError> {
        let part = uploaded??;
        let members = members(parts.len() as u32 + 1);
        self.progress.send_modify(|progress| {
            progress.members = progress.members.max(members);
            progress.parts += 1;
            progress.bytes += part.size;
            progress.sent += 1;
        });
        self.state.attempts = 0;
        parts.insert(part.number, part);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
