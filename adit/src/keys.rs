//! `adit keys`: make, limit, narrow, list and revoke API keys, and limit roles.

use std::collections::BTreeSet;
use std::time::Duration;

use adit_shared::clock::{Clock as _, SystemClock, rfc3339};
use adit_shared::config::Config;
use adit_shared::display::Printable;
use adit_shared::domain::{
    Allowance, ApiKey, Entitlement, Holding, Holdings, Limits, OwnLimit, Role, Scope, join_scopes, secret_hash,
};
use adit_shared::ids::KeyId;
use adit_shared::store::{Store, StoreError};
use anyhow::{Context as _, anyhow, bail};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rand::TryRng as _;

use crate::cli::{ApiKeysVerb, KeyLimits, KeyRights};
use crate::data_folder::secure_data_folder;
use crate::services::open_store;
use crate::terminal::outln;

const HOUR_MS: i64 = 3_600_000;

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
    outln!("all links that need no key have ended, or will within a minute where servers run");
    Ok(())
}

/// Makes the secret of a key to be.
pub(crate) fn new_secret() -> anyhow::Result<String> {
    Ok(format!("adit_{}", random_secret()?))
}

/// Makes a key and returns it with its secret, which is kept nowhere.
pub(crate) async fn create(
    store: &dyn Store,
    name: &str,
    role: Role,
    quota: Option<u64>,
) -> anyhow::Result<(ApiKey, String)> {
    let secret = new_secret()?;
    let key = store.create_key(name, role, quota, &secret_hash(&secret), SystemClock.now_ms()).await?;
    Ok((key, secret))
}

