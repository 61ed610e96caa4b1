//! The syntax tree of a query: what both front ends, the query language and the Elasticsearch DSL, are read into, and what every engine is given.
//!
//! The tree has texts as they were typed: how they are cut into words depends on the collection's language and is the engine's business. What each
//! node means is said here once; engines are held to it by a generator of trees and a plain evaluator.
//!
//! **Words.** Texts are cut by [`super::Analyzer`], in documents and in queries alike. In a field of texts each word has two forms: the *exact* one (folded:
//! without case and diacritics) and the *stem*, which is the same where the collection names no language. A word's place is its place among the
//! words of its value. A field may have several values; no phrase reaches from one into another.
//!
//! **Values.** Fields that are matched as a whole compare all of a value, as [`super::Analyzer::whole`] makes it. Dates in queries are spans of time (a year, a
//! month, a day, a second); a document's date counts as its first instant. So `issued:2018-06` finds what is issued on `2018-06-30`, not on `2018`.
//! A date that cannot be read is refused in a query and passed over in a document. A document may have several dates; one that fits is enough.
//!
//! **Closed texts.** The field `text` has the words of a document's text, which not everybody may
//! read. A clause that looks there for more than one whole word (a phrase of two words or more, the
//! beginning of a word, words like another) finds only documents whose text the reader may read.
//! One whole word finds all, unless the collection is set so that it finds no more than the other
//! clauses do. Whoever is named by no [`Query::AskedBy`] is nobody. Metadata are open to everybody.
//!
//! **Saying nothing.** In a field of texts a text without a word says nothing. A node that says nothing in any of its fields is left out of the [`Bool`] that it
//! stands in, as if it had not been written, and so is a `Bool` of which nothing is left. A query of which nothing is left is refused.

use super::TextRights;

/// A query, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// Every document.
    All,
    /// Documents with words of a text. A field that is matched as a whole takes the text for a value, a date field for a date.
    Words(Words),
    /// Documents with the words of a text, in its order. Other fields than those of texts as with [`Query::Words`].
    Phrase(Phrase),
    /// Documents with a word in its exact form (in a field that is matched as a whole: with a value) that begins so. Of no use on dates.
    Prefix(Prefix),
    /// Documents that have one of the values in a field: in a field of texts the words of the value as a phrase, in a date field a date within its span.
    /// A value that says nothing is left out.
    OneOf(OneOf),
    /// Documents with a date in a span. `issued` and `year` have ranges, and both mean the dates of `issued`.
    Range(Range),
    /// Documents with a value in the field: a text that is not empty, a date that can be read.
    Exists(String),
    /// Documents by several clauses.
    Bool(Bool),
    /// The same documents, whose scores count so many times as much.
    Boosted(Box<Query>, f32),
    /// The documents that the query finds for whoever has these rights in texts. No language has a
    /// word for it.
    AskedBy(Box<Query>, TextRights),
}

/// Where words are looked up: a document matches by any of the fields.
#[derive(Debug, Clone, PartialEq)]
pub enum Fields {
    /// In the default fields.
    Default {
        /// Exact forms only.
        exact: bool,
    },
    /// In these; there is one at least.
    These(Vec<FieldRef>),
}

/// A field, and how it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldRef {
    /// Its name.
    pub name: String,
    /// Exact forms only (`title.exact`); of no effect on fields that are not texts.
    pub exact: bool,
    /// What its scores count (`title^3`).
    pub boost: f32,
}

/// See [`Query::Words`].
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// The text.
    pub text: String,
    /// Where.
    pub fields: Fields,
    /// How many of its words; one at least. A word that is written twice counts twice.
    pub need: Need,
    /// Whether words may be found in several fields together (each in any of them) or must be in one. If so, the fields are all of texts, and either
    /// all or none of them is looked at by exact forms.
    pub across: bool,
    /// How like a word must be. Other than [`Fuzziness::Exactly`] it looks at exact forms, and is for fields of texts only.
    pub fuzziness: Fuzziness,
}

