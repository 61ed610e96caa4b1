//! `README.md`: the package explained to people (CommonMark, with tables).

use adit_shared::domain::Tdm;
use url::Url;

use super::licence::Licence;
use super::{
    CITATION, CROISSANT, Column, ColumnKind, Description, FETCH, OMITTED, RIGHTS, RO_CRATE, Rows, TOMBSTONES, Table,
    collection_url, plural,
};
use crate::bag;

pub(super) fn text(of: &Description) -> String {
    let mut out = format!("# {}\n\n", escaped(&of.title()));
    let text = of.abstract_text();
    for paragraph in text.split("\n\n").map(escaped).filter(|paragraph| !paragraph.is_empty()) {
        out.push_str(&paragraph);
        out.push_str("\n\n");
    }
    facts(&mut out, of);
    files(&mut out, of);
    if let Some(table) = &of.table {
        columns(&mut out, table);
        load(&mut out, table);
    }
    complete(&mut out, of);
    check(&mut out, of);
    rights(&mut out, of);
    let name = escaped(&of.about.name);
    out.push_str(&format!(
        "## How to cite it\n\n{name}: {}. Version {}, {}. {}\n\n`{CITATION}` says the same to reference managers.\n",
        plural(of.documents.included, "document"),
        of.version(),
        escaped(&of.about.date),
        link(&collection_url(&of.about)),
    ));
    out
}

fn facts(out: &mut String, of: &Description) {
    let documents = of.documents;
    let rows = [
        ("Collection", format!("{} {}", escaped(&of.about.name), link(&collection_url(&of.about)))),
        (
            "Documents",
            format!("{} asked for = {} here + {} omitted", documents.requested, documents.included, documents.omitted),
        ),
        ("Payload", format!("{}, {} bytes", plural(of.payload.files, "file"), of.payload.bytes)),
        ("Newest document", escaped(&of.about.date)),
        ("Docset", format!("`{}`", of.docset)),
        ("Package", format!("`{}`", of.package)),
    ];
    out.push_str("| | |\n|---|---|\n");
    for (name, value) in rows {
        out.push_str(&format!("| {name} | {value} |\n"));
    }
    out.push_str("\n| format | documents | bytes | media type |\n|---|--:|--:|---|\n");
    for summary in &of.formats {
        let (format, media_types) = (&summary.format, escaped(&summary.media_types.join(", ")));
        out.push_str(&format!("| {format} | {} | {} | {media_types} |\n", summary.documents, summary.bytes));
    }
    out.push_str(
        "\nThe docset is the frozen list of document versions, named by its SHA-256. Equal packages have equal bytes.\n\n",
    );
}

fn files(out: &mut String, of: &Description) {
    let payload = match &of.table {
        Some(_) => "the documents, one a row, in shards".to_owned(),
        None => {
            let extension = |name: &str, extension: &str| match name == extension {
                true => format!("`.{name}`"),
                false => format!("`.{extension}` ({name})"),
            };
            let formats =
                of.formats.iter().map(|summary| extension(summary.format.as_str(), summary.format.extension()));
            format!("the documents' files: {}", formats.collect::<Vec<_>>().join(", "))
        }
    };
    let rows = [
        (bag::PAYLOAD, payload.as_str()),
        (bag::MANIFEST, "the SHA-256 of every file in `data/`"),
        (bag::TAG_MANIFEST, "the SHA-256 of the files beside it"),
        (bag::DECLARATION, "says that this is a BagIt bag (RFC 8493)"),
        (bag::INFO, "the bag's metadata"),
        (RO_CRATE, "the package as an RO-Crate 1.2"),
        (CROISSANT, "the package as a Croissant 1.1 data set"),
        (CITATION, "how to cite it (Citation File Format)"),
        match of.marked {
            false => (OMITTED, "the documents that were selected but have none of the formats"),
            true => (OMITTED, "the documents that were selected and are not here, each with the reason"),
        },
        match of.marked {
            false => (RIGHTS, "the licence of every file in `data/`, where one is known"),
            true => (RIGHTS, "the licence of every file in `data/`, where one is known, and who may have it"),
        },
    ];
    // The rows of a table have a column for it.
    let count = rows.len() - usize::from(of.table.is_some());
    out.push_str("## What is here\n\n| file | what it is |\n|---|---|\n");
    for (name, what) in &rows[..count] {
        out.push_str(&format!("| `{name}` | {what} |\n"));
    }
    out.push('\n');
}

