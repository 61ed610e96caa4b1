//! From the syntax tree to an engine's query: which fields there are, what values fit them, and what each node means on an index.
//!
//! What the nodes mean is said in [`super::tree`]; how single values are looked up in a field is in [`field`]; what an engine must be able to look up,
//! [`Target`] says. Tantivy's queries are in [`tantivy`].

mod field;
mod tantivy;

use std::collections::HashSet;
use std::ops::Range;

use super::analysis::{Analyzer, Form};
use super::schema::{FIELDS, FieldSpec, Kind, TEXT};
use super::{
    Bool, Fields, Fuzziness, Language, Need, OneOf, Phrase, Prefix, Query, SearchError, SearchResult, TextRights, Words,
};
use field::Place;

pub(super) use self::tantivy::IndexQueries;

/// Each prefix runs over the dictionaries of all its fields, so a query may not have any number of them.
const MAX_PREFIXES: usize = 32;
/// So does each word that may be misspelt; it is counted in each of the fields.
const MAX_FUZZY: usize = 64;
/// Different words that may be misspelt: each needs an automaton of about a megabyte.
const MAX_SIMILAR_WORDS: usize = 16;
/// Letters of such a word: the automaton grows with them.
const MAX_SIMILAR_LETTERS: usize = 32;
/// Words of a phrase: people mean a sentence, and each word reads its places in each text that has
/// all of them.
const MAX_PHRASE_WORDS: usize = 64;
/// Each term of each field that it is looked up in takes some kilobytes and a share of the time
/// while the query runs.
const MAX_LOOKUPS: usize = 4096;
/// Values of fields that are matched as a whole; they are looked up together.
const MAX_VALUES: usize = 65_536;
/// People mean a sentence at most; see [`super::words::GAP`], too.
const MAX_SLOP: u32 = 50;
/// Greatest boost, to keep scores finite.
pub(super) const MAX_BOOST: f32 = 1000.0;

/// The queries of an engine.
pub(super) trait Target {
    /// One of them.
    type Clause;

