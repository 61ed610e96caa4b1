//! A seeded search for the queries that cost the server most: hill climbing over the query grammar.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::generator::{Dice, word};
use super::support::Server;
use super::{Outcome, SLUG};

/// Queries that are tried, and those that are kept.
const TRIED: usize = 400;
const KEPT: usize = 16;
/// Time for all trials.
const PATIENCE: Duration = Duration::from_secs(240);
/// Bytes of a query; the server takes 8,192.
const LENGTH: usize = 8000;
const FACETS: [&str; 10] =
    ["creator", "subject", "publisher", "isPartOf", "language", "type", "license", "format", "year", "decade"];

/// A query, and what it cost.
#[derive(Debug, Clone)]
pub(crate) struct CostlyQuery {
    /// The request's body.
    pub(crate) body: Value,
    /// Time until its answer was there.
    pub(crate) took: Duration,
    /// Status of the answer.
    pub(crate) status: u16,
    tree: Tree,
}

/// A query before it is written.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(String),
    Node(&'static str, Vec<Tree>),
}

impl Tree {
    /// Makes a tree by chance, at most `depth` deep.
    fn random(dice: &mut Dice, depth: u32) -> Self {
        if depth == 0 || dice.one_in(3) {
            return Self::Leaf(leaf(dice));
        }
        let operator = [" OR ", " ", " NOT "][dice.below(3) as usize];
        let children = 1 + dice.below(12);
        Self::Node(operator, (0..children).map(|_| Self::random(dice, depth - 1)).collect())
    }

    /// Changes something: a part is made anew, doubled, or joined with a further one.
    fn mutate(&mut self, dice: &mut Dice) {
        match self {
            Self::Node(_, children) if !children.is_empty() && !dice.one_in(3) => {
                let at = dice.below(children.len() as u64) as usize;
                children[at].mutate(dice);
            }
            Self::Node(_, children) if !dice.one_in(3) => {
                let copy = children.first().cloned().unwrap_or_else(|| Self::Leaf(leaf(dice)));
                children.push(copy);
            }
            _ if dice.one_in(2) => *self = Self::random(dice, 2),
            _ => *self = Self::Node(" OR ", vec![self.clone(), Self::random(dice, 1)]),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Leaf(leaf) => leaf.clone(),
            Self::Node(" NOT ", children) => {
                let written: Vec<String> = children.iter().map(Self::write).collect();
                format!("(* NOT ({}))", written.join(" OR "))
            }
            Self::Node(operator, children) => {
                let written: Vec<String> = children.iter().map(Self::write).collect();
                format!("({})", written.join(operator))
            }
        }
    }
}

/// Makes one of the leaves of the grammar, each as costly as it is allowed to be.
fn leaf(dice: &mut Dice) -> String {
    let common = |dice: &mut Dice| {
        if dice.one_in(3) { "a".to_owned() } else { word(dice.below(60) as usize) }
    };
    let field = ["", "text:", "title:", "abstract:"][dice.below(4) as usize];
    match dice.below(8) {
        0 => format!("{field}{}", common(dice)),
        1 | 2 => {
            let (words, one) = (2 + dice.below(63), common(dice));
            let repeated = dice.one_in(2);
            let words: Vec<String> = (0..words).map(|_| if repeated { one.clone() } else { common(dice) }).collect();
            format!("{field}\"{}\"~{}", words.join(" "), dice.below(51))
        }
        3 => format!("{field}{}*", &common(dice).repeat(2)[..2]),
        4 => {
            let letters = 3 + dice.below(30) as usize;
            let long: String = word(dice.below(5000) as usize).repeat(12).chars().take(letters).collect();
            format!("{field}{long}~2")
        }
        5 => format!("issued:[{} TO *]", 1800 + dice.below(200)),
        6 => format!("{field}{}", word(dice.below(20_000) as usize)),
        _ => "*".to_owned(),
    }
}

/// Wraps a query in a request that has much counted and shown.
fn request(dice: &mut Dice, tree: &Tree) -> Option<Value> {
    let query = tree.write();
    if query.len() > LENGTH {
        return None;
    }
    let facets = if dice.one_in(2) { &FACETS[..] } else { &FACETS[..2] };
    let sort = ["relevance", "date", "ref"][dice.below(3) as usize];
    let limit = [0, 20, 1000][dice.below(3) as usize];
    Some(json!({"query": query, "facets": facets, "sort": sort, "limit": limit, "highlight": dice.one_in(2)}))
}

/// Looks for the queries that take longest, by chance and then by changes of the worst.
pub(crate) async fn find_worst(server: &Server, key: &str) -> Outcome<Vec<CostlyQuery>> {
    let mut dice = Dice::new(11, 0, 0);
    let mut worst: Vec<CostlyQuery> = Vec::new();
    let end = Instant::now() + PATIENCE;
    for trial in 0..TRIED {
        let mut tree = match worst.len() {
            kept if kept == KEPT && trial > TRIED / 4 => worst[dice.below(kept as u64) as usize].tree.clone(),
            _ => Tree::random(&mut dice, 3),
        };
        tree.mutate(&mut dice);
        let Some(body) = request(&mut dice, &tree) else { continue };
        let began = Instant::now();
        let path = format!("/api/collections/{SLUG}/search");
        let answer = server.request_as(Some(key), Method::POST, &path).json(&body).send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        worst.push(CostlyQuery { body, took: began.elapsed(), status, tree });
        worst.sort_by_key(|query| std::cmp::Reverse(query.took));
        worst.truncate(KEPT);
        if Instant::now() > end {
            eprintln!("  {trial} queries tried, then time was up");
            break;
        }
    }
    Ok(worst)
}
