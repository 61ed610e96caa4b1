//! API keys with their limits, those of roles, and secrets of the installation.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;

use super::holdings::{self, JOIN_LIMITS as JOIN_HOLDING_LIMITS, LIMITS as HOLDING_LIMITS, own_limit, stored_limit};
use super::rights::{ENTITLEMENTS_OF_K, parse_entitlements};
use super::rows::{Columns as _, int, join, made, query};
use super::sql::returned;
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::digest::Sha256;
use crate::domain::{Allowance, ApiKey, Limits, OwnLimit, Role, Scope, join_scopes, parse_scopes};
use crate::ids::KeyId;

/// Selects keys, each with the limits of its role, and with `more` columns.
fn select(more: &str, rest: &str) -> String {
    format!(
        "SELECT k.*, r.documents AS role_documents, r.requests AS role_requests, {HOLDING_LIMITS}, \
         {ENTITLEMENTS_OF_K}{more} FROM api_keys k LEFT JOIN role_limits r ON r.role = k.role {JOIN_HOLDING_LIMITS} {rest}"
    )
}

/// The condition that the key `$key` is valid at the instant of a placeholder, as [`ApiKey::state`]
/// has it.
macro_rules! valid_key {
    ($key:literal, $now:literal) => {
        concat!($key, ".revoked IS NULL AND (", $key, ".expires IS NULL OR ", $key, ".expires > ", $now, ")")
    };
}
pub(super) use valid_key;

/// The condition that the key `k` has a scope, as [`ApiKey::has_scope`] has it.
pub(super) fn k_has_scope(scope: Scope) -> String {
    let roles = Role::ALL.into_iter().filter(|role| role.scopes().contains(&scope));
    let roles = join(roles.map(|role| format!("'{}'", role.as_str())));
    format!("k.role IN ({roles}) AND (k.scopes IS NULL OR ' ' || k.scopes || ' ' LIKE '% {scope} %')")
}

fn key_of(row: &AnyRow) -> StoreResult<ApiKey> {
    let own_limits = Limits { documents: own_limit(row, "quota")?, requests: own_limit(row, "per_minute")? };
    let limits = Limits {
        documents: own_limits.documents.or(row.optional_number("role_documents")?),
        requests: own_limits.requests.or(row.optional_number("role_requests")?),
    };
    Ok(ApiKey {
        id: KeyId(row.value("id")?),
        name: row.value("name")?,
        role: row.parsed("role")?,
        limits,
        own_limits,
        holding_limits: holdings::limits_of(row)?,
        own_holding_limits: holdings::own_limits_of(row)?,
        entitlements: parse_entitlements(row.value("entitlements")?)?,
        own_scopes: row.value::<Option<&str>>("scopes")?.map(parse_scopes).transpose().map_err(StoreError::Corrupt)?,
        hash: row.digest("hash")?,
        created: row.value("created")?,
        revoked: row.value("revoked")?,
        expires: row.value("expires")?,
        last_used: row.value("last_used")?,
    })
}

pub(super) async fn create(
    db: &SqlStore,
    name: &str,
    role: Role,
    quota: Option<u64>,
    hash: &Sha256,
    now: i64,
) -> StoreResult<ApiKey> {
    let insert =
        query("INSERT INTO api_keys (name, role, quota, hash, created) VALUES ($1, $2, $3, $4, $5) RETURNING id")
            .bind(name)
            .bind(role.as_str())
            .bind(quota.map(int))
            .bind(&hash.0[..])
            .bind(now);
    let row = returned(insert, &db.write).await?.ok_or(StoreError::NotFound("key"))?;
    by_id(db, KeyId(row.value("id")?)).await?.ok_or(StoreError::NotFound("key"))
}

pub(super) async fn by_id(db: &SqlStore, id: KeyId) -> StoreResult<Option<ApiKey>> {
    let row = made(select("", "WHERE k.id = $1"), true).bind(id.0).fetch_optional(&db.read).await?;
    row.as_ref().map(key_of).transpose()
}

pub(super) async fn caller(db: &SqlStore, hash: &Sha256, day: i64) -> StoreResult<Option<(ApiKey, u64)>> {
    let row = made(
        select(
            ", COALESCE(a.taken, 0) AS taken",
            "LEFT JOIN allowances a ON a.api_key = k.id AND a.kind = $3 AND a.window_start = $2 \
             WHERE k.hash = $1",
        ),
        true,
    )
    .bind(&hash.0[..])
    .bind(day)
    .bind(Allowance::Documents.as_str())
    .fetch_optional(&db.read)
    .await?;
    row.as_ref().map(|row| Ok((key_of(row)?, row.number("taken")?))).transpose()
}

