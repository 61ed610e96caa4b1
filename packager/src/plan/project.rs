//! All of one package: which assets it consists of, each of them planned, from the members of the docset as they come in.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Asset, MANIFEST_TYPE};
use adit_shared::domain::{Layout, ManifestDocuments, PackageManifest, Payload, Recipe};
use adit_shared::ids::SaltedPackage;
use adit_shared::objects::ObjectKey;

use super::lists::Written;
use super::spool::{Record, Spool, SpoolWriter};
use super::streams::{Ground, Index};
use super::sum::{Carried, Listed, Sum, before, folder, packed, tags};
use super::{MAX_SHARDS, Plan, PlanError, Streamed};
use crate::describe::{Description, Documents};
use crate::manifest::{Header, Member, Tombstone};
use crate::names::{archive_name, shard_name};
use crate::stream::{Columns, write_line};

/// The keys of the objects that data lies in; packs are few, whatever the number of files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects(Arc<Vec<String>>);

impl Objects {
    /// Objects with these keys, numbered in their order.
    pub(crate) fn new(keys: Vec<String>) -> Self {
        Self(Arc::new(keys))
    }

    /// The key of an object, by its number.
    pub(crate) fn key(&self, number: u32) -> &str {
        self.0.get(number as usize).map_or("", String::as_str)
    }
}

/// Gives objects numbers.
#[derive(Debug, Default)]
struct Numbers {
    keys: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Numbers {
    fn of(&mut self, key: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.push(key.to_owned());
        self.numbers.insert(key.to_owned(), number);
        number
    }
}

/// Where an asset's bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A ZIP archive, any part of which can be drawn up on its own.
    Plan(Arc<Plan>),
    /// What is compressed on the way, and the length in bytes of its upload's parts.
    Stream(Arc<dyn Streamed>, u64),
    /// A ZIP archive that is planned when those before it are there.
    Index(Arc<Index>),
}

impl Source {
    /// Its length in bytes; where that is not known yet, that of the content that it is made of.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Plan(plan) => plan.size(),
            Self::Stream(stream, _) => stream.source(),
            // Nobody waits for that.
            Self::Index(_) => 0,
        }
    }

    /// Length in bytes of the parts that it is uploaded in.
    pub(crate) fn part_size(&self) -> u64 {
        match self {
            Self::Plan(plan) => plan.part_size(),
            Self::Stream(_, part_size) => *part_size,
            Self::Index(index) => index.part_size(),
        }
    }
}

/// One asset to be built.
#[derive(Debug, Clone)]
pub(crate) struct AssetPlan {
    /// Its name.
    pub(crate) name: String,
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// How many documents it holds, of a shard.
    pub(crate) documents: Option<u64>,
    /// Its bytes.
    pub(crate) source: Source,
}

/// A package to be built.
#[derive(Debug)]
pub(crate) struct Project {
    recipe: Recipe,
    header: Header,
    /// The package's fingerprint.
    pub(crate) fingerprint: Sha256,
    documents: Documents,
    payload: crate::describe::Payload,
    /// Its assets, in the order in which they are built.
    pub(crate) assets: Vec<AssetPlan>,
}

impl Project {
    /// Number of the docset's members.
    pub(crate) fn requested(&self) -> u64 {
        self.documents.requested
    }

    /// Holds the docset's members against what was promised to whoever asked for the package, where that is known.
    pub(crate) fn check_promise(&self, documents: Option<u64>) -> Result<(), PlanError> {
        let Documents { requested, included, omitted, .. } = self.documents;
        match documents.filter(|documents| *documents != requested) {
            Some(announced) => Err(PlanError::Incomplete { announced, included, omitted }),
            None => Ok(()),
        }
    }

    /// Number of members with at least one file.
    pub(crate) fn included(&self) -> u64 {
        self.documents.included
    }

    /// Number of members without.
    pub(crate) fn omitted(&self) -> u64 {
        self.documents.omitted
    }

