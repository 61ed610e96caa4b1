//! What an index holds of a document, and how: the fields in which words and values are looked up.
//!
//! Texts are cut into words here, not there, so that every engine cuts alike: a field of texts holds words with blanks between them, which the engine's
//! analyzer `whitespace` only takes apart. Of each there is what the schema says: `title.stems` (in collections with a language), `title.exact`,
//! and, where its values are counted or sorted, `title.value`; of a field that is matched as a whole `ref.whole` and `ref.value`; dates are
//! seconds since 1970.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::Address;
use crate::search::analysis::{Analyzer, Form};
use crate::search::schema::{FIELDS, FieldSpec, Filled, ID, Kind, REF, filled};
use crate::search::{IndexDocument, Language, manifest, rights};

/// Names of the fields that a document has something in; `field:*` asks it. Names with an underscore in front are the engine's own.
pub(super) const HAS: &str = "has";
/// Access levels of documents' texts: see [`crate::search::rights`].
pub(super) const ACCESS: &str = "access";
/// Raise it when the mapping changes, apart from what [`manifest::LAYOUT_VERSION`] counts.
const MAPPING_VERSION: u32 = 1;
/// How deep hits may be paged: to 100,000, and one page of 1000 from there.
pub(super) const WINDOW: usize = 101_000;
/// Lucene takes no longer terms than 32,766 bytes; a character has four at most.
const LONGEST_VALUE: u32 = 8191;
/// Bytes of a text that are indexed. Engines refuse requests of more than 100 MB, and a text may stand in one twice.
const LONGEST_TEXT: usize = 24 * 1024 * 1024;

/// The field of a place where words or values are looked up.
pub(super) fn field(spec: &FieldSpec, form: Form) -> String {
    match (spec.kind, form) {
        (Kind::Date, _) => spec.name.to_owned(),
        (Kind::Whole, _) => format!("{}.whole", spec.name),
        (Kind::Text, Form::Exact) => format!("{}.exact", spec.name),
        (Kind::Text, Form::Stem) => format!("{}.stems", spec.name),
    }
}

/// The field whose values are counted, and by which hits are sorted.
pub(super) fn column(name: &str) -> String {
    format!("{name}.value")
}

fn has_column(spec: &FieldSpec) -> bool {
    spec.facet || spec.name == REF
}

/// The body of a request that makes an empty index.
pub(super) fn new_index(address: &Address, language: Option<Language>) -> Value {
    let mut settings = json!({
        "number_of_shards": address.shards,
        "max_result_window": WINDOW,
        // It is refreshed once, when it is finished.
        "refresh_interval": "-1",
    });
    if let Some(replicas) = address.replicas {
        settings["number_of_replicas"] = json!(replicas);
    }
    json!({ "settings": { "index": settings }, "mappings": mappings(language) })
}

fn mappings(language: Option<Language>) -> Value {
    let mut properties = Map::new();
    properties.insert(ID.to_owned(), json!({ "type": "long" }));
    for name in [HAS, ACCESS] {
        properties.insert(name.to_owned(), json!({ "type": "keyword", "doc_values": false }));
    }
    for spec in &FIELDS {
        if spec.kind == Kind::Date {
            properties.insert(spec.name.to_owned(), json!({ "type": "long" }));
            continue;
        }
        let mut forms = Map::new();
        if spec.kind == Kind::Text {
            // Values stand as far from each other as in the other engine.
            let words = json!({ "type": "text", "analyzer": "whitespace", "position_increment_gap": crate::search::words::GAP });
            if language.is_some() {
                forms.insert("stems".to_owned(), words.clone());
            }
            forms.insert("exact".to_owned(), words);
        } else {
            forms.insert(
                "whole".to_owned(),
                json!({ "type": "keyword", "doc_values": false, "ignore_above": LONGEST_VALUE }),
            );
        }
        if has_column(spec) {
            forms.insert(
                "value".to_owned(),
                json!({ "type": "keyword", "index": false, "ignore_above": LONGEST_VALUE }),
            );
        }
        properties.insert(spec.name.to_owned(), json!({ "properties": forms }));
    }
    json!({ "dynamic": "strict", "_source": { "enabled": false }, "_meta": meta(language), "properties": properties })
}

fn meta(language: Option<Language>) -> Value {
    let mut meta = json!({ "layout": manifest::LAYOUT_VERSION, "mapping": MAPPING_VERSION });
    if let Some(language) = language {
        meta["language"] = json!(language);
    }
    meta
}

/// What the texts of an index were analysed by, from its `_meta`; `None` if it has another layout than this program makes and reads.
pub(super) fn language_of(found: &Value) -> Option<Option<Language>> {
    let language = match &found["language"] {
        Value::Null => None,
        code => Some(code.as_str()?.parse().ok()?),
    };
    (*found == meta(language)).then_some(language)
}

/// A document as the index takes it in.
pub(super) fn document(document: &IndexDocument<'_>, language: Option<Language>) -> Value {
    let analyzer = Analyzer::new(language);
    let mut entry = Map::new();
    let mut has = Vec::new();
    entry.insert(ID.to_owned(), json!(document.id.0));
    entry.insert(ACCESS.to_owned(), json!(rights::access_terms(document.access)));
    for (spec, values) in filled(document) {
        let values = match values {
            Filled::Dates(starts) => json!(starts),
            Filled::Texts(values) => forms(spec, analyzer, language, &values),
        };
        entry.insert(spec.name.to_owned(), values);
        has.push(spec.name);
    }
    entry.insert(HAS.to_owned(), json!(has));
    Value::Object(entry)
}

fn forms(spec: &FieldSpec, analyzer: Analyzer, language: Option<Language>, values: &[Cow<'_, str>]) -> Value {
    let mut forms = Map::new();
    if spec.kind == Kind::Text {
        let words = |form| values.iter().map(|value| words(analyzer, form, value)).collect::<Vec<_>>();
        if language.is_some() {
            forms.insert("stems".to_owned(), json!(words(Form::Stem)));
        }
        forms.insert("exact".to_owned(), json!(words(Form::Exact)));
    } else {
        forms.insert("whole".to_owned(), values.iter().map(|value| Analyzer::whole(value)).collect());
    }
    if has_column(spec) {
        forms.insert("value".to_owned(), json!(values));
    }
    Value::Object(forms)
}

/// The words of a text, with blanks between them. None has a blank in it.
fn words(analyzer: Analyzer, form: Form, text: &str) -> String {
    let mut words = String::with_capacity(text.len().min(LONGEST_TEXT) + 16);
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    for word in analyzer.words(text, form) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&word.text);
    }
    words
}
