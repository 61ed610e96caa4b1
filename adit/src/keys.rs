//! `adit keys`: make, list and revoke API keys.

use adit_shared::clock::{Clock as _, SystemClock, rfc3339};
use adit_shared::config::Config;
use adit_shared::domain::{ApiKey, Entitlement, Role, secret_hash};
use adit_shared::ids::KeyId;
use adit_shared::store::{Store, StoreError};
use anyhow::{Context as _, anyhow, bail};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rand::TryRng as _;

use crate::cli::ApiKeysVerb;
use crate::services::{make_folder, open_store};

/// 256 random bits of the operating system, as text.
pub(crate) fn random_secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).context("the operating system gives no random numbers")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
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
    make_folder(&config.data)?;
    let store = open_store(config).await?;
    match verb {
        ApiKeysVerb::Create { name, role, quota, entitlements } => {
            let (key, secret) = create(&*store, &name, role, quota).await?;
            for entitlement in &entitlements {
                store.grant(key.id, entitlement).await?;
            }
            println!("key {} ({}, {name}); it is shown only now:", key.id, role.as_str());
            println!("{secret}");
        }
        ApiKeysVerb::Grant { id, entitlement } => {
            let granted = store.grant(KeyId(id), &entitlement).await.map_err(|error| match error {
                StoreError::NotFound(_) => anyhow!("there is no key {id}; `adit keys list` shows them"),
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
        ApiKeysVerb::List => {
            println!(
                "{:>4}  {:8}  {:>12}  {:24}  {:24}  name (and entitlements)",
                "id", "role", "quota", "created", "revoked"
            );
            for key in store.keys().await? {
                let quota = key.limits.documents.map_or_else(|| "unlimited".to_owned(), |quota| quota.to_string());
                let revoked = key.revoked.map(rfc3339).unwrap_or_default();
                let entitlements: Vec<&str> = key.entitlements.iter().map(Entitlement::as_str).collect();
                let entitlements = match entitlements.as_slice() {
                    [] => String::new(),
                    names => format!(" ({})", names.join(", ")),
                };
                println!(
                    "{:>4}  {:8}  {quota:>12}  {:24}  {revoked:24}  {}{entitlements}",
                    key.id.0,
                    key.role.as_str(),
                    rfc3339(key.created),
                    key.name
                );
            }
        }
        ApiKeysVerb::Revoke { id } => {
            if !store.revoke_key(KeyId(id), SystemClock.now_ms()).await? {
                bail!("there is no unrevoked key {id}; `adit keys list` shows them");
            }
            println!("key {id} is revoked");
        }
    }
    Ok(())
}
