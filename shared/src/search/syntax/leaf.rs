//! Single terms of the query language: words, phrases, prefixes, similar words, ranges, sets.

use super::super::{Bound, Fields, Fuzziness, OneOf, Phrase, Prefix, Query, Range, SearchResult, Words};
use super::{FieldRef, Parser, SearchError, syntax};

/// Characters that mean something within a word, so that they must be escaped or quoted there.
const SPECIAL: [char; 7] = ['"', '[', ']', '{', '}', ':', '`'];

impl Parser {
    /// One term.
    pub(super) fn leaf(&mut self, field: Option<&str>) -> SearchResult<Query> {
        let start = self.at;
        match self.peek() {
            Some('[' | '{') => self.range(needed(field, start)?),
            Some('<' | '>') => self.comparison(needed(field, start)?),
            _ if self.at_set() => self.set(needed(field, start)?),
            Some('=') => {
                self.at += 1;
                match self.peek() {
                    None | Some(' ' | '(' | ')' | '=' | '<' | '>') => {
                        Err(self.error("behind = stands the word or the phrase whose exact form is meant"))
                    }
                    Some('"') => self.phrase(fields(field, true)),
                    Some(_) => self.word(field, true),
                }
            }
            Some('"') => self.phrase(fields(field, false)),
            _ => self.word(field, false),
        }
    }

    /// A quoted phrase, with its `~2`.
    fn phrase(&mut self, fields: Fields) -> SearchResult<Query> {
        let text = self.quoted()?;
        if self.peek() == Some('*') {
            return Err(self.error("a * stands at the end of a single word, not of a phrase"));
        }
        let mut slop = 0;
        if self.peek() == Some('~') {
            let tilde = self.at;
            self.at += 1;
            let digits = self.take_while(|c| c.is_ascii_digit());
            slop = digits
                .parse()
                .map_err(|_| syntax(tilde, "behind ~ stands how far the words may be apart: \"a b\"~2"))?;
        }
        Ok(Query::Phrase(Phrase { text, fields, slop, last_is_prefix: false }))
    }

    /// A word, with its `*` or `~1`; also a lone `*`.
    fn word(&mut self, field: Option<&str>, exact: bool) -> SearchResult<Query> {
        let start = self.at;
        if self.peek() == Some('*') && !exact {
            self.at += 1;
            if matches!(self.peek(), None | Some(' ' | '(' | ')' | '^')) {
                return Ok(field.map_or(Query::All, |field| Query::Exists(field.to_owned())));
            }
            return Err(syntax(start, "a * stands at the end of a word, behind its first letters"));
        }
        let text = self.plain()?;
        let (text, fields) = (text, fields(field, exact));
        match self.peek() {
            Some('*') if text.is_empty() => {
                Err(self.error("a * stands at the end of a word, behind its first letters"))
            }
            Some('*') => {
                self.at += 1;
                match self.peek() {
                    None | Some(' ' | '(' | ')' | '^') => Ok(Query::Prefix(Prefix { text, fields })),
                    Some(_) => Err(syntax(self.at - 1, "a * stands at the end of a word, behind its first letters")),
                }
            }
            Some('~') => self.similar(text, fields),
            _ if text.len() > 1 && text.starts_with('/') && text.ends_with('/') => {
                Err(syntax(start, "this looks like a regular expression, and there are none; put it in double quotes"))
            }
            _ => Ok(Query::Phrase(Phrase { text, fields, slop: 0, last_is_prefix: false })),
        }
    }

    /// `~`, `~1` or `~2` behind a word.
    fn similar(&mut self, text: String, fields: Fields) -> SearchResult<Query> {
        let tilde = self.at;
        self.at += 1;
        let fuzziness = match self.take_while(|c| c.is_ascii_digit()).as_str() {
            "" => Fuzziness::Auto,
            "0" => Fuzziness::Edits(0),
            "1" => Fuzziness::Edits(1),
            "2" => Fuzziness::Edits(2),
            _ => return Err(syntax(tilde, "behind ~ stands in how many letters the word may differ: 1 or 2")),
        };
        let (need, across) = (super::super::Need::All, false);
        Ok(Query::Words(Words { text, fields, need, across, fuzziness }))
    }

    /// The characters of a word, up to one that ends it or says more of it.
    fn plain(&mut self) -> SearchResult<String> {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '(' | ')' | '^' | '*' => break,
                '~' if self.ends_with_distance() => break,
                '\\' => text.push(self.escaped()?),
                c if SPECIAL.contains(&c) => {
                    return Err(self.error(&format!("{c} cannot stand in a word; put the value in double quotes")));
                }
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        Ok(text)
    }

    /// Whether the `~` here and the digits behind it end the word: within one, as in `a~b`, it is a character like others.
    fn ends_with_distance(&self) -> bool {
        let behind = self.chars[self.at + 1..].iter().find(|c| !c.is_ascii_digit());
        matches!(behind, None | Some(' ' | '(' | ')' | '^'))
    }

