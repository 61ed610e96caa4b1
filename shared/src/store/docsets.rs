//! Docsets: one row each, the members in one Roaring bitmap.

use std::cmp::Reverse;

use roaring::RoaringBitmap;
use sqlx::any::AnyRow;
use sqlx::{Any, Executor};

use super::packages::package_of;
use super::rows::{Columns as _, int, made, query, to_json};
use super::sql::returned;
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::digest::Sha256;
use crate::domain::{Docset, FormatTotal, Origin, Package};
use crate::ids::{CollectionId, DocsetId, KeyId};

/// A docset to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocset {
    /// The key that makes it.
    pub owner: KeyId,
    /// The collection.
    pub collection: CollectionId,
    /// A name for people.
    pub name: Option<String>,
    /// How it is made.
    pub origin: Origin,
    /// The corpus version that it is made from.
    pub corpus_version: i64,
    /// The members' ids.
    pub members: RoaringBitmap,
    /// See [`DocsetFingerprint`](crate::domain::DocsetFingerprint).
    pub fingerprint: Sha256,
    /// Files and bytes by format, sorted by format.
    pub formats: Vec<FormatTotal>,
    /// Milliseconds since the epoch.
    pub created: i64,
}

/// Equal docsets that are looked at.
const LIKE: i64 = 20;

pub(super) async fn create(db: &SqlStore, docset: &NewDocset) -> StoreResult<Docset> {
    insert(&db.write, docset).await
}

/// The same, in a transaction perhaps.
pub(super) async fn insert<'e>(executor: impl Executor<'e, Database = Any>, docset: &NewDocset) -> StoreResult<Docset> {
    let insert = query(
        "INSERT INTO docsets (owner, collection, name, origin, size, formats, fingerprint, corpus_version, created, members) \
         SELECT $1, c.id, $3, $4, $5, $6, $7, $8, $9, $10 FROM collections c WHERE c.id = $2 \
         RETURNING id, (SELECT slug FROM collections c WHERE c.id = docsets.collection) AS slug",
    )
    .bind(docset.owner.0)
    .bind(docset.collection.0)
    .bind(&docset.name)
    .bind(to_json(&docset.origin)?)
    .bind(int(docset.members.len()))
    .bind(to_json(&docset.formats)?)
    .bind(&docset.fingerprint.0[..])
    .bind(docset.corpus_version)
    .bind(docset.created)
    .bind(members_to_bytes(&docset.members)?);
    let rows = match insert.fetch_all(executor).await {
        Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("key")),
        rows => rows?,
    };
    let row = rows.first().ok_or(StoreError::NotFound("collection"))?;
    Ok(Docset {
        id: DocsetId(row.value("id")?),
        owner: docset.owner,
        collection: docset.collection,
        collection_slug: row.value("slug")?,
        name: docset.name.clone(),
        origin: docset.origin.clone(),
        size: docset.members.len(),
        formats: docset.formats.clone(),
        fingerprint: docset.fingerprint,
        corpus_version: docset.corpus_version,
        members: docset.members.clone(),
        created: docset.created,
    })
}

/// The portable serialization (<https://github.com/RoaringBitmap/RoaringFormatSpec>), with runs: a docset of everything is some bytes.
fn members_to_bytes(members: &RoaringBitmap) -> StoreResult<Vec<u8>> {
    let mut members = members.clone();
    members.optimize();
    let mut bytes = Vec::with_capacity(members.serialized_size());
    members
        .serialize_into(&mut bytes)
        .map_err(|error| StoreError::Corrupt(format!("a docset that cannot be serialized: {error}")))?;
    Ok(bytes)
}

fn docset_of(row: &AnyRow, members: RoaringBitmap) -> StoreResult<Docset> {
    Ok(Docset {
        id: DocsetId(row.value("id")?),
        owner: KeyId(row.value("owner")?),
        collection: CollectionId(row.value("collection")?),
        collection_slug: row.value("slug")?,
        name: row.value("name")?,
        origin: row.json("origin")?,
        size: row.number("size")?,
        formats: row.json("formats")?,
        fingerprint: row.digest("fingerprint")?,
        corpus_version: row.value("corpus_version")?,
        members,
        created: row.value("created")?,
    })
}

