//! `adit storage sweep`: frees what the database does not name, while servers and imports go on.
//!
//! The store is listed before the database is asked for anything, and only what was listed is ever
//! freed. A package's row is there before its objects: so what has no row then has lost it. Packs
//! and indexes are there before their rows: they are looked at under the lease of their collection.
//! Whoever wrote one before the list was made has then either committed it, and the database names
//! it, or has lost the lease, and never can.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use adit_shared::config::Config;
use adit_shared::domain::{Collection, Content, Package};
use adit_shared::ids::{CollectionId, PackageId};
use adit_shared::objects::{KeyOwner, ObjectError, ObjectKey, ObjectResult, Upload};
use adit_shared::search::{KEPT_INDEXES, SearchError, sweep_scratch};
use adit_shared::store::{ImportLease, StoreError};
use anyhow::Context as _;

use super::swept::{Kind, Swept};
use super::{lock_storage, repack};
use crate::change::{self, TRY_LATER};
use crate::data_folder::secure_data_folder;
use crate::services::Services;
use crate::store_mark;
use crate::terminal::{errln, outln, print_json};

/// Objects that are deleted at once.
const BATCH: usize = 1000;

/// Carries out `adit storage sweep`. The exit status is 75 where a collection was left out because
/// it is being changed, and 1 where something could not be looked at.
pub(super) async fn run(config: &Config, dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    secure_data_folder(config)?;
    let _alone = lock_storage(config)?;
    let mut swept = Swept { dry_run, ..Swept::default() };
    // Each start of a process removes them too, and so does the opening of the services here.
    let (cache, folders) = (config.data.join("cache"), tokio::task::spawn_blocking);
    let (count, bytes) = folders(move || sweep_scratch(&cache)).await?.context("cannot sweep the search cache")?;
    swept.add(Kind::Scratch, count, bytes);
    sweep(&Services::open(config).await?, &mut swept).await?;
    if json {
        print_json(&swept.report())?;
    } else {
        swept.lines().iter().for_each(|line| outln!("{line}"));
    }
    swept.warnings().iter().for_each(|line| errln!("adit: {line}"));
    Ok(match (swept.problems.is_empty(), swept.busy.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(TRY_LATER),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Objects and uploads of one owner, as listed before the database was asked.
#[derive(Debug, Default)]
struct Listed {
    objects: Vec<(String, u64)>,
    uploads: Vec<Upload>,
}

/// Frees what nothing names.
async fn sweep(services: &Services, swept: &mut Swept) -> anyhow::Result<()> {
    let (objects, store) = (&*services.objects, &*services.store);
    store_mark::claim(objects, store).await.context("nothing was freed")?;
    let mut owners = list(services).await?;
    let (mut packages, mut collections) = (Vec::new(), BTreeMap::new());
    while let Some((owner, listed)) = owners.pop_first() {
        match owner {
            // Below zero are those that other servers have packagers build; no database knows them.
            KeyOwner::Package(package) if package.0 < 0 => {}
            KeyOwner::Package(package) => packages.push((package, listed)),
            KeyOwner::Collection(collection) => drop(collections.insert(collection, listed)),
        }
    }
    for (package, listed) in packages {
        sweep_package(services, package, listed, swept).await?;
    }
    for collection in store.collections().await? {
        let listed = collections.remove(&collection.id).unwrap_or_default();
        match sweep_collection(services, &collection, listed, swept).await {
            Err(error) if change::is_another_running(&error) => swept.busy.push(collection.slug),
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::ImportOvertaken)) => {
                swept.busy.push(collection.slug);
            }
            swept => swept?,
        }
    }
    for listed in collections.into_values() {
        let (packs, indexes) = listed.objects.into_iter().partition(|(key, _)| is_pack(key));
        free(services, Kind::Pack, packs, swept).await?;
        free(services, Kind::Index, indexes, swept).await?;
        give_up(services, listed.uploads, swept).await?;
    }
    let (count, bytes) = objects.sweep_temporary(swept.dry_run).await?;
    swept.add(Kind::Temporary, count, bytes);
    Ok(())
}

/// Lists the store by owner. What belongs to nobody is not Adit's.
async fn list(services: &Services) -> ObjectResult<BTreeMap<KeyOwner, Listed>> {
    let mut owners = BTreeMap::<KeyOwner, Listed>::new();
    for folder in ObjectKey::FOLDERS {
        for (key, size) in services.objects.list(folder).await? {
            if let Some(owner) = ObjectKey::owner_of(&key) {
                owners.entry(owner).or_default().objects.push((key, size));
            }
        }
        for upload in services.objects.list_uploads(folder).await? {
            if let Some(owner) = ObjectKey::owner_of(&upload.key) {
                owners.entry(owner).or_default().uploads.push(upload);
            }
        }
    }
    Ok(owners)
}

/// Frees what a package's row does not name; all of it where there is no row, or no more to come of
/// it.
async fn sweep_package(services: &Services, id: PackageId, listed: Listed, swept: &mut Swept) -> anyhow::Result<()> {
    let package = services.store.package(id, None).await?;
    let is_built = |package: &Package| !package.status.is_terminal();
    let package = package.filter(|package| is_built(package) || package.content == Content::Available);
    let is_named = |key: &str| package.as_ref().is_some_and(|package| is_object_of(package, key));
    let uploads = listed.uploads.into_iter();
    let uploads = uploads.filter(|upload| !(is_named(&upload.key) && package.as_ref().is_some_and(is_built)));
    give_up(services, uploads.collect(), swept).await?;
    let (states, others): (Vec<_>, Vec<_>) =
        listed.objects.into_iter().filter(|(key, _)| !is_named(key)).partition(|(key, _)| key.ends_with(".json"));
    // The state knows of the others, should this be cut off in between.
    free(services, Kind::Package, others, swept).await?;
    free(services, Kind::Package, states, swept).await
}

/// Tells whether a package of that row consists of the object, or is built with it.
fn is_object_of(package: &Package, key: &str) -> bool {
    let (salted, fingerprint) = (package.salted(), &package.fingerprint);
    let extension = package.recipe.layout.extension();
    let assets = ObjectKey::Asset { package: salted, fingerprint, name: "" }.to_string();
    key == ObjectKey::Build { package: salted }.to_string()
        || key == ObjectKey::Archive { package: salted, fingerprint, extension }.to_string()
        || key.starts_with(&assets)
}

/// Frees what neither the rows nor the newest indexes of a collection name.
async fn sweep_collection(
    services: &Services,
    collection: &Collection,
    listed: Listed,
    swept: &mut Swept,
) -> anyhow::Result<()> {
    let id = collection.id;
    change::carry_out_between(services, &collection.slug, async |lease: &ImportLease| {
        let (packs, indexes): (Vec<_>, Vec<_>) = listed.objects.into_iter().partition(|(key, _)| is_pack(key));
        let known = services.store.pack_keys(id).await?;
        give_up(services, listed.uploads, swept).await?;
        let (known, unknown): (Vec<_>, Vec<_>) = packs.into_iter().partition(|(key, _)| known.contains(key));
        free(services, Kind::Pack, unknown, swept).await?;
        repack::repack(services, collection, lease, &known.into_iter().collect(), swept).await?;
        match needed_index_objects(services, id).await {
            Ok(Some(needed)) => {
                let old = indexes.into_iter().filter(|(key, _)| !needed.contains(key));
                free(services, Kind::Index, old.collect(), swept).await?;
            }
            Ok(None) => {}
            Err(error @ (SearchError::VersionGone(_) | SearchError::Damaged { .. })) => {
                let slug = &collection.slug;
                let advice =
                    format!("{slug}: its old indexes are left: {error}; `adit reindex {slug}` makes the index anew");
                swept.problems.push(advice);
            }
            Err(error) => return Err(error.into()),
        }
        if !swept.dry_run {
            change::drop_old_indexes(services, id).await;
        }
        Ok(())
    })
    .await
}

/// Lists the keys that the newest indexes of a collection consist of; `None` where its engine keeps
/// them itself.
async fn needed_index_objects(
    services: &Services,
    collection: CollectionId,
) -> Result<Option<HashSet<String>>, SearchError> {
    let kept = services.store.indexes(collection, KEPT_INDEXES).await;
    let kept = kept.map_err(|error| SearchError::Index(error.to_string()))?;
    let newest = kept.iter().map(|index| index.corpus_version).max();
    let mut needed = HashSet::new();
    for index in kept {
        match services.search.objects_of(index).await {
            Ok(Some(keys)) => needed.extend(keys),
            Ok(None) => return Ok(None),
            // Only the newest must be there.
            Err(SearchError::VersionGone(version)) if Some(version) < newest => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(needed))
}

fn is_pack(key: &str) -> bool {
    key.starts_with(ObjectKey::FOLDERS[1])
}

/// Deletes objects and counts them.
async fn free(services: &Services, kind: Kind, listed: Vec<(String, u64)>, swept: &mut Swept) -> anyhow::Result<()> {
    for batch in listed.chunks(BATCH) {
        if !swept.dry_run {
            let keys: Vec<String> = batch.iter().map(|(key, _)| key.clone()).collect();
            services.objects.delete(&keys).await?;
        }
        swept.add(kind, batch.len() as u64, batch.iter().map(|(_, size)| size).sum());
    }
    Ok(())
}

/// Gives unfinished uploads up and counts them.
async fn give_up(services: &Services, uploads: Vec<Upload>, swept: &mut Swept) -> anyhow::Result<()> {
    for upload in uploads {
        let bytes = match services.objects.parts(&upload).await {
            Err(ObjectError::NotFound(_)) => continue,
            parts => parts?.iter().map(|part| part.size).sum(),
        };
        if !swept.dry_run {
            services.objects.abort_upload(&upload).await?;
        }
        swept.add(Kind::Upload, 1, bytes);
    }
    Ok(())
}
