//! What a package is made of and how: formats, layout and options, and the fingerprint that follows from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use super::{Format, Tdm};
use crate::digest::Sha256;
use crate::ids::DocsetId;

/// The least `shard_bytes` that makes sense: below it, headers and requests outweigh the documents.
pub const MIN_SHARD_BYTES: u64 = 1 << 20;

/// The greatest `shard_bytes` of a table: uploads of larger ones would need larger parts, which are held in memory.
pub const MAX_TABLE_SHARD: u64 = 8 << 30;

/// How a package is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum Layout {
    /// A ZIP archive with all files at the top: `{name}.{extension}`.
    #[serde(rename = "flat")]
    Flat,
    /// A ZIP archive with a BagIt 1.0 bag (RFC 8493) in a base directory: `{base}/data/{name}.{extension}` and `{base}/manifest-sha256.txt`.
    #[serde(rename = "bag")]
    Bag,
    /// The same bag as a tar archive (POSIX.1-2001, pax), compressed by Zstandard (RFC 8878).
    #[serde(rename = "tar.zst")]
    TarZst,
    /// One line of JSON a document, in shards beside a small bag that describes and lists them.
    #[serde(rename = "jsonl")]
    Jsonl,
    /// One row a document in Apache Parquet files, in shards beside a small bag that describes and lists them.
    #[serde(rename = "parquet")]
    Parquet,
}

/// Not a layout's name.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("unknown layout {0:?}; there are: flat, bag, tar.zst, jsonl, parquet")]
pub struct InvalidLayout(pub String);

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 5] = [Self::Flat, Self::Bag, Self::TarZst, Self::Jsonl, Self::Parquet];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Bag => "bag",
            Self::TarZst => "tar.zst",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// Whether documents become rows of tables, which lie in shards beside the archive.
    #[must_use]
    pub fn is_tabular(self) -> bool {
        matches!(self, Self::Jsonl | Self::Parquet)
    }

    /// Whether its assets are compressed on the way, so that their length is known only when they are there.
    #[must_use]
    pub fn is_streamed(self) -> bool {
        matches!(self, Self::TarZst | Self::Jsonl | Self::Parquet)
    }

    /// Whether packages of it carry a description of themselves, which is made of an [`About`].
    #[must_use]
    pub fn is_described(self) -> bool {
        self != Self::Flat
    }

    /// File name extension of its archive.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::TarZst => "tar.zst",
            Self::Flat | Self::Bag | Self::Jsonl | Self::Parquet => "zip",
        }
    }

    /// Media type of its archive.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::TarZst => "application/zstd",
            Self::Flat | Self::Bag | Self::Jsonl | Self::Parquet => "application/zip",
        }
    }

    /// Counts the ways in which it was written. It is part of every fingerprint: raise it with any change that alters a single byte.
    fn version(self) -> u32 {
        match self {
            Self::Bag => 2,
            Self::Flat | Self::TarZst | Self::Jsonl | Self::Parquet => 1,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = InvalidLayout;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|layout| layout.as_str() == text).ok_or_else(|| InvalidLayout(text.to_owned()))
    }
}

/// How the shards of a package of layout `jsonl` are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip (RFC 1952).
    Gzip,
    /// By Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|compression| compression.as_str() == text)
            .ok_or_else(|| format!("unknown compression {text:?}; there are: none, gzip, zstd"))
    }
}

/// What may be chosen beside formats and layout. Nothing of it is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Of the shards of layout `jsonl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Divides the package into shards of about so many bytes: of the archive; in tabular layouts of the documents' content.
    /// A file is never divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_bytes: Option<u64>,
    /// Without the documents' files, which are named in `fetch.txt` (RFC 8493, 2.2.3) instead.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dehydrated: bool,
    /// Only with those files that a package of that docset, in the same formats and layout, has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_from: Option<DocsetId>,
}

/// Options that do not go together, or with the layout.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRecipe {
    /// An option that another layout has.
    #[error("{option} is for layout {of}, not for {layout}")]
    Layout {
        /// The option.
        option: &'static str,
        /// The layouts that have it.
        of: &'static str,
        /// The layout that was asked for.
        layout: Layout,
    },
    /// Two options that exclude each other.
    #[error("{0} and {1} do not go together; leave one out")]
    Exclusive(&'static str, &'static str),
    /// Tables in shards too large to be written with little memory.
    #[error("shard_bytes is {0}, and of tables must be {MAX_TABLE_SHARD} at most")]
    TableShard(u64),
    /// Shards too small.
    #[error("shard_bytes is {0}, and must be {MIN_SHARD_BYTES} at least")]
    ShardBytes(u64),
}

