//! Where an archive is being put together: its upload in parts, found again or begun, and how that ends.

use std::collections::BTreeMap;

use adit_shared::ids::SaltedPackage;
use adit_shared::objects::{ObjectError, ObjectResult, ObjectStore, Part, Upload};

use super::state::{Archive, State, package_folder};
use crate::plan::Plan;

/// What the store has of an archive when a build of it begins.
#[derive(Debug)]
pub(super) enum Site {
    /// All of it.
    Whole {
        /// As many parts as the plan has, to be counted.
        parts: BTreeMap<u32, Part>,
    },
    /// An upload.
    Open {
        /// The upload.
        upload: Upload,
        /// Parts that an earlier build has put there.
        parts: BTreeMap<u32, Part>,
    },
}

impl Site {
    /// Finds the archive, or its unfinished upload, or begins one.
    pub(super) async fn open(objects: &dyn ObjectStore, key: &str, plan: &Plan) -> ObjectResult<Self> {
        if objects.size(key).await? == Some(plan.size()) {
            return Ok(Self::whole(plan));
        }
        let Some(upload) = objects.find_upload(key, plan.part_size()).await? else {
            // Another process may have put its upload together between the two questions.
            if objects.size(key).await? == Some(plan.size()) {
                return Ok(Self::whole(plan));
            }
            let upload = objects.create_upload(key, plan.part_size()).await?;
            return Ok(Self::Open { upload, parts: BTreeMap::new() });
        };
        let fits = |part: &Part| {
            let planned = (1..=plan.parts()).contains(&part.number).then(|| plan.part_range(part.number));
            planned.is_some_and(|range| range.end - range.start == part.size)
        };
        let parts = objects.parts(&upload).await?.into_iter().filter(fits).map(|part| (part.number, part)).collect();
        Ok(Self::Open { upload, parts })
    }

    fn whole(plan: &Plan) -> Self {
        let part = |number| {
            let range = plan.part_range(number);
            (number, Part { number, size: range.end - range.start, etag: String::new() })
        };
        Self::Whole { parts: (1..=plan.parts()).map(part).collect() }
    }

    /// The parts that need not be put again.
    pub(super) fn held(&self) -> BTreeMap<u32, Part> {
        match self {
            Self::Whole { parts } | Self::Open { parts, .. } => parts.clone(),
        }
    }
}

/// Makes the archive out of its parts; another process that was quicker is no error.
pub(super) async fn complete(
    objects: &dyn ObjectStore,
    upload: &Upload,
    parts: &[Part],
    size: u64,
) -> ObjectResult<()> {
    let result = objects.complete_upload(upload, parts).await;
    if matches!(result, Err(ObjectError::NotFound(_))) && objects.size(&upload.key).await? == Some(size) {
        return Ok(());
    }
    result
}

/// Gives up every unfinished upload of an archive.
pub(super) async fn abandon(objects: &dyn ObjectStore, archive: &Archive) -> ObjectResult<()> {
    let mut last = None;
    while let Some(upload) = objects.find_upload(&archive.key, archive.part_size).await? {
        if last.as_ref() == Some(&upload.id) {
            tracing::warn!(key = upload.key, id = upload.id, "the store still lists an upload that was given up");
            break;
        }
        objects.abort_upload(&upload).await?;
        last = Some(upload.id);
    }
    Ok(())
}

/// Forgets the builds of another package of this number, and gives up what they were uploading. The
/// turn stays, so that what is said next is newer than all that was said.
pub(crate) async fn forget_other(objects: &dyn ObjectStore, other: State) -> ObjectResult<State> {
    if let Some(archive) = &other.archive {
        abandon(objects, archive).await?;
    }
    Ok(State { turn: other.turn, by: other.by, ..State::default() })
}

/// Removes all that there is of a package: its archives, its unfinished upload, and last the state that knows of them.
pub(crate) async fn remove(objects: &dyn ObjectStore, package: SaltedPackage) -> ObjectResult<()> {
    let state = State::load(objects, package).await?;
    if let Some(archive) = &state.archive {
        abandon(objects, archive).await?;
    }
    let listed = objects.list(&package_folder(package)).await?;
    delete(objects, listed).await
}

/// Removes what the build of that attempt, which failed, leaves: but nothing once the package is finished, or another attempt goes on with it.
/// That may be so only since a moment ago, in another process.
pub(crate) async fn remove_unfinished(
    objects: &dyn ObjectStore,
    package: SaltedPackage,
    attempt: (u64, u64),
) -> ObjectResult<()> {
    let ours = async || {
        let state = State::load(objects, package).await?;
        // One that was not even noted has left what those before it left.
        let ours = state.attempt() <= attempt && state.finished(objects, package).await?.is_none();
        ObjectResult::Ok(ours.then_some(state))
    };
    let Some(state) = ours().await? else { return Ok(()) };
    if let Some(archive) = &state.archive {
        abandon(objects, archive).await?;
    }
    // What others put there after this is not in the list, and so stays too.
    let listed = objects.list(&package_folder(package)).await?;
    if ours().await?.is_none() {
        return Ok(());
    }
    delete(objects, listed).await
}

/// Deletes a package's objects, the state that knows of the others last.
async fn delete(objects: &dyn ObjectStore, listed: Vec<(String, u64)>) -> ObjectResult<()> {
    let (states, archives): (Vec<_>, Vec<_>) =
        listed.into_iter().map(|(key, _)| key).partition(|key| key.ends_with(".json"));
    objects.delete(&archives).await?;
    objects.delete(&states).await
}
