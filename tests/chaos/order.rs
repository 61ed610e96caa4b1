//! A package that was ordered, and what its archive must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adit_shared::digest::Sha256;
use serde_json::Value;

use super::model::{Collection, State};
use crate::support::unzip;

/// A package that was ordered.
pub(super) struct Order {
    pub(super) package: i64,
    pub(super) docset: i64,
    pub(super) collection: Arc<Collection>,
    pub(super) members: BTreeSet<String>,
    /// What the docset may consist of.
    pub(super) states: Vec<State>,
    pub(super) formats: Vec<&'static str>,
    pub(super) layout: &'static str,
    /// Documents that must be missing, and those that may.
    pub(super) withdrawn: [BTreeSet<String>; 2],
    pub(super) sha256: Option<String>,
}

impl Order {
    /// What is wrong with an archive, if anything is.
    pub(super) fn problem(&self, archive: &[u8]) -> Option<String> {
        let mut files: BTreeMap<(String, &'static str), Sha256> = BTreeMap::new();
        for (path, content) in unzip(archive) {
            let Some(name) = self.payload(&path) else { continue };
            let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
            let format = match extension {
                "json" => "meta",
                "pdf" => "pdf",
                "txt" => "txt",
                _ => return Some(format!("{path} is no file of a document")),
            };
            files.insert(
                (stem.to_owned(), format),
                if format == "meta" { meta_title(&content) } else { Sha256::of(&content) },
            );
        }
        let fits = |state: &&State| self.expected(state, &files) == files;
        let [sure, maybe] = &self.withdrawn;
        let there: BTreeSet<&String> = files.keys().map(|(name, _)| name).collect();
        let missing: Vec<&String> =
            self.members.iter().filter(|name| !there.contains(name) && !maybe.contains(*name)).collect();
        let surplus: Vec<&&String> = there.iter().filter(|name| sure.contains(**name)).collect();
        if !missing.is_empty() || !surplus.is_empty() {
            return Some(format!("{missing:?} are missing, {surplus:?} were withdrawn before"));
        }
        if self.states.iter().any(|state| fits(&state)) {
            None
        } else {
            Some("its files are of no state of the collection".to_owned())
        }
    }

    /// The name of a document's file; nothing for what describes the package.
    fn payload<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.layout == "flat" {
            return Some(path);
        }
        path.split_once('/')?.1.strip_prefix("data/")
    }

    /// The files that documents which are there must have, were the docset of that state.
    fn expected(
        &self,
        state: &State,
        there: &BTreeMap<(String, &'static str), Sha256>,
    ) -> BTreeMap<(String, &'static str), Sha256> {
        let names: BTreeSet<&String> = there.keys().map(|(name, _)| name).collect();
        let mut expected = BTreeMap::new();
        for (name, version) in state.iter().filter(|(name, _)| names.contains(name)) {
            for format in &self.formats {
                let file = match *format {
                    "meta" => Some(self.collection.title(name, *version)),
                    format => self.collection.file(name, *version, format),
                };
                expected.extend(file.map(|file| ((name.clone(), *format), file)));
            }
        }
        expected
    }
}

/// SHA-256 of the title in a document's metadata.
fn meta_title(content: &[u8]) -> Sha256 {
    let meta: Value = serde_json::from_slice(content).unwrap_or_default();
    Sha256::of(meta["title"].as_str().unwrap_or_default().as_bytes())
}
