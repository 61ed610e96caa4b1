//! How Tantivy is given the words of a text; what they are is said in [`super::analysis`].

use tantivy::tokenizer::{LowerCaser, RawTokenizer, TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager};

use super::Language;
use super::analysis::{Analyzer, Form, Former};

/// Words by their stems, or as they are where the collection names no language.
pub(super) const STEMS: &str = "stems";
/// Words in their exact forms.
pub(super) const EXACT: &str = "exact";
/// The whole value, lower-cased; it is brought into normal form C before.
pub(super) const WHOLE: &str = "whole";
/// The value as it is; Tantivy's own.
pub(super) const RAW: &str = "raw";

/// Positions between the values of one field: more than any phrase may be loosened by, so that none reaches from one into the next.
pub(super) const GAP: usize = 100;

/// The tokenizers of an index.
pub(super) fn tokenizers(language: Option<Language>) -> TokenizerManager {
    // Tantivy's own are among them: it asks for its default one even for numbers.
    let manager = TokenizerManager::default();
    let analyzer = Analyzer::new(language);
    manager.register(STEMS, Words { analyzer, form: Form::Stem, token: Token::default() });
    manager.register(EXACT, Words { analyzer, form: Form::Exact, token: Token::default() });
    manager.register(WHOLE, TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).build());
    manager
}

#[derive(Debug, Clone)]
struct Words {
    analyzer: Analyzer,
    form: Form,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        // Each value of a field begins with this distance to the one before.
        self.token.position = GAP - 1;
        let former = Former::new(self.analyzer, self.form);
        WordStream { text, words: former.cut(text), former, token: &mut self.token }
    }
}

struct WordStream<'a> {
    text: &'a str,
    words: super::analysis::Cut<'a>,
    former: Former,
    token: &'a mut Token,
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        for bytes in &mut self.words {
            self.token.text.clear();
            if self.former.write(&self.text[bytes.clone()], &mut self.token.text) {
                self.token.offset_from = bytes.start;
                self.token.offset_to = bytes.end;
                self.token.position += 1;
                return true;
            }
        }
        false
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
