//! The fields of an index, and how a document becomes entries in them.
//!
//! How text is cut into words is in [`super::words`], how dates are read in [`super::dates`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::Value;
use tantivy::TantivyDocument;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions,
};

use super::{IndexDocument, dates, words};

/// Document-version ids: what a search yields, and the term by which a replaced version is taken out.
pub(super) const ID: &str = "id";
/// Names of the fields that a document has a value in; `field:*` asks it.
pub(super) const HAS: &str = "_has";
/// The only field that is a point in time: seconds since 1970-01-01T00:00:00Z.
pub(super) const ISSUED: &str = "issued";
/// The years of [`ISSUED`], as facets.
pub(super) const YEAR: &str = "year";
/// The work's name.
pub(super) const REF: &str = "ref";

/// How a field's values are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Word by word, without case and diacritics, with positions.
    Text,
    /// As a whole, without case.
    Exact,
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
pub(super) const FIELDS: [FieldSpec; 23] = [
    field("text", Kind::Text, true, false),
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
    field(REF, Kind::Exact, false, false),
    field("identifier", Kind::Exact, false, false),
    field("language", Kind::Exact, false, true),
    field("type", Kind::Exact, false, true),
    field("license", Kind::Exact, false, true),
    field("format", Kind::Exact, false, true),
    field(ISSUED, Kind::Date, false, false),
    field(YEAR, Kind::Exact, false, true),
];

/// The schema with the handles of its fields.
pub(super) struct Layout {
    /// Tantivy's description of the index.
    pub(super) schema: Schema,
    /// [`ID`].
    pub(super) id: Field,
    has: Field,
    /// Handles in the order of [`FIELDS`].
    handles: Vec<Field>,
}

impl Layout {
    /// The fields that words without a field are looked up in.
    pub(super) fn defaults(&self) -> Vec<Field> {
        FIELDS.iter().zip(&self.handles).filter(|(spec, _)| spec.default).map(|(_, handle)| *handle).collect()
    }
}

/// The one layout that this program writes and reads.
pub(super) static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let mut builder = Schema::builder();
    let id = builder.add_u64_field(ID, INDEXED | FAST);
    let has = builder.add_text_field(HAS, TextOptions::default().set_indexing_options(whole(words::RAW)));
    let handles = FIELDS
        .iter()
        .map(|spec| match spec.kind {
            Kind::Date => builder.add_i64_field(spec.name, NumericOptions::default() | INDEXED | FAST),
            Kind::Text => builder.add_text_field(spec.name, with_column(spec, positions())),
            Kind::Exact => builder.add_text_field(spec.name, with_column(spec, whole(words::EXACT))),
        })
        .collect();
    Layout { schema: builder.build(), id, has, handles }
});

fn positions() -> TextFieldIndexing {
    TextFieldIndexing::default().set_tokenizer(words::WORDS).set_index_option(IndexRecordOption::WithFreqsAndPositions)
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

/// The field of that name, if a query may name it.
pub(super) fn find(name: &str) -> Option<&'static FieldSpec> {
    FIELDS.iter().find(|spec| spec.name == name)
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
pub(super) fn entry(document: &IndexDocument<'_>) -> TantivyDocument {
    let layout = &*LAYOUT;
    let mut entry = TantivyDocument::new();
    entry.add_u64(layout.id, u64::from(document.id.0));
    for (spec, handle) in FIELDS.iter().zip(&layout.handles) {
        let values = values(document, spec.name);
        let mut filled = false;
        if spec.kind == Kind::Date {
            let mut starts: Vec<i64> =
                values.iter().filter_map(|value| dates::span(value)).map(|span| span.start).collect();
            // Sorting by date looks at the first value of the column.
            starts.sort_unstable_by(|a, b| b.cmp(a));
            starts.dedup();
            filled = !starts.is_empty();
            starts.into_iter().for_each(|start| entry.add_i64(*handle, start));
        } else {
            let mut seen = HashSet::new();
            for value in values.iter().filter(|value| !value.is_empty()) {
                if seen.insert(value.as_ref()) {
                    entry.add_text(*handle, words::normal(value));
                    filled = true;
                }
            }
        }
        if filled {
            entry.add_text(layout.has, spec.name);
        }
    }
    entry
}

/// What the document says in a field. Only strings, numbers and arrays of those count in metadata.
fn values<'a>(document: &'a IndexDocument<'_>, field: &str) -> Vec<Cow<'a, str>> {
    match field {
        REF => vec![Cow::Borrowed(document.r#ref)],
        "text" => document.text.into_iter().map(Cow::Borrowed).collect(),
        "format" => document.formats.iter().copied().map(Cow::Borrowed).collect(),
        YEAR => {
            let spans = values(document, ISSUED);
            let starts = spans.iter().filter_map(|value| dates::span(value)).map(|span| span.start);
            starts.filter_map(dates::year).map(Cow::Owned).collect()
        }
        name => match document.metadata.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
            Some(value) => scalar(value).into_iter().collect(),
            None => Vec::new(),
        },
    }
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.trim())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
