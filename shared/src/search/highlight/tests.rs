//! What is marked, and where passages begin and end.

use proptest::prelude::*;

use super::super::{Fields, Phrase, parse};
use super::*;

/// With marks as brackets.
fn show(snippet: &Snippet) -> String {
    let mut text = snippet.text.clone();
    for mark in snippet.marks.iter().rev() {
        text.insert(mark.end, ']');
        text.insert(mark.start, '[');
    }
    text
}

fn marked(query: &str, language: Option<Language>, field: &str, text: &str) -> String {
    let snippets = Highlighter::new(&parse(query).unwrap(), language).snippets(field, text, 1);
    snippets.first().map(show).unwrap_or_default()
}

#[test]
fn every_way_to_match_a_word_is_marked() {
    let text = "Mines and mining: the Miner's\n  (underground) work.";
    let english = Some(Language::En);
    for (query, language, expected) in [
        ("mining", None, "Mines and [mining]: the Miner's (underground) work."),
        ("mining", english, "[Mines] and [mining]: the Miner's (underground) work."),
        ("=MINING", english, "Mines and [mining]: the Miner's (underground) work."),
        ("min*", english, "[Mines] and [mining]: the [Miner]'s (underground) work."),
        ("minig~2", english, "[Mines] and [mining]: the [Miner]'s (underground) work."),
        ("minig~1", english, "Mines and [mining]: the Miner's (underground) work."),
        ("\"the miner\"~2 -work", english, "Mines and mining: [the] [Miner]'s (underground) work."),
        ("text:work title:mining", english, "Mines and mining: the Miner's (underground) [work]."),
        ("text: IN [\"underground work\" mining]", None, "Mines and [mining]: the Miner's ([underground]) [work]."),
        ("title:mining OR issued:2018 OR text:*", english, ""),
        ("coal", english, ""),
    ] {
        assert_eq!(marked(query, language, "text", text), expected, "{query}");
    }
    let begun = Phrase { text: "the min".to_owned(), fields: Fields::of(None), slop: 0, last_is_prefix: true };
    let snippets = Highlighter::new(&Query::Phrase(begun), None).snippets("title", text, 1);
    assert_eq!(show(&snippets[0]), "[Mines] and [mining]: [the] [Miner]'s (underground) work.");
}

#[test]
fn passages_are_cut_between_words_around_the_words_that_match() {
    let filler = "lorem ipsum dolor sit amet ".repeat(40);
    let text = format!("{filler}soil {filler}soil moisture {filler}soil water moisture {filler}");
    let query = parse("soil moisture water").unwrap();
    let snippets = Highlighter::new(&query, None).snippets("text", &text, 2);
    let texts: Vec<String> = snippets.iter().map(show).collect();
    assert!(texts[0].contains("[soil] [water] [moisture]"), "{texts:?}");
    assert!(texts[1].contains("[soil] [moisture]"), "{texts:?}");
    for snippet in &snippets {
        assert!((150..=LENGTH).contains(&snippet.text.chars().count()), "{snippet:?}");
        let all = |word: &str| "lorem ipsum dolor sit amet soil moisture water".split(' ').any(|known| known == word);
        assert!(snippet.text.split(' ').all(all), "{snippet:?}");
    }
    // At the end of a text all of the room is before.
    let end = Highlighter::new(&parse("last").unwrap(), None).snippets("text", &format!("{filler}last"), 1);
    assert!(end[0].text.ends_with("last") && end[0].text.len() > LENGTH / 2 - 10);
}

#[test]
fn a_text_of_one_word_over_and_over_has_passages_too() {
    let text = "a ".repeat(patterns::MOST * 2);
    let highlighter = Highlighter::new(&parse("a* OR b OR =a").unwrap(), Some(Language::En));
    let found = highlighter.find(&highlighter.patterns["text"], &text);
    assert_eq!(found.len(), patterns::MOST, "memory is bounded");
    let snippets = highlighter.snippets("text", &text, 2);
    assert_eq!(snippets.len(), 2);
    assert!(snippets.iter().all(|snippet| snippet.marks.len() > 80), "{snippets:?}");
    // What one form has beyond the place where the other has too much would be marked in part.
    let text = format!("{text}min mining");
    assert_eq!(marked("a OR min*", None, "text", &text).matches("min").count(), 0);
}

#[test]
fn texts_without_spaces_are_cut_too() {
    let text = format!("{}土壤水分{}", "我们研究".repeat(100), "机器学习".repeat(100));
    for language in [None, Some(Language::Zh)] {
        let snippets = Highlighter::new(&parse("土壤水分").unwrap(), language).snippets("text", &text, 3);
        assert_eq!(snippets.len(), 1);
        assert!((150..=LENGTH).contains(&snippets[0].text.chars().count()));
        let marked: String = snippets[0].marks.iter().map(|mark| &snippets[0].text[mark.clone()]).collect();
        assert_eq!(marked, "土壤水分");
    }
}

proptest! {
    #[test]
    fn marks_lie_within_the_passage_and_apart(
        text in r"(\PC|[ab é\n\u{301}\u{ad}深ไม่]|ab |mining ){0,300}",
        query in r#"[ab]{1,3}|(ab|a\*\*|深|ไม่|é|mining|"a b"|=ab|ab~|aba~2|ab\*)( (a|OR b|ab\*|\p{L}{1,2}))?"#,
        language in prop::option::of(prop::sample::select(Language::ALL.to_vec())),
        most in 0..4_usize,
    ) {
        let Ok(query) = parse(&query) else { return Ok(()) };
        let snippets = Highlighter::new(&query, language).snippets("text", &text, most);
        prop_assert!(snippets.len() <= most);
        for Snippet { text, marks } in snippets {
            prop_assert!(!marks.is_empty());
            prop_assert!(text.chars().count() <= LENGTH + 256);
            let mut at = 0;
            for mark in marks {
                prop_assert!(mark.start >= at && mark.start < mark.end);
                prop_assert!(text.get(mark.clone()).is_some_and(|word| word.contains(char::is_alphanumeric)));
                at = mark.end;
            }
        }
    }
}
