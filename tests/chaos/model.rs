//! What collections must hold, as the test knows it: one state after each change, and which of the
//! changes were acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use adit_shared::digest::Sha256;
use serde_json::json;

use crate::support::{Doc, noise, write_collection};

/// Documents that the first import of a collection brings.
const FIRST: u64 = 20;
/// Documents that each later import adds, and updates.
const ADDED: u64 = 3;
const UPDATED: u64 = 4;
/// Every so many documents there is one with a PDF, and one that will be withdrawn.
const WITH_PDF: u64 = 5;
const WITHDRAWN: u64 = 7;
/// Words that select documents.
pub(super) const GROUPS: u64 = 4;

/// Documents by ref, with the number of their version.
pub(super) type State = BTreeMap<String, u32>;

/// A collection, and what is known of it.
pub(super) struct Collection {
    pub(super) slug: String,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    /// What the collection holds after each change that was begun.
    states: Vec<State>,
    /// The last change that was acknowledged.
    acknowledged: usize,
    /// SHA-256 of each file, by ref, version and format.
    files: HashMap<(String, u32, &'static str), Sha256>,
    /// Withdrawn documents, by ref: whether that was acknowledged.
    withdrawn: BTreeMap<String, bool>,
    documents: u64,
}

/// Changes of a collection that an observation may have seen: from the last one that was
/// acknowledged when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(usize);

/// What a docset selects.
#[derive(Debug, Clone)]
pub(super) enum Selection {
    All,
    Group(u64),
    Refs(Vec<String>),
}

impl Selection {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Group(group) => number_of(name) % GROUPS == *group,
            Self::Refs(refs) => refs.iter().any(|r| r == name),
        }
    }
}

fn number_of(name: &str) -> u64 {
    name.rsplit('.').next().unwrap().parse().unwrap()
}

pub(super) fn will_be_withdrawn(name: &str) -> bool {
    number_of(name) % WITHDRAWN == WITHDRAWN - 1
}

impl Collection {
    pub(super) fn new(number: usize) -> Self {
        let history = History { states: vec![State::new()], ..History::default() };
        Self { slug: format!("c{number}"), history: Mutex::new(history) }
    }

    /// Writes the folder of the next import, and notes what it will change.
    pub(super) fn begin_import(&self, parent: &Path, dice: &mut impl rand::Rng) -> PathBuf {
        use rand::seq::IteratorRandom as _;
        let mut history = self.history.lock().unwrap();
        let mut state = history.states.last().unwrap().clone();
        let mut changed = state.keys().cloned().sample(dice, usize::try_from(UPDATED).unwrap());
        let (from, more) = (history.documents, if history.documents == 0 { FIRST } else { ADDED });
        history.documents += more;
        changed.extend((from..from + more).map(|number| format!("doc.{number:04}")));
        let mut documents = Vec::new();
        for name in &changed {
            let version = state.get(name).map_or(1, |version| version + 1);
            state.insert(name.clone(), version);
            let files = self.files(name, version);
            for (format, content) in &files {
                history.files.insert((name.clone(), version, format), Sha256::of(content));
            }
            let metadata = json!({"title": self.title_of(name, version)});
            documents.push(Doc { r#ref: name, metadata, files });
        }
        history.states.push(state);
        write_collection(parent, &self.slug, &documents)
    }

    /// A document's files, which say whose they are.
    fn files(&self, name: &str, version: u32) -> Vec<(&'static str, Vec<u8>)> {
        let number = number_of(name);
        let line = format!("{name} of {} in version {version}, group{} . ", self.slug, number % GROUPS);
        let text = line.repeat(usize::try_from(5 + number % 97).unwrap());
        let mut files = vec![("txt", text.into_bytes())];
        if number.is_multiple_of(WITH_PDF) {
            let seed = Sha256::of(line.as_bytes()).0;
            let seed = u64::from_le_bytes(seed[..8].try_into().unwrap());
            files.push(("pdf", noise(seed, usize::try_from(100_000 + seed % 700_000).unwrap())));
        }
        files
    }

    fn title_of(&self, name: &str, version: u32) -> String {
        format!("{name} of {}, version {version}", self.slug)
    }

    /// SHA-256 of a document's title.
    pub(super) fn title(&self, name: &str, version: u32) -> Sha256 {
        Sha256::of(self.title_of(name, version).as_bytes())
    }

    /// Chooses a document to withdraw, and notes that it may be gone from now on.
    pub(super) fn begin_withdrawal(&self) -> Option<String> {
        let mut history = self.history.lock().unwrap();
        let mut state = history.states.last().unwrap().clone();
        let name = state.keys().find(|name| will_be_withdrawn(name)).cloned()?;
        state.remove(&name);
        history.states.push(state);
        history.withdrawn.insert(name.clone(), false);
        Some(name)
    }

    /// Notes that the last change was acknowledged.
    pub(super) fn acknowledge(&self) {
        let mut history = self.history.lock().unwrap();
        history.acknowledged = history.states.len() - 1;
        history.withdrawn.values_mut().for_each(|acknowledged| *acknowledged = true);
    }

    /// Begins an observation.
    pub(super) fn observe(&self) -> Since {
        Since(self.history.lock().unwrap().acknowledged)
    }

    /// Tells whether something was imported.
    pub(super) fn has_documents(&self) -> bool {
        self.history.lock().unwrap().acknowledged > 0
    }

    /// The newest state that was acknowledged.
    pub(super) fn current(&self) -> State {
        let history = self.history.lock().unwrap();
        history.states[history.acknowledged].clone()
    }

    /// The states that a docset of these members may be of, each with the selected documents only.
    pub(super) fn states_with(&self, since: Since, selection: &Selection, members: &BTreeSet<String>) -> Vec<State> {
        let history = self.history.lock().unwrap();
        let selected = |state: &State| -> State {
            state
                .iter()
                .filter(|(name, _)| selection.has(name))
                .map(|(name, version)| (name.clone(), *version))
                .collect()
        };
        let mut states: Vec<State> = history.states[since.0..].iter().map(selected).collect();
        states.retain(|state| state.keys().eq(members.iter()));
        states.dedup();
        states
    }

    /// SHA-256 of a file, if that version has one of the format.
    pub(super) fn file(&self, name: &str, version: u32, format: &'static str) -> Option<Sha256> {
        self.history.lock().unwrap().files.get(&(name.to_owned(), version, format)).copied()
    }

    /// Documents that are withdrawn for certain, or, with `maybe`, perhaps.
    pub(super) fn withdrawn(&self, maybe: bool) -> BTreeSet<String> {
        let history = self.history.lock().unwrap();
        history.withdrawn.iter().filter(|(_, sure)| maybe || **sure).map(|(name, _)| name.clone()).collect()
    }
}