/// What a package is made of, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// Sorted, without duplicates.
    pub formats: Vec<Format>,
    /// Its layout.
    pub layout: Layout,
    /// What else was chosen.
    pub options: Options,
}

impl Recipe {
    /// A recipe without options.
    #[must_use]
    pub fn new(mut formats: Vec<Format>, layout: Layout) -> Self {
        formats.sort_unstable();
        formats.dedup();
        Self { formats, layout, options: Options::default() }
    }

    /// Whether packages of it have one archive; else it is divided into shards that are archives themselves.
    #[must_use]
    pub fn has_archive(&self) -> bool {
        self.options.shard_bytes.is_none() || self.layout.is_tabular()
    }

    /// Refuses what does not go together.
    ///
    /// # Errors
    /// [`InvalidRecipe`] names the options.
    pub fn check(&self) -> Result<(), InvalidRecipe> {
        let (layout, options) = (self.layout, &self.options);
        let refuse = |option, of| Err(InvalidRecipe::Layout { option, of, layout });
        if options.compression.is_some() && layout != Layout::Jsonl {
            return refuse("compression", "jsonl");
        }
        if options.dehydrated && layout != Layout::Bag {
            return refuse("dehydrated", "bag");
        }
        if options.delta_from.is_some() && layout != Layout::Bag {
            return refuse("delta_from", "bag");
        }
        if options.dehydrated && options.delta_from.is_some() {
            return Err(InvalidRecipe::Exclusive("dehydrated", "delta_from"));
        }
        match options.shard_bytes {
            Some(_) if options.dehydrated => Err(InvalidRecipe::Exclusive("dehydrated", "shard_bytes")),
            Some(_) if options.delta_from.is_some() => Err(InvalidRecipe::Exclusive("delta_from", "shard_bytes")),
            Some(bytes) if bytes < MIN_SHARD_BYTES => Err(InvalidRecipe::ShardBytes(bytes)),
            Some(bytes) if layout.is_tabular() && bytes > MAX_TABLE_SHARD => Err(InvalidRecipe::TableShard(bytes)),
            _ => Ok(()),
        }
    }

    /// The recipe of the whole package that this one is a part or a form of: the same without shards, with all files. What a package says of
    /// itself, it says of the whole.
    #[must_use]
    pub fn whole(&self) -> Self {
        let options = Options { compression: self.options.compression, ..Options::default() };
        Self { options, ..self.clone() }
    }

    /// The fingerprint of a package: SHA-256 over the docset's fingerprint, formats, layout and how that is written, options, the fingerprint of
    /// the docset that a delta starts from, and what the package says about itself. Equal fingerprints give equal packages, byte for byte.
    #[must_use]
    pub fn fingerprint(&self, docset: &Sha256, base: Option<&Sha256>, about: Option<&About>) -> Sha256 {
        let names: Vec<&str> = self.formats.iter().map(Format::as_str).collect();
        let (layout, options) = (self.layout, &self.options);
        let mut hash = sha2::Sha256::new();
        hash.update(docset.0);
        let mut line = |text: String| hash.update(text);
        line(format!("\n{}\n{layout}\n{}\n", names.join(","), layout.version()));
        if let Some(compression) = options.compression {
            line(format!("compression={}\n", compression.as_str()));
        }
        if let Some(bytes) = options.shard_bytes {
            line(format!("shard_bytes={bytes}\n"));
        }
        if options.dehydrated {
            line("dehydrated\n".to_owned());
        }
        if let (Some(_), Some(base)) = (options.delta_from, base) {
            line(format!("delta_from={base}\n"));
        }
        if let Some(about) = about.filter(|_| layout.is_described()) {
            line(format!("about={}\n", about.digest()));
        }
        Sha256(hash.finalize().into())
    }
}

/// What a package says about itself beyond its documents: frozen when it is asked for, so that it can be built again with the same bytes after
/// its collection was described anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct About {
    /// Slug of the collection.
    pub collection: String,
    /// The collection's name for people.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// URI of the licence of documents that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What is said of text and data mining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdm: Option<Tdm>,
    /// Base URL of the server's API, without a slash at its end: files are at `{url}/documents/{id}/files/{format}`.
    pub url: String,
    /// The day on which the newest of the documents' versions was imported (RFC 3339 full-date).
    pub date: String,
}

