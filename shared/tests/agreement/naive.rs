//! What a query means, by the words of the syntax tree alone: no index, only loops over documents.

use std::collections::HashMap;

use adit_shared::domain::Access;
use adit_shared::search::{
    Analyzer, Bool, Bound, FieldRef, Fields, Fuzziness, Language, OneOf, Phrase, Prefix, Query, Range, TextRights,
    Words,
};
use time::format_description::well_known::Rfc3339;
use time::{Duration, Month, OffsetDateTime};

use crate::corpus::Document;

/// The fields of texts that words without a field are looked up in.
pub(crate) const DEFAULTS: [&str; 7] =
    ["text", "title", "creator", "contributor", "abstract", "description", "subject"];
/// The other fields of texts.
pub(crate) const TEXTS: [&str; 8] =
    ["publisher", "isPartOf", "source", "relation", "coverage", "spatial", "temporal", "rights"];
/// The fields that are matched as a whole.
pub(crate) const WHOLE: [&str; 8] = ["ref", "identifier", "language", "type", "license", "format", "year", "decade"];

/// Words by their numbers: each is compared with one of a query only once.
type Word = usize;
/// For each document whether it matches; `None` of a query that says nothing.
type Found = Option<Vec<bool>>;

/// A word of a query, and for each word of the documents whether it is like it.
type Like = (Word, Vec<bool>);

/// One form of the texts of a field: the words of each value.
type Texts = Vec<Vec<Word>>;

/// The documents, cut into words.
pub(crate) struct Naive {
    analyzer: Analyzer,
    /// Of whoever asks.
    rights: TextRights,
    documents: Vec<Cut>,
    vocabulary: Vec<String>,
    numbers: HashMap<String, Word>,
}

struct Cut {
    id: u32,
    access: Access,
    /// By field; exact forms and stems.
    texts: HashMap<&'static str, [Texts; 2]>,
    /// By field, folded in case.
    whole: HashMap<&'static str, Vec<String>>,
    issued: Vec<OffsetDateTime>,
    filled: Vec<&'static str>,
}

impl Naive {
    pub(crate) fn new(documents: &[&Document], language: Option<Language>) -> Self {
        let analyzer = Analyzer::new(language);
        let (rights, documents) = (TextRights::nobody(), documents.iter());
        let mut naive =
            Self { analyzer, rights, documents: Vec::new(), vocabulary: Vec::new(), numbers: HashMap::new() };
        for document in documents {
            let cut = naive.cut(document);
            naive.documents.push(cut);
        }
        naive
    }

    /// How texts are cut.
    pub(crate) fn analyzer(&self) -> Analyzer {
        self.analyzer
    }

    fn cut(&mut self, document: &Document) -> Cut {
        let values = |field| document.values(field).into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>();
        let issued: Vec<_> = values("issued").iter().filter_map(|date| span(date)).map(|span| span.0).collect();
        let mut texts = HashMap::new();
        for field in DEFAULTS.into_iter().chain(TEXTS) {
            let values = values(field);
            let exact = values.iter().map(|text| self.words(text, true)).collect();
            let stems = values.iter().map(|text| self.words(text, false)).collect();
            texts.insert(field, [exact, stems]);
        }
        let whole: HashMap<_, _> = WHOLE.map(|field| (field, whole_values(field, &values(field), &issued))).into();
        let mut filled: Vec<_> = DEFAULTS.into_iter().chain(TEXTS).filter(|field| !values(field).is_empty()).collect();
        filled.extend(WHOLE.into_iter().filter(|field| !whole[field].is_empty()));
        filled.extend((!issued.is_empty()).then_some("issued"));
        let access = document.access.clone();
        Cut { id: document.id, access, texts, whole, issued, filled }
    }

    fn words(&mut self, text: &str, exact: bool) -> Vec<Word> {
        let words = if exact { self.analyzer.exact_words(text) } else { self.analyzer.stems(text) };
        words.into_iter().map(|token| self.number(token.text)).collect()
    }

    fn number(&mut self, word: String) -> Word {
        *self.numbers.entry(word).or_insert_with_key(|word| {
            self.vocabulary.push(word.clone());
            self.vocabulary.len() - 1
        })
    }

