//! The assets of layouts that are compressed on the way: tar archives, and tables with the small bag that is about them.

use std::ops::Range;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Asset, Compression, Layout, Recipe};

use super::lists::Text;
use super::project::{AssetPlan, Objects, Source};
use super::sections::{sections, size};
use super::spool::{Spool, SpoolWriter};
use super::sum::{Listed, Volume, tags};
use super::{MAX_ARCHIVE, Plan, PlanError, part_size_for};
use crate::bag;
use crate::describe::{Description, Payload, Rows, Shard as Described, Table, lines};
use crate::names::{archive_name, shard_name};
use crate::stream::{Columns, Form, Shard, TAR_END, compressed, tar_entry_len};

/// Where the members of a package's streamed assets stand, and what these have in common.
pub(super) struct Ground<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) fingerprint: &'a Sha256,
    /// What every path begins with.
    pub(super) folder: String,
    pub(super) volumes: Vec<Volume>,
    pub(super) spool: Arc<Spool>,
    /// The licence of documents that name none.
    pub(super) license: Option<String>,
    /// Smallest length in bytes of an upload's parts.
    pub(super) part_size: u64,
}

impl Ground<'_> {
    fn source(&self, volume: &Volume, form: Form) -> Result<Source, PlanError> {
        let bound = bound(volume, &form);
        if volume.data > MAX_ARCHIVE {
            return Err(PlanError::TooLarge(volume.data));
        }
        let shard = Shard {
            form,
            spool: self.spool.clone(),
            lines: volume.records.clone(),
            members: volume.members,
            source: volume.data,
            license: self.license.clone(),
        };
        Ok(Source::Stream(Arc::new(shard), part_size_for(bound, self.part_size)))
    }

    /// The tar archives: one, or one for each shard, the last of which has the tag files.
    pub(super) fn tars(&self, mut tags: Vec<(&'static str, Text)>) -> Result<Vec<AssetPlan>, PlanError> {
        let (archive, count) = (archive_name(self.recipe, self.fingerprint), self.volumes.len());
        let sharded = self.recipe.options.shard_bytes.is_some();
        let asset = |(index, volume): (usize, &Volume)| {
            let tags = if index + 1 == count { std::mem::take(&mut tags) } else { Vec::new() };
            Ok(AssetPlan {
                name: if sharded { shard_name(&archive, index, count) } else { archive.clone() },
                media_type: self.recipe.layout.media_type(),
                documents: sharded.then_some(volume.documents),
                source: self.source(volume, Form::Tar(self.folder.clone(), tags))?,
            })
        };
        self.volumes.iter().enumerate().map(asset).collect()
    }

    /// The shards of a table, and behind them the archive that is about them.
    pub(super) fn tables(
        &self,
        columns: Columns,
        listed: Listed,
        description: Description,
    ) -> Result<Vec<AssetPlan>, PlanError> {
        let columns = Arc::new(columns);
        let (name, media_type) = table_file(self.recipe);
        let form = match self.recipe.layout {
            Layout::Parquet => Form::Parquet(columns.clone()),
            _ => Form::Jsonl(columns.clone(), compression(self.recipe)),
        };
        let count = self.volumes.len();
        let shard = |(index, volume): (usize, &Volume)| {
            Ok(AssetPlan {
                name: shard_name(name, index, count),
                media_type,
                documents: Some(volume.documents),
                source: self.source(volume, form.clone())?,
            })
        };
        let mut assets: Vec<_> = self.volumes.iter().enumerate().map(shard).collect::<Result<_, PlanError>>()?;
        let index = Index {
            columns,
            listed,
            description,
            folder: self.folder.clone(),
            fingerprint: *self.fingerprint,
            members: self.volumes.last().map_or(0, |volume| volume.members),
            part_size: self.part_size,
        };
        assets.push(AssetPlan {
            name: archive_name(self.recipe, self.fingerprint),
            media_type: self.recipe.layout.media_type(),
            documents: None,
            source: Source::Index(Arc::new(index)),
        });
        Ok(assets)
    }
}

/// The most bytes that an asset has: what a text may become in JSON (see [`crate::stream`]), and what is said of the documents.
fn bound(volume: &Volume, form: &Form) -> u64 {
    let lines = volume.records.end - volume.records.start;
    match form {
        Form::Tar(folder, tags) => compressed(tar_len(volume, folder, tags)),
        Form::Jsonl(..) | Form::Parquet(_) => {
            compressed(volume.data.saturating_mul(8).saturating_add(lines.saturating_mul(8)).saturating_add(64 << 10))
        }
    }
}

