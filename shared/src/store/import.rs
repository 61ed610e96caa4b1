//! Imports: the lease, fresh version ids, commit and abort. Adding rows lives in [`super::staging`], what is there for making an index anew in
//! [`super::reindex`].
//!
//! Every step that writes first writes to the collection's row while checking the lease. That locks the row until the transaction
//! ends, so no other import can take the collection in the middle of a step, and (on SQLite) no read comes before the write lock.

use std::collections::{BTreeMap, HashSet};

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::connections::Transaction;
use super::documents::{collection_by_id, collection_of, select_collections};
use super::rows::{Columns as _, Statement, int, query, to_json};
use super::sql::returned;
use super::{HeldLease, ImportLease, NewCollection, SqlStore, StoreError, StoreResult, rights, withdrawals};
use crate::clock::latest_end;
use crate::domain::{Collection, Format, FormatTotal};
use crate::ids::{CollectionId, ImportId, VersionId};
use crate::search::Language;

const TAKE_LEASE: &str = "\
    INSERT INTO collections (slug, name, description, license, updated, import, import_until, access, tdm, language, hide_closed_text) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
    ON CONFLICT (slug) DO UPDATE SET \
        name = excluded.name, description = excluded.description, license = excluded.license, \
        hide_closed_text = excluded.hide_closed_text, language = excluded.language, access = excluded.access, tdm = excluded.tdm, import = excluded.import, import_until = excluded.import_until, \
        updated = CASE WHEN collections.name = excluded.name AND collections.description = excluded.description \
            AND collections.license IS NOT DISTINCT FROM excluded.license \
            AND collections.access IS NOT DISTINCT FROM excluded.access \
            AND collections.language IS NOT DISTINCT FROM excluded.language \
            AND collections.tdm IS NOT DISTINCT FROM excluded.tdm THEN collections.updated ELSE excluded.updated END \
    WHERE collections.import IS NULL OR collections.import_until <= $5 OR collections.import_until > $12 \
    RETURNING id";

pub(super) async fn begin(
    db: &SqlStore,
    collection: &NewCollection,
    now: i64,
    lease_ms: i64,
) -> StoreResult<ImportLease> {
    let import = ImportId(rand::random());
    let take = query(TAKE_LEASE)
        .bind(&collection.slug)
        .bind(&collection.name)
        .bind(&collection.description)
        .bind(&collection.license)
        .bind(now)
        .bind(import.to_string())
        .bind(now + lease_ms)
        .bind(collection.access.stored())
        .bind(collection.tdm.as_ref().map(to_json).transpose()?)
        .bind(collection.language.map(Language::as_str))
        .bind(i64::from(collection.hide_closed_text))
        .bind(latest_end(now, lease_ms));
    hold(db, take, import, &collection.slug, now).await
}

/// Takes the lease by the statement `take`, which gives the collection's id if it could.
pub(super) async fn hold(
    db: &SqlStore,
    take: Statement<'_>,
    import: ImportId,
    slug: &str,
    now: i64,
) -> StoreResult<ImportLease> {
    let mut transaction = db.begin().await?;
    let Some(row) = returned(take, &mut *transaction).await? else {
        let holder = query("SELECT import_until FROM collections WHERE slug = $1").bind(slug);
        let holder = holder.fetch_optional(&mut *transaction).await?.ok_or(StoreError::NotFound("collection"))?;
        let until: Option<i64> = holder.try_get(0)?;
        return Err(StoreError::ImportRunning { until_ms: until.unwrap_or(now) });
    };
    // A statement of its own: on PostgreSQL the one above may have waited for another import's commit, and would see the collection's row
    // as that one left it, but not the row that says who made its corpus version.
    let collection = collection_by_id(&mut *transaction, CollectionId(row.value("id")?)).await?;
    let lease = ImportLease { import, base: collection.ok_or(StoreError::NotFound("collection"))?.index() };
    remove_staged(&lease, &mut transaction).await?;
    transaction.commit().await?;
    Ok(lease)
}

