//! What stands in a package, against what its manifest says of it.

use std::path::Path;

use adit_shared::domain::{PackageManifest, Payload, Recipe};

use super::bag::{Bag, Omitted};
use super::contents::Contents;
use super::{Fault, Report};

/// Notes everything in which the manifest in file `path` and the package's files differ.
pub(super) fn compare(
    path: &Path,
    manifest: &PackageManifest,
    contents: &Contents,
    bag: Option<&Bag>,
    report: &mut Report,
) {
    let mut disagree = |reason: String| report.faults.push(Fault::of(path, reason));
    match bag {
        Some(bag) => compare_bag(manifest, bag, &mut disagree),
        None if manifest.layout.is_described() => disagree("its archives hold no bag".to_owned()),
        None => compare_flat(manifest, contents, &mut disagree),
    }
    let shards = manifest.assets.iter().map(|asset| asset.documents).collect::<Option<Vec<u64>>>();
    let sum = shards.map(|shards| shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(*shard)));
    if let Some(sum) = sum.filter(|sum| *sum != manifest.documents.included) {
        disagree(format!("its shards hold {sum} documents, but {} are included", manifest.documents.included));
    }
}

fn compare_bag(manifest: &PackageManifest, bag: &Bag, disagree: &mut impl FnMut(String)) {
    let mut same = |what: &str, said: u64, found: Option<u64>| {
        if let Some(found) = found.filter(|found| *found != said) {
            disagree(format!("says {said} {what}, but the bag has {found}"));
        }
    };
    // In a bag of tables, the payload are the shards.
    if !manifest.layout.is_tabular() {
        same("files of payload", manifest.payload.files, Some(bag.files));
        same("bytes of payload", manifest.payload.bytes, bag.bytes);
    }
    if let Some(Omitted { all, rights, withdrawn }) = bag.omitted {
        same("omitted documents", manifest.documents.omitted, Some(all));
        same("documents omitted for want of rights", manifest.documents.rights, Some(rights));
        same("documents omitted as withdrawn", manifest.documents.withdrawn, Some(withdrawn));
    }
    let mut is_of = |label: &str, said: String| {
        if let Some(found) = bag.info.get(label).filter(|found| **found != said) {
            disagree(format!("is of {said}, but the bag's {label} is {found}"));
        }
    };
    is_of("External-Identifier", manifest.docset.to_string());
    // A shard's or a delta's bag is the whole package's.
    if manifest.shard_bytes.is_none() && !manifest.dehydrated && manifest.delta_from.is_none() {
        is_of("Internal-Sender-Identifier", manifest.package.to_string());
    }
}

fn compare_flat(manifest: &PackageManifest, contents: &Contents, disagree: &mut impl FnMut(String)) {
    let Payload { files, bytes } = manifest.payload;
    let found: u64 = contents.files.values().map(|found| found.size).sum();
    if (files, bytes) != (contents.files.len() as u64, found) {
        disagree(format!("says {files} files of {bytes} bytes, but there are {} of {found}", contents.files.len()));
    }
    let mut recipe = Recipe::new(manifest.formats.clone(), manifest.layout);
    recipe.options.shard_bytes = manifest.shard_bytes;
    let fingerprint = recipe.fingerprint(manifest.selection.as_ref().unwrap_or(&manifest.docset), None, None);
    if fingerprint != manifest.package {
        disagree(format!("says that the package is {}, but it is {fingerprint}", manifest.package));
    }
}
