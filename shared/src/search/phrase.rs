//! Phrases: of words side by side, of words that may stand apart, or whose last word is only begun.
//! Tantivy's own run to the end of the index whoever waits for them, and of the latter two find too
//! much or too little, depending on which words are frequent.
//!
//! What such a phrase means is said at [`super::Phrase`]; which words it has, in [`super::lower`].

mod matching;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{Bm25Weight, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Score, SeekDangerResult, SegmentReader, TERMINATED, TantivyError, Term};

use super::control::{MemoryCharge, Part, SearchControl};
use matching::Matcher;

/// Most words of a segment that the last word of a phrase may be the beginning of.
const MAX_EXPANSIONS: usize = 1024;
/// Bytes that a list of documents takes while it is read: itself, and a block of positions with
/// what it is read by.
const POSTINGS_BYTES: usize = size_of::<SegmentPostings>() + 2048;

/// A phrase of two words or more in one field.
#[derive(Debug, Clone)]
pub(super) struct LoosePhrase {
    /// The field.
    pub(super) field: Field,
    /// The words.
    pub(super) terms: Vec<Term>,
    /// See [`super::Phrase::slop`].
    pub(super) slop: u32,
    /// Whether the last of the words may be the beginning of one.
    pub(super) last_is_prefix: bool,
    /// What ends it.
    pub(super) control: SearchControl,
}

impl Query for LoosePhrase {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let whole = self.terms.len() - usize::from(self.last_is_prefix);
        let similarity = match scoring {
            EnableScoring::Enabled { statistics_provider, .. } => {
                Some(Bm25Weight::for_terms(statistics_provider, &self.terms[..whole])?)
            }
            EnableScoring::Disabled { .. } => None,
        };
        Ok(Box::new(LooseWeight { phrase: self.clone(), similarity }))
    }
}

struct LooseWeight {
    phrase: LoosePhrase,
    similarity: Option<Bm25Weight>,
}

/// The different words of a phrase in a segment.
struct SegmentWords {
    words: Vec<Word>,
    /// For each word of the phrase which of them it is.
    of: Vec<usize>,
}

impl LooseWeight {
    /// Where the words stand in a segment, equal ones once; `None` where one of them does not, or
    /// for want of memory.
    fn words(&self, reader: &SegmentReader, charge: &mut MemoryCharge) -> tantivy::Result<Option<SegmentWords>> {
        let index = reader.inverted_index(self.phrase.field)?;
        let terms = &self.phrase.terms;
        let mut found = SegmentWords { words: Vec::new(), of: Vec::with_capacity(terms.len()) };
        for (at, term) in terms.iter().enumerate() {
            let begun = self.phrase.last_is_prefix && at + 1 == terms.len();
            let known = terms[..at].iter().position(|other| other == term).filter(|_| !begun);
            if let Some(same) = known {
                found.of.push(found.of[same]);
                continue;
            }
            let postings = if begun {
                self.beginning_with(reader, term, charge)?
            } else if charge.grow(POSTINGS_BYTES) {
                Vec::from_iter(index.read_postings(term, IndexRecordOption::WithFreqsAndPositions)?)
            } else {
                Vec::new()
            };
            if postings.is_empty() {
                return Ok(None);
            }
            found.of.push(found.words.len());
            found.words.push(Word { postings });
        }
        Ok(Some(found))
    }

    fn beginning_with(
        &self,
        reader: &SegmentReader,
        prefix: &Term,
        charge: &mut MemoryCharge,
    ) -> tantivy::Result<Vec<SegmentPostings>> {
        let index = reader.inverted_index(self.phrase.field)?;
        let prefix = prefix.serialized_value_bytes();
        let mut found = Vec::new();
        let mut terms = index.terms().range().ge(prefix).into_stream()?;
        while terms.advance() && terms.key().starts_with(prefix) {
            if found.len() == MAX_EXPANSIONS {
                return Err(TantivyError::InvalidArgument(format!(
                    "more than {MAX_EXPANSIONS} words begin with {:?}; write more of it, or the whole word",
                    String::from_utf8_lossy(prefix)
                )));
            }
            if !charge.grow(POSTINGS_BYTES) || self.phrase.control.is_stopped() {
                return Ok(Vec::new());
            }
            found.push(index.read_postings_from_terminfo(terms.value(), IndexRecordOption::WithFreqsAndPositions)?);
        }
        Ok(found)
    }

    /// A scorer that stands at no document yet; `None` where the segment has none.
    fn unplaced(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Option<LooseScorer>> {
        let control = &self.phrase.control;
        let mut charge = control.open_charge(Part::Phrases);
        if control.is_stopped() {
            return Ok(None);
        }
        let Some(SegmentWords { words, of }) = self.words(reader, &mut charge)? else { return Ok(None) };
        let norms = reader.fieldnorms_readers().get_field(self.phrase.field)?;
        Ok(Some(LooseScorer {
            doc: 0,
            matcher: Matcher::new(of, self.phrase.slop, self.phrase.last_is_prefix),
            lists: charge.bytes(),
            frequencies: Vec::with_capacity(words.len()),
            words,
            similarity: self.similarity.as_ref().map(|similarity| similarity.boost_by(boost)),
            norms: norms.unwrap_or_else(|| FieldNormReader::constant(reader.max_doc(), 1)),
            count: 0,
            control: control.clone(),
            charge,
        }))
    }
}

impl Weight for LooseWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(mut scorer) = self.unplaced(reader, boost)? else { return Ok(Box::new(EmptyScorer)) };
        scorer.find(0);
        Ok(Box::new(scorer))
    }

    fn scorer_danger(
        &self,
        reader: &SegmentReader,
        target: DocId,
        boost: Score,
    ) -> tantivy::Result<(SeekDangerResult, Box<dyn Scorer>)> {
        match self.unplaced(reader, boost)? {
            None => Ok((SeekDangerResult::SeekLowerBound(TERMINATED), Box::new(EmptyScorer))),
            Some(mut scorer) => Ok((scorer.test(target), Box::new(scorer))),
        }
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument(format!("document {doc} has no such phrase")));
        }
        Ok(Explanation::new("loose phrase", scorer.score()))
    }
}

