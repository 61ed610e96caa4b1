//! The columns of the tabular layouts, as they are described: what their values are and what they mean.

use adit_shared::domain::Format;

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// A whole number.
    Integer,
    /// Text.
    Text,
    /// A list of texts.
    Texts,
    /// A JSON object: itself in JSON Lines, as text in Parquet.
    Object,
    /// Bytes: themselves in Parquet, as Base64 in JSON Lines.
    Bytes,
}

/// A column of a tabular layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name: letters, digits and `_`.
    pub(crate) name: String,
    /// What its values are.
    pub(crate) kind: ColumnKind,
    /// What they mean, in one sentence.
    pub(crate) description: String,
}

impl Column {
    /// A column with its meaning: of the documents, or of their files of one `format`.
    pub(crate) fn new(name: impl Into<String>, kind: ColumnKind, format: Option<&Format>) -> Self {
        let name = name.into();
        let description = match format {
            None => of_document(&name).to_owned(),
            Some(format) if name.ends_with("_sha256") => format!("SHA-256 of the file of format {format}"),
            Some(format) if name.ends_with("_bytes") => {
                format!("Bytes of the file of format {format} where they are no UTF-8, else null")
            }
            Some(format) => format!("Content of the file of format {format}; null where there is none"),
        };
        Self { name, kind, description }
    }
}

fn of_document(name: &str) -> &'static str {
    match name {
        "id" => "Id of the document's version at the API",
        "ref" => "The document's name in its collection",
        "name" => "File name of the document without extension",
        "title" => "Title (Dublin Core)",
        "creator" => "Who made it (Dublin Core)",
        "subject" => "What it is about (Dublin Core)",
        "issued" => "When it was published (Dublin Core)",
        "abstract" => "Abstract (Dublin Core)",
        "language" => "Language (Dublin Core)",
        "access" => "Who may have its files: `open`, or only those entitled",
        "license" => "Its own licence, else its collection's",
        "metadata" => "All of its metadata (Dublin Core)",
        _ => "Of the document",
    }
}
