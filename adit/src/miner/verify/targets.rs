//! What is to be checked: which of the named paths is an archive, a bag's folder or a package's folder, and where its manifest is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adit_shared::domain::{Asset, MANIFEST_NAME, PackageManifest};
use anyhow::{Context as _, bail};

use super::Fault;
use super::contents::Kind;
use crate::cli::VerifyArgs;
use crate::miner::bag::Bag;
use crate::miner::proof::Proof;

/// What the arguments name.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Archives, and other assets.
    pub(super) archives: Vec<PathBuf>,
    /// Folders of bags.
    pub(super) bags: Vec<PathBuf>,
    /// Where manifest and receipt are, if there is a manifest.
    pub(super) proof: Option<Proof>,
}

impl Targets {
    pub(super) fn of(args: &VerifyArgs) -> anyhow::Result<Self> {
        let (mut targets, mut found) = (Self::default(), Vec::new());
        for path in &args.paths {
            if path.is_dir() {
                let inside = Proof::inside(path);
                if inside.manifest.is_file() {
                    found.push(inside);
                } else {
                    let bag = Bag::find(path).with_context(|| format!("there is no {MANIFEST_NAME} either"))?;
                    targets.bags.push(bag.root().to_owned());
                }
            } else if path.to_string_lossy().ends_with(MANIFEST_NAME) {
                found.push(Proof::of_manifest(path));
            } else {
                targets.archives.push(path.clone());
                found.extend(Proof::candidates(path).into_iter().find(|proof| proof.manifest.is_file()));
            }
        }
        found.dedup();
        targets.proof = match (&args.manifest, found.as_slice()) {
            (Some(manifest), _) => Some(Proof::of_manifest(manifest)),
            (None, [_, _, ..]) => {
                bail!("these are several packages; name one at a time, or its manifest with --manifest")
            }
            (None, found) => found.first().cloned(),
        };
        if let Some(receipt) = &args.receipt {
            let Some(proof) = &mut targets.proof else {
                bail!("a receipt is over a manifest; name it with --manifest")
            };
            proof.receipt = receipt.clone();
        }
        if args.sha256.is_some() && (args.paths.len() != 1 || targets.archives.len() != 1) {
            bail!("--sha256 is the hash of one archive; name just that");
        }
        Ok(targets)
    }

    /// Where each asset of the manifest in file `path` is: where it was named, or else beside the manifest. What is named but no asset, or an
    /// asset but not there, is a fault.
    pub(super) fn assets<'m>(
        &self,
        path: &Path,
        manifest: &'m PackageManifest,
        faults: &mut Vec<Fault>,
    ) -> Vec<(&'m Asset, PathBuf)> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut places: Vec<Option<PathBuf>> = vec![None; manifest.assets.len()];
        let is_called =
            |archive: &Path, asset: &Asset| archive.file_name().is_some_and(|name| name == asset.name.as_str());
        let mut renamed = Vec::new();
        for archive in &self.archives {
            match manifest.assets.iter().position(|asset| is_called(archive, asset)) {
                Some(index) => places[index] = Some(archive.clone()),
                None => renamed.push(archive),
            }
        }
        for (place, asset) in places.iter_mut().zip(&manifest.assets) {
            let beside = folder.join(&asset.name);
            *place = place.take().or_else(|| beside.exists().then_some(beside));
        }
        for archive in renamed {
            // An archive may be saved under any name, if it is clear which one it is.
            let kind = Kind::of(&archive.to_string_lossy());
            let open = |(index, asset): &(usize, &Asset)| places[*index].is_none() && Kind::of(&asset.name) == kind;
            let mut open = manifest.assets.iter().enumerate().filter(open).map(|(index, _)| index);
            match (open.next(), open.next()) {
                (Some(index), None) => places[index] = Some(archive.clone()),
                _ => faults.push(Fault::of(archive, format!("is not among the assets of {}", path.display()))),
            }
        }
        let found = manifest.assets.iter().zip(places).filter_map(|(asset, place)| {
            if place.is_none() {
                let missing = folder.join(&asset.name);
                faults.push(Fault::of(&missing, format!("is missing; {} names it", path.display())));
            }
            Some((asset, place?))
        });
        found.collect()
    }

    /// Archives that belong together, as far as their names tell: shards, or each for itself.
    pub(super) fn groups(&self) -> Vec<Vec<PathBuf>> {
        let mut groups: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for path in &self.archives {
            groups.entry(without_number(path)).or_default().push(path.clone());
        }
        groups.into_values().collect()
    }
}

/// The path of a shard without its number: `a.zip` of `a-00001-of-00004.zip`. Of other files, the path itself.
fn without_number(path: &Path) -> PathBuf {
    let shard = || {
        let (stem, extension) = path.file_name()?.to_str()?.split_once('.')?;
        let (name, number) = stem.split_at_checked(stem.len().checked_sub("-00001-of-00004".len())?)?;
        let (index, count) = number.strip_prefix('-')?.split_once("-of-")?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(index) && digits(count)).then(|| path.with_file_name(format!("{name}.{extension}")))
    };
    shard().unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_one_package_belong_together() {
        let paths =
            ["p/a-00001-of-00002.zip", "b.zip", "p/a-00002-of-00002.zip", "a-00002-of-00002.zip", "é-00001.zip", "c"];
        let targets = Targets { archives: paths.iter().map(PathBuf::from).collect(), ..Targets::default() };
        let groups: Vec<usize> = targets.groups().iter().map(Vec::len).collect();
        assert_eq!(groups, [1, 1, 1, 2, 1]);
    }
}
