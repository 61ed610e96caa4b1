//! `adit leases`: which change of a collection holds its lease, and breaking a lease whose holder is
//! known to be dead. Taking and renewing leases is the business of [`crate::change`].

use adit_shared::clock::{Clock as _, SystemClock, is_lease_valid, rfc3339};
use adit_shared::config::Config;
use adit_shared::store::{HeldLease, Store, StoreError};
use anyhow::anyhow;

use crate::change::LEASE_MS;
use crate::cli::LeasesVerb;
use crate::data_folder::secure_data_folder;
use crate::services::open_store;
use crate::terminal::outln;

/// Carries out `adit leases …`.
pub(crate) async fn run(config: &Config, verb: Option<LeasesVerb>) -> anyhow::Result<()> {
    secure_data_folder(config)?;
    let store = &*open_store(config).await?;
    match verb {
        None => list_leases(store).await,
        Some(LeasesVerb::Break { collection }) => break_lease(store, &collection).await,
    }
}

async fn list_leases(store: &dyn Store) -> anyhow::Result<()> {
    outln!("{:24}  {:16}  {:24}  state", "collection", "import", "until");
    let now = SystemClock.now_ms();
    for lease in store.held_leases().await? {
        let HeldLease { slug, import, until_ms } = &lease;
        outln!("{slug:24}  {import:16}  {:24}  {}", rfc3339(*until_ms), describe_state(&lease, now));
    }
    Ok(())
}

/// Says what a lease means to whoever wants the collection now.
fn describe_state(lease: &HeldLease, now: i64) -> &'static str {
    match is_lease_valid(lease.until_ms, now, LEASE_MS) {
        true => "held",
        false if lease.until_ms > now => "void: it ends further ahead than a lease can; keeps nobody out",
        false => "expired; keeps nobody out",
    }
}

async fn break_lease(store: &dyn Store, slug: &str) -> anyhow::Result<()> {
    let broken = store.break_lease(slug).await.map_err(|error| match error {
        StoreError::NotFound(_) => anyhow!("nothing is named {slug:?} here"),
        error => error.into(),
    })?;
    match broken {
        Some(import) => outln!(
            "the lease of import {import} on {slug} is broken; should it still run, it finds itself overtaken and takes back \
             what it has written"
        ),
        None => outln!("nothing holds a lease on {slug}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adit_shared::ids::ImportId;

    use super::*;

    #[test]
    fn a_lease_is_told_to_be_held_expired_or_void() {
        let state =
            |until_ms| describe_state(&HeldLease { slug: "c".into(), import: ImportId(1), until_ms }, 1_000_000);
        assert_eq!(state(1_000_000 + LEASE_MS), "held");
        assert!(state(1_000_000).starts_with("expired"));
        assert!(state(1_000_000 + 86_400_000).starts_with("void"));
    }
}
