//! Ends searches: by a flag that all their loops ask, and by a budget that all their large
//! structures are charged to.
//!
//! A search runs on threads that nobody can stop from outside. So whatever runs long, or takes much
//! memory, asks [`SearchControl`]: scorers before each document, readers of dictionaries and
//! postings before each block, collectors before each stretch of hits. What was gathered when the
//! flag was set is thrown away, never shown.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{SearchError, SearchResult};

const MIB: usize = 1024 * 1024;

/// Bounds on one search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchLimits {
    /// Time after which it ends with [`SearchError::TimedOut`].
    pub time: Duration,
    /// Bytes that it may hold at once; beyond them it is refused with [`SearchError::Unsupported`].
    pub memory: usize,
}

impl Default for SearchLimits {
    /// A minute, as requests have. 64 MiB: what a phrase of frequent words takes in a text of 100
    /// MB, or all hits of two million documents in an order, and little enough for a search on each
    /// core beside all else.
    fn default() -> Self {
        Self { time: Duration::from_secs(60), memory: 64 * MIB }
    }
}

/// Tells work on another thread that nobody waits for it any more. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Sets the flag for good.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells that the flag is set.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes a guard that sets the flag when it is dropped, as it is with the future of the request
    /// that holds it.
    pub fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

/// Sets its flag when it is dropped.
#[derive(Debug)]
#[must_use = "the flag is set when this is dropped"]
pub struct StopOnDrop(StopFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Parts of a search that take memory by how it is written and by what the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Words,
    Phrases,
    Prefixes,
    SimilarWords,
    Values,
    Page,
    Facets,
    Answer,
}

impl Part {
    /// The part in words, and how to ask for less of it.
    fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::Words => ("its words and groups", "write fewer of them"),
            Self::Phrases => {
                ("the words of its phrases", "write fewer or shorter phrases, or leave out frequent words")
            }
            Self::Prefixes => ("its prefixes", "write fewer words with *, or more letters before the *"),
            Self::SimilarWords => ("its similar words", "write fewer or shorter words with ~"),
            Self::Values => ("its lists of values", "write fewer lists"),
            Self::Page => ("so deep a page", "make a docset of it, or ask for the whole answer in lines"),
            Self::Facets => ("its facets", "ask for fewer facets at once"),
            Self::Answer => ("all its hits in an order", "narrow the query, or make a docset of it"),
        }
    }
}

/// The flag and the budget of one search. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SearchControl(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    stop: StopFlag,
    memory: usize,
    used: AtomicUsize,
    /// The part that was refused first.
    refused: OnceLock<Part>,
}

impl SearchControl {
    /// Begins a search that may hold so many bytes.
    pub(super) fn new(memory: usize) -> Self {
        let (stop, used, refused) = (StopFlag::default(), AtomicUsize::new(0), OnceLock::new());
        Self(Arc::new(Budget { stop, memory, used, refused }))
    }

    /// The flag alone.
    pub(super) fn flag(&self) -> &StopFlag {
        &self.0.stop
    }

    /// Tells that nobody waits for the search, or that it was refused.
    pub(super) fn is_stopped(&self) -> bool {
        self.0.stop.is_stopped()
    }

    /// The whole budget in bytes.
    pub(super) fn memory(&self) -> usize {
        self.0.memory
    }

    /// Charges nothing yet to the budget for a part; see [`MemoryCharge::grow`].
    pub(super) fn open_charge(&self, part: Part) -> MemoryCharge {
        MemoryCharge { control: self.clone(), part, bytes: 0 }
    }

    /// Charges bytes for a part of the search; `None`, and the search ends, where the budget has no
    /// room for them.
    pub(super) fn charge(&self, part: Part, bytes: usize) -> Option<MemoryCharge> {
        let mut charge = self.open_charge(part);
        charge.grow(bytes).then_some(charge)
    }

    /// Says why the search has no answer, if it has none.
    ///
    /// # Errors
    /// [`SearchError::Unsupported`] where it was refused, [`SearchError::TimedOut`] where nobody
    /// waits for it.
    pub(super) fn check(&self) -> SearchResult<()> {
        if let Some(part) = self.0.refused.get() {
            let (what, remedy) = part.advice();
            let most = self.0.memory / MIB;
            let detail = format!("the search would take more than {most} MiB of memory, which {what} need: {remedy}");
            return Err(SearchError::Unsupported(detail));
        }
        if self.is_stopped() { Err(SearchError::TimedOut) } else { Ok(()) }
    }
}

/// Bytes that are charged to a search's budget until this is dropped.
#[derive(Debug)]
pub(super) struct MemoryCharge {
    control: SearchControl,
    part: Part,
    bytes: usize,
}

impl MemoryCharge {
    /// Charges more bytes; false, and the search ends, where the budget has no room for them.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let budget = &*self.control.0;
        let used = budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if used.saturating_add(bytes) <= budget.memory {
            return true;
        }
        _ = budget.refused.set(self.part);
        budget.stop.stop();
        false
    }

    /// The bytes that are charged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges as many bytes in all, if it has not charged so many yet.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes || self.grow(bytes - self.bytes)
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.control.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beyond_the_budget_ends_the_search_and_names_the_part() {
        let control = SearchControl::new(2 * MIB);
        let first = control.charge(Part::Phrases, MIB).unwrap();
        assert!(control.charge(Part::Facets, MIB).is_some(), "and given back at once");
        control.check().unwrap();
        drop(first);
        let mut charge = control.charge(Part::Words, MIB).unwrap();
        assert!(charge.grow_to(MIB) && !control.is_stopped());
        assert!(!charge.grow_to(3 * MIB) && control.is_stopped());
        assert!(control.charge(Part::Page, MIB).is_none());
        let error = control.check().unwrap_err().to_string();
        assert!(error.contains("2 MiB") && error.contains("words and groups"), "{error}");
        drop(charge);
        assert_eq!(control.0.used.load(Ordering::Relaxed), 0, "all is given back");
    }

    #[test]
    fn a_dropped_guard_sets_the_flag() {
        let control = SearchControl::new(MIB);
        let guard = control.flag().stop_on_drop();
        control.check().unwrap();
        drop(guard);
        assert!(matches!(control.check(), Err(SearchError::TimedOut)));
    }
}
