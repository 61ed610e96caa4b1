//! From what a request says a docset is made of to its origin, and back. Docsets are made in [`crate::resources::docsets`].

use adit_shared::domain::{Origin, Sample, Selection, SetOperation};
use adit_shared::ids::DocsetId;
use adit_shared::search::Source;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::extract::{MAX_WHOLE, whole_wide};

/// Docsets that one is made of, at most.
pub const MAX_DOCSETS: usize = 100;

/// Set algebra over docsets, as it stands in requests and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Combination(#[serde(deserialize_with = "one_operation")] pub SetOperation);

/// A docset's number.
#[derive(Deserialize)]
struct Number(#[serde(deserialize_with = "whole_wide")] u64);

fn one_operation<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SetOperation, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Operation {
        Union(Vec<Number>),
        Intersection(Vec<Number>),
        Difference(Vec<Number>),
    }
    let ids = |numbers: Vec<Number>| match numbers.len() {
        1..=MAX_DOCSETS => Ok(numbers.into_iter().map(|number| DocsetId(number.0.cast_signed())).collect()),
        other => Err(serde::de::Error::custom(format!("name 1 to {MAX_DOCSETS} docsets, not {other}"))),
    };
    Ok(match Operation::deserialize(deserializer)? {
        Operation::Union(of) => SetOperation::Union(ids(of)?),
        Operation::Intersection(of) => SetOperation::Intersection(ids(of)?),
        Operation::Difference(of) => SetOperation::Difference(ids(of)?),
    })
}

impl PartialSchema for Combination {
    fn schema() -> RefOr<Schema> {
        let one = |name: &str, what: &str| {
            let id = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(1))
                .maximum(Some(MAX_WHOLE as f64));
            let ids =
                ArrayBuilder::new().items(id).min_items(Some(1)).max_items(Some(MAX_DOCSETS)).description(Some(what));
            ObjectBuilder::new()
                .property(name, ids)
                .required(name)
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        let one = OneOfBuilder::new()
            .item(one("union", "What is in any of these docsets"))
            .item(one("intersection", "What is in all of these docsets"))
            .item(one("difference", "What is in the first of these docsets and in none of the others"));
        RefOr::T(one.description(Some("Set algebra over docsets.")).into())
    }
}

impl ToSchema for Combination {}

/// A random sample by seed, as it stands in requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Sample)]
#[serde(deny_unknown_fields)]
pub struct Draw {
    /// Documents to draw; all, if there are not so many.
    #[serde(deserialize_with = "whole_wide")]
    #[schema(minimum = 1, maximum = 9007199254740991_u64)]
    pub size: u64,
    /// The same seed draws the same works out of the same works, on every server; see docs/API.md.
    #[serde(deserialize_with = "whole_wide")]
    #[schema(minimum = 0, maximum = 9007199254740991_u64)]
    pub seed: u64,
}

impl From<Draw> for Sample {
    fn from(Draw { size, seed }: Draw) -> Self {
        Self { size, seed }
    }
}

/// How a docset was made: one of `query`, `refs`, `from` and `watch`, and a sample of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Origin)]
pub struct OriginView {
    /// Of the hits of this query.
    query: Option<Source>,
    /// Of the works of so many refs.
    refs: Option<u64>,
    /// Of other docsets.
    from: Option<Combination>,
    /// Of what a watch has found.
    watch: Option<WatchOrigin>,
    /// A sample of these.
    sample: Option<Draw>,
}

/// What a watch has found: those hits of its query that were new.
#[derive(Debug, Serialize, ToSchema)]
pub struct WatchOrigin {
    /// Id of the watch, which may be gone.
    id: i64,
    /// Its query.
    query: Source,
    /// New is what came after this corpus version.
    since: i64,
}

impl From<Origin> for OriginView {
    fn from(origin: Origin) -> Self {
        let sample = origin.sample.map(|Sample { size, seed }| Draw { size, seed });
        let mut view = Self { query: None, refs: None, from: None, watch: None, sample };
        match origin.selection {
            Selection::Query(query) => view.query = Some(query),
            Selection::Refs(refs) => view.refs = Some(refs),
            Selection::From(operation) => view.from = Some(Combination(operation)),
            Selection::Watch { id, query, since } => view.watch = Some(WatchOrigin { id: id.0, query, since }),
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_is_one_operation_on_some_docsets() {
        let read = serde_json::from_str::<Combination>;
        let ids = vec![DocsetId(3), DocsetId(1)];
        for (json, operation) in [
            (r#"{"union": [3, 1]}"#, SetOperation::Union(ids.clone())),
            (r#"{"intersection": [3.0, 1]}"#, SetOperation::Intersection(ids.clone())),
            (r#"{"difference": [3, 1]}"#, SetOperation::Difference(ids.clone())),
        ] {
            assert_eq!(read(json).unwrap(), Combination(operation));
        }
        let many = format!(r#"{{"union": {:?}}}"#, [1; MAX_DOCSETS + 1]);
        for wrong in [
            "{}",
            r#"{"union": []}"#,
            r#"{"union": null}"#,
            r#"{"union": [1], "difference": [2]}"#,
            r#"{"union": [1.5]}"#,
            r#""union""#,
            &many,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&read(r#"{"union": [3, 1]}"#).unwrap()).unwrap(), r#"{"union":[3,1]}"#);
    }
}
