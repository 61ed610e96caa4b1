//! Frees what old versions of documents take: the rows of their files, and with these the places in
//! packs; and moves files from one pack to another.
//!
//! A version may be freed when a newer one has taken its place, no index that is kept finds it, and
//! no docset has it. A docset that is being made at this moment may be about to have it. So
//! versions are marked first, in a transaction of their own: whoever makes a docset after that is
//! refused what is marked. Whoever came before holds the row of its key, and that is waited for;
//! then the docsets are read once more, and what they have is spared.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use sqlx::{Any, AnyConnection, Executor, Row as _};

use super::connections::Transaction;
use super::docsets::{members_from_bytes, members_to_bytes};
use super::rows::{BATCH, Columns as _, int, join, made, placeholders, query};
use super::{FileMove, ImportLease, PackUsage, SqlStore, StoreError, StoreResult, import, reindex, staging};
use crate::ids::CollectionId;

/// Docsets whose members are read at once.
const DOCSETS: i64 = 100;

/// Versions whose work has a newer one in the corpus version $2 already, and that still have files.
const CANDIDATES: &str = "SELECT string_agg(CAST(id AS TEXT), ' ') AS ids FROM (\
    SELECT d.id FROM documents d WHERE d.collection = $1 AND d.superseded <= $2 AND d.id > $3 \
    AND EXISTS (SELECT 1 FROM documents n WHERE n.collection = d.collection AND n.ref = d.ref \
        AND n.added > d.added AND n.added <= $2) \
    AND EXISTS (SELECT 1 FROM files f WHERE f.document = d.id) ORDER BY d.id LIMIT $4) page";

pub(super) async fn free_old_versions(
    db: &SqlStore,
    lease: &ImportLease,
    kept_from: i64,
    dry_run: bool,
) -> StoreResult<u64> {
    let collection = lease.collection();
    let mut free = reindex::read_ids(db, CANDIDATES, collection, kept_from).await?;
    let mut reading = db.read.begin("BEGIN").await?;
    free -= find_docset_members(collection, &mut reading).await?;
    reading.rollback().await?;
    if dry_run || free.is_empty() {
        return Ok(free.len());
    }
    let mut transaction = import::begin_under(db, lease).await?;
    let before = read_marks(collection, &mut *transaction).await?;
    write_marks(collection, &(&before | &free), &mut transaction).await?;
    transaction.commit().await?;

    let mut transaction = import::begin_under(db, lease).await?;
    // Two sweeps of two collections would take the keys' rows in two orders.
    query("UPDATE identity SET value = value").execute(&mut *transaction).await?;
    query("UPDATE api_keys SET name = name").execute(&mut *transaction).await?;
    let spared = &free & find_docset_members(collection, &mut transaction).await?;
    free -= &spared;
    let ids: Vec<u32> = free.iter().collect();
    for chunk in ids.chunks(BATCH) {
        let sql = format!("DELETE FROM files WHERE document IN ({})", join(chunk));
        made(sql, false).execute(&mut *transaction).await?;
    }
    write_marks(collection, &(&before | &free), &mut transaction).await?;
    transaction.commit().await?;
    Ok(free.len())
}

/// Refuses a docset versions whose files are freed, or about to be. The transaction must hold the
/// row of its owner's key.
pub(super) async fn check_members(
    collection: CollectionId,
    members: &RoaringBitmap,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let freed = read_marks(collection, &mut **transaction).await?;
    let is_there = freed.is_disjoint(members);
    if is_there { Ok(()) } else { Err(StoreError::NotFound("version of some of these documents any more")) }
}

async fn read_marks<'e>(
    collection: CollectionId,
    executor: impl Executor<'e, Database = Any>,
) -> StoreResult<RoaringBitmap> {
    let select = query("SELECT members FROM freed_versions WHERE collection = $1").bind(collection.0);
    let row = select.fetch_optional(executor).await?;
    row.map_or(Ok(RoaringBitmap::new()), |row| members_from_bytes(row.value("members")?))
}

async fn write_marks(
    collection: CollectionId,
    freed: &RoaringBitmap,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let insert = query(
        "INSERT INTO freed_versions (collection, members) VALUES ($1, $2) \
         ON CONFLICT (collection) DO UPDATE SET members = excluded.members",
    );
    insert.bind(collection.0).bind(members_to_bytes(freed)?).execute(&mut **transaction).await?;
    Ok(())
}

