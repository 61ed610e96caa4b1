//! `croissant.json`: the package as a Croissant 1.1 data set (<http://mlcommons.org/croissant/1.1>).
//!
//! Its files are found in the folder that it stands in, so it works once the bag is unpacked (and hydrated).

use super::json::Json;
use super::licence::Licence;
use super::{Column, ColumnKind, Description, FormatSummary, Rows, Shard, Table, collection_url, essence};
use crate::bag;

const VERSION: &str = "http://mlcommons.org/croissant/1.1";

/// The context of the specification's appendix 1, as far as it has plain names; [`context`] adds the others.
const CONTEXT: [(&str, &str); 34] = [
    ("@language", "en"),
    ("@vocab", "https://schema.org/"),
    ("annotation", "cr:annotation"),
    ("arrayShape", "cr:arrayShape"),
    ("citeAs", "cr:citeAs"),
    ("column", "cr:column"),
    ("conformsTo", "dct:conformsTo"),
    ("containedIn", "cr:containedIn"),
    ("cr", "http://mlcommons.org/croissant/"),
    ("dct", "http://purl.org/dc/terms/"),
    ("equivalentProperty", "cr:equivalentProperty"),
    ("excludes", "cr:excludes"),
    ("extract", "cr:extract"),
    ("field", "cr:field"),
    ("fileObject", "cr:fileObject"),
    ("fileProperty", "cr:fileProperty"),
    ("fileSet", "cr:fileSet"),
    ("format", "cr:format"),
    ("includes", "cr:includes"),
    ("isArray", "cr:isArray"),
    ("isLiveDataset", "cr:isLiveDataset"),
    ("jsonPath", "cr:jsonPath"),
    ("key", "cr:key"),
    ("md5", "cr:md5"),
    ("parentField", "cr:parentField"),
    ("path", "cr:path"),
    ("rai", "http://mlcommons.org/croissant/RAI/"),
    ("recordSet", "cr:recordSet"),
    ("references", "cr:references"),
    ("regex", "cr:regex"),
    ("repeated", "cr:repeated"),
    ("sc", "https://schema.org/"),
    ("separator", "cr:separator"),
    ("source", "cr:source"),
];

pub(super) fn text(of: &Description) -> String {
    let about = &of.about;
    let license = match Licence::of(about.license.as_deref()) {
        Licence::Uri { uri, .. } => Json::from(uri),
        licence => Json::object([("@type", "sc:CreativeWork".into()), ("name", licence.name().into())]),
    };
    // The specification wants a creator, and a collection does not name its own: the collection stands in.
    let creator = Json::object([
        ("@type", "sc:Organization".into()),
        ("name", about.name.as_str().into()),
        ("url", collection_url(about).into()),
    ]);
    let (distribution, record_sets) = match &of.table {
        Some(table) => (shards(table), vec![rows(table)]),
        None => files(of),
    };
    let dataset = Json::object([
        ("@context", context()),
        ("@type", "sc:Dataset".into()),
        ("conformsTo", VERSION.into()),
        ("name", of.title().into()),
        ("description", of.abstract_text().into()),
        ("license", license),
        ("url", collection_url(about).into()),
        ("creator", creator),
        ("datePublished", about.date.as_str().into()),
        ("version", of.version().into()),
        ("citeAs", format!("{}. Version {}. {}", of.title(), of.version(), collection_url(about)).into()),
        ("distribution", Json::List(distribution)),
        ("recordSet", Json::List(record_sets)),
    ]);
    match of.tdm_policy() {
        Some(policy) => dataset.with("usageInfo", policy),
        None => dataset,
    }
    .file()
}

fn context() -> Json {
    let typed = |id: &str, kind: &str| Json::object([("@id", id.into()), ("@type", kind.into())]);
    let by_language = || Json::object([("@container", "@language".into())]);
    Json::object(CONTEXT.map(|(name, value)| (name, value.into())))
        .with("data", typed("cr:data", "@json"))
        .with("dataType", typed("cr:dataType", "@vocab"))
        .with("examples", typed("cr:examples", "@json"))
        .with("description", by_language())
        .with("name", by_language())
        .with("replace", "cr:replace")
        .with("samplingRate", "cr:samplingRate")
        .with("subField", "cr:subField")
        .with("transform", "cr:transform")
}

