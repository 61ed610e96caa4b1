//! The fields of an index, and how a document becomes entries in them.
//!
//! How text is cut into words is in [`super::analysis`], how dates are read in [`super::dates`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;
use tantivy::TantivyDocument;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions,
};

use super::analysis::normal;
use super::{IndexDocument, Language, dates, rights, words};

/// Document-version ids: what a search yields, and the term by which a replaced version is taken out.
pub(super) const ID: &str = "id";
/// Names of the fields that a document has a value in; `field:*` asks it.
pub(super) const HAS: &str = "_has";
/// Access level of the document's text: see [`super::rights`].
pub(super) const ACCESS: &str = "_access";
/// The field whose words are those of the document's text. All others are of its metadata, which is
/// open to everybody.
pub(super) const TEXT: &str = "text";
/// The only field that is a point in time: seconds since 1970-01-01T00:00:00Z.
pub(super) const ISSUED: &str = "issued";
/// The years of [`ISSUED`], as facets.
pub(super) const YEAR: &str = "year";
/// Their decades (`1990s`).
pub(super) const DECADE: &str = "decade";
/// The work's name.
pub(super) const REF: &str = "ref";

/// How a field's values are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Word by word, without case and diacritics, with positions.
    Text,
    /// As a whole, without case.
    Whole,
    /// As a span of time.
    Date,
}

/// One field that a query may name.
#[derive(Debug)]
pub(super) struct FieldSpec {
    /// Its name in queries and in metadata.
    pub(super) name: &'static str,
    /// How it is matched.
    pub(super) kind: Kind,
    /// Whether words without a field are looked up in it.
    pub(super) default: bool,
    /// Whether its values can be counted.
    pub(super) facet: bool,
}

const fn field(name: &'static str, kind: Kind, default: bool, facet: bool) -> FieldSpec {
    FieldSpec { name, kind, default, facet }
}

/// Every field, in the order in which people read them. What names the journal or the publisher of a whole collection, and
/// boilerplate such as rights statements, is no default field: one common word there would match every document.
pub(super) const FIELDS: [FieldSpec; 24] = [
    field(TEXT, Kind::Text, true, false),
    field("title", Kind::Text, true, false),
    field("creator", Kind::Text, true, true),
    field("contributor", Kind::Text, true, false),
    field("abstract", Kind::Text, true, false),
    field("description", Kind::Text, true, false),
    field("subject", Kind::Text, true, true),
    field("publisher", Kind::Text, false, true),
    field("isPartOf", Kind::Text, false, true),
    field("source", Kind::Text, false, false),
    field("relation", Kind::Text, false, false),
    field("coverage", Kind::Text, false, false),
    field("spatial", Kind::Text, false, false),
    field("temporal", Kind::Text, false, false),
    field("rights", Kind::Text, false, false),
    field(REF, Kind::Whole, false, false),
    field("identifier", Kind::Whole, false, false),
    field("language", Kind::Whole, false, true),
    field("type", Kind::Whole, false, true),
    field("license", Kind::Whole, false, true),
    field("format", Kind::Whole, false, true),
    field(ISSUED, Kind::Date, false, false),
    field(YEAR, Kind::Whole, false, true),
    field(DECADE, Kind::Whole, false, true),
];

/// A field in the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    /// Its values; of a field of texts the stems.
    pub(super) field: Field,
    /// The exact forms of a field of texts; the same as `field` where words have no stems.
    pub(super) exact: Field,
}

/// A schema with the handles of its fields.
pub(super) struct Layout {
    /// Tantivy's description of the index.
    pub(super) schema: Schema,
    /// [`ID`].
    pub(super) id: Field,
    /// [`HAS`].
    pub(super) has: Field,
    /// [`ACCESS`].
    pub(super) access: Field,
    /// By the names of [`FIELDS`].
    pub(super) handles: HashMap<&'static str, Handle>,
}

/// Of collections that name no language, and of those that do.
static LAYOUTS: [LazyLock<Layout>; 2] = [LazyLock::new(|| Layout::new(false)), LazyLock::new(|| Layout::new(true))];

impl Layout {
    /// The layout of an index whose texts are analysed so.
    pub(super) fn of(language: Option<Language>) -> &'static Self {
        &LAYOUTS[usize::from(language.is_some())]
    }

    fn new(stems: bool) -> Self {
        let mut builder = Schema::builder();
        let id = builder.add_u64_field(ID, INDEXED | FAST);
        let raw = || TextOptions::default().set_indexing_options(whole(words::RAW));
        let (has, access) = (builder.add_text_field(HAS, raw()), builder.add_text_field(ACCESS, raw()));
        let handles = FIELDS
            .iter()
            .map(|spec| {
                let field = match spec.kind {
                    Kind::Date => builder.add_i64_field(spec.name, NumericOptions::default() | INDEXED | FAST),
                    Kind::Text => builder.add_text_field(spec.name, with_column(spec, positions(words::STEMS))),
                    Kind::Whole => builder.add_text_field(spec.name, with_column(spec, whole(words::WHOLE))),
                };
                let exact = || TextOptions::default().set_indexing_options(positions(words::EXACT));
                let exact = (stems && spec.kind == Kind::Text)
                    .then(|| builder.add_text_field(&format!("{}.exact", spec.name), exact()));
                (spec.name, Handle { field, exact: exact.unwrap_or(field) })
            })
            .collect();
        Self { schema: builder.build(), id, has, access, handles }
    }
}

