//! From a syntax tree back to both of its languages, where these can say what it finds. What only weighs may get lost.

use adit_shared::search::{
    Analyzer, Bool, Bound, FieldRef, Fields, Fuzziness, Need, OneOf, Phrase, Prefix, Query, Range, Words,
};
use serde_json::{Map, Value, json};

use crate::naive::{Naive, is_text};

/// In the query language.
pub(crate) fn text(query: &Query, naive: &mut Naive) -> Option<String> {
    match query {
        Query::All => Some("*".to_owned()),
        Query::Exists(field) => Some(format!("{field}:*")),
        Query::Words(words) => words_text(words, naive.analyzer()),
        Query::Phrase(phrase) => phrase_text(phrase),
        Query::Prefix(prefix) => prefix_text(prefix),
        Query::OneOf(OneOf { field, values }) => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            Some(format!("{}:IN [{}]", name(field), values.join(" ")))
        }
        Query::Range(range) => Some(range_text(range)),
        Query::Boosted(query, boost) => Some(format!("({})^{boost}", text(query, naive)?)),
        Query::AskedBy(query, _) => text(query, naive),
        Query::Bool(clauses) => bool_text(clauses, naive),
    }
}

/// `a b` are looked for each by itself there, so it depends on what is needed of them whether that is the same.
fn words_text(words: &Words, analyzer: Analyzer) -> Option<String> {
    let tokens = if words.fuzziness == Fuzziness::Exactly {
        analyzer.stems(&words.text)
    } else {
        analyzer.exact_words(&words.text)
    };
    let texts: Vec<&str> = tokens.iter().map(|token| &words.text[token.bytes.clone()]).collect();
    // A single ideograph may be cut out of what a dictionary takes for one word.
    if texts.is_empty()
        || texts.iter().any(|text| !text.chars().all(char::is_alphanumeric) || text.len() > 2 * text.chars().count())
    {
        return None;
    }
    let fuzzy = match words.fuzziness {
        Fuzziness::Exactly => "",
        Fuzziness::Auto => "~",
        Fuzziness::Edits(0) => "~0",
        Fuzziness::Edits(1) => "~1",
        Fuzziness::Edits(_) => "~2",
    };
    let word = |text: &&str| if fuzzy.is_empty() { quoted(text) } else { format!("{text}{fuzzy}") };
    let one_field = matches!(&words.fields, Fields::These(fields) if fields.len() == 1);
    let joint = match words.need.of(texts.len()).max(1) {
        1 => " OR ",
        needed if needed == texts.len() && (words.across || one_field) => " AND ",
        _ => return None,
    };
    if let Fields::These(fields) = &words.fields
        && (fields.iter().any(|field| !is_text(&field.name)) && texts.len() > 1)
    {
        return None;
    }
    let each: Option<Vec<String>> = texts.iter().map(|text| in_fields(&words.fields, &word(text))).collect();
    Some(format!("({})", each?.join(joint)))
}

fn phrase_text(phrase: &Phrase) -> Option<String> {
    let slop = if phrase.slop > 0 { format!("~{}", phrase.slop) } else { String::new() };
    if phrase.last_is_prefix { None } else { in_fields(&phrase.fields, &format!("{}{slop}", quoted(&phrase.text))) }
}

