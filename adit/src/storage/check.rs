//! `adit storage check`: compares the object store with what the database names. Changes nothing.
//!
//! Every object is looked for, with its length. Of the files, a sample is read and compared with
//! its SHA-256, or all of them. Servers and imports may go on meanwhile: what they make is either
//! seen whole or not at all, and what they take away is asked for once more before it counts as
//! missing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use adit_shared::config::Config;
use adit_shared::domain::{Collection, FileRecord};
use adit_shared::integrity::{FileDamage, FileFault, prove_file};
use adit_shared::messaging::find_journal_damage;
use adit_shared::objects::{ObjectKey, ObjectResult, ObjectStore};
use adit_shared::search::{IndexDamage, SearchError};
use adit_shared::store::Member;
use anyhow::Context as _;
use futures::TryStreamExt as _;
use tokio::task::JoinHandle;

use super::findings::{DamagedFile, DamagedObject, Findings, Part};
use super::packages;
use crate::change;
use crate::embedded_broker::journal_folder;
use crate::services::Services;

/// Documents of a collection of which every file is read where not all are.
const SAMPLE: u64 = 1000;
/// Files that are read at once.
const READS: usize = 16;

/// Looks at everything that the database names.
pub(super) async fn check(config: &Config, services: &Services, full: bool) -> anyhow::Result<Findings> {
    let mut findings = Findings { full, ..Findings::default() };
    for collection in services.store.collections().await? {
        check_files(services, &collection, &mut findings).await?;
        check_index(services, &collection, &mut findings).await?;
    }
    packages::check(services, &mut findings).await?;
    findings.damaged_journal = journal_damage(config).await?;
    Ok(findings)
}

/// Tells what is wrong with the journal of the embedded broker, where the data folder has one.
async fn journal_damage(config: &Config) -> anyhow::Result<Option<String>> {
    let folder = journal_folder(config);
    let looking = tokio::task::spawn_blocking(move || find_journal_damage(&folder));
    looking.await?.context("cannot read the broker's journal in the data folder")
}

/// A file whose bytes are being read.
type Proof = JoinHandle<anyhow::Result<Option<DamagedFile>>>;

async fn check_files(services: &Services, collection: &Collection, findings: &mut Findings) -> anyhow::Result<()> {
    let objects = &services.objects;
    let ids = services.store.stored_versions(collection.id).await?;
    let share = if findings.full { 1.0 } else { SAMPLE as f64 / ids.len().max(1) as f64 };
    let bar = change::progress_bar(ids.len());
    let (mut packs, mut proofs) = (Packs::default(), VecDeque::<Proof>::new());
    let mut members = services.store.members(&ids, None, None);
    while let Some(member) = members.try_next().await? {
        let is_read = share >= 1.0 || rand::random_bool(share);
        for file in &member.files {
            findings.files += 1;
            match packs.look_for(&**objects, file).await? {
                Err(damage) => findings.damaged_files.push(damaged(collection, &member, file, &damage)),
                Ok(()) if is_read => {
                    findings.files_read += 1;
                    proofs.push_back(begin_proof(objects, collection, &member, file));
                }
                Ok(()) => {}
            }
        }
        while proofs.len() > READS {
            findings.damaged_files.extend(next_verdict(&mut proofs).await?);
        }
        bar.inc(1);
        findings.documents += 1;
    }
    while !proofs.is_empty() {
        findings.damaged_files.extend(next_verdict(&mut proofs).await?);
    }
    bar.finish_and_clear();
    findings.packs += packs.seen.len() as u64;
    findings.damaged_files.sort_by(|a, b| (&a.collection, a.document).cmp(&(&b.collection, b.document)));
    findings.damaged_objects.extend(packs.too_long(&collection.slug));
    Ok(())
}

fn damaged(collection: &Collection, member: &Member, file: &FileRecord, damage: &FileDamage) -> DamagedFile {
    DamagedFile {
        collection: collection.slug.clone(),
        document: member.id,
        r#ref: member.r#ref.clone(),
        file: file.clone(),
        reason: damage.to_string(),
    }
}

