//! From a syntax tree to a Tantivy query: which fields there are, what values fit them, and what the tree means.
//!
//! The tree is rewritten until Tantivy's query parser means by it what people do: dates become spans of seconds, `word*` a prefix,
//! `field:*` a look at the list of filled fields, and a group of exclusions all but those.

use tantivy::Index;
use tantivy::query::{Query, QueryParser};
use tantivy::tokenizer::TextAnalyzer;
use tantivy_query_grammar::{Delimiter, Occur, UserInputAst, UserInputBound, UserInputLeaf, UserInputLiteral};

use super::schema::{self, FieldSpec, Kind};
use super::{SearchError, SearchResult, dates, syntax, words};

/// Each prefix runs over the dictionaries of all its fields, so a query may not have any number of them.
const MAX_PREFIXES: usize = 32;
/// Shortest prefix in words of a text; a single letter stands for a good part of the dictionary.
const MIN_PREFIX: usize = 2;
/// Each term of each field that it is looked up in takes some ten kilobytes and a share of the time while the query runs.
const MAX_TERMS: usize = 4096;
/// Greatest slop that Tantivy's phrases count correctly is 255; people mean a sentence at most.
const MAX_SLOP: u32 = 50;

/// The query that `text` means on `index`.
///
/// # Errors
/// [`SearchError::Syntax`], [`SearchError::UnknownField`] and [`SearchError::Unsupported`].
pub(super) fn parse(index: &Index, text: &str) -> SearchResult<Box<dyn Query>> {
    let mut resolver = Resolver { words: words::words(), exact: words::exact(), prefixes: 0, terms: 0 };
    let Some(ast) = resolver.resolve(syntax::parse(text)?)? else {
        return Err(unsupported("the query has no letter or digit to search for; * finds every document"));
    };
    let mut parser = QueryParser::for_index(index, schema::LAYOUT.defaults());
    parser.set_conjunction_by_default();
    // Only prefixes become regular expressions; those of the user are refused.
    parser.allow_regexes();
    parser.build_query_from_user_input_ast(ast).map_err(|error| unsupported(error.to_string()))
}

fn unsupported(message: impl Into<String>) -> SearchError {
    SearchError::Unsupported(message.into())
}

struct Resolver {
    words: TextAnalyzer,
    exact: TextAnalyzer,
    prefixes: usize,
    terms: usize,
}

impl Resolver {
    /// The rewritten tree; `None` where nothing is left to search for, such as of a lone dash.
    fn resolve(&mut self, ast: UserInputAst) -> SearchResult<Option<UserInputAst>> {
        match ast {
            UserInputAst::Leaf(leaf) => self.leaf(*leaf),
            UserInputAst::Boost(inner, boost) => {
                Ok(self.resolve(*inner)?.map(|inner| UserInputAst::Boost(Box::new(inner), boost)))
            }
            UserInputAst::Clause(clauses) => {
                let mut kept = Vec::with_capacity(clauses.len() + 1);
                for (occur, clause) in clauses {
                    kept.extend(self.resolve(clause)?.map(|clause| (occur, clause)));
                }
                if kept.is_empty() {
                    return Ok(None);
                }
                if kept.iter().all(|(occur, _)| *occur == Some(Occur::MustNot)) {
                    kept.push((Some(Occur::Must), UserInputLeaf::All.into()));
                }
                Ok(Some(UserInputAst::Clause(kept)))
            }
        }
    }

    fn leaf(&mut self, leaf: UserInputLeaf) -> SearchResult<Option<UserInputAst>> {
        match leaf {
            UserInputLeaf::All => Ok(Some(UserInputLeaf::All.into())),
            UserInputLeaf::Exists { field } => Ok(Some(exists(known(&field)?))),
            UserInputLeaf::Literal(literal) => self.literal(literal),
            UserInputLeaf::Range { field, lower, upper } => {
                range(known(&field.unwrap_or_default())?, &lower, &upper).map(Some)
            }
            UserInputLeaf::Set { field, elements } => self.set(known(&field.unwrap_or_default())?, elements),
            UserInputLeaf::Regex { pattern, .. } => Err(unsupported(format!(
                "/{pattern}/ looks like a regular expression, and there are none; put it in double quotes"
            ))),
        }
    }