    /// Length in bytes of all assets; where that is not known yet, of the content that they are made of.
    pub(crate) fn size(&self) -> u64 {
        self.assets.iter().map(|asset| asset.source.size()).sum()
    }

    /// Its archive's name; `None` if it has shards instead.
    pub(crate) fn archive(&self) -> Option<String> {
        self.recipe.has_archive().then(|| archive_name(&self.recipe, &self.fingerprint))
    }

    /// Key in the store of one of its assets.
    pub(crate) fn key(&self, package: SaltedPackage, name: &str) -> String {
        let fingerprint = &self.fingerprint;
        let key = if self.archive().as_deref() == Some(name) {
            ObjectKey::Archive { package, fingerprint, extension: self.recipe.layout.extension() }
        } else {
            ObjectKey::Asset { package, fingerprint, name }
        };
        key.to_string()
    }

    /// `manifest.json`, once all assets are there.
    pub(crate) fn manifest(&self, assets: Vec<Asset>) -> PackageManifest {
        let Documents { requested, included, omitted, rights, withdrawn } = self.documents;
        let options = &self.recipe.options;
        PackageManifest {
            r#type: MANIFEST_TYPE.to_owned(),
            package: self.fingerprint,
            docset: self.header.fingerprint,
            selection: self.header.selection,
            formats: self.recipe.formats.clone(),
            layout: self.recipe.layout,
            compression: options.compression,
            shard_bytes: options.shard_bytes,
            dehydrated: options.dehydrated,
            delta_from: self.header.base,
            documents: ManifestDocuments { requested, included, omitted, rights, withdrawn },
            payload: Payload { files: self.payload.files, bytes: self.payload.bytes },
            assets,
        }
    }
}

/// Takes members in and makes a [`Project`].
#[derive(Debug)]
pub(crate) struct ProjectBuilder {
    header: Header,
    sum: Sum<Written>,
    spool: SpoolWriter,
    objects: Numbers,
    /// Of a table.
    columns: Columns,
}

impl ProjectBuilder {
    /// A project of that recipe without members yet.
    pub(crate) fn new(recipe: &Recipe, header: Header) -> Result<Self, PlanError> {
        let sum = Sum::new(recipe, header.about.as_ref(), header.selection.is_some())?;
        let columns = Columns::new(&recipe.formats, header.selection.is_some());
        Ok(Self { header, sum, spool: SpoolWriter::new()?, objects: Numbers::default(), columns })
    }

    /// Adds the next member, which a [`crate::manifest::Reader`] has checked.
    pub(crate) fn add(&mut self, member: &Member) -> Result<(), PlanError> {
        if self.sum.recipe.layout.is_streamed() {
            return Ok(self.add_line(member)?);
        }
        let (spool, objects) = (&mut self.spool, &mut self.objects);
        let index = self.sum.documents.requested;
        self.sum.add(member, spool.position(), |Carried { file, path, offset }| {
            let record = Record {
                member: index,
                r#ref: member.r#ref.clone(),
                path,
                encoding: file.encoding,
                crc32: file.crc32,
                deflate_crc32: file.deflate_crc32,
                sha256: file.sha256,
                size: file.size,
                packed: packed(file),
                offset,
                object: objects.of(&file.place.object),
                from: file.place.offset + before(file.encoding),
            };
            spool.push(&record)?;
            Ok(spool.position())
        })?;
        Ok(())
    }

    /// Adds the next member of a package that is made from whole members.
    fn add_line(&mut self, member: &Member) -> io::Result<()> {
        let start = self.spool.position();
        if !member.files.is_empty() {
            write_line(&mut self.spool, self.sum.documents.requested, member)?;
        }
        member.files.iter().for_each(|file| self.columns.see(file));
        let end = self.spool.position();
        self.sum.add(member, start, |_| Ok(end))
    }

    /// Adds files that the base of a delta has and the docset has not.
    pub(crate) fn bury(&mut self, gone: &Tombstone) -> Result<(), PlanError> {
        Ok(self.sum.bury(gone)?)
    }