fn columns(out: &mut String, table: &Table) {
    out.push_str("## Columns\n\n| column | type | what it is |\n|---|---|---|\n");
    for column in &table.columns {
        let kind = kind(table.rows, column);
        out.push_str(&format!("| `{}` | {kind} | {} |\n", column.name, escaped(&column.description)));
    }
    out.push('\n');
}

fn kind(rows: Rows, column: &Column) -> &'static str {
    match (column.kind, rows) {
        (ColumnKind::Integer, _) => "integer",
        (ColumnKind::Text, _) => "text",
        (ColumnKind::Texts, _) => "list of texts",
        (ColumnKind::Object, Rows::JsonLines) => "object",
        (ColumnKind::Object, Rows::Parquet) => "text (JSON)",
        (ColumnKind::Bytes, Rows::JsonLines) => "text (Base64)",
        (ColumnKind::Bytes, Rows::Parquet) => "bytes",
    }
}

fn load(out: &mut String, table: &Table) {
    let first = table.shards.first().map_or("", |shard| shard.path.as_str());
    let extension = first.split_once('.').map_or("", |(_, extension)| extension);
    let all = format!("{}*.{extension}", bag::PAYLOAD);
    let lines = match table.rows {
        Rows::Parquet => [
            ("pandas", "pd.read_parquet(\"data/\")".to_owned()),
            ("polars", format!("pl.read_parquet(\"{all}\")")),
            ("DuckDB", format!("duckdb.sql(\"from '{all}'\")")),
            ("datasets", format!("load_dataset(\"parquet\", data_files=\"{all}\")")),
        ],
        // JSON has no types: these lines keep texts such as "0042" and "2020-02-03" as they are, and let a shard lack what others have.
        Rows::JsonLines => {
            let each = format!("for f in sorted(glob(\"{all}\"))");
            let polars =
                format!("pl.concat((pl.read_ndjson(f, infer_schema_length=None) {each}), how=\"diagonal_relaxed\")");
            [
                ("pandas", format!("pd.concat(pd.read_json(f, lines=True, dtype=False) {each})")),
                ("polars", polars.clone()),
                ("DuckDB", format!("duckdb.sql(\"from '{all}'\")")),
                ("datasets", format!("Dataset.from_polars({polars})")),
            ]
        }
    };
    out.push_str("## How to load it\n\nIn this folder, once the shards are in `data/` (see below):\n\n");
    out.push_str("| with | |\n|---|---|\n");
    for (with, line) in lines {
        out.push_str(&format!("| {with} | `{line}` |\n"));
    }
    if extension.ends_with(".zst") {
        out.push_str("\npandas wants the package `zstandard` for these files.\n");
    }
    out.push_str("\nThe API links every shard too, so that these read it without a download.\n\n");
}

fn complete(out: &mut String, of: &Description) {
    out.push_str("## If files are missing\n\n");
    if of.table.is_some() {
        out.push_str("The shards are not in the archive: they stand beside it. ");
    }
    out.push_str(&format!(
        "Where there is a `{FETCH}`, it names the files of `{}` that were left out, with their addresses: \
         `adit hydrate FOLDER` gets and checks them; it can be run again.\n",
        bag::PAYLOAD
    ));
    if of.table.is_none() {
        out.push_str(&format!(
            "Where there is a `{TOMBSTONES}` too, this is a delta, and holds what changed since an earlier package: \
             `adit apply DELTA FOLDER` makes that package's folder into this one's.\n"
        ));
    }
    out.push('\n');
}

