//! Frees packs of which nothing or little is needed.
//!
//! The files of a pack that are still needed are copied, byte by byte and proved, into new packs;
//! then their places change in the database, and then the old pack goes. Whoever has read an old
//! place a moment before finds no object there, and asks the database once more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Seek as _, Write as _};

use adit_shared::domain::{Collection, FileRecord, Format, Place};
use adit_shared::ids::VersionId;
use adit_shared::integrity::{FileFault, prove_file};
use adit_shared::search::KEPT_INDEXES;
use adit_shared::store::{FileMove, ImportLease, PackUsage};
use futures::TryStreamExt as _;

use super::swept::{Kind, Swept};
use crate::import::{Packs, Payload};
use crate::services::Services;

/// Packs that are repacked at a time: what is remembered of their files is in memory.
const GROUP: usize = 8;
/// Places that change in one transaction.
const MOVES: usize = 1000;
/// A longer file is not held in memory while it is copied, but in a temporary file.
const IN_MEMORY: u64 = 1024 * 1024;

/// Frees the files of old versions of a collection, and the packs that are not worth their room
/// after that. `sizes` has the packs that are looked at.
pub(super) async fn repack(
    services: &Services,
    collection: &Collection,
    lease: &ImportLease,
    sizes: &HashMap<String, u64>,
    swept: &mut Swept,
) -> anyhow::Result<()> {
    let store = &services.store;
    let kept = store.indexes(collection.id, KEPT_INDEXES).await?;
    // In the versions whose indexes are kept, searches go on: their hits have texts and snippets.
    let Some(oldest) = kept.iter().map(|index| index.corpus_version).min() else { return Ok(()) };
    let versions = store.free_old_versions(lease, oldest, swept.dry_run).await?;
    swept.add(Kind::Version, versions, 0);
    let usage = store.pack_usage(collection.id).await?;
    let unneeded: Vec<&PackUsage> = usage.iter().filter(|pack| pack.files == 0).collect();
    let mostly_dead = |pack: &&PackUsage| {
        let size = sizes.get(&pack.name).copied().unwrap_or(0);
        pack.files > 0 && size.saturating_sub(pack.bytes) > size / 10
    };
    let thinned: Vec<&PackUsage> = usage.iter().filter(mostly_dead).collect();
    if swept.dry_run {
        for pack in unneeded.into_iter().chain(thinned) {
            swept.add(Kind::Pack, 1, sizes.get(&pack.name).map_or(0, |size| size.saturating_sub(pack.bytes)));
        }
        return Ok(());
    }
    drop_packs(services, lease, &unneeded, sizes, swept).await?;
    // One for all groups: it counts the packs that it makes, and the number is a part of their keys.
    let mut new = Packs::new(services.objects.clone(), *lease);
    for group in thinned.chunks(GROUP) {
        let damaged = match copy_needed_files(services, lease, group, &mut new).await {
            Ok(damaged) => damaged,
            Err(error) => {
                abandon(services, lease, new).await;
                return Err(error);
            }
        };
        for reason in &damaged {
            swept.problems.push(format!("{}: {reason}; run `adit storage repair`, then sweep again", collection.slug));
        }
        drop_packs(services, lease, group, sizes, swept).await?;
    }
    Ok(())
}

/// Deletes those of some packs in which no file lies any more.
async fn drop_packs(
    services: &Services,
    lease: &ImportLease,
    packs: &[&PackUsage],
    sizes: &HashMap<String, u64>,
    swept: &mut Swept,
) -> anyhow::Result<()> {
    let names: Vec<String> = packs.iter().map(|pack| pack.name.clone()).collect();
    let gone = services.store.drop_packs(lease, &names).await?;
    services.objects.delete(&gone).await?;
    for pack in packs.iter().filter(|pack| gone.contains(&pack.name)) {
        swept.add(Kind::Pack, 1, sizes.get(&pack.name).map_or(0, |size| size.saturating_sub(pack.bytes)));
    }
    Ok(())
}

