//! Searches, and how long the answers take.

use std::time::Duration;

use serde_json::{Value, json};

use super::generator::{Dice, word};
use super::report::{Column, Figure};
use super::support::Client;
use super::{Outcome, SLUG, timed};

/// How often a question is put, with other words each time, and for how long at most once it has been put some times.
const TIMES: (u64, u64) = (10, 300);
const PATIENCE: Duration = Duration::from_secs(20);
/// Facets that a page of results shows.
const FACETS: [&str; 8] = ["year", "decade", "type", "language", "subject", "publisher", "license", "format"];
/// Hits that a search can be paged to, less a page.
const DEEP: u64 = 99_000;

type Question = (&'static str, fn(&mut Dice) -> Value);

/// First pages of 20 hits, unless it is said otherwise.
const QUESTIONS: [Question; 12] = [
    ("two common words", |dice| json!({"query": format!("{} {}", common(dice), common(dice))})),
    ("either of two common words", |dice| json!({"query": format!("{} OR {}", common(dice), common(dice))})),
    ("either of two rare words", |dice| json!({"query": format!("{} OR {}", rare(dice), rare(dice))})),
    ("phrase of two common words", |dice| json!({"query": format!("\"{} {}\"", common(dice), common(dice))})),
    ("prefix (`stea*`)", |dice| json!({"query": format!("{}*", medium(dice))})),
    (
        "boolean (`(a OR b) c -d`)",
        |dice| json!({"query": format!("({} OR {}) {} -{}", medium(dice), medium(dice), common(dice), common(dice))}),
    ),
    ("common word within ten years", |dice| {
        let year = 1980 + dice.below(30);
        json!({"query": format!("{} issued:[{year} TO {}]", common(dice), year + 10)})
    }),
    ("common word, newest first", |dice| json!({"query": common(dice), "sort": "date"})),
    ("common word, by ref", |dice| json!({"query": common(dice), "sort": "ref"})),
    ("everything, newest first", |_| json!({"query": "*", "sort": "date"})),
    ("8 facets of a common word", |dice| json!({"query": common(dice), "facets": FACETS})),
    ("8 facets of everything", |_| json!({"query": "*", "facets": FACETS})),
];

/// One of the most frequent words, but none of which there are several in each sentence.
fn common(dice: &mut Dice) -> String {
    word(20 + dice.below(200) as usize)
}

fn medium(dice: &mut Dice) -> String {
    word(1000 + dice.below(15_000) as usize)
}

fn rare(dice: &mut Dice) -> String {
    word(30_000 + dice.below(100_000) as usize)
}

/// Asks everything.
pub(crate) async fn ask_all(api: &Client, column: &mut Column) -> Outcome<()> {
    for (name, body) in QUESTIONS {
        let mut dice = Dice::new(2, 0, 0);
        // What the first ones read from the disk, the others find in memory.
        for _ in 0..3 {
            api.search(SLUG, &body(&mut dice)).await;
        }
        let (mut times, mut spent) = (Vec::new(), Duration::ZERO);
        while (times.len() as u64) < TIMES.0 || ((times.len() as u64) < TIMES.1 && spent < PATIENCE) {
            let (took, _) = timed(api.search(SLUG, &body(&mut dice))).await;
            times.push(took);
            spent += took;
        }
        column.add(format!("{name}, ms"), Figure::percentiles(times));
    }
    let (depth, times) = deep(api).await;
    column.add("… the same page near the last that can be paged to, ms", Figure::percentiles(times));
    eprintln!("  (behind {depth} hits)");
    Ok(())
}

/// Pages through everything; gives the last hits that there are or can be paged to, and what their page takes.
async fn deep(api: &Client) -> (u64, Vec<Duration>) {
    let (mut cursor, mut depth) = (Value::Null, 0);
    loop {
        let page = api.search(SLUG, &json!({"query": "*", "limit": 1000, "cursor": cursor})).await;
        if page["next"].is_null() || depth >= DEEP {
            break;
        }
        depth += 1000;
        cursor = page["next"].clone();
    }
    let mut times = Vec::new();
    for _ in 0..TIMES.0 * 2 {
        times.push(timed(api.search(SLUG, &json!({"query": "*", "limit": 20, "cursor": cursor}))).await.0);
    }
    (depth, times)
}
