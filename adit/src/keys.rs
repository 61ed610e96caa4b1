//! `adit keys`: make, limit, list and revoke API keys, and limit roles.

use adit_shared::clock::{Clock as _, SystemClock, rfc3339};
use adit_shared::config::Config;
use adit_shared::domain::{Allowance, ApiKey, Entitlement, Holding, Holdings, Limits, OwnLimit, Role, secret_hash};
use adit_shared::ids::KeyId;
use adit_shared::store::{Store, StoreError};
use anyhow::{Context as _, anyhow, bail};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rand::TryRng as _;

use crate::cli::{ApiKeysVerb, KeyLimits};
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
    let store = &*open_store(config).await?;
    match verb {
        ApiKeysVerb::Create { name, role, limits, entitlements } => {
            let (key, secret) = create(store, &name, role, None).await?;
            store.limit_key(key.id, &changed(&key.own_limits, limits)).await?;
            store.limit_key_holdings(key.id, &changed_holdings(&key.own_holding_limits, limits)).await?;
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
            let (own, holdings) = (changed(&key.own_limits, limits), changed_holdings(&key.own_holding_limits, limits));
            let is_there = store.limit_key(key.id, &own).await? && store.limit_key_holdings(key.id, &holdings).await?;
            if !is_there {
                bail!(no_such_key(id));
            }
            println!("key {id}: {} document(s) a day, {} request(s) a minute", own.documents, own.requests);
            println!("at one time: {}", holdings_text(&holdings));
        }
        ApiKeysVerb::Limits { role, limits } => {
            if let Some(role) = role {
                let old = store.role_limits(role).await?;
                let new = |own: Option<OwnLimit>, old| own.map_or(old, |own| own.or(None));
                let holdings = Holdings {
                    docsets: limits.docsets,
                    packages: limits.packages,
                    unfinished: limits.unfinished,
                    stored_bytes: limits.stored_bytes,
                };
                let limits = Limits {
                    documents: new(limits.quota, old.documents),
                    requests: new(limits.per_minute, old.requests),
                };
                store.limit_role(role, &limits).await?;
                let old = store.role_holding_limits(role).await?;
                store.limit_role_holdings(role, &old.map(|holding, old| new(holdings.of(holding), old))).await?;
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

fn changed_holdings(old: &Holdings<OwnLimit>, new: KeyLimits) -> Holdings<OwnLimit> {
    let KeyLimits { docsets, packages, unfinished, stored_bytes, .. } = new;
    let new = Holdings { docsets, packages, unfinished, stored_bytes };
    old.map(|holding, old| new.of(holding).unwrap_or(old))
}

/// Names limits on what a key has at one time: `docsets 5, packages role, …`.
fn holdings_text(own: &Holdings<OwnLimit>) -> String {
    Holding::ALL.map(|holding| format!("{} {}", holding.as_str(), own.of(holding))).join(", ")
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

async fn show_roles(store: &dyn Store) -> anyhow::Result<()> {
    println!(
        "{:8}  {:>13}  {:>15}  {:>9}  {:>9}  {:>10}  {:>14}",
        "role", "documents/day", "requests/minute", "docsets", "packages", "unfinished", "stored bytes"
    );
    for role in Role::ALL {
        let limits = store.role_limits(role).await?;
        let holdings = store.role_holding_limits(role).await?;
        let [docsets, packages, unfinished, bytes] = Holding::ALL.map(|holding| shown(holdings.of(holding)));
        println!(
            "{:8}  {:>13}  {:>15}  {docsets:>9}  {packages:>9}  {unfinished:>10}  {bytes:>14}",
            role.as_str(),
            shown(limits.documents),
            shown(limits.requests)
        );
    }
    Ok(())
}

/// A limit of the key's own is marked with a star; those on what it has at one time stand last, where there are such.
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
        let holdings = match key.own_holding_limits == Holdings::default() {
            true => String::new(),
            false => format!(" [{}]", holdings_text(&key.own_holding_limits)),
        };
        println!(
            "{:>4}  {:8}  {:>14}  {:>15}  {:24}  {:24}  {}{entitlements}{holdings}",
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
