//! Texts that were charged to keys on a day, so that no text is charged twice on one. What they
//! cost is counted in [`super::allowances`].

use roaring::RoaringBitmap;
use sqlx::any::AnyRow;

use super::rows::{BATCH, Columns as _, join, made, query, tuples};
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::ids::KeyId;

fn ids_of(rows: &[AnyRow]) -> StoreResult<RoaringBitmap> {
    rows.iter().map(|row| row.number::<u32>("document")).collect()
}

pub(super) async fn charged_texts(
    db: &SqlStore,
    key: KeyId,
    day: i64,
    documents: &RoaringBitmap,
) -> StoreResult<RoaringBitmap> {
    if documents.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    let sql = format!(
        "SELECT document FROM text_charges WHERE api_key = $1 AND day = $2 AND document IN ({})",
        join(documents)
    );
    ids_of(&made(sql, false).bind(key.0).bind(day).fetch_all(&db.read).await?)
}

/// Of several that record a charge at once, the first one has made it.
pub(super) async fn record_text_charges(
    db: &SqlStore,
    key: KeyId,
    day: i64,
    documents: &RoaringBitmap,
) -> StoreResult<RoaringBitmap> {
    let mut fresh = RoaringBitmap::new();
    if documents.is_empty() {
        return Ok(fresh);
    }
    let mut transaction = db.begin().await?;
    let past = query("DELETE FROM text_charges WHERE api_key = $1 AND day < $2");
    past.bind(key.0).bind(day).execute(&mut *transaction).await?;
    for chunk in Vec::from_iter(documents).chunks(BATCH / 3) {
        let sql = format!(
            "INSERT INTO text_charges (api_key, day, document) VALUES {} \
             ON CONFLICT (api_key, day, document) DO NOTHING RETURNING document",
            tuples(chunk.len(), 3)
        );
        let mut insert = made(sql, false);
        for id in chunk {
            insert = insert.bind(key.0).bind(day).bind(i64::from(*id));
        }
        let rows = match insert.fetch_all(&mut *transaction).await {
            Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("key")),
            rows => rows?,
        };
        fresh |= ids_of(&rows)?;
    }
    transaction.commit().await?;
    Ok(fresh)
}
