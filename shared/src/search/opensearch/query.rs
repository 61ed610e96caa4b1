//! The engine's queries, out of which [`crate::search::lower`] makes what a tree means.

use std::ops::Range;

use serde_json::{Value, json};

use super::mapping;
use crate::search::analysis::Form;
use crate::search::lower::{Clauses, Target};
use crate::search::schema::{FieldSpec, ISSUED};

/// Most words that the last word of a phrase may be the beginning of.
const MAX_EXPANSIONS: u32 = 10_000;

/// Queries as JSON.
pub(super) struct Queries {
    /// Whether the index has stems; what looks for some looks for exact forms where it has none.
    pub(super) stems: bool,
}

impl Queries {
    fn field(&self, field: &FieldSpec, form: Form) -> String {
        mapping::field(field, if self.stems { form } else { Form::Exact })
    }
}

impl Target for Queries {
    type Clause = Value;

    fn all(&self) -> Value {
        json!({ "match_all": {} })
    }

    fn term(&self, field: &FieldSpec, form: Form, term: &str) -> Value {
        json!({ "term": { self.field(field, form): { "value": term } } })
    }

    fn similar(&self, field: &FieldSpec, word: &str, edits: u8) -> Value {
        // Rewritten like this it finds all words that are near enough, and not the nearest fifty.
        let word = json!({ "value": word, "fuzziness": edits, "rewrite": "constant_score" });
        json!({ "fuzzy": { self.field(field, Form::Exact): word } })
    }

    fn phrase(&self, field: &FieldSpec, form: Form, words: &[String], slop: u32, last_is_prefix: bool) -> Value {
        let (field, words) = (self.field(field, form), words.join(" "));
        if last_is_prefix {
            return json!({ "match_phrase_prefix": { field: { "query": words, "slop": slop, "max_expansions": MAX_EXPANSIONS } } });
        }
        json!({ "match_phrase": { field: { "query": words, "slop": slop } } })
    }

    fn beginning(&self, field: &FieldSpec, start: &str) -> Value {
        json!({ "prefix": { self.field(field, Form::Exact): { "value": start } } })
    }

    fn one_of(&self, field: &FieldSpec, values: Vec<String>) -> Value {
        json!({ "terms": { self.field(field, Form::Exact): values } })
    }

    fn issued(&self, seconds: Range<Option<i64>>) -> Value {
        let mut bounds = json!({});
        if let Some(from) = seconds.start {
            bounds["gte"] = json!(from);
        }
        if let Some(to) = seconds.end {
            bounds["lt"] = json!(to);
        }
        json!({ "range": { ISSUED: bounds } })
    }

    fn filled(&self, field: &FieldSpec) -> Value {
        json!({ "term": { mapping::HAS: { "value": field.name } } })
    }

    fn of_access(&self, terms: Vec<String>) -> Value {
        json!({ "terms": { mapping::ACCESS: terms } })
    }

    fn joined(&self, clauses: Clauses<Value>) -> Value {
        let Clauses { must, filter, should, must_not, need } = clauses;
        let mut query = json!({});
        for (name, clauses) in [("must", must), ("filter", filter), ("should", should), ("must_not", must_not)] {
            if !clauses.is_empty() {
                query[name] = Value::Array(clauses);
            }
        }
        if query.get("should").is_some() {
            query["minimum_should_match"] = json!(need);
        }
        json!({ "bool": query })
    }

    fn boosted(&self, clause: Value, boost: f32) -> Value {
        json!({ "bool": { "must": [clause], "boost": boost } })
    }
}
