//! Document versions that were charged to keys, by day and format: the same ones are not charged
//! again on that day.

use roaring::RoaringBitmap;

use super::rows::{BATCH, Columns as _, join, made, query};
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::domain::Format;
use crate::ids::KeyId;

/// Documents of one format, charged to a key on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargedTo<'a> {
    /// The key.
    pub key: KeyId,
    /// When the day begins: see [`Allowance::window`](crate::domain::Allowance::window).
    pub day: i64,
    /// The format.
    pub format: &'a Format,
}

pub(super) async fn find(db: &SqlStore, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
    let mut charged = RoaringBitmap::new();
    for batch in batches(documents) {
        let sql = format!(
            "SELECT document FROM charges WHERE day = $1 AND api_key = $2 AND format = $3 AND document IN ({})",
            join(&batch)
        );
        let select = made(sql, false).bind(to.day).bind(to.key.0).bind(to.format.as_str());
        for row in select.fetch_all(&db.read).await? {
            charged.insert(row.number("document")?);
        }
    }
    Ok(charged)
}

pub(super) async fn record(db: &SqlStore, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
    let mut recorded = RoaringBitmap::new();
    let mut transaction = db.begin().await?;
    for batch in batches(documents) {
        let rows = join(batch.iter().map(|document| format!("($1, $2, $3, {document})")));
        let sql = format!(
            "INSERT INTO charges (day, api_key, format, document) VALUES {rows} ON CONFLICT DO NOTHING RETURNING document"
        );
        let insert = made(sql, false).bind(to.day).bind(to.key.0).bind(to.format.as_str());
        let rows = match insert.fetch_all(&mut *transaction).await {
            Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("key")),
            rows => rows?,
        };
        for row in rows {
            recorded.insert(row.number("document")?);
        }
    }
    transaction.commit().await?;
    Ok(recorded)
}

fn batches(documents: &RoaringBitmap) -> impl Iterator<Item = Vec<u32>> {
    let mut rest = documents.iter();
    std::iter::from_fn(move || {
        let batch: Vec<u32> = rest.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

pub(super) async fn forget(db: &SqlStore, before: i64) -> StoreResult<()> {
    query("DELETE FROM charges WHERE day < $1").bind(before).execute(&db.write).await?;
    Ok(())
}
