//! One field, and how words and values are looked up in it.

use std::ops::Bound as Ends;

use tantivy::Term;
use tantivy::query::{
    BooleanQuery, FuzzyTermQuery, PhraseQuery, Query as Lowered, RangeQuery, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::super::phrase::LoosePhrase;
use super::super::schema::{self, FieldSpec, Handle, Kind, Layout};
use super::super::{Bound, FieldRef, Fuzziness, SearchError, SearchResult, dates};
use super::{Analyzer, Clause, Form, Lowering, MAX_FUZZY, MAX_VALUES, limited, unsupported, weight};

/// Shortest prefix in words of a text; a single letter stands for a good part of the dictionary.
const MIN_PREFIX: usize = 2;

/// A field as a clause looks at it.
pub(super) struct Place {
    spec: &'static FieldSpec,
    handle: Handle,
    /// Whether it looks at exact forms.
    pub(super) exact: bool,
    /// What its scores count.
    pub(super) boost: f32,
}

impl Place {
    pub(super) fn of(layout: &'static Layout, field: &FieldRef) -> SearchResult<Self> {
        let unknown = || SearchError::UnknownField { field: field.name.clone(), known: schema::names() };
        let (spec, handle) = layout.find(&field.name).ok_or_else(unknown)?;
        Ok(Self { spec, handle, exact: field.exact, boost: weight(field.boost)? })
    }

    pub(super) fn defaults(layout: &'static Layout, exact: bool) -> Vec<Self> {
        layout.defaults().map(|(spec, handle)| Self { spec, handle, exact, boost: 1.0 }).collect()
    }

    pub(super) fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(super) fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// The words of a text as they are looked up here.
    pub(super) fn terms(&self, analyzer: Analyzer, text: &str, exact: bool) -> impl Iterator<Item = String> {
        let form = if exact || self.exact { Form::Exact } else { Form::Stem };
        analyzer.words(text, form).map(|token| token.text)
    }

    fn field(&self, exact: bool) -> Field {
        if exact || self.exact { self.handle.exact } else { self.handle.field }
    }

    /// A word of a text, in the form in which it is looked up.
    pub(super) fn word(
        &self,
        lowering: &mut Lowering,
        word: String,
        fuzziness: Fuzziness,
    ) -> SearchResult<Box<dyn Lowered>> {
        lowering.spend(1)?;
        let same = one(self.field(fuzziness != Fuzziness::Exactly), &word);
        let edits = match fuzziness.edits(&word) {
            0 => return Ok(same),
            edits @ 1..=2 => u8::try_from(edits).unwrap_or(2),
            edits => return Err(unsupported(format!("a word may differ by 2 letters at most, not {edits}"))),
        };
        let what = "times at most for a word that may be misspelt (word~); without a field each default one counts";
        limited(&mut lowering.fuzzy, 1, MAX_FUZZY, "look", what)?;
        let similar = FuzzyTermQuery::new(Term::from_field_text(self.field(true), &word), edits, true);
        // Similar words have no weight by themselves; the word itself comes first.
        Ok(Box::new(BooleanQuery::union(vec![same, Box::new(similar)])))
    }

    pub(super) fn not_fuzzy(&self) -> SearchError {
        unsupported(format!(
            "{} is not matched word by word, so nothing in it is found by a similar one (~)",
            self.name()
        ))
    }

    /// The words of a text in its order.
    pub(super) fn phrase(&self, lowering: &mut Lowering, text: &str, slop: u32, last_is_prefix: bool) -> Clause {
        let field = self.field(last_is_prefix);
        let words: Vec<String> = self.terms(lowering.analyzer, text, last_is_prefix).collect();
        lowering.spend(words.len())?;
        match words.as_slice() {
            [] => return Ok(None),
            [start] if last_is_prefix => return self.beginning(start).map(Some),
            [word] => return Ok(Some(one(field, word))),
            _ => {}
        }
        let terms: Vec<Term> = words.iter().map(|word| Term::from_field_text(field, word)).collect();
        Ok(Some(match (slop, last_is_prefix) {
            (0, false) => Box::new(PhraseQuery::new(terms)),
            _ => Box::new(LoosePhrase { field, terms, slop, last_is_prefix }),
        }))
    }

    /// A word, or a value, that begins so.
    pub(super) fn prefix(&self, lowering: &mut Lowering, text: &str) -> SearchResult<Box<dyn Lowered>> {
        match self.kind() {
            Kind::Date => Err(unsupported("dates take no *; issued:2018 finds the whole year")),
            Kind::Whole => self.beginning(&Analyzer::whole(text)),
            Kind::Text => match self.terms(lowering.analyzer, text, true).collect::<Vec<_>>().as_slice() {
                [word] => self.beginning(word),
                _ => Err(unsupported(format!("{text}* is not the beginning of one word, as a prefix is"))),
            },
        }
    }

    fn beginning(&self, start: &str) -> SearchResult<Box<dyn Lowered>> {
        let shortest = if self.kind() == Kind::Text { MIN_PREFIX } else { 1 };
        if start.chars().count() < shortest {
            return Err(unsupported(format!("in {start}*, * must stand behind {shortest} letters or digits at least")));
        }
        let term = Term::from_field_text(self.field(true), start);
        Ok(Box::new(FuzzyTermQuery::new_prefix(term, 0, true)))
    }

    /// A value of a field that is matched as a whole, or a date.
    pub(super) fn value(&self, lowering: &mut Lowering, value: &str) -> SearchResult<Box<dyn Lowered>> {
        if self.kind() == Kind::Date {
            let date = Bound::Included(value.to_owned());
            return self.range(lowering, &date, &date);
        }
        lowering.spend(1)?;
        Ok(one(self.handle.field, &Analyzer::whole(value)))
    }

    /// One of the values of a field that is matched as a whole.
    pub(super) fn one_of(&self, lowering: &mut Lowering, values: &[String]) -> SearchResult<Box<dyn Lowered>> {
        limited(
            &mut lowering.values,
            values.len(),
            MAX_VALUES,
            "list",
            "values at most; a docset can be made of a list of refs",
        )?;
        let term = |value: &String| Term::from_field_text(self.handle.field, &Analyzer::whole(value));
        Ok(Box::new(TermSetQuery::new(values.iter().map(term))))
    }

    /// Dates in a span; bounds that are included are so to their last second.
    pub(super) fn range(
        &self,
        lowering: &mut Lowering,
        lower: &Bound,
        upper: &Bound,
    ) -> SearchResult<Box<dyn Lowered>> {
        if self.name() != schema::ISSUED && self.name() != schema::YEAR {
            return Err(unsupported(format!("{} has no ranges; issued and year have", self.name())));
        }
        if (lower, upper) == (&Bound::Open, &Bound::Open) {
            return self.exists(lowering);
        }
        lowering.spend(1)?;
        let span = |date: &str| {
            dates::span(date).ok_or_else(|| {
                unsupported(format!(
                    "{date:?} is no date; there are 2018, 2018-06, 2018-06-30 and \"2018-06-30T12:00:00Z\""
                ))
            })
        };
        let (_, issued) = lowering.layout.find(schema::ISSUED).ok_or_else(|| unsupported("there are no dates"))?;
        let at = |seconds: i64| Term::from_field_i64(issued.field, seconds);
        let lower = match lower {
            Bound::Included(date) => Ends::Included(at(span(date)?.start)),
            Bound::Excluded(date) => Ends::Included(at(span(date)?.end)),
            Bound::Open => Ends::Unbounded,
        };
        let upper = match upper {
            Bound::Included(date) => Ends::Excluded(at(span(date)?.end)),
            Bound::Excluded(date) => Ends::Excluded(at(span(date)?.start)),
            Bound::Open => Ends::Unbounded,
        };
        Ok(Box::new(RangeQuery::new(lower, upper)))
    }

    /// A value.
    pub(super) fn exists(&self, lowering: &mut Lowering) -> SearchResult<Box<dyn Lowered>> {
        lowering.spend(1)?;
        Ok(one(lowering.layout.has, self.name()))
    }
}

fn one(field: Field, text: &str) -> Box<dyn Lowered> {
    Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::WithFreqs))
}