    /// The ids of the documents that match, ascending; `None` if the query says nothing.
    pub(crate) fn matching(&mut self, query: &Query) -> Option<Vec<u32>> {
        let found = self.found(query)?;
        Some(self.documents.iter().zip(found).filter(|(_, found)| *found).map(|(cut, _)| cut.id).collect())
    }

    /// Whether it says anything.
    pub(crate) fn says(&mut self, query: &Query) -> bool {
        self.found(query).is_some()
    }

    fn found(&mut self, query: &Query) -> Found {
        match query {
            Query::All => Some(vec![true; self.documents.len()]),
            Query::Words(words) => self.any_words(words),
            Query::Phrase(phrase) => self.phrase(phrase),
            Query::Prefix(prefix) => self.prefix(prefix),
            Query::OneOf(one_of) => self.one_of(one_of),
            Query::Range(range) => Some(self.range(&range.lower, &range.upper, range)),
            Query::Exists(field) => Some(self.each(|cut| cut.filled.contains(&field.as_str()))),
            Query::Bool(clauses) => self.bool(clauses),
            Query::Boosted(query, _) => self.found(query),
            Query::AskedBy(query, rights) => {
                self.rights = rights.clone();
                self.found(query)
            }
        }
    }

    fn each(&self, matches: impl Fn(&Cut) -> bool) -> Vec<bool> {
        self.documents.iter().map(matches).collect()
    }

    /// By any of the fields in which the query says something.
    fn any_field(&mut self, fields: &Fields, mut of: impl FnMut(&mut Self, &FieldRef) -> Found) -> Found {
        let found: Vec<_> = named(fields).iter().filter_map(|field| of(self, field)).collect();
        any(found)
    }

    fn any_words(&mut self, words: &Words) -> Found {
        if words.across {
            return self.across(words);
        }
        self.any_field(&words.fields, |naive, field| {
            if is_text(&field.name) {
                let each = naive.looked_up(words, field);
                let each = each.iter().map(|like| naive.each(|cut| naive.has(cut, field, words.fuzziness, like)));
                let each = each.collect();
                naive.as_many(each, words)
            } else {
                naive.value(&field.name, &words.text)
            }
        })
    }

    /// Each word in any of the fields.
    fn across(&mut self, words: &Words) -> Found {
        let fields = named(&words.fields);
        let each = self.looked_up(words, &fields[0]);
        let in_any =
            |like: &Like| self.each(|cut| fields.iter().any(|field| self.has(cut, field, words.fuzziness, like)));
        let each = each.iter().map(in_any).collect();
        self.as_many(each, words)
    }

    fn as_many(&self, each: Vec<Vec<bool>>, words: &Words) -> Found {
        let needed = words.need.of(each.len()).max(1);
        let count = |i: usize| each.iter().filter(|found| found[i]).count();
        (!each.is_empty()).then(|| (0..self.documents.len()).map(|i| count(i) >= needed).collect())
    }

    /// For each word of the text which words of the documents it finds.
    fn looked_up(&mut self, words: &Words, field: &FieldRef) -> Vec<Like> {
        let wanted = self.words(&words.text, form(field, words.fuzziness != Fuzziness::Exactly) == EXACT);
        let like = |word: &Word| {
            let written = &self.vocabulary[*word];
            (*word, self.vocabulary.iter().map(|other| is_like(written, other, words.fuzziness)).collect())
        };
        wanted.iter().map(like).collect()
    }

    /// Of a text that the reader may not read, at most the word itself is found.
    fn has(&self, cut: &Cut, field: &FieldRef, fuzziness: Fuzziness, (word, like): &Like) -> bool {
        let form = form(field, fuzziness != Fuzziness::Exactly);
        let mut words = cut.texts[field.name.as_str()][form].iter().flatten();
        if self.may_read(cut, &field.name) {
            words.any(|found| like[*found])
        } else {
            self.rights.closed_words && words.any(|found| found == word)
        }
    }

    fn may_read(&self, cut: &Cut, field: &str) -> bool {
        field != "text" || self.rights.reader.may_read(&cut.access)
    }

