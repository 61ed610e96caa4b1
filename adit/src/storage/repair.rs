//! `adit storage repair [FOLDER]`: heals what a check finds.
//!
//! A file is healed by bytes that are proved to be those that were imported, and nothing else of its pack is
//! changed: so places, packages and fingerprints stay as they are. What has no good copy stays as it is, and
//! is found again by the check at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use adit_shared::config::Config;
use adit_shared::messaging::repair_journal;
use adit_shared::objects::ObjectKey;
use anyhow::Context as _;

use super::check;
use super::findings::{DamagedFile, DamagedPackage, Findings, Part};
use super::rewrite;
use super::sources::Sources;
use crate::embedded_broker::journal_folder;
use crate::reindex;
use crate::services::Services;
use crate::terminal::errln;

/// Heals everything that can be healed; gives what is wrong after that.
pub(super) async fn repair(config: &Config, services: &Services, folder: Option<&Path>) -> anyhow::Result<Findings> {
    let folder =
        folder.map(|folder| folder.canonicalize().with_context(|| format!("there is no {}", folder.display())));
    let folder = folder.transpose()?;
    let found = check::check(config, services, true).await?;
    let Findings { damaged_files, damaged_objects, damaged_packages, damaged_journal, .. } = found;
    let (packs, indexes): (Vec<_>, Vec<_>) =
        damaged_objects.into_iter().partition(|damaged| damaged.part == Part::Pack);
    let packs = packs.into_iter().map(|damaged| damaged.object).collect();
    heal_files(services, folder.as_deref(), damaged_files, packs).await?;
    let indexes: BTreeSet<String> = indexes.into_iter().map(|damaged| damaged.collection).collect();
    for slug in indexes {
        // The others are healed all the same; the check at the end names this one.
        if let Err(error) = reindex::reindex(services, &slug, false).await {
            errln!("{slug}: the index could not be made anew: {error:#}");
        }
    }
    for damaged in damaged_packages {
        erase(services, damaged).await?;
    }
    if damaged_journal.is_some()
        && let Err(error) = repair_journal(&journal_folder(config))
    {
        errln!("the broker's journal: {error}; a service repairs it when it starts");
    }
    check::check(config, services, true).await
}

/// Heals files, and packs that are too long.
async fn heal_files(
    services: &Services,
    folder: Option<&Path>,
    damaged: Vec<DamagedFile>,
    too_long: Vec<String>,
) -> anyhow::Result<()> {
    if damaged.is_empty() && too_long.is_empty() {
        return Ok(());
    }
    let sources = Sources::find(services, folder, &damaged).await?;
    let mut packs: BTreeMap<String, Vec<DamagedFile>> =
        too_long.into_iter().map(|object| (object, Vec::new())).collect();
    for damaged in damaged {
        packs.entry(damaged.file.place.object.clone()).or_default().push(damaged);
    }
    for (object, damaged) in packs {
        let healed = rewrite::heal_pack(services, &sources, &object, &damaged).await?;
        errln!("{object}: {healed} of {} damaged files are healed", damaged.len());
    }
    Ok(())
}

/// Erases a package, so that whoever asks for it again gets a new one.
async fn erase(services: &Services, DamagedPackage { package, .. }: DamagedPackage) -> anyhow::Result<()> {
    services.store.erase_package(package.id, None).await?;
    let build = ObjectKey::Build { package: package.salted() }.to_string();
    let prefix = build.rfind('/').map_or("", |slash| &build[..=slash]);
    let objects = services.objects.list(prefix).await?.into_iter().map(|(key, _)| key);
    services.objects.delete(&objects.collect::<Vec<_>>()).await?;
    errln!("package {}: it is erased, and built again when it is asked for", package.id);
    Ok(())
}
