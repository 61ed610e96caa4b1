//! The Elasticsearch query DSL, as far as it is taken here: from an object of JSON to the syntax tree.
//!
//! Nothing is ignored: what is not taken is an error that names it by its path. Which fields there are and what values fit them, the engine says.

mod place;
mod words;

use serde_json::{Map, Value};

use self::place::{Object, Place};
use super::lower::MAX_BOOST;
use super::schema::{FIELDS, Kind};
use super::{Bool, Bound, FieldRef, Fields, Need, OneOf, Prefix, Query, Range, SearchResult};

/// Longest query in bytes of its JSON: some room for each of [`MAX_VALUES`].
const MAX_BYTES: usize = 256 * 1024;
/// Most queries within queries.
const MAX_DEPTH: usize = 32;
/// Most queries in all, as Elasticsearch limited clauses for long.
const MAX_CLAUSES: usize = 1024;
/// Most values of one `terms`.
const MAX_VALUES: usize = 4096;
/// How a kind of query is read.
type Reading = fn(&mut Reader, &Object<'_>) -> SearchResult<Query>;

/// The kinds of queries.
const KINDS: [(&str, Reading); 11] = [
    ("bool", Reader::clauses),
    ("exists", |_, at| exists(at)),
    ("match", |_, at| words::matching(at)),
    ("match_all", |_, at| match_all(at)),
    ("match_phrase", |_, at| words::match_phrase(at)),
    ("multi_match", |_, at| words::multi_match(at)),
    ("prefix", |_, at| prefix(at)),
    ("query_string", |_, at| words::query_string(at)),
    ("range", |_, at| range(at)),
    ("term", |_, at| term(at)),
    ("terms", |_, at| terms(at)),
];

/// Reads an object with one member, such as `match`.
///
/// # Errors
/// [`super::SearchError::Unsupported`] with the path of the first mistake, and [`super::SearchError::Syntax`] of the text of a `query_string`.
pub(super) fn read(object: &Map<String, Value>) -> SearchResult<Query> {
    let root = Object::root(object);
    if serde_json::to_string(object).map_or(usize::MAX, |json| json.len()) > MAX_BYTES {
        return Err(root.error(&format!("may be {MAX_BYTES} bytes long at most")));
    }
    Reader::default().query(&root)
}

#[derive(Default)]
struct Reader {
    depth: usize,
    clauses: usize,
}

impl Reader {
    fn query(&mut self, at: &Object<'_>) -> SearchResult<Query> {
        self.clauses += 1;
        if self.clauses > MAX_CLAUSES {
            return Err(at.error(&format!("is one clause too many: there may be {MAX_CLAUSES}")));
        }
        if self.depth > MAX_DEPTH {
            return Err(at.error(&format!("is nested too deep: {MAX_DEPTH} levels are the most")));
        }
        let (name, place) = at.single("the kind of query, such as match")?;
        let Some((_, reading)) = KINDS.iter().find(|(kind, _)| *kind == name) else {
            let kinds = KINDS.map(|(kind, _)| kind).join(", ");
            return Err(place.error(&format!("is not supported; there are: {kinds}")));
        };
        reading(self, &place.object()?)
    }

    fn clauses(&mut self, at: &Object<'_>) -> SearchResult<Query> {
        at.only(&["must", "filter", "should", "must_not", "minimum_should_match", "boost"])?;
        self.depth += 1;
        let mut of = |name: &str| -> SearchResult<Vec<Query>> {
            let places = at.get(name).map_or(Ok(Vec::new()), |place| place.one_or_items())?;
            places.iter().map(|place| self.query(&place.object()?)).collect()
        };
        let mut clauses = Bool {
            must: of("must")?,
            filter: of("filter")?,
            should: of("should")?,
            must_not: of("must_not")?,
            need: None,
        };
        self.depth -= 1;
        clauses.need = at.get("minimum_should_match").map(|place| wanted(&place, &clauses)).transpose()?.flatten();
        let empty = [&clauses.must, &clauses.filter, &clauses.should, &clauses.must_not].iter().all(|of| of.is_empty());
        // As Elasticsearch has it; in the tree, a query that says nothing is none.
        boosted(at, if empty { Query::All } else { Query::Bool(clauses) })
    }
}

/// How many of `should` a `minimum_should_match` means.
fn wanted(place: &Place<'_>, clauses: &Bool) -> SearchResult<Option<Need>> {
    let (need, total) = (minimum(place)?, clauses.should.len());
    if matches!(need, Need::Count(count) if usize::try_from(count).is_ok_and(|count| count > total)) {
        return Err(place.error(&format!("asks for more clauses than the {total} of should")));
    }
    // Where there is nothing but `should`, Elasticsearch needs one of it whatever is said.
    let needs_one = clauses.must.is_empty() && clauses.filter.is_empty();
    Ok(if needs_one && need.of(total) == 0 { None } else { Some(need) })
}

/// A `minimum_should_match`: `2`, `-1`, `"75%"` or `"-25%"`.
fn minimum(place: &Place<'_>) -> SearchResult<Need> {
    let text = place.text().unwrap_or_default();
    let need = match text.trim().strip_suffix('%') {
        Some(share) => share.parse().map(Need::Percent),
        None => text.trim().parse().map(Need::Count),
    };
    need.map_err(|_| place.error("must be a whole number or a percentage, such as 2, -1 or \"75%\""))
}

fn match_all(at: &Object<'_>) -> SearchResult<Query> {
    at.only(&["boost"])?;
    boosted(at, Query::All)
}

fn exists(at: &Object<'_>) -> SearchResult<Query> {
    at.only(&["field", "boost"])?;
    let place = at.need("field")?;
    boosted(at, Query::Exists(whole_field(&place, place.string()?)?))
}

fn prefix(at: &Object<'_>) -> SearchResult<Query> {
    let (name, place) = at.single("a field")?;
    let options = place.object_or("value")?;
    options.only(&["value", "case_insensitive", "boost"])?;
    check_case(&options)?;
    let fields = Fields::These(vec![field(&place, name)?]);
    boosted(&options, Query::Prefix(Prefix { text: options.need("value")?.text()?, fields }))
}

fn term(at: &Object<'_>) -> SearchResult<Query> {
    let (name, place) = at.single("a field")?;
    let options = place.object_or("value")?;
    options.only(&["value", "case_insensitive", "boost"])?;
    check_case(&options)?;
    let values = vec![options.need("value")?.text()?];
    boosted(&options, Query::OneOf(OneOf { field: field(&place, name)?, values }))
}

fn terms(at: &Object<'_>) -> SearchResult<Query> {
    let mut fields = at.entries().filter(|(name, _)| *name != "boost");
    let (Some((name, place)), None) = (fields.next(), fields.next()) else {
        return Err(at.error("must have exactly one field"));
    };
    let values = place.items()?.iter().map(Place::text).collect::<SearchResult<Vec<_>>>()?;
    if values.is_empty() || values.len() > MAX_VALUES {
        return Err(place.error(&format!("must have 1 to {MAX_VALUES} values")));
    }
    boosted(at, Query::OneOf(OneOf { field: field(&place, name)?, values }))
}

fn range(at: &Object<'_>) -> SearchResult<Query> {
    let (name, place) = at.single("a field")?;
    let options = place.object()?;
    options.only(&["gt", "gte", "lt", "lte", "boost"])?;
    let bound = |included: &str, excluded: &str| match (options.get(included), options.get(excluded)) {
        (None, None) => Ok(Bound::Open),
        (Some(value), None) => value.text().map(Bound::Included),
        (None, Some(value)) => value.text().map(Bound::Excluded),
        (Some(_), Some(value)) => Err(value.error(&format!("cannot stand beside {included}"))),
    };
    let range = Range { field: whole_field(&place, name)?, lower: bound("gte", "gt")?, upper: bound("lte", "lt")? };
    boosted(&options, Query::Range(range))
}

/// Values are compared without case, so nothing else can be asked for.
fn check_case(options: &Object<'_>) -> SearchResult<()> {
    match options.get("case_insensitive") {
        Some(place) if !place.is_true() => Err(place.error("must be true: case is never looked at")),
        _ => Ok(()),
    }
}

/// The query with the `boost` of its object.
fn boosted(at: &Object<'_>, query: Query) -> SearchResult<Query> {
    let Some(place) = at.get("boost") else { return Ok(query) };
    let boost =
        weight(place.number()).ok_or_else(|| place.error(&format!("must be a number from 0 to {MAX_BOOST}")))?;
    Ok(match boost {
        1.0 => query,
        boost => Query::Boosted(Box::new(query), boost),
    })
}

/// A boost, if it is none that scores cannot bear.
#[expect(clippy::cast_possible_truncation, reason = "scores are single precision")]
fn weight(number: Option<f64>) -> Option<f32> {
    number.filter(|number| (0.0..=f64::from(MAX_BOOST)).contains(number)).map(|number| number as f32)
}

/// The field of that name: `title.exact` for exact forms, and `language.keyword` for one that is matched as a whole anyway.
fn field(place: &Place<'_>, name: &str) -> SearchResult<FieldRef> {
    if name.contains('*') {
        return Err(place.error("names its fields by a pattern, which is not supported; name them one by one"));
    }
    match name.strip_suffix(".keyword") {
        None => Ok(FieldRef::named(name)),
        Some(name) if FIELDS.iter().any(|field| field.name == name && field.kind != Kind::Text) => {
            Ok(FieldRef::named(name))
        }
        Some(name) => {
            Err(place.error(&format!("is not supported: {name} is not matched as a whole; try {name}.exact")))
        }
    }
}

/// The name of a field that is asked for as such, whose forms make no difference.
fn whole_field(place: &Place<'_>, name: &str) -> SearchResult<String> {
    Ok(field(place, name)?.name)
}

#[cfg(test)]
mod tests;
