//! Works that were withdrawn.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::rows::{Columns as _, query};
use super::{SqlStore, StoreResult};
use crate::domain::Withdrawn;
use crate::ids::{CollectionId, VersionId};

pub(super) async fn withdrawn(
    db: &SqlStore,
    collection: CollectionId,
    members: &RoaringBitmap,
) -> StoreResult<BTreeMap<VersionId, Withdrawn>> {
    let (Some(first), Some(last)) = (members.min(), members.max()) else { return Ok(BTreeMap::new()) };
    let rows = query(
        "SELECT d.id, w.withdrawn, w.reason FROM withdrawals w JOIN documents d ON d.collection = w.collection AND d.ref = w.ref \
         WHERE w.collection = $1 AND w.undone = 0 AND d.id BETWEEN $2 AND $3",
    )
    .bind(collection.0)
    .bind(i64::from(first))
    .bind(i64::from(last))
    .fetch_all(&db.read)
    .await?;
    let mut withdrawn = BTreeMap::new();
    for row in rows {
        let id: u32 = row.number("id")?;
        if members.contains(id) {
            withdrawn.insert(VersionId(id), Withdrawn { at: row.value("withdrawn")?, reason: row.value("reason")? });
        }
    }
    Ok(withdrawn)
}
