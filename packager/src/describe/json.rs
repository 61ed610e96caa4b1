//! JSON whose members stand in the order in which they were written, whatever features other crates switch on in `serde_json`.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Text(String),
    Bool(bool),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// An object of these members, in this order.
    pub(super) fn object(members: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        Self::Object(members.into_iter().collect())
    }

    /// Adds a member to an object, behind the others.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Json>) -> Self {
        if let Self::Object(members) = &mut self {
            members.push((name, value.into()));
        }
        self
    }

    /// A value by itself, or several as a list: JSON-LD's compact form.
    pub(super) fn one_or_more<T: Into<Json>>(values: Vec<T>) -> Self {
        match <[T; 1]>::try_from(values) {
            Ok([value]) => value.into(),
            Err(values) => values.into(),
        }
    }

    /// A reference to a node (JSON-LD 1.1, 3.3).
    pub(super) fn reference(id: impl Into<String>) -> Self {
        Self::object([("@id", Self::Text(id.into()))])
    }

    /// The text of a file: indented, with a line feed at the end.
    pub(super) fn file(&self) -> String {
        // Neither member names nor values here are of a kind that JSON cannot write.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::List(list) => serializer.collect_seq(list),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Json {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}
