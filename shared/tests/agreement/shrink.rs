//! Smaller trees out of a tree, to show what is at the bottom of a disagreement.

use adit_shared::search::{Bool, Fields, Need, OneOf, Phrase, Query, Words};

/// The smallest tree that can be reached from `query` in steps that all are `wrong`.
pub(crate) fn shrink(mut query: Query, mut wrong: impl FnMut(&Query) -> bool) -> Query {
    while let Some(smaller) = steps(&query).into_iter().find(|smaller| wrong(smaller)) {
        query = smaller;
    }
    query
}

/// Trees that are a little smaller.
fn steps(query: &Query) -> Vec<Query> {
    match query {
        Query::Bool(clauses) => of_bool(clauses),
        Query::Boosted(inner, boost) => {
            let within = steps(inner).into_iter().map(|inner| Query::Boosted(Box::new(inner), *boost));
            std::iter::once((**inner).clone()).chain(within).collect()
        }
        Query::AskedBy(inner, rights) => {
            steps(inner).into_iter().map(|inner| Query::AskedBy(Box::new(inner), rights.clone())).collect()
        }
        Query::Words(words) => {
            let text = |text| Query::Words(Words { text, ..words.clone() });
            let fields = |fields| Query::Words(Words { fields, ..words.clone() });
            let need = (words.need != Need::Any).then(|| Query::Words(Words { need: Need::Any, ..words.clone() }));
            let apart = words.across.then(|| Query::Words(Words { across: false, ..words.clone() }));
            let simple = need.into_iter().chain(apart);
            texts(&words.text).map(text).chain(fewer(&words.fields).map(fields)).chain(simple).collect()
        }
        Query::Phrase(phrase) => {
            let text = |text| Query::Phrase(Phrase { text, ..phrase.clone() });
            let fields = |fields| Query::Phrase(Phrase { fields, ..phrase.clone() });
            let slop = (phrase.slop > 0).then(|| Query::Phrase(Phrase { slop: phrase.slop - 1, ..phrase.clone() }));
            texts(&phrase.text).map(text).chain(fewer(&phrase.fields).map(fields)).chain(slop).collect()
        }
        Query::OneOf(one_of) if one_of.values.len() > 1 => {
            without_one(&one_of.values).map(|values| Query::OneOf(OneOf { values, ..one_of.clone() })).collect()
        }
        _ => Vec::new(),
    }
}

fn of_bool(clauses: &Bool) -> Vec<Query> {
    type Part = fn(&mut Bool) -> &mut Vec<Query>;
    let parts: [Part; 4] = [|of| &mut of.must, |of| &mut of.filter, |of| &mut of.should, |of| &mut of.must_not];
    let mut smaller = Vec::new();
    for part in parts {
        let queries = part(&mut clauses.clone()).clone();
        smaller.extend(queries.iter().cloned());
        let mut with = |queries| {
            let mut clauses = clauses.clone();
            *part(&mut clauses) = queries;
            smaller.push(Query::Bool(clauses));
        };
        without_one(&queries).for_each(&mut with);
        for (at, query) in queries.iter().enumerate() {
            for step in steps(query) {
                let mut queries = queries.clone();
                queries[at] = step;
                with(queries);
            }
        }
    }
    smaller.extend(clauses.need.map(|_| Query::Bool(Bool { need: None, ..clauses.clone() })));
    smaller
}

fn without_one<T: Clone>(items: &[T]) -> impl Iterator<Item = Vec<T>> {
    (0..items.len()).map(|at| [&items[..at], &items[at + 1..]].concat())
}

/// The text without one of its words.
fn texts(text: &str) -> impl Iterator<Item = String> {
    let words: Vec<&str> = text.split(' ').collect();
    let shorter: Vec<String> = without_one(&words).map(|words| words.join(" ")).collect();
    shorter.into_iter().filter(|text| !text.is_empty())
}

fn fewer(fields: &Fields) -> impl Iterator<Item = Fields> {
    let fewer: Vec<Fields> = match fields {
        Fields::These(fields) if fields.len() > 1 => without_one(fields).map(Fields::These).collect(),
        Fields::These(_) => Vec::new(),
        Fields::Default { .. } => ["title", "text"].map(|field| Fields::of(Some(field))).to_vec(),
    };
    fewer.into_iter()
}
