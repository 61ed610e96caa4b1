//! Passages of a text that show why it was found. Pure: which engine found it is of no importance.
//!
//! What words match which query words is in [`patterns`].

mod patterns;

use std::collections::HashMap;
use std::ops::Range;

use patterns::Patterns;

use super::analysis::{Analyzer, Form, border};
use super::{Language, Query, StopFlag};

/// Length of a passage in characters, give or take the word at either end.
const LENGTH: usize = 180;
/// Matching words of a passage lie within so many characters, so that some stand around them.
const CORE: usize = 140;

/// Finds the words of a query in texts.
#[derive(Debug, Clone)]
pub struct Highlighter {
    analyzer: Analyzer,
    /// By field.
    patterns: HashMap<String, Patterns>,
    stop: StopFlag,
}

/// A passage of a text. Runs of white space in it have become single spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The passage, which begins and ends with a whole word.
    pub text: String,
    /// The bytes in `text` of the words that match, in order and apart from each other.
    pub marks: Vec<Range<usize>>,
}

/// A word that matches.
#[derive(Debug, Clone)]
struct Found {
    bytes: Range<usize>,
    /// The same in characters.
    chars: Range<usize>,
    /// Which of the query's words it is like.
    pattern: usize,
}

impl Highlighter {
    /// For a query on texts that are analysed by `language` (that of the index; see [`super::Search::language`]).
    #[must_use]
    pub fn new(query: &Query, language: Option<Language>) -> Self {
        let analyzer = Analyzer::new(language);
        Self { analyzer, patterns: patterns::by_field(query, analyzer), stop: StopFlag::default() }
    }

    /// The same, which finds nothing more once the flag is set: a long text and many similar words
    /// take seconds.
    #[must_use]
    pub fn stopped_by(self, stop: StopFlag) -> Self {
        Self { stop, ..self }
    }

    /// Whether the query asks for words in that field: else there are no snippets of it.
    #[must_use]
    pub fn looks_at(&self, field: &str) -> bool {
        self.patterns.contains_key(field)
    }

    /// The best passages of a text, `most` at most: those with the most different words of the query first, and of these the earliest. None where
    /// the query asks for no words in that field, or none of them is there.
    #[must_use]
    pub fn snippets(&self, field: &str, text: &str, most: usize) -> Vec<Snippet> {
        let Some(patterns) = self.patterns.get(field) else { return Vec::new() };
        let found = self.find(patterns, text);
        if self.stop.is_stopped() {
            return Vec::new();
        }
        let mut chosen: Vec<Range<usize>> = Vec::new();
        let mut windows = windows(&found);
        windows.sort_by_key(|(words, different)| (std::cmp::Reverse(*different), words.start));
        for (words, _) in windows {
            if chosen.len() == most {
                break;
            }
            let near = |other: &Range<usize>| {
                let (first, last) = if other.start < words.start { (other, &words) } else { (&words, other) };
                found[last.start].chars.start < found[first.end - 1].chars.end + LENGTH
            };
            if !chosen.iter().any(near) {
                chosen.push(words);
            }
        }
        chosen.into_iter().map(|words| snippet(text, &found, words)).collect()
    }

    /// The words of the text that match, in order: all of them, up to where there are too many in
    /// one form.
    fn find(&self, patterns: &Patterns, text: &str) -> Vec<Found> {
        let (mut found, mut end) = (Vec::new(), text.len());
        for form in [Form::Stem, Form::Exact] {
            if patterns.look_at(form) {
                let words = patterns.find(self.analyzer, form, text, &self.stop);
                if let Some((last, _)) = words.get(patterns::MOST - 1) {
                    end = end.min(last.end);
                }
                found.extend(words);
            }
        }
        found.retain(|(bytes, _)| bytes.end <= end);
        found.sort_by_key(|(bytes, pattern): &(Range<usize>, usize)| (bytes.start, bytes.end, *pattern));
        found.dedup();
        let (mut at, mut chars) = (0, 0);
        let place = |(bytes, pattern): (Range<usize>, usize)| {
            chars += text[at..bytes.start].chars().count();
            at = bytes.start;
            let length = text[bytes.clone()].chars().count();
            Found { bytes, chars: chars..chars + length, pattern }
        };
        found.into_iter().map(place).collect()
    }
}

