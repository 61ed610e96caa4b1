//! The syntax tree of a query: what both front ends, the query language and the Elasticsearch DSL, are read into, and what every engine is given.
//!
//! The tree has texts as they were typed: how they are cut into words depends on the collection's language and is the engine's business. What each
//! node means is said here once; engines are held to it by a generator of trees and a plain evaluator.
//!
//! **Words.** A field of texts has each word in two forms: the *exact* one (folded: without case and diacritics) and the *stem*, which is the same
//! where the collection names no language. A text that is searched for is cut in the same way. A text without a letter or digit says nothing: such a node
//! is left out of the [`Bool`] that it stands in, and a query of which nothing is left is refused. Fields that are matched as a whole compare all of
//! their value, folded in case only; dates compare as spans of time.

/// A query, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// Every document.
    All,
    /// Documents with words of a text.
    Words(Words),
    /// Documents with the words of a text, in its order.
    Phrase(Phrase),
    /// Documents with a word (in its exact form; in a field that is matched as a whole: a value) that begins so.
    Prefix(Prefix),
    /// Documents that have one of the values in a field: of a field of texts one that has all the words of the value as a phrase; of dates one within
    /// the value's span.
    OneOf(OneOf),
    /// Documents with a date in a span; of date fields and `year` only.
    Range(Range),
    /// Documents with a value in the field.
    Exists(String),
    /// Documents by several clauses.
    Bool(Bool),
    /// The same documents, whose scores count so many times as much.
    Boosted(Box<Query>, f32),
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
    /// How many of its words.
    pub need: Need,
    /// Whether words may be found in several fields together (each in any of them) or must be in one.
    pub across: bool,
    /// How like a word must be. Other than [`Fuzziness::Exactly`] it looks at exact forms.
    pub fuzziness: Fuzziness,
}

/// See [`Query::Phrase`].
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// The text.
    pub text: String,
    /// Where.
    pub fields: Fields,
    /// Places that words may be moved by in all, to make the phrase out of what stands in the document.
    pub slop: u32,
    /// Whether the last word (in its exact form, as then all are) may be the beginning of one.
    pub last_is_prefix: bool,
}

/// See [`Query::Prefix`].
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// How the word begins.
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

/// One end of a range. A date stands for its whole span: `> 2018` begins with 2019.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// No end.
    Open,
    /// With the value itself.
    Included(String),
    /// Without it.
    Excluded(String),
}

/// How many words, or clauses, must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All.
    All,
    /// One.
    Any,
    /// So many; if negative, all but so many. Never fewer than one word, and never more than there are.
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

/// Clauses. Without `must` and `filter` one of `should` is needed, if there is any and `need` does not say otherwise; with them, `should` only weighs.
/// Of nothing but `must_not`, all other documents.
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
    /// How many of `should`; `None`: see above. It counts clauses that say something; a count of 0 or less needs none.
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