fn begin_proof(objects: &Arc<dyn ObjectStore>, collection: &Collection, member: &Member, file: &FileRecord) -> Proof {
    let objects = Arc::clone(objects);
    // Of most files nothing is wrong, and the reason is known when something is.
    let mut found = damaged(collection, member, file, &FileDamage::Unreadable);
    tokio::spawn(async move {
        let damage = match prove_file(&*objects, &found.file, |_| ()).await {
            Ok(()) => return Ok(None),
            Err(FileFault::Damaged(damage)) => damage,
            // A disk that cannot read one place still tells the length; a store that is away does not.
            Err(FileFault::Store(error)) => match objects.size(&found.file.place.object).await {
                Ok(_) => FileDamage::Unreadable,
                Err(_) => return Err(error.into()),
            },
        };
        found.reason = damage.to_string();
        Ok(Some(found))
    })
}

async fn next_verdict(proofs: &mut VecDeque<Proof>) -> anyhow::Result<Option<DamagedFile>> {
    let Some(proof) = proofs.pop_front() else { return Ok(None) };
    proof.await.context("reading a file broke down")?
}

/// The packs that were met.
#[derive(Debug, Default)]
struct Packs {
    seen: HashMap<String, SeenPack>,
}

#[derive(Debug)]
struct SeenPack {
    /// In bytes; `None` where it is not there.
    size: Option<u64>,
    /// Where the last of its files ends.
    end: u64,
}

impl Packs {
    /// Tells whether the object has room for the file.
    async fn look_for(&mut self, objects: &dyn ObjectStore, file: &FileRecord) -> ObjectResult<Result<(), FileDamage>> {
        let place = &file.place;
        if !self.seen.contains_key(&place.object) {
            let size = objects.size(&place.object).await?;
            self.seen.insert(place.object.clone(), SeenPack { size, end: 0 });
        }
        let end = place.offset + place.stored;
        let Some(pack) = self.seen.get_mut(&place.object) else { return Ok(Err(FileDamage::ObjectMissing)) };
        pack.end = pack.end.max(end);
        Ok(match pack.size {
            None => Err(FileDamage::ObjectMissing),
            Some(size) if size < end => Err(FileDamage::ObjectTooShort),
            Some(_) => Ok(()),
        })
    }

    /// Those that hold more than their files: not what an import has written.
    fn too_long(self, slug: &str) -> Vec<DamagedObject> {
        let too_long = |(object, pack): (String, SeenPack)| {
            let more = pack.size?.checked_sub(pack.end).filter(|more| *more > 0)?;
            let reason = format!("it has {more} bytes more than its files");
            Some(DamagedObject { collection: slug.to_owned(), part: Part::Pack, object, reason })
        };
        self.seen.into_iter().filter_map(too_long).collect()
    }
}

async fn check_index(services: &Services, collection: &Collection, findings: &mut Findings) -> anyhow::Result<()> {
    let mut index = collection.index();
    let damages = loop {
        if index.corpus_version == 0 {
            return Ok(());
        }
        let damages = match services.search.check(index, findings.full).await {
            Err(SearchError::VersionGone(_)) => {
                let object = ObjectKey::IndexManifest(index).to_string();
                vec![IndexDamage { object, reason: "it is not there".to_owned() }]
            }
            damages => damages?,
        };
        let now = services.store.collection_by_id(collection.id).await?.context("the collection is gone")?;
        // An import may have put a newer one in its place, and taken this one away.
        if damages.is_empty() || now.index() == index {
            break damages;
        }
        index = now.index();
    };
    let damaged = |IndexDamage { object, reason }| DamagedObject {
        collection: collection.slug.clone(),
        part: Part::Index,
        object,
        reason,
    };
    findings.damaged_objects.extend(damages.into_iter().map(damaged));
    Ok(())
}