/// The files of some packs by their places, in the order of the packs, each with the versions that
/// have it.
type Files = BTreeMap<(usize, u64), (FileRecord, Vec<(VersionId, Format)>)>;

/// Copies the needed files of some packs into new ones, and changes their places. A pack with a
/// damaged file stays as it is, and is named.
async fn copy_needed_files(
    services: &Services,
    lease: &ImportLease,
    packs: &[&PackUsage],
    new: &mut Packs,
) -> anyhow::Result<Vec<String>> {
    let files = find_files(services, packs).await?;
    let (moves, damages) = append_all(services, &files, new).await?;
    new.finish().await?;
    for moves in moves.chunks(MOVES) {
        services.store.move_files(lease, moves).await?;
    }
    Ok(damages)
}

/// Removes those of the new packs that no file was moved to.
async fn abandon(services: &Services, lease: &ImportLease, new: Packs) {
    let known = services.store.pack_keys(lease.collection()).await;
    if let Err(error) = new.abandon(known.as_ref().ok()).await {
        tracing::warn!("what was written of a new pack could not be removed; the next sweep does: {error:#}");
    }
}

async fn find_files(services: &Services, packs: &[&PackUsage]) -> anyhow::Result<Files> {
    let names: Vec<String> = packs.iter().map(|pack| pack.name.clone()).collect();
    let ids = services.store.documents_in_packs(&names).await?;
    let order: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut files = Files::new();
    let mut members = services.store.members(&ids, None, None);
    while let Some(member) = members.try_next().await? {
        for file in member.files {
            let Some(pack) = order.get(file.place.object.as_str()) else { continue };
            let of = (member.id, file.format.clone());
            files.entry((*pack, file.place.offset)).or_insert_with(|| (file, Vec::new())).1.push(of);
        }
    }
    Ok(files)
}

/// Appends all files to new packs; gives the moves that follow, and what is damaged.
async fn append_all(
    services: &Services,
    files: &Files,
    new: &mut Packs,
) -> anyhow::Result<(Vec<FileMove>, Vec<String>)> {
    let (mut moves, mut damages, mut damaged) = (Vec::new(), Vec::new(), HashSet::new());
    for (file, versions) in files.values() {
        let object = &file.place.object;
        if damaged.contains(object) {
            continue;
        }
        let payload = match read_stored_file(services, file).await? {
            Ok(payload) => payload,
            Err(reason) => {
                damages.push(format!("{object} is not repacked: {reason}"));
                damaged.insert(object.clone());
                continue;
            }
        };
        let to = new.append(&file.format, payload).await?;
        let moved = |(document, format): &(VersionId, Format)| {
            let (from, to): (Place, Place) = (file.place.clone(), to.clone());
            FileMove { document: *document, format: format.clone(), from, to }
        };
        moves.extend(versions.iter().map(moved));
    }
    moves.retain(|moved| !damaged.contains(&moved.from.object));
    Ok((moves, damages))
}

/// Reads a file as it is stored, proved to be what was imported; or says why not.
async fn read_stored_file(services: &Services, file: &FileRecord) -> anyhow::Result<Result<Payload, String>> {
    let (mut bytes, mut written) = (Vec::new(), Ok(()));
    let mut spool = if file.place.stored > IN_MEMORY { Some(tempfile::tempfile()?) } else { None };
    let proved = prove_file(&*services.objects, file, |chunk| match &mut spool {
        None => bytes.extend_from_slice(chunk),
        Some(spool) if written.is_ok() => written = spool.write_all(chunk),
        Some(_) => {}
    });
    match proved.await {
        Ok(()) => {}
        Err(FileFault::Damaged(damage)) => return Ok(Err(damage.to_string())),
        Err(FileFault::Store(error)) => return Err(error.into()),
    }
    written?;
    let Some(mut spool) = spool else { return Ok(Ok(Payload::Memory(bytes.into()))) };
    spool.rewind()?;
    Ok(Ok(Payload::File(spool)))
}
