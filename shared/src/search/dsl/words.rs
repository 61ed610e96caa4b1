//! The queries of the DSL that look for the words of a text: `match`, `match_phrase`, `multi_match` and `query_string`.

use super::super::syntax::{parse, parse_alternatives};
use super::super::{FieldRef, Fields, Fuzziness, Need, Phrase, Query, SearchError, SearchResult, Words};
use super::place::{Object, Place};
use super::{MAX_BOOST, boosted, field, minimum, weight};

/// `{"title": "soil moisture"}`, or with options.
pub(super) fn matching(at: &Object<'_>) -> SearchResult<Query> {
    let (name, place) = at.single("a field")?;
    let options = place.object_or("query")?;
    options.only(&["query", "operator", "minimum_should_match", "fuzziness", "boost"])?;
    words(&options, Fields::These(vec![field(&place, name)?]), false)
}

/// `{"title": "soil moisture"}`, or with options.
pub(super) fn match_phrase(at: &Object<'_>) -> SearchResult<Query> {
    let (name, place) = at.single("a field")?;
    let options = place.object_or("query")?;
    options.only(&["query", "slop", "boost"])?;
    phrase(&options, Fields::These(vec![field(&place, name)?]))
}

/// A text in several fields.
pub(super) fn multi_match(at: &Object<'_>) -> SearchResult<Query> {
    let types = ["best_fields", "most_fields", "cross_fields", "phrase"];
    let r#type = at.get("type").map_or(Ok(types[0]), |place| place.word(&types))?;
    let own: &[&str] = match r#type {
        "phrase" => &["slop"],
        "cross_fields" => &["operator", "minimum_should_match"],
        _ => &["operator", "minimum_should_match", "fuzziness"],
    };
    at.only(&[&["query", "fields", "type", "boost"], own].concat())?;
    let fields = at.get("fields").map(|place| several(&place)).transpose()?;
    let fields = fields.map_or(Fields::of(None), Fields::These);
    if r#type == "phrase" { phrase(at, fields) } else { words(at, fields, r#type == "cross_fields") }
}

/// A text in the query language.
pub(super) fn query_string(at: &Object<'_>) -> SearchResult<Query> {
    at.only(&["query", "default_field", "fields", "default_operator", "boost"])?;
    let operator = at.get("default_operator").map_or(Ok("or"), |place| place.word(&["or", "and"]))?;
    let place = at.need("query")?;
    let parse = if operator == "or" { parse_alternatives } else { parse };
    let query = parse(place.string()?).map_err(|error| within(&place, error))?;
    let fields = match (at.get("default_field"), at.get("fields")) {
        (None, None) => None,
        (Some(place), None) => Some(vec![field(&place, place.string()?)?]),
        (None, Some(place)) => Some(several(&place)?),
        (Some(_), Some(place)) => return Err(place.error("cannot stand beside default_field")),
    };
    boosted(at, if let Some(fields) = fields { by_default(query, &fields) } else { query })
}

fn within(place: &Place<'_>, error: SearchError) -> SearchError {
    match error {
        SearchError::Syntax { position, message } => {
            SearchError::Syntax { position, message: format!("{message} (in {})", place.path()) }
        }
        other => other,
    }
}

/// The query, with other default fields.
fn by_default(query: Query, fields: &[FieldRef]) -> Query {
    let within = |queries: Vec<Query>| queries.into_iter().map(|query| by_default(query, fields)).collect();
    let these = |old| match old {
        Fields::Default { exact } => Fields::These(
            fields.iter().map(|field| FieldRef { exact: exact || field.exact, ..field.clone() }).collect(),
        ),
        named @ Fields::These(_) => named,
    };
    match query {
        Query::Words(words) => Query::Words(Words { fields: these(words.fields), ..words }),
        Query::Phrase(phrase) => Query::Phrase(Phrase { fields: these(phrase.fields), ..phrase }),
        Query::Prefix(prefix) => Query::Prefix(super::Prefix { fields: these(prefix.fields), ..prefix }),
        Query::Bool(clauses) => Query::Bool(super::Bool {
            must: within(clauses.must),
            filter: within(clauses.filter),
            should: within(clauses.should),
            must_not: within(clauses.must_not),
            need: clauses.need,
        }),
        Query::Boosted(query, boost) => Query::Boosted(Box::new(by_default(*query, fields)), boost),
        other => other,
    }
}

fn words(options: &Object<'_>, fields: Fields, across: bool) -> SearchResult<Query> {
    let operator = options.get("operator").map_or(Ok("or"), |place| place.word(&["or", "and"]))?;
    let need = match (operator, options.get("minimum_should_match")) {
        ("and", Some(place)) => return Err(place.error("cannot stand beside the operator and, which needs all words")),
        ("and", None) => Need::All,
        (_, Some(place)) => minimum(&place)?,
        (_, None) => Need::Any,
    };
    let fuzziness = options.get("fuzziness").map_or(Ok(Fuzziness::Exactly), |place| fuzziness(&place))?;
    boosted(options, Query::Words(Words { text: options.need("query")?.text()?, fields, need, across, fuzziness }))
}

fn phrase(options: &Object<'_>, fields: Fields) -> SearchResult<Query> {
    let slop = |place: Place<'_>| {
        let slop = place.text().ok().and_then(|text| text.parse().ok());
        slop.ok_or_else(|| place.error("must be a whole number, not below 0"))
    };
    let slop = options.get("slop").map_or(Ok(0), slop)?;
    boosted(
        options,
        Query::Phrase(Phrase { text: options.need("query")?.text()?, fields, slop, last_is_prefix: false }),
    )
}

fn fuzziness(place: &Place<'_>) -> SearchResult<Fuzziness> {
    match place.text().unwrap_or_default().to_ascii_lowercase().as_str() {
        "auto" => Ok(Fuzziness::Auto),
        "0" => Ok(Fuzziness::Exactly),
        "1" => Ok(Fuzziness::Edits(1)),
        "2" => Ok(Fuzziness::Edits(2)),
        _ => Err(place.error("must be AUTO, 0, 1 or 2")),
    }
}

/// Fields with their boosts: `["title^3", "abstract"]`.
fn several(place: &Place<'_>) -> SearchResult<Vec<FieldRef>> {
    let one = |place: &Place<'_>| {
        let (name, boost) =
            place.string().map(|text| text.split_once('^').map_or((text, None), |(a, b)| (a, Some(b))))?;
        let boost = boost.map_or(Some(1.0), |boost| weight(boost.parse().ok()));
        let boost = boost.ok_or_else(|| place.error(&format!("must have a number from 0 to {MAX_BOOST} behind ^")))?;
        Ok(FieldRef { boost, ..field(place, name)? })
    };
    let fields = place.one_or_items()?.iter().map(one).collect::<SearchResult<Vec<_>>>()?;
    if fields.is_empty() { Err(place.error("must name a field")) } else { Ok(fields) }
}
