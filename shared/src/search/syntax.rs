//! From the text of a query to Tantivy's syntax tree.
//!
//! What a single term means (phrases with slop, ranges, sets, escapes) is left to Tantivy's own grammar; only how terms are joined is
//! read here, for three reasons. Tantivy's tree cannot tell `a OR b c OR d` from `a OR b OR c OR d`, so words joined by AND need the
//! AND to be seen before. Its errors give no usable position. And its recursion has no bound, while a query comes from anybody.
//!
//! Which fields there are and what values fit them is the business of [`super::query`].

use tantivy_query_grammar::{Occur, UserInputAst, UserInputLeaf, parse_query};

use super::{SearchError, SearchResult};

/// Longest query in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// Most groups within groups.
const MAX_DEPTH: usize = 32;
/// Greatest boost, to keep scores finite.
const MAX_BOOST: f64 = 1000.0;

/// Reads a query. Words side by side are joined by AND, which binds tighter than OR.
///
/// # Errors
/// [`SearchError::Syntax`] with the position of the first mistake.
pub(super) fn parse(query: &str) -> SearchResult<UserInputAst> {
    if query.len() > MAX_BYTES {
        let position = query[..query.floor_char_boundary(MAX_BYTES)].chars().count();
        return Err(syntax(position, &format!("a query may be {MAX_BYTES} bytes long at most")));
    }
    // Spaces and quotation marks as word processors write them mean the same as plain ones.
    let plain = |c: char| match c {
        '“' | '”' | '„' => '"',
        c if c.is_whitespace() => ' ',
        c => c,
    };
    let mut parser = Parser { chars: query.chars().map(plain).collect(), at: 0, depth: 0 };
    parser.skip_spaces();
    if parser.peek().is_none() {
        return Err(syntax(0, "the query is empty; * finds every document"));
    }
    let ast = parser.alternatives(None)?;
    match parser.peek() {
        None => Ok(ast),
        Some(_) => Err(parser.error("this ) closes nothing")),
    }
}

fn syntax(position: usize, message: &str) -> SearchError {
    SearchError::Syntax { position, message: message.to_owned() }
}