    fn literal(&mut self, mut literal: UserInputLiteral) -> SearchResult<Option<UserInputAst>> {
        let field = literal.field_name.as_deref().map(known).transpose()?;
        let quoted = literal.delimiter != Delimiter::None;
        if literal.slop > MAX_SLOP {
            return Err(unsupported(format!(
                "a phrase may be loosened by {MAX_SLOP} words at most, not {}",
                literal.slop
            )));
        }
        if !quoted && literal.phrase.contains('*') {
            return self.prefix(field, &literal.phrase).map(Some);
        }
        let is_text = field.is_none_or(|field| field.kind == Kind::Text);
        if let Some(field) = field.filter(|field| field.kind == Kind::Date) {
            return on(field, &literal.phrase).map(Some);
        }
        if !quoted && is_text && looks_fuzzy(&literal.phrase) {
            return Err(unsupported(format!("in {}, ~ must follow a phrase in double quotes", literal.phrase)));
        }
        literal.phrase = words::normal(&literal.phrase).into_owned();
        if is_text {
            let terms = terms(&mut self.words, &literal.phrase).len();
            if terms == 0 {
                return Ok(None);
            }
            self.spend(if field.is_some() { terms } else { terms * schema::LAYOUT.defaults().len() })?;
        }
        Ok(Some(UserInputLeaf::from(literal).into()))
    }

    fn spend(&mut self, terms: usize) -> SearchResult<()> {
        self.terms += terms;
        if self.terms > MAX_TERMS {
            let fields = schema::LAYOUT.defaults().len();
            return Err(unsupported(format!(
                "a query may look up {MAX_TERMS} words at most, and a word without a field is looked up in {fields} fields"
            )));
        }
        Ok(())
    }

    /// `word*`, in one field or all default ones.
    fn prefix(&mut self, field: Option<&FieldSpec>, word: &str) -> SearchResult<UserInputAst> {
        let misplaced =
            || unsupported(format!("in {word}, * must stand at the end of one word, behind its first letters"));
        let stem = word.strip_suffix('*').filter(|stem| !stem.contains('*')).ok_or_else(misplaced)?;
        let analyzer = match field.map(|field| field.kind) {
            Some(Kind::Date) => return Err(unsupported("dates take no *; issued:2018 finds the whole year")),
            Some(Kind::Exact) => &mut self.exact,
            Some(Kind::Text) | None => &mut self.words,
        };
        let terms = terms(analyzer, &words::normal(stem));
        let [term] = terms.as_slice() else { return Err(misplaced()) };
        let shortest = if field.is_some_and(|field| field.kind == Kind::Exact) { 1 } else { MIN_PREFIX };
        if term.chars().count() < shortest {
            return Err(unsupported(format!("in {word}, * must stand behind {shortest} letters or digits at least")));
        }
        self.prefixes += 1;
        if self.prefixes > MAX_PREFIXES {
            return Err(unsupported(format!("a query may have {MAX_PREFIXES} prefixes (word*) at most")));
        }
        let pattern = format!("{}.*", escape(term));
        let of =
            |field: &FieldSpec| UserInputLeaf::Regex { field: Some(field.name.to_owned()), pattern: pattern.clone() };
        Ok(match field {
            Some(field) => of(field).into(),
            None => any(schema::FIELDS.iter().filter(|field| field.default).map(|field| of(field).into())),
        })
    }

