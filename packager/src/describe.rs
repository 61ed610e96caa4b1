//! What a package says of itself: one [`Description`], and the texts that are written from it for people, for BagIt tools,
//! for RO-Crate and Croissant readers and for reference managers.
//!
//! Everything here is a pure function of the description: no clock, no ids of this server, no order that depends on hashing.
//! A text's length does not depend on any digest's value, so that an archive can be laid out before digests are known.
//! Where the texts stand in an archive is not decided here (see `plan`), nor are BagIt's manifests made here (see `bag`).

mod bag_info;
mod citation;
mod columns;
mod croissant;
mod json;
mod licence;
pub(crate) mod lines;
mod readme;
mod ro_crate;
#[cfg(test)]
mod tests;

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Format};

pub(crate) use columns::{Column, ColumnKind};

/// Members of the docset: `requested = included + omitted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Documents {
    /// All members.
    pub(crate) requested: u64,
    /// Members with a file or more in the wanted formats.
    pub(crate) included: u64,
    /// Members without.
    pub(crate) omitted: u64,
    /// Of these, members that the key was not entitled to.
    pub(crate) rights: u64,
    /// And members that were withdrawn.
    pub(crate) withdrawn: u64,
}

/// The payload of the bag (RFC 8493, 2.1.2), whether it is in the archive or named in its `fetch.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Number of files.
    pub(crate) files: u64,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
}

/// All the files of one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatSummary {
    /// The format.
    pub(crate) format: Format,
    /// Documents that have it.
    pub(crate) documents: u64,
    /// Bytes of all of its files.
    pub(crate) bytes: u64,
    /// Its files' media types, sorted, each once.
    pub(crate) media_types: Vec<String>,
}

/// How a tabular layout writes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// JSON Lines, with any compression.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// A shard of a tabular layout: one file of the bag's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Its path in the bag, such as `data/data-00001-of-00003.parquet`: a path of plain ASCII letters, digits and `-./`.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// SHA-256 of its bytes.
    pub(crate) sha256: Sha256,
    /// Its media type.
    pub(crate) media_type: String,
}

/// The rows of a tabular layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// How they are written.
    pub(crate) rows: Rows,
    /// The columns, in their order.
    pub(crate) columns: Vec<Column>,
    /// The shards, in their order; never empty.
    pub(crate) shards: Vec<Shard>,
}

/// Everything that the texts are made of.
///
/// A bag, the same bag dehydrated and a delta to it have one description, so that filling in what they leave out gives
/// the whole bag's files: `package` is the fingerprint of the whole bag for all three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// Fingerprint of the package (of the whole bag, see above).
    pub(crate) package: Sha256,
    /// Fingerprint of the docset.
    pub(crate) docset: Sha256,
    /// Name of the layout.
    pub(crate) layout: &'static str,
    /// Whose documents they are.
    pub(crate) about: About,
    /// How many there are.
    pub(crate) documents: Documents,
    /// Whether members were withheld, or are not open: then the lists tell reasons and access levels.
    pub(crate) marked: bool,
    /// The formats that were asked for, sorted.
    pub(crate) formats: Vec<FormatSummary>,
    /// What the payload adds up to.
    pub(crate) payload: Payload,
    /// The rows of a tabular layout; `None` where every file stands for itself.
    pub(crate) table: Option<Table>,
}

/// Name of the description for people.
pub(crate) const README: &str = "README.md";
/// Name of the list of rights, see [`lines::write_rights`].
pub(crate) const RIGHTS: &str = "rights.csv";
/// Name of the list of members without files, see [`lines::omitted`].
pub(crate) const OMITTED: &str = "omitted.jsonl";
/// Name of the list of files to fetch, see [`lines::write_fetch`].
pub(crate) const FETCH: &str = "fetch.txt";
/// Name of a delta's list of files that are gone, see [`lines::tombstone`].
pub(crate) const TOMBSTONES: &str = "tombstones.jsonl";
const RO_CRATE: &str = "ro-crate-metadata.json";
const CROISSANT: &str = "croissant.json";
const CITATION: &str = "CITATION.cff";

/// The texts, each with its path in the bag's base directory, in the order in which they stand in an archive.
#[must_use]
pub(crate) fn texts(description: &Description) -> Vec<(&'static str, Vec<u8>)> {
    let text = |name, text: String| (name, text.into_bytes());
    let mut texts = vec![
        text(crate::bag::INFO, bag_info::text(description)),
        text(CROISSANT, croissant::text(description)),
        text(CITATION, citation::text(description)),
        text(README, readme::text(description)),
    ];
    texts.insert(1, text(RO_CRATE, ro_crate::text(description, &texts)));
    texts
}

impl Description {
    /// A name that tells it from other packages of the collection.
    fn title(&self) -> String {
        format!("{}: {} ({})", self.about.name, documents(self.documents.included), self.format_names())
    }

    /// What it holds, in one sentence or two.
    fn summary(&self) -> String {
        let Documents { included, omitted, rights, withdrawn, .. } = self.documents;
        let name = &self.about.name;
        let mut text = format!("{} of the collection “{name}”: {}.", documents(included), self.format_names());
        let reasons = [
            (omitted.saturating_sub(rights + withdrawn), "without any of these formats"),
            (rights, "for reasons of rights"),
            (withdrawn, "withdrawn"),
        ];
        let reasons = reasons.into_iter().filter(|(count, _)| *count > 0);
        let reasons: Vec<String> = reasons.map(|(count, why)| format!("{} {why}", documents(count))).collect();
        if omitted > 0 {
            text.push_str(&format!(" Left out: {}, see {OMITTED}.", reasons.join(", ")));
        }
        text
    }

    /// What the collection holds, as far as it says so, and what of it is here.
    fn abstract_text(&self) -> String {
        match self.about.description.trim() {
            "" => self.summary(),
            description => format!("{description}\n\n{}", self.summary()),
        }
    }

    /// Where the conditions of text and data mining stand, if these rights are reserved.
    fn tdm_policy(&self) -> Option<&str> {
        self.about.tdm.as_ref()?.policy.as_deref()
    }

    /// The formats that a document has.
    fn found(&self) -> impl Iterator<Item = &FormatSummary> {
        self.formats.iter().filter(|summary| summary.documents > 0)
    }

    fn format_names(&self) -> String {
        self.formats.iter().map(|summary| summary.format.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A semantic version (2.0.0) that rises with the documents' dates; two docsets of one day differ in its build metadata.
    fn version(&self) -> String {
        let mut numbers = self.about.date.split('-').map(|part| part.parse::<u32>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        format!("{}.{}.{}+{}", next(), next(), next(), hex::encode(&self.docset.0[..6]))
    }
}

/// The collection at the API.
fn collection_url(about: &About) -> String {
    format!("{}/collections/{}", about.url, about.collection)
}

impl FormatSummary {
    /// Its media types without their parameters, each once.
    fn essences(&self) -> Vec<String> {
        let mut essences: Vec<String> = self.media_types.iter().map(|media_type| essence(media_type)).collect();
        essences.dedup();
        essences
    }

    fn sentence(&self) -> String {
        format!("{} ({} bytes) as {}.", documents(self.documents), self.bytes, self.essences().join(", "))
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn documents(count: u64) -> String {
    plural(count, "document")
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