/// From each matching word on as many as fit into a passage, and how many different ones of the query these are.
fn windows(found: &[Found]) -> Vec<(Range<usize>, usize)> {
    let mut within: HashMap<usize, usize> = HashMap::new();
    let mut end = 0;
    let mut windows = Vec::with_capacity(found.len());
    for start in 0..found.len() {
        while end < found.len() && (end <= start || found[end].chars.end <= found[start].chars.start + CORE) {
            *within.entry(found[end].pattern).or_default() += 1;
            end += 1;
        }
        windows.push((start..end, within.len()));
        if let Some(count) = within.get_mut(&found[start].pattern) {
            *count -= 1;
            if *count == 0 {
                within.remove(&found[start].pattern);
            }
        }
    }
    windows
}

/// The passage around these words.
fn snippet(text: &str, found: &[Found], words: Range<usize>) -> Snippet {
    let (first, last) = (&found[words.start], &found[words.start..words.end]);
    let core_end = last.iter().map(|word| word.bytes.end).max().unwrap_or(first.bytes.end);
    let length = text[first.bytes.start..core_end].chars().count();
    let around = LENGTH.saturating_sub(length);
    let start = before(text, first.bytes.start, around / 2);
    // What is not to be had before is taken behind.
    let had = text[start..first.bytes.start].chars().count();
    let end = behind(text, core_end, around - had.min(around));
    plain(text, start..end, &marks(found, start..end))
}

/// A place between words, so many characters before `at` or somewhat later.
fn before(text: &str, at: usize, characters: usize) -> usize {
    let mut places = text[..at].char_indices().rev();
    let from = match places.nth(characters) {
        None => return 0,
        Some((place, c)) => place + c.len_utf8(),
    };
    let borders = text[from..at].char_indices().map(|(place, _)| from + place);
    borders.chain([at]).find(|place| border(text, *place)).unwrap_or(at)
}

/// A place between words, so many characters behind `at` or somewhat earlier.
fn behind(text: &str, at: usize, characters: usize) -> usize {
    let until = text[at..].char_indices().nth(characters).map_or(text.len(), |(place, _)| at + place);
    let borders = text[at..until].char_indices().rev().map(|(place, _)| at + place);
    [until].into_iter().chain(borders).find(|place| border(text, *place)).unwrap_or(at)
}

/// What is matched in a part of the text; words that overlap, or are marked twice, become one mark.
fn marks(found: &[Found], part: Range<usize>) -> Vec<Range<usize>> {
    let mut marks: Vec<Range<usize>> = Vec::new();
    for word in found.iter().filter(|word| word.bytes.start >= part.start && word.bytes.end <= part.end) {
        match marks.last_mut() {
            Some(mark) if word.bytes.start < mark.end => mark.end = mark.end.max(word.bytes.end),
            _ => marks.push(word.bytes.clone()),
        }
    }
    marks
}

/// A part of the text with its white space made plain.
fn plain(text: &str, part: Range<usize>, marks: &[Range<usize>]) -> Snippet {
    let mut snippet = Snippet { text: String::with_capacity(part.len()), marks: Vec::with_capacity(marks.len()) };
    let mut to_come = marks.iter().peekable();
    for (at, c) in text[part.clone()].char_indices() {
        let at = part.start + at;
        if c.is_whitespace() || c.is_control() {
            if !snippet.text.is_empty() && !snippet.text.ends_with(' ') {
                snippet.text.push(' ');
            }
            continue;
        }
        if let Some(mark) = to_come.next_if(|mark| mark.start == at) {
            let start = snippet.text.len();
            snippet.marks.push(start..start + mark.len());
        }
        snippet.text.push(c);
    }
    snippet.text.truncate(snippet.text.trim_end().len());
    snippet
}

#[cfg(test)]
mod tests;
