//! An attack on a restricted text: whoever may not read it asks after it, in every way that
//! searches have, until its words stand in their order again. The same attack by an entitled key
//! puts nearly all of them in order, which shows that it works.

use std::collections::BTreeSet;

use adit_shared::domain::{Limits, OwnLimit};
use adit_shared::store::Store as _;
use axum::body::Body;
use axum::http::Method;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{SEARCH, entitle};
use crate::testing::http::{Doc, MINER, NOBODY, STRANGER, Server};

/// Requests that the attackers have.
const REQUESTS: usize = 20_000;
/// Time between two of them, in milliseconds: without a key, 1,200 a minute are allowed.
const REST_MS: i64 = 200;
/// Words of the text, and different ones that it is made of.
const LENGTH: usize = 400;
const VOCABULARY: usize = 150;

/// Two words that stand side by side.
type Pair = (String, String);

/// Made-up words, each of which is the beginning or the neighbour of others.
fn vocabulary(random: &mut StdRng) -> Vec<String> {
    let mut words = BTreeSet::new();
    while words.len() < VOCABULARY {
        let syllables = random.random_range(2..=3);
        let syllable = |_| *["ka", "lo", "mi", "ne", "ru", "sta", "ver", "zon"].choose(random).unwrap();
        words.insert((0..syllables).map(syllable).collect::<String>());
    }
    words.into_iter().collect()
}

fn text(vocabulary: &[String], length: usize, random: &mut StdRng) -> Vec<String> {
    (0..length).map(|_| vocabulary.choose(random).unwrap().clone()).collect()
}

fn pairs(words: &[String]) -> BTreeSet<Pair> {
    words.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// A way to ask whether one of some words stands behind another: a query, or what the answer is
/// read from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trick {
    Phrases,
    PhrasesAnywhere,
    LoosePhrases,
    Hyphens,
    MatchPhrase,
    MultiMatch,
    CrossFields,
    Terms,
    QueryString,
    ExactTerms,
    Without,
    Score,
    Facets,
    Lines,
    Docset,
    Snippets,
}

use Trick::*;

const TRICKS: [Trick; 16] = [
    Phrases,
    PhrasesAnywhere,
    LoosePhrases,
    Hyphens,
    MatchPhrase,
    MultiMatch,
    CrossFields,
    Terms,
    QueryString,
    ExactTerms,
    Without,
    Score,
    Facets,
    Lines,
    Docset,
    Snippets,
];

impl Trick {
    fn query(self, first: &str, seconds: &[String]) -> Value {
        let each = |write: &dyn Fn(&str) -> String| {
            seconds.iter().map(|second| write(second)).collect::<Vec<_>>().join(" OR ")
        };
        let should = |write: &dyn Fn(&str) -> Value| json!({"bool": {"should": seconds.iter().map(|second| write(second)).collect::<Vec<_>>()}});
        match self {
            Phrases | Facets | Lines | Docset | Without | Score | Snippets => {
                json!({"query_string": {"query": each(&|second| format!("text:\"{first} {second}\""))}})
            }
            PhrasesAnywhere => json!({"query_string": {"query": each(&|second| format!("\"{first} {second}\""))}}),
            LoosePhrases => json!({"query_string": {"query": each(&|second| format!("text:\"{first} {second}\"~1"))}}),
            Hyphens => json!({"query_string": {"query": each(&|second| format!("text:{first}-{second}"))}}),
            MatchPhrase => should(&|second| json!({"match_phrase": {"text": format!("{first} {second}")}})),
            MultiMatch => should(
                &|second| json!({"multi_match": {"query": format!("{first} {second}"), "type": "phrase", "fields": ["title", "text"]}}),
            ),
            CrossFields => should(
                &|second| json!({"multi_match": {"query": format!("{first}-{second}"), "type": "cross_fields", "operator": "and"}}),
            ),
            Terms => should(&|second| json!({"term": {"text": format!("{first} {second}")}})),
            QueryString => {
                let query = each(&|second| format!("\"{first} {second}\""));
                json!({"query_string": {"query": query, "default_field": "text"}})
            }
            ExactTerms => {
                let values: Vec<String> = seconds.iter().map(|second| format!("{first} {second}")).collect();
                json!({"terms": {"text.exact": values}})
            }
        }
    }
}

