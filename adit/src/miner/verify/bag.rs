//! Whether a bag (BagIt 1.0, RFC 8493) holds what it says, wherever its files stand: in one archive, in several, in a folder.

use std::collections::{BTreeMap, BTreeSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::Omission;
use serde::Deserialize;

use super::Fault;
use super::contents::Contents;
use crate::miner::bag::{DECLARATION, FETCH, MANIFEST, TAG_MANIFEST, fetch_line, manifest_line};

/// The bag's metadata (2.2.2).
pub(super) const INFO: &str = "bag-info.txt";
/// Names the docset's members that have no file in the bag.
pub(super) const OMITTED: &str = "omitted.jsonl";
/// How a bag's declaration begins (2.1.1).
const VERSION: &str = "BagIt-Version: ";

/// Payload that is beside the bag and not in it, by its path in the bag: length and SHA-256 as they were found.
pub(super) type Beside = BTreeMap<String, (u64, Sha256)>;

/// What a bag says of itself, and how much of it is there.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bag {
    /// Payload files that it lists.
    pub(super) files: u64,
    /// Their length in bytes, where all of them tell it.
    pub(super) bytes: Option<u64>,
    /// Those of them that are still to be fetched.
    pub(super) absent: u64,
    /// The documents that it names as omitted, where there is such a list.
    pub(super) omitted: Option<Omitted>,
    /// The fields of `bag-info.txt`.
    pub(super) info: BTreeMap<String, String>,
}

/// Documents that are omitted: all of them, and those that were withheld.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Omitted {
    pub(super) all: u64,
    pub(super) rights: u64,
    pub(super) withdrawn: u64,
}

/// Where a bag stands among these files, with a slash: one directory deep, as RFC 8493 (4) has it, or at the top, as some tools write it.
pub(super) fn base(contents: &Contents) -> Option<&str> {
    let declared = contents.texts.iter().filter(|(_, text)| text.starts_with(VERSION));
    let bases = declared.filter_map(|(path, _)| path.strip_suffix(DECLARATION));
    bases.filter(|base| base.is_empty() || base.ends_with('/')).min_by_key(|base| base.len())
}

/// Checks the bag at `base`.
pub(super) fn check(contents: &Contents, base: &str, beside: &Beside, faults: &mut Vec<Fault>) -> Bag {
    let within = contents.files.get(&format!("{base}{DECLARATION}")).map_or("", |found| found.within.as_str());
    let mut check = Check { contents, base, beside, within, faults, listed: BTreeSet::new(), fetch: BTreeMap::new() };
    check.read_fetch();
    let mut bag = Bag { bytes: Some(0), ..Bag::default() };
    check.payload(&mut bag);
    check.tags();
    check.strangers();
    bag.omitted = check.omitted();
    bag.info = check.text(INFO).map(fields).unwrap_or_default();
    if let (Some(oxum), Some(bytes)) = (bag.info.get("Payload-Oxum"), bag.bytes)
        && *oxum != format!("{bytes}.{}", bag.files)
    {
        check
            .fault(INFO, format!("says Payload-Oxum {oxum}, but the payload has {bytes} bytes in {} files", bag.files));
    }
    bag
}

struct Check<'a> {
    contents: &'a Contents,
    base: &'a str,
    beside: &'a Beside,
    /// Where the bag is, for what is missing from it.
    within: &'a str,
    faults: &'a mut Vec<Fault>,
    listed: BTreeSet<String>,
    /// What is to be fetched, and its length where that is told.
    fetch: BTreeMap<String, Option<u64>>,
}

