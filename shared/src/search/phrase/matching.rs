//! How often words stand close enough together in one document.

use crate::search::control::StopFlag;

/// Tries between two looks at the flag; each of them looks at all words of the phrase.
const TRIES: u32 = 256;
/// Times that a phrase is counted in a document: more of them hardly change a score, which rises
/// by less the more often the phrase stands there already.
const MOST: u32 = 1024;

/// The words of a phrase, and their places in the document that is looked at.
pub(super) struct Matcher {
    slop: i64,
    last_is_prefix: bool,
    /// For each word of the phrase which of the different words it is.
    of: Vec<usize>,
    /// For each word of the phrase the one before that is the same.
    same: Vec<Option<usize>>,
    /// Of each different word, ascending.
    places: Vec<Vec<u32>>,
    /// Of each word of the phrase, those places that are behind us.
    passed: Vec<usize>,
    /// Of each word of the phrase, the place that is tried.
    tried: Vec<usize>,
    /// Words of the phrase, the rarest first.
    by_frequency: Vec<usize>,
    /// Places at which a phrase without slop may begin.
    begins: Vec<u32>,
}

impl Matcher {
    /// For a phrase by the different words that it has; where the last is only begun, that is one
    /// of its own.
    pub(super) fn new(of: Vec<usize>, slop: u32, last_is_prefix: bool) -> Self {
        let same = |at: usize| of[..at].iter().rposition(|word| *word == of[at]);
        Self {
            slop: slop.into(),
            last_is_prefix,
            same: (0..of.len()).map(same).collect(),
            places: vec![Vec::new(); of.iter().max().map_or(0, |last| last + 1)],
            passed: vec![0; of.len()],
            tried: vec![0; of.len()],
            by_frequency: (0..of.len()).collect(),
            begins: Vec::new(),
            of,
        }
    }

    /// Bytes that the places will take in a document in which the different words stand so often.
    pub(super) fn bytes_for(&self, frequencies: &[usize]) -> usize {
        let lists = self.places.iter().zip(frequencies).map(|(places, frequency)| places.capacity().max(*frequency));
        let begins = self.begins.capacity().max(frequencies.iter().min().copied().unwrap_or_default());
        (lists.sum::<usize>() + begins) * size_of::<u32>()
    }

    /// How often the phrase stands in a document in which the different words stand so often, as
    /// `read` reads; each time with other words, up to [`MOST`], and only whether it does, as 1 or
    /// 0, if `once`. 0 when the flag is set.
    pub(super) fn count(
        &mut self,
        frequencies: &[usize],
        mut read: impl FnMut(usize, &mut Vec<u32>),
        once: bool,
        stop: &StopFlag,
    ) -> u32 {
        let most = if once { 1 } else { MOST };
        if self.slop == 0 {
            return self.count_side_by_side(frequencies, read, stop).min(most);
        }
        for (word, places) in self.places.iter_mut().enumerate() {
            read(word, places);
        }
        self.count_near(most, stop)
    }

    /// How often the words stand side by side. The rarest one tells where the phrase may begin, and
    /// each other leaves fewer of these places, so that the frequent ones are seldom read.
    fn count_side_by_side(
        &mut self,
        frequencies: &[usize],
        mut read: impl FnMut(usize, &mut Vec<u32>),
        stop: &StopFlag,
    ) -> u32 {
        let Self { of, places, by_frequency, begins, .. } = self;
        // Equal words one after the other, so that each is read once.
        by_frequency.sort_unstable_by_key(|at| (frequencies[of[*at]], of[*at]));
        let mut last_read = None;
        for (nth, at) in by_frequency.iter().enumerate() {
            let places = &mut places[of[*at]];
            if last_read != Some(of[*at]) {
                read(of[*at], places);
                last_read = Some(of[*at]);
            }
            let at = u32::try_from(*at).unwrap_or(u32::MAX);
            if nth == 0 {
                begins.clear();
                begins.reserve_exact(places.len());
                begins.extend(places.iter().filter_map(|place| place.checked_sub(at)));
            } else {
                let mut rest = &places[..];
                begins.retain(|begin| {
                    let wanted = begin + at;
                    rest = &rest[rest.iter().position(|place| *place >= wanted).unwrap_or(rest.len())..];
                    rest.first() == Some(&wanted)
                });
            }
            if begins.is_empty() || stop.is_stopped() {
                return 0;
            }
        }
        u32::try_from(begins.len()).unwrap_or(u32::MAX)
    }

    /// How often the words stand within the slop, up to `most`.
    ///
    /// A word at place `p` that is the `i`th of the phrase is shifted by `p - i`; the phrase
    /// matches where the shifts of all its words lie within the slop of each other. So for a least
    /// shift each word takes the first place that it allows, and as none can do with less, the
    /// greatest of their shifts tells the next least one that is worth a try.
    fn count_near(&mut self, most: u32, stop: &StopFlag) -> u32 {
        self.passed.fill(0);
        let mut least = i64::MIN;
        let (mut count, mut tries) = (0, 0_u32);
        while let Some(greatest) = self.try_from(least) {
            if greatest - self.slop <= least {
                count += 1;
                if count == most {
                    break;
                }
                least = greatest + 1;
            } else {
                least = greatest - self.slop;
            }
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(TRIES) && stop.is_stopped() {
                return 0;
            }
        }
        count
    }

    /// The greatest shift where all words stand as near as they can, none shifted by less than
    /// `least`; `None` where one has no place left.
    fn try_from(&mut self, least: i64) -> Option<i64> {
        let mut greatest = i64::MIN;
        for word in 0..self.of.len() {
            let shift = |place: u32| i64::from(place) - word as i64;
            let places = &self.places[self.of[word]];
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
        let taken_by = |other: usize| self.places[self.of[other]][self.tried[other]] == place;
        self.last_is_prefix && word + 1 == self.of.len() && (0..word).any(taken_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The words are letters; a capital at the end stands for all words.
    fn count(phrase: &str, text: &str, slop: u32, once: bool) -> u32 {
        let letters: Vec<char> = phrase.chars().collect();
        let last_is_prefix = letters.last().is_some_and(|last| last.is_uppercase());
        let mut different: Vec<char> = Vec::new();
        let of = |letter: &char| {
            different.iter().position(|known| known == letter).unwrap_or_else(|| {
                different.push(*letter);
                different.len() - 1
            })
        };
        let of: Vec<usize> = letters.iter().map(of).collect();
        let places = |word: usize| -> Vec<u32> {
            let stands = |c: char| c == different[word] || different[word].is_uppercase();
            (0..).zip(text.chars()).filter(|(_, c)| stands(*c)).map(|(place, _)| place).collect()
        };
        let frequencies: Vec<usize> = (0..different.len()).map(|word| places(word).len()).collect();
        let read = |word: usize, list: &mut Vec<u32>| *list = places(word);
        Matcher::new(of, slop, last_is_prefix).count(&frequencies, read, once, &StopFlag::default())
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
        for slop in [0, 2] {
            assert_eq!(count("ab", &"abxx".repeat(2000), slop, false), MOST);
        }
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