    /// `field: IN [a b]`
    fn set(&mut self, field: &FieldSpec, elements: Vec<String>) -> SearchResult<Option<UserInputAst>> {
        if elements.is_empty() {
            return Err(unsupported("a set needs a value: IN [a b]"));
        }
        let name = Some(field.name.to_owned());
        match field.kind {
            Kind::Date => {
                let spans: Vec<_> = elements.iter().map(|element| on(field, element)).collect::<SearchResult<_>>()?;
                Ok(Some(any(spans)))
            }
            Kind::Exact => {
                let elements = elements.iter().map(|element| words::normal(element).into_owned()).collect();
                Ok(Some(UserInputLeaf::Set { field: name, elements }.into()))
            }
            Kind::Text => {
                let phrase = |phrase| {
                    let (delimiter, slop, prefix) = (Delimiter::DoubleQuotes, 0, false);
                    UserInputLiteral { field_name: name.clone(), phrase, delimiter, slop, prefix }
                };
                self.resolve(any(elements.into_iter().map(|element| UserInputLeaf::from(phrase(element)).into())))
            }
        }
    }
}

fn known(name: &str) -> SearchResult<&'static FieldSpec> {
    let unknown = || SearchError::UnknownField { field: name.to_owned(), known: schema::names() };
    schema::find(name).ok_or_else(unknown)
}

fn any(clauses: impl IntoIterator<Item = UserInputAst>) -> UserInputAst {
    UserInputAst::Clause(clauses.into_iter().map(|clause| (Some(Occur::Should), clause)).collect())
}

/// Documents with a value in the field.
fn exists(field: &FieldSpec) -> UserInputAst {
    let (field_name, phrase) = (Some(schema::HAS.to_owned()), field.name.to_owned());
    UserInputLeaf::from(UserInputLiteral {
        field_name,
        phrase,
        delimiter: Delimiter::DoubleQuotes,
        slop: 0,
        prefix: false,
    })
    .into()
}

/// A date as the span that it covers.
fn on(field: &FieldSpec, date: &str) -> SearchResult<UserInputAst> {
    let bound = UserInputBound::Inclusive(date.to_owned());
    range(field, &bound, &bound)
}

/// A range of dates; bounds that are included are so to their last second.
fn range(field: &FieldSpec, lower: &UserInputBound, upper: &UserInputBound) -> SearchResult<UserInputAst> {
    if field.name != schema::ISSUED && field.name != schema::YEAR {
        return Err(unsupported(format!("{} has no ranges; issued and year have", field.name)));
    }
    let span = |date: &str| {
        dates::span(date).ok_or_else(|| {
            unsupported(format!(
                "{date:?} is no date; there are 2018, 2018-06, 2018-06-30 and \"2018-06-30T12:00:00Z\""
            ))
        })
    };
    let at = |seconds: i64| UserInputBound::Inclusive(seconds.to_string());
    let lower = match lower {
        UserInputBound::Inclusive(date) => at(span(date)?.start),
        UserInputBound::Exclusive(date) => at(span(date)?.end),
        UserInputBound::Unbounded => UserInputBound::Unbounded,
    };
    let upper = match upper {
        UserInputBound::Inclusive(date) => at(span(date)?.end - 1),
        UserInputBound::Exclusive(date) => at(span(date)?.start - 1),
        UserInputBound::Unbounded => UserInputBound::Unbounded,
    };
    if lower == UserInputBound::Unbounded && upper == UserInputBound::Unbounded {
        return Ok(exists(field));
    }
    Ok(UserInputLeaf::Range { field: Some(schema::ISSUED.to_owned()), lower, upper }.into())
}

fn terms(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    analyzer.token_stream(text).process(&mut |token| terms.push(token.text.clone()));
    terms
}

/// `word~1`, as other engines write a search for similar words: taken for words it would silently find nothing.
fn looks_fuzzy(phrase: &str) -> bool {
    phrase.rsplit_once('~').is_some_and(|(_, distance)| distance.bytes().all(|byte| byte.is_ascii_digit()))
}

fn escape(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 8);
    for c in term.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
