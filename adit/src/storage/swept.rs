//! What a sweep has freed, for people and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Kinds of what a sweep frees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Package,
    Upload,
    Pack,
    Index,
    Scratch,
    Temporary,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Package, Self::Upload, Self::Pack, Self::Index, Self::Scratch, Self::Temporary];

    /// Its name in JSON.
    fn as_str(self) -> &'static str {
        match self {
            Self::Package => "packages",
            Self::Upload => "uploads",
            Self::Pack => "packs",
            Self::Index => "indexes",
            Self::Scratch => "scratch",
            Self::Temporary => "temporary",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Package => "objects of packages that are gone",
            Self::Upload => "unfinished uploads",
            Self::Pack => "packs",
            Self::Index => "objects of old indexes",
            Self::Scratch => "folders of dead processes in the search cache",
            Self::Temporary => "temporary files of dead processes",
        }
    }
}

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

/// What was freed, or would be, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) dry_run: bool,
    pub(super) freed: BTreeMap<Kind, Freed>,
    /// Slugs of collections that are being changed.
    pub(super) busy: Vec<String>,
    /// What could not be looked at, and why.
    pub(super) problems: Vec<String>,
}

impl Swept {
    pub(super) fn add(&mut self, kind: Kind, count: u64, bytes: u64) {
        let freed = self.freed.entry(kind).or_default();
        freed.count += count;
        freed.bytes += bytes;
    }

    /// Tells what is freed, each kind in one line.
    pub(super) fn lines(&self) -> Vec<String> {
        let what = if self.dry_run { "would be freed" } else { "freed" };
        let kinds = Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.freed.get(&kind)?)));
        let mut lines: Vec<String> = kinds
            .filter(|(_, freed)| freed.count > 0)
            .map(|(kind, Freed { count, bytes })| format!("{count} {} ({bytes} bytes) {what}", kind.describe()))
            .collect();
        if lines.is_empty() {
            lines.push("there is nothing to free".to_owned());
        }
        lines
    }

    /// Tells what was left out, each in one line.
    pub(super) fn warnings(&self) -> Vec<String> {
        let busy = self.busy.iter().map(|slug| format!("{slug} is being changed, and was left out; sweep again later"));
        busy.chain(self.problems.iter().cloned()).collect()
    }

    pub(super) fn report(&self) -> Value {
        let freed = Kind::ALL.into_iter().map(|kind| {
            let Freed { count, bytes } = self.freed.get(&kind).copied().unwrap_or_default();
            (kind.as_str().to_owned(), json!({"count": count, "bytes": bytes}))
        });
        let freed: Map<String, Value> = freed.collect();
        json!({"dry_run": self.dry_run, "freed": freed, "busy": self.busy, "problems": self.problems})
    }
}
