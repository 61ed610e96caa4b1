//! Whether words stand close enough together in one document.

use tantivy::Term;

/// The words of a phrase, and their places in the document that is looked at.
pub(super) struct Matcher {
    slop: i64,
    /// For each word the one before that is the same.
    same: Vec<Option<usize>>,
    /// Of each word, ascending.
    pub(super) places: Vec<Vec<u32>>,
    /// Of each word, those places that are behind us.
    passed: Vec<usize>,
    /// Of each word, the place that is tried.
    tried: Vec<usize>,
}

impl Matcher {
    pub(super) fn new(words: &[Term], slop: u32) -> Self {
        let same = |at: usize| words[..at].iter().rposition(|word| *word == words[at]);
        Self {
            slop: slop.into(),
            same: (0..words.len()).map(same).collect(),
            places: vec![Vec::new(); words.len()],
            passed: vec![0; words.len()],
            tried: vec![0; words.len()],
        }
    }

    /// How often the phrase stands there, each time with other words; only whether it does, as 1 or 0, if `once`.
    ///
    /// A word at place `p` that is the `i`th of the phrase is shifted by `p - i`; the phrase matches where the shifts of all its words lie
    /// within the slop of each other. So for a least shift each word takes the first place that it allows, and as none can do with less, the greatest
    /// of their shifts tells the next least one that is worth a try.
    pub(super) fn count(&mut self, once: bool) -> u32 {
        self.passed.fill(0);
        let mut least = i64::MIN;
        let mut count = 0;
        while let Some(greatest) = self.try_from(least) {
            if greatest - self.slop <= least {
                count += 1;
                if once {
                    break;
                }
                least = greatest + 1;
            } else {
                least = greatest - self.slop;
            }
        }
        count
    }

    /// The greatest shift where all words stand as near as they can, none shifted by less than `least`; `None` where one has no place left.
    fn try_from(&mut self, least: i64) -> Option<i64> {
        let mut greatest = i64::MIN;
        for word in 0..self.places.len() {
            let shift = |place: u32| i64::from(place) - word as i64;
            let places = &self.places[word];
            while shift(*places.get(self.passed[word])?) < least {
                self.passed[word] += 1;
            }
            let mut at = self.passed[word];
            if let Some(before) = self.same[word] {
                at = at.max(self.tried[before] + 1);
            }
            // The last word, if it is only begun, may be one that another word of the phrase has taken.
            while self.taken(word, *places.get(at)?) {
                at += 1;
            }
            self.tried[word] = at;
            greatest = greatest.max(shift(places[at]));
        }
        Some(greatest)
    }

    fn taken(&self, word: usize, place: u32) -> bool {
        word + 1 == self.places.len() && (0..word).any(|other| self.places[other][self.tried[other]] == place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tantivy::schema::Field;

    use super::*;

    /// The words are letters; a capital stands for all words.
    fn count(phrase: &str, text: &str, slop: u32, once: bool) -> u32 {
        let terms: Vec<Term> =
            phrase.chars().map(|c| Term::from_field_text(Field::from_field_id(0), &c.to_string())).collect();
        let mut matcher = Matcher::new(&terms, slop);
        for (at, wanted) in phrase.chars().enumerate() {
            let places = (0..).zip(text.chars()).filter(|(_, c)| *c == wanted || wanted.is_uppercase());
            matcher.places[at] = places.map(|(place, _)| place).collect();
        }
        matcher.count(once)
    }

    /// Every choice of places.
    fn naive(phrase: &[char], text: &[char], slop: i64, chosen: &mut Vec<usize>) -> bool {
        let at = chosen.len();
        if at == phrase.len() {
            let shifts = || chosen.iter().enumerate().map(|(at, place)| *place as i64 - at as i64);
            return shifts().max().unwrap() - shifts().min().unwrap() <= slop;
        }
        (0..text.len()).any(|place| {
            let fits = (text[place] == phrase[at] || phrase[at].is_uppercase()) && !chosen.contains(&place);
            chosen.push(place);
            let found = fits && naive(phrase, text, slop, chosen);
            chosen.pop();
            found
        })
    }

    #[test]
    fn words_may_be_moved_by_the_slop_in_all() {
        for (phrase, text, least) in [
            ("ab", "ab", 0),
            ("ab", "axxb", 2),
            ("ab", "ba", 2),
            ("abc", "axbxc", 2),
            ("abc", "cba", 4),
            ("aa", "axxxa", 3),
            ("aba", "abxa", 1),
        ] {
            assert_eq!(count(phrase, text, least, true), 1, "{phrase} {text}");
            assert!(least == 0 || count(phrase, text, least - 1, true) == 0, "{phrase} {text}");
        }
        // One word is not two.
        assert_eq!(count("aa", "xax", 50, true), 0);
        assert_eq!(count("aA", "a", 50, true), 0);
        assert_eq!(count("ab", "abxabxxba", 0, false), 2);
        assert_eq!(count("ab", "abxabxxba", 2, false), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_any_choice_of_places_gives(phrase in "[ab]{1,3}[abcZ]", text in "[abcd]{0,9}", slop in 0..8_u32) {
            let (words, places): (Vec<char>, Vec<char>) = (phrase.chars().collect(), text.chars().collect());
            let found = naive(&words, &places, slop.into(), &mut Vec::new());
            prop_assert_eq!(count(&phrase, &text, slop, true) == 1, found);
            prop_assert_eq!(count(&phrase, &text, slop, false) > 0, found);
        }
    }
}
