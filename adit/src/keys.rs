//! `adit keys`: make, limit, list and revoke API keys, and limit roles.

use adit_shared::clock::{Clock as _, SystemClock, rfc3339};
use adit_shared::config::Config;
use adit_shared::domain::{Allowance, ApiKey, Entitlement, Limits, OwnLimit, Role, secret_hash};
use adit_shared::ids::KeyId;
use adit_shared::store::{Store, StoreError};
use anyhow::{Context as _, anyhow, bail};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rand::TryRng as _;

use crate::cli::{ApiKeysVerb, KeyLimits};
use crate::data_folder::secure_data_folder;
use crate::services::open_store;

/// 256 random bits of the operating system, as text.
pub(crate) fn random_secret() -> anyhow::Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random_bytes()?))
}

fn random_bytes() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).context("the operating system gives no random numbers")?;
    Ok(bytes)
}

/// Carries out `adit keys rotate-links`.
pub(crate) async fn rotate_links(config: &Config) -> anyhow::Result<()> {
    secure_data_folder(config)?;
    adit_api::rotate_link_secret(&*open_store(config).await?, &random_bytes()?).await?;
    println!("all links that need no key have ended, or will within a minute where servers run");
    Ok(())
}

/// Makes a key and returns it with its secret, which is kept nowhere.
pub(crate) async fn create(
    store: &dyn Store,
    name: &str,
    role: Role,
    quota: Option<u64>,
) -> anyhow::Result<(ApiKey, String)> {
    let secret = format!("adit_{}", random_secret()?);
    let key = store.create_key(name, role, quota, &secret_hash(&secret), SystemClock.now_ms()).await?;
    Ok((key, secret))
}

/// Carries out `adit keys …`.
pub(crate) async fn run(config: &Config, verb: ApiKeysVerb) -> anyhow::Result<()> {
    secure_data_folder(config)?;
    let store = &*open_store(config).await?;
    match verb {
        ApiKeysVerb::Create { name, role, limits, entitlements } => {
            let (key, secret) = create(store, &name, role, None).await?;
            store.limit_key(key.id, &changed(&key.own_limits, limits)).await?;
            for entitlement in &entitlements {
                store.grant(key.id, entitlement).await?;
            }
            println!("key {} ({}, {name}); it is shown only now:", key.id, role.as_str());
            println!("{secret}");
        }
        ApiKeysVerb::Grant { id, entitlement } => {
            let granted = store.grant(KeyId(id), &entitlement).await.map_err(|error| match error {
                StoreError::NotFound(_) => anyhow!(no_such_key(id)),
                error => error.into(),
            })?;
            println!("key {id} is {}entitled to {entitlement}", if granted { "" } else { "already " });
        }
        ApiKeysVerb::Deny { id, entitlement } => {
            if !store.deny(KeyId(id), &entitlement).await? {
                bail!("there is no key {id} with the entitlement {entitlement}; `adit keys list` shows them");
            }
            println!("key {id} is no longer entitled to {entitlement}");
        }
        ApiKeysVerb::Set { id, limits } => {
            let key = store.keys().await?.into_iter().find(|key| key.id == KeyId(id) && key.revoked.is_none());
            let key = key.with_context(|| no_such_key(id))?;
            let own = changed(&key.own_limits, limits);
            if !store.limit_key(key.id, &own).await? {
                bail!(no_such_key(id));
            }
            println!("key {id}: {} document(s) a day, {} request(s) a minute", own.documents, own.requests);
        }
        ApiKeysVerb::Limits { role, limits } => {
            if let Some(role) = role {
                let old = store.role_limits(role).await?;
                let new = |own: Option<OwnLimit>, old| own.map_or(old, |own| own.or(None));
                let limits = Limits {
                    documents: new(limits.quota, old.documents),
                    requests: new(limits.per_minute, old.requests),
                };
                store.limit_role(role, &limits).await?;
            }
            show_roles(store).await?;
        }
        ApiKeysVerb::List => list(store).await?,
        ApiKeysVerb::Revoke { id } => {
            if !store.revoke_key(KeyId(id), SystemClock.now_ms()).await? {
                bail!(no_such_key(id));
            }
            println!("key {id} is revoked");
        }
    }
    Ok(())
}

fn no_such_key(id: i64) -> String {
    format!("there is no unrevoked key {id}; `adit keys list` shows them")
}

fn changed(old: &Limits<OwnLimit>, new: KeyLimits) -> Limits<OwnLimit> {
    Limits { documents: new.quota.unwrap_or(old.documents), requests: new.per_minute.unwrap_or(old.requests) }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

async fn show_roles(store: &dyn Store) -> anyhow::Result<()> {
    println!("{:8}  {:>13}  {:>15}", "role", "documents/day", "requests/minute");
    for role in Role::ALL {
        let limits = store.role_limits(role).await?;
        println!("{:8}  {:>13}  {:>15}", role.as_str(), shown(limits.documents), shown(limits.requests));
    }
    Ok(())
}

/// A limit of the key's own is marked with a star.
async fn list(store: &dyn Store) -> anyhow::Result<()> {
    println!(
        "{:>4}  {:8}  {:>14}  {:>15}  {:24}  {:24}  name (and entitlements)",
        "id", "role", "documents/day", "requests/minute", "created", "revoked"
    );
    for key in store.keys().await? {
        let column = |allowance| {
            let own = if key.own_limits.of(allowance) == OwnLimit::AsRole { "" } else { "*" };
            shown(key.limits.of(allowance)) + own
        };
        let entitlements: Vec<&str> = key.entitlements.iter().map(Entitlement::as_str).collect();
        let entitlements = match entitlements.as_slice() {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        println!(
            "{:>4}  {:8}  {:>14}  {:>15}  {:24}  {:24}  {}{entitlements}",
            key.id.0,
            key.role.as_str(),
            column(Allowance::Documents),
            column(Allowance::Requests),
            rfc3339(key.created),
            key.revoked.map(rfc3339).unwrap_or_default(),
            key.name
        );
    }
    Ok(())
}
