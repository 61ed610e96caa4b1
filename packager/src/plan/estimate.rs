//! The size of a package from its members alone: the plan's own arithmetic without a plan.

use std::io;

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Layout, Recipe};

use super::lists::Counted;
use super::sections::{sections, size};
use super::sum::{Sum, folder, tags};
use crate::manifest::{Member, Tombstone};

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
}

impl SizeEstimator {
    /// A package without files.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn new(recipe: &Recipe, about: Option<&About>) -> io::Result<Self> {
        Ok(Self { sum: Sum::new(recipe, about)? })
    }

    /// Adds a member with its files in the wanted formats. Members come in the order of their ids and files in that of their formats:
    /// it decides which offsets need 64 bits.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn add(&mut self, member: &Member) -> io::Result<()> {
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
        let description = self.sum.description(zero, zero, None);
        let tags = match (self.sum.counted_lists(), description) {
            (Some(lists), Some(description)) => tags(lists, &description),
            _ => Vec::new(),
        };
        let layout = self.sum.recipe.layout;
        let folder = folder(layout, &zero);
        let volumes = self.sum.volumes();
        let last = volumes.len() - 1;
        let archives = volumes.iter().enumerate().map(|(i, volume)| {
            let tags = if i == last { tags.clone() } else { Vec::new() };
            size(&sections(volume, &folder, tags))
        });
        Estimate { bytes: archives.fold(0, u64::saturating_add), exact: matches!(layout, Layout::Flat | Layout::Bag) }
    }
}