    fn escaped(&mut self) -> SearchResult<char> {
        let Some(c) = self.chars.get(self.at + 1).copied() else {
            return Err(self.error("a \\ stands before the character that it protects"));
        };
        self.at += 2;
        Ok(c)
    }

    /// From a quotation mark to the next one that is not escaped.
    fn quoted(&mut self) -> SearchResult<String> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(syntax(start, "this quotation mark is not closed")),
                Some('"') => break,
                Some('\\') => text.push(self.escaped()?),
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(text)
    }

    /// `[from TO to]`; braces leave their bound out.
    fn range(&mut self, field: &str) -> SearchResult<Query> {
        let start = self.at;
        let wrong = || syntax(start, "a range is written [from TO to]; * leaves an end open");
        let bound = |value: Option<String>, included: bool| match value {
            None => Bound::Open,
            Some(value) if included => Bound::Included(value),
            Some(value) => Bound::Excluded(value),
        };
        let lower = self.peek() == Some('[');
        self.at += 1;
        let from = self.listed(&[']', '}'], start)?.ok_or_else(wrong)?;
        let to_stands_here = self.chars[self.at..].starts_with(&['T', 'O', ' ']);
        if !to_stands_here {
            return Err(wrong());
        }
        self.at += 2;
        let to = self.listed(&[']', '}'], start)?.ok_or_else(wrong)?;
        let upper = match self.peek() {
            Some(']') => true,
            Some('}') => false,
            None => return Err(unclosed(start)),
            Some(_) => return Err(wrong()),
        };
        self.at += 1;
        let (lower, upper) = (bound(from.bound(), lower), bound(to.bound(), upper));
        Ok(Query::Range(Range { field: field.to_owned(), lower, upper }))
    }

    /// `>=2019`, also with spaces between.
    fn comparison(&mut self, field: &str) -> SearchResult<Query> {
        let start = self.at;
        let sign = self.take_while(|c| matches!(c, '<' | '>' | '='));
        self.skip_spaces();
        let value = match self.peek() {
            Some('"') => self.quoted()?,
            _ => self.take_while(|c| !matches!(c, ' ' | '(' | ')' | '^')),
        };
        if value.is_empty() {
            return Err(self.error("a value is missing here"));
        }
        let (lower, upper) = match sign.as_str() {
            "<" => (Bound::Open, Bound::Excluded(value)),
            "<=" => (Bound::Open, Bound::Included(value)),
            ">" => (Bound::Excluded(value), Bound::Open),
            ">=" => (Bound::Included(value), Bound::Open),
            _ => return Err(syntax(start, "a comparison is written <a, <=a, >a or >=a")),
        };
        Ok(Query::Range(Range { field: field.to_owned(), lower, upper }))
    }

    /// Whether `IN [` stands here.
    fn at_set(&self) -> bool {
        let rest = &self.chars[self.at..];
        rest.starts_with(&['I', 'N']) && rest[2..].iter().find(|c| **c != ' ') == Some(&'[')
    }

    /// `IN [a b "c d"]`
    fn set(&mut self, field: &str) -> SearchResult<Query> {
        self.at += 2;
        self.skip_spaces();
        let start = self.at;
        self.at += 1;
        let mut values = Vec::new();
        while let Some(value) = self.listed(&[']'], start)? {
            values.push(value.text);
        }
        if values.is_empty() {
            return Err(syntax(start, "a set needs a value: IN [a b \"c d\"]"));
        }
        self.at += 1;
        Ok(Query::OneOf(OneOf { field: FieldRef::named(field), values }))
    }

    /// A value between brackets, and the spaces around it; `None` at the closing one.
    fn listed(&mut self, closing: &[char], opened: usize) -> SearchResult<Option<Listed>> {
        self.skip_spaces();
        let mut text = String::new();
        let quoted = self.peek() == Some('"');
        if quoted {
            text = self.quoted()?;
        }
        let start = self.at;
        while let Some(c) = self.peek().filter(|c| !quoted && *c != ' ' && !closing.contains(c)) {
            match c {
                '\\' => text.push(self.escaped()?),
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        if self.at == start && !quoted {
            return if self.peek().is_some() { Ok(None) } else { Err(unclosed(opened)) };
        }
        self.skip_spaces();
        Ok(Some(Listed { text, quoted }))
    }
}

/// A value between brackets.
struct Listed {
    text: String,
    quoted: bool,
}

impl Listed {
    /// As a bound of a range; `None` of an open one.
    fn bound(self) -> Option<String> {
        (self.quoted || self.text != "*").then_some(self.text)
    }
}

fn unclosed(opened: usize) -> SearchError {
    syntax(opened, "this bracket is not closed")
}

fn needed(field: Option<&str>, position: usize) -> SearchResult<&str> {
    field.ok_or_else(|| syntax(position, "ranges and sets need a field, as in issued:[2018 TO 2020]"))
}

fn fields(name: Option<&str>, exact: bool) -> Fields {
    match name {
        None => Fields::Default { exact },
        Some(name) => {
            let field = FieldRef::named(name);
            Fields::These(vec![FieldRef { exact: exact || field.exact, ..field }])
        }
    }
}
