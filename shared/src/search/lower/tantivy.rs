//! What a tree means in Tantivy's queries.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::{Bound as Ends, Range};
use std::sync::Arc;

use tantivy::Term;
use tantivy::postings::SegmentPostings;
use tantivy::query::{AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, RangeQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};

use super::super::control::SearchControl;
use super::super::controlled::ControlledQuery;
use super::super::expanded::{ExpandedTerms, Expansion, SimilarWord};
use super::super::phrase::LoosePhrase;
use super::super::schema::{FieldSpec, ISSUED, Kind, Layout};
use super::{Clauses, Form, Target};

/// Bytes that a word takes while a segment is searched: its list of documents, with what reads and
/// weighs it.
const WORD_BYTES: usize = size_of::<SegmentPostings>() + 1024;
/// Bytes that a clause takes meanwhile: a union sums the weights of 4,096 documents, and marks
/// them.
const CLAUSE_BYTES: usize = 4096 * size_of::<f32>() + 4096 / 8 + 1024;
/// Most words whose union may run without looking at the flag: it reads up to 4,096 documents of
/// each at once.
const PLAIN_UNION: usize = 512;

impl Layout {
    /// The field of the index in which words of that form are looked up.
    fn field(&self, field: &FieldSpec, form: Form) -> Field {
        let handle = self.handles[field.name];
        if field.kind == Kind::Text && form == Form::Exact { handle.exact } else { handle.field }
    }
}

/// How a query of Tantivy ends when its search does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It looks at the flag.
    ByItself,
    /// It is a word: where it finds documents, others may look at the flag.
    AsWord,
    /// It has to be wrapped.
    Wrapped,
}

/// A query of Tantivy.
pub(in crate::search) struct IndexClause {
    query: Box<dyn Query>,
    ends: Ending,
}

impl IndexClause {
    /// The query, wrapped so that it ends with its search wherever it stands.
    pub(in crate::search) fn controlled(self, control: &SearchControl) -> Box<dyn Query> {
        match self.ends {
            Ending::ByItself => self.query,
            Ending::AsWord | Ending::Wrapped => Box::new(ControlledQuery::new(self.query, control)),
        }
    }
}

/// Queries on an index of one layout that end with their search.
pub(in crate::search) struct IndexQueries<'a> {
    layout: &'static Layout,
    control: &'a SearchControl,
    /// Words that are looked up with others that are like them: each in several fields.
    similar: RefCell<HashMap<(String, u8), Arc<SimilarWord>>>,
    bytes: Cell<usize>,
}

impl<'a> IndexQueries<'a> {
    pub(in crate::search) fn new(layout: &'static Layout, control: &'a SearchControl) -> Self {
        Self { layout, control, similar: RefCell::default(), bytes: Cell::new(0) }
    }

    /// Bytes that all words and clauses take for each segment that is searched at the same time.
    pub(in crate::search) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    fn count_bytes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn word(&self, field: Field, text: &str) -> IndexClause {
        self.count_bytes(WORD_BYTES);
        let term = Term::from_field_text(field, text);
        IndexClause { query: Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)), ends: Ending::AsWord }
    }

    fn expanded(&self, field: Field, terms: Expansion) -> IndexClause {
        let control = self.control.clone();
        IndexClause { query: Box::new(ExpandedTerms { field, terms, control }), ends: Ending::ByItself }
    }
}