/// Somebody who asks, with or without a key, and counts how often.
struct Attacker<'a> {
    server: &'a Server,
    key: &'static str,
    asked: &'a mut usize,
}

impl Attacker<'_> {
    /// Counts a request, and lets time pass in which callers without a key get a new allowance.
    fn count(&mut self) {
        *self.asked += 1;
        self.server.world.clock.advance(REST_MS);
    }

    /// The answer to a query of the secret work.
    async fn search(&mut self, query: Value, more: Value) -> Value {
        self.count();
        let mut body = more;
        body["query"] = json!({"bool": {"filter": {"term": {"ref": "secret"}}, "must": query}});
        let answer = self.server.post(self.key, SEARCH, &body).await;
        if answer.status == 401 { Value::Null } else { answer.json(200) }
    }

    async fn has(&mut self, query: Value) -> bool {
        self.search(query, json!({"limit": 0})).await["hits"] == 1
    }

    /// Whether the trick says that one of the words stands behind the first.
    async fn follows(&mut self, trick: Trick, first: &str, seconds: &[String]) -> bool {
        let query = trick.query(first, seconds);
        match trick {
            Without => !self.has(json!({"bool": {"must": {"match_all": {}}, "must_not": query}})).await,
            Score => {
                let weighed = json!({"bool": {"must": {"match": {"text": first}}, "should": {"bool": {"must": query, "boost": 1000}}}});
                let answer = self.search(weighed, json!({"limit": 1})).await;
                answer["documents"][0]["score"].as_f64().is_some_and(|score| score > 100.0)
            }
            Facets => {
                let answer = self.search(query, json!({"limit": 0, "facets": ["type"]})).await;
                !answer["facets"]["type"].as_array().unwrap().is_empty()
            }
            Lines => {
                self.count();
                let query = json!({"bool": {"filter": {"term": {"ref": "secret"}}, "must": query}});
                let headers = [("content-type", "application/json"), ("accept", "application/x-ndjson")];
                let body = Body::from(json!({"query": query}).to_string());
                !self.server.send(Method::POST, self.key, SEARCH, &headers, body).await.lines().is_empty()
            }
            Docset => {
                self.count();
                let query = json!({"bool": {"filter": {"term": {"ref": "secret"}}, "must": query}});
                let body = json!({"collection": "c", "query": query});
                self.server.post(self.key, "/api/docsets", &body).await.status == 201
            }
            _ => self.has(query).await,
        }
    }

    /// Those of the words that stand behind the first, by halves.
    async fn followers(&mut self, trick: Trick, first: &str, words: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![words];
        while let Some(words) = open.pop() {
            if !self.follows(trick, first, words).await {
                continue;
            }
            match words.split_at(words.len() / 2) {
                ([], [word]) => found.push(word.clone()),
                (left, right) => open.extend([left, right]),
            }
        }
        found
    }

    /// The words in the order of a snippet of the text.
    async fn snippets(&mut self, first: &str) -> BTreeSet<Pair> {
        let answer = self
            .search(json!({"match": {"text": first}}), json!({"highlight": {"fields": ["text"], "size": 10}}))
            .await;
        let pieces = answer["documents"][0]["snippets"]["text"].as_array().cloned().unwrap_or_default();
        let words = |piece: &Value| piece["text"].as_str().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
        pieces.iter().flat_map(|piece| pairs(&words(piece))).collect()
    }

    /// The words that the text has, each asked for by itself.
    async fn words(&mut self, dictionary: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for word in dictionary {
            if self.has(json!({"match": {"text": word}})).await {
                words.push(word.clone());
            }
        }
        words
    }
}

/// How many of the pairs were found, of all that there are, or that were guessed if those are more.
fn share(found: &BTreeSet<Pair>, secret: &BTreeSet<Pair>) -> f64 {
    found.intersection(secret).count() as f64 / found.len().max(secret.len()) as f64
}

