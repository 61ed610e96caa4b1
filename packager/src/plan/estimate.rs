//! The size of a package from its members alone: the plan's own arithmetic without a plan.

use std::io;

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Layout, Recipe};

use super::lists::Counted;
use super::sections::{sections, size};
use super::streams::{compression, index_bound, tar_len};
use super::sum::{Sum, folder, tags};
use crate::manifest::{Member, Tombstone};
use crate::stream::{Bound, Document, Table, compressed};
use serde_json::Map;

/// How many bytes a package will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// All archives and shards together.
    pub bytes: u64,
    /// Whether it is exactly that, and not at most.
    pub exact: bool,
}

/// Adds a package up without building it.
#[derive(Debug)]
pub struct SizeEstimator {
    sum: Sum<Counted>,
    /// Of a table.
    rows: Option<Bound>,
}

impl SizeEstimator {
    /// A package without files; `marked` where members may be withheld, or not open.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn new(recipe: &Recipe, about: Option<&About>, marked: bool) -> io::Result<Self> {
        let table = match recipe.layout {
            Layout::Jsonl => Some(Table::Jsonl(compression(recipe))),
            Layout::Parquet => Some(Table::Parquet),
            Layout::Flat | Layout::Bag | Layout::TarZst => None,
        };
        let rows = table.map(|table| Bound::new(table, &recipe.formats, marked));
        Ok(Self { sum: Sum::new(recipe, about, marked)?, rows })
    }

    /// Adds a member with its files in the wanted formats. Members come in the order of their ids and files in that of their formats:
    /// it decides which offsets need 64 bits.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn add(&mut self, member: &Member) -> io::Result<()> {
        if let Some(rows) = self.rows.as_mut().filter(|_| !member.files.is_empty()) {
            let license = self.sum.about.as_ref().and_then(|about| about.license.as_deref());
            rows.add(&Document::of(member, license, &Map::new(), self.sum.marked));
        }
        self.sum.add(member, 0, |_| Ok(0))
    }

    /// Adds files that a delta says to be gone.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn bury(&mut self, gone: &Tombstone) -> io::Result<()> {
        self.sum.bury(gone)
    }

    /// The package's size.
    #[must_use]
    pub fn finish(&self) -> Estimate {
        let zero = Sha256([0; 32]);
        let recipe = &self.sum.recipe;
        let described = self.sum.counted_lists().zip(self.sum.description(zero, zero, None));
        let (folder, volumes) = (folder(recipe.layout, &zero), self.sum.volumes());
        let exact = matches!(recipe.layout, Layout::Flat | Layout::Bag);
        if let (Some(rows), Some((listed, description))) = (&self.rows, &described) {
            let index = index_bound(listed.clone(), description, recipe, &folder, volumes.len());
            return Estimate { bytes: rows.finish(volumes.len() as u64).saturating_add(index), exact };
        }
        let tags = described.map_or_else(Vec::new, |(listed, description)| tags(listed, &description));
        let last = volumes.len() - 1;
        let archives = volumes.iter().enumerate().map(|(i, volume)| {
            let tags = if i == last { tags.clone() } else { Vec::new() };
            if exact { size(&sections(volume, &folder, tags)) } else { compressed(tar_len(volume, &folder, &tags)) }
        });
        Estimate { bytes: archives.fold(0, u64::saturating_add), exact }
    }
}
