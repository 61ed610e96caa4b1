//! A seeded generator of the worst searches that the two query languages can say: what is long,
//! deep, loose, begun, similar or frequent, within their limits and beyond. It needs `rand` and
//! `serde_json` alone, so that benches can take it by its path.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// Fields of texts, the longest first.
const TEXTS: [&str; 6] = ["text", "text", "text", "title", "abstract", "creator"];
/// Fields whose values can be counted.
const FACETS: [&str; 6] = ["creator", "subject", "publisher", "language", "type", "year"];
/// Most levels of clauses that are written.
const DEPTH: usize = 6;

/// Makes the body of a search (`POST /api/collections/{slug}/search`) out of a seed; `words` are
/// frequent ones of the collection, the most frequent first.
pub(crate) fn hostile_search(seed: u64, words: &[&str]) -> Value {
    let mut writer = Writer { random: StdRng::seed_from_u64(seed), words };
    let query = match writer.random.random_range(0..2) {
        0 => Value::String(writer.text(DEPTH)),
        _ => writer.object(DEPTH),
    };
    let sort = *["relevance", "date", "ref"].choose(&mut writer.random).unwrap_or(&"relevance");
    let mut body = json!({"query": query, "sort": sort, "limit": writer.random.random_range(0..=1000)});
    if writer.random.random_bool(0.3) {
        body["facets"] = json!(FACETS);
    }
    if writer.random.random_bool(0.3) {
        body["highlight"] = json!({"size": 10});
    }
    body
}

struct Writer<'a> {
    random: StdRng,
    words: &'a [&'a str],
}

impl Writer<'_> {
    /// A query in the query language.
    fn text(&mut self, depth: usize) -> String {
        match self.random.random_range(0..10) {
            0..3 if depth > 0 => {
                let joint = *[" AND ", " OR ", " NOT ", " "].choose(&mut self.random).unwrap_or(&" ");
                let clauses: Vec<String> = (0..self.random.random_range(2..6)).map(|_| self.text(depth - 1)).collect();
                format!("({})", clauses.join(joint))
            }
            3 | 4 => format!("{}\"{}\"~{}", self.field(), self.phrase(4000), self.random.random_range(0..=51)),
            5 => self.many(70, |writer| format!("{}{}~2", writer.field(), writer.misspelt())),
            6 => self.many(40, |writer| format!("{}{}*", writer.field(), writer.beginning())),
            7 => self.many(600, |writer| writer.word()),
            8 => self.many(100, |writer| {
                let (from, to) = (writer.random.random_range(0..3000), writer.random.random_range(0..3000));
                format!("issued:[{from:04} TO {to:04}]")
            }),
            _ => "*".to_owned(),
        }
    }

    /// A query in the DSL.
    fn object(&mut self, depth: usize) -> Value {
        match self.random.random_range(0..10) {
            0..3 if depth > 0 => {
                let mut of = |most: usize| -> Vec<Value> {
                    (0..self.random.random_range(0..=most)).map(|_| self.object(depth - 1)).collect()
                };
                json!({"bool": {"must": of(3), "filter": of(2), "should": of(8), "must_not": of(2)}})
            }
            3 | 4 => {
                let (query, slop) = (self.phrase(20_000), self.random.random_range(0..=50));
                json!({"match_phrase": {self.bare_field(): {"query": query, "slop": slop}}})
            }
            5 => {
                let query = self.many(40, Self::misspelt);
                json!({"multi_match": {"query": query, "fields": TEXTS[2..], "fuzziness": 2}})
            }
            6 => {
                let start = self.beginning().repeat(self.random.random_range(1..4000));
                json!({"prefix": {"ref": {"value": start}}})
            }
            7 => {
                let values: Vec<String> = (0..4096).map(|at| format!("value-{at}")).collect();
                json!({"terms": {"identifier": values}})
            }
            8 => json!({"match": {"text": {"query": self.many(3000, Self::word), "minimum_should_match": "50%"}}}),
            _ => json!({"query_string": {"query": self.text(depth.min(2))}}),
        }
    }

    fn many(&mut self, most: usize, each: impl Fn(&mut Self) -> String) -> String {
        let count = self.random.random_range(1..=most);
        (0..count).map(|_| each(self)).collect::<Vec<_>>().join(" ")
    }

    fn word(&mut self) -> String {
        // The more frequent, the likelier.
        let most = self.random.random_range(1..=self.words.len());
        self.words[..most].choose(&mut self.random).copied().unwrap_or("the").to_owned()
    }

    /// Words of a phrase: one again and again, or several.
    fn phrase(&mut self, most: usize) -> String {
        let most = *[3, 64, 65, most].choose(&mut self.random).unwrap_or(&64);
        let same = self.word();
        let repeated = self.random.random_bool(0.5);
        self.many(most, |writer| if repeated { same.clone() } else { writer.word() })
    }

    fn misspelt(&mut self) -> String {
        let letters = *[4, 8, 32, 33, 250].choose(&mut self.random).unwrap_or(&32);
        (0..letters).map(|_| char::from(self.random.random_range(b'a'..=b'z'))).collect()
    }

    fn beginning(&mut self) -> String {
        (0..2).map(|_| char::from(self.random.random_range(b'a'..=b't'))).collect()
    }

    fn bare_field(&mut self) -> &'static str {
        TEXTS.choose(&mut self.random).copied().unwrap_or("text")
    }

    fn field(&mut self) -> String {
        if self.random.random_bool(0.2) { String::new() } else { format!("{}:", self.bare_field()) }
    }
}
