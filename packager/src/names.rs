//! Names of a package's assets: the same for the same package, whoever asks and wherever it is built.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Layout, Recipe};

use crate::bag::bag_folder;

/// Name of a package's archive: of a bag, its base directory's (RFC 8493, 4).
#[must_use]
pub fn archive_name(recipe: &Recipe, fingerprint: &Sha256) -> String {
    let stem = match recipe.layout {
        Layout::Flat => format!("flat-{}", hex::encode(&fingerprint.0[..6])),
        Layout::Bag | Layout::TarZst | Layout::Jsonl | Layout::Parquet => bag_folder(fingerprint),
    };
    format!("{stem}.{}", recipe.layout.extension())
}

/// Name of shard `index` (from 0) of `count`, as Hugging Face, TensorFlow and Spark name theirs: `data-00001-of-00003.parquet` of
/// `data.parquet`.
pub(crate) fn shard_name(name: &str, index: usize, count: usize) -> String {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    format!("{stem}-{:05}-of-{count:05}.{extension}", index + 1)
}
