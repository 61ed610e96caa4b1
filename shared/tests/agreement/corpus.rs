//! A seeded corpus: small documents over a small vocabulary, so that what queries ask for is often there, and often nearly there.

use adit_shared::domain::Access;
use adit_shared::ids::VersionId;
use adit_shared::search::IndexDocument;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

/// Words that share stems, beginnings and letters; with diacritics in both normal forms, ligatures, numbers, scripts without spaces, and one that is
/// no word for its length. The earlier ones are more frequent.
pub(crate) const WORDS: [&str; 64] = [
    "mining",
    "mine",
    "Mines",
    "mined",
    "miner",
    "mint",
    "mind",
    "soil",
    "Soils",
    "soiled",
    "water",
    "waters",
    "watery",
    "the",
    "of",
    "a",
    "open",
    "opened",
    "opening",
    "data",
    "datum",
    "run",
    "runs",
    "running",
    "runner",
    "résumé",
    "re\u{301}sume\u{301}",
    "resume",
    "resumed",
    "Müller",
    "Muller",
    "MULLER",
    "Straße",
    "strasse",
    "Häuser",
    "Haus",
    "University",
    "universe",
    "universal",
    "state-of-the-art",
    "don't",
    "naïve",
    "\u{fb01}eld",
    "fields",
    "hydrology",
    "hydrogen",
    "hydrological",
    "2018",
    "12",
    "b2b",
    "C",
    "深層学習",
    "機械学習",
    "東京都",
    "ラーメン",
    "κόσμος",
    "мир",
    "Ängström",
    "co-operate",
    "cooperate",
    "ab",
    "abc",
    "TOO-LONG",
    "ǆ",
];

/// The languages of documents, as they are written there.
pub(crate) const LANGUAGES: [&str; 4] = ["en", "de", "EN", "ja"];
/// The types of documents.
pub(crate) const TYPES: [&str; 4] = ["Article", "Book Chapter", "article", "Thèse"];
/// Dates of all precisions; one is none.
pub(crate) const DATES: [&str; 14] = [
    "2018",
    "2018-06",
    "2018-06-30",
    "2018-06-30T12:00:00Z",
    "2018-12-31T23:30:00-01:00",
    "2019",
    "2019-01",
    "2020-02-29",
    "2020-12",
    "1999",
    "1605",
    "9999",
    "2018-07-01T00:00:00+02:00",
    "Easter 2018",
];
/// The formats of documents.
pub(crate) const FORMATS: [&str; 3] = ["txt", "pdf", "xml"];

/// The access levels of documents, in turns.
pub(crate) const ACCESS: [&str; 7] =
    ["open", "open", "restricted:press", "open", "restricted:films", "open", "metadata"];

/// One version of a document.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) id: u32,
    pub(crate) replaces: Option<u32>,
    pub(crate) r#ref: String,
    pub(crate) access: Access,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) formats: Vec<&'static str>,
    pub(crate) text: Option<String>,
}