/// Removes what this import, or one that died before it, has added.
async fn remove_staged(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<()> {
    for sql in [
        "DELETE FROM documents WHERE collection = $1 AND added > $2",
        "DELETE FROM summaries WHERE collection = $1 AND added > $2",
        "DELETE FROM packs WHERE collection = $1 AND added > $2",
    ] {
        query(sql).bind(lease.collection().0).bind(lease.base.corpus_version).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Begins a transaction in which the lease cannot be lost: the collection is locked.
pub(super) async fn begin_under(db: &SqlStore, lease: &ImportLease) -> StoreResult<Transaction> {
    let mut transaction = db.begin().await?;
    let locked = query("UPDATE collections SET import = import WHERE id = $1 AND import = $2")
        .bind(lease.collection().0)
        .bind(lease.import.to_string())
        .execute(&mut *transaction)
        .await?;
    if locked.rows_affected() == 0 { Err(StoreError::ImportOvertaken) } else { Ok(transaction) }
}

pub(super) async fn renew(db: &SqlStore, lease: &ImportLease, until: i64) -> StoreResult<()> {
    let renewed = query("UPDATE collections SET import_until = $3 WHERE id = $1 AND import = $2")
        .bind(lease.collection().0)
        .bind(lease.import.to_string())
        .bind(until)
        .execute(&db.write)
        .await?;
    if renewed.rows_affected() == 0 { Err(StoreError::ImportOvertaken) } else { Ok(()) }
}

pub(super) async fn held_leases(db: &SqlStore) -> StoreResult<Vec<HeldLease>> {
    let held = query("SELECT slug, import, import_until FROM collections WHERE import IS NOT NULL ORDER BY slug");
    let lease = |row: &AnyRow| {
        let until: Option<i64> = row.value("import_until")?;
        Ok(HeldLease { slug: row.value("slug")?, import: row.parsed("import")?, until_ms: until.unwrap_or_default() })
    };
    held.fetch_all(&db.read).await?.iter().map(lease).collect()
}

/// What the holder has staged stays unseen, and goes when the next lease is taken.
pub(super) async fn break_lease(db: &SqlStore, slug: &str) -> StoreResult<Option<ImportId>> {
    let mut transaction = db.begin().await?;
    // Locks the row, so that the import that is told is the one whose lease is broken.
    let lock = query("UPDATE collections SET import = import WHERE slug = $1 RETURNING import").bind(slug);
    let row = returned(lock, &mut *transaction).await?.ok_or(StoreError::NotFound("collection"))?;
    let broken = row.optional_parsed("import")?;
    let free = query("UPDATE collections SET import = NULL, import_until = NULL WHERE slug = $1").bind(slug);
    free.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(broken)
}

pub(super) async fn reserve_versions(db: &SqlStore, count: u32) -> StoreResult<VersionId> {
    let take = query(
        "UPDATE counters SET value = value + $1 WHERE name = 'document_version' AND value + $1 <= $2 RETURNING value",
    )
    .bind(i64::from(count))
    .bind(i64::from(u32::MAX));
    let row = returned(take, &db.write).await?.ok_or(StoreError::IdsExhausted)?;
    let last: i64 = row.try_get(0)?;
    u32::try_from(last - i64::from(count) + 1).map(VersionId).map_err(|_| StoreError::IdsExhausted)
}

/// With a `new_index` there is a new corpus version even where nothing is staged.
pub(super) async fn commit(db: &SqlStore, lease: &ImportLease, now: i64, new_index: bool) -> StoreResult<Collection> {
    let mut transaction = match begin_under(db, lease).await {
        Err(StoreError::ImportOvertaken) => return committed_before(db, lease).await,
        begun => begun?,
    };
    let before = collection_by_id(&mut *transaction, lease.collection()).await?;
    let mut collection = before.ok_or(StoreError::NotFound("collection"))?;
    let (staged, growth) = count_staged(lease, &mut transaction).await?;
    let settled = withdrawals::settle(lease, &mut transaction).await?;
    if staged > 0 || settled.any || new_index {
        record(lease, now, &mut transaction).await?;
        supersede(lease, &mut transaction).await?;
        rights::spread_access(lease, &mut transaction).await?;
        collection.formats = new_totals(lease, &collection.formats, settled.formats, &mut transaction).await?;
        collection.documents = collection.documents.saturating_add_signed(growth + settled.growth);
        collection.corpus_version = lease.made().corpus_version;
        collection.import = Some(lease.import);
        collection.updated = now;
    }
    query(
        "UPDATE collections SET corpus_version = $2, documents = $3, formats = $4, updated = $5, \
         import = NULL, import_until = NULL, last_import = $6 WHERE id = $1",
    )
    .bind(collection.id.0)
    .bind(collection.corpus_version)
    .bind(int(collection.documents))
    .bind(to_json(&collection.formats)?)
    .bind(collection.updated)
    .bind(lease.import.to_string())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(collection)
}

/// A commit whose answer was lost with the connection may be asked for again, even when another import has followed since.
async fn committed_before(db: &SqlStore, lease: &ImportLease) -> StoreResult<Collection> {
    let row = query(select_collections!(
        "WHERE c.id = $1 AND (c.last_import = $2 \
         OR EXISTS (SELECT 1 FROM corpus_versions WHERE collection = $1 AND import = $2))"
    ))
    .bind(lease.collection().0)
    .bind(lease.import.to_string())
    .fetch_optional(&db.read)
    .await?;
    collection_of(&row.ok_or(StoreError::ImportOvertaken)?)
}

async fn record(lease: &ImportLease, now: i64, transaction: &mut Transaction) -> StoreResult<()> {
    query("INSERT INTO corpus_versions (collection, version, import, made) VALUES ($1, $2, $3, $4)")
        .bind(lease.collection().0)
        .bind(lease.made().corpus_version)
        .bind(lease.import.to_string())
        .bind(now)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// How many documents are staged, and by how many the current ones grow.
async fn count_staged(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<(i64, i64)> {
    let row = query("SELECT COUNT(*), COUNT(replaces) FROM documents WHERE collection = $1 AND added = $2")
        .bind(lease.collection().0)
        .bind(lease.made().corpus_version)
        .fetch_one(&mut **transaction)
        .await?;
    let (staged, replacing): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok((staged, staged - replacing))
}

async fn supersede(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<()> {
    query(
        "UPDATE documents SET superseded = $2 WHERE id IN (\
            SELECT replaces FROM documents WHERE collection = $1 AND added = $2 AND replaces IS NOT NULL)",
    )
    .bind(lease.collection().0)
    .bind(lease.made().corpus_version)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The totals by format after the import: plus the files that came, less those that were replaced, and what was settled of withdrawals. So a small import into a
/// large collection stays small.
async fn new_totals(
    lease: &ImportLease,
    before: &[FormatTotal],
    settled: Vec<(Format, i64, i64)>,
    transaction: &mut Transaction,
) -> StoreResult<Vec<FormatTotal>> {
    let rows = query(
        "SELECT f.format AS format, CAST(SUM(c.sign) AS BIGINT) AS documents, CAST(SUM(c.sign * f.size) AS BIGINT) AS bytes \
         FROM (SELECT id AS document, 1 AS sign FROM documents WHERE collection = $1 AND added = $2 \
               UNION ALL \
               SELECT replaces, -1 FROM documents WHERE collection = $1 AND added = $2 AND replaces IS NOT NULL) c \
         JOIN files f ON f.document = c.document GROUP BY f.format",
    )
    .bind(lease.collection().0)
    .bind(lease.made().corpus_version)
    .fetch_all(&mut **transaction)
    .await?;
    let mut totals: BTreeMap<Format, (u64, u64)> =
        before.iter().map(|total| (total.format.clone(), (total.documents, total.bytes))).collect();
    let mut changes = settled;
    for row in rows {
        changes.push((row.parsed("format")?, row.value("documents")?, row.value("bytes")?));
    }
    for (format, documents, bytes) in changes {
        let total = totals.entry(format).or_default();
        *total = (total.0.saturating_add_signed(documents), total.1.saturating_add_signed(bytes));
    }
    totals.retain(|_, total| total.0 > 0);
    Ok(totals.into_iter().map(|(format, (documents, bytes))| FormatTotal { format, documents, bytes }).collect())
}

/// What another import has taken over is that one's to clean up.
pub(super) async fn abort(db: &SqlStore, lease: &ImportLease) -> StoreResult<()> {
    let mut transaction = match begin_under(db, lease).await {
        Err(StoreError::ImportOvertaken) => return Ok(()),
        begun => begun?,
    };
    remove_staged(lease, &mut transaction).await?;
    query("UPDATE collections SET import = NULL, import_until = NULL WHERE id = $1")
        .bind(lease.collection().0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn pack_keys(db: &SqlStore, collection: CollectionId) -> StoreResult<HashSet<String>> {
    let rows = query("SELECT name FROM packs WHERE collection = $1").bind(collection.0).fetch_all(&db.read).await?;
    rows.iter().map(|row| row.value("name")).collect()
}
