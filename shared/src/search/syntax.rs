//! The query language: from a text to the syntax tree.
//!
//! Which fields there are and what values fit them is the engine's business, and how texts are cut into words is too. So a word here is what stands
//! between spaces; `state-of-the-art` is one, and as it may turn out to have several words, it is a phrase.

mod leaf;

use super::lower::MAX_BOOST;
use super::{Bool, FieldRef, Query, SearchError, SearchResult};

/// Longest query in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// Most groups within groups.
const MAX_DEPTH: usize = 32;

/// Reads a query in the query language of `docs/SEARCH.md`. Words side by side are joined by AND, which binds tighter than OR.
///
/// # Errors
/// [`SearchError::Syntax`] with the position of the first mistake.
pub fn parse(query: &str) -> SearchResult<Query> {
    read(query, Part::Must)
}

/// Reads a query as [`parse`] does, but words side by side are joined by OR, and those with `-` before them are excluded from all others.
///
/// # Errors
/// [`SearchError::Syntax`] with the position of the first mistake.
pub(super) fn parse_alternatives(query: &str) -> SearchResult<Query> {
    read(query, Part::Should)
}

fn read(query: &str, unsigned: Part) -> SearchResult<Query> {
    if query.len() > MAX_BYTES {
        let position = query[..query.floor_char_boundary(MAX_BYTES)].chars().count();
        return Err(syntax(position, &format!("a query may be {MAX_BYTES} bytes long at most")));
    }
    if let Some(position) = query.chars().position(|c| c == '\0') {
        return Err(syntax(position, "a character with the code 0 stands here; no text has one"));
    }
    // Spaces and quotation marks as word processors write them mean the same as plain ones.
    let plain = |c: char| match c {
        '“' | '”' | '„' => '"',
        c if c.is_whitespace() => ' ',
        c => c,
    };
    let mut parser = Parser { chars: query.chars().map(plain).collect(), at: 0, depth: 0, unsigned };
    parser.skip_spaces();
    if parser.peek().is_none() {
        return Err(syntax(0, "the query is empty; * finds every document"));
    }
    let tree = parser.alternatives(None)?;
    match parser.peek() {
        None => Ok(tree),
        Some(_) => Err(parser.error("this ) closes nothing")),
    }
}

fn syntax(position: usize, message: &str) -> SearchError {
    SearchError::Syntax { position, message: message.to_owned() }
}

/// How a clause takes part in those that it stands among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Must,
    Should,
    MustNot,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    /// What a word is that stands beside others without sign or operator.
    unsigned: Part,
}

impl Parser {
    /// `a OR b OR c`, up to the end or a closing parenthesis.
    fn alternatives(&mut self, field: Option<&str>) -> SearchResult<Query> {
        let mut clauses = Vec::new();
        loop {
            clauses.push(self.conjunction(field)?);
            if !self.take_keyword("OR") && (self.unsigned == Part::Must || self.at_end()) {
                return Ok(joined(clauses));
            }
        }
    }

    /// `a b AND c`, up to OR, the end or a closing parenthesis. A single `+a` stays required among alternatives.
    fn conjunction(&mut self, field: Option<&str>) -> SearchResult<(Part, Query)> {
        let mut clauses = Vec::new();
        let mut single;
        loop {
            let (sign, tree) = self.operand(field)?;
            single = if clauses.is_empty() { sign } else { None };
            clauses.push((sign.unwrap_or(Part::Must), tree));
            let joined_by_and = self.take_keyword("AND");
            let apart = self.unsigned == Part::Should || self.at_end() || self.keyword() == Some("OR");
            if !joined_by_and && apart {
                break;
            }
        }
        match single {
            Some(Part::MustNot) if self.unsigned == Part::Should => Ok(clauses.remove(0)),
            Some(Part::Must) => Ok((Part::Must, joined(clauses))),
            _ => Ok((Part::Should, joined(clauses))),
        }
    }

    /// Whether the query or the group ends here.
    fn at_end(&self) -> bool {
        matches!(self.peek(), None | Some(')'))
    }

