//! Holdings of keys, and their limits, which are held where a docset or package is made.

use sqlx::any::AnyRow;

use super::connections::Transaction;
use super::rows::{Columns as _, int, made, query};
use super::sql::returned;
use super::{SqlStore, StoreError, StoreResult};
use crate::domain::{Holding, Holdings, OwnLimit, Role};
use crate::ids::KeyId;

/// How "unlimited" is kept where NULL is "as the role".
pub(super) const UNLIMITED: i64 = -1;

/// Columns that [`own_limits_of`] and [`limits_of`] read, of the tables that [`JOIN_LIMITS`] joins
/// to the key `k`.
pub(super) const LIMITS: &str = "h.docsets AS own_docsets, h.packages AS own_packages, h.unfinished AS own_unfinished, \
    h.stored_bytes AS own_stored_bytes, rh.docsets, rh.packages, rh.unfinished, rh.stored_bytes";

/// See [`LIMITS`].
pub(super) const JOIN_LIMITS: &str =
    "LEFT JOIN key_holdings h ON h.api_key = k.id LEFT JOIN role_holdings rh ON rh.role = k.role";

pub(super) fn own_limit(row: &AnyRow, column: &str) -> StoreResult<OwnLimit> {
    match row.value::<Option<i64>>(column)? {
        None => Ok(OwnLimit::AsRole),
        Some(UNLIMITED) => Ok(OwnLimit::Unlimited),
        Some(_) => Ok(OwnLimit::AtMost(row.number(column)?)),
    }
}

pub(super) fn stored_limit(limit: OwnLimit) -> Option<i64> {
    match limit {
        OwnLimit::AsRole => None,
        OwnLimit::Unlimited => Some(UNLIMITED),
        OwnLimit::AtMost(limit) => Some(int(limit)),
    }
}

pub(super) fn own_limits_of(row: &AnyRow) -> StoreResult<Holdings<OwnLimit>> {
    Ok(Holdings {
        docsets: own_limit(row, "own_docsets")?,
        packages: own_limit(row, "own_packages")?,
        unfinished: own_limit(row, "own_unfinished")?,
        stored_bytes: own_limit(row, "own_stored_bytes")?,
    })
}

fn role_limits_of(row: &AnyRow) -> StoreResult<Holdings<Option<u64>>> {
    Ok(Holdings {
        docsets: row.optional_number("docsets")?,
        packages: row.optional_number("packages")?,
        unfinished: row.optional_number("unfinished")?,
        stored_bytes: row.optional_number("stored_bytes")?,
    })
}

/// Reads the limits that hold for the key of the row.
pub(super) fn limits_of(row: &AnyRow) -> StoreResult<Holdings<Option<u64>>> {
    let own = own_limits_of(row)?;
    Ok(role_limits_of(row)?.map(|holding, role| own.of(holding).or(role)))
}

/// What the key $1 has; $2 is now. An archive that has expired is no longer counted, for it goes at
/// the next occasion.
const COUNT_PACKAGES: &str = "SELECT COUNT(*) AS packages, \
    COALESCE(SUM(CASE WHEN status IN ('accepted', 'running') THEN 1 ELSE 0 END), 0) AS unfinished, \
    CAST(COALESCE(SUM(COALESCE(size, bytes_total, 0)), 0) AS BIGINT) AS stored_bytes \
    FROM packages WHERE owner = $1 AND (status IN ('accepted', 'running') OR content = 'available') \
    AND (status IN ('accepted', 'running') OR expires IS NULL OR expires > $2)";

const COUNT_DOCSETS: &str = "SELECT COUNT(*) AS docsets FROM docsets d WHERE d.owner = $1 \
    AND NOT EXISTS (SELECT 1 FROM deleted_docsets x WHERE x.docset = d.id)";

/// Locks the owner's row, so that what it makes at once is counted one after the other, and reads
/// its limits.
pub(super) async fn lock_limits(owner: KeyId, transaction: &mut Transaction) -> StoreResult<Holdings<Option<u64>>> {
    super::packages::lock_owner(owner, transaction).await?;
    let select = made(format!("SELECT {LIMITS} FROM api_keys k {JOIN_LIMITS} WHERE k.id = $1"), true);
    let row = select.bind(owner.0).fetch_optional(&mut **transaction).await?;
    row.as_ref().map_or(Err(StoreError::NotFound("key")), limits_of)
}

