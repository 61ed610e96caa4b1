//! How a text becomes words, and words the forms by which they are compared. Every engine, and whatever marks words in a text, cuts in this way.
//!
//! The fields of an index are in [`super::schema`], what Tantivy is given in [`super::words`].

mod cut;

use std::borrow::Cow;
use std::ops::Range;

use frostem::{Algorithm, Stemmer};
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

pub(super) use cut::{Words as Cut, border};

use super::Language;

/// Longer words than this many bytes are no words of a language: they are passed over as if they were not there.
const LONGEST_WORD: usize = 256;

/// A word of a text. Its position is its place in the list: the first has 0, each next one more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The form that is compared.
    pub text: String,
    /// Where the word stands in the text.
    pub bytes: Range<usize>,
}

/// In which form words are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Without case and diacritics.
    Exact,
    /// The stem that it shares with the word's other forms.
    Stem,
}

/// Cuts texts into words. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analyzer {
    language: Option<Language>,
}

impl Analyzer {
    /// For texts of a language; `None`: for texts of any, whose words have no stems.
    #[must_use]
    pub fn new(language: Option<Language>) -> Self {
        Self { language }
    }

    /// The words without case and diacritics. Each Han or Kana character is one.
    #[must_use]
    pub fn exact_words(self, text: &str) -> Vec<Token> {
        self.words(text, Form::Exact).collect()
    }

    /// The words by their stems, also without diacritics; where the language is Chinese or Japanese, words as a dictionary has them. The same as
    /// [`Analyzer::exact_words`] where there is no language.
    #[must_use]
    pub fn stems(self, text: &str) -> Vec<Token> {
        self.words(text, Form::Stem).collect()
    }

    /// A value of a field that is matched as a whole, as it is compared: in Unicode's normal form C and in small letters.
    #[must_use]
    pub fn whole(value: &str) -> String {
        normal(value).chars().flat_map(char::to_lowercase).collect()
    }

    /// The words in one of the forms.
    pub(super) fn words(self, text: &str, form: Form) -> impl Iterator<Item = Token> {
        let mut former = Former::new(self, form);
        cut::words(text, former.dictionary).filter_map(move |bytes| {
            let mut form = String::new();
            former.write(&text[bytes.clone()], &mut form).then_some(Token { text: form, bytes })
        })
    }

    fn stemmer(self) -> Option<Stemmer> {
        let algorithm = match self.language? {
            Language::Ar => Algorithm::Arabic,
            Language::Da => Algorithm::Danish,
            Language::De => Algorithm::German,
            Language::El => Algorithm::Greek,
            Language::En => Algorithm::English,
            Language::Es => Algorithm::Spanish,
            Language::Fi => Algorithm::Finnish,
            Language::Fr => Algorithm::French,
            Language::Hu => Algorithm::Hungarian,
            Language::It => Algorithm::Italian,
            Language::Ja | Language::Zh => return None,
            Language::Nl => Algorithm::Dutch,
            Language::No => Algorithm::Norwegian,
            Language::Pt => Algorithm::Portuguese,
            Language::Ro => Algorithm::Romanian,
            Language::Ru => Algorithm::Russian,
            Language::Sv => Algorithm::Swedish,
            Language::Ta => Algorithm::Tamil,
            Language::Tr => Algorithm::Turkish,
        };
        Some(Stemmer::new(algorithm))
    }
}

/// Brings words into one form.
pub(super) struct Former {
    stemmer: Option<Stemmer>,
    /// Whether runs of ideographs are cut into words, which only a language's stems are.
    dictionary: bool,
    /// In Turkish I is not the capital of i.
    turkish: bool,
    small: String,
}

impl Former {
    pub(super) fn new(analyzer: Analyzer, form: Form) -> Self {
        let stems = form == Form::Stem;
        Self {
            stemmer: analyzer.stemmer().filter(|_| stems),
            dictionary: stems && matches!(analyzer.language, Some(Language::Ja | Language::Zh)),
            turkish: analyzer.language == Some(Language::Tr),
            small: String::new(),
        }
    }

    /// The words of a text by their bytes; some have no form.
    pub(super) fn cut<'a>(&self, text: &'a str) -> Cut<'a> {
        cut::words(text, self.dictionary)
    }

    /// Puts the word's form behind `form`; false if it is none.
    pub(super) fn write(&mut self, word: &str, form: &mut String) -> bool {
        if word.len() > LONGEST_WORD {
            return false;
        }
        self.small.clear();
        // Most words of most texts; what follows costs them several times as much.
        if word.is_ascii() && !self.turkish {
            self.small.push_str(word);
            self.small.make_ascii_lowercase();
        } else {
            self.lower(word);
        }
        let Some(stemmer) = self.stemmer else {
            fold(&self.small, form);
            return form.contains(char::is_alphanumeric);
        };
        // Endings are written with diacritics, so they are what the stemmer must see.
        fold(&stemmer.stem(&normal(&self.small)), form);
        if form.is_empty() {
            fold(&self.small, form);
        }
        form.contains(char::is_alphanumeric)
    }

    fn lower(&mut self, word: &str) {
        for c in word.chars().filter(|c| !cut::invisible(*c)) {
            match c {
                'I' if self.turkish => self.small.push('ı'),
                'İ' if self.turkish => self.small.push('i'),
                c => self.small.extend(c.to_lowercase()),
            }
        }
    }
}

/// The text in normal form C: PDF files often spell é as e and a combining accent.
pub(super) fn normal(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Small letters without diacritics: accents, umlauts, Hebrew and Arabic vowel points. Ligatures and letters of other widths become plain ones.
/// Marks that make other letters of theirs (those of Indic scripts, Thai, Kana and й) stay.
fn fold(word: &str, out: &mut String) {
    if word.is_ascii() {
        return out.push_str(word);
    }
    for c in word.chars() {
        if c.is_ascii() {
            out.push(c);
        } else if let Some(plain) = plain(c) {
            out.push_str(plain);
        } else if !diacritic(c) {
            decompose(c, out);
        }
    }
}

/// Strokes, Hebrew and Arabic points, and what stands above or below a letter; not the vowels and tones of other scripts (UAX 44, 5.7.4).
fn diacritic(c: char) -> bool {
    matches!(canonical_combining_class(c), 1 | 10..=36 | 200..)
}

/// Letters that no decomposition takes apart, though people do.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' | 'ẞ' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ł' => "l",
        'ı' => "i",
        'ħ' => "h",
        'ŧ' => "t",
        'ς' => "σ",
        'ё' => "е",
        'ـ' => "",
        _ => return None,
    })
}

/// A Latin or Greek letter, or a digit, by its parts; others as they are.
fn decompose(c: char, out: &mut String) {
    let mut parts = Vec::with_capacity(4);
    decompose_compatible(c, |part| parts.push(part));
    let simple =
        |part: char| part.is_ascii_alphanumeric() || matches!(part, '\u{370}'..='\u{3ff}') || plain(part).is_some();
    if !simple(parts[0]) || !parts.iter().all(|part| part.is_alphanumeric() || diacritic(*part)) {
        return out.push(c);
    }
    for part in parts.into_iter().filter(|part| !diacritic(*part)) {
        match plain(part) {
            Some(plain) => out.push_str(plain),
            None => out.extend(part.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests;
