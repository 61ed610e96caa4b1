//! Reads collections and documents. What imports write lives in [`super::import`] and [`super::staging`].

use std::collections::HashMap;

use sqlx::any::AnyRow;
use sqlx::{Any, Executor, Row as _};

use super::files::{Names, files_of_d, parse_files};
use super::rows::{BATCH, Columns as _, join, made, placeholders, query};
use super::{CurrentDocument, SqlStore, StoreResult};
use crate::domain::{Access, Collection, Document, Withdrawn};
use crate::ids::{CollectionId, IndexId, VersionId};

/// Selects collections, each with the import that made its corpus version.
macro_rules! select_collections {
    ($rest:literal) => {
        concat!(
            "SELECT c.*, (SELECT v.import FROM corpus_versions v \
             WHERE v.collection = c.id AND v.version = c.corpus_version) AS made_by FROM collections c ",
            $rest
        )
    };
}
pub(super) use select_collections;

/// The collection in a row of [`select_collections`].
pub(super) fn collection_of(row: &AnyRow) -> StoreResult<Collection> {
    Ok(Collection {
        id: CollectionId(row.value("id")?),
        slug: row.value("slug")?,
        name: row.value("name")?,
        description: row.value("description")?,
        license: row.value("license")?,
        access: access_of(row)?,
        tdm: row.value::<Option<&str>>("tdm")?.map(|_| row.json("tdm")).transpose()?,
        language: row.optional_parsed("language")?,
        hide_closed_text: row.value::<i64>("hide_closed_text")? != 0,
        corpus_version: row.value("corpus_version")?,
        import: row.optional_parsed("made_by")?,
        documents: row.number("documents")?,
        formats: row.json("formats")?,
        updated: row.value("updated")?,
    })
}

/// Who may have a document's files; nothing stands for open.
fn access_of(row: &AnyRow) -> StoreResult<Access> {
    Ok(row.optional_parsed("access")?.unwrap_or_default())
}

pub(super) async fn collections(db: &SqlStore) -> StoreResult<Vec<Collection>> {
    let rows = query(select_collections!("ORDER BY c.slug")).fetch_all(&db.read).await?;
    rows.iter().map(collection_of).collect()
}

pub(super) async fn collection(db: &SqlStore, slug: &str) -> StoreResult<Option<Collection>> {
    if has_nul(slug) {
        return Ok(None);
    }
    let row = query(select_collections!("WHERE c.slug = $1")).bind(slug).fetch_optional(&db.read).await?;
    row.as_ref().map(collection_of).transpose()
}

pub(super) async fn collection_by_id<'e>(
    executor: impl Executor<'e, Database = Any>,
    id: CollectionId,
) -> StoreResult<Option<Collection>> {
    let row = query(select_collections!("WHERE c.id = $1")).bind(id.0).fetch_optional(executor).await?;
    row.as_ref().map(collection_of).transpose()
}

pub(super) async fn indexes(db: &SqlStore, collection: CollectionId, limit: u32) -> StoreResult<Vec<IndexId>> {
    let newest =
        query("SELECT version, import FROM corpus_versions WHERE collection = $1 ORDER BY version DESC LIMIT $2");
    let rows = newest.bind(collection.0).bind(i64::from(limit)).fetch_all(&db.read).await?;
    let index = |row: &AnyRow| {
        let (corpus_version, import) = (row.value("version")?, row.optional_parsed("import")?);
        Ok(IndexId { collection, corpus_version, import })
    };
    rows.iter().map(index).collect()
}

/// PostgreSQL stores no NUL character and refuses even to compare with one: no row has such a text.
pub(super) fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

