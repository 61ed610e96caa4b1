//! Adds an import's document versions and files, many rows in one statement.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row as _;

use super::connections::Transaction;
use super::rows::{BATCH, int, made, placeholders, query, to_json, tuples};
use super::{ImportLease, NewDocument, SqlStore, StoreResult, import, summaries};
use crate::domain::FileRecord;

/// Rows of one INSERT: measured as the best on both databases (see [`BATCH`] for what speaks against more).
const ROWS: usize = 40;

pub(super) async fn stage(db: &SqlStore, lease: &ImportLease, documents: &[NewDocument]) -> StoreResult<()> {
    if documents.is_empty() {
        return Ok(());
    }
    let mut transaction = import::begin_under(db, lease).await?;
    for chunk in documents.chunks(ROWS) {
        insert_documents(lease, chunk, &mut transaction).await?;
    }
    summaries::insert(lease, documents, &mut transaction).await?;
    let files: Vec<(i64, &FileRecord)> =
        documents.iter().flat_map(|d| d.files.iter().map(|file| (i64::from(d.id.0), file))).collect();
    let media_types = number_media_types(&files, &mut transaction).await?;
    let packs = number_packs(lease, &files, &mut transaction).await?;
    for chunk in files.chunks(ROWS) {
        insert_files(chunk, &media_types, &packs, &mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn insert_documents(
    lease: &ImportLease,
    documents: &[NewDocument],
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let sql = format!(
        "INSERT INTO documents (id, collection, ref, version, name, folded_name, content_hash, replaces, added, metadata, \
         access) VALUES {}",
        tuples(documents.len(), 11)
    );
    let mut statement = made(sql, documents.len() == ROWS);
    for document in documents {
        statement = statement
            .bind(i64::from(document.id.0))
            .bind(lease.collection().0)
            .bind(&document.r#ref)
            .bind(i64::from(document.version))
            .bind(&document.name)
            .bind(&document.folded_name)
            .bind(&document.content_hash.0[..])
            .bind(document.replaces.map(|id| i64::from(id.0)))
            .bind(lease.made().corpus_version)
            .bind(to_json(&document.metadata)?)
            .bind(document.access.stored());
    }
    statement.execute(&mut **transaction).await?;
    Ok(())
}

async fn insert_files(
    files: &[(i64, &FileRecord)],
    media_types: &HashMap<String, i64>,
    packs: &HashMap<String, i64>,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let sql = format!(
        "INSERT INTO files (document, format, media_type, size, sha256, crc32, encoding, pack, pack_offset, stored, \
         deflate_crc32) VALUES {}",
        tuples(files.len(), 11)
    );
    let mut statement = made(sql, files.len() == ROWS);
    for (document, file) in files {
        statement = statement
            .bind(document)
            .bind(file.format.as_str())
            .bind(media_types.get(&file.media_type))
            .bind(int(file.size))
            .bind(&file.sha256.0[..])
            .bind(i64::from(file.crc32))
            .bind(file.encoding.as_str())
            .bind(packs.get(&file.place.object))
            .bind(int(file.place.offset))
            .bind(int(file.place.stored))
            .bind(file.deflate_crc32.map(i64::from));
    }
    statement.execute(&mut **transaction).await?;
    Ok(())
}

/// Numbers the files' media types. They are gone through in order: two imports at once that met each other's new ones in
/// different orders would wait for each other.
async fn number_media_types(
    files: &[(i64, &FileRecord)],
    transaction: &mut Transaction,
) -> StoreResult<HashMap<String, i64>> {
    let names: BTreeSet<&str> = files.iter().map(|(_, file)| file.media_type.as_str()).collect();
    for name in &names {
        query("INSERT INTO media_types (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
            .bind(*name)
            .execute(&mut **transaction)
            .await?;
    }
    numbers("media_types", names, transaction).await
}

/// Numbers the files' packs. A file that did not change lies in an older import's pack, which keeps its number.
async fn number_packs(
    lease: &ImportLease,
    files: &[(i64, &FileRecord)],
    transaction: &mut Transaction,
) -> StoreResult<HashMap<String, i64>> {
    let names: BTreeSet<&str> = files.iter().map(|(_, file)| file.place.object.as_str()).collect();
    for name in &names {
        query("INSERT INTO packs (name, collection, added) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
            .bind(*name)
            .bind(lease.collection().0)
            .bind(lease.made().corpus_version)
            .execute(&mut **transaction)
            .await?;
    }
    numbers("packs", names, transaction).await
}

async fn numbers(
    table: &str,
    names: BTreeSet<&str>,
    transaction: &mut Transaction,
) -> StoreResult<HashMap<String, i64>> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut numbers = HashMap::with_capacity(names.len());
    for chunk in names.chunks(BATCH) {
        let sql = format!("SELECT name, id FROM {table} WHERE name IN ({})", placeholders(1, chunk.len()));
        let mut statement = made(sql, false);
        for name in chunk {
            statement = statement.bind(*name);
        }
        for row in statement.fetch_all(&mut **transaction).await? {
            numbers.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(numbers)
}