/// Length in bytes of a tar archive before it is compressed.
pub(super) fn tar_len(volume: &Volume, folder: &str, tags: &[(&'static str, Text)]) -> u64 {
    let tags = tags.iter().map(|(name, text)| tar_entry_len(&format!("{folder}{name}"), text.size));
    tags.fold(volume.data.saturating_add(volume.directory).saturating_add(TAR_END), u64::saturating_add)
}

/// How the lines of a package of layout `jsonl` are compressed.
pub(super) fn compression(recipe: &Recipe) -> Compression {
    recipe.options.compression.unwrap_or(Compression::Zstd)
}

/// Name of a table that is not divided, and its media type.
fn table_file(recipe: &Recipe) -> (&'static str, &'static str) {
    match (recipe.layout, compression(recipe)) {
        (Layout::Parquet, _) => ("data.parquet", "application/vnd.apache.parquet"),
        (_, Compression::None) => ("data.jsonl", "application/jsonl"),
        (_, Compression::Gzip) => ("data.jsonl.gz", "application/gzip"),
        (_, Compression::Zstd) => ("data.jsonl.zst", "application/zstd"),
    }
}

/// The archive that is about a table's shards: a bag with a description of them and `fetch.txt`. It can be planned only when they are there.
#[derive(Debug)]
pub(crate) struct Index {
    columns: Arc<Columns>,
    listed: Listed,
    description: Description,
    folder: String,
    fingerprint: Sha256,
    members: u64,
    part_size: u64,
}

impl Index {
    /// Length in bytes of its upload's parts.
    pub(crate) fn part_size(&self) -> u64 {
        self.part_size
    }

    /// The archive's plan, once these shards are in the store.
    pub(crate) fn plan(&self, shards: &[Asset]) -> Result<Plan, PlanError> {
        let tags = table_tags(self.listed.clone(), &self.description, &self.columns, &self.fingerprint, shards);
        let none = Range::default();
        let volume = Volume { members: self.members, records: none, ..Volume::default() };
        let ground = (Arc::new(SpoolWriter::new()?.finish()?), Objects::default());
        Plan::new(&volume, self.folder.clone(), 0..self.members, tags, ground, self.part_size)
    }
}

/// The tag files of the bag about a table's shards.
fn table_tags(
    listed: Listed,
    description: &Description,
    columns: &Columns,
    fingerprint: &Sha256,
    shards: &[Asset],
) -> Vec<(&'static str, Text)> {
    let (mut manifest, mut fetch) = (Vec::new(), Vec::new());
    let shard = |asset: &Asset| {
        let path = format!("{}{}", bag::PAYLOAD, asset.name);
        bag::write_manifest_line(&mut manifest, &asset.sha256, &path);
        // Of equal packages each has equal shards, so their fingerprint names them better than a number that is one's own.
        let url = format!("{}/packages/{fingerprint}/assets/{}", description.about.url, asset.name);
        lines::write_fetch(&mut fetch, &url, asset.size, &path);
        Described { path, size: asset.size, sha256: asset.sha256, media_type: asset.media_type.clone() }
    };
    let shards: Vec<_> = shards.iter().map(shard).collect();
    let payload = Payload { files: shards.len() as u64, bytes: shards.iter().map(|shard| shard.size).sum() };
    let rows = if description.layout == Layout::Parquet.as_str() { Rows::Parquet } else { Rows::JsonLines };
    let table = Some(Table { rows, columns: columns.described(), shards });
    let description = Description { payload, table, ..description.clone() };
    tags(Listed { manifest: Text::of(manifest), fetch: Some(Text::of(fetch)), ..listed }, &description)
}

/// The most bytes of the archive about so many shards of a table.
pub(super) fn index_bound(
    listed: Listed,
    description: &Description,
    recipe: &Recipe,
    folder: &str,
    shards: usize,
) -> u64 {
    let (name, media_type) = table_file(recipe);
    let shard = |index| Asset {
        name: shard_name(name, index, shards),
        media_type: media_type.to_owned(),
        // No shard is longer, and so has more digits.
        size: MAX_ARCHIVE,
        sha256: Sha256([0; 32]),
        documents: None,
    };
    let shards: Vec<_> = (0..shards).map(shard).collect();
    let columns = Columns::new(&recipe.formats, description.marked);
    let tags = table_tags(listed, description, &columns, &Sha256([0; 32]), &shards);
    size(&sections(&Volume::default(), folder, tags))
}