async fn site(random: &mut StdRng) -> (Server, Vec<String>, BTreeSet<Pair>) {
    let server = Server::new().await;
    let vocabulary = vocabulary(random);
    let secret = text(&vocabulary, LENGTH, random);
    let open: Vec<String> = (0..20).map(|_| text(&vocabulary, 60, random).join(" ")).collect();
    let names: Vec<String> = (0..20).map(|number| format!("open {number}")).collect();
    let (written, open): (String, Vec<_>) =
        (secret.join(" "), open.iter().map(|text| [("txt", text.as_str())]).collect());
    let files = [("txt", written.as_str())];
    let closed = json!({"accessRights": "restricted:press", "type": "Article"});
    let mut documents: Vec<Doc<'_>> = vec![("secret", closed, &files)];
    documents
        .extend(names.iter().zip(&open).map(|(name, files)| (name.as_str(), json!({"type": "Article"}), &files[..])));
    server.import("c", &documents).await;
    server.put("packs/1/00-txt-00001", written.clone()).await;
    for key in server.world.store.keys().await.unwrap() {
        let unlimited = Limits { documents: OwnLimit::Unlimited, requests: OwnLimit::Unlimited };
        server.world.store.limit_key(key.id, &unlimited).await.unwrap();
    }
    (server, vocabulary, pairs(&secret))
}

#[tokio::test]
async fn twenty_thousand_requests_put_few_words_of_a_restricted_text_in_order() {
    let mut random = StdRng::seed_from_u64(11);
    let (server, dictionary, secret) = site(&mut random).await;
    entitle(&server, MINER).await;
    let mut asked = 0;
    for trick in [Phrases, Snippets] {
        let mut entitled = Attacker { server: &server, key: MINER, asked: &mut asked };
        let words = entitled.words(&dictionary).await;
        let mut found = BTreeSet::new();
        for first in &words {
            if trick == Snippets {
                found.extend(entitled.snippets(first).await);
            } else {
                let seconds = entitled.followers(trick, first, &words).await;
                found.extend(seconds.into_iter().map(|second| (first.clone(), second)));
            }
        }
        let share = share(&found, &secret);
        println!("an entitled key has {share:.3} of the order by {trick:?} after {asked} requests");
        assert!(share > 0.8, "the attack is worth nothing: {share} by {trick:?}");
    }

    let mut asked = 0;
    let mut found = BTreeSet::new();
    for key in [NOBODY, STRANGER] {
        let mut attacker = Attacker { server: &server, key, asked: &mut asked };
        let words = attacker.words(&dictionary).await;
        assert!(words.len() * 10 > dictionary.len() * 9, "single words are found");
        assert!(!attacker.has(json!({"prefix": {"text": &words[0][..3]}})).await, "beginnings are not");
        for trick in TRICKS.into_iter().filter(|trick| key != NOBODY || *trick != Docset) {
            let mut firsts = words.clone();
            firsts.shuffle(&mut random);
            for first in &firsts {
                if trick == Snippets {
                    found.extend(attacker.snippets(first).await);
                } else if trick == CrossFields {
                    // It is true of any two words.
                } else {
                    let seconds = attacker.followers(trick, first, &words).await;
                    found.extend(seconds.into_iter().map(|second| (first.clone(), second)));
                }
            }
        }
    }
    // What is left goes into single pairs.
    while asked < REQUESTS {
        let key = *[NOBODY, STRANGER].choose(&mut random).unwrap();
        let (first, second) = (dictionary.choose(&mut random).unwrap(), dictionary.choose(&mut random).unwrap());
        let trick = *TRICKS.choose(&mut random).unwrap();
        if matches!(trick, CrossFields | Docset | Snippets) {
            continue;
        }
        let mut attacker = Attacker { server: &server, key, asked: &mut asked };
        if attacker.follows(trick, first, std::slice::from_ref(second)).await {
            found.insert((first.clone(), second.clone()));
        }
    }
    let share = share(&found, &secret);
    println!("others have {share:.3} of the order after {asked} requests");
    assert!(share < 0.05, "{share} of the order was recovered");
}
