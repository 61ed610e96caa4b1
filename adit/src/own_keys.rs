//! The keys that `adit up` makes by itself: the first operator's, which no kill between its making
//! and its printing loses, and that of the packager inside, of which no start leaves a row behind.
//!
//! Each is noted in the data folder before it is made, and the caller holds that folder.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use adit_shared::config::Secret;
use adit_shared::digest::Sha256;
use adit_shared::domain::{ApiKey, Role, secret_hash};
use adit_shared::ids::KeyId;
use adit_shared::store::StoreResult;
use anyhow::Context as _;

use crate::services::Services;
use crate::{keys, running};

/// Begins the name of the key that the packager inside `adit up` uses; it is made anew at each start
/// and removed at the end.
const OWN_PACKAGER: &str = "packager inside adit up";

/// Holds the keys of a run.
pub(crate) struct OwnKeys {
    /// Secret of the first key, until [`forget_first_key`] says that it was printed.
    pub(crate) first: Option<String>,
    /// The key of the packager inside.
    pub(crate) packager: KeyId,
    /// Its secret.
    pub(crate) secret: Secret,
}

/// Makes the first key of a new database, and the packager's of this run. The packager's keys of
/// runs on this data folder that were killed are removed; those of servers that run on other data
/// folders, but on the same database, are left alone.
pub(crate) async fn prepare_keys(services: &Services, data: &Path) -> anyhow::Result<OwnKeys> {
    let store = &*services.store;
    let name = format!("{OWN_PACKAGER} on {}", data.display());
    let existing = store.keys().await?;
    let (file, killed) = (data.join("packager-key"), running::last(data).map(|running| running.packager_key));
    let noted = read_note(&file)?.and_then(|note| note.parse::<Sha256>().ok());
    // The name is compared, too: the folder may have been used with another database before.
    let is_over = |key: &&ApiKey| {
        key.name == name && (key.revoked.is_some() || noted == Some(key.hash) || killed == Some(key.id.0))
    };
    for old in existing.iter().filter(is_over) {
        end_key(services, old.id).await?;
    }
    let first = first_key(services, data, &existing).await?;
    let secret = keys::new_secret()?;
    let hash = secret_hash(&secret);
    write_note(&file, &hash.to_string())?;
    let packager = store.create_key(&name, Role::Packager, None, &hash, services.clock.now_ms()).await?.id;
    Ok(OwnKeys { first, packager, secret: Secret::new(secret) })
}

/// Finds the first key that was made and never printed, or makes it where there is none.
async fn first_key(services: &Services, data: &Path, existing: &[ApiKey]) -> anyhow::Result<Option<String>> {
    let file = first_key_file(data);
    let noted = read_note(&file)?;
    if let Some(secret) = &noted {
        let hash = secret_hash(secret);
        if existing.iter().any(|key| key.hash == hash && key.revoked.is_none()) {
            return Ok(noted);
        }
    }
    if !existing.iter().all(|key| key.name.starts_with(OWN_PACKAGER)) {
        forget_first_key(data);
        return Ok(None);
    }
    let secret = keys::new_secret()?;
    write_note(&file, &secret)?;
    services
        .store
        .create_key("first key", Role::Operator, None, &secret_hash(&secret), services.clock.now_ms())
        .await?;
    Ok(Some(secret))
}

/// Forgets the secret of the first key, which was printed. A file that stays is told: the next
/// start prints the key once more.
pub(crate) fn forget_first_key(data: &Path) {
    let file = first_key_file(data);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "the first key's secret stays there: remove it");
        }
        _ => {}
    }
}

/// Ends a key that this program made for itself: it is revoked, and its row removed.
pub(crate) async fn end_key(services: &Services, key: KeyId) -> StoreResult<()> {
    services.store.revoke_key(key, services.clock.now_ms()).await?;
    services.store.remove_key(key).await.map(drop)
}

fn first_key_file(data: &Path) -> PathBuf {
    data.join("first-key")
}

fn read_note(file: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes a file for its owner only, whole or not at all.
fn write_note(file: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut made = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
        writeln!(made, "{text}")?;
        made.as_file().sync_all()?;
        made.persist(file)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use adit_shared::config::Config;

    use super::*;

    async fn open(data: &Path) -> Services {
        let config = Config::load(|name| (name == "ADIT_DATA").then(|| data.display().to_string())).unwrap();
        Services::open(&config).await.unwrap()
    }

    #[tokio::test]
    async fn two_hundred_killed_starts_leave_one_row_and_lose_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let services = open(folder.path()).await;
        let mut first = None;
        for _ in 0..200 {
            let keys = prepare_keys(&services, folder.path()).await.unwrap();
            let printed = first.get_or_insert_with(|| keys.first.clone().unwrap()).clone();
            assert_eq!(keys.first, Some(printed), "it was not printed yet");
            let rows = services.store.keys().await.unwrap();
            assert_eq!(rows.len(), 2, "{rows:?}");
            assert!(rows.iter().all(|key| key.revoked.is_none()));
        }
        forget_first_key(folder.path());
        assert_eq!(prepare_keys(&services, folder.path()).await.unwrap().first, None);
    }

    #[tokio::test]
    async fn a_start_that_is_killed_before_a_key_is_made_makes_it_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let services = open(folder.path()).await;
        write_note(&first_key_file(folder.path()), "adit_noted_and_not_made").unwrap();
        let keys = prepare_keys(&services, folder.path()).await.unwrap();
        let hash = secret_hash(&keys.first.unwrap());
        assert!(services.store.keys().await.unwrap().iter().any(|key| key.hash == hash));
        // With another database, a key that was noted and is not there is none.
        let other = tempfile::tempdir().unwrap();
        let services = open(other.path()).await;
        keys::create(&*services.store, "somebody", Role::Operator, None).await.unwrap();
        write_note(&first_key_file(other.path()), "adit_of_another_database").unwrap();
        assert_eq!(prepare_keys(&services, other.path()).await.unwrap().first, None);
        assert!(!first_key_file(other.path()).exists());
    }

    #[tokio::test]
    async fn keys_of_servers_on_other_folders_are_left_alone_and_revoked_ones_of_before_go() {
        let folder = tempfile::tempdir().unwrap();
        let services = open(folder.path()).await;
        let elsewhere = tempfile::tempdir().unwrap();
        let other = prepare_keys(&services, elsewhere.path()).await.unwrap().packager;
        let name = format!("{OWN_PACKAGER} on {}", folder.path().display());
        let (old, _) = keys::create(&*services.store, &name, Role::Packager, None).await.unwrap();
        services.store.revoke_key(old.id, 1).await.unwrap();
        prepare_keys(&services, folder.path()).await.unwrap();
        assert!(services.store.key(old.id).await.unwrap().is_none());
        assert!(services.store.key(other).await.unwrap().is_some_and(|key| key.revoked.is_none()));
    }
}
