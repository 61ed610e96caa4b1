//! What is said of a document: Dublin Core metadata, with values as frequent and as rare as in a repository of papers.

use serde_json::{Value, json};

use super::words::{Dice, Lexicon, TOPICS, Zipf, topic_name, word};

const LANGUAGES: [&str; 12] = ["en", "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "zh", "ja", "cs"];
const TYPES: [&str; 8] = ["Article", "Preprint", "Thesis", "Report", "Book", "Chapter", "ConferencePaper", "Dataset"];
const LICENSES: [&str; 6] = [
    "https://creativecommons.org/licenses/by/4.0/",
    "https://creativecommons.org/licenses/by-nc/4.0/",
    "https://creativecommons.org/publicdomain/zero/1.0/",
    "https://creativecommons.org/licenses/by-sa/4.0/",
    "https://creativecommons.org/licenses/by-nc-nd/4.0/",
    "https://rightsstatements.org/vocab/InC/1.0/",
];
/// Years from the first to the last; there are more documents of later ones.
const YEARS: (u64, u64) = (1950, 2026);
/// Words of an abstract, at the median.
const ABSTRACT: f64 = 80.0;

/// The values, and how often each is used.
#[derive(Debug)]
pub(crate) struct Values {
    topics: Zipf,
    languages: Zipf,
    types: Zipf,
    licenses: Zipf,
    publishers: Zipf,
    journals: Zipf,
    given_names: Zipf,
    family_names: Zipf,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            topics: Zipf::new(TOPICS),
            languages: Zipf::new(LANGUAGES.len()),
            types: Zipf::new(TYPES.len()),
            licenses: Zipf::new(LICENSES.len()),
            publishers: Zipf::new(400),
            journals: Zipf::new(4000),
            given_names: Zipf::new(2000),
            family_names: Zipf::new(100_000),
        }
    }
}

impl Values {
    /// What a document is about.
    pub(crate) fn topic(&self, dice: &mut Dice) -> usize {
        self.topics.sample(dice)
    }

    /// All that is said of a document.
    pub(crate) fn metadata(&self, dice: &mut Dice, lexicon: &Lexicon, number: u64, topic: usize) -> Value {
        let prose = |dice: &mut Dice, median: f64| {
            let most = dice.log_normal(median) as usize;
            lexicon.prose(dice, topic, |words, _| words > most)
        };
        let title = prose(dice, 8.0);
        let creators: Vec<String> = (0..=dice.log_normal(1.5) as u64).map(|_| self.name(dice)).collect();
        let mut subjects = vec![topic_name(topic)];
        subjects.extend((0..dice.below(4)).map(|_| topic_name(self.topic(dice))));
        subjects.dedup();
        let mut metadata = json!({
            "identifier": format!("https://doi.org/10.5555/{number:08}"),
            "title": title.trim_end_matches(['.', ',']),
            "creator": creators,
            "issued": issued(dice),
            "subject": subjects,
            "publisher": format!("{} Press", capital(&word(3000 + self.publishers.sample(dice)))),
            "isPartOf": format!("Journal of {}", capital(&word(5000 + self.journals.sample(dice)))),
            "type": TYPES[self.types.sample(dice)],
            "license": LICENSES[self.licenses.sample(dice)],
            "language": LANGUAGES[self.languages.sample(dice)],
        });
        if !dice.one_in(4) {
            metadata["abstract"] = prose(dice, ABSTRACT).into();
        }
        metadata
    }

    fn name(&self, dice: &mut Dice) -> String {
        let [family, given] = [&self.family_names, &self.given_names].map(|names| names.sample(dice));
        format!("{}, {}", capital(&word(400 + family)), capital(&word(100 + given)))
    }
}

/// A day, of every fifth document only a year.
fn issued(dice: &mut Dice) -> String {
    let (first, end) = YEARS;
    let year = first + dice.below(end - first).max(dice.below(end - first));
    if dice.one_in(5) {
        return year.to_string();
    }
    format!("{year}-{:02}-{:02}", 1 + dice.below(12), 1 + dice.below(28))
}

fn capital(word: &str) -> String {
    let mut word = word.to_owned();
    word[..1].make_ascii_uppercase();
    word
}