pub(super) async fn all(db: &SqlStore) -> StoreResult<Vec<ApiKey>> {
    let rows = made(select("", "ORDER BY k.id"), true).fetch_all(&db.read).await?;
    rows.iter().map(key_of).collect()
}

pub(super) async fn limit(db: &SqlStore, id: KeyId, own: &Limits<OwnLimit>) -> StoreResult<bool> {
    let limited = query("UPDATE api_keys SET quota = $2, per_minute = $3 WHERE id = $1 AND revoked IS NULL")
        .bind(id.0)
        .bind(stored_limit(own.documents))
        .bind(stored_limit(own.requests))
        .execute(&db.write)
        .await?;
    Ok(limited.rows_affected() > 0)
}

pub(super) async fn set_expiry(db: &SqlStore, id: KeyId, expires: Option<i64>) -> StoreResult<bool> {
    let set = query("UPDATE api_keys SET expires = $2 WHERE id = $1 AND revoked IS NULL").bind(id.0).bind(expires);
    Ok(set.execute(&db.write).await?.rows_affected() > 0)
}

pub(super) async fn set_scopes(db: &SqlStore, id: KeyId, own: Option<&BTreeSet<Scope>>) -> StoreResult<bool> {
    let set = query("UPDATE api_keys SET scopes = $2 WHERE id = $1 AND revoked IS NULL")
        .bind(id.0)
        .bind(own.map(|own| join_scopes(own.iter().copied(), " ")));
    Ok(set.execute(&db.write).await?.rows_affected() > 0)
}

pub(super) async fn note_use(db: &SqlStore, used: &[(KeyId, i64)]) -> StoreResult<()> {
    for (key, hour) in used {
        query("UPDATE api_keys SET last_used = $2 WHERE id = $1 AND (last_used IS NULL OR last_used < $2)")
            .bind(key.0)
            .bind(*hour)
            .execute(&db.write)
            .await?;
    }
    Ok(())
}

pub(super) async fn role_limits(db: &SqlStore, role: Role) -> StoreResult<Limits<Option<u64>>> {
    let statement = query("SELECT documents, requests FROM role_limits WHERE role = $1").bind(role.as_str());
    let Some(row) = statement.fetch_optional(&db.read).await? else { return Ok(Limits::default()) };
    Ok(Limits { documents: row.optional_number("documents")?, requests: row.optional_number("requests")? })
}

pub(super) async fn limit_role(db: &SqlStore, role: Role, limits: &Limits<Option<u64>>) -> StoreResult<()> {
    let statement = query(
        "INSERT INTO role_limits (role, documents, requests) VALUES ($1, $2, $3) \
         ON CONFLICT (role) DO UPDATE SET documents = excluded.documents, requests = excluded.requests",
    );
    statement
        .bind(role.as_str())
        .bind(limits.documents.map(int))
        .bind(limits.requests.map(int))
        .execute(&db.write)
        .await?;
    Ok(())
}

pub(super) async fn revoke(db: &SqlStore, id: KeyId, now: i64) -> StoreResult<bool> {
    let revoked = query("UPDATE api_keys SET revoked = $2 WHERE id = $1 AND revoked IS NULL")
        .bind(id.0)
        .bind(now)
        .execute(&db.write)
        .await?;
    Ok(revoked.rows_affected() > 0)
}

pub(super) async fn remove(db: &SqlStore, id: KeyId) -> StoreResult<bool> {
    let mut transaction = db.begin().await?;
    query("DELETE FROM allowances WHERE api_key = $1").bind(id.0).execute(&mut *transaction).await?;
    match query("DELETE FROM api_keys WHERE id = $1").bind(id.0).execute(&mut *transaction).await {
        Err(error) if errors::is_foreign_key_violation(&error) => {
            transaction.rollback().await?;
            Ok(false)
        }
        removed => {
            let removed = removed?.rows_affected() > 0;
            transaction.commit().await?;
            Ok(removed)
        }
    }
}

pub(super) async fn secret(db: &SqlStore, name: &str, fresh: &[u8; 32]) -> StoreResult<[u8; 32]> {
    let kept = async || {
        let row = query("SELECT value FROM secrets WHERE name = $1").bind(name).fetch_optional(&db.read).await?;
        row.map(|row| row.digest("value")).transpose()
    };
    if let Some(Sha256(secret)) = kept().await? {
        return Ok(secret);
    }
    // Of several that come here at once, one makes it.
    let insert = query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    insert.bind(name).bind(&fresh[..]).execute(&db.write).await?;
    kept().await?.map(|Sha256(secret)| secret).ok_or(StoreError::NotFound("secret"))
}

pub(super) async fn replace_secret(db: &SqlStore, name: &str, fresh: &[u8; 32]) -> StoreResult<()> {
    let replace = query(
        "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    replace.bind(name).bind(&fresh[..]).execute(&db.write).await?;
    Ok(())
}
