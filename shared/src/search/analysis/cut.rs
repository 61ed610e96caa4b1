//! Where words begin and end in a text.

use std::ops::Range;
use std::sync::LazyLock;

use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};
use unicode_normalization::char::is_combining_mark;

/// Knows the words of Chinese and Japanese by a dictionary, those of Thai, Lao, Khmer and Burmese by a model.
static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_auto(WordBreakInvariantOptions::default()));

/// How the words of a script are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// By what stands between them.
    Spaced,
    /// Kana and Han characters: by a dictionary, or each is taken for a word.
    Ideographs,
    /// Thai, Lao, Burmese, Khmer: by a model.
    Unspaced,
}

fn script(c: char) -> Script {
    match c {
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Script::Ideographs,
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{a9e0}'..='\u{a9ff}'
        | '\u{aa60}'..='\u{aa7f}' => Script::Unspaced,
        _ => Script::Spaced,
    }
}

/// What belongs to the letter before it: marks, joiners, and the hyphen that is only seen at the end of a line.
fn continues(c: char) -> bool {
    invisible(c) || (!c.is_ascii() && is_combining_mark(c))
}

/// Characters within words that are not seen and mean nothing to a search.
pub(super) fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}')
}

/// The bytes of each word: a run of letters and digits, with the marks on them. With `dictionary`, runs of ideographs are cut into
/// words as people read them; without, each is a word.
pub(super) fn words(text: &str, dictionary: bool) -> Words<'_> {
    Words { text, dictionary, at: 0, run: None }
}

/// See [`words`].
pub(in crate::search) struct Words<'a> {
    text: &'a str,
    dictionary: bool,
    at: usize,
    /// The words of a run that needs more than a look at each character: where it begins, where the last word ended, and the ends to come.
    run: Option<(usize, Box<dyn Iterator<Item = usize> + 'a>)>,
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if let Some((base, ends)) = &mut self.run {
            for end in ends {
                let word = self.at..*base + end;
                self.at = word.end;
                // Marks may be cut off their letters.
                if self.text[word.clone()].contains(char::is_alphanumeric) {
                    return Some(word);
                }
            }
            self.run = None;
        }
        self.at += self.text[self.at..].find(char::is_alphanumeric)?;
        let rest = &self.text[self.at..];
        let script = script(rest.chars().next()?);
        let length = length(rest, script, self.dictionary);
        if script == Script::Spaced || (script == Script::Ideographs && !self.dictionary) {
            let start = self.at;
            self.at += length;
            return Some(start..self.at);
        }
        self.run = Some((self.at, Box::new(SEGMENTER.segment_str(&rest[..length]))));
        self.next()
    }
}

/// Of the word, or the run of words, at the beginning of `rest`.
fn length(rest: &str, first: Script, dictionary: bool) -> usize {
    // Most words of most texts, for which a look at their bytes is enough.
    let ascii = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
    if ascii > 0 && rest.as_bytes().get(ascii).is_none_or(u8::is_ascii) {
        return ascii;
    }
    let single = first == Script::Ideographs && !dictionary;
    let ends = |(at, c): (usize, char)| {
        let goes_on = continues(c) || (!single && c.is_alphanumeric() && script(c) == first);
        (at > 0 && !goes_on).then_some(at)
    };
    rest.char_indices().find_map(ends).unwrap_or(rest.len())
}

/// Whether a text may be cut at this place without cutting a word.
pub(in crate::search) fn border(text: &str, at: usize) -> bool {
    let (Some(before), Some(behind)) = (text[..at].chars().next_back(), text[at..].chars().next()) else { return true };
    let in_word = |c: char| c.is_alphanumeric() || continues(c);
    let ideographs = script(before) == Script::Ideographs || script(behind) == Script::Ideographs;
    !(in_word(before) && in_word(behind)) || (ideographs && !continues(behind))
}
