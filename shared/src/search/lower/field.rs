//! One field, and how words and values are looked up in it.

use super::super::schema::{self, FIELDS, FieldSpec, Kind};
use super::super::{Bound, FieldRef, Fuzziness, SearchError, SearchResult, dates};
use super::{
    Analyzer, Clause, Clauses, Form, Lowering, MAX_PHRASE_WORDS, MAX_VALUES, Need, Target, limited, unsupported, weight,
};

/// Shortest prefix in words of a text; a single letter stands for a good part of the dictionary.
const MIN_PREFIX: usize = 2;

/// A field as a clause looks at it.
pub(super) struct Place {
    spec: &'static FieldSpec,
    /// Whether it looks at exact forms.
    pub(super) exact: bool,
    /// What its scores count.
    pub(super) boost: f32,
}

impl Place {
    pub(super) fn of(field: &FieldRef) -> SearchResult<Self> {
        let unknown = || SearchError::UnknownField { field: field.name.clone(), known: schema::names() };
        let spec = FIELDS.iter().find(|spec| spec.name == field.name).ok_or_else(unknown)?;
        Ok(Self { spec, exact: field.exact, boost: weight(field.boost)? })
    }

    pub(super) fn named(name: &str) -> SearchResult<Self> {
        Self::of(&FieldRef::named(name))
    }

    pub(super) fn defaults(exact: bool) -> Vec<Self> {
        FIELDS.iter().filter(|spec| spec.default).map(|spec| Self { spec, exact, boost: 1.0 }).collect()
    }

    pub(super) fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(super) fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// The words of a text as they are looked up here.
    pub(super) fn terms(&self, analyzer: Analyzer, text: &str, exact: bool) -> impl Iterator<Item = String> {
        analyzer.words(text, self.form(exact)).map(|token| token.text)
    }

    fn form(&self, exact: bool) -> Form {
        if exact || self.exact { Form::Exact } else { Form::Stem }
    }

    /// A word of a text, in the form in which it is looked up.
    pub(super) fn word<T: Target>(
        &self,
        lowering: &mut Lowering<'_, T>,
        word: String,
        fuzziness: Fuzziness,
    ) -> SearchResult<T::Clause> {
        lowering.spend(1)?;
        let form = self.form(fuzziness != Fuzziness::Exactly);
        let same = lowering.of_words(self.spec, lowering.target.term(self.spec, form, &word));
        let edits = match fuzziness.edits(&word) {
            0 => return Ok(same),
            edits @ 1..=2 => u8::try_from(edits).unwrap_or(2),
            edits => return Err(unsupported(format!("a word may differ by 2 letters at most, not {edits}"))),
        };
        lowering.spend_similar(&word)?;
        let similar = lowering.of_readable(self.spec, lowering.target.similar(self.spec, &word, edits));
        // Similar words have no weight by themselves; the word itself comes first.
        let (should, need) = (vec![same, similar], Need::Any.of(2));
        Ok(lowering.target.joined(Clauses { must: Vec::new(), filter: Vec::new(), should, must_not: Vec::new(), need }))
    }

    pub(super) fn not_fuzzy(&self) -> SearchError {
        unsupported(format!(
            "{} is not matched word by word, so nothing in it is found by a similar one (~)",
            self.name()
        ))
    }

    /// The words of a text in its order.
    pub(super) fn phrase<T: Target>(
        &self,
        lowering: &mut Lowering<'_, T>,
        text: &str,
        slop: u32,
        last_is_prefix: bool,
    ) -> Clause<T> {
        let words = self.terms(lowering.analyzer, text, last_is_prefix).take(MAX_PHRASE_WORDS + 1);
        let words: Vec<String> = words.collect();
        if words.len() > MAX_PHRASE_WORDS {
            return Err(unsupported(format!(
                "a phrase has {MAX_PHRASE_WORDS} words at most; split it, or leave out the quotation marks"
            )));
        }
        lowering.spend(words.len())?;
        let (target, form) = (lowering.target, self.form(last_is_prefix));
        match words.as_slice() {
            [] => Ok(None),
            [start] if last_is_prefix => self.beginning(lowering, start).map(Some),
            [word] => Ok(Some(lowering.of_words(self.spec, target.term(self.spec, form, word)))),
            words => {
                let phrase = target.phrase(self.spec, form, words, slop, last_is_prefix);
                Ok(Some(lowering.of_readable(self.spec, phrase)))
            }
        }
    }

    /// A word, or a value, that begins so.
    pub(super) fn prefix<T: Target>(&self, lowering: &mut Lowering<'_, T>, text: &str) -> SearchResult<T::Clause> {
        match self.kind() {
            Kind::Date => Err(unsupported("dates take no *; issued:2018 finds the whole year")),
            Kind::Whole => self.beginning(lowering, &Analyzer::whole(text)),
            Kind::Text => match self.terms(lowering.analyzer, text, true).take(2).collect::<Vec<_>>().as_slice() {
                [word] => self.beginning(lowering, word),
                _ => Err(unsupported(format!("{text}* is not the beginning of one word, as a prefix is"))),
            },
        }
    }

    fn beginning<T: Target>(&self, lowering: &Lowering<'_, T>, start: &str) -> SearchResult<T::Clause> {
        let shortest = if self.kind() == Kind::Text { MIN_PREFIX } else { 1 };
        if start.chars().count() < shortest {
            return Err(unsupported(format!("in {start}*, * must stand behind {shortest} letters or digits at least")));
        }
        Ok(lowering.of_readable(self.spec, lowering.target.beginning(self.spec, start)))
    }

    /// A value of a field that is matched as a whole, or a date.
    pub(super) fn value<T: Target>(&self, lowering: &mut Lowering<'_, T>, value: &str) -> SearchResult<T::Clause> {
        if self.kind() == Kind::Date {
            let date = Bound::Included(value.to_owned());
            return self.range(lowering, &date, &date);
        }
        lowering.spend(1)?;
        Ok(lowering.target.term(self.spec, Form::Exact, &Analyzer::whole(value)))
    }

    /// One of the values of a field that is matched as a whole.
    pub(super) fn one_of<T: Target>(
        &self,
        lowering: &mut Lowering<'_, T>,
        values: &[String],
    ) -> SearchResult<T::Clause> {
        limited(
            &mut lowering.values,
            values.len(),
            MAX_VALUES,
            "list",
            "values at most; a docset can be made of a list of refs",
        )?;
        Ok(lowering.target.one_of(self.spec, values.iter().map(|value| Analyzer::whole(value)).collect()))
    }

    /// Dates in a span; bounds that are included are so to their last second.
    pub(super) fn range<T: Target>(
        &self,
        lowering: &mut Lowering<'_, T>,
        lower: &Bound,
        upper: &Bound,
    ) -> SearchResult<T::Clause> {
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
        let start = match lower {
            Bound::Included(date) => Some(span(date)?.start),
            Bound::Excluded(date) => Some(span(date)?.end),
            Bound::Open => None,
        };
        let end = match upper {
            Bound::Included(date) => Some(span(date)?.end),
            Bound::Excluded(date) => Some(span(date)?.start),
            Bound::Open => None,
        };
        Ok(lowering.target.issued(start..end))
    }

    /// A value.
    pub(super) fn exists<T: Target>(&self, lowering: &mut Lowering<'_, T>) -> SearchResult<T::Clause> {
        lowering.spend(1)?;
        Ok(lowering.target.filled(self.spec))
    }
}
