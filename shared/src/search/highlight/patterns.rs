//! The words that a query asks for in a field, and which words of a text are like them.

use std::collections::HashMap;
use std::ops::Range;

use super::super::analysis::{Analyzer, Form, Former};
use super::super::schema::{FIELDS, Kind};
use super::super::{FieldRef, Fields, Fuzziness, Phrase, Query, StopFlag, Words};

/// Words found in one text: among so many are passages enough, and a text may be made of one word.
pub(super) const MOST: usize = 20_000;
/// Different words of a text whose likeness is remembered.
const REMEMBERED: usize = 50_000;

/// What words may look like; each has a number.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns {
    stems: HashMap<String, usize>,
    exact: HashMap<String, usize>,
    beginnings: Vec<(String, usize)>,
    similar: Vec<(Vec<char>, usize, usize)>,
    count: usize,
}

/// What the query asks for, by field. What must not be found is left out.
pub(super) fn by_field(query: &Query, analyzer: Analyzer) -> HashMap<String, Patterns> {
    let mut wanted = Wanted { analyzer, patterns: HashMap::new() };
    wanted.add(query);
    wanted.patterns
}

struct Wanted {
    analyzer: Analyzer,
    patterns: HashMap<String, Patterns>,
}

impl Wanted {
    fn add(&mut self, query: &Query) {
        match query {
            Query::All | Query::Range(_) | Query::Exists(_) => {}
            Query::Words(words) => self.each(&words.fields, |analyzer, exact, patterns| {
                patterns.add_words(analyzer, words, exact);
            }),
            Query::Phrase(phrase) => self.each(&phrase.fields, |analyzer, exact, patterns| {
                patterns.add_phrase(analyzer, phrase, exact);
            }),
            Query::Prefix(prefix) => self.each(&prefix.fields, |analyzer, _, patterns| {
                let words = analyzer.exact_words(&prefix.text);
                words.into_iter().for_each(|word| patterns.add_beginning(word.text));
            }),
            Query::OneOf(one_of) => {
                for text in &one_of.values {
                    let fields = Fields::These(vec![one_of.field.clone()]);
                    let phrase = Phrase { text: text.clone(), fields, slop: 0, last_is_prefix: false };
                    self.add(&Query::Phrase(phrase));
                }
            }
            Query::Bool(clauses) => {
                [&clauses.must, &clauses.filter, &clauses.should]
                    .into_iter()
                    .flatten()
                    .for_each(|clause| self.add(clause));
            }
            Query::Boosted(inner, _) | Query::AskedBy(inner, _) => self.add(inner),
        }
    }

    /// Each field of texts of them, and whether it is looked at by exact forms.
    fn each(&mut self, fields: &Fields, add: impl Fn(Analyzer, bool, &mut Patterns)) {
        let texts = FIELDS.iter().filter(|spec| spec.kind == Kind::Text);
        for spec in texts {
            let named = |field: &&FieldRef| field.name == spec.name;
            let (looked_at, exact) = match fields {
                Fields::Default { exact } => (spec.default, *exact),
                Fields::These(fields) => match fields.iter().find(named) {
                    Some(field) => (true, field.exact),
                    None => (false, false),
                },
            };
            if looked_at {
                add(self.analyzer, exact, self.patterns.entry(spec.name.to_owned()).or_default());
            }
        }
    }
}

impl Patterns {
    fn add_words(&mut self, analyzer: Analyzer, words: &Words, exact: bool) {
        let fuzzy = words.fuzziness != Fuzziness::Exactly;
        for word in self.forms(analyzer, &words.text, exact || fuzzy) {
            match words.fuzziness.edits(&word) {
                0 => self.add_word(word, exact || fuzzy),
                edits => {
                    let letters: Vec<char> = word.chars().collect();
                    if !self.similar.iter().any(|(known, most, _)| (known, *most) == (&letters, edits)) {
                        self.similar.push((letters, edits, self.count));
                        self.count += 1;
                    }
                }
            }
        }
    }

