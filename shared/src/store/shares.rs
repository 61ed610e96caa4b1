//! Links that open a docset to other keys, and the keys that have followed them.

use sqlx::any::AnyRow;

use super::keys::valid_key;
use super::rows::{Columns as _, query};
use super::{SqlStore, StoreError, StoreResult, docsets, errors};
use crate::domain::Docset;
use crate::ids::{DocsetId, KeyId, Salt, SaltedShare, ShareId};

/// A link that opens a docset to those who follow it, until it expires or is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its number.
    pub id: ShareId,
    /// Tells it apart from a lost link of the same number; one of before there were salts has none.
    pub salt: Option<Salt>,
    /// The docset.
    pub docset: DocsetId,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// Milliseconds since the epoch.
    pub expires: i64,
    /// Keys that have followed it.
    pub guests: u64,
}

impl Share {
    /// Its number with its salt, which its link names.
    #[must_use]
    pub fn salted(&self) -> SaltedShare {
        SaltedShare { id: self.id, salt: self.salt }
    }
}

pub(super) async fn create(db: &SqlStore, docset: DocsetId, created: i64, expires: i64) -> StoreResult<Share> {
    let salt = Salt::draw();
    let insert = query("INSERT INTO shares (docset, created, expires, salt) VALUES ($1, $2, $3, $4) RETURNING id");
    let insert = insert.bind(docset.0).bind(created).bind(expires).bind(salt.to_string());
    let rows = match insert.fetch_all(&db.write).await {
        Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("docset")),
        rows => rows?,
    };
    let row = rows.first().ok_or(StoreError::NotFound("docset"))?;
    Ok(Share { id: ShareId(row.value("id")?), salt: Some(salt), docset, created, expires, guests: 0 })
}

pub(super) async fn list(
    db: &SqlStore,
    docset: DocsetId,
    after: Option<ShareId>,
    limit: u32,
) -> StoreResult<Vec<Share>> {
    let rows = query(
        "SELECT s.id, s.salt, s.docset, s.created, s.expires, \
         (SELECT COUNT(*) FROM share_guests g WHERE g.share = s.id) AS guests \
         FROM shares s WHERE s.docset = $1 AND s.id > $2 ORDER BY s.id LIMIT $3",
    )
    .bind(docset.0)
    .bind(after.map_or(0, |share| share.0))
    .bind(i64::from(limit))
    .fetch_all(&db.read)
    .await?;
    rows.iter().map(share_of).collect()
}

fn share_of(row: &AnyRow) -> StoreResult<Share> {
    Ok(Share {
        id: ShareId(row.value("id")?),
        salt: row.optional_parsed("salt")?,
        docset: DocsetId(row.value("docset")?),
        created: row.value("created")?,
        expires: row.value("expires")?,
        guests: row.number("guests")?,
    })
}

pub(super) async fn revoke(db: &SqlStore, docset: DocsetId, share: ShareId) -> StoreResult<bool> {
    let deleted = query("DELETE FROM shares WHERE id = $1 AND docset = $2")
        .bind(share.0)
        .bind(docset.0)
        .execute(&db.write)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn shared(db: &SqlStore, share: SaltedShare, now: i64) -> StoreResult<Option<Docset>> {
    let row = query(concat!(
        "SELECT d.*, c.slug FROM shares s JOIN docsets d ON d.id = s.docset JOIN collections c ON c.id = d.collection ",
        "JOIN api_keys k ON k.id = d.owner WHERE s.id = $1 AND s.expires > $2 AND COALESCE(s.salt, '') = $3 AND ",
        valid_key!("k", "$2")
    ));
    row.bind(share.id.0)
        .bind(now)
        .bind(share.salt_text().unwrap_or_default())
        .fetch_optional(&db.read)
        .await?
        .as_ref()
        .map(docsets::whole)
        .transpose()
}

pub(super) async fn follow(db: &SqlStore, share: SaltedShare, guest: KeyId, now: i64) -> StoreResult<Option<DocsetId>> {
    let select = concat!(
        "SELECT s.docset FROM shares s JOIN docsets d ON d.id = s.docset JOIN api_keys k ON k.id = d.owner ",
        "WHERE s.id = $1 AND s.expires > $2 AND COALESCE(s.salt, '') = $3 AND ",
        valid_key!("k", "$2")
    );
    let row = query(select).bind(share.id.0).bind(now).bind(share.salt_text().unwrap_or_default());
    let row = row.fetch_optional(&db.read).await?;
    let Some(row) = row else { return Ok(None) };
    let enter = query(
        "INSERT INTO share_guests (share, api_key) SELECT s.id, $2 FROM shares s WHERE s.id = $1 ON CONFLICT DO NOTHING",
    );
    enter.bind(share.id.0).bind(guest.0).execute(&db.write).await?;
    Ok(Some(DocsetId(row.value("docset")?)))
}

pub(super) async fn docset(db: &SqlStore, id: DocsetId, reader: KeyId, now: i64) -> StoreResult<Option<Docset>> {
    let row = query(concat!(
        "SELECT d.*, c.slug FROM docsets d JOIN collections c ON c.id = d.collection WHERE d.id = $1 AND (d.owner = $2 OR ",
        "EXISTS (SELECT 1 FROM shares s JOIN share_guests g ON g.share = s.id JOIN api_keys k ON k.id = d.owner ",
        "WHERE s.docset = d.id AND s.expires > $3 AND g.api_key = $2 AND ",
        valid_key!("k", "$3"),
        ")) AND ",
        docsets::not_deleted!()
    ))
    .bind(id.0)
    .bind(reader.0)
    .bind(now)
    .fetch_optional(&db.read)
    .await?;
    row.as_ref().map(docsets::whole).transpose()
}