fn check(out: &mut String, of: &Description) {
    let origin = of.about.url.trim_end_matches("/api");
    out.push_str(&format!(
        "## How to check it\n\nIn this folder, each finds a file that was changed or lost:\n\n\
         ```sh\nsha256sum --check --quiet {} {}\nbagit.py --validate .\n```\n\n\
         `adit verify` checks what was downloaded against its `manifest.json` and the signature in `receipt.jws`, offline; \
         the keys to trust are at {}.\n\n",
        bag::MANIFEST,
        bag::TAG_MANIFEST,
        link(&format!("{origin}/.well-known/jwks.json")),
    ));
}

fn rights(out: &mut String, of: &Description) {
    let licence = match Licence::of(of.about.license.as_deref()) {
        Licence::Uri { uri, spdx: Some(id) } => format!("The collection's licence is {} {}.", escaped(&id), link(&uri)),
        Licence::Uri { uri, spdx: None } => format!("The collection's licence is {}.", link(&uri)),
        Licence::Words(words) => format!("The collection says of its licence: {}", escaped(&words)),
        licence @ Licence::Unknown => licence.name().to_owned(),
    };
    let where_else = match &of.table {
        Some(_) => "the column `license` has it".to_owned(),
        None => format!("`{RIGHTS}` has it for every file"),
    };
    out.push_str(&format!(
        "## What you may do with it\n\n{licence} A document's own licence comes first: {where_else}. \
         Where none is known, ask before you pass the document on.\n\n"
    ));
    if of.marked {
        let column = if of.table.is_some() {
            "The column `access`".to_owned()
        } else {
            format!("The column `access` of `{RIGHTS}`")
        };
        out.push_str(&format!(
            "{column} tells who may have what: pass on what is not `open` to nobody but those who are entitled to it themselves.\n\n"
        ));
    }
    if let Some(Tdm { reservation, policy }) = &of.about.tdm {
        let reserved = if *reservation { "reserved" } else { "not reserved" };
        let policy = policy.as_ref().map(|policy| format!(", and its policy is {}", link(policy))).unwrap_or_default();
        out.push_str(&format!(
            "By the TDM Reservation Protocol, the rights of text and data mining in the collection are {reserved}{policy}. \
             What a document's metadata says of it comes first.\n\n"
        ));
    }
}

/// A link that shows its address; as code if it is no URL.
fn link(url: &str) -> String {
    match Url::parse(url) {
        // A parsed URL has neither white space nor angle brackets; in a table a bar would end the cell.
        Ok(url) if !url.as_str().contains(['<', '>', '|']) => format!("<{url}>"),
        _ => escaped(url),
    }
}

/// A text as one line of plain words: nothing in it is markup (CommonMark 0.31, 2.4), nor ends a table's cell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    for (i, word) in words.enumerate() {
        if i > 0 {
            out.push(' ');
        }
        // Marks of blocks count at the start of a line only: headings, lists, rules.
        let number = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let mark = if number.starts_with(['.', ')']) { word.len() - number.len() } else { 0 };
        for (at, c) in word.char_indices() {
            if "\\`*_[]<>&|~$".contains(c) || (i == 0 && at == mark && "#+-.)".contains(c)) {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

    use super::*;

    const GITHUB: Options = Options::ENABLE_TABLES
        .union(Options::ENABLE_STRIKETHROUGH)
        .union(Options::ENABLE_TASKLISTS)
        .union(Options::ENABLE_FOOTNOTES)
        .union(Options::ENABLE_MATH)
        .union(Options::ENABLE_GFM);

    fn words(text: &str) -> String {
        let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }

    proptest! {
        #[test]
        fn any_text_is_plain_words(text in prop_oneof![any::<String>(), "[-#+*_=>`~.)(\\[\\]<a0-9:/!|&;$^ \n]{0,20}"]) {
            let escaped = escaped(&text);
            prop_assume!(!escaped.is_empty());
            let mut read = String::new();
            for event in Parser::new_ext(&escaped, GITHUB) {
                match event {
                    Event::Text(text) => read.push_str(&text),
                    Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph) => {}
                    other => prop_assert!(false, "{escaped:?} has {other:?}"),
                }
            }
            prop_assert_eq!(read, words(&text));
        }
    }
}
