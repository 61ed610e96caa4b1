//! What a package comes to, added up member by member: the counts that describe it, the lists of a bag, and how its entries are divided
//! into archives. The plan and the estimate both come from here, so they cannot disagree.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Access, Clearance, Encoding, FileRecord, Format, Layout, META, Omission, Recipe};
use bytes::Bytes;

use super::lists::{Counted, List, Text, Written};
use crate::bag;
use crate::describe::{self, Description, Documents, FormatSummary, Payload, Table, lines};
use crate::manifest::{GZIP_HEADER, GZIP_TRAILER, Member, Tombstone};
use crate::stream::tar_entry_len;
use crate::zip;

/// Bytes of content in a table's shard where the request says nothing: some 80 MiB of text when it is compressed, one download that can be
/// read while the next comes; and of a corpus that people train on still some hundred, so that as many readers have work.
const DEFAULT_SHARD_BYTES: u64 = 256 << 20;

/// Path of a file below the archive's folder.
pub(crate) fn path(layout: Layout, name: &str, format: &Format) -> String {
    let payload = if layout == Layout::Flat { "" } else { bag::PAYLOAD };
    format!("{payload}{name}.{}", format.extension())
}

/// Length in bytes of a file's data in a ZIP archive: a gzip member without what is before and behind its deflate stream.
pub(crate) fn packed(file: &FileRecord) -> u64 {
    match file.encoding {
        Encoding::Identity => file.place.stored,
        Encoding::Gzip => file.place.stored.saturating_sub(GZIP_HEADER + GZIP_TRAILER),
    }
}

/// Bytes of a stored file that come before its data in the archive.
pub(crate) fn before(encoding: Encoding) -> u64 {
    match encoding {
        Encoding::Identity => 0,
        Encoding::Gzip => GZIP_HEADER,
    }
}

/// Entries that stand in one archive.
#[derive(Debug, Clone, Default)]
pub(super) struct Volume {
    /// Their number.
    pub(super) entries: u64,
    /// Documents that they are of.
    pub(super) documents: u64,
    /// The docset's members up to the last of them.
    pub(super) members: u64,
    /// Length of their local headers and data; of a tar archive, of their content.
    pub(super) data: u64,
    /// Length of what the central directory says of them; of a tar archive, of headers and padding.
    pub(super) directory: u64,
    /// Their records' places in the spool.
    pub(super) records: Range<u64>,
}

/// The lists of a bag.
#[derive(Debug)]
struct Lists<L> {
    manifest: L,
    rights: L,
    omitted: L,
    fetch: L,
    tombstones: L,
}

impl<L: List> Lists<L> {
    fn new(marked: bool) -> io::Result<Self> {
        let mut rights = L::new()?;
        rights.push(lines::rights_header(marked).as_bytes())?;
        Ok(Self { manifest: L::new()?, rights, omitted: L::new()?, fetch: L::new()?, tombstones: L::new()? })
    }
}

/// A file that is to stand in the archive.
pub(super) struct Carried<'a> {
    pub(super) file: &'a FileRecord,
    pub(super) path: String,
    /// Where its local header stands.
    pub(super) offset: u64,
}

/// Adds a package up.
#[derive(Debug)]
pub(super) struct Sum<L> {
    pub(super) recipe: Recipe,
    pub(super) about: Option<About>,
    /// Whether members may be withheld, or not open.
    pub(super) marked: bool,
    /// Who they are.
    pub(super) clearance: Clearance,
    /// Length of the archive's folder.
    folder: usize,
    lists: Option<Lists<L>>,
    pub(super) documents: Documents,
    formats: BTreeMap<Format, FormatSummary>,
    pub(super) payload: Payload,
    volumes: Vec<Volume>,
    volume: Volume,
    line: Vec<u8>,
}

impl<L: List> Sum<L> {
    pub(super) fn new(recipe: &Recipe, about: Option<&About>, marked: bool) -> io::Result<Self> {
        let layout = recipe.layout;
        Ok(Self {
            recipe: recipe.clone(),
            about: about.filter(|_| layout.is_described()).cloned(),
            marked,
            clearance: Clearance::default(),
            // Of any package, for the length alone: who estimates has no fingerprint.
            folder: folder(layout, &Sha256([0; 32])).len(),
            lists: if layout.is_described() { Some(Lists::new(marked)?) } else { None },
            documents: Documents::default(),
            formats: BTreeMap::new(),
            payload: Payload { files: 0, bytes: 0 },
            volumes: Vec::new(),
            volume: Volume::default(),
            line: Vec::new(),
        })
    }