impl Target for IndexQueries<'_> {
    type Clause = IndexClause;

    fn all(&self) -> IndexClause {
        IndexClause { query: Box::new(AllQuery), ends: Ending::Wrapped }
    }

    fn term(&self, field: &'static FieldSpec, form: Form, term: &str) -> IndexClause {
        self.word(self.layout.field(field, form), term)
    }

    fn similar(&self, field: &'static FieldSpec, word: &str, edits: u8) -> IndexClause {
        let mut similar = self.similar.borrow_mut();
        let known = similar.entry((word.to_owned(), edits));
        let word = known.or_insert_with(|| Arc::new(SimilarWord::new(word, edits)));
        self.expanded(self.layout.field(field, Form::Exact), Expansion::Similar(Arc::clone(word)))
    }

    fn phrase(
        &self,
        field: &'static FieldSpec,
        form: Form,
        words: &[String],
        slop: u32,
        last_is_prefix: bool,
    ) -> IndexClause {
        let field = self.layout.field(field, form);
        let terms: Vec<Term> = words.iter().map(|word| Term::from_field_text(field, word)).collect();
        let control = self.control.clone();
        let phrase = LoosePhrase { field, terms, slop, last_is_prefix, control };
        IndexClause { query: Box::new(phrase), ends: Ending::ByItself }
    }

    fn beginning(&self, field: &'static FieldSpec, start: &str) -> IndexClause {
        self.expanded(self.layout.field(field, Form::Exact), Expansion::Beginning(start.into()))
    }

    fn one_of(&self, field: &'static FieldSpec, values: Vec<String>) -> IndexClause {
        let field = self.layout.field(field, Form::Exact);
        let mut terms: Vec<Term> = values.iter().map(|value| Term::from_field_text(field, value)).collect();
        // In the order of the dictionary, each once.
        terms.sort_unstable();
        terms.dedup();
        self.expanded(field, Expansion::Listed(terms.into()))
    }

    fn issued(&self, seconds: Range<Option<i64>>) -> IndexClause {
        let at = |seconds| Term::from_field_i64(self.layout.handles[ISSUED].field, seconds);
        let lower = seconds.start.map_or(Ends::Unbounded, |start| Ends::Included(at(start)));
        let upper = seconds.end.map_or(Ends::Unbounded, |end| Ends::Excluded(at(end)));
        IndexClause { query: Box::new(RangeQuery::new(lower, upper)), ends: Ending::Wrapped }
    }

    fn filled(&self, field: &'static FieldSpec) -> IndexClause {
        self.word(self.layout.has, field.name)
    }

    fn of_access(&self, terms: Vec<String>) -> IndexClause {
        let field = self.layout.access;
        if let [term] = terms.as_slice() {
            return self.word(field, term);
        }
        let mut terms: Vec<Term> = terms.iter().map(|term| Term::from_field_text(field, term)).collect();
        terms.sort_unstable();
        self.expanded(field, Expansion::Listed(terms.into()))
    }

    fn joined(&self, clauses: Clauses<IndexClause>) -> IndexClause {
        let Clauses { must, filter, should, must_not, need } = clauses;
        self.count_bytes(CLAUSE_BYTES);
        // A union finds a document with each look at its words; anything else may look at them for
        // long and find none.
        let union = must.is_empty() && filter.is_empty() && must_not.is_empty() && need <= 1;
        let plain = union && should.len() <= PLAIN_UNION;
        let wrapped = |clause: IndexClause| match clause.ends {
            Ending::AsWord if plain => clause.query,
            _ => clause.controlled(self.control),
        };
        let unweighed = filter
            .into_iter()
            .map(|clause| -> Box<dyn Query> { Box::new(ConstScoreQuery::new(clause.controlled(self.control), 0.0)) });
        let mut joined: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        joined.extend(must.into_iter().map(wrapped).chain(unweighed).map(|clause| (Occur::Must, clause)));
        joined.extend(should.into_iter().map(wrapped).map(|clause| (Occur::Should, clause)));
        joined.extend(must_not.into_iter().map(wrapped).map(|clause| (Occur::MustNot, clause)));
        match joined.as_slice() {
            [(Occur::Must | Occur::Should, _)] => IndexClause { query: joined.remove(0).1, ends: Ending::Wrapped },
            _ => {
                let query = BooleanQuery::with_minimum_required_clauses(joined, need);
                IndexClause { query: Box::new(query), ends: Ending::Wrapped }
            }
        }
    }

    fn boosted(&self, clause: IndexClause, boost: f32) -> IndexClause {
        IndexClause { query: Box::new(BoostQuery::new(clause.query, boost)), ends: clause.ends }
    }
}