    fn phrase(&mut self, phrase: &Phrase) -> Found {
        self.any_field(&phrase.fields, |naive, field| {
            if is_text(&field.name) {
                naive.in_order(field, &phrase.text, phrase.slop, phrase.last_is_prefix)
            } else if phrase.last_is_prefix {
                Some(naive.beginning(&field.name, &phrase.text))
            } else {
                naive.value(&field.name, &phrase.text)
            }
        })
    }

    /// The words of the text in a field of texts, moved by `slop` places at most in all.
    fn in_order(&mut self, field: &FieldRef, text: &str, slop: u32, last_is_prefix: bool) -> Found {
        let form = form(field, last_is_prefix);
        let wanted = self.words(text, form == EXACT);
        let (last, _) = wanted.split_last()?;
        let begins: Vec<bool> = self.vocabulary.iter().map(|word| word.starts_with(&self.vocabulary[*last])).collect();
        let fits = |at: usize, word: Word| {
            if last_is_prefix && at + 1 == wanted.len() { begins[word] } else { wanted[at] == word }
        };
        let one_word = wanted.len() == 1 && !last_is_prefix && self.rights.closed_words;
        let matches = |cut: &Cut| {
            if !one_word && !self.may_read(cut, &field.name) {
                return false;
            }
            let values = &cut.texts[field.name.as_str()][form];
            values.iter().any(|value| placed(value, wanted.len(), &fits, slop.into(), &mut Vec::new()))
        };
        Some(self.each(matches))
    }

    fn prefix(&mut self, prefix: &Prefix) -> Found {
        self.any_field(&prefix.fields, |naive, field| {
            if is_text(&field.name) {
                let start = naive.words(&prefix.text, true);
                let begins = |word: &Word| naive.vocabulary[*word].starts_with(&naive.vocabulary[start[0]]);
                let values = |cut: &Cut| {
                    let mut words = cut.texts[field.name.as_str()][EXACT].iter().flatten();
                    naive.may_read(cut, &field.name) && words.any(begins)
                };
                Some(naive.each(values))
            } else {
                Some(naive.beginning(&field.name, &prefix.text))
            }
        })
    }

    fn beginning(&self, field: &str, text: &str) -> Vec<bool> {
        let start = Analyzer::whole(text);
        self.each(|cut| cut.whole[field].iter().any(|value| value.starts_with(&start)))
    }

    fn one_of(&mut self, one_of: &OneOf) -> Found {
        let field = &one_of.field;
        let of = |value: &String| {
            if is_text(&field.name) { self.in_order(field, value, 0, false) } else { self.value(&field.name, value) }
        };
        any(one_of.values.iter().filter_map(of).collect())
    }

    /// A value of a field that is matched as a whole, or a date.
    fn value(&self, field: &str, value: &str) -> Found {
        if field == "issued" {
            let (start, end) = span(value).unwrap();
            return Some(self.each(|cut| cut.issued.iter().any(|date| (start..end).contains(date))));
        }
        let value = Analyzer::whole(value);
        Some(self.each(|cut| cut.whole[field].contains(&value)))
    }

    /// `year` is the year of `issued`, so spans of both are of the same dates.
    fn range(&self, lower: &Bound, upper: &Bound, range: &Range) -> Vec<bool> {
        let after = |date: &OffsetDateTime| match lower {
            Bound::Open => true,
            Bound::Included(from) => *date >= span(from).unwrap().0,
            Bound::Excluded(from) => *date >= span(from).unwrap().1,
        };
        let before = |date: &OffsetDateTime| match upper {
            Bound::Open => true,
            Bound::Included(to) => *date < span(to).unwrap().1,
            Bound::Excluded(to) => *date < span(to).unwrap().0,
        };
        assert!(["issued", "year"].contains(&range.field.as_str()));
        self.each(|cut| cut.issued.iter().any(|date| after(date) && before(date)))
    }