    /// Every document.
    fn all(&self) -> Self::Clause;
    /// Those with a word in one form, or with a value of a field that is matched as a whole.
    fn term(&self, field: &'static FieldSpec, form: Form, term: &str) -> Self::Clause;
    /// Those with a word whose exact form is up to so many edits away; they all weigh the same.
    fn similar(&self, field: &'static FieldSpec, word: &str, edits: u8) -> Self::Clause;
    /// Those with these two words or more as a phrase; see [`Phrase`].
    fn phrase(
        &self,
        field: &'static FieldSpec,
        form: Form,
        words: &[String],
        slop: u32,
        last_is_prefix: bool,
    ) -> Self::Clause;
    /// Those with a word, or a value, that begins so; they all weigh the same.
    fn beginning(&self, field: &'static FieldSpec, start: &str) -> Self::Clause;
    /// Those with one of the values of a field that is matched as a whole.
    fn one_of(&self, field: &'static FieldSpec, values: Vec<String>) -> Self::Clause;
    /// Those with a date in a span of seconds since 1970-01-01T00:00:00Z.
    fn issued(&self, seconds: Range<Option<i64>>) -> Self::Clause;
    /// Those with a value in the field.
    fn filled(&self, field: &'static FieldSpec) -> Self::Clause;
    /// Documents whose access level has one of the terms of [`super::rights`].
    fn of_access(&self, terms: Vec<String>) -> Self::Clause;
    /// Those by several clauses.
    fn joined(&self, clauses: Clauses<Self::Clause>) -> Self::Clause;
    /// The same, with weights that count so many times as much.
    fn boosted(&self, clause: Self::Clause, boost: f32) -> Self::Clause;
}

/// Clauses, of which there is one at least that is not in `must_not`.
pub(super) struct Clauses<C> {
    /// All of these.
    pub(super) must: Vec<C>,
    /// All of these, without weight.
    pub(super) filter: Vec<C>,
    /// So many of these as `need` says.
    pub(super) should: Vec<C>,
    /// None of these.
    pub(super) must_not: Vec<C>,
    /// See `should`.
    pub(super) need: usize,
}

/// A lowered clause; `None` of one that says nothing.
type Clause<T> = SearchResult<Option<<T as Target>::Clause>>;

/// What `query` means on an index whose texts are analysed by `language`, in the queries of `target`.
///
/// # Errors
/// [`SearchError::UnknownField`] and [`SearchError::Unsupported`].
pub(super) fn lower<T: Target>(query: &Query, language: Option<Language>, target: &T) -> SearchResult<T::Clause> {
    let analyzer = Analyzer::new(language);
    let rights = TextRights::nobody();
    let similar = HashSet::new();
    let mut lowering = Lowering { target, analyzer, rights, prefixes: 0, fuzzy: 0, similar, lookups: 0, values: 0 };
    lowering
        .clause(query)?
        .ok_or_else(|| unsupported("the query has no letter or digit to search for; * finds every document"))
}

fn unsupported(message: impl Into<String>) -> SearchError {
    SearchError::Unsupported(message.into())
}

struct Lowering<'t, T> {
    target: &'t T,
    analyzer: Analyzer,
    /// The rights of whoever asks the query.
    rights: TextRights,
    prefixes: usize,
    fuzzy: usize,
    /// The words that may be misspelt.
    similar: HashSet<String>,
    lookups: usize,
    values: usize,
}

impl<T: Target> Lowering<'_, T> {
    fn clause(&mut self, query: &Query) -> Clause<T> {
        match query {
            Query::All => Ok(Some(self.target.all())),
            Query::Words(words) => self.words(words),
            Query::Phrase(phrase) => self.phrase(phrase),
            Query::Prefix(prefix) => self.prefix(prefix),
            Query::OneOf(one_of) => self.one_of(one_of),
            Query::Range(range) => Place::named(&range.field)?.range(self, &range.lower, &range.upper).map(Some),
            Query::Exists(name) => Place::named(name)?.exists(self).map(Some),
            Query::Bool(clauses) => self.bool(clauses),
            Query::Boosted(inner, boost) => {
                let boost = weight(*boost)?;
                Ok(self.clause(inner)?.map(|inner| self.boosted(inner, boost)))
            }
            Query::AskedBy(inner, rights) => {
                let outer = std::mem::replace(&mut self.rights, rights.clone());
                let clause = self.clause(inner);
                self.rights = outer;
                clause
            }
        }
    }

    fn words(&mut self, words: &Words) -> Clause<T> {
        let places = places(&words.fields)?;
        if words.across {
            return self.across(&places, words);
        }
        self.any_place(&places, |lowering, place| match (place.kind(), words.fuzziness) {
            (Kind::Text, fuzziness) => {
                let terms = place.terms(lowering.analyzer, &words.text, fuzziness != Fuzziness::Exactly);
                let found = terms.map(|term| place.word(lowering, term, fuzziness));
                let found = found.collect::<SearchResult<_>>()?;
                Ok(lowering.as_many(words.need, found))
            }
            (_, Fuzziness::Exactly) => place.value(lowering, &words.text).map(Some),
            _ => Err(place.not_fuzzy()),
        })
    }

    /// Each word in any of the fields.
    fn across(&mut self, places: &[Place], words: &Words) -> Clause<T> {
        let exact = words.fuzziness != Fuzziness::Exactly;
        let form = |place: &Place| exact || place.exact;
        if let Some(odd) = places.iter().find(|place| place.kind() != Kind::Text || form(place) != form(&places[0])) {
            return Err(unsupported(format!(
                "words are looked for across fields of texts only, in all of them by stems or in all by exact forms; {} differs",
                odd.name()
            )));
        }
        // One more than may be looked up is refused; a body may hold a hundred thousand.
        let terms: Vec<String> = places[0].terms(self.analyzer, &words.text, exact).take(MAX_LOOKUPS + 1).collect();
        let mut clauses = Vec::with_capacity(terms.len());
        for term in terms {
            let word =
                |lowering: &mut Self, place: &Place| place.word(lowering, term.clone(), words.fuzziness).map(Some);
            clauses.extend(self.any_place(places, word)?);
        }
        Ok(self.as_many(words.need, clauses))
    }

    fn phrase(&mut self, phrase: &Phrase) -> Clause<T> {
        if phrase.slop > MAX_SLOP {
            return Err(unsupported(format!(
                "a phrase may be loosened by {MAX_SLOP} words at most, not {}",
                phrase.slop
            )));
        }
        if phrase.last_is_prefix {
            self.spend_prefix()?;
        }
        let places = places(&phrase.fields)?;
        self.any_place(&places, |lowering, place| match place.kind() {
            Kind::Text => place.phrase(lowering, &phrase.text, phrase.slop, phrase.last_is_prefix),
            _ if phrase.last_is_prefix => place.prefix(lowering, &phrase.text).map(Some),
            _ => place.value(lowering, &phrase.text).map(Some),
        })
    }

    fn prefix(&mut self, prefix: &Prefix) -> Clause<T> {
        self.spend_prefix()?;
        let places = places(&prefix.fields)?;
        self.any_place(&places, |lowering, place| place.prefix(lowering, &prefix.text).map(Some))
    }

    fn one_of(&mut self, one_of: &OneOf) -> Clause<T> {
        let place = Place::of(&one_of.field)?;
        if one_of.values.is_empty() {
            return Err(unsupported(format!("a set of values of {} needs a value", place.name())));
        }
        let clause = match place.kind() {
            Kind::Whole => Some(place.one_of(self, &one_of.values)?),
            Kind::Date => {
                let spans = one_of.values.iter().map(|value| place.value(self, value)).collect::<SearchResult<_>>()?;
                self.as_many(Need::Any, spans)
            }
            Kind::Text => {
                let mut clauses = Vec::with_capacity(one_of.values.len());
                for value in &one_of.values {
                    clauses.extend(place.phrase(self, value, 0, false)?);
                }
                self.as_many(Need::Any, clauses)
            }
        };
        Ok(clause.map(|clause| self.boosted(clause, place.boost)))
    }

    fn bool(&mut self, clauses: &Bool) -> Clause<T> {
        let mut all = |queries: &[Query]| {
            let mut said = Vec::with_capacity(queries.len());
            for query in queries {
                said.extend(self.clause(query)?);
            }
            Ok::<_, SearchError>(said)
        };
        let (must, mut filter) = (all(&clauses.must)?, all(&clauses.filter)?);
        let (should, must_not) = (all(&clauses.should)?, all(&clauses.must_not)?);
        if must.is_empty() && filter.is_empty() && should.is_empty() && must_not.is_empty() {
            return Ok(None);
        }
        let required = !must.is_empty() || !filter.is_empty();
        let need = match clauses.need {
            Some(need) => need.of(should.len()),
            None => usize::from(!required && !should.is_empty()),
        };
        if !required && need == 0 {
            filter.push(self.target.all());
        }
        Ok(Some(self.target.joined(Clauses { must, filter, should, must_not, need })))
    }

    /// One of the fields; those in which it says nothing are left out.
    fn any_place(&mut self, places: &[Place], mut clause: impl FnMut(&mut Self, &Place) -> Clause<T>) -> Clause<T> {
        let mut clauses = Vec::with_capacity(places.len());
        for place in places {
            clauses.extend(clause(self, place)?.map(|clause| self.boosted(clause, place.boost)));
        }
        Ok(self.as_many(Need::Any, clauses))
    }

    /// So many of the clauses, one at least; `None` if there is none.
    fn as_many(&self, need: Need, mut should: Vec<T::Clause>) -> Option<T::Clause> {
        match should.len() {
            0 => None,
            1 => should.pop(),
            total => {
                let (must, filter, must_not, need) = (Vec::new(), Vec::new(), Vec::new(), need.of(total).max(1));
                Some(self.target.joined(Clauses { must, filter, should, must_not, need }))
            }
        }
    }

    /// Narrows a clause that asks a field for more than a single whole word: of texts to those that
    /// the reader may read.
    fn of_readable(&self, field: &FieldSpec, clause: T::Clause) -> T::Clause {
        if field.name != TEXT {
            return clause;
        }
        let filter = vec![self.target.of_access(self.rights.readable_terms())];
        let (must, should, must_not) = (vec![clause], Vec::new(), Vec::new());
        self.target.joined(Clauses { must, filter, should, must_not, need: 0 })
    }

    /// Narrows a clause that asks a field for a single whole word, where that of closed texts is
    /// not for everybody.
    fn of_words(&self, field: &FieldSpec, clause: T::Clause) -> T::Clause {
        if self.rights.closed_words { clause } else { self.of_readable(field, clause) }
    }

    fn boosted(&self, clause: T::Clause, boost: f32) -> T::Clause {
        #[expect(clippy::float_cmp, reason = "it is what was written, or exactly 1")]
        if boost == 1.0 { clause } else { self.target.boosted(clause, boost) }
    }

    fn spend(&mut self, lookups: usize) -> SearchResult<()> {
        let default = FIELDS.iter().filter(|field| field.default).count();
        let what = format!("words at most, and a word without a field is looked up in {default} fields");
        limited(&mut self.lookups, lookups, MAX_LOOKUPS, "look up", &what)
    }

    /// Takes a word that may be misspelt.
    fn spend_similar(&mut self, word: &str) -> SearchResult<()> {
        let what = "times at most for a word that may be misspelt (word~); without a field each default one counts";
        limited(&mut self.fuzzy, 1, MAX_FUZZY, "look", what)?;
        let letters = word.chars().count();
        if letters > MAX_SIMILAR_LETTERS {
            return Err(unsupported(format!(
                "a word that may be misspelt (word~) has {MAX_SIMILAR_LETTERS} letters at most, not {letters}; write it without ~"
            )));
        }
        if self.similar.insert(word.to_owned()) && self.similar.len() > MAX_SIMILAR_WORDS {
            return Err(unsupported(format!(
                "a query may have {MAX_SIMILAR_WORDS} words at most that may be misspelt (word~)"
            )));
        }
        Ok(())
    }

    fn spend_prefix(&mut self) -> SearchResult<()> {
        limited(&mut self.prefixes, 1, MAX_PREFIXES, "have", "prefixes (word*) at most")
    }
}

fn limited(count: &mut usize, more: usize, most: usize, verb: &str, what: &str) -> SearchResult<()> {
    *count = count.saturating_add(more);
    if *count > most { Err(unsupported(format!("a query may {verb} {most} {what}"))) } else { Ok(()) }
}

fn places(fields: &Fields) -> SearchResult<Vec<Place>> {
    match fields {
        Fields::Default { exact } => Ok(Place::defaults(*exact)),
        Fields::These(fields) => fields.iter().map(Place::of).collect(),
    }
}

/// A boost, if scores can bear it.
fn weight(boost: f32) -> SearchResult<f32> {
    if (0.0..=MAX_BOOST).contains(&boost) {
        return Ok(boost);
    }
    Err(unsupported(format!("a boost is a number from 0 to {MAX_BOOST}, not {boost}")))
}
