//! Values of a query's JSON together with where they stand, so that every mistake is told with its path (`bool.must[1].match.title.analyzer`).
//!
//! What the members mean is said in [`super`].

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::super::{SearchError, SearchResult};

/// Most characters of a member's name that an error repeats.
const SHOWN: usize = 64;

/// Members that ask for nothing where they have Elasticsearch's default value: its clients write them into every query.
const DEFAULTS: [(&str, &str); 7] = [
    ("adjust_pure_negative", "true"),
    ("auto_generate_synonyms_phrase_query", "true"),
    ("fuzzy_transpositions", "true"),
    ("lenient", "false"),
    ("max_expansions", "50"),
    ("prefix_length", "0"),
    ("zero_terms_query", "none"),
];

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    path: String,
    value: &'a Value,
}

/// An object, and where it stands; the query itself has an empty path.
#[derive(Debug, Clone)]
pub(super) struct Object<'a> {
    path: String,
    members: Cow<'a, Map<String, Value>>,
}

impl<'a> Place<'a> {
    /// The error that this value is `what`.
    pub(super) fn error(&self, what: &str) -> SearchError {
        SearchError::Unsupported(format!("{} {what}", self.path))
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A string.
    pub(super) fn string(&self) -> SearchResult<&'a str> {
        self.value.as_str().ok_or_else(|| self.error("must be a text"))
    }

    /// A string, or a number as it is written.
    pub(super) fn text(&self) -> SearchResult<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.error("must be a text or a number")),
        }
    }

    /// A number.
    pub(super) fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    /// Whether this is `true`.
    pub(super) fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// One of the words, in any case.
    pub(super) fn word(&self, words: &[&'static str]) -> SearchResult<&'static str> {
        let text = self.value.as_str().unwrap_or_default();
        let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
        word.copied().ok_or_else(|| self.error(&format!("must be one of: {}", words.join(", "))))
    }

    /// The values of an array.
    pub(super) fn items(&self) -> SearchResult<Vec<Place<'a>>> {
        let Value::Array(items) = self.value else { return Err(self.error("must be an array")) };
        Ok(items.iter().enumerate().map(|(i, value)| Place { path: format!("{}[{i}]", self.path), value }).collect())
    }

    /// The values of an array, or this one alone.
    pub(super) fn one_or_items(&self) -> SearchResult<Vec<Place<'a>>> {
        if self.value.is_array() { self.items() } else { Ok(vec![self.clone()]) }
    }

    /// An object.
    pub(super) fn object(&self) -> SearchResult<Object<'a>> {
        let Value::Object(members) = self.value else { return Err(self.error("must be an object")) };
        Ok(Object { path: self.path.clone(), members: Cow::Borrowed(members) })
    }

    /// An object; a text or a number is short for one with just that member.
    pub(super) fn object_or(&self, member: &str) -> SearchResult<Object<'a>> {
        match self.value {
            Value::Object(_) => self.object(),
            Value::String(_) | Value::Number(_) => {
                let members = Map::from_iter([(member.to_owned(), self.value.clone())]);
                Ok(Object { path: self.path.clone(), members: Cow::Owned(members) })
            }
            _ => Err(self.error("must be a text, a number or an object")),
        }
    }
}

impl<'a> Object<'a> {
    /// The query itself.
    pub(super) fn root(members: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), members: Cow::Borrowed(members) }
    }

    /// The error that this object is `what`.
    pub(super) fn error(&self, what: &str) -> SearchError {
        let path = if self.path.is_empty() { "the query" } else { &self.path };
        SearchError::Unsupported(format!("{path} {what}"))
    }

    /// The value of a member.
    pub(super) fn get(&self, name: &str) -> Option<Place<'_>> {
        self.members.get(name).map(|value| Place { path: self.path_of(name), value })
    }

    /// The value of a member that must be there.
    pub(super) fn need(&self, name: &str) -> SearchResult<Place<'_>> {
        self.get(name).ok_or_else(|| self.error(&format!("needs the member {name}")))
    }

    /// All members.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Place<'_>)> {
        self.members.iter().map(|(name, value)| (name.as_str(), Place { path: self.path_of(name), value }))
    }

    /// The only member, which is `what`.
    pub(super) fn single(&self, what: &str) -> SearchResult<(&str, Place<'_>)> {
        let mut entries = self.entries();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => Ok(entry),
            _ => Err(self.error(&format!("must have exactly one member, {what}"))),
        }
    }

    /// Refuses members other than `known`, unless they ask for nothing.
    pub(super) fn only(&self, known: &[&str]) -> SearchResult<()> {
        let unknown = self.entries().find(|(name, place)| !known.contains(name) && !is_default(name, place.value));
        let there = if known.is_empty() { "no members".to_owned() } else { known.join(", ") };
        unknown.map_or(Ok(()), |(_, place)| Err(place.error(&format!("is not supported; there are: {there}"))))
    }

    fn path_of(&self, name: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        match name.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}{dot}{}…", self.path, &name[..end]),
            None => format!("{}{dot}{name}", self.path),
        }
    }
}

fn is_default(name: &str, value: &Value) -> bool {
    let text = match value {
        Value::String(text) => text.to_ascii_lowercase(),
        other => other.to_string(),
    };
    DEFAULTS.contains(&(name, text.as_str()))
}