    fn bool(&mut self, clauses: &Bool) -> Found {
        let mut said = |queries: &[Query]| queries.iter().filter_map(|query| self.found(query)).collect::<Vec<_>>();
        let (mut required, should, excluded) = (said(&clauses.must), said(&clauses.should), said(&clauses.must_not));
        required.extend(said(&clauses.filter));
        if required.is_empty() && should.is_empty() && excluded.is_empty() {
            return None;
        }
        let needed = match clauses.need {
            Some(need) => need.of(should.len()),
            None => usize::from(required.is_empty() && !should.is_empty()),
        };
        let matches = |i: usize| {
            required.iter().all(|found| found[i])
                && should.iter().filter(|found| found[i]).count() >= needed
                && !excluded.iter().any(|found| found[i])
        };
        Some((0..self.documents.len()).map(matches).collect())
    }
}

const EXACT: usize = 0;
const STEMS: usize = 1;

/// In which form a field of texts is looked at.
fn form(field: &FieldRef, by_exact_forms: bool) -> usize {
    if field.exact || by_exact_forms { EXACT } else { STEMS }
}

pub(crate) fn is_text(field: &str) -> bool {
    DEFAULTS.contains(&field) || TEXTS.contains(&field)
}

fn named(fields: &Fields) -> Vec<FieldRef> {
    match fields {
        Fields::Default { exact } => {
            DEFAULTS.map(|name| FieldRef { name: name.to_owned(), exact: *exact, boost: 1.0 }).to_vec()
        }
        Fields::These(fields) => fields.clone(),
    }
}

fn any(found: Vec<Vec<bool>>) -> Found {
    found.into_iter().reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a || b).collect())
}

/// Whether the words of a phrase, from that of `chosen` on, can be given places, each its own, whose shifts lie within the slop of each other.
fn placed(value: &[Word], count: usize, fits: &impl Fn(usize, Word) -> bool, slop: i64, chosen: &mut Vec<i64>) -> bool {
    let at = chosen.len();
    let shifts: Vec<i64> = (0..).zip(&*chosen).map(|(at, place): (i64, &i64)| place - at).collect();
    if shifts.iter().max().zip(shifts.iter().min()).is_some_and(|(most, least)| most - least > slop) {
        return false;
    }
    at == count
        || (0..).zip(value).any(|(place, word)| {
            if !fits(at, *word) || chosen.contains(&place) {
                return false;
            }
            chosen.push(place);
            let found = placed(value, count, fits, slop, chosen);
            chosen.pop();
            found
        })
}

fn is_like(word: &str, other: &str, fuzziness: Fuzziness) -> bool {
    let edits = match fuzziness {
        Fuzziness::Exactly => 0,
        Fuzziness::Edits(edits) => usize::from(edits),
        Fuzziness::Auto => match word.chars().count() {
            0..=2 => 0,
            3..=5 => 1,
            _ => 2,
        },
    };
    word == other || (edits > 0 && distance(word, other) <= edits)
}

/// Optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn whole_values(field: &str, values: &[String], issued: &[OffsetDateTime]) -> Vec<String> {
    match field {
        "year" => issued.iter().map(|date| format!("{:04}", date.year())).collect(),
        "decade" => issued.iter().map(|date| format!("{:03}0s", date.year() / 10)).collect(),
        _ => values.iter().map(|value| Analyzer::whole(value)).collect(),
    }
}

/// The first instant of a date, in UTC, and the first one after it; `None` if it is none.
pub(crate) fn span(date: &str) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(|date| date.to_offset(time::UtcOffset::UTC));
    let (start, length) = match date.len() {
        4 => (at(&format!("{date}-01-01T00:00:00Z"))?, None),
        7 => {
            let start = at(&format!("{date}-01T00:00:00Z"))?;
            (start, Some(Duration::days(start.month().length(start.year()).into())))
        }
        10 => (at(&format!("{date}T00:00:00Z"))?, Some(Duration::DAY)),
        _ => (at(date)?, Some(Duration::SECOND)),
    };
    let days = || (1..=12).map(|month| i64::from(Month::try_from(month).unwrap().length(start.year()))).sum();
    // The year after 9999 cannot be written.
    Some((start, start.saturating_add(length.unwrap_or_else(|| Duration::days(days())))))
}