impl About {
    /// SHA-256 over all fields, each with its length before it.
    fn digest(&self) -> Sha256 {
        let Self { collection, name, description, license, tdm, url, date } = self;
        let mut hash = sha2::Sha256::new();
        for field in [collection, name, description, license.as_ref().unwrap_or(&String::new()), url, date] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        // Where nothing is said, packages are what they were before it was asked.
        if let Some(Tdm { reservation, policy }) = tdm {
            hash.update(format!("tdm={reservation}\n{}", policy.as_deref().unwrap_or_default()));
        }
        Sha256(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(names: &[&str], layout: Layout) -> Recipe {
        Recipe::new(names.iter().map(|n| n.parse().unwrap()).collect(), layout)
    }

    fn about() -> About {
        let text = |text: &str| text.to_owned();
        About {
            collection: text("c"),
            name: text("n"),
            description: text("d"),
            license: None,
            tdm: None,
            url: text("u"),
            date: text("2026-01-01"),
        }
    }

    #[test]
    fn the_fingerprint_depends_on_all_that_is_chosen_but_not_on_the_order_of_formats() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let of = |recipe: &Recipe| recipe.fingerprint(&a, Some(&b), Some(&about()));
        let flat = recipe(&["txt", "pdf"], Layout::Flat);
        assert_eq!(of(&flat), of(&recipe(&["pdf", "txt", "pdf"], Layout::Flat)));
        let bag = recipe(&["txt", "pdf"], Layout::Bag);
        let with = |options| Recipe { options, ..bag.clone() };
        let recipes = [
            flat.clone(),
            recipe(&["txt"], Layout::Flat),
            bag.clone(),
            recipe(&["txt", "pdf"], Layout::Jsonl),
            with(Options { compression: Some(Compression::Gzip), ..Options::default() }),
            with(Options { shard_bytes: Some(1 << 20), ..Options::default() }),
            with(Options { dehydrated: true, ..Options::default() }),
            with(Options { delta_from: Some(DocsetId(5)), ..Options::default() }),
        ];
        let mut all: Vec<Sha256> = recipes.iter().map(of).collect();
        all.push(flat.fingerprint(&b, None, None));
        let other = About { description: "x".to_owned(), ..about() };
        all.push(bag.fingerprint(&a, None, Some(&other)));
        let count = all.len();
        all.sort_unstable_by_key(|digest| digest.0);
        all.dedup();
        assert_eq!(all.len(), count);
        // What does not show in an archive does not count.
        assert_eq!(flat.fingerprint(&a, None, Some(&other)), flat.fingerprint(&a, None, None));
    }

    #[test]
    fn fingerprints_are_those_of_earlier_servers() {
        let flat = recipe(&["txt", "meta"], Layout::Flat).fingerprint(&Sha256::of(b"a"), None, None);
        insta::assert_snapshot!(flat, @"3374a30a0a1714062e5f68a9aaf58980685da8a490ec3baef538b4b874629c85");
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        let refusal = |layout, options| {
            Recipe { options, ..recipe(&["txt"], layout) }
                .check()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let none = Options::default;
        let delta = || Options { delta_from: Some(DocsetId(1)), ..none() };
        assert_eq!(refusal(Layout::Bag, delta()), "");
        assert_eq!(
            refusal(Layout::Parquet, Options { compression: Some(Compression::Zstd), ..none() }),
            "compression is for layout jsonl, not for parquet"
        );
        assert_eq!(refusal(Layout::Flat, delta()), "delta_from is for layout bag, not for flat");
        assert_eq!(
            refusal(Layout::Bag, Options { dehydrated: true, ..delta() }),
            "dehydrated and delta_from do not go together; leave one out"
        );
        assert_eq!(
            refusal(Layout::Flat, Options { shard_bytes: Some(9), ..none() }),
            "shard_bytes is 9, and must be 1048576 at least"
        );
    }

    #[test]
    fn names_and_values_agree() {
        for layout in Layout::ALL {
            assert_eq!(layout.as_str().parse(), Ok(layout));
            assert_eq!(serde_json::to_value(layout).unwrap(), layout.as_str());
        }
        assert_eq!("zip".parse::<Layout>(), Err(InvalidLayout("zip".into())));
    }
}