    /// Adds a member; members come in the order of their ids and files in that of their formats. `records` is where the spool's next record
    /// will stand. Each file that the archive carries is given to `each`. Sums stop at `u64::MAX`.
    pub(super) fn add(
        &mut self,
        member: &Member,
        mut records: u64,
        mut each: impl FnMut(Carried<'_>) -> io::Result<u64>,
    ) -> io::Result<()> {
        self.documents.requested += 1;
        self.clearance.note(member.id, member.omitted, member.access.as_ref().and_then(Access::entitlement));
        if member.files.is_empty() {
            return self.omit(member);
        }
        self.documents.included += 1;
        let layout = self.recipe.layout;
        self.close_when_full(member, records);
        self.volume.documents += 1;
        for file in &member.files {
            self.count(file);
            let path = path(layout, &member.name, &file.format);
            self.list(member, file, &path)?;
            if self.carries(member, file) {
                let offset = self.enter(&path, file);
                records = each(Carried { file, path, offset })?;
            }
        }
        self.volume.records.end = records;
        Ok(())
    }

    /// Notes files that the base of a delta has and the docset has not.
    pub(super) fn bury(&mut self, gone: &Tombstone) -> io::Result<()> {
        let layout = self.recipe.layout;
        let Some(lists) = &mut self.lists else { return Ok(()) };
        for format in &gone.formats {
            lists.tombstones.push(&lines::tombstone(&path(layout, &gone.gone, format))?)?;
        }
        Ok(())
    }

    fn omit(&mut self, member: &Member) -> io::Result<()> {
        let reason = member.omitted.unwrap_or(Omission::Format);
        self.documents.omitted += 1;
        self.documents.rights += u64::from(reason == Omission::Rights);
        self.documents.withdrawn += u64::from(reason == Omission::Withdrawn);
        let Some(lists) = &mut self.lists else { return Ok(()) };
        lists.omitted.push(&lines::omitted(member.id, &member.r#ref, self.marked.then_some(reason))?)
    }

    /// Whether a file's content stands in the archive.
    fn carries(&self, member: &Member, file: &FileRecord) -> bool {
        let options = &self.recipe.options;
        !(options.dehydrated || options.delta_from.is_some() && member.unchanged.contains(&file.format))
    }

    fn count(&mut self, file: &FileRecord) {
        self.payload.files += 1;
        self.payload.bytes = self.payload.bytes.saturating_add(file.size);
        if self.lists.is_none() {
            return;
        }
        let summary = self.formats.entry(file.format.clone()).or_insert_with(|| empty(&file.format));
        summary.documents += 1;
        summary.bytes = summary.bytes.saturating_add(file.size);
        if let Err(at) = summary.media_types.binary_search(&file.media_type) {
            summary.media_types.insert(at, file.media_type.clone());
        }
    }

    /// Writes a file's lines of the lists. Of tables, the lists are of the shards.
    fn list(&mut self, member: &Member, file: &FileRecord, path: &str) -> io::Result<()> {
        if self.recipe.layout.is_tabular() {
            return Ok(());
        }
        let carried = self.carries(member, file);
        let (Some(lists), line) = (&mut self.lists, &mut self.line) else { return Ok(()) };
        line.clear();
        bag::write_manifest_line(line, &file.sha256, path);
        lists.manifest.push(line)?;
        let about = self.about.as_ref();
        line.clear();
        let license = member.license.as_deref().or_else(|| about?.license.as_deref());
        let access = if file.format.as_str() == META { None } else { member.access.as_ref() };
        lines::write_rights(line, path, license, self.marked.then_some(access.unwrap_or(&Access::Open)));
        lists.rights.push(line)?;
        if !carried {
            let base = about.map_or("", |about| about.url.as_str());
            line.clear();
            lines::write_fetch(line, &format!("{base}/documents/{}/files/{}", member.id, file.format), file.size, path);
            lists.fetch.push(line)?;
        }
        Ok(())
    }

    /// Gives a file its place; returns where its local header stands.
    fn enter(&mut self, path: &str, file: &FileRecord) -> u64 {
        let (volume, length) = (&mut self.volume, self.folder + path.len());
        let offset = volume.data;
        let (data, directory) = match self.recipe.layout {
            Layout::Flat | Layout::Bag => {
                let packed = packed(file);
                (
                    zip::local_len(length, file.size, packed).saturating_add(packed),
                    zip::central_len(length, file.size, packed, offset),
                )
            }
            Layout::TarZst => (
                file.size,
                tar_entry_len(&format!("{:1$}{path}", "", self.folder), file.size).saturating_sub(file.size),
            ),
            Layout::Jsonl | Layout::Parquet => (file.size, 0),
        };
        volume.entries += 1;
        volume.data = volume.data.saturating_add(data);
        volume.directory = volume.directory.saturating_add(directory);
        offset
    }

    /// Goes on to the next shard where the member would make this one too long. A document's files are not torn apart.
    fn close_when_full(&mut self, member: &Member, records: u64) {
        let default = self.recipe.layout.is_tabular().then_some(DEFAULT_SHARD_BYTES);
        let Some(limit) = self.recipe.options.shard_bytes.or(default) else { return };
        let before = self.volume.clone();
        for file in &member.files {
            let path = path(self.recipe.layout, &member.name, &file.format);
            self.enter(&path, file);
        }
        let full = self.volume.data.saturating_add(self.volume.directory) > limit;
        self.volume = before;
        if full && self.volume.entries > 0 {
            self.volume.members = self.documents.requested - 1;
            let next = Volume { records: records..records, ..Volume::default() };
            self.volumes.push(std::mem::replace(&mut self.volume, next));
        }
    }

    /// The archives' entries; one archive at least, however empty.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let last = Volume { members: self.documents.requested, ..self.volume.clone() };
        self.volumes.iter().cloned().chain([last]).collect()
    }

    /// What the package says of itself; `whole` as [`Recipe::whole`] tells.
    pub(super) fn description(&self, whole: Sha256, docset: Sha256, table: Option<Table>) -> Option<Description> {
        let about = self.about.clone()?;
        let summary = |format: &Format| self.formats.get(format).cloned().unwrap_or_else(|| empty(format));
        Some(Description {
            package: whole,
            docset,
            layout: self.recipe.layout.as_str(),
            about,
            documents: self.documents,
            marked: self.marked,
            formats: self.recipe.formats.iter().map(summary).collect(),
            payload: self.payload,
            table,
        })
    }
}

fn empty(format: &Format) -> FormatSummary {
    FormatSummary { format: format.clone(), documents: 0, bytes: 0, media_types: Vec::new() }
}

/// What every path in the archive of a package begins with; its length depends on the layout alone.
pub(crate) fn folder(layout: Layout, whole: &Sha256) -> String {
    match layout {
        Layout::Flat => String::new(),
        Layout::Bag | Layout::TarZst | Layout::Jsonl | Layout::Parquet => bag::bag_folder(whole) + "/",
    }
}

/// The lists of a bag, as texts.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) manifest: Text,
    pub(super) rights: Option<Text>,
    pub(super) omitted: Text,
    pub(super) fetch: Option<Text>,
    pub(super) tombstones: Option<Text>,
}

impl Sum<Written> {
    /// Ends the lists.
    pub(super) fn take_lists(&mut self) -> io::Result<Option<Listed>> {
        let Some(lists) = self.lists.take() else { return Ok(None) };
        let Lists { manifest, rights, omitted, fetch, tombstones } = lists;
        let options = &self.recipe.options;
        let fetches = options.dehydrated || options.delta_from.is_some();
        Ok(Some(Listed {
            manifest: manifest.finish()?,
            rights: if self.recipe.layout.is_tabular() { None } else { Some(rights.finish()?) },
            omitted: omitted.finish()?,
            fetch: if fetches { Some(fetch.finish()?) } else { None },
            tombstones: if options.delta_from.is_some() { Some(tombstones.finish()?) } else { None },
        }))
    }
}

impl Sum<Counted> {
    /// The lists as far as they are known: by their length.
    pub(super) fn counted_lists(&self) -> Option<Listed> {
        let lists = self.lists.as_ref()?;
        let options = &self.recipe.options;
        let text = |list: &Counted| Text::unknown(list.len());
        let fetches = options.dehydrated || options.delta_from.is_some();
        Some(Listed {
            manifest: text(&lists.manifest),
            rights: (!self.recipe.layout.is_tabular()).then(|| text(&lists.rights)),
            omitted: text(&lists.omitted),
            fetch: fetches.then(|| text(&lists.fetch)),
            tombstones: options.delta_from.map(|_| text(&lists.tombstones)),
        })
    }
}

/// The tag files of a bag, in the order in which they stand in its archive.
pub(super) fn tags(lists: Listed, description: &Description) -> Vec<(&'static str, Text)> {
    let Listed { manifest, rights, omitted, fetch, tombstones } = lists;
    let mut tags = vec![(bag::DECLARATION, Text::of(Bytes::from_static(bag::DECLARATION_TEXT.as_bytes())))];
    tags.push((bag::MANIFEST, manifest));
    tags.extend(describe::texts(description).into_iter().map(|(name, text)| (name, Text::of(text))));
    tags.extend(rights.map(|rights| (describe::RIGHTS, rights)));
    tags.push((describe::OMITTED, omitted));
    let mut listing = Vec::new();
    for (name, text) in &tags {
        bag::write_manifest_line(&mut listing, &text.sha256, name);
    }
    tags.push((bag::TAG_MANIFEST, Text::of(listing)));
    // What is to be fetched, and what is gone, is said of this archive and not of the bag: without these two it is the whole bag's.
    tags.extend(fetch.map(|fetch| (describe::FETCH, fetch)));
    tags.extend(tombstones.map(|tombstones| (describe::TOMBSTONES, tombstones)));
    tags
}