/// Carries out `adit keys …`.
pub(crate) async fn run(config: &Config, verb: ApiKeysVerb) -> anyhow::Result<()> {
    secure_data_folder(config)?;
    let store = &*open_store(config).await?;
    match verb {
        ApiKeysVerb::Create { name, role, limits, rights, entitlements } => {
            let rights = CheckedRights::of(&rights, role, SystemClock.now_ms())?;
            let (key, secret) = create(store, &name, role, None).await?;
            store.limit_key(key.id, &changed(&key.own_limits, limits)).await?;
            store.limit_key_holdings(key.id, &changed_holdings(&key.own_holding_limits, limits)).await?;
            rights.apply(store, key.id).await?;
            for entitlement in &entitlements {
                store.grant(key.id, entitlement).await?;
            }
            let name = Printable::line(&name);
            outln!("key {} ({}, {name}); it is shown only now:", key.id, role.as_str());
            outln!("{secret}");
        }
        ApiKeysVerb::Grant { id, entitlement } => {
            let granted = store.grant(KeyId(id), &entitlement).await.map_err(|error| match error {
                StoreError::NotFound(_) => anyhow!(no_such_key(id)),
                error => error.into(),
            })?;
            outln!("key {id} is {}entitled to {entitlement}", if granted { "" } else { "already " });
        }
        ApiKeysVerb::Deny { id, entitlement } => {
            if !store.deny(KeyId(id), &entitlement).await? {
                bail!("there is no key {id} with the entitlement {entitlement}; `adit keys list` shows them");
            }
            outln!("key {id} is no longer entitled to {entitlement}");
        }
        ApiKeysVerb::Set { id, limits, rights } => {
            let key = store.key(KeyId(id)).await?.filter(|key| key.revoked.is_none());
            let key = key.with_context(|| no_such_key(id))?;
            let rights = CheckedRights::of(&rights, key.role, SystemClock.now_ms())?;
            let (own, holdings) = (changed(&key.own_limits, limits), changed_holdings(&key.own_holding_limits, limits));
            let is_there = store.limit_key(key.id, &own).await? && store.limit_key_holdings(key.id, &holdings).await?;
            if !is_there {
                bail!(no_such_key(id));
            }
            rights.apply(store, key.id).await?;
            let key = store.key(KeyId(id)).await?.with_context(|| no_such_key(id))?;
            outln!("key {id}: {} document(s) a day, {} request(s) a minute", own.documents, own.requests);
            let expires = key.expires.map_or_else(|| "never".to_owned(), rfc3339);
            outln!("it expires: {expires}; it may: {}", join_scopes(key.scopes(), ", "));
            outln!("at one time: {}", holdings_text(&holdings));
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
        ApiKeysVerb::List { unused_for } => list(store, unused_for).await?,
        ApiKeysVerb::Revoke { id } => {
            if !store.revoke_key(KeyId(id), SystemClock.now_ms()).await? {
                bail!(no_such_key(id));
            }
            outln!("key {id} is revoked");
        }
    }
    Ok(())
}

/// Changes of a key's rights, once they are known to make sense; `None`: no change.
struct CheckedRights {
    expires: Option<Option<i64>>,
    scopes: Option<Option<BTreeSet<Scope>>>,
}

impl CheckedRights {
    /// Refuses an expiry in the past, and scopes that the role does not have.
    fn of(rights: &KeyRights, role: Role, now: i64) -> anyhow::Result<Self> {
        if let Some(scopes) = &rights.scope {
            scopes.check_role(role).map_err(anyhow::Error::msg)?;
        }
        let expires = rights.expires.map(|expires| expires.instant(now)).transpose().map_err(anyhow::Error::msg)?;
        Ok(Self { expires, scopes: rights.scope.clone().map(|scopes| scopes.0) })
    }

    async fn apply(&self, store: &dyn Store, key: KeyId) -> anyhow::Result<()> {
        let expires = match self.expires {
            Some(expires) => store.set_key_expiry(key, expires).await?,
            None => true,
        };
        let scopes = match &self.scopes {
            Some(scopes) => store.set_key_scopes(key, scopes.as_ref()).await?,
            None => true,
        };
        if expires && scopes { Ok(()) } else { bail!(no_such_key(key.0)) }
    }
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
    outln!(
        "{:8}  {:>13}  {:>15}  {:>9}  {:>9}  {:>10}  {:>14}",
        "role",
        "documents/day",
        "requests/minute",
        "docsets",
        "packages",
        "unfinished",
        "stored bytes"
    );
    for role in Role::ALL {
        let limits = store.role_limits(role).await?;
        let holdings = store.role_holding_limits(role).await?;
        let [docsets, packages, unfinished, bytes] = Holding::ALL.map(|holding| shown(holdings.of(holding)));
        outln!(
            "{:8}  {:>13}  {:>15}  {docsets:>9}  {packages:>9}  {unfinished:>10}  {bytes:>14}",
            role.as_str(),
            shown(limits.documents),
            shown(limits.requests)
        );
    }
    Ok(())
}

/// Tells whether a key is not revoked and was not used for so long; one that was never used counts
/// from its making.
fn is_unused(key: &ApiKey, duration: Duration, now: i64) -> bool {
    let used = key.last_used.map_or(key.created, |hour| hour.saturating_add(HOUR_MS));
    let longest = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    key.revoked.is_none() && now.saturating_sub(used) >= longest
}

/// A limit of the key's own is marked with a star; scopes and limits on what it has at one time are
/// named only where the key was given such.
async fn list(store: &dyn Store, unused_for: Option<Duration>) -> anyhow::Result<()> {
    outln!(
        "{:>4}  {:8}  {:>14}  {:>15}  {:24}  {:24}  {:24}  {:24}  name (and entitlements) and scopes",
        "id",
        "role",
        "documents/day",
        "requests/minute",
        "created",
        "last used (hour)",
        "expires",
        "revoked"
    );
    let (now, mut keys) = (SystemClock.now_ms(), store.keys().await?);
    keys.retain(|key| unused_for.is_none_or(|duration| is_unused(key, duration, now)));
    for key in keys {
        let column = |allowance| {
            let own = if key.own_limits.of(allowance) == OwnLimit::AsRole { "" } else { "*" };
            shown(key.limits.of(allowance)) + own
        };
        let instant = |instant: Option<i64>| instant.map_or_else(|| "-".to_owned(), rfc3339);
        let entitlements: Vec<&str> = key.entitlements.iter().map(Entitlement::as_str).collect();
        let entitlements = match entitlements.as_slice() {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        let holdings = match key.own_holding_limits == Holdings::default() {
            true => String::new(),
            false => format!(" [{}]", holdings_text(&key.own_holding_limits)),
        };
        let scopes = match &key.own_scopes {
            None => String::new(),
            Some(_) => format!(" scopes: {}", join_scopes(key.scopes(), ", ")),
        };
        outln!(
            "{:>4}  {:8}  {:>14}  {:>15}  {:24}  {:24}  {:24}  {:24}  {}{entitlements}{scopes}{holdings}",
            key.id.0,
            key.role.as_str(),
            column(Allowance::Documents),
            column(Allowance::Requests),
            rfc3339(key.created),
            instant(key.last_used),
            instant(key.expires),
            instant(key.revoked),
            Printable::line(&key.name)
        );
    }
    Ok(())
}