impl<'a> Check<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.contents.texts.get(&format!("{}{name}", self.base)).map(String::as_str)
    }

    /// Notes that something is wrong with a file of the bag.
    fn fault(&mut self, path: &str, reason: impl Into<String>) {
        let entry = format!("{}{path}", self.base);
        let within = self.contents.files.get(&entry).map_or(self.within, |found| found.within.as_str()).to_owned();
        self.faults.push(Fault { file: within, entry: Some(entry), reason: reason.into() });
    }

    /// Reads the list of omitted documents.
    fn omitted(&mut self) -> Option<Omitted> {
        /// Lists of packages that withhold nothing give no reasons.
        #[derive(Deserialize)]
        struct Line {
            reason: Option<Omission>,
        }
        let mut omitted = Omitted::default();
        for (number, line) in self.text(OMITTED)?.lines().enumerate() {
            omitted.all += 1;
            match serde_json::from_str(line) {
                Ok(Line { reason: Some(Omission::Rights) }) => omitted.rights += 1,
                Ok(Line { reason: Some(Omission::Withdrawn) }) => omitted.withdrawn += 1,
                Ok(Line { reason: Some(Omission::Format) | None }) => {}
                Err(error) => self.fault(OMITTED, format!("line {} tells of no omitted document: {error}", number + 1)),
            }
        }
        Some(omitted)
    }

    /// Reads the list of what is to be fetched (2.2.3).
    fn read_fetch(&mut self) {
        for (number, line) in self.text(FETCH).unwrap_or_default().lines().enumerate() {
            match fetch_line(line) {
                Some((path, source)) => {
                    if self.fetch.insert(path.clone(), source.length).is_some() {
                        self.fault(FETCH, format!("names {path} twice"));
                    }
                }
                None => self.fault(FETCH, format!("line {} is no URL, length and path", number + 1)),
            }
        }
    }

    /// The lines of a manifest (2.1.3): paths, and the SHA-256 of each.
    fn manifest(&mut self, name: &str) -> Option<Vec<(String, Sha256)>> {
        let mut lines = Vec::new();
        for (number, line) in self.text(name)?.lines().enumerate() {
            match manifest_line(line) {
                Some(line) => lines.push(line),
                None => self.fault(name, format!("line {} is no SHA-256 and path", number + 1)),
            }
        }
        Some(lines)
    }

    fn payload(&mut self, bag: &mut Bag) {
        let Some(lines) = self.manifest(MANIFEST) else {
            return self.fault(MANIFEST, "is missing from the bag or cannot be read");
        };
        for (path, sha256) in lines {
            if !self.listed.insert(path.clone()) {
                self.fault(MANIFEST, format!("names {path} twice"));
                continue;
            }
            bag.files += 1;
            let length = self.payload_file(&path, sha256, bag);
            bag.bytes = bag.bytes.zip(length).and_then(|(sum, length)| sum.checked_add(length));
        }
        let unlisted: Vec<String> = self.fetch.keys().filter(|path| !self.listed.contains(*path)).cloned().collect();
        for path in unlisted {
            self.fault(FETCH, format!("names {path}, which is not in {MANIFEST}"));
        }
    }

    /// Checks a payload file; returns its length, where that is known.
    fn payload_file(&mut self, path: &str, sha256: Sha256, bag: &mut Bag) -> Option<u64> {
        let announced = self.fetch.get(path).copied();
        let found = self.contents.files.get(&format!("{}{path}", self.base)).map(|found| (found.size, found.sha256));
        let (size, found) = match (found.or_else(|| self.beside.get(path).copied()), announced) {
            (Some(found), _) => found,
            (None, Some(length)) => {
                bag.absent += 1;
                return length;
            }
            (None, None) => {
                self.fault(path, format!("is named in {MANIFEST}, but missing or damaged"));
                return None;
            }
        };
        if found != sha256 {
            self.fault(path, format!("its SHA-256 is not that of {MANIFEST}"));
        }
        if let Some(Some(length)) = announced.filter(|length| *length != Some(size)) {
            self.fault(path, format!("has {size} bytes, and not {length} as {FETCH} says"));
        }
        Some(size)
    }

    fn tags(&mut self) {
        for (path, sha256) in self.manifest(TAG_MANIFEST).unwrap_or_default() {
            match self.contents.files.get(&format!("{}{path}", self.base)) {
                None => self.fault(&path, format!("is named in {TAG_MANIFEST}, but missing or damaged")),
                Some(found) if found.sha256 != sha256 => {
                    self.fault(&path, format!("its SHA-256 is not that of {TAG_MANIFEST}"));
                }
                Some(_) => {}
            }
        }
    }

    /// Files that are not the bag's, or payload that it does not list.
    fn strangers(&mut self) {
        for (path, found) in &self.contents.files {
            let reason = match path.strip_prefix(self.base) {
                None => format!("stands outside of the bag's base directory {}", self.base),
                Some(inside) if inside.starts_with("data/") && !self.listed.contains(inside) => {
                    format!("is not in {}{MANIFEST}", self.base)
                }
                Some(_) => continue,
            };
            self.faults.push(Fault { file: found.within.clone(), entry: Some(path.clone()), reason });
        }
    }
}

/// Fields of a bag's metadata (2.2.2): a line that begins with white space goes on with the one before.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix([' ', '\t']), fields.last_mut()) {
            (Some(more), Some((_, value))) => {
                *value = format!("{value} {}", more.trim()).trim_start().to_owned();
            }
            _ => fields.extend(line.split_once(':').map(|(label, value)| (label.to_owned(), value.trim().to_owned()))),
        }
    }
    fields.into_iter().collect()
}
