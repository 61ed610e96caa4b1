//! Docsets: one row each, the members in one Roaring bitmap.

use std::cmp::Reverse;

use roaring::RoaringBitmap;
use sqlx::any::AnyRow;

use super::connections::Transaction;
use super::packages::package_of;
use super::rows::{Columns as _, int, made, query, to_json};
use super::{SqlStore, StoreError, StoreResult, errors, holdings};
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

/// A condition on the docset `d`: its owner has not deleted it.
macro_rules! not_deleted {
    () => {
        "NOT EXISTS (SELECT 1 FROM deleted_docsets x WHERE x.docset = d.id)"
    };
}
pub(super) use not_deleted;

/// Equal docsets that are looked at.
const LIKE: i64 = 20;

pub(super) async fn create(db: &SqlStore, docset: &NewDocset) -> StoreResult<Docset> {
    let mut transaction = db.begin().await?;
    let made = insert(&mut transaction, docset).await?;
    transaction.commit().await?;
    Ok(made)
}

/// Makes a docset in a transaction, if its owner may have one more.
pub(super) async fn insert(transaction: &mut Transaction, docset: &NewDocset) -> StoreResult<Docset> {
    holdings::check_docsets(docset.owner, transaction).await?;
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
    let rows = match insert.fetch_all(&mut **transaction).await {
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
    let row = query(concat!(
        "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection \
         WHERE d.id = $1 AND ($2 IS NULL OR d.owner = $2) AND ",
        not_deleted!()
    ))
    .bind(id.0)
    .bind(owner.map(|key| key.0))
    .fetch_optional(&db.read)
    .await?;
    row.as_ref().map(whole).transpose()
}

pub(super) async fn of_packages(db: &SqlStore, id: DocsetId) -> StoreResult<Option<Docset>> {
    let sql = "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection WHERE d.id = $1";
    query(sql).bind(id.0).fetch_optional(&db.read).await?.as_ref().map(whole).transpose()
}

pub(super) async fn collection(db: &SqlStore, id: DocsetId) -> StoreResult<Option<CollectionId>> {
    let row = query("SELECT collection FROM docsets WHERE id = $1").bind(id.0).fetch_optional(&db.read).await?;
    row.map(|row| Ok(CollectionId(row.value("collection")?))).transpose()
}

/// The docset in a row with its members and its collection's slug.
pub(super) fn whole(row: &AnyRow) -> StoreResult<Docset> {
    let docset = docset_of(row, RoaringBitmap::new())?;
    let members = RoaringBitmap::deserialize_from(row.value::<&[u8]>("members")?)
        .map_err(|_| StoreError::Corrupt(format!("the members of docset {} cannot be read", docset.id)))?;
    Ok(Docset { members, ..docset })
}

pub(super) async fn like(db: &SqlStore, owner: KeyId, fingerprint: &Sha256) -> StoreResult<Vec<Docset>> {
    let rows = query(concat!(
        "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection \
         WHERE d.owner = $1 AND d.fingerprint = $2 AND ",
        not_deleted!(),
        " ORDER BY d.id DESC LIMIT $3"
    ))
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
         WHERE {whose} AND d.id < $2 AND {} ORDER BY d.id DESC LIMIT $3",
        not_deleted!()
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

/// A condition on a package: it is being built, or there at $1.
const HELD: &str = "(status IN ('accepted', 'running') OR content = 'available' AND (expires IS NULL OR expires > $1))";

/// Packages of other keys that are there stay, and the docset with them, out of its owner's sight.
pub(super) async fn delete(
    db: &SqlStore,
    id: DocsetId,
    owner: Option<KeyId>,
    now: i64,
) -> StoreResult<Option<Vec<Package>>> {
    let mut transaction = db.begin().await?;
    let found = query(concat!(
        "SELECT d.owner FROM docsets d WHERE d.id = $1 AND ($2 IS NULL OR d.owner = $2) AND ",
        not_deleted!()
    ));
    let found = found.bind(id.0).bind(owner.map(|key| key.0)).fetch_optional(&mut *transaction).await?;
    let Some(found) = found else { return Ok(None) };
    let owner = KeyId(found.value("owner")?);
    let sql = format!("SELECT COUNT(*) AS guests FROM packages WHERE docset = $2 AND owner <> $3 AND {HELD}");
    let guests = made(sql, true).bind(now).bind(id.0).bind(owner.0).fetch_one(&mut *transaction).await?;
    let packages = if guests.number::<u64>("guests")? == 0 {
        delete_whole(id, &mut transaction).await?
    } else {
        let hide = query("INSERT INTO deleted_docsets (docset, deleted) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        hide.bind(id.0).bind(now).execute(&mut *transaction).await?;
        query("DELETE FROM shares WHERE docset = $1").bind(id.0).execute(&mut *transaction).await?;
        let sql = format!("DELETE FROM packages WHERE docset = $2 AND (owner = $3 OR NOT {HELD}) RETURNING *");
        let deleted = made(sql, true).bind(now).bind(id.0).bind(owner.0).fetch_all(&mut *transaction).await?;
        deleted.iter().map(package_of).collect::<StoreResult<_>>()?
    };
    transaction.commit().await?;
    Ok(Some(newest_first(packages)))
}

/// Deletes the docset before its packages, so that no package can be made in between and stay
/// unseen.
async fn delete_whole(id: DocsetId, transaction: &mut Transaction) -> StoreResult<Vec<Package>> {
    query("DELETE FROM docsets WHERE id = $1").bind(id.0).execute(&mut **transaction).await?;
    let packages = query("DELETE FROM packages WHERE docset = $1 RETURNING *").bind(id.0);
    packages.fetch_all(&mut **transaction).await?.iter().map(package_of).collect()
}

fn newest_first(mut packages: Vec<Package>) -> Vec<Package> {
    packages.sort_by_key(|package| Reverse(package.id));
    packages
}

pub(super) async fn purge_deleted(db: &SqlStore, now: i64, limit: u32) -> StoreResult<Vec<Package>> {
    let sql = format!(
        "SELECT x.docset FROM deleted_docsets x WHERE NOT EXISTS \
         (SELECT 1 FROM packages WHERE docset = x.docset AND {HELD}) ORDER BY x.docset LIMIT $2"
    );
    let forgotten = made(sql, true).bind(now).bind(i64::from(limit)).fetch_all(&db.read).await?;
    let mut packages = Vec::new();
    for row in forgotten {
        let mut transaction = db.begin().await?;
        packages.extend(delete_whole(DocsetId(row.value("docset")?), &mut transaction).await?);
        transaction.commit().await?;
    }
    Ok(newest_first(packages))
}
