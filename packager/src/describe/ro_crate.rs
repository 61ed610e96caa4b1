//! `ro-crate-metadata.json`: the package as an RO-Crate 1.2, whose root is the bag's base directory.
//!
//! Files of the payload are described by the folder and by format, not one by one, as the specification has it for files
//! that a manifest lists ("Data Entities"): a million entities would help nobody. Shards are few, and each is an entity.

use super::json::Json;
use super::licence::Licence;
use super::{CITATION, CROISSANT, Description, OMITTED, README, RIGHTS, RO_CRATE, Shard, collection_url, essence};
use crate::bag;

const CONTEXT: &str = "https://w3id.org/ro/crate/1.2/context";
const SPECIFICATION: &str = "https://w3id.org/ro/crate/1.2";
const PACKAGE: &str = "#package";
const DOCSET: &str = "#docset";

/// The tag files that are described, and what they are; the first is in bags of files alone.
const TAG_FILES: [(&str, &str, &str); 5] = [
    (RIGHTS, "text/csv", "The licence of every payload file, where one is known"),
    (README, "text/markdown", "What the package holds and how to use it, for people"),
    (CITATION, "application/yaml", "How to cite the package (Citation File Format 1.2.0)"),
    (CROISSANT, "application/ld+json", "The package as a Croissant 1.1 data set, for machine learning"),
    (OMITTED, "application/jsonl", "Documents of the selection that have none of the formats"),
];

/// The text, which tells the lengths of the `others`.
pub(super) fn text(of: &Description, others: &[(&'static str, Vec<u8>)]) -> String {
    let mut graph = vec![descriptor(), root(of), payload(of)];
    match &of.table {
        Some(table) => graph.extend(table.shards.iter().map(shard)),
        None => graph.extend(of.found().map(|summary| {
            Json::object([
                ("@id", format!("#{}", summary.format).into()),
                ("@type", "Dataset".into()),
                ("name", format!("{}*.{}", bag::PAYLOAD, summary.format.extension()).into()),
                ("description", summary.sentence().into()),
                ("encodingFormat", Json::one_or_more(summary.essences())),
            ])
        })),
    }
    graph.extend(tag_files(of).iter().map(|&(name, media_type, description)| {
        let description = match name {
            OMITTED if of.marked => "Documents of the selection that are not here, each with the reason",
            RIGHTS if of.marked => "The licence of every payload file, where one is known, and who may have it",
            _ => description,
        };
        let file = Json::object([
            ("@id", name.into()),
            ("@type", "File".into()),
            ("name", name.into()),
            ("description", description.into()),
            ("encodingFormat", media_type.into()),
        ]);
        match others.iter().find(|(other, _)| *other == name) {
            Some((_, text)) => file.with("contentSize", text.len().to_string()),
            None => file,
        }
    }));
    graph.push(identifier(PACKAGE, "Fingerprint of the package", of.package.to_string()));
    graph.push(identifier(DOCSET, "Fingerprint of the docset", of.docset.to_string()));
    graph.push(licence(&Licence::of(of.about.license.as_deref())));
    let license = Licence::of(of.about.license.as_deref());
    graph.extend(of.tdm_policy().filter(|url| *url != licence_id(&license)).map(policy));
    Json::object([("@context", CONTEXT.into()), ("@graph", Json::List(graph))]).file()
}

fn tag_files(of: &Description) -> &'static [(&'static str, &'static str, &'static str)] {
    if of.table.is_some() { &TAG_FILES[1..] } else { &TAG_FILES }
}

fn descriptor() -> Json {
    Json::object([
        ("@id", RO_CRATE.into()),
        ("@type", "CreativeWork".into()),
        ("conformsTo", Json::reference(SPECIFICATION)),
        ("about", Json::reference("./")),
    ])
}

fn root(of: &Description) -> Json {
    let mut parts = vec![Json::reference(bag::PAYLOAD)];
    parts.extend(tag_files(of).iter().map(|&(name, ..)| Json::reference(name)));
    let license = Licence::of(of.about.license.as_deref());
    let root = Json::object([
        ("@id", "./".into()),
        ("@type", "Dataset".into()),
        ("name", of.title().into()),
        ("description", of.abstract_text().into()),
        ("datePublished", of.about.date.as_str().into()),
        ("version", of.version().into()),
        ("license", Json::reference(licence_id(&license))),
        ("url", collection_url(&of.about).into()),
        ("identifier", Json::List(vec![Json::reference(PACKAGE), Json::reference(DOCSET)])),
        ("hasPart", Json::one_or_more(parts)),
    ]);
    match of.tdm_policy() {
        Some(policy) => root.with("usageInfo", Json::reference(policy)),
        None => root,
    }
}

/// The policy of text and data mining, as an entity.
fn policy(url: &str) -> Json {
    Json::object([
        ("@id", url.into()),
        ("@type", "CreativeWork".into()),
        ("name", "Policy of text and data mining".into()),
        ("description", "By the TDM Reservation Protocol: how these rights, which are reserved, may be had".into()),
    ])
}

fn payload(of: &Description) -> Json {
    let parts: Vec<Json> = match &of.table {
        Some(table) => table.shards.iter().map(|shard| Json::reference(shard.path.as_str())).collect(),
        None => of.found().map(|summary| Json::reference(format!("#{}", summary.format))).collect(),
    };
    let (files, bytes) = (super::plural(of.payload.files, "file"), of.payload.bytes);
    Json::object([
        ("@id", bag::PAYLOAD.into()),
        ("@type", "Dataset".into()),
        ("name", "Payload".into()),
        ("description", format!("{files}, {bytes} bytes; {} lists them all.", bag::MANIFEST).into()),
        ("hasPart", Json::one_or_more(parts)),
    ])
}

fn shard(shard: &Shard) -> Json {
    Json::object([
        ("@id", shard.path.as_str().into()),
        ("@type", "File".into()),
        ("name", shard.path.trim_start_matches(bag::PAYLOAD).into()),
        ("description", "Some of the documents, one a row".into()),
        ("contentSize", shard.size.to_string().into()),
        ("encodingFormat", essence(&shard.media_type).into()),
        ("sha256", shard.sha256.to_string().into()),
    ])
}

fn identifier(id: &'static str, name: &str, value: String) -> Json {
    Json::object([
        ("@id", id.into()),
        ("@type", "PropertyValue".into()),
        ("name", name.into()),
        ("propertyID", "SHA-256".into()),
        ("value", value.into()),
    ])
}

fn licence_id(licence: &Licence) -> &str {
    match licence {
        Licence::Uri { uri, .. } => uri,
        Licence::Words(_) | Licence::Unknown => "#license",
    }
}

fn licence(licence: &Licence) -> Json {
    Json::object([
        ("@id", licence_id(licence).into()),
        ("@type", "CreativeWork".into()),
        ("name", licence.name().into()),
        ("description", "The licence of documents that name none of their own".into()),
    ])
}
