//! The columns of tabular layouts and the values of those that come from metadata; `jsonl` and `parquet` say the same by them.

use adit_shared::domain::{Access, FileRecord, Format, META};
use adit_shared::ids::VersionId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Document;
use crate::describe::{Column, ColumnKind};

/// The columns that every table has, in their order.
pub(crate) const DESCRIBED: [(&str, ColumnKind); 11] = [
    ("id", ColumnKind::Integer),
    ("ref", ColumnKind::Text),
    ("name", ColumnKind::Text),
    ("title", ColumnKind::Text),
    ("creator", ColumnKind::Texts),
    ("subject", ColumnKind::Texts),
    ("issued", ColumnKind::Text),
    ("abstract", ColumnKind::Text),
    ("language", ColumnKind::Text),
    ("license", ColumnKind::Text),
    ("metadata", ColumnKind::Object),
];

/// The column with access levels, behind those of [`DESCRIBED`]: in tables of packages from which documents are withheld, or which have such as are
/// not open.
pub(crate) const ACCESS: &str = "access";

/// Columns without nulls; lists have none either, but may be empty.
pub(super) const REQUIRED: [&str; 4] = ["id", "ref", "name", "metadata"];

/// The values of [`DESCRIBED`] for one document; their names and order agree.
#[derive(Debug, Serialize)]
pub(super) struct Described<'a> {
    pub(super) id: VersionId,
    pub(super) r#ref: &'a str,
    pub(super) name: &'a str,
    pub(super) title: Option<String>,
    pub(super) creator: Vec<String>,
    pub(super) subject: Vec<String>,
    pub(super) issued: Option<String>,
    pub(super) r#abstract: Option<String>,
    pub(super) language: Option<String>,
    pub(super) license: Option<&'a str>,
    pub(super) metadata: &'a Map<String, Value>,
    /// Stands behind those of [`DESCRIBED`], in tables with the column [`ACCESS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<String>,
}

impl<'a> Described<'a> {
    pub(super) fn of(document: &Document<'a>) -> Self {
        let Document { id, r#ref, name, license, access, metadata, .. } = *document;
        let texts = |term| metadata.get(term).map(texts).unwrap_or_default();
        // Terms that should have one value and have several; `metadata` tells them apart.
        let text = |term| Some(texts(term)).filter(|texts| !texts.is_empty()).map(|texts| texts.join("; "));
        Self {
            id,
            r#ref,
            name,
            title: text("title"),
            creator: texts("creator"),
            subject: texts("subject"),
            issued: text("issued"),
            r#abstract: text("abstract"),
            language: text("language"),
            license,
            metadata,
            access: access.map(Access::to_string),
        }
    }

    /// The values in the order of [`DESCRIBED`], with the metadata as JSON.
    pub(super) fn cells<'s>(&'s self, metadata: &'s str) -> [Cell<'s>; DESCRIBED.len()] {
        [
            Cell::Integer(self.id.0.into()),
            Cell::Text(Some(self.r#ref)),
            Cell::Text(Some(self.name)),
            Cell::Text(self.title.as_deref()),
            Cell::Texts(&self.creator),
            Cell::Texts(&self.subject),
            Cell::Text(self.issued.as_deref()),
            Cell::Text(self.r#abstract.as_deref()),
            Cell::Text(self.language.as_deref()),
            Cell::Text(self.license),
            Cell::Text(Some(metadata)),
        ]
    }
}

/// The value of a described column, except for `metadata` as an object.
pub(super) enum Cell<'a> {
    /// An integer.
    Integer(i64),
    /// A text, or null.
    Text(Option<&'a str>),
    /// A list of texts.
    Texts(&'a [String]),
}

/// The texts of a metadata term, which may be one or several; what is neither text nor list of texts is kept as JSON.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(scalar).collect(),
        value => vec![scalar(value)],
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The columns of one format's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileColumns {
    /// The format.
    pub(crate) format: Format,
    /// Name of the column with the content. With `_sha256` behind it, of that with the hash; with `_bytes`, see [`Self::textual`].
    pub(crate) name: String,
    /// Whether the content is a text. Where its bytes are no UTF-8 it has U+FFFD instead, and the column with `_bytes` the original.
    pub(crate) textual: bool,
}

impl FileColumns {
    /// The names and kinds of all of the format's columns, in their order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (String, ColumnKind)> + use<> {
        let Self { name, textual, .. } = self.clone();
        let content = if textual { ColumnKind::Text } else { ColumnKind::Bytes };
        let columns = [(name.clone(), content), (format!("{name}_sha256"), ColumnKind::Text)];
        columns.into_iter().chain(textual.then(|| (format!("{name}_bytes"), ColumnKind::Bytes)))
    }
}

/// All columns of a package's tables. They are the same in all shards, so they are known only when every member was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Whether there is [`ACCESS`].
    marked: bool,
    files: Vec<FileColumns>,
}

impl Columns {
    /// The columns for these formats as long as no file was seen: all are textual. Metadata has columns of its own; `marked` access levels too.
    pub(crate) fn new(formats: &[Format], marked: bool) -> Self {
        let mut formats: Vec<_> = formats.iter().filter(|format| format.as_str() != META).cloned().collect();
        formats.sort_unstable();
        formats.dedup();
        let column = |format: Format| FileColumns { name: column_name(&format, marked), format, textual: true };
        Self { marked, files: formats.into_iter().map(column).collect() }
    }