/// The members of some docsets of a collection, of those behind the second parameter; those too
/// that stay for packages alone.
const MEMBERS: &str = "SELECT id, members FROM docsets WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3";

async fn find_docset_members(collection: CollectionId, connection: &mut AnyConnection) -> StoreResult<RoaringBitmap> {
    let (mut all, mut last) = (RoaringBitmap::new(), 0);
    loop {
        let page = query(MEMBERS).bind(collection.0).bind(last).bind(DOCSETS).fetch_all(&mut *connection).await?;
        let Some(row) = page.last() else { return Ok(all) };
        last = row.value("id")?;
        for row in &page {
            all |= members_from_bytes(row.value("members")?)?;
        }
    }
}

pub(super) async fn pack_usage(db: &SqlStore, collection: CollectionId) -> StoreResult<Vec<PackUsage>> {
    // Versions of a work may share a place.
    let rows = query(
        "SELECT p.name AS name, COUNT(f.pack) AS files, CAST(COALESCE(SUM(f.stored), 0) AS BIGINT) AS bytes FROM packs p \
         LEFT JOIN (SELECT DISTINCT pack, pack_offset, stored FROM files) f ON f.pack = p.id \
         WHERE p.collection = $1 AND p.gone = 0 GROUP BY p.id, p.name ORDER BY p.id",
    );
    let usage = |row: &sqlx::any::AnyRow| {
        Ok(PackUsage { name: row.value("name")?, files: row.number("files")?, bytes: row.number("bytes")? })
    };
    rows.bind(collection.0).fetch_all(&db.read).await?.iter().map(usage).collect()
}

pub(super) async fn documents_in_packs(db: &SqlStore, packs: &[String]) -> StoreResult<RoaringBitmap> {
    let mut found = RoaringBitmap::new();
    for chunk in packs.chunks(BATCH) {
        let sql = format!(
            "SELECT COALESCE(string_agg(CAST(document AS TEXT), ' '), '') AS found FROM (SELECT DISTINCT document FROM files \
             WHERE pack IN (SELECT id FROM packs WHERE name IN ({}))) d",
            placeholders(1, chunk.len())
        );
        let statement = chunk.iter().fold(made(sql, false), |statement, name| statement.bind(name));
        let row = statement.fetch_one(&db.read).await?;
        for id in row.value::<&str>("found")?.split_ascii_whitespace() {
            found.insert(id.parse().map_err(|_| StoreError::Corrupt(format!("{id:?} is no document version")))?);
        }
    }
    Ok(found)
}

pub(super) async fn move_files(db: &SqlStore, lease: &ImportLease, moves: &[FileMove]) -> StoreResult<()> {
    let mut transaction = import::begin_under(db, lease).await?;
    let old = moves.iter().map(|moved| moved.from.object.as_str());
    let old = staging::numbers("packs", old.collect::<BTreeSet<_>>(), &mut transaction).await?;
    let new = moves.iter().map(|moved| moved.to.object.as_str());
    let new = staging::number_packs(lease, lease.base.corpus_version, new.collect(), &mut transaction).await?;
    for FileMove { document, format, from, to } in moves {
        query(
            "UPDATE files SET pack = $5, pack_offset = $6 \
             WHERE document = $1 AND format = $2 AND pack = $3 AND pack_offset = $4",
        )
        .bind(i64::from(document.0))
        .bind(format.as_str())
        .bind(old.get(&from.object))
        .bind(int(from.offset))
        .bind(new.get(&to.object))
        .bind(int(to.offset))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

/// One pass over the files for all of them: there is no index by pack.
pub(super) async fn drop_packs(db: &SqlStore, lease: &ImportLease, packs: &[String]) -> StoreResult<Vec<String>> {
    let mut transaction = import::begin_under(db, lease).await?;
    let mut dropped = Vec::new();
    for chunk in packs.chunks(BATCH) {
        let sql = format!(
            "UPDATE packs SET gone = 1 WHERE name IN ({}) AND id NOT IN (SELECT pack FROM files) RETURNING name",
            placeholders(1, chunk.len())
        );
        let statement = chunk.iter().fold(made(sql, false), |statement, name| statement.bind(name));
        for row in statement.fetch_all(&mut *transaction).await? {
            dropped.push(row.try_get(0)?);
        }
    }
    transaction.commit().await?;
    Ok(dropped)
}