/// One word of the phrase, or all words that begin like it.
struct Word {
    postings: Vec<SegmentPostings>,
}

impl Word {
    /// The first document from `target` on that has it.
    fn seek(&mut self, target: DocId) -> DocId {
        let mut first = TERMINATED;
        for postings in &mut self.postings {
            if postings.doc() < target {
                postings.seek(target);
            }
            first = first.min(postings.doc());
        }
        first
    }

    /// How often it stands in a document, where [`Word::seek`] has gone.
    fn frequency(&self, doc: DocId) -> usize {
        let here = self.postings.iter().filter(|postings| postings.doc() == doc);
        here.map(|postings| postings.term_freq() as usize).sum()
    }

    /// Its places in the document, ascending.
    fn positions(&mut self, doc: DocId, positions: &mut Vec<u32>) {
        positions.clear();
        for postings in self.postings.iter_mut().filter(|postings| postings.doc() == doc) {
            postings.append_positions_with_offset(0, positions);
        }
        if self.postings.len() > 1 {
            positions.sort_unstable();
        }
    }
}

struct LooseScorer {
    doc: DocId,
    /// The different words.
    words: Vec<Word>,
    /// How often each of them stands in the document.
    frequencies: Vec<usize>,
    matcher: Matcher,
    similarity: Option<Bm25Weight>,
    norms: FieldNormReader,
    /// How often the document has the phrase; at least once where nobody asks for scores.
    count: u32,
    control: SearchControl,
    /// Bytes of the lists of documents; the rest of `charge` is for the places in one document.
    lists: usize,
    charge: MemoryCharge,
}

impl LooseScorer {
    /// Goes to the first document from `target` on that has the phrase.
    fn find(&mut self, mut target: DocId) -> DocId {
        loop {
            self.doc = self.with_all_words(target);
            if self.doc == TERMINATED {
                return TERMINATED;
            }
            self.count = self.count_in(self.doc);
            if self.count > 0 {
                return self.doc;
            }
            target = self.doc + 1;
        }
    }

    /// Goes to a document, and tells whether it has the phrase.
    fn test(&mut self, target: DocId) -> SeekDangerResult {
        let first = self.with_all_words(target);
        (self.doc, self.count) = (target, 0);
        if first != target || first == TERMINATED {
            return SeekDangerResult::SeekLowerBound(first);
        }
        self.count = self.count_in(target);
        if self.count > 0 { SeekDangerResult::Found } else { SeekDangerResult::SeekLowerBound(target + 1) }
    }

    fn with_all_words(&mut self, mut target: DocId) -> DocId {
        while !self.control.is_stopped() {
            let furthest = self.words.iter_mut().map(|word| word.seek(target)).max().unwrap_or(TERMINATED);
            if furthest == target || furthest == TERMINATED {
                return furthest;
            }
            target = furthest;
        }
        TERMINATED
    }

    /// How often a document that has all words has the phrase.
    fn count_in(&mut self, doc: DocId) -> u32 {
        let (words, frequencies) = (&mut self.words, &mut self.frequencies);
        frequencies.clear();
        frequencies.extend(words.iter().map(|word| word.frequency(doc)));
        if !self.charge.grow_to(self.lists + self.matcher.bytes_for(frequencies)) {
            return 0;
        }
        let once = self.similarity.is_none();
        let read = |word: usize, places: &mut Vec<u32>| {
            places.clear();
            places.reserve_exact(frequencies[word]);
            words[word].positions(doc, places);
        };
        self.matcher.count(frequencies, read, once, self.control.flag())
    }
}

impl DocSet for LooseScorer {
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED { TERMINATED } else { self.find(self.doc + 1) }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target { self.find(target) } else { self.doc }
    }

    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        if self.doc > target || target == TERMINATED {
            return SeekDangerResult::SeekLowerBound(self.doc.max(target));
        }
        // An exclusion may ask for one document twice, and be told twice that it has no phrase.
        if self.doc == target && self.count > 0 { SeekDangerResult::Found } else { self.test(target) }
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        let hint = |word: &Word| word.postings.iter().map(DocSet::size_hint).fold(0, u32::saturating_add);
        self.words.iter().map(hint).min().unwrap_or_default() / 10
    }

    fn cost(&self) -> u64 {
        // Places are costly to read: let other clauses go first.
        u64::from(self.size_hint()) * 100 * self.words.len() as u64
    }
}

impl Scorer for LooseScorer {
    fn score(&mut self) -> Score {
        let norm = self.norms.fieldnorm_id(self.doc);
        self.similarity.as_ref().map_or(1.0, |similarity| similarity.score(norm, self.count))
    }
}
