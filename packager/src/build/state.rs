//! What outlives the process that builds a package: one small object beside its assets (`build.json`), written now and then, so
//! that whoever takes the request next knows how often it was tried, which assets are there, and how far the hash of the next had come.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use adit_shared::digest::Sha256;
use adit_shared::domain::Asset;
use adit_shared::ids::SaltedPackage;
use adit_shared::objects::{ObjectError, ObjectKey, ObjectResult, ObjectStore};
use serde::{Deserialize, Serialize};

use crate::plan::{AssetPlan, Project};
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
    /// Assets of the package that are in the store already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) assets: Vec<Stored>,
    /// The object that is being built, or was built last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) archive: Option<Archive>,
    /// Hash of its first bytes, as far as that was noted: parts behind them may have been uploaded all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hashed: Option<Midstate>,
    /// Hash of all of it, once its last part was drawn up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256>,
    /// The result, once the package is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<Done>,
}

/// The object that is being built: what was learned of one says nothing of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archive {
    /// The package's fingerprint.
    pub(crate) fingerprint: Sha256,
    /// Its key in the store.
    pub(crate) key: String,
    /// Its size in bytes; of what is compressed on the way, that of its content.
    pub(crate) size: u64,
    /// Length in bytes of its upload's parts.
    pub(crate) part_size: u64,
}

impl Archive {
    /// The object that holds an asset.
    pub(crate) fn of(package: SaltedPackage, project: &Project, asset: &AssetPlan) -> Self {
        let (fingerprint, source) = (project.fingerprint, &asset.source);
        Self { fingerprint, key: project.key(package, &asset.name), size: source.size(), part_size: source.part_size() }
    }
}

/// The result of a finished build: what a client is given, and what was put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Key of the archive; of a package in shards, of its manifest.
    pub(crate) key: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its SHA-256.
    pub(crate) sha256: Sha256,
    /// Number of documents with files in the package.
    pub(crate) documents: u64,
    /// Number of the docset's other documents.
    pub(crate) omitted: u64,
    /// Number of parts in which all assets were uploaded.
    pub(crate) parts: u32,
}

/// An asset that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// What the package's manifest says of it.
    pub(crate) asset: Asset,
    /// Its key in the store.
    pub(crate) key: String,
    /// Number of parts that it was uploaded in.
    pub(crate) parts: u32,
}

impl State {
    /// Reads the state of a package; an empty one if there is none, or none that can be read.
    pub(crate) async fn load(objects: &dyn ObjectStore, package: SaltedPackage) -> ObjectResult<Self> {
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
    pub(crate) async fn save(&self, objects: &dyn ObjectStore, package: SaltedPackage) -> ObjectResult<()> {
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

    /// Forgets what was learned of any other object than this one.
    pub(crate) fn turn_to(&mut self, archive: &Archive) {
        if self.archive.as_ref() == Some(archive) {
            return;
        }
        // What is there of the same package stays there.
        let same = self.archive.as_ref().is_some_and(|before| before.fingerprint == archive.fingerprint);
        let assets = if same { std::mem::take(&mut self.assets) } else { Vec::new() };
        let Self { attempts, turn, by, .. } = *self;
        *self = Self { attempts, turn, by, assets, archive: Some(archive.clone()), ..Self::default() };
    }

    /// An asset that is in the store, as far as is known.
    pub(crate) fn stored(&self, key: &str) -> Option<&Stored> {
        self.assets.iter().find(|stored| stored.key == key)
    }

    /// The result of an earlier build, if all of it is still there whole.
    pub(crate) async fn finished(
        &self,
        objects: &dyn ObjectStore,
        package: SaltedPackage,
    ) -> ObjectResult<Option<Done>> {
        let Some(done) = &self.done else { return Ok(None) };
        let listed: HashMap<_, _> = objects.list(&package_folder(package)).await?.into_iter().collect();
        let mut wanted =
            self.assets.iter().map(|stored| (&stored.key, stored.asset.size)).chain([(&done.key, done.size)]);
        Ok(wanted.all(|(key, size)| listed.get(key) == Some(&size)).then(|| done.clone()))
    }
}

/// What the keys of all objects of a package begin with.
pub(crate) fn package_folder(package: SaltedPackage) -> String {
    let build = ObjectKey::Build { package }.to_string();
    let folder = build.rfind('/').map_or("", |slash| &build[..=slash]);
    folder.to_owned()
}

/// Whole seconds since the epoch.
pub(crate) fn seconds(now_ms: i64) -> u64 {
    u64::try_from(now_ms / 1000).unwrap_or(0)
}
