//! `adit verify`: whether a package is what was signed and holds what it says. Offline: what is trusted is named by `--keys`.
//!
//! A receipt proves a manifest, a manifest every asset, and what stands in the archives must fit both it and the bag's own manifests. All of
//! that is looked at even where one of it would be enough: so the file that is wrong can be named.

mod agree;
mod bag;
mod contents;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod tar_archive;
mod targets;
mod zip_archive;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_shared::digest::Sha256;
use adit_shared::display::Printable;
use adit_shared::domain::{Asset, ManifestDocuments, PackageManifest};
use adit_shared::signing::{PublicKeys, Receipt, ReceiptError};
use anyhow::Context as _;
use serde::Serialize;

use self::agree::compare;
use self::bag::{Bag, Beside};
use self::contents::{Contents, Kind, read_archive, read_folder};
use self::targets::Targets;
use super::bag::DECLARATION;
use super::part::hash_file;
use super::proof::Proof;
use crate::cli::VerifyArgs;
use crate::terminal::{errln, outln, print_json};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fault {
    /// The file that it is wrong with.
    pub(crate) file: String,
    /// The entry in that file, of an archive, or the file in that folder, of a bag.
    pub(crate) entry: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

impl Fault {
    fn of(file: &Path, reason: impl Into<String>) -> Self {
        Self { file: file.display().to_string(), entry: None, reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "{}: {entry}: {}", self.file, self.reason),
            None => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Everything that is wrong.
    pub(crate) faults: Vec<Fault>,
    /// What was checked, and what could not be.
    pub(crate) notes: Vec<String>,
    /// Files in the archives and folders.
    pub(crate) files: usize,
    /// Whether they are a bag's.
    pub(crate) bag: bool,
}

/// Checks what the arguments name. The exit status is 1 when something is wrong.
pub(crate) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let report = examine(args)?;
    if args.json {
        print_json(&report)?;
    } else {
        report.faults.iter().for_each(|fault| errln!("{}", Printable::line(&fault.to_string())));
        // Of something that is wrong, nothing is said that could be taken for its being right.
        report.notes.iter().filter(|_| report.faults.is_empty()).for_each(|note| outln!("{}", Printable::line(note)));
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks what the arguments name.
///
/// # Errors
/// When the arguments do not go together, or the keys cannot be read. What is wrong with a package is no error, but in the report.
pub(crate) fn examine(args: &VerifyArgs) -> anyhow::Result<Report> {
    let keys =
        args.keys.as_deref().map(PublicKeys::read).transpose().context("cannot use the trusted keys (--keys)")?;
    let targets = Targets::of(args)?;
    let mut report = Report::default();
    if let Some(expected) = args.sha256 {
        check_hash(&args.paths[0], expected, &mut report)?;
    }
    let manifest = match &targets.proof {
        Some(proof) => check_proof(proof, keys.as_ref(), &mut report),
        None => {
            tell_unproved(args, &targets, &mut report);
            None
        }
    };
    let proved = targets.proof.as_ref().map(|proof| proof.manifest.as_path()).zip(manifest.as_ref());
    match proved {
        // The archive may have been unpacked, and be gone.
        Some(_) if targets.archives.is_empty() && !targets.bags.is_empty() => {}
        Some((path, manifest)) => check_package(&targets, path, manifest, &mut report),
        None => targets.groups().iter().for_each(|group| check_inside(group, &mut report)),
    }
    for folder in &targets.bags {
        check_folder(folder, proved, &mut report)?;
    }
    Ok(report)
}

/// Says what cannot be told without a manifest; where keys are trusted, that is a fault.
fn tell_unproved(args: &VerifyArgs, targets: &Targets, report: &mut Report) {
    let why = "there is no manifest beside it (NAME.manifest.json or manifest.json): it was checked from inside only";
    if args.keys.is_some() {
        report.faults.extend(args.paths.first().map(|path| Fault::of(path, why)));
    } else if !targets.archives.is_empty() {
        report.notes.push(why.to_owned());
    }
}

fn check_hash(path: &Path, expected: Sha256, report: &mut Report) -> anyhow::Result<()> {
    let (_, found) = hash_file(path)?;
    if found != expected {
        report.faults.push(Fault::of(path, format!("its SHA-256 is {found}, not {expected}")));
    }
    Ok(())
}

/// Reads the manifest, and checks it by its receipt.
fn check_proof(proof: &Proof, keys: Option<&PublicKeys>, report: &mut Report) -> Option<PackageManifest> {
    let bytes = std::fs::read(&proof.manifest)
        .map_err(|error| report.faults.push(Fault::of(&proof.manifest, format!("cannot be read: {error}"))))
        .ok()?;
    check_receipt(proof, &bytes, keys, report);
    let manifest = PackageManifest::parse(&bytes);
    manifest.map_err(|error| report.faults.push(Fault::of(&proof.manifest, error.to_string()))).ok()
}

fn check_receipt(proof: &Proof, manifest: &[u8], keys: Option<&PublicKeys>, report: &mut Report) {
    let mut fault = |path: &Path, reason: String| report.faults.push(Fault::of(path, reason));
    let text = match std::fs::read(&proof.receipt) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && keys.is_none() => {
            return report.notes.push("there is no receipt: nothing tells who built the package".to_owned());
        }
        Err(error) => return fault(&proof.receipt, format!("nothing proves the manifest without it: {error}")),
    };
    let checked = Receipt::parse(&text).and_then(|receipt| match keys {
        Some(keys) => receipt.verify(manifest, keys).map(|key| format!("the receipt is signed with the trusted key {}", key.kid())),
        None => Ok(format!(
            "the receipt was not checked: it names the key {}, and no key is trusted (--keys FILE, such as a copy of the service's \
             /.well-known/jwks.json)",
            receipt.kid()
        )),
    });
    match checked {
        Ok(note) => report.notes.push(note),
        // Nobody can tell which of the two it was.
        Err(error @ ReceiptError::Mismatch(_)) => {
            fault(&proof.manifest, format!("it or {} was changed: the receipt {error}", proof.receipt.display()));
        }
        Err(error) => fault(&proof.receipt, error.to_string()),
    }
}

/// Checks every asset that the manifest in file `path` names, and what stands in all of them together.
fn check_package(targets: &Targets, path: &Path, manifest: &PackageManifest, report: &mut Report) {
    let (mut contents, mut beside, mut hashes) = (Contents::default(), Beside::new(), Vec::new());
    for (asset, place) in targets.assets(path, manifest, &mut report.faults) {
        let kind = Kind::of(&asset.name);
        let Some((size, sha256)) = check_asset(asset, &place, report) else { continue };
        read_archive(&place, kind, &mut contents, &mut report.faults);
        if kind == Kind::Table {
            beside.insert(format!("data/{}", asset.name), (size, sha256));
        }
        hashes.push((sha256, place));
    }
    let bag = check_contents(&contents, &beside, report);
    compare(path, manifest, &contents, bag.as_ref(), report);
    let files = contents.files.len() + beside.len();
    report.notes.insert(0, summary(hashes.iter().map(|(_, path)| path.as_path()), files, bag.as_ref()));
    let ManifestDocuments { requested, included, omitted, rights, withdrawn } = manifest.documents;
    let withheld = match (rights, withdrawn) {
        (0, 0) => String::new(),
        _ => format!(" ({rights} for want of rights, {withdrawn} as withdrawn)"),
    };
    report
        .notes
        .push(format!("{requested} documents were requested: {included} are included, {omitted} omitted{withheld}"));
    report.notes.extend(hashes.iter().map(|(sha256, path)| format!("{sha256}  {}", path.display())));
}

/// Length and SHA-256 of an asset, which the manifest knows.
fn check_asset(asset: &Asset, place: &Path, report: &mut Report) -> Option<(u64, Sha256)> {
    let mut fault = |reason: String| report.faults.push(Fault::of(place, reason));
    let (size, sha256) = hash_file(place).map_err(|error| fault(format!("{error:#}"))).ok()?;
    if size != asset.size {
        fault(format!("has {size} bytes, and not {} as the manifest says", asset.size));
    }
    if sha256 != asset.sha256 {
        fault(format!("its SHA-256 is {sha256}, and not {} as the manifest says", asset.sha256));
    }
    Some((size, sha256))
}

/// Checks archives without a manifest: shards of one package, or a single archive.
fn check_inside(group: &[PathBuf], report: &mut Report) {
    let (mut contents, mut hashes) = (Contents::default(), Vec::new());
    for path in group {
        read_archive(path, Kind::of(&path.to_string_lossy()), &mut contents, &mut report.faults);
        hashes.extend(hash_file(path).ok().map(|(_, sha256)| format!("{sha256}  {}", path.display())));
    }
    let bag = check_contents(&contents, &Beside::new(), report);
    report.notes.push(summary(group.iter().map(PathBuf::as_path), contents.files.len(), bag.as_ref()));
    report.notes.extend(hashes);
}

/// Checks an unpacked bag.
fn check_folder(folder: &Path, proved: Option<(&Path, &PackageManifest)>, report: &mut Report) -> anyhow::Result<()> {
    let mut contents = Contents::default();
    read_folder(folder, &mut contents, &mut report.faults)?;
    let Some(bag) = check_contents(&contents, &Beside::new(), report) else {
        report.faults.push(Fault::of(&folder.join(DECLARATION), "is no declaration of a bag (RFC 8493, 2.1.1)"));
        return Ok(());
    };
    report.notes.push(summary([folder].into_iter(), contents.files.len(), Some(&bag)));
    if let Some((path, manifest)) = proved {
        compare(path, manifest, &contents, Some(&bag), report);
        report.notes.push(
            "the manifest proves archives, not a folder, which was checked by the bag's own manifests".to_owned(),
        );
    }
    Ok(())
}

/// Checks files that stand together: a bag, if they are one.
fn check_contents(contents: &Contents, beside: &Beside, report: &mut Report) -> Option<Bag> {
    let bag = bag::base(contents).map(|base| bag::check(contents, base, beside, &mut report.faults));
    report.files += contents.files.len();
    report.bag |= bag.is_some();
    bag
}

fn summary<'a>(places: impl Iterator<Item = &'a Path>, files: usize, bag: Option<&Bag>) -> String {
    let places: Vec<&Path> = places.collect();
    let what = match places.as_slice() {
        [path] => path.display().to_string(),
        several => format!("{} assets", several.len()),
    };
    let fits = if bag.is_some() { ", and are those of the bag's manifest" } else { "" };
    let absent = bag.filter(|bag| bag.absent > 0);
    let absent = absent.map(|bag| format!("; {} more are still to be fetched", bag.absent)).unwrap_or_default();
    format!("{what}: {files} files are whole{fits}{absent}")
}

#[cfg(test)]
mod tests;
