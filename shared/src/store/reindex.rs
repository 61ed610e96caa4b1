//! What making a collection's index anew needs of the database: the lease without a new description, and which documents the index is to hold.

use roaring::RoaringBitmap;

use super::rows::{Columns as _, query};
use super::{ImportLease, SqlStore, StoreError, StoreResult, documents, import};
use crate::clock::latest_end;
use crate::ids::{CollectionId, ImportId};

/// Ids that are read as one text: for each row that the driver hands over, threads must wake each other.
const PAGE: i64 = 50_000;

pub(super) async fn begin(db: &SqlStore, slug: &str, now: i64, lease_ms: i64) -> StoreResult<ImportLease> {
    let import = ImportId(rand::random());
    let take = query(
        "UPDATE collections SET import = $2, import_until = $3 \
         WHERE slug = $1 AND (import IS NULL OR import_until <= $4 OR import_until > $5) RETURNING id",
    )
    .bind(slug)
    .bind(import.to_string())
    .bind(now + lease_ms)
    .bind(now)
    .bind(latest_end(now, lease_ms));
    import::hold(db, take, import, slug, now).await
}

pub(super) async fn indexed(db: &SqlStore, lease: &ImportLease) -> StoreResult<RoaringBitmap> {
    let page = "SELECT string_agg(CAST(id AS TEXT), ' ') AS ids FROM (\
        SELECT id FROM documents WHERE collection = $1 AND added <= $2 \
        AND (superseded IS NULL OR superseded > $2) AND id > $3 ORDER BY id LIMIT $4) page";
    read_ids(db, page, lease.collection(), lease.base.corpus_version).await
}

/// Those of all committed versions, whether or not they are current.
pub(super) async fn stored_versions(db: &SqlStore, collection: CollectionId) -> StoreResult<RoaringBitmap> {
    let page = "SELECT string_agg(CAST(id AS TEXT), ' ') AS ids FROM (\
        SELECT id FROM documents WHERE collection = $1 AND added <= $2 AND id > $3 ORDER BY id LIMIT $4) page";
    let collection = documents::collection_by_id(&db.read, collection).await?;
    let collection = collection.ok_or(StoreError::NotFound("collection"))?;
    read_ids(db, page, collection.id, collection.corpus_version).await
}

/// Reads the ids that `page` gives, a text of ids behind the third parameter.
pub(super) async fn read_ids(
    db: &SqlStore,
    page: &'static str,
    collection: CollectionId,
    corpus_version: i64,
) -> StoreResult<RoaringBitmap> {
    let mut ids = RoaringBitmap::new();
    loop {
        let last = ids.max().map_or(-1, i64::from);
        let page = query(page).bind(collection.0).bind(corpus_version).bind(last).bind(PAGE);
        let row = page.fetch_one(&db.read).await?;
        let Some(text) = row.value::<Option<String>>("ids")? else { return Ok(ids) };
        for id in text.split(' ') {
            let id: u32 = id.parse().map_err(|_| StoreError::Corrupt(format!("{id:?} is no document version")))?;
            ids.insert(id);
        }
    }
}