    /// The package of all that was added, with uploads in parts of `part_size` bytes (a multiple of 64) or more.
    pub(crate) fn finish(mut self, part_size: u64) -> Result<Project, PlanError> {
        let Documents { requested, included, omitted, .. } = self.sum.documents;
        if self.header.documents != requested || requested != included + omitted {
            return Err(PlanError::Incomplete { announced: self.header.documents, included, omitted });
        }
        let recipe = self.sum.recipe.clone();
        if recipe.options.delta_from.is_some() != self.header.base.is_some() {
            return Err(PlanError::NoBase);
        }
        let count = self.sum.volumes().len();
        if count > MAX_SHARDS {
            return Err(PlanError::TooManyShards(count));
        }
        let docset = self.header.fingerprint;
        let selection = self.sum.clearance.selection(&docset);
        if selection != self.header.selection.unwrap_or(docset) {
            return Err(PlanError::Selection);
        }
        let fingerprint = recipe.fingerprint(&selection, self.header.base.as_ref(), self.header.about.as_ref());
        let whole = recipe.whole().fingerprint(&selection, None, self.header.about.as_ref());
        let described = self.sum.take_lists()?.zip(self.sum.description(whole, docset, None));
        let spool = Arc::new(self.spool.finish()?);
        let ground = || Ground {
            recipe: &recipe,
            fingerprint: &fingerprint,
            folder: folder(recipe.layout, &whole),
            volumes: self.sum.volumes(),
            spool: spool.clone(),
            license: self.header.about.as_ref().and_then(|about| about.license.clone()),
            part_size,
        };
        let assets = match (recipe.layout, described) {
            (layout, None) if layout.is_described() => return Err(PlanError::Undescribed(layout)),
            (Layout::Jsonl | Layout::Parquet, Some((listed, description))) => {
                ground().tables(self.columns, listed, description)?
            }
            (Layout::TarZst, described) => ground().tars(described.map_or_else(Vec::new, all_tags))?,
            (_, described) => {
                let tags = described.map_or_else(Vec::new, all_tags);
                let ground = (spool.clone(), Objects::new(self.objects.keys));
                archives(&self.sum, &fingerprint, &whole, tags, &ground, part_size)?
            }
        };
        let (documents, payload) = (self.sum.documents, self.sum.payload);
        Ok(Project { recipe, header: self.header, fingerprint, documents, payload, assets })
    }
}

fn all_tags((listed, description): (Listed, Description)) -> Vec<(&'static str, super::Text)> {
    tags(listed, &description)
}

/// The ZIP archives: one, or one for each shard, the last of which has the tag files.
fn archives(
    sum: &Sum<Written>,
    fingerprint: &Sha256,
    whole: &Sha256,
    mut tags: Vec<(&'static str, super::Text)>,
    (spool, objects): &(Arc<Spool>, Objects),
    part_size: u64,
) -> Result<Vec<AssetPlan>, PlanError> {
    let (recipe, volumes) = (&sum.recipe, sum.volumes());
    let (count, mut members) = (volumes.len(), 0);
    let folder = folder(recipe.layout, whole);
    let mut assets = Vec::with_capacity(count);
    for (index, volume) in volumes.iter().enumerate() {
        let last = index + 1 == count;
        let tags = if last { std::mem::take(&mut tags) } else { Vec::new() };
        let ground = (spool.clone(), objects.clone());
        let plan = Plan::new(volume, folder.clone(), members..volume.members, tags, ground, part_size)?;
        let archive = archive_name(recipe, fingerprint);
        let sharded = recipe.options.shard_bytes.is_some();
        assets.push(AssetPlan {
            name: if sharded { shard_name(&archive, index, count) } else { archive },
            media_type: recipe.layout.media_type(),
            documents: sharded.then_some(volume.documents),
            source: Source::Plan(Arc::new(plan)),
        });
        members = volume.members;
    }
    Ok(assets)
}
