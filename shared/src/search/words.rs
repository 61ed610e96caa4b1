//! How text becomes terms, the same way when it is indexed and when it is asked for.

use std::borrow::Cow;

use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RawTokenizer, RemoveLongFilter, TextAnalyzer, Token, TokenStream, Tokenizer,
    TokenizerManager,
};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

/// Word by word, lower-cased, without diacritics.
pub(super) const WORDS: &str = "words";
/// The whole value, lower-cased.
pub(super) const EXACT: &str = "exact";
/// The value as it is; Tantivy's own.
pub(super) const RAW: &str = "raw";

/// Longer words than this many bytes are no words of a language and are not indexed.
const LONGEST_WORD: usize = 256;

/// The tokenizers of an index.
pub(super) fn tokenizers() -> TokenizerManager {
    // Tantivy's own are among them: it asks for its default one even for numbers.
    let manager = TokenizerManager::default();
    manager.register(WORDS, words());
    manager.register(EXACT, exact());
    manager
}

/// The analyzer of [`WORDS`].
pub(super) fn words() -> TextAnalyzer {
    TextAnalyzer::builder(Words::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .build()
}

/// The analyzer of [`EXACT`].
pub(super) fn exact() -> TextAnalyzer {
    TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).build()
}

/// The text in normal form C: PDF files often spell é as e and a combining accent, which would split the word.
pub(super) fn normal(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Cuts at everything that is neither letter nor digit. Chinese and Japanese are written without spaces, so there every
/// character is a word of its own, and a run of them in a query becomes a phrase.
#[derive(Debug, Clone, Default)]
struct Words(Token);

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.0.reset();
        WordStream { text, at: 0, token: &mut self.0 }
    }
}

struct WordStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some(skipped) = rest.find(char::is_alphanumeric) else { return false };
        let rest = &rest[skipped..];
        let ends = |(at, c): (usize, char)| (at > 0 && (!c.is_alphanumeric() || stands_alone(c))).then_some(at);
        let length = if rest.starts_with(stands_alone) {
            rest.chars().next().map_or(0, char::len_utf8)
        } else {
            rest.char_indices().find_map(ends).unwrap_or(rest.len())
        };
        self.token.offset_from = self.at + skipped;
        self.token.offset_to = self.token.offset_from + length;
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text.clear();
        self.token.text.push_str(&rest[..length]);
        self.at = self.token.offset_to;
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// Kana and Han characters.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let (text, mut terms) = (normal(text), Vec::new());
        words().token_stream(&text).process(&mut |token| terms.push(token.text.clone()));
        terms
    }

    #[test]
    fn words_lose_case_diacritics_and_ligatures() {
        assert_eq!(
            terms("Müller's  \u{fb01}eld-work, Ångström 2.5"),
            ["muller", "s", "field", "work", "angstrom", "2", "5"]
        );
        assert_eq!(terms("re\u{301}sume\u{301}"), ["resume"]);
        assert_eq!(terms("Straße Ørsted"), ["strasse", "orsted"]);
        assert_eq!(terms(" -- "), Vec::<String>::new());
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_characters() {
        assert_eq!(terms("深層学習deepラーメン"), ["深", "層", "学", "習", "deep", "ラ", "ー", "メ", "ン"]);
        assert_eq!(terms("기계 학습"), ["기계", "학습"]);
    }
}