fn refuse(holding: Holding, limit: Option<u64>, has: u64) -> StoreResult<()> {
    match limit {
        Some(limit) if has >= limit => Err(StoreError::LimitReached { holding, limit }),
        _ => Ok(()),
    }
}

/// Refuses one more docset to a key that has as many as it may.
pub(super) async fn check_docsets(owner: KeyId, transaction: &mut Transaction) -> StoreResult<()> {
    let limit = lock_limits(owner, transaction).await?.docsets;
    if limit.is_none() {
        return Ok(());
    }
    let row = query(COUNT_DOCSETS).bind(owner.0).fetch_one(&mut **transaction).await?;
    refuse(Holding::Docsets, limit, row.number("docsets")?)
}

/// Refuses one more package to a key that has as much as it may.
pub(super) async fn check_packages(
    limits: &Holdings<Option<u64>>,
    owner: KeyId,
    now: i64,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    if (limits.packages, limits.unfinished, limits.stored_bytes) == (None, None, None) {
        return Ok(());
    }
    let row = query(COUNT_PACKAGES).bind(owner.0).bind(now).fetch_one(&mut **transaction).await?;
    refuse(Holding::Unfinished, limits.unfinished, row.number("unfinished")?)?;
    refuse(Holding::Packages, limits.packages, row.number("packages")?)?;
    refuse(Holding::StoredBytes, limits.stored_bytes, row.number("stored_bytes")?)
}

pub(super) async fn count(db: &SqlStore, owner: KeyId, now: i64) -> StoreResult<Holdings<u64>> {
    let docsets = query(COUNT_DOCSETS).bind(owner.0).fetch_one(&db.read).await?;
    let packages = query(COUNT_PACKAGES).bind(owner.0).bind(now).fetch_one(&db.read).await?;
    Ok(Holdings {
        docsets: docsets.number("docsets")?,
        packages: packages.number("packages")?,
        unfinished: packages.number("unfinished")?,
        stored_bytes: packages.number("stored_bytes")?,
    })
}

pub(super) async fn role_limits(db: &SqlStore, role: Role) -> StoreResult<Holdings<Option<u64>>> {
    let select = query("SELECT docsets, packages, unfinished, stored_bytes FROM role_holdings WHERE role = $1");
    let row = select.bind(role.as_str()).fetch_optional(&db.read).await?;
    row.as_ref().map_or(Ok(Holdings::default()), role_limits_of)
}

pub(super) async fn limit_role(db: &SqlStore, role: Role, limits: &Holdings<Option<u64>>) -> StoreResult<()> {
    let insert = query(
        "INSERT INTO role_holdings (docsets, packages, unfinished, stored_bytes, role) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (role) DO UPDATE SET docsets = excluded.docsets, packages = excluded.packages, \
         unfinished = excluded.unfinished, stored_bytes = excluded.stored_bytes",
    );
    let insert = Holding::ALL.iter().fold(insert, |insert, &holding| insert.bind(limits.of(holding).map(int)));
    insert.bind(role.as_str()).execute(&db.write).await?;
    Ok(())
}

pub(super) async fn limit_key(db: &SqlStore, id: KeyId, own: &Holdings<OwnLimit>) -> StoreResult<bool> {
    let insert = query(
        "INSERT INTO key_holdings (docsets, packages, unfinished, stored_bytes, api_key) \
         SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), k.id \
         FROM api_keys k WHERE k.id = $5 AND k.revoked IS NULL \
         ON CONFLICT (api_key) DO UPDATE SET docsets = excluded.docsets, packages = excluded.packages, \
         unfinished = excluded.unfinished, stored_bytes = excluded.stored_bytes RETURNING api_key",
    );
    let insert = Holding::ALL.iter().fold(insert, |insert, &holding| insert.bind(stored_limit(own.of(holding))));
    Ok(returned(insert.bind(id.0), &db.write).await?.is_some())
}