impl Document {
    pub(crate) fn entry(&self) -> IndexDocument<'_> {
        IndexDocument {
            id: VersionId(self.id),
            replaces: self.replaces.map(VersionId),
            r#ref: &self.r#ref,
            access: &self.access,
            metadata: &self.metadata,
            formats: self.formats.clone(),
            text: self.text.as_deref(),
        }
    }

    /// What it says in a field, in the order in which it does.
    pub(crate) fn values(&self, field: &str) -> Vec<String> {
        match field {
            "ref" => vec![self.r#ref.clone()],
            "text" => self.text.iter().cloned().collect(),
            "format" => self.formats.iter().map(|format| (*format).to_owned()).collect(),
            name => match self.metadata.get(name) {
                Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
                Some(value) => scalar(value).into_iter().collect(),
                None => Vec::new(),
            },
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The imports of a corpus, each of so many documents: new ones, and from the second on as many new versions of old ones.
pub(crate) fn imports(seed: u64, counts: &[usize]) -> Vec<Vec<Document>> {
    let mut writer = Writer { random: StdRng::seed_from_u64(seed), next: 1 };
    let mut current: Vec<(String, u32)> = Vec::new();
    counts.iter().map(|count| writer.import(*count, &mut current)).collect()
}

/// The documents that stand after the first so many imports.
pub(crate) fn after(imports: &[Vec<Document>]) -> Vec<&Document> {
    let replaced: Vec<u32> = imports.iter().flatten().filter_map(|document| document.replaces).collect();
    imports.iter().flatten().filter(|document| !replaced.contains(&document.id)).collect()
}

struct Writer {
    random: StdRng,
    next: u32,
}

impl Writer {
    fn import(&mut self, count: usize, current: &mut Vec<(String, u32)>) -> Vec<Document> {
        let mut documents = Vec::with_capacity(count);
        let mut old = current.clone();
        for _ in 0..count {
            let id = self.next;
            self.next += 1;
            let replaced = if !old.is_empty() && self.random.random_bool(0.5) {
                Some(old.swap_remove(self.random.random_range(0..old.len())))
            } else {
                None
            };
            let r#ref = replaced
                .as_ref()
                .map_or_else(|| format!("{}/{id:03}", ["jose", "Arxiv", "深層"][id as usize % 3]), |old| old.0.clone());
            current.retain(|(name, _)| *name != r#ref);
            current.push((r#ref.clone(), id));
            documents.push(self.document(id, replaced.map(|old| old.1), r#ref));
        }
        documents
    }

    fn document(&mut self, id: u32, replaces: Option<u32>, r#ref: String) -> Document {
        let mut metadata = Map::new();
        for (field, share, most) in [
            ("title", 0.9, 6),
            ("abstract", 0.5, 15),
            ("description", 0.2, 5),
            ("publisher", 0.4, 3),
            ("isPartOf", 0.3, 4),
            ("rights", 0.1, 4),
        ] {
            if self.random.random_bool(share) {
                metadata.insert(field.to_owned(), json!(self.words(most)));
            }
        }
        for (field, share, most) in
            [("creator", 0.8, 2), ("contributor", 0.2, 2), ("subject", 0.5, 2), ("spatial", 0.2, 1)]
        {
            if self.random.random_bool(share) {
                let values: Vec<Value> =
                    (0..self.random.random_range(1..=3)).map(|_| self.odd_or_words(most)).collect();
                metadata.insert(field.to_owned(), json!(values));
            }
        }
        for (field, share, values) in
            [("language", 0.7, &LANGUAGES[..]), ("type", 0.7, &TYPES), ("issued", 0.8, &DATES)]
        {
            if self.random.random_bool(share) {
                let value = self.one_or_two(values);
                metadata.insert(field.to_owned(), value);
            }
        }
        if self.random.random_bool(0.3) {
            metadata.insert("identifier".to_owned(), json!(format!("https://doi.org/10.1/AB.{}", id % 20)));
        }
        let formats = FORMATS.into_iter().filter(|_| self.random.random_bool(0.5)).collect();
        let text = self.random.random_bool(0.7).then(|| self.words(40));
        let access = ACCESS[id as usize % ACCESS.len()].parse().unwrap();
        Document { id, replaces, r#ref, access, metadata, formats, text }
    }

    fn one_or_two(&mut self, values: &[&str]) -> Value {
        let mut one = || (*values.choose(&mut self.random).unwrap()).to_owned();
        match one() {
            // A year is often written as a number.
            year if year == "1999" => json!(1999),
            first if first.len() == 4 => json!([first, one()]),
            first => json!(first),
        }
    }

    fn odd_or_words(&mut self, most: usize) -> Value {
        match self.random.random_range(0..20) {
            0 => Value::Null,
            1 => json!(7),
            2 => json!(" -- "),
            3 => json!("  "),
            4 => json!({"name": "mining"}),
            _ => json!(self.words(most)),
        }
    }

    fn words(&mut self, most: usize) -> String {
        let count = self.random.random_range(1..=most);
        let mut text = String::new();
        for _ in 0..count {
            text.push_str([" ", " ", " ", ", ", "-", ". "].choose(&mut self.random).unwrap());
            text.push_str(&word(&mut self.random));
        }
        text
    }
}

/// A word; the earlier ones are more frequent.
pub(crate) fn word(random: &mut StdRng) -> String {
    let rank = random.random_range(0.0..1.0_f64).powi(2) * WORDS.len() as f64;
    match WORDS[rank as usize] {
        "TOO-LONG" => "long".repeat(65),
        word => word.to_owned(),
    }
}