fn positions(tokenizer: &str) -> TextFieldIndexing {
    TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(IndexRecordOption::WithFreqsAndPositions)
}

fn whole(tokenizer: &str) -> TextFieldIndexing {
    TextFieldIndexing::default()
        .set_tokenizer(tokenizer)
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false)
}

/// Facets are counted, and refs sorted, on a column of the values as they were given.
fn with_column(spec: &FieldSpec, indexing: TextFieldIndexing) -> TextOptions {
    let options = TextOptions::default().set_indexing_options(indexing);
    if spec.facet || spec.name == REF { options.set_fast(words::RAW) } else { options }
}

/// The names of all fields.
pub(super) fn names() -> Vec<String> {
    FIELDS.iter().map(|spec| spec.name.to_owned()).collect()
}

/// The names of the fields that can be facets.
pub(super) fn facet_names() -> Vec<String> {
    FIELDS.iter().filter(|spec| spec.facet).map(|spec| spec.name.to_owned()).collect()
}

/// The index's entry for a document.
pub(super) fn entry(layout: &Layout, document: &IndexDocument<'_>) -> TantivyDocument {
    let mut entry = TantivyDocument::new();
    entry.add_u64(layout.id, u64::from(document.id.0));
    for term in rights::access_terms(document.access) {
        entry.add_text(layout.access, term);
    }
    for (spec, filled) in filled(document) {
        let handle = layout.handles[spec.name];
        match filled {
            Filled::Dates(starts) => starts.into_iter().for_each(|start| entry.add_i64(handle.field, start)),
            Filled::Texts(values) => {
                for value in values {
                    if handle.exact != handle.field {
                        entry.add_text(handle.exact, &value);
                    }
                    entry.add_text(handle.field, value);
                }
            }
        }
        entry.add_text(layout.has, spec.name);
    }
    entry
}

/// What a document has in a field: one value at least, and none twice.
pub(super) enum Filled<'a> {
    /// The first seconds of dates, the latest first: sorting by date looks at the first.
    Dates(Vec<i64>),
    /// Texts in normal form C.
    Texts(Vec<Cow<'a, str>>),
}

/// The fields in which a document has something.
pub(super) fn filled<'a>(document: &'a IndexDocument<'_>) -> impl Iterator<Item = (&'static FieldSpec, Filled<'a>)> {
    FIELDS.iter().filter_map(|spec| {
        let values = values(document, spec.name);
        if spec.kind == Kind::Date {
            let mut starts: Vec<i64> =
                values.iter().filter_map(|value| dates::span(value)).map(|span| span.start).collect();
            starts.sort_unstable_by(|a, b| b.cmp(a));
            starts.dedup();
            return (!starts.is_empty()).then_some((spec, Filled::Dates(starts)));
        }
        let mut seen = HashSet::new();
        let given = values.into_iter().filter(|value| !value.is_empty() && seen.insert(value.clone()));
        let texts: Vec<_> = given.map(in_normal_form).collect();
        (!texts.is_empty()).then_some((spec, Filled::Texts(texts)))
    })
}

fn in_normal_form(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => normal(text),
        Cow::Owned(text) => Cow::Owned(normal(&text).into_owned()),
    }
}

/// What the document says in a field. Only strings, numbers and arrays of those count in metadata.
fn values<'a>(document: &'a IndexDocument<'_>, field: &str) -> Vec<Cow<'a, str>> {
    match field {
        REF => vec![Cow::Borrowed(document.r#ref)],
        TEXT => document.text.into_iter().map(Cow::Borrowed).collect(),
        "format" => document.formats.iter().copied().map(Cow::Borrowed).collect(),
        YEAR => years(document).map(Cow::Owned).collect(),
        DECADE => years(document).map(|year| Cow::Owned(format!("{}0s", &year[..3]))).collect(),
        name => match document.metadata.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
            Some(value) => scalar(value).into_iter().collect(),
            None => Vec::new(),
        },
    }
}

/// In four digits each.
fn years(document: &IndexDocument<'_>) -> impl Iterator<Item = String> {
    let starts = values(document, ISSUED).into_iter().filter_map(|value| dates::span(&value)).map(|span| span.start);
    starts.filter_map(dates::year)
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.trim())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
