//! Phrases whose words may stand apart, or whose last word is only begun. Tantivy's own find too much and too little of the former, depending on
//! which words are frequent, and of the latter only as many as it likes.
//!
//! What such a phrase means is said at [`super::Phrase`]; which words it has, in [`super::lower`].

mod matching;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{Bm25Weight, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError, Term};

use matching::Matcher;

/// Most words of a segment that the last word of a phrase may be the beginning of: each takes some ten kilobytes.
const MAX_EXPANSIONS: usize = 1024;

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

impl LooseWeight {
    /// Where the words stand in a segment; `None` where one of them does not.
    fn words(&self, reader: &SegmentReader) -> tantivy::Result<Option<Vec<Word>>> {
        let index = reader.inverted_index(self.phrase.field)?;
        let mut words = Vec::with_capacity(self.phrase.terms.len());
        for (at, term) in self.phrase.terms.iter().enumerate() {
            let begun = self.phrase.last_is_prefix && at + 1 == self.phrase.terms.len();
            let postings = if begun {
                self.beginning_with(reader, term)?
            } else {
                Vec::from_iter(index.read_postings(term, IndexRecordOption::WithFreqsAndPositions)?)
            };
            if postings.is_empty() {
                return Ok(None);
            }
            words.push(Word { postings });
        }
        Ok(Some(words))
    }

    fn beginning_with(&self, reader: &SegmentReader, prefix: &Term) -> tantivy::Result<Vec<SegmentPostings>> {
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
            found.push(index.read_postings_from_terminfo(terms.value(), IndexRecordOption::WithFreqsAndPositions)?);
        }
        Ok(found)
    }
}

impl Weight for LooseWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(words) = self.words(reader)? else { return Ok(Box::new(EmptyScorer)) };
        let field = self.phrase.field;
        let norms = reader.fieldnorms_readers().get_field(field)?;
        let mut scorer = LooseScorer {
            doc: 0,
            words,
            matcher: Matcher::new(&self.phrase.terms, self.phrase.slop),
            similarity: self.similarity.as_ref().map(|similarity| similarity.boost_by(boost)),
            norms: norms.unwrap_or_else(|| FieldNormReader::constant(reader.max_doc(), 1)),
            count: 0,
        };
        scorer.find(0);
        Ok(Box::new(scorer))
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
    words: Vec<Word>,
    matcher: Matcher,
    similarity: Option<Bm25Weight>,
    norms: FieldNormReader,
    /// How often the document has the phrase; at least once where nobody asks for scores.
    count: u32,
}

impl LooseScorer {
    /// Goes to the first document from `target` on that has the phrase.
    fn find(&mut self, mut target: DocId) -> DocId {
        loop {
            self.doc = self.with_all_words(target);
            if self.doc == TERMINATED {
                return TERMINATED;
            }
            for (at, word) in self.words.iter_mut().enumerate() {
                word.positions(self.doc, &mut self.matcher.places[at]);
            }
            self.count = self.matcher.count(self.similarity.is_none());
            if self.count > 0 {
                return self.doc;
            }
            target = self.doc + 1;
        }
    }

    fn with_all_words(&mut self, mut target: DocId) -> DocId {
        loop {
            let furthest = self.words.iter_mut().map(|word| word.seek(target)).max().unwrap_or(TERMINATED);
            if furthest == target || furthest == TERMINATED {
                return furthest;
            }
            target = furthest;
        }
    }
}

impl DocSet for LooseScorer {
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED { TERMINATED } else { self.find(self.doc + 1) }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target { self.find(target) } else { self.doc }
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