pub(super) async fn documents(db: &SqlStore, ids: &[VersionId]) -> StoreResult<Vec<Document>> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut names = Names::default();
    let mut documents = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(BATCH) {
        let sql = format!(
            "SELECT d.*, w.withdrawn, w.reason, {} AS files FROM documents d JOIN collections c ON c.id = d.collection \
             LEFT JOIN withdrawals w ON w.collection = d.collection AND w.ref = d.ref AND w.undone = 0 WHERE d.id IN ({}) AND d.added <= c.corpus_version ORDER BY d.id",
            files_of_d(None),
            join(chunk)
        );
        let rows = made(sql, false).fetch_all(&db.read).await?;
        let files = rows.iter().map(|row| row.value::<&str>("files")).collect::<StoreResult<Vec<_>>>()?;
        for (row, files) in rows.iter().zip(parse_files(db, &mut names, &files).await?) {
            documents.push(Document { files, ..document_of(row)? });
        }
    }
    Ok(documents)
}

pub(super) async fn imported(db: &SqlStore, id: VersionId) -> StoreResult<Option<i64>> {
    let statement = query(
        "SELECT v.made FROM documents d JOIN corpus_versions v ON v.collection = d.collection AND v.version >= d.added \
         WHERE d.id = $1 ORDER BY v.version LIMIT 1",
    );
    let row = statement.bind(i64::from(id.0)).fetch_optional(&db.read).await?;
    row.map(|row| row.value("made")).transpose()
}

fn document_of(row: &AnyRow) -> StoreResult<Document> {
    Ok(Document {
        id: VersionId(row.number("id")?),
        collection: CollectionId(row.value("collection")?),
        r#ref: row.value("ref")?,
        version: row.number("version")?,
        name: row.value("name")?,
        metadata: row.json("metadata")?,
        content_hash: row.digest("content_hash")?,
        added: row.value("added")?,
        superseded: row.value("superseded")?,
        access: access_of(row)?,
        withdrawn: match row.value("withdrawn")? {
            Some(at) => Some(Withdrawn { at, reason: row.value("reason")? }),
            None => None,
        },
        files: Vec::new(),
    })
}

/// The versions of documents that are visible in `corpus_version`, by ref.
pub(super) async fn visible(
    db: &SqlStore,
    collection: CollectionId,
    corpus_version: i64,
    refs: &[String],
) -> StoreResult<HashMap<String, CurrentDocument>> {
    let refs: Vec<&String> = refs.iter().filter(|text| !has_nul(text)).collect();
    let mut found = HashMap::with_capacity(refs.len());
    for chunk in refs.chunks(BATCH) {
        let sql = format!(
            "SELECT ref, id, version, name, content_hash, access FROM documents WHERE collection = $1 AND added <= $2 \
             AND (superseded IS NULL OR superseded > $2) AND ref IN ({})",
            placeholders(3, chunk.len())
        );
        let mut statement = made(sql, chunk.len() == BATCH).bind(collection.0).bind(corpus_version);
        for text in chunk {
            statement = statement.bind(text.as_str());
        }
        for row in statement.fetch_all(&db.read).await? {
            let current = CurrentDocument {
                id: VersionId(row.number("id")?),
                version: row.number("version")?,
                name: row.value("name")?,
                content_hash: row.digest("content_hash")?,
                access: access_of(&row)?,
            };
            found.insert(row.try_get(0)?, current);
        }
    }
    Ok(found)
}

/// The refs that have these folded names, whatever the version. A folded name belongs to one ref for ever.
pub(super) async fn name_owners(
    db: &SqlStore,
    collection: CollectionId,
    folded: &[String],
) -> StoreResult<HashMap<String, String>> {
    let mut owners = HashMap::new();
    for chunk in folded.chunks(BATCH) {
        let sql = format!(
            "SELECT DISTINCT folded_name, ref FROM documents WHERE collection = $1 AND folded_name IN ({})",
            placeholders(2, chunk.len())
        );
        let mut statement = made(sql, chunk.len() == BATCH).bind(collection.0);
        for name in chunk {
            statement = statement.bind(name.as_str());
        }
        for row in statement.fetch_all(&db.read).await? {
            owners.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(owners)
}
