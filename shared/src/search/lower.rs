//! From the syntax tree to a Tantivy query: which fields there are, what values fit them, and what each node means on an index.
//!
//! What the nodes mean is said in [`super::tree`]; how single values are looked up in a field is in [`field`].

mod field;

use tantivy::query::{AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query as Lowered};

use super::analysis::{Analyzer, Form};
use super::schema::{FIELDS, Kind, Layout};
use super::{Bool, Fields, Fuzziness, Language, Need, OneOf, Phrase, Prefix, Query, SearchError, SearchResult, Words};
use field::Place;

/// Each prefix runs over the dictionaries of all its fields, so a query may not have any number of them.
const MAX_PREFIXES: usize = 32;
/// So does each word that may be misspelt; it is counted in each of the fields.
const MAX_FUZZY: usize = 64;
/// Each term of each field that it is looked up in takes some ten kilobytes and a share of the time while the query runs.
const MAX_LOOKUPS: usize = 4096;
/// Values of fields that are matched as a whole; they are looked up together.
const MAX_VALUES: usize = 65_536;
/// People mean a sentence at most; see [`super::words::GAP`], too.
const MAX_SLOP: u32 = 50;
/// Greatest boost, to keep scores finite.
pub(super) const MAX_BOOST: f32 = 1000.0;

/// A lowered clause; `None` of one that says nothing.
type Clause = SearchResult<Option<Box<dyn Lowered>>>;

/// What `query` means on an index whose texts are analysed by `language`.
///
/// # Errors
/// [`SearchError::UnknownField`] and [`SearchError::Unsupported`].
pub(super) fn lower(query: &Query, language: Option<Language>) -> SearchResult<Box<dyn Lowered>> {
    let (layout, analyzer) = (Layout::of(language), Analyzer::new(language));
    let mut lowering = Lowering { layout, analyzer, prefixes: 0, fuzzy: 0, lookups: 0, values: 0 };
    lowering
        .clause(query)?
        .ok_or_else(|| unsupported("the query has no letter or digit to search for; * finds every document"))
}

fn unsupported(message: impl Into<String>) -> SearchError {
    SearchError::Unsupported(message.into())
}

struct Lowering {
    layout: &'static Layout,
    analyzer: Analyzer,
    prefixes: usize,
    fuzzy: usize,
    lookups: usize,
    values: usize,
}

impl Lowering {
    fn clause(&mut self, query: &Query) -> Clause {
        match query {
            Query::All => Ok(Some(Box::new(AllQuery))),
            Query::Words(words) => self.words(words),
            Query::Phrase(phrase) => self.phrase(phrase),
            Query::Prefix(prefix) => self.prefix(prefix),
            Query::OneOf(one_of) => self.one_of(one_of),
            Query::Range(range) => self.place(&range.field)?.range(self, &range.lower, &range.upper).map(Some),
            Query::Exists(name) => self.place(name)?.exists(self).map(Some),
            Query::Bool(clauses) => self.bool(clauses),
            Query::Boosted(inner, boost) => {
                let boost = weight(*boost)?;
                Ok(self.clause(inner)?.map(|inner| boosted(inner, boost)))
            }
        }
    }

    fn words(&mut self, words: &Words) -> Clause {
        let places = self.places(&words.fields)?;
        if words.across {
            return self.across(&places, words);
        }
        self.any_place(&places, |lowering, place| match (place.kind(), words.fuzziness) {
            (Kind::Text, fuzziness) => {
                let terms = place.terms(lowering.analyzer, &words.text, fuzziness != Fuzziness::Exactly);
                let found = terms.map(|term| place.word(lowering, term, fuzziness));
                Ok(as_many(words.need, found.collect::<SearchResult<_>>()?))
            }
            (_, Fuzziness::Exactly) => place.value(lowering, &words.text).map(Some),
            _ => Err(place.not_fuzzy()),
        })
    }

    /// Each word in any of the fields.
    fn across(&mut self, places: &[Place], words: &Words) -> Clause {
        let exact = words.fuzziness != Fuzziness::Exactly;
        let form = |place: &Place| exact || place.exact;
        if let Some(odd) = places.iter().find(|place| place.kind() != Kind::Text || form(place) != form(&places[0])) {
            return Err(unsupported(format!(
                "words are looked for across fields of texts only, in all of them by stems or in all by exact forms; {} differs",
                odd.name()
            )));
        }
        let terms: Vec<String> = places[0].terms(self.analyzer, &words.text, exact).collect();
        let mut clauses = Vec::with_capacity(terms.len());
        for term in terms {
            let word =
                |lowering: &mut Self, place: &Place| place.word(lowering, term.clone(), words.fuzziness).map(Some);
            clauses.extend(self.any_place(places, word)?);
        }
        Ok(as_many(words.need, clauses))
    }

    fn phrase(&mut self, phrase: &Phrase) -> Clause {
        if phrase.slop > MAX_SLOP {
            return Err(unsupported(format!(
                "a phrase may be loosened by {MAX_SLOP} words at most, not {}",
                phrase.slop
            )));
        }
        if phrase.last_is_prefix {
            self.spend_prefix()?;
        }
        let places = self.places(&phrase.fields)?;
        self.any_place(&places, |lowering, place| match place.kind() {
            Kind::Text => place.phrase(lowering, &phrase.text, phrase.slop, phrase.last_is_prefix),
            _ if phrase.last_is_prefix => place.prefix(lowering, &phrase.text).map(Some),
            _ => place.value(lowering, &phrase.text).map(Some),
        })
    }

