//! API keys, what they have used of their quota, and secrets of the installation.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rights::{entitlements_of_k, parse_entitlements};
use super::rows::{Columns as _, int, query};
use super::sql::returned;
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::digest::Sha256;
use crate::domain::{ApiKey, Role};
use crate::ids::KeyId;

fn key_of(row: &AnyRow) -> StoreResult<ApiKey> {
    Ok(ApiKey {
        id: KeyId(row.value("id")?),
        name: row.value("name")?,
        role: row.parsed("role")?,
        quota: row.optional_number("quota")?,
        entitlements: parse_entitlements(row.value("entitlements")?)?,
        hash: row.digest("hash")?,
        created: row.value("created")?,
        revoked: row.value("revoked")?,
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
        query("INSERT INTO api_keys (name, role, quota, hash, created) VALUES ($1, $2, $3, $4, $5) RETURNING *, CAST(NULL AS TEXT) AS entitlements")
            .bind(name)
            .bind(role.as_str())
            .bind(quota.map(int))
            .bind(&hash.0[..])
            .bind(now);
    key_of(&returned(insert, &db.write).await?.ok_or(StoreError::NotFound("key"))?)
}

pub(super) async fn by_hash(db: &SqlStore, hash: &Sha256) -> StoreResult<Option<ApiKey>> {
    let by_hash = query(concat!(
        "SELECT k.*, ",
        entitlements_of_k!(),
        " FROM api_keys k WHERE k.hash = $1 AND k.revoked IS NULL"
    ));
    let row = by_hash.bind(&hash.0[..]).fetch_optional(&db.read).await?;
    row.as_ref().map(key_of).transpose()
}

pub(super) async fn all(db: &SqlStore) -> StoreResult<Vec<ApiKey>> {
    let all = query(concat!("SELECT k.*, ", entitlements_of_k!(), " FROM api_keys k ORDER BY k.id"));
    let rows = all.fetch_all(&db.read).await?;
    rows.iter().map(key_of).collect()
}

pub(super) async fn revoke(db: &SqlStore, id: KeyId, now: i64) -> StoreResult<bool> {
    let revoked = query("UPDATE api_keys SET revoked = $2 WHERE id = $1 AND revoked IS NULL")
        .bind(id.0)
        .bind(now)
        .execute(&db.write)
        .await?;
    Ok(revoked.rows_affected() > 0)
}

/// One statement that adds and checks, so that requests at once cannot pass the quota together.
pub(super) async fn charge(
    db: &SqlStore,
    key: KeyId,
    day: i64,
    documents: u64,
    quota: Option<u64>,
) -> StoreResult<Option<u64>> {
    let rows = query(
        "INSERT INTO key_usage (api_key, day, documents) SELECT $1, $2, $3 WHERE $4 IS NULL OR $3 <= $4 \
         ON CONFLICT (api_key, day) DO UPDATE SET documents = key_usage.documents + excluded.documents \
         WHERE $4 IS NULL OR key_usage.documents + excluded.documents <= $4 RETURNING documents",
    )
    .bind(key.0)
    .bind(day)
    .bind(int(documents))
    .bind(quota.map(int))
    .fetch_all(&db.write)
    .await;
    let rows = match rows {
        Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("key")),
        rows => rows?,
    };
    rows.first().map(|row| row.number("documents")).transpose()
}

pub(super) async fn usage(db: &SqlStore, key: KeyId, limit: u32) -> StoreResult<Vec<(i64, u64)>> {
    let rows = query("SELECT day, documents FROM key_usage WHERE api_key = $1 ORDER BY day DESC LIMIT $2")
        .bind(key.0)
        .bind(i64::from(limit))
        .fetch_all(&db.read)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("day")?, row.number("documents")?))).collect()
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