pub(super) async fn docset(db: &SqlStore, id: DocsetId, owner: Option<KeyId>) -> StoreResult<Option<Docset>> {
    let row = query(
        "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection \
         WHERE d.id = $1 AND ($2 IS NULL OR d.owner = $2)",
    )
    .bind(id.0)
    .bind(owner.map(|key| key.0))
    .fetch_optional(&db.read)
    .await?;
    row.as_ref().map(whole).transpose()
}

/// The docset in a row with its members and its collection's slug.
pub(super) fn whole(row: &AnyRow) -> StoreResult<Docset> {
    let docset = docset_of(row, RoaringBitmap::new())?;
    let members = RoaringBitmap::deserialize_from(row.value::<&[u8]>("members")?)
        .map_err(|_| StoreError::Corrupt(format!("the members of docset {} cannot be read", docset.id)))?;
    Ok(Docset { members, ..docset })
}

pub(super) async fn like(db: &SqlStore, owner: KeyId, fingerprint: &Sha256) -> StoreResult<Vec<Docset>> {
    let rows = query(
        "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection \
         WHERE d.owner = $1 AND d.fingerprint = $2 ORDER BY d.id DESC LIMIT $3",
    )
    .bind(owner.0)
    .bind(&fingerprint.0[..])
    .bind(LIKE)
    .fetch_all(&db.read)
    .await?;
    rows.iter().map(whole).collect()
}

pub(super) async fn docsets(
    db: &SqlStore,
    owner: Option<KeyId>,
    before: Option<DocsetId>,
    limit: u32,
) -> StoreResult<Vec<Docset>> {
    // Two texts, because SQLite uses an index for the first only if it is free of OR.
    let whose = if owner.is_some() { "d.owner = $1" } else { "$1 IS NULL" };
    let sql = format!(
        "SELECT d.id, d.owner, d.collection, c.slug, d.name, d.origin, d.size, d.formats, d.fingerprint, d.corpus_version, d.created \
         FROM docsets d JOIN collections c ON c.id = d.collection \
         WHERE {whose} AND d.id < $2 ORDER BY d.id DESC LIMIT $3"
    );
    let rows = made(sql, true)
        .bind(owner.map(|key| key.0))
        .bind(before.map_or(i64::MAX, |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(&db.read)
        .await?;
    rows.iter().map(|row| docset_of(row, RoaringBitmap::new())).collect()
}

pub(super) async fn rename(db: &SqlStore, id: DocsetId, owner: Option<KeyId>, name: Option<&str>) -> StoreResult<bool> {
    let renamed = query("UPDATE docsets SET name = $3 WHERE id = $1 AND ($2 IS NULL OR owner = $2)")
        .bind(id.0)
        .bind(owner.map(|key| key.0))
        .bind(name)
        .execute(&db.write)
        .await?;
    Ok(renamed.rows_affected() > 0)
}

/// Deletes the docset before its packages, so that no package can be made in between and stay unseen.
pub(super) async fn delete(db: &SqlStore, id: DocsetId, owner: Option<KeyId>) -> StoreResult<Option<Vec<Package>>> {
    let mut transaction = db.begin().await?;
    let delete = query("DELETE FROM docsets WHERE id = $1 AND ($2 IS NULL OR owner = $2) RETURNING id")
        .bind(id.0)
        .bind(owner.map(|key| key.0));
    if returned(delete, &mut *transaction).await?.is_none() {
        return Ok(None);
    }
    let packages =
        query("DELETE FROM packages WHERE docset = $1 RETURNING *").bind(id.0).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let mut packages = packages.iter().map(package_of).collect::<StoreResult<Vec<_>>>()?;
    packages.sort_by_key(|package| Reverse(package.id));
    Ok(Some(packages))
}
