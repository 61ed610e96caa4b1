//! What outlives the process that builds a package: one small object beside the archive (`build.json`), written before a
//! part is uploaded, so that whoever takes the request next knows how often it was tried and how far the hash had come.

use std::hash::{BuildHasher as _, RandomState};

use adit_shared::digest::Sha256;
use adit_shared::ids::PackageId;
use adit_shared::objects::{ObjectError, ObjectKey, ObjectResult, ObjectStore};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::sha::Midstate;

/// The memory of one package's builds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Attempts since the last that ended well, brought the archive on, or could not help ending.
    pub(crate) attempts: u32,
    /// Number of the newest attempt: each has a greater one than all before it, even those of a memory that was deleted.
    pub(crate) turn: u64,
    /// Chance number of whoever makes that attempt: settles which of two that began at the same moment goes on.
    pub(crate) by: u64,
    /// The archive that is being built, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) archive: Option<Archive>,
    /// Hash of the archive's first bytes: of all parts that were ever uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hashed: Option<Midstate>,
    /// Hash of the whole archive, once its last part was drawn up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256>,
    /// The result, once the archive is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<Done>,
}

/// Which archive a state is about: what was learned of one says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archive {
    /// The package's fingerprint.
    pub(crate) fingerprint: Sha256,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Length in bytes of its upload's parts.
    pub(crate) part_size: u64,
}

impl Archive {
    /// The archive of a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self { fingerprint: *plan.fingerprint(), size: plan.size(), part_size: plan.part_size() }
    }

    /// Its key in the store.
    pub(crate) fn key(&self, package: PackageId) -> String {
        ObjectKey::Archive { package, fingerprint: &self.fingerprint, extension: "zip" }.to_string()
    }
}

/// The result of a finished build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Number of documents with files in the archive.
    pub(crate) documents: u64,
    /// Number of the docset's other documents.
    pub(crate) omitted: u64,
    /// Number of parts that it was uploaded in.
    pub(crate) parts: u32,
}

impl State {
    /// Reads the state of a package; an empty one if there is none, or none that can be read.
    pub(crate) async fn load(objects: &dyn ObjectStore, package: PackageId) -> ObjectResult<Self> {
        let key = ObjectKey::Build { package }.to_string();
        let bytes = match objects.get(&key, None).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound(_)) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%package, %error, "{key} cannot be read; the build begins anew");
            Self::default()
        }))
    }

    /// Writes it.
    pub(crate) async fn save(&self, objects: &dyn ObjectStore, package: PackageId) -> ObjectResult<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| ObjectError::Unavailable(format!("the state of a build cannot be written: {error}")))?;
        objects.put(&ObjectKey::Build { package }.to_string(), bytes.into()).await
    }

    /// Begins an attempt, at that time in milliseconds since the epoch. If it `counts`, it is one more than before.
    pub(crate) fn begin(&mut self, now_ms: i64, counts: bool) {
        if self.done.is_some() {
            self.attempts = 0;
        }
        self.attempts = (self.attempts + u32::from(counts)).max(1);
        self.turn = (self.turn + 1).max(seconds(now_ms));
        self.by = RandomState::new().hash_one(());
    }

    /// Which attempt it is that knows this. Of two at once the greater goes on, and the other lets go.
    pub(crate) fn attempt(&self) -> (u64, u64) {
        (self.turn, self.by)
    }

    /// Forgets what was learned of any other archive than this one.
    pub(crate) fn turn_to(&mut self, archive: Archive) {
        if self.archive != Some(archive) {
            let Self { attempts, turn, by, .. } = *self;
            *self = Self { attempts, turn, by, archive: Some(archive), ..Self::default() };
        }
    }

    /// The result of an earlier build, if its archive is still there whole.
    pub(crate) async fn finished(
        &self,
        objects: &dyn ObjectStore,
        package: PackageId,
    ) -> ObjectResult<Option<Finished>> {
        let (Some(archive), Some(sha256), Some(done)) = (self.archive, self.sha256, self.done) else {
            return Ok(None);
        };
        let there = objects.size(&archive.key(package)).await? == Some(archive.size);
        Ok(there.then_some(Finished { archive, sha256, done }))
    }
}

/// Whole seconds since the epoch.
pub(crate) fn seconds(now_ms: i64) -> u64 {
    u64::try_from(now_ms / 1000).unwrap_or(0)
}

/// A finished archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Which.
    pub(crate) archive: Archive,
    /// Its SHA-256.
    pub(crate) sha256: Sha256,
    /// What is in it.
    pub(crate) done: Done,
}
