//! The corpora that benches are run on: the same everywhere, and in what matters to a search engine like real ones.

#[path = "../adit/benches/corpus/generator.rs"]
#[expect(dead_code, reason = "the benches use the rest of it")]
mod generator;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use adit_shared::digest::Sha256;
use serde_json::{Value, json};

use generator::{Corpus, Document, Generator, Length, Recipe, word};

/// Of the texts and metadata of a hundred documents.
const DIGEST: &str = "fc687dc0b09488656e0fdc162e17350f0cf7c298a78a7761906ee3bb51ef1fa2";

fn digest(documents: impl Iterator<Item = Document>) -> String {
    let documents = documents.map(|Document { r#ref, metadata, text, .. }| {
        let sorted: BTreeMap<&String, &Value> = metadata.as_object().unwrap().iter().collect();
        json!([r#ref, sorted, text]).to_string()
    });
    Sha256::of(documents.collect::<String>().as_bytes()).to_string()
}

#[test]
fn a_corpus_is_the_same_on_every_machine_and_the_beginning_of_every_longer_one() {
    let few = Generator::new(Recipe::texts("c", 100, 125));
    assert_eq!(digest((0..100).map(|number| few.document(number))), DIGEST);
    let more = Generator::new(Recipe::texts("c", 1_000_000, 125));
    let last_first = (0..100).rev().map(|number| more.document(number)).collect::<Vec<_>>();
    assert_eq!(digest(last_first.into_iter().rev()), DIGEST);
}

#[test]
fn no_two_words_are_the_same_and_frequent_ones_are_short() {
    let words: Vec<String> = (0..200_000).map(word).collect();
    assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
    let mean = |words: &[String]| words.iter().map(String::len).sum::<usize>() as f64 / words.len() as f64;
    assert!(mean(&words[..100]) < 3.5 && mean(&words[100_000..]) > 7.0);
}

#[test]
fn lengths_vary_and_the_vocabulary_grows_ever_more_slowly() {
    let generator = Generator::new(Recipe::texts("c", 3000, 125));
    let (mut vocabulary, mut words, mut growth, mut lengths) = (HashSet::new(), 0, Vec::new(), Vec::new());
    for number in 0..3000 {
        let text = generator.document(number).text.to_lowercase();
        let found: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words += found.len();
        lengths.push(found.len());
        vocabulary.extend(found.into_iter().map(str::to_owned));
        if [30, 300, 3000].contains(&(number + 1)) {
            growth.push((words as f64, vocabulary.len() as f64));
        }
    }
    lengths.sort_unstable();
    assert!((110..140).contains(&lengths[1500]), "the median is {}", lengths[1500]);
    assert!(lengths[30] < 60 && lengths[2970] > 300, "{} to {}", lengths[30], lengths[2970]);
    // Heaps' law: the vocabulary grows with a power of the number of words, in English with one of 0.4 to 0.8, more in the first few texts.
    let exponent = |pair: &[(f64, f64)]| (pair[1].1 / pair[0].1).ln() / (pair[1].0 / pair[0].0).ln();
    let exponents: Vec<f64> = growth.windows(2).map(exponent).collect();
    assert!(exponents[0] < 0.85 && exponents[1] > 0.4 && exponents[1] < exponents[0] - 0.1, "{exponents:?}");
}

#[test]
fn a_folder_holds_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let recipe =
        Recipe { text: Length::Bytes(500), pdf: Some(100..200), described: false, ..Recipe::texts("c", 1001, 1) };
    let corpus = Corpus::write(recipe, folder.path()).unwrap();
    let lines = std::fs::read_to_string(folder.path().join("documents.jsonl")).unwrap();
    let mut bytes = 0;
    let mut refs = BTreeSet::new();
    for line in lines.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        refs.insert(document["ref"].to_string());
        for file in document["files"].as_array().unwrap() {
            let length = std::fs::metadata(folder.path().join(file["path"].as_str().unwrap())).unwrap().len();
            assert!(if file["format"] == "txt" { length == 500 } else { (100..200).contains(&length) });
            bytes += length;
        }
    }
    assert_eq!((refs.len() as u64, bytes), (corpus.documents, corpus.bytes));
    assert_eq!(refs.len(), 1001);
}
