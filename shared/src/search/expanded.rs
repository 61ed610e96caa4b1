//! Documents with one of the terms of a dictionary that a part of a query stands for: those that
//! begin in one way, those that are like a word, those of a list. All weigh the same.
//!
//! Tantivy's own queries for that build an automaton of a kilobyte for each letter of a prefix, and
//! read dictionary and postings to their end, whoever waits for it.

use std::sync::{Arc, LazyLock, OnceLock};

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy::index::InvertedIndexReader;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::query::{BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet as _, Score, SegmentReader, TantivyError, Term};
use tantivy_fst::Automaton;

use super::control::{MemoryCharge, Part, SearchControl, StopFlag};
use super::controlled::ControlledScorer;

/// Bytes of one state of an automaton: where each byte leads, and how far it is from the word.
const STATE_BYTES: usize = 256 * size_of::<u32>() + size_of::<Distance>();
/// Bytes of a scorer besides its set of documents.
const SCORER_BYTES: usize = 512;

/// Builders of automata for words that are one and two edits away; swaps of neighbours are one
/// edit.
static BUILDERS: [LazyLock<LevenshteinAutomatonBuilder>; 2] = [
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(1, true)),
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(2, true)),
];

/// Which terms of a field are meant.
#[derive(Debug, Clone)]
pub(super) enum Expansion {
    /// Those that begin so.
    Beginning(Arc<str>),
    /// Those that are like a word.
    Similar(Arc<SimilarWord>),
    /// These.
    Listed(Arc<[Term]>),
}

/// A word and the words that are like it. Its automaton is built once for all fields and segments.
#[derive(Debug)]
pub(super) struct SimilarWord {
    word: String,
    edits: u8,
    automaton: OnceLock<LikeWord>,
}

struct LikeWord {
    dfa: DFA,
    _charge: MemoryCharge,
}

impl std::fmt::Debug for LikeWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LikeWord").field("states", &self.dfa.num_states()).finish_non_exhaustive()
    }
}

impl SimilarWord {
    /// The words that are one edit, or two, away from this one.
    pub(super) fn new(word: &str, edits: u8) -> Self {
        Self { word: word.to_owned(), edits, automaton: OnceLock::new() }
    }

    fn automaton(&self, control: &SearchControl) -> &DFA {
        let build = || {
            let dfa = BUILDERS[usize::from(self.edits.clamp(1, 2)) - 1].build_dfa(&self.word);
            let mut charge = control.open_charge(Part::SimilarWords);
            charge.grow(dfa.num_states() * STATE_BYTES);
            LikeWord { dfa, _charge: charge }
        };
        &self.automaton.get_or_init(build).dfa
    }
}

/// An automaton that leads nowhere once the flag is set.
struct Stoppable<'a> {
    dfa: &'a DFA,
    stop: &'a StopFlag,
}

impl Automaton for Stoppable<'_> {
    type State = u32;

    fn start(&self) -> u32 {
        self.dfa.initial_state()
    }

    fn is_match(&self, state: &u32) -> bool {
        matches!(self.dfa.distance(*state), Distance::Exact(_))
    }

    fn can_match(&self, state: &u32) -> bool {
        *state != SINK_STATE && !self.stop.is_stopped()
    }

    fn accept(&self, state: &u32, byte: u8) -> u32 {
        self.dfa.transition(*state, byte)
    }
}

/// Documents with one of the terms that are meant in a field.
#[derive(Debug, Clone)]
pub(super) struct ExpandedTerms {
    /// The field.
    pub(super) field: Field,
    /// The terms.
    pub(super) terms: Expansion,
    /// What ends it.
    pub(super) control: SearchControl,
}

impl Query for ExpandedTerms {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(ExpandedWeight(self.clone())))
    }
}

struct ExpandedWeight(ExpandedTerms);

impl ExpandedWeight {
    fn part(&self) -> Part {
        match self.0.terms {
            Expansion::Beginning(_) => Part::Prefixes,
            Expansion::Similar(_) => Part::SimilarWords,
            Expansion::Listed(_) => Part::Values,
        }
    }

    /// Adds the documents of all terms that are meant.
    fn fill(&self, found: &mut FoundDocs<'_>) -> tantivy::Result<()> {
        let (index, control) = (found.index, found.control);
        match &self.0.terms {
            Expansion::Beginning(start) => {
                let mut terms = index.terms().range().ge(start.as_bytes()).into_stream()?;
                while terms.advance() && terms.key().starts_with(start.as_bytes()) && found.add(terms.value())? {}
            }
            Expansion::Similar(word) => {
                let automaton = Stoppable { dfa: word.automaton(control), stop: control.flag() };
                let mut terms = index.terms().search(automaton).without_keys().into_stream()?;
                while terms.advance() && found.add(terms.value())? {}
            }
            Expansion::Listed(terms) => {
                for term in terms.iter() {
                    let info = index.get_term_info(term)?;
                    if control.is_stopped() || !info.map_or(Ok(true), |info| found.add(&info))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The documents of a segment that have one of the terms so far.
struct FoundDocs<'a> {
    index: &'a InvertedIndexReader,
    control: &'a SearchControl,
    docs: BitSet,
    /// Used again for each term.
    postings: Option<BlockSegmentPostings>,
}

impl FoundDocs<'_> {
    /// Adds the documents of a term; false once the search has ended.
    fn add(&mut self, term: &TermInfo) -> tantivy::Result<bool> {
        let postings = match &mut self.postings {
            Some(postings) => {
                self.index.reset_block_postings_from_terminfo(term, postings)?;
                postings
            }
            none => none.insert(self.index.read_block_postings_from_terminfo(term, IndexRecordOption::Basic)?),
        };
        while !postings.docs().is_empty() {
            if self.control.is_stopped() {
                return Ok(false);
            }
            for doc in postings.docs() {
                self.docs.insert(*doc);
            }
            postings.advance();
        }
        Ok(true)
    }
}

impl Weight for ExpandedWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let ExpandedTerms { field, control, .. } = &self.0;
        let bytes = reader.max_doc() as usize / 8 + SCORER_BYTES;
        let Some(charge) = control.charge(self.part(), bytes) else { return Ok(Box::new(EmptyScorer)) };
        let index = reader.inverted_index(*field)?;
        let docs = BitSet::with_max_value(reader.max_doc());
        let mut found = FoundDocs { index: &index, control, docs, postings: None };
        self.fill(&mut found)?;
        let scorer = ConstScorer::new(BitSetDocSet::from(found.docs), boost);
        Ok(Box::new(ControlledScorer::charged(Box::new(scorer), control, charge)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument(format!("document {doc} has none of the terms")));
        }
        Ok(Explanation::new("expanded terms", scorer.score()))
    }
}