    fn prefix(&mut self, prefix: &Prefix) -> Clause {
        self.spend_prefix()?;
        let places = self.places(&prefix.fields)?;
        self.any_place(&places, |lowering, place| place.prefix(lowering, &prefix.text).map(Some))
    }

    fn one_of(&mut self, one_of: &OneOf) -> Clause {
        let place = Place::of(self.layout, &one_of.field)?;
        if one_of.values.is_empty() {
            return Err(unsupported(format!("a set of values of {} needs a value", place.name())));
        }
        let clause = match place.kind() {
            Kind::Whole => Some(place.one_of(self, &one_of.values)?),
            Kind::Date => {
                any(one_of.values.iter().map(|value| place.value(self, value)).collect::<SearchResult<_>>()?)
            }
            Kind::Text => {
                let mut clauses = Vec::with_capacity(one_of.values.len());
                for value in &one_of.values {
                    clauses.extend(place.phrase(self, value, 0, false)?);
                }
                any(clauses)
            }
        };
        Ok(clause.map(|clause| boosted(clause, place.boost)))
    }

    fn bool(&mut self, clauses: &Bool) -> Clause {
        let mut all = |queries: &[Query]| {
            let mut said = Vec::with_capacity(queries.len());
            for query in queries {
                said.extend(self.clause(query)?);
            }
            Ok::<_, SearchError>(said)
        };
        let (must, filter) = (all(&clauses.must)?, all(&clauses.filter)?);
        let (should, must_not) = (all(&clauses.should)?, all(&clauses.must_not)?);
        if must.is_empty() && filter.is_empty() && should.is_empty() && must_not.is_empty() {
            return Ok(None);
        }
        let required = !must.is_empty() || !filter.is_empty();
        let need = match clauses.need {
            Some(need) => need.of(should.len()),
            None => usize::from(!required && !should.is_empty()),
        };
        let mut joined: Vec<(Occur, Box<dyn Lowered>)> = Vec::new();
        if !required && need == 0 {
            joined.push((Occur::Must, unweighed(Box::new(AllQuery))));
        }
        joined.extend(must.into_iter().map(|clause| (Occur::Must, clause)));
        joined.extend(filter.into_iter().map(|clause| (Occur::Must, unweighed(clause))));
        joined.extend(should.into_iter().map(|clause| (Occur::Should, clause)));
        joined.extend(must_not.into_iter().map(|clause| (Occur::MustNot, clause)));
        Ok(Some(match joined.as_slice() {
            [(Occur::Must | Occur::Should, _)] => joined.remove(0).1,
            _ => Box::new(BooleanQuery::with_minimum_required_clauses(joined, need)),
        }))
    }

    /// One of the fields; those in which it says nothing are left out.
    fn any_place(&mut self, places: &[Place], mut clause: impl FnMut(&mut Self, &Place) -> Clause) -> Clause {
        let mut clauses = Vec::with_capacity(places.len());
        for place in places {
            clauses.extend(clause(self, place)?.map(|clause| boosted(clause, place.boost)));
        }
        Ok(any(clauses))
    }

    fn place(&self, name: &str) -> SearchResult<Place> {
        Place::of(self.layout, &super::FieldRef::named(name))
    }

    fn places(&self, fields: &Fields) -> SearchResult<Vec<Place>> {
        match fields {
            Fields::Default { exact } => Ok(Place::defaults(self.layout, *exact)),
            Fields::These(fields) => fields.iter().map(|field| Place::of(self.layout, field)).collect(),
        }
    }

    fn spend(&mut self, lookups: usize) -> SearchResult<()> {
        let default = FIELDS.iter().filter(|field| field.default).count();
        let what = format!("words at most, and a word without a field is looked up in {default} fields");
        limited(&mut self.lookups, lookups, MAX_LOOKUPS, "look up", &what)
    }

    fn spend_prefix(&mut self) -> SearchResult<()> {
        limited(&mut self.prefixes, 1, MAX_PREFIXES, "have", "prefixes (word*) at most")
    }
}

fn limited(count: &mut usize, more: usize, most: usize, verb: &str, what: &str) -> SearchResult<()> {
    *count = count.saturating_add(more);
    if *count > most { Err(unsupported(format!("a query may {verb} {most} {what}"))) } else { Ok(()) }
}

/// One of the clauses.
fn any(clauses: Vec<Box<dyn Lowered>>) -> Option<Box<dyn Lowered>> {
    as_many(Need::Any, clauses)
}

/// So many of the clauses, one at least; `None` if there is none.
fn as_many(need: Need, mut clauses: Vec<Box<dyn Lowered>>) -> Option<Box<dyn Lowered>> {
    match clauses.len() {
        0 => None,
        1 => clauses.pop(),
        total => Some(Box::new(BooleanQuery::union_with_minimum_required_clauses(clauses, need.of(total).max(1)))),
    }
}

fn unweighed(clause: Box<dyn Lowered>) -> Box<dyn Lowered> {
    Box::new(ConstScoreQuery::new(clause, 0.0))
}

fn boosted(clause: Box<dyn Lowered>, boost: f32) -> Box<dyn Lowered> {
    #[expect(clippy::float_cmp, reason = "it is what was written, or exactly 1")]
    if boost == 1.0 { clause } else { Box::new(BoostQuery::new(clause, boost)) }
}

/// A boost, if scores can bear it.
fn weight(boost: f32) -> SearchResult<f32> {
    if (0.0..=MAX_BOOST).contains(&boost) {
        return Ok(boost);
    }
    Err(unsupported(format!("a boost is a number from 0 to {MAX_BOOST}, not {boost}")))
}