    /// Takes note of a file: a format with one file that is no text is a column of bytes.
    pub(crate) fn see(&mut self, file: &FileRecord) {
        let column = self.files.iter_mut().find(|column| column.textual && column.format == file.format);
        if let Some(column) = column.filter(|_| !is_textual(&file.media_type)) {
            column.textual = false;
        }
    }

    /// Whether there is a column with access levels.
    pub(crate) fn marked(&self) -> bool {
        self.marked
    }

    /// The columns of files, in the order of formats.
    pub(crate) fn files(&self) -> &[FileColumns] {
        &self.files
    }

    /// The names and kinds of all columns, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, ColumnKind)> + '_ {
        let access = self.marked.then_some((ACCESS, ColumnKind::Text));
        let described = DESCRIBED.into_iter().chain(access).map(|(name, kind)| (name.to_owned(), kind));
        described.chain(self.files.iter().flat_map(FileColumns::columns))
    }

    /// All columns with their meaning.
    pub(crate) fn described(&self) -> Vec<Column> {
        let access = self.marked.then_some((ACCESS, ColumnKind::Text));
        let described = DESCRIBED.into_iter().chain(access).map(|(name, kind)| Column::new(name, kind, None));
        let files = self
            .files
            .iter()
            .flat_map(|files| files.columns().map(|(name, kind)| Column::new(name, kind, Some(&files.format))));
        described.chain(files).collect()
    }
}

/// `text` is what those who train models look for. A format with the name of another column steps aside: formats have no `_`.
fn column_name(format: &Format, marked: bool) -> String {
    match format.as_str() {
        "txt" => "text".to_owned(),
        name if name == "text" || DESCRIBED.iter().any(|(other, _)| *other == name) => format!("{name}_file"),
        ACCESS if marked => format!("{ACCESS}_file"),
        name => name.to_owned(),
    }
}

/// Whether a media type (RFC 6838) is that of a text: `text/*`, XML or JSON (RFC 7303, RFC 8259), with their suffixes (RFC 6839).
pub(super) fn is_textual(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    name.starts_with("text/")
        || ["application/xml", "application/json", "application/x-ndjson"].contains(&name.as_str())
        || ["+xml", "+json"].iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(formats: &[&str]) -> Columns {
        Columns::new(&formats.iter().map(|format| format.parse().unwrap()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn every_column_has_a_name_of_its_own() {
        let columns = columns(&["text", "txt", "title", "id", "meta", "pdf", "ref"]);
        let mut names: Vec<_> = columns.all().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(count, DESCRIBED.len() + 6 * 3);
        let files: Vec<_> = columns.files().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(files, ["id_file", "pdf", "ref_file", "text_file", "title_file", "text"]);
    }

    #[test]
    fn media_types_tell_texts_from_bytes() {
        for textual in [
            "text/plain; charset=utf-8",
            "TEXT/HTML",
            "application/xml",
            "application/tei+xml;x=y",
            "application/ld+json",
            "application/json",
        ] {
            assert!(is_textual(textual), "{textual}");
        }
        for binary in ["application/pdf", "image/png", "application/octet-stream", "", "application/xmlish"] {
            assert!(!is_textual(binary), "{binary}");
        }
    }

    #[test]
    fn metadata_of_any_shape_has_values() {
        let metadata = json!({"title": ["A", "B"], "creator": "C", "subject": ["D", 5, null, {"a": 1}], "issued": 1999,
            "abstract": null, "language": []});
        let document = Document {
            id: VersionId(7),
            r#ref: "r",
            name: "n",
            license: Some("https://l"),
            access: None,
            metadata: metadata.as_object().unwrap(),
            files: &[],
        };
        let described = serde_json::to_value(Described::of(&document)).unwrap();
        let mut expected = json!({"id": 7, "ref": "r", "name": "n", "title": "A; B", "creator": ["C"],
            "subject": ["D", "5", "{\"a\":1}"], "issued": "1999", "abstract": null, "language": null, "license": "https://l"});
        expected["metadata"] = metadata.clone();
        assert_eq!(described, expected);
        let text = serde_json::to_string(&Described::of(&document)).unwrap();
        let places: Vec<_> = DESCRIBED.iter().map(|(name, _)| text.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted() && DESCRIBED.len() == described.as_object().unwrap().len());
    }
}
