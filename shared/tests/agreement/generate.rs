//! A seeded generator of syntax trees: every node, within what an engine takes.

use adit_shared::domain::DocumentReader;
use adit_shared::search::{
    Bool, Bound, FieldRef, Fields, Fuzziness, Need, OneOf, Phrase, Prefix, Query, Range, TextRights, Words,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::corpus::{self, DATES, Document, FORMATS, LANGUAGES, TYPES};
use crate::naive::{DEFAULTS, TEXTS, WHOLE};

/// Most levels of clauses.
const DEPTH: usize = 4;
/// Fields of texts that most documents have; text and title more than others.
const OFTEN: [&str; 8] = ["text", "text", "text", "title", "title", "abstract", "creator", "subject"];
/// What engines bound: words that may be misspelt, in each field that they are looked up in, and prefixes.
const FUZZY: usize = 60;
const PREFIXES: usize = 30;

/// The query of a seed. Its words are in part taken from the documents, side by side as they stand there.
pub(crate) fn query(seed: u64, documents: &[&Document]) -> Query {
    let mut writer = Writer { random: StdRng::seed_from_u64(seed), documents, fuzzy: 0, prefixes: 0 };
    let query = writer.query(DEPTH);
    Query::AskedBy(Box::new(query), writer.rights())
}

struct Writer<'a> {
    random: StdRng,
    documents: &'a [&'a Document],
    fuzzy: usize,
    prefixes: usize,
}