/// One set of files for each format, and records for those that are plain text.
fn files(of: &Description) -> (Vec<Json>, Vec<Json>) {
    let sets = of.found().map(|summary| {
        Json::object([
            ("@type", "cr:FileSet".into()),
            ("@id", files_id(summary).into()),
            ("name", files_id(summary).into()),
            ("description", summary.sentence().into()),
            ("encodingFormat", Json::one_or_more(summary.essences())),
            ("includes", format!("{}*.{}", bag::PAYLOAD, summary.format.extension()).into()),
        ])
    });
    let plain = |summary: &&FormatSummary| summary.essences() == ["text/plain"];
    (sets.collect(), of.found().filter(plain).map(texts).collect())
}

fn files_id(summary: &FormatSummary) -> String {
    format!("{}-files", summary.format)
}

/// The files of a format as records of a name and a text.
fn texts(summary: &FormatSummary) -> Json {
    let id = summary.format.as_str();
    let source = |property: &str| {
        Json::object([
            ("fileSet", Json::reference(files_id(summary))),
            ("extract", Json::object([("fileProperty", property.into())])),
        ])
    };
    let stem = Json::object([("regex", format!("^(.+)\\.{}$", summary.format.extension()).into())]);
    let fields = vec![
        field(
            id,
            "name",
            "The file's name without its extension",
            "sc:Text",
            source("filename").with("transform", stem),
        ),
        field(id, "text", "What the file holds", "sc:Text", source("content")),
    ];
    record_set(id, "The documents' files of this format", "name", fields)
}

fn shards(table: &Table) -> Vec<Json> {
    let mut list: Vec<Json> = table.shards.iter().map(|shard| shard_object(table, shard)).collect();
    let extension =
        table.shards.first().and_then(|shard| shard.path.split_once('.')).map_or("", |(_, extension)| extension);
    list.push(Json::object([
        ("@type", "cr:FileSet".into()),
        ("@id", "shards".into()),
        ("name", "shards".into()),
        ("description", "All shards; together they hold every document once.".into()),
        ("encodingFormat", Json::one_or_more(encodings(table, None))),
        ("includes", format!("{}*.{extension}", bag::PAYLOAD).into()),
    ]));
    list
}

fn shard_object(table: &Table, shard: &Shard) -> Json {
    Json::object([
        ("@type", "cr:FileObject".into()),
        ("@id", shard.path.as_str().into()),
        ("name", shard.path.trim_start_matches(bag::PAYLOAD).into()),
        ("contentUrl", shard.path.as_str().into()),
        ("contentSize", format!("{} B", shard.size).into()),
        ("encodingFormat", Json::one_or_more(encodings(table, Some(shard)))),
        ("sha256", shard.sha256.to_string().into()),
    ])
}

/// The name that Croissant readers know the rows by, and the shard's own media type.
fn encodings(table: &Table, shard: Option<&Shard>) -> Vec<String> {
    let known = match table.rows {
        Rows::JsonLines => "application/jsonlines",
        Rows::Parquet => "application/x-parquet",
    };
    let own = shard.or(table.shards.first()).map(|shard| essence(&shard.media_type));
    let mut list = vec![known.to_owned()];
    list.extend(own.filter(|own| own != known));
    list
}

fn rows(table: &Table) -> Json {
    let fields = table.columns.iter().filter(|column| has_type(table, column)).map(|column| {
        let source = Json::object([
            ("fileSet", Json::reference("shards")),
            ("extract", Json::object([("column", column.name.as_str().into())])),
        ]);
        let kind = if column.kind == ColumnKind::Integer { "sc:Integer" } else { "sc:Text" };
        let field = field("documents", &column.name, &column.description, kind, source);
        match column.kind {
            ColumnKind::Texts => field.with("isArray", true).with("arrayShape", "-1"),
            _ => field,
        }
    });
    record_set("documents", "The documents, one a row", "id", fields.collect())
}

/// Croissant has no type for an object of any members.
fn has_type(table: &Table, column: &Column) -> bool {
    !(table.rows == Rows::JsonLines && column.kind == ColumnKind::Object)
}

fn record_set(id: &str, description: &str, key: &str, fields: Vec<Json>) -> Json {
    Json::object([
        ("@type", "cr:RecordSet".into()),
        ("@id", id.into()),
        ("name", id.into()),
        ("description", description.into()),
        ("key", Json::reference(format!("{id}/{key}"))),
        ("field", Json::List(fields)),
    ])
}

fn field(record_set: &str, name: &str, description: &str, kind: &str, source: Json) -> Json {
    Json::object([
        ("@type", "cr:Field".into()),
        ("@id", format!("{record_set}/{name}").into()),
        ("name", name.into()),
        ("description", description.into()),
        ("dataType", kind.into()),
        ("source", source),
    ])
}