/// See [`Query::Phrase`].
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// The text.
    pub text: String,
    /// Where.
    pub fields: Fields,
    /// How far words may be moved, 50 at most. Let the words 0, 1, … of the phrase stand at the places `p0`, `p1`, … of one value, no two at the same:
    /// the phrase matches where the greatest of `p0 - 0`, `p1 - 1`, … exceeds the least by no more than this. So 0 means side by side in this order,
    /// 2 lets two neighbours change places, and it is what Lucene calls slop. Of no effect on other fields than those of texts.
    pub slop: u32,
    /// Whether the last word may be the beginning of one; all words are looked at by exact forms then. In a field that is matched as a whole: whether
    /// the value only begins so.
    pub last_is_prefix: bool,
}

/// See [`Query::Prefix`].
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// How the word begins: one word, of two letters or digits at least (in a field that is matched as a whole: any text but the empty one).
    pub text: String,
    /// Where.
    pub fields: Fields,
}

/// See [`Query::OneOf`].
#[derive(Debug, Clone, PartialEq)]
pub struct OneOf {
    /// The field.
    pub field: FieldRef,
    /// The values; one at least.
    pub values: Vec<String>,
}

/// See [`Query::Range`].
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The field.
    pub field: String,
    /// From where.
    pub lower: Bound,
    /// Up to where.
    pub upper: Bound,
}

/// One end of a range. A date stands for its whole span: `> 2018` begins with 2019, `<= 2018` ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// No end.
    Open,
    /// With the value itself.
    Included(String),
    /// Without it.
    Excluded(String),
}

/// How many words, or clauses, must be found. Never fewer than none, and never more than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All.
    All,
    /// One.
    Any,
    /// So many; if negative, all but so many.
    Count(i32),
    /// So many in a hundred, rounded down; if negative, all but so many in a hundred (these rounded down).
    Percent(i32),
}

/// How like a word must be, in insertions, deletions, substitutions and swaps of neighbours (optimal string alignment over Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuzziness {
    /// The word itself.
    Exactly,
    /// By its length: up to 2 characters the word itself, up to 5 one edit, else two.
    Auto,
    /// Up to so many edits: 0, 1 or 2.
    Edits(u8),
}

/// Clauses. What is said here of clauses is said of those that say something. Without `must` and `filter` one of `should` is needed, if there is any and
/// `need` does not say otherwise; with them, `should` only weighs. Where nothing is needed, all documents match but those of `must_not`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bool {
    /// All of these.
    pub must: Vec<Query>,
    /// All of these, without weight.
    pub filter: Vec<Query>,
    /// As many of these as `need` says.
    pub should: Vec<Query>,
    /// None of these.
    pub must_not: Vec<Query>,
    /// How many of `should`; `None`: see above.
    pub need: Option<Need>,
}

impl Need {
    /// How many of `total` that is.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        let all = i64::try_from(total).unwrap_or(i64::MAX);
        let wanted = match self {
            Self::All => all,
            Self::Any => 1,
            Self::Count(count) if count < 0 => all + i64::from(count),
            Self::Count(count) => i64::from(count),
            Self::Percent(share) if share < 0 => all - all * -i64::from(share) / 100,
            Self::Percent(share) => all * i64::from(share) / 100,
        };
        usize::try_from(wanted.clamp(0, all)).unwrap_or(total)
    }
}

impl Fuzziness {
    /// By how many edits a word may differ from this one.
    #[must_use]
    pub fn edits(self, word: &str) -> usize {
        match self {
            Self::Exactly => 0,
            Self::Edits(edits) => edits.into(),
            Self::Auto => match word.chars().count() {
                0..=2 => 0,
                3..=5 => 1,
                _ => 2,
            },
        }
    }
}

impl FieldRef {
    /// The field as it is, or by its exact forms where `.exact` stands behind its name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let (name, exact) = name.strip_suffix(".exact").map_or((name, false), |name| (name, true));
        Self { name: name.to_owned(), exact, boost: 1.0 }
    }
}

impl Fields {
    /// One field, or the default ones.
    #[must_use]
    pub fn of(field: Option<&str>) -> Self {
        match field {
            Some(name) => Self::These(vec![FieldRef::named(name)]),
            None => Self::Default { exact: false },
        }
    }
}