impl Writer<'_> {
    fn query(&mut self, depth: usize) -> Query {
        match self.random.random_range(0..20) {
            0..8 if depth > 0 => self.bool(depth),
            8 if depth > 0 => Query::Boosted(Box::new(self.query(depth - 1)), self.boost()),
            9 => Query::All,
            10 => Query::Exists(self.some(&[&DEFAULTS[..], &TEXTS, &WHOLE, &["issued"]].concat())),
            11 | 12 => self.one_of(),
            13 | 14 => self.range(),
            15 if self.prefixes < PREFIXES => self.prefix(),
            16 | 17 => self.phrase(),
            _ => self.words(),
        }
    }

    /// Of somebody who may read some of the texts, or all that can be read.
    fn rights(&mut self) -> TextRights {
        let reader = match self.random.random_range(0..5) {
            0 => DocumentReader::Operator,
            1 => DocumentReader::nobody(),
            _ => {
                let names = ["press", "films", "open", "metadata"].into_iter().filter(|_| self.random.random_bool(0.5));
                DocumentReader::Entitled(names.map(|name| name.parse().unwrap()).collect())
            }
        };
        TextRights { reader, closed_words: self.random.random_bool(0.7) }
    }

    fn bool(&mut self, depth: usize) -> Query {
        let shape = self.random.random_range(0..4);
        let mut of = |most: usize| -> Vec<Query> {
            let count = self.random.random_range(0..=most);
            (0..count).map(|_| self.query(depth - 1)).collect()
        };
        let (must, filter, should, must_not) = match shape {
            0 => (of(3), of(1), Vec::new(), of(1)),
            1 => (of(1), Vec::new(), of(3), Vec::new()),
            2 => (Vec::new(), Vec::new(), of(5), of(1)),
            _ => (of(1), of(1), of(3), of(2)),
        };
        let need = self.random.random_bool(0.4).then(|| self.need());
        Query::Bool(Bool { must, filter, should, must_not, need })
    }

    fn need(&mut self) -> Need {
        match self.random.random_range(0..5) {
            0 => Need::All,
            1 => Need::Any,
            2 | 3 => Need::Count(self.random.random_range(-3..=4)),
            _ => Need::Percent(*[-120, -67, -34, -25, 0, 20, 34, 50, 75, 100, 130].choose(&mut self.random).unwrap()),
        }
    }

    fn words(&mut self) -> Query {
        let text = self.text(4);
        let (mut fuzziness, across) = (Fuzziness::Exactly, self.random.random_bool(0.3));
        let fields = match self.random.random_range(0..10) {
            0 => return self.whole_words(),
            1..4 => Fields::Default { exact: self.random.random_bool(0.3) },
            _ => self.fields(across),
        };
        if self.random.random_bool(0.3) {
            // A character without spaces is a word.
            let lookups = text.chars().filter(|c| !c.is_ascii_alphanumeric()).count() + 1;
            let lookups = lookups * if let Fields::These(fields) = &fields { fields.len() } else { DEFAULTS.len() };
            if self.fuzzy + lookups <= FUZZY {
                self.fuzzy += lookups;
                fuzziness = *[Fuzziness::Auto, Fuzziness::Edits(0), Fuzziness::Edits(1), Fuzziness::Edits(2)]
                    .choose(&mut self.random)
                    .unwrap();
            }
        }
        Query::Words(Words { text, fields, need: self.need(), across, fuzziness })
    }

    /// The words of a value of a field that is matched as a whole, or of a date.
    fn whole_words(&mut self) -> Query {
        let (field, text) = self.whole();
        let fields = Fields::These(vec![self.field(&field)]);
        Query::Words(Words { text, fields, need: self.need(), across: false, fuzziness: Fuzziness::Exactly })
    }

    fn phrase(&mut self) -> Query {
        let (text, last_is_prefix) = (self.text(4), self.prefixes < PREFIXES && self.random.random_bool(0.2));
        let fields = match self.random.random_range(0..10) {
            0 => {
                let (field, text) = self.whole();
                let fields = Fields::These(vec![self.field(&field)]);
                return Query::Phrase(Phrase { text, fields, slop: 0, last_is_prefix: false });
            }
            1..4 => Fields::Default { exact: self.random.random_bool(0.3) },
            _ => self.fields(false),
        };
        let slop = if self.random.random_bool(0.5) { 0 } else { self.random.random_range(1..=8) };
        let text = if last_is_prefix { format!("{text} {}", self.beginning()) } else { text };
        self.prefixes += usize::from(last_is_prefix);
        Query::Phrase(Phrase { text, fields, slop, last_is_prefix })
    }

    fn prefix(&mut self) -> Query {
        self.prefixes += 1;
        let fields = match self.random.random_range(0..10) {
            0..2 => {
                let name = self.some(&WHOLE);
                let value = self.value(&name);
                let count = self.random.random_range(1..=value.chars().count());
                let text = value.chars().take(count).collect();
                return Query::Prefix(Prefix { text, fields: Fields::These(vec![self.field(&name)]) });
            }
            2..5 => Fields::Default { exact: self.random.random_bool(0.3) },
            _ => self.fields(false),
        };
        Query::Prefix(Prefix { text: self.beginning(), fields })
    }

    fn one_of(&mut self) -> Query {
        let (name, values) = if self.random.random_bool(0.5) {
            let name = self.some(&OFTEN);
            (name, (0..self.random.random_range(1..=3)).map(|_| self.text(3)).collect())
        } else {
            let name = self.some(&[&WHOLE[..], &["issued"]].concat());
            let values = (0..self.random.random_range(1..=4)).map(|_| self.value(&name)).collect();
            (name, values)
        };
        Query::OneOf(OneOf { field: self.field(&name), values })
    }

    fn range(&mut self) -> Query {
        let mut bound = || match self.random.random_range(0..3) {
            0 => Bound::Open,
            1 => Bound::Included(date(&mut self.random)),
            _ => Bound::Excluded(date(&mut self.random)),
        };
        let (lower, upper) = (bound(), bound());
        Query::Range(Range { field: self.some(&["issued", "year"]), lower, upper })
    }

    /// Fields of texts; for words across fields all in one form.
    fn fields(&mut self, across: bool) -> Fields {
        let names = if self.random.random_bool(0.1) { [&DEFAULTS[..], &TEXTS].concat() } else { OFTEN.to_vec() };
        let names: Vec<&str> =
            (0..self.random.random_range(1..=3)).map(|_| *names.choose(&mut self.random).unwrap()).collect();
        let mut fields: Vec<FieldRef> = names.into_iter().map(|name| self.field(name)).collect();
        let exact = fields[0].exact;
        fields.iter_mut().filter(|_| across).for_each(|field| field.exact = exact);
        Fields::These(fields)
    }

    fn field(&mut self, name: &str) -> FieldRef {
        let boost = if self.random.random_bool(0.8) { 1.0 } else { self.boost() };
        FieldRef { name: name.to_owned(), exact: self.random.random_bool(0.3), boost }
    }

    fn boost(&mut self) -> f32 {
        *[0.0, 0.5, 2.0, 1000.0].choose(&mut self.random).unwrap()
    }

    fn whole(&mut self) -> (String, String) {
        let name = self.some(&[&WHOLE[..], &["issued"]].concat());
        let value = self.value(&name);
        (name, value)
    }

    /// A value that a field may have.
    fn value(&mut self, field: &str) -> String {
        match field {
            "issued" => date(&mut self.random),
            "language" => self.some(&LANGUAGES).to_uppercase(),
            "type" => self.some(&TYPES),
            "format" => self.some(&FORMATS),
            "year" => self.some(&["2018", "2019", "1999", "1605", "2017"]),
            "decade" => self.some(&["2010s", "1990S", "1600s", "1980s"]),
            "identifier" => format!("https://doi.org/10.1/ab.{}", self.random.random_range(0..20)),
            "ref" => self.documents.choose(&mut self.random).unwrap().r#ref.clone(),
            _ => "no value".to_owned(),
        }
    }

    fn some(&mut self, values: &[&str]) -> String {
        (*values.choose(&mut self.random).unwrap()).to_owned()
    }

    /// A few words: some that stand in a document, some others, and sometimes none.
    fn text(&mut self, most: usize) -> String {
        let count = self.random.random_range(1..=most);
        match self.random.random_range(0..20) {
            0 => " -- ".to_owned(),
            1..10 => self.quotation(count),
            _ => {
                let words: Vec<String> = (0..count).map(|_| corpus::word(&mut self.random)).collect();
                words.join([" ", "-", ", "].choose(&mut self.random).unwrap())
            }
        }
    }

    /// Words as they stand in a document, perhaps with one left out or two swapped.
    fn quotation(&mut self, count: usize) -> String {
        let document = self.documents.choose(&mut self.random).unwrap();
        let field = *["text", "title", "abstract", "subject"].choose(&mut self.random).unwrap();
        let text = document.values(field).first().cloned().unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let start = self.random.random_range(0..=words.len().saturating_sub(count));
        let mut words: Vec<&str> = words.into_iter().skip(start).take(count).collect();
        if words.len() > 2 && self.random.random_bool(0.3) {
            words.remove(1);
        } else if words.len() > 1 && self.random.random_bool(0.3) {
            words.swap(0, 1);
        }
        words.join(" ")
    }

    /// How a word begins: two letters at least, so that it may be looked for.
    fn beginning(&mut self) -> String {
        let starts = [
            "mi",
            "Min",
            "mine",
            "soi",
            "WAT",
            "re\u{301}s",
            "Mü",
            "uni",
            "hydro",
            "20",
            "str",
            "κό",
            "co",
            "xyz",
            "fie",
        ];
        (*starts.choose(&mut self.random).unwrap()).to_owned()
    }
}

fn date(random: &mut StdRng) -> String {
    let dates: Vec<&str> = DATES.into_iter().filter(|date| !date.contains(' ')).collect();
    (*dates.choose(random).unwrap()).to_owned()
}