    /// A term or group with the signs before it.
    fn operand(&mut self, field: Option<&str>) -> SearchResult<(Option<Part>, Query)> {
        let mut sign = None;
        loop {
            self.skip_spaces();
            if self.take_keyword("NOT") {
                sign = if sign == Some(Part::MustNot) { None } else { Some(Part::MustNot) };
                continue;
            }
            sign = match self.peek() {
                Some('-') if sign != Some(Part::MustNot) => Some(Part::MustNot),
                Some('+') if sign.is_none() => Some(Part::Must),
                _ => break,
            };
            self.at += 1;
            if matches!(self.peek(), None | Some(' ' | ')')) {
                self.at -= 1;
                return Err(self.error("a sign stands directly before its word; quote it to search for it"));
            }
        }
        let tree = self.primary(field)?;
        let tree = self.boosted(tree)?;
        if self.chars[self.at - 1] != ')' && !matches!(self.peek(), None | Some(' ' | '(' | ')')) {
            return Err(self.error("a space is missing here"));
        }
        self.skip_spaces();
        Ok((sign, tree))
    }

    /// `term`, `field:term`, `(group)` or `field:(group)`.
    fn primary(&mut self, group_field: Option<&str>) -> SearchResult<Query> {
        if let Some(keyword) = self.keyword() {
            return Err(self.error(&format!("{keyword} needs something on both sides; quote it to search for it")));
        }
        let own_field = self.field();
        let field = own_field.as_deref().or(group_field);
        match self.peek() {
            Some('(') => self.group(field),
            None | Some(' ' | ')') => Err(self.error(match &own_field {
                Some(_) => "a value is missing here",
                None => "a word, a phrase or a group is missing here",
            })),
            Some(_) => self.leaf(field),
        }
    }

    fn group(&mut self, field: Option<&str>) -> SearchResult<Query> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(&format!("groups may be nested {MAX_DEPTH} deep at most")));
        }
        let opened = self.at;
        self.at += 1;
        self.depth += 1;
        let tree = self.alternatives(field)?;
        self.depth -= 1;
        if self.peek() != Some(')') {
            return Err(syntax(opened, "this ( is not closed"));
        }
        self.at += 1;
        Ok(tree)
    }

    /// `^2.5` behind a term or group.
    fn boosted(&mut self, tree: Query) -> SearchResult<Query> {
        if self.peek() != Some('^') {
            return Ok(tree);
        }
        let start = self.at;
        self.at += 1;
        let number = self.take_while(|c| c.is_ascii_digit() || c == '.');
        match number.parse::<f32>() {
            Ok(boost) if boost <= MAX_BOOST => Ok(Query::Boosted(Box::new(tree), boost)),
            _ => Err(syntax(start, &format!("after ^ stands a number from 0 to {MAX_BOOST}"))),
        }
    }

    /// Takes `name:` and the spaces behind it.
    fn field(&mut self) -> Option<String> {
        let start = self.at;
        let name = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if name.is_empty() || self.peek() != Some(':') {
            self.at = start;
            return None;
        }
        self.at += 1;
        // At the end, the place of the missing value is directly behind the colon.
        let behind = self.at;
        self.skip_spaces();
        if self.peek().is_none() {
            self.at = behind;
        }
        Some(name)
    }

    /// The operator that stands here as a word of its own.
    fn keyword(&self) -> Option<&'static str> {
        ["AND", "OR", "NOT"].into_iter().find(|keyword| {
            let rest = &self.chars[self.at..];
            let behind = rest.get(keyword.len());
            rest.iter().copied().take(keyword.len()).eq(keyword.chars())
                && matches!(behind, None | Some(' ' | '(' | ')' | '"'))
        })
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.keyword() == Some(keyword);
        if found {
            self.at += keyword.len();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..].iter().copied().take_while(|c| wanted(*c)).collect();
        self.at += taken.chars().count();
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(|c| c == ' ');
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn error(&self, message: &str) -> SearchError {
        syntax(self.at, message)
    }
}

/// One clause alone stays as it is, unless it is negative.
fn joined(mut clauses: Vec<(Part, Query)>) -> Query {
    if clauses.len() == 1 && clauses[0].0 != Part::MustNot {
        return clauses.remove(0).1;
    }
    let mut joined = Bool::default();
    for (part, clause) in clauses {
        match part {
            Part::Must => joined.must.push(clause),
            Part::Should => joined.should.push(clause),
            Part::MustNot => joined.must_not.push(clause),
        }
    }
    Query::Bool(joined)
}

#[cfg(test)]
mod tests;
