//! Who may have what: entitlements of keys, access levels of documents, and what of its docset a package has.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::connections::Transaction;
use super::rows::{Columns as _, join, made, query, to_json};
use super::{ImportLease, SqlStore, StoreError, StoreResult, errors};
use crate::domain::{Access, Clearance, Entitlement};
use crate::ids::{CollectionId, KeyId, PackageId};

/// An expression of SQL for the entitlements of the key `k`, with spaces between them.
pub(super) const ENTITLEMENTS_OF_K: &str =
    "(SELECT string_agg(e.name, ' ') FROM entitlements e WHERE e.api_key = k.id) AS entitlements";

/// Reads what [`ENTITLEMENTS_OF_K`] gives.
pub(super) fn parse_entitlements(names: Option<&str>) -> StoreResult<BTreeSet<Entitlement>> {
    let names = names.unwrap_or_default().split_ascii_whitespace();
    names.map(str::parse).collect::<Result<_, _>>().map_err(|error| StoreError::Corrupt(format!("{error}")))
}

pub(super) async fn grant(db: &SqlStore, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool> {
    let insert =
        query("INSERT INTO entitlements (api_key, name) VALUES ($1, $2) ON CONFLICT (api_key, name) DO NOTHING");
    match insert.bind(key.0).bind(entitlement.as_str()).execute(&db.write).await {
        Err(error) if errors::is_foreign_key_violation(&error) => Err(StoreError::NotFound("key")),
        granted => Ok(granted?.rows_affected() > 0),
    }
}

pub(super) async fn deny(db: &SqlStore, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool> {
    let delete = query("DELETE FROM entitlements WHERE api_key = $1 AND name = $2");
    Ok(delete.bind(key.0).bind(entitlement.as_str()).execute(&db.write).await?.rows_affected() > 0)
}

/// Documents that are looked up one by one; of more, all that are not open are gone through.
pub(super) const FEW: u64 = 1000;

/// The ids of each level come as one text: a row for each document would take many times as long (see [`super::members`]).
pub(super) async fn closed(
    db: &SqlStore,
    collection: CollectionId,
    members: &RoaringBitmap,
) -> StoreResult<Vec<(Access, RoaringBitmap)>> {
    let (Some(first), Some(last)) = (members.min(), members.max()) else { return Ok(Vec::new()) };
    // The plus keeps SQLite from going through the index of what is not open for the sake of a few.
    let among = match members.len() {
        0..=FEW => format!("+collection = $1 AND id IN ({})", join(members)),
        _ => format!("collection = $1 AND id BETWEEN {first} AND {last}"),
    };
    let sql = format!(
        "SELECT access, string_agg(CAST(id AS TEXT), ' ') AS ids FROM documents \
         WHERE {among} AND access IS NOT NULL GROUP BY access ORDER BY access"
    );
    let rows = made(sql, false).bind(collection.0).fetch_all(&db.read).await?;
    let mut closed = Vec::with_capacity(rows.len());
    for row in rows {
        let ids = row.value::<&str>("ids")?.split(' ').map(str::parse::<u32>);
        let ids: RoaringBitmap = ids
            .collect::<Result<_, _>>()
            .map_err(|_| StoreError::Corrupt("a document's id cannot be read".to_owned()))?;
        closed.push((row.parsed("access")?, ids & members));
    }
    closed.retain(|(_, ids)| !ids.is_empty());
    Ok(closed)
}

/// Gives older versions the access level of the ones that this import adds.
pub(super) async fn spread_access(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<()> {
    // Nearly all collections are open throughout.
    let any = query("SELECT 1 FROM documents WHERE collection = $1 AND access IS NOT NULL LIMIT 1");
    if any.bind(lease.collection().0).fetch_optional(&mut **transaction).await?.is_none() {
        return Ok(());
    }
    query(
        "UPDATE documents SET access = n.access FROM documents n \
         WHERE n.collection = $1 AND n.added = $2 AND n.replaces IS NOT NULL \
         AND documents.collection = n.collection AND documents.ref = n.ref AND documents.added < n.added \
         AND documents.access IS DISTINCT FROM n.access",
    )
    .bind(lease.collection().0)
    .bind(lease.made().corpus_version)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Keeps what there is to say of a new package.
pub(super) async fn keep_clearance(
    package: PackageId,
    clearance: &Clearance,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    if !clearance.is_empty() {
        let insert = query("INSERT INTO clearances (package, members) VALUES ($1, $2)");
        insert.bind(package.0).bind(to_json(clearance)?).execute(&mut **transaction).await?;
    }
    Ok(())
}

pub(super) async fn clearance(db: &SqlStore, package: PackageId) -> StoreResult<Clearance> {
    let row =
        query("SELECT members FROM clearances WHERE package = $1").bind(package.0).fetch_optional(&db.read).await?;
    row.map_or_else(|| Ok(Clearance::default()), |row| row.json("members"))
}