fn prefix_text(prefix: &Prefix) -> Option<String> {
    let escaped: String =
        prefix.text.chars().flat_map(|c| if c.is_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect();
    in_fields(&prefix.fields, &format!("{escaped}*"))
}

/// In any of the fields.
fn in_fields(fields: &Fields, term: &str) -> Option<String> {
    match fields {
        Fields::Default { exact: false } => Some(term.to_owned()),
        Fields::Default { exact: true } => Some(format!("={term}")),
        Fields::These(fields) => {
            let each: Vec<String> =
                fields.iter().map(|field| format!("{}:{term}^{}", name(field), field.boost)).collect();
            Some(format!("({})", each.join(" OR ")))
        }
    }
}

fn range_text(range: &Range) -> String {
    let (open, from) = match &range.lower {
        Bound::Open => ('[', "*".to_owned()),
        Bound::Included(date) => ('[', quoted(date)),
        Bound::Excluded(date) => ('{', quoted(date)),
    };
    let (to, close) = match &range.upper {
        Bound::Open => ("*".to_owned(), ']'),
        Bound::Included(date) => (quoted(date), ']'),
        Bound::Excluded(date) => (quoted(date), '}'),
    };
    format!("{}:{open}{from} TO {to}{close}", range.field)
}

/// Alternatives are needed as a group or weigh nothing, so it cannot be said that two of three are needed.
fn bool_text(clauses: &Bool, naive: &mut Naive) -> Option<String> {
    let mut printed = |queries: &[Query]| -> Option<Vec<String>> {
        let said: Vec<&Query> = queries.iter().filter(|query| naive.says(query)).collect();
        said.into_iter().map(|query| Some(format!("({})", text(query, naive)?))).collect()
    };
    let mut all = printed(&clauses.must)?;
    all.extend(printed(&clauses.filter)?);
    let (should, must_not) = (printed(&clauses.should)?, printed(&clauses.must_not)?);
    let needed = match clauses.need {
        Some(need) => need.of(should.len()),
        None => usize::from(all.is_empty() && !should.is_empty()),
    };
    match needed {
        0 if all.is_empty() && !should.is_empty() => all.push("*".to_owned()),
        0 => {}
        1 => all.push(format!("({})", should.join(" OR "))),
        needed if needed == should.len() => all.extend(should),
        _ => return None,
    }
    all.extend(must_not.into_iter().map(|clause| format!("-{clause}")));
    (!all.is_empty()).then(|| all.join(" "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn name(field: &FieldRef) -> String {
    format!("{}{}", field.name, if field.exact { ".exact" } else { "" })
}

/// In the Elasticsearch DSL.
pub(crate) fn dsl(query: &Query) -> Option<Value> {
    match query {
        Query::All => Some(json!({"match_all": {}})),
        Query::Exists(field) => Some(json!({"exists": {"field": field}})),
        Query::Words(words) => words_dsl(words),
        Query::Phrase(phrase) => phrase_dsl(phrase),
        Query::Prefix(Prefix { text, fields: Fields::These(fields) }) if fields.len() == 1 => {
            Some(boosted(json!({"prefix": {name(&fields[0]): text}}), fields[0].boost))
        }
        Query::Prefix(_) => None,
        Query::OneOf(OneOf { field, values }) if values.len() == 1 => {
            Some(json!({"term": {name(field): {"value": values[0], "boost": field.boost}}}))
        }
        Query::OneOf(OneOf { field, values }) => Some(json!({"terms": {name(field): values, "boost": field.boost}})),
        Query::Range(range) => Some(range_dsl(range)),
        Query::Boosted(query, boost) => Some(boosted(dsl(query)?, *boost)),
        Query::AskedBy(query, _) => dsl(query),
        Query::Bool(clauses) => bool_dsl(clauses),
    }
}

fn boosted(query: Value, boost: f32) -> Value {
    json!({"bool": {"must": query, "boost": boost}})
}

fn words_dsl(words: &Words) -> Option<Value> {
    let mut options = Map::from_iter([("query".to_owned(), json!(words.text))]);
    match words.need {
        Need::All => options.insert("operator".to_owned(), json!("and")),
        Need::Any => options.insert("operator".to_owned(), json!("OR")),
        Need::Count(count) => options.insert("minimum_should_match".to_owned(), json!(count)),
        Need::Percent(share) => options.insert("minimum_should_match".to_owned(), json!(format!("{share}%"))),
    };
    match words.fuzziness {
        Fuzziness::Exactly => None,
        // There it means the word itself, in whatever form.
        Fuzziness::Edits(0) => return None,
        Fuzziness::Edits(edits) => options.insert("fuzziness".to_owned(), json!(edits)),
        Fuzziness::Auto => options.insert("fuzziness".to_owned(), json!("AUTO")),
    };
    match &words.fields {
        Fields::These(fields) if fields.len() == 1 && !words.across => {
            options.insert("boost".to_owned(), json!(fields[0].boost));
            Some(json!({"match": {name(&fields[0]): options}}))
        }
        _ if words.across && words.fuzziness != Fuzziness::Exactly => None,
        fields => {
            let r#type = if words.across { "cross_fields" } else { "best_fields" };
            options.insert("type".to_owned(), json!(r#type));
            several(options, fields)
        }
    }
}

fn phrase_dsl(phrase: &Phrase) -> Option<Value> {
    let options = json!({"query": phrase.text, "slop": phrase.slop});
    let Value::Object(mut options) = options else { return None };
    match &phrase.fields {
        _ if phrase.last_is_prefix => None,
        Fields::These(fields) if fields.len() == 1 => Some(json!({"match_phrase": {name(&fields[0]): options}})),
        fields => {
            options.insert("type".to_owned(), json!("phrase"));
            several(options, fields)
        }
    }
}

fn several(mut options: Map<String, Value>, fields: &Fields) -> Option<Value> {
    match fields {
        Fields::Default { exact: true } => return None,
        Fields::Default { exact: false } => {}
        Fields::These(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| format!("{}^{}", name(field), field.boost)).collect();
            options.insert("fields".to_owned(), json!(fields));
        }
    }
    Some(json!({"multi_match": options}))
}

fn range_dsl(range: &Range) -> Value {
    let mut bounds = Map::new();
    for (bound, included, excluded) in [(&range.lower, "gte", "gt"), (&range.upper, "lte", "lt")] {
        match bound {
            Bound::Open => {}
            Bound::Included(date) => drop(bounds.insert(included.to_owned(), json!(date))),
            Bound::Excluded(date) => drop(bounds.insert(excluded.to_owned(), json!(date))),
        }
    }
    json!({"range": {&range.field: bounds}})
}

/// Elasticsearch takes no clauses for all documents, and never needs none of clauses that stand alone.
fn bool_dsl(clauses: &Bool) -> Option<Value> {
    let printed = |queries: &[Query]| queries.iter().map(dsl).collect::<Option<Vec<Value>>>();
    let (must, filter) = (printed(&clauses.must)?, printed(&clauses.filter)?);
    let (should, must_not) = (printed(&clauses.should)?, printed(&clauses.must_not)?);
    let total = should.len();
    if total + must.len() + filter.len() + must_not.len() == 0 {
        return None;
    }
    let alone = must.is_empty() && filter.is_empty();
    let mut body = json!({"must": must, "filter": filter, "should": should, "must_not": must_not});
    if let Some(need) = clauses.need {
        let minimum = match need {
            Need::All => json!("100%"),
            Need::Any => json!(1),
            Need::Count(count) => json!(count),
            Need::Percent(share) => json!(format!("{share}%")),
        };
        if (alone && need.of(total) == 0) || minimum.as_u64().is_some_and(|count| count > total as u64) {
            return None;
        }
        body["minimum_should_match"] = minimum;
    }
    Some(json!({"bool": body}))
}
