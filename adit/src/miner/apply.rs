//! `adit apply`: makes one package out of an earlier one and a delta.
//!
//! Everything that is new is first staged in the folder itself and checked, with all that the delta leaves as it is; only then are files
//! removed and renamed. What is staged comes from the delta whenever it is applied, and the rest is the same before and after: so an
//! interrupted run can be run again from wherever it stopped.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use adit_shared::display::Printable;
use anyhow::{Context as _, bail, ensure};

use super::bag::{Bag, FETCH, MANIFEST, Manifest, State, TAG_MANIFEST, TOMBSTONES};
use super::unpack::{remove, unpack};
use crate::terminal::{errln, outln};

/// Holds the delta in the folder that it is applied to.
const STAGING: &str = ".adit-applying";

/// A delta that lies in the folder that it is applied to.
struct Staged {
    bag: Bag,
    /// The payload of the package that it leads to.
    manifest: Manifest,
    /// Its tag files.
    tags: Manifest,
    /// Payload that is not in it any more.
    tombstones: Vec<String>,
    /// Payload that the delta brings.
    brought: BTreeSet<String>,
}

/// A change in the folder of the bag.
#[derive(Debug)]
enum Step<'a> {
    /// Removes a file, if it is there.
    Remove(String),
    /// Puts a staged file in its place.
    Put(&'a str),
}

/// Applies a delta, a folder or its archive, to the folder of a bag. The exit status is 1, and nothing is changed, when the bag is not
/// the one that the delta was made from.
pub(crate) async fn apply(delta: &Path, folder: &Path) -> anyhow::Result<ExitCode> {
    let base = Bag::find(folder)?;
    let staging = base.place(STAGING)?;
    remove(&staging)?;
    let applied = stage_and_apply(delta, &base, &staging).await;
    remove(&staging)?;
    let faults = applied?;
    for fault in &faults {
        errln!("{}", Printable::line(fault));
    }
    if !faults.is_empty() {
        errln!("nothing was changed in {}", folder.display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn stage_and_apply(delta: &Path, base: &Bag, staging: &Path) -> anyhow::Result<Vec<String>> {
    if delta.is_file() {
        unpack(delta, staging)?
    } else {
        copy(&Bag::find(delta)?, staging)?
    }
    let staged = Staged::read(Bag::find(staging)?, delta)?;
    let faults = staged.faults(base, delta).await?;
    if faults.is_empty() {
        staged.steps(base)?.iter().try_for_each(|step| staged.take(step, base))?;
        let (brought, removed) = (staged.brought.len(), staged.tombstones.len());
        let unchanged = staged.manifest.len() - brought;
        let folder = base.root().display();
        outln!("{folder}: {brought} files added or changed, {removed} removed, {unchanged} as they were");
    }
    Ok(faults)
}

fn copy(delta: &Bag, staging: &Path) -> anyhow::Result<()> {
    for path in delta.files()? {
        let (from, to) = (delta.place(&path)?, staging.join(&path));
        ensure!(from.is_file(), "{}: is no file", from.display());
        let copied = fs::create_dir_all(to.parent().unwrap_or(staging)).and_then(|()| fs::copy(&from, &to));
        copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

impl Staged {
    fn read(bag: Bag, delta: &Path) -> anyhow::Result<Self> {
        let Some(tombstones) = bag.tombstones()? else {
            bail!("{} is no delta: it has no {TOMBSTONES}", delta.display());
        };
        let (manifest, tags) = (bag.manifest()?, bag.tag_manifest()?);
        if tags.is_empty() {
            bail!("{} has no {TAG_MANIFEST}", delta.display());
        }
        let brought = bag.payload()?.into_iter().collect();
        Ok(Self { bag, manifest, tags, tombstones, brought })
    }

    /// What keeps it from being applied.
    async fn faults(&self, base: &Bag, delta: &Path) -> anyhow::Result<Vec<String>> {
        let in_delta = |path: &String| self.brought.contains(path);
        let (brought, kept): (Manifest, Manifest) =
            self.manifest.clone().into_iter().partition(|(path, _)| in_delta(path));
        let mut faults = Vec::new();
        for own in [&self.tags, &brought] {
            let states = self.bag.states(own).await?;
            let wrong = states.into_iter().filter(|(_, state)| *state != State::Right);
            faults.extend(wrong.map(|(path, _)| format!("{path}: is damaged in the delta; download it again")));
        }
        let unknown = self.brought.iter().filter(|path| !self.manifest.contains_key(*path));
        faults.extend(unknown.map(|path| format!("{path}: is in the delta, but not in its {MANIFEST}")));
        let both = self.tombstones.iter().filter(|path| self.manifest.contains_key(*path));
        faults.extend(both.map(|path| format!("{path}: is in {TOMBSTONES} and in {MANIFEST}")));

        let remedy = remedy(base, delta);
        for (path, state) in base.states(&kept).await? {
            match state {
                State::Right => {}
                State::Missing => faults.push(format!("{path}: is missing; {remedy}")),
                State::Other => {
                    faults.push(format!("{path}: is not that of the package that the delta was made from; {remedy}"))
                }
            }
        }
        let removed: BTreeSet<&String> = self.tombstones.iter().collect();
        let strange = |path: &String| !self.manifest.contains_key(path) && !removed.contains(path);
        let strange = base.payload()?.into_iter().filter(strange);
        faults.extend(
            strange.map(|path| format!("{path}: is not of the package that the delta was made from; move it away")),
        );
        Ok(faults)
    }

    /// What makes the package out of `base`, step by step. After any of them the delta can be applied again.
    fn steps(&self, base: &Bag) -> anyhow::Result<Vec<Step<'_>>> {
        let removed = self.tombstones.iter().cloned().map(Step::Remove);
        let brought = self.brought.iter().map(|path| Step::Put(path));
        // The list of the tag files that were there is replaced when they are gone.
        let stale = base.tag_manifest()?.into_keys().filter(|path| !self.tags.contains_key(path)).map(Step::Remove);
        let tags = self.tags.keys().map(|path| Step::Put(path)).chain([Step::Put(TAG_MANIFEST)]);
        let lists = [FETCH, TOMBSTONES].map(|list| Step::Remove(list.to_owned()));
        Ok(removed.chain(brought).chain(stale).chain(tags).chain(lists).collect())
    }

    fn take(&self, step: &Step<'_>, base: &Bag) -> anyhow::Result<()> {
        let (place, taken) = match step {
            Step::Remove(path) => {
                let place = base.place(path)?;
                let removed = fs::remove_file(&place);
                let absent = removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                (place, if absent { Ok(()) } else { removed })
            }
            Step::Put(path) => {
                let (from, place) = (self.bag.place(path)?, base.place(path)?);
                let folder = place.parent().unwrap_or(base.root());
                let put = fs::create_dir_all(folder).and_then(|()| fs::rename(from, &place));
                (place, put)
            }
        };
        taken.with_context(|| format!("cannot change {}; run it again when that is mended", place.display()))
    }
}

fn remedy(base: &Bag, delta: &Path) -> String {
    if base.root().join(FETCH).exists() {
        return format!("`adit hydrate {}` fetches it", base.root().display());
    }
    format!("`adit hydrate {}` makes the whole package of the delta alone", delta.display())
}

#[cfg(test)]
mod tests;