/// Characters that mean something within a word, so that they must be escaped or quoted there.
const SPECIAL: [char; 7] = ['"', '[', ']', '{', '}', ':', '`'];

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    /// `a OR b OR c`, up to the end or a closing parenthesis.
    fn alternatives(&mut self, field: Option<&str>) -> SearchResult<UserInputAst> {
        let mut clauses = Vec::new();
        loop {
            clauses.push(self.conjunction(field)?);
            if !self.take_keyword("OR") {
                return Ok(joined(clauses));
            }
        }
    }

    /// `a b AND c`, up to OR, the end or a closing parenthesis. A single `+a` stays required among alternatives.
    fn conjunction(&mut self, field: Option<&str>) -> SearchResult<(Option<Occur>, UserInputAst)> {
        let mut clauses = Vec::new();
        let mut plus = false;
        loop {
            let (sign, ast) = self.operand(field)?;
            plus |= sign == Some(Occur::Must);
            clauses.push((sign.or(Some(Occur::Must)), ast));
            let joined_by_and = self.take_keyword("AND");
            if !joined_by_and && (matches!(self.peek(), None | Some(')')) || self.keyword() == Some("OR")) {
                break;
            }
        }
        let occur = if plus && clauses.len() == 1 { Occur::Must } else { Occur::Should };
        Ok((Some(occur), joined(clauses)))
    }

    /// A term or group with the signs before it.
    fn operand(&mut self, field: Option<&str>) -> SearchResult<(Option<Occur>, UserInputAst)> {
        let mut sign = None;
        loop {
            self.skip_spaces();
            if self.take_keyword("NOT") {
                sign = if sign == Some(Occur::MustNot) { None } else { Some(Occur::MustNot) };
                continue;
            }
            sign = match self.peek() {
                Some('-') if sign != Some(Occur::MustNot) => Some(Occur::MustNot),
                Some('+') if sign.is_none() => Some(Occur::Must),
                _ => break,
            };
            self.at += 1;
            if matches!(self.peek(), None | Some(' ' | ')')) {
                self.at -= 1;
                return Err(self.error("a sign stands directly before its word; quote it to search for it"));
            }
        }
        let ast = self.primary(field)?;
        let ast = self.boosted(ast)?;
        if self.chars[self.at - 1] != ')' && !matches!(self.peek(), None | Some(' ' | '(' | ')')) {
            return Err(self.error("a space is missing here"));
        }
        self.skip_spaces();
        Ok((sign, ast))
    }

    /// `term`, `field:term`, `(group)` or `field:(group)`.
    fn primary(&mut self, group_field: Option<&str>) -> SearchResult<UserInputAst> {
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

    fn group(&mut self, field: Option<&str>) -> SearchResult<UserInputAst> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(&format!("groups may be nested {MAX_DEPTH} deep at most")));
        }
        let opened = self.at;
        self.at += 1;
        self.depth += 1;
        let ast = self.alternatives(field)?;
        self.depth -= 1;
        if self.peek() != Some(')') {
            return Err(syntax(opened, "this ( is not closed"));
        }
        self.at += 1;
        Ok(ast)
    }

    /// `^2.5` behind a term or group.
    fn boosted(&mut self, ast: UserInputAst) -> SearchResult<UserInputAst> {
        if self.peek() != Some('^') {
            return Ok(ast);
        }
        let start = self.at;
        self.at += 1;
        let number = self.take_while(|c| c.is_ascii_digit() || c == '.');
        match number.parse::<f64>() {
            Ok(boost) if boost <= MAX_BOOST => Ok(UserInputAst::Boost(Box::new(ast), boost.into())),
            _ => Err(syntax(start, &format!("after ^ stands a number from 0 to {MAX_BOOST}"))),
        }
    }

    /// One term, cut out here and read by Tantivy's grammar.
    fn leaf(&mut self, field: Option<&str>) -> SearchResult<UserInputAst> {
        let start = self.at;
        let (term, hint) = match self.peek() {
            Some('"') => (self.phrase()?, "a phrase is written \"a b\" or \"a b\"~2"),
            Some('[' | '{') => (self.enclosed(&[']', '}'])?, "a range is written [from TO to]; * leaves an end open"),
            Some('<' | '>') => (self.comparison()?, "a comparison is written <a, <=a, >a or >=a"),
            _ if self.at_set() => (self.enclosed(&[']'])?, "a set is written IN [a b \"c d\"]"),
            _ => (self.word()?, "put the word in double quotes"),
        };
        // With some field before it, a colon in a date-time is not taken for the end of a field.
        let Ok(UserInputAst::Leaf(mut leaf)) = parse_query(&format!("f:{term}")) else {
            return Err(syntax(start, &format!("this cannot be read; {hint}")));
        };
        let field = field.map(str::to_owned);
        match &mut *leaf {
            UserInputLeaf::Range { .. } | UserInputLeaf::Set { .. } if field.is_none() => {
                return Err(syntax(start, "ranges and sets need a field, as in issued:[2018 TO 2020]"));
            }
            UserInputLeaf::Literal(literal) => literal.field_name = field,
            UserInputLeaf::Range { field: place, .. }
            | UserInputLeaf::Set { field: place, .. }
            | UserInputLeaf::Regex { field: place, .. } => *place = field,
            UserInputLeaf::All | UserInputLeaf::Exists { .. } => {
                *leaf = field.map_or(UserInputLeaf::All, |field| UserInputLeaf::Exists { field });
            }
        }
        Ok(UserInputAst::Leaf(leaf))
    }

    /// A quoted phrase with its `~2` or `*`.
    fn phrase(&mut self) -> SearchResult<String> {
        let mut phrase = self.quoted()?;
        if self.peek() == Some('*') {
            return Err(self.error("a * stands at the end of a single word, not of a phrase"));
        }
        if self.peek() == Some('~') {
            self.at += 1;
            phrase.push('~');
            phrase.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        Ok(phrase)
    }

    /// From a quotation mark to the next one that is not escaped.
    fn quoted(&mut self) -> SearchResult<String> {
        let start = self.at;
        let mut text = String::from('"');
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += 1;
            text.push(c);
            match c {
                '"' => return Ok(text),
                '\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                _ => {}
            }
        }
        Err(syntax(start, "this quotation mark is not closed"))
    }

    /// From a bracket to its counterpart, outside of quotation marks.
    fn enclosed(&mut self, closing: &[char]) -> SearchResult<String> {
        let start = self.at;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if c == '"' {
                text.push_str(&self.quoted()?);
                continue;
            }
            self.at += 1;
            if closing.contains(&c) {
                // The grammar takes no space before the bracket of a set.
                text.truncate(text.trim_end().len());
                text.push(c);
                return Ok(text);
            }
            push_plain(&mut text, c);
        }
        Err(syntax(start, "this bracket is not closed"))
    }

    /// `>=2019`, also with spaces between.
    fn comparison(&mut self) -> SearchResult<String> {
        let mut text = self.take_while(|c| matches!(c, '<' | '>' | '='));
        self.skip_spaces();
        let value = self.take_while(|c| !matches!(c, ' ' | '(' | ')' | '^'));
        if value.is_empty() {
            return Err(self.error("a value is missing here"));
        }
        text.push_str(&value);
        Ok(text)
    }

    fn word(&mut self) -> SearchResult<String> {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '(' | ')' | '^' => break,
                '\\' => {
                    self.at += 1;
                    let Some(escaped) = self.peek() else {
                        self.at -= 1;
                        return Err(self.error("a \\ stands before the character that it protects"));
                    };
                    text.push('\\');
                    text.push(escaped);
                }
                c if SPECIAL.contains(&c) => {
                    return Err(self.error(&format!("{c} cannot stand in a word; put the value in double quotes")));
                }
                c => push_plain(&mut text, c),
            }
            self.at += 1;
        }
        Ok(text)
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

    /// Whether `IN [` stands here.
    fn at_set(&self) -> bool {
        let rest = &self.chars[self.at..];
        rest.starts_with(&['I', 'N']) && rest[2..].iter().find(|c| **c != ' ') == Some(&'[')
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

/// To the grammar an apostrophe opens a quotation, to people it belongs to the word.
fn push_plain(text: &mut String, c: char) {
    if c == '\'' {
        text.push('\\');
    }
    text.push(c);
}

/// One clause alone stays as it is, unless it is negative.
fn joined(mut clauses: Vec<(Option<Occur>, UserInputAst)>) -> UserInputAst {
    if clauses.len() == 1 && clauses[0].0 != Some(Occur::MustNot) {
        return clauses.remove(0).1;
    }
    UserInputAst::Clause(clauses)
}

#[cfg(test)]
mod tests;
