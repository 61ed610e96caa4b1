//! Chance, and the words that it makes: a vocabulary without end, sampled as words of a language are, and prose out of it.
//!
//! The same seed gives the same text on every machine: all arithmetic is on integers, or on floats by operations that IEEE 754 rounds exactly
//! (none of `ln`, `exp`, `powf`, which each system library rounds in its own way).

/// Ranks above it are rarer than 1/rank: the core vocabulary of English, as measured by M. Gerlach and E. G. Altmann, "Stochastic model for the
/// vocabulary growth in natural languages", Physical Review X 3 (2013), 021006. From it follows Heaps' law with an exponent of 1/1.75.
const CORE: f64 = 7873.0;
/// Words that there are. Fifty million documents of 150 words would miss some.
const VOCABULARY: usize = 1 << 21;
/// Parts of the cumulative distribution that a sample is looked up in.
const GUIDES: usize = 1 << 16;
/// Subjects that texts are about.
pub(crate) const TOPICS: usize = 300;
/// Words that belong to a topic.
const TOPIC_WORDS: u64 = 512;

/// A source of chance: SplitMix64 (G. L. Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of their own for a purpose and a number.
    pub(crate) fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ purpose.rotate_left(32));
        dice.0 = dice.next() ^ number;
        dice.0 = dice.next();
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Whether one chance in `among` comes true.
    pub(crate) fn one_in(&mut self, among: u64) -> bool {
        self.below(among) == 0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A length with this median and a standard deviation of its logarithm of 0.6, as lengths of texts have: what is the product of many
    /// factors is log-normal.
    pub(crate) fn log_normal(&mut self, median: f64) -> f64 {
        (0..8).fold(median, |length, _| length * (0.74 + 0.52 * self.unit()) / (0.74 + 0.52 * self.unit()))
    }

    /// Bytes that do not compress.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Ranks from 0, of which the frequency falls as Zipf's law says: by 1/rank up to [`CORE`], and by rank^-1.75 from there.
#[derive(Debug)]
pub(crate) struct Zipf {
    cumulative: Vec<f64>,
    /// Where each part of the distribution begins.
    guides: Vec<u32>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize) -> Self {
        let mut sum = 0.0;
        let mut cumulative = Vec::with_capacity(ranks);
        for rank in 1..=ranks {
            let rank = rank as f64;
            let beyond = (CORE / rank).min(1.0).sqrt();
            sum += beyond * beyond.sqrt() / rank;
            cumulative.push(sum);
        }
        let guide = |part| {
            let before = sum * (part as f64 / GUIDES as f64);
            cumulative.partition_point(|&upto| upto <= before) as u32
        };
        let guides = (0..=GUIDES).map(guide).collect();
        Self { cumulative, guides }
    }

    pub(crate) fn sample(&self, dice: &mut Dice) -> usize {
        let chance = dice.unit();
        let part = (chance * GUIDES as f64) as usize;
        let (first, last) = (self.guides[part] as usize, self.guides[part + 1] as usize);
        let at = chance * self.cumulative.last().copied().unwrap_or_default();
        let last = last.min(self.cumulative.len() - 1);
        (first + self.cumulative[first..last].partition_point(|&upto| upto <= at)).min(self.cumulative.len() - 1)
    }
}

/// The words, and how often each is used.
#[derive(Debug)]
pub(crate) struct Lexicon(Zipf);

impl Default for Lexicon {
    fn default() -> Self {
        Self(Zipf::new(VOCABULARY))
    }
}

impl Lexicon {
    /// Writes sentences until `enough` says so.
    pub(crate) fn prose(&self, dice: &mut Dice, topic: usize, enough: impl Fn(usize, &str) -> bool) -> String {
        let mut text = String::new();
        // A writer uses a word again that he has just used.
        let mut recent = [0; 64];
        let (mut words, mut sentence) = (0, 0);
        while !enough(words, &text) {
            if !text.is_empty() {
                text.push(' ');
            }
            let begins = text.len();
            if dice.one_in(48) {
                text.push_str(&topic_name(topic).to_lowercase());
            } else {
                let rank = match dice.below(24) {
                    0..4 => topic_word(topic, dice),
                    4..8 if words >= recent.len() => recent[dice.below(recent.len() as u64) as usize],
                    _ => self.0.sample(dice),
                };
                recent[words % recent.len()] = rank;
                push_word(&mut text, rank);
                text.push_str(["", "", "", "", "", "", "s", "ed"][dice.below(8) as usize]);
            }
            words += 1;
            if sentence == 0 {
                text[begins..=begins].make_ascii_uppercase();
                sentence = 8 + dice.below(24);
            } else if sentence == 1 {
                text.push('.');
            } else if dice.one_in(12) {
                text.push(',');
            }
            sentence -= 1;
        }
        text
    }
}

/// The word of that rank: the more frequent, the shorter. No two are the same.
pub(crate) fn word(rank: usize) -> String {
    let mut word = String::new();
    push_word(&mut word, rank);
    word
}

fn push_word(text: &mut String, mut rank: usize) {
    const BEGINNINGS: [&str; 16] = ["t", "s", "n", "r", "l", "d", "m", "c", "p", "b", "f", "g", "v", "st", "tr", "ch"];
    const VOWELS: [&str; 8] = ["e", "a", "i", "o", "u", "ea", "io", "ou"];
    loop {
        text.push_str(BEGINNINGS[rank % 16]);
        text.push_str(VOWELS[rank / 16 % 8]);
        rank /= 128;
        if rank == 0 {
            return;
        }
        rank -= 1;
    }
}

/// Rank of a word that texts on the topic use more than others do.
fn topic_word(topic: usize, dice: &mut Dice) -> usize {
    let one = dice.below(TOPIC_WORDS);
    let number = dice.below(one + 1);
    200 + Dice::new(topic as u64, 0x70, number).below(40_000) as usize
}

/// What a topic is called: two words.
pub(crate) fn topic_name(topic: usize) -> String {
    let mut name = word(500 + topic * 7);
    name[..1].make_ascii_uppercase();
    name + " " + &word(900 + topic * 11)
}