    fn add_phrase(&mut self, analyzer: Analyzer, phrase: &Phrase, exact: bool) {
        let exact = exact || phrase.last_is_prefix;
        let mut words = self.forms(analyzer, &phrase.text, exact);
        let begun = if phrase.last_is_prefix { words.pop() } else { None };
        words.into_iter().for_each(|word| self.add_word(word, exact));
        if let Some(begun) = begun {
            self.add_beginning(begun);
        }
    }

    fn forms(&self, analyzer: Analyzer, text: &str, exact: bool) -> Vec<String> {
        let form = if exact { Form::Exact } else { Form::Stem };
        analyzer.words(text, form).map(|word| word.text).collect()
    }

    fn add_word(&mut self, word: String, exact: bool) {
        let known = if exact { &mut self.exact } else { &mut self.stems };
        let count = &mut self.count;
        known.entry(word).or_insert_with(|| {
            *count += 1;
            *count - 1
        });
    }

    fn add_beginning(&mut self, start: String) {
        if !self.beginnings.iter().any(|(known, _)| *known == start) {
            self.beginnings.push((start, self.count));
            self.count += 1;
        }
    }

    /// Whether words in this form are asked for.
    pub(super) fn look_at(&self, form: Form) -> bool {
        match form {
            Form::Stem => !self.stems.is_empty(),
            Form::Exact => !self.exact.is_empty() || !self.beginnings.is_empty() || !self.similar.is_empty(),
        }
    }

    /// The words of a text that are like one in that form: their bytes, and which one; the first
    /// [`MOST`], and those before the flag is set.
    pub(super) fn find(
        &self,
        analyzer: Analyzer,
        form: Form,
        text: &str,
        stop: &StopFlag,
    ) -> Vec<(Range<usize>, usize)> {
        let mut former = Former::new(analyzer, form);
        // Most words of a text are repeated, and to find a word's form takes longer than to look it up.
        let mut known: HashMap<&str, Option<usize>> = HashMap::new();
        let mut word = String::new();
        let mut found = Vec::new();
        for bytes in former.cut(text).take_while(|_| !stop.is_stopped()) {
            if found.len() == MOST {
                break;
            }
            if known.len() == REMEMBERED {
                known.clear();
            }
            let like = known.entry(&text[bytes.clone()]).or_insert_with_key(|written| {
                word.clear();
                if former.write(written, &mut word) { self.like(form, &word) } else { None }
            });
            found.extend(like.map(|pattern| (bytes, pattern)));
        }
        found
    }

    fn like(&self, form: Form, word: &str) -> Option<usize> {
        if form == Form::Stem {
            return self.stems.get(word).copied();
        }
        let begun = || self.beginnings.iter().find(|(start, _)| word.starts_with(start.as_str())).map(|(_, at)| *at);
        let similar = || {
            let letters: Vec<char> = if self.similar.is_empty() { Vec::new() } else { word.chars().collect() };
            self.similar.iter().find(|(like, edits, _)| distance(like, &letters, *edits)).map(|(.., at)| *at)
        };
        self.exact.get(word).copied().or_else(begun).or_else(similar)
    }
}

/// Whether one word becomes the other by so many edits; see [`Fuzziness`].
fn distance(a: &[char], b: &[char], edits: usize) -> bool {
    if a.len().abs_diff(b.len()) > edits {
        return false;
    }
    // Of the beginnings of `a` to those of `b`: the rows of the last three letters of `a`.
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<usize>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [two, one, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let change = one[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(one[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()] <= edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_insertions_deletions_substitutions_and_swaps() {
        for (a, b, least) in [
            ("mining", "mining", 0),
            ("mining", "minng", 1),
            ("mining", "mininng", 1),
            ("mining", "minimg", 1),
            ("mining", "mniing", 1),
            ("mining", "mniign", 2),
            ("ca", "abc", 3),
            ("", "ab", 2),
            ("größe", "grosse", 3),
        ] {
            let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            for edits in 0..4 {
                assert_eq!(distance(&x, &y, edits), edits >= least, "{a} {b} {edits}");
                assert_eq!(distance(&y, &x, edits), edits >= least, "{b} {a} {edits}");
            }
        }
    }
}
