//! What a tree means in Tantivy's queries.

use std::ops::{Bound as Ends, Range};

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, FuzzyTermQuery, Occur, PhraseQuery, Query, RangeQuery,
    TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::super::phrase::LoosePhrase;
use super::super::schema::{FieldSpec, ISSUED, Kind, Layout};
use super::{Clauses, Form, Target};

impl Layout {
    /// The field of the index in which words of that form are looked up.
    fn field(&self, field: &FieldSpec, form: Form) -> Field {
        let handle = self.handles[field.name];
        if field.kind == Kind::Text && form == Form::Exact { handle.exact } else { handle.field }
    }
}

impl Target for Layout {
    type Clause = Box<dyn Query>;

    fn all(&self) -> Box<dyn Query> {
        Box::new(AllQuery)
    }

    fn term(&self, field: &'static FieldSpec, form: Form, term: &str) -> Box<dyn Query> {
        one(self.field(field, form), term)
    }

    fn similar(&self, field: &'static FieldSpec, word: &str, edits: u8) -> Box<dyn Query> {
        Box::new(FuzzyTermQuery::new(Term::from_field_text(self.field(field, Form::Exact), word), edits, true))
    }

    fn phrase(
        &self,
        field: &'static FieldSpec,
        form: Form,
        words: &[String],
        slop: u32,
        last_is_prefix: bool,
    ) -> Box<dyn Query> {
        let field = self.field(field, form);
        let terms: Vec<Term> = words.iter().map(|word| Term::from_field_text(field, word)).collect();
        match (slop, last_is_prefix) {
            (0, false) => Box::new(PhraseQuery::new(terms)),
            _ => Box::new(LoosePhrase { field, terms, slop, last_is_prefix }),
        }
    }

    fn beginning(&self, field: &'static FieldSpec, start: &str) -> Box<dyn Query> {
        Box::new(FuzzyTermQuery::new_prefix(Term::from_field_text(self.field(field, Form::Exact), start), 0, true))
    }

    fn one_of(&self, field: &'static FieldSpec, values: Vec<String>) -> Box<dyn Query> {
        let field = self.field(field, Form::Exact);
        Box::new(TermSetQuery::new(values.iter().map(|value| Term::from_field_text(field, value))))
    }

    fn issued(&self, seconds: Range<Option<i64>>) -> Box<dyn Query> {
        let at = |seconds| Term::from_field_i64(self.handles[ISSUED].field, seconds);
        let lower = seconds.start.map_or(Ends::Unbounded, |start| Ends::Included(at(start)));
        let upper = seconds.end.map_or(Ends::Unbounded, |end| Ends::Excluded(at(end)));
        Box::new(RangeQuery::new(lower, upper))
    }

    fn filled(&self, field: &'static FieldSpec) -> Box<dyn Query> {
        one(self.has, field.name)
    }

    fn of_access(&self, terms: Vec<String>) -> Box<dyn Query> {
        match terms.as_slice() {
            [term] => one(self.access, term),
            terms => Box::new(TermSetQuery::new(terms.iter().map(|term| Term::from_field_text(self.access, term)))),
        }
    }

    fn joined(&self, clauses: Clauses<Box<dyn Query>>) -> Box<dyn Query> {
        let Clauses { must, filter, should, must_not, need } = clauses;
        let unweighed =
            filter.into_iter().map(|clause| -> Box<dyn Query> { Box::new(ConstScoreQuery::new(clause, 0.0)) });
        let mut joined: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        joined.extend(must.into_iter().chain(unweighed).map(|clause| (Occur::Must, clause)));
        joined.extend(should.into_iter().map(|clause| (Occur::Should, clause)));
        joined.extend(must_not.into_iter().map(|clause| (Occur::MustNot, clause)));
        match joined.as_slice() {
            [(Occur::Must | Occur::Should, _)] => joined.remove(0).1,
            _ => Box::new(BooleanQuery::with_minimum_required_clauses(joined, need)),
        }
    }

    fn boosted(&self, clause: Box<dyn Query>, boost: f32) -> Box<dyn Query> {
        Box::new(BoostQuery::new(clause, boost))
    }
}

fn one(field: Field, text: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::WithFreqs))
}
