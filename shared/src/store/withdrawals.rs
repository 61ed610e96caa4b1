//! Works that were withdrawn: at once for everything that gives content. What searches find follows with the next corpus version, of whatever
//! import: it claims what is pending, changes its index by it, and carries it out with its commit.
//!
//! A work that is carried out has no current version, as if an empty one had replaced it; so nothing else need know of withdrawals.

use std::collections::{BTreeMap, HashSet};

use roaring::RoaringBitmap;

use super::connections::Transaction;
use super::documents::has_nul;
use super::rights::FEW;
use super::rows::{BATCH, Columns as _, join, made, placeholders, query};
use super::{ImportLease, SqlStore, StoreResult, import};
use crate::domain::{Format, Withdrawn};
use crate::ids::{CollectionId, VersionId};

/// What the index of a new corpus version must lack, or have again, because of withdrawals; newest versions of works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settling {
    /// To be taken out, if they are there.
    pub out: Vec<VersionId>,
    /// To be taken in again, if they are not there.
    pub back: Vec<VersionId>,
}

impl Settling {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.back.is_empty()
    }
}

pub(super) async fn withdrawn(
    db: &SqlStore,
    collection: CollectionId,
    members: &RoaringBitmap,
) -> StoreResult<BTreeMap<VersionId, Withdrawn>> {
    let (Some(first), Some(last)) = (members.min(), members.max()) else { return Ok(BTreeMap::new()) };
    // CROSS JOIN and the plus tell SQLite where to begin: with a few documents, or with all withdrawals, which are few beside the documents.
    let found = match members.len() {
        0..=FEW => {
            format!("documents d CROSS JOIN withdrawals w WHERE +d.collection = $1 AND d.id IN ({})", join(members))
        }
        _ => {
            format!("withdrawals w CROSS JOIN documents d WHERE w.collection = $1 AND +d.id BETWEEN {first} AND {last}")
        }
    };
    let sql = format!(
        "SELECT d.id, w.withdrawn, w.reason FROM {found} AND w.collection = d.collection AND w.ref = d.ref AND w.undone = 0"
    );
    let rows = made(sql, false).bind(collection.0).fetch_all(&db.read).await?;
    let mut withdrawn = BTreeMap::new();
    for row in rows {
        let id: u32 = row.number("id")?;
        if members.contains(id) {
            withdrawn.insert(VersionId(id), Withdrawn { at: row.value("withdrawn")?, reason: row.value("reason")? });
        }
    }
    Ok(withdrawn)
}

pub(super) async fn withdrawn_refs(
    db: &SqlStore,
    collection: CollectionId,
    refs: &[String],
) -> StoreResult<HashSet<String>> {
    let refs: Vec<&String> = refs.iter().filter(|text| !has_nul(text)).collect();
    let mut found = HashSet::new();
    for chunk in refs.chunks(BATCH) {
        let wanted = placeholders(2, chunk.len());
        let sql = format!("SELECT ref FROM withdrawals WHERE collection = $1 AND undone = 0 AND ref IN ({wanted})");
        let mut statement = made(sql, chunk.len() == BATCH).bind(collection.0);
        for text in chunk {
            statement = statement.bind(text.as_str());
        }
        for row in statement.fetch_all(&db.read).await? {
            found.insert(row.value("ref")?);
        }
    }
    Ok(found)
}

/// A second withdrawal changes the reason, but not since when it is withdrawn.
pub(super) async fn withdraw(
    db: &SqlStore,
    collection: CollectionId,
    refs: &[String],
    reason: &str,
    now: i64,
) -> StoreResult<()> {
    let mut transaction = db.begin().await?;
    for text in refs {
        query(
            "INSERT INTO withdrawals (collection, ref, withdrawn, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (collection, ref) DO UPDATE SET reason = excluded.reason, undone = 0, corpus_version = NULL, \
             withdrawn = CASE WHEN withdrawals.undone = 0 THEN withdrawals.withdrawn ELSE excluded.withdrawn END",
        )
        .bind(collection.0)
        .bind(text)
        .bind(now)
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn undo(db: &SqlStore, collection: CollectionId, refs: &[String]) -> StoreResult<()> {
    let mut transaction = db.begin().await?;
    for text in refs {
        query("UPDATE withdrawals SET undone = 1, corpus_version = NULL WHERE collection = $1 AND ref = $2")
            .bind(collection.0)
            .bind(text)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}

/// What an import that died has claimed is claimed again. Between a claim and its commit a row may be changed; then it is pending again, which is why
/// what is claimed does not depend on how the documents stand.
pub(super) async fn claim(db: &SqlStore, lease: &ImportLease) -> StoreResult<Settling> {
    let mut transaction = import::begin_under(db, lease).await?;
    query(
        "UPDATE withdrawals SET corpus_version = $2 \
         WHERE collection = $1 AND (corpus_version IS NULL OR corpus_version >= $2)",
    )
    .bind(lease.collection().0)
    .bind(lease.made().corpus_version)
    .execute(&mut *transaction)
    .await?;
    let claimed = claimed(lease, &mut transaction).await?;
    transaction.commit().await?;
    let ids = |undone: bool| claimed.iter().filter(|work| work.undone == undone).map(|work| work.newest).collect();
    Ok(Settling { out: ids(false), back: ids(true) })
}

struct Work {
    /// Its newest version.
    newest: VersionId,
    /// Whether that is current.
    current: bool,
    undone: bool,
}

/// What this import has claimed, of works that were there before it.
async fn claimed(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<Vec<Work>> {
    let rows = query(
        "SELECT MAX(d.id) AS newest, COUNT(*) - COUNT(d.superseded) AS current_versions, w.undone AS undone \
         FROM withdrawals w CROSS JOIN documents d \
         WHERE w.collection = $1 AND w.corpus_version = $2 AND d.collection = w.collection AND d.ref = w.ref AND d.added < $2 GROUP BY w.ref, w.undone ORDER BY newest",
    )
    .bind(lease.collection().0)
    .bind(lease.made().corpus_version)
    .fetch_all(&mut **transaction)
    .await?;
    let work = |row: &sqlx::any::AnyRow| {
        Ok(Work {
            newest: VersionId(row.number("newest")?),
            current: row.number::<u64>("current_versions")? > 0,
            undone: row.number::<u64>("undone")? > 0,
        })
    };
    rows.iter().map(work).collect()
}

/// What a commit changes because of withdrawals.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Whether the index was changed for any, and so the corpus version is new.
    pub(super) any: bool,
    /// By how many the current documents grow.
    pub(super) growth: i64,
    /// By how many files, and how many bytes, each format grows.
    pub(super) formats: Vec<(Format, i64, i64)>,
}

/// Carries out what the import has claimed.
pub(super) async fn settle(lease: &ImportLease, transaction: &mut Transaction) -> StoreResult<Settled> {
    let claimed = claimed(lease, transaction).await?;
    let mut settled = Settled { any: !claimed.is_empty(), ..Settled::default() };
    let version = lease.made().corpus_version;
    for (undone, sign, superseded) in [(false, -1, Some(version)), (true, 1, None)] {
        let changed = claimed.iter().filter(|work| work.undone == undone && work.current != undone);
        let ids: Vec<VersionId> = changed.map(|work| work.newest).collect();
        for chunk in ids.chunks(BATCH) {
            settled.growth += sign * chunk.len() as i64;
            add_formats(chunk, sign, &mut settled.formats, transaction).await?;
            let sql = format!("UPDATE documents SET superseded = $1 WHERE id IN ({})", join(chunk));
            made(sql, false).bind(superseded).execute(&mut **transaction).await?;
        }
    }
    query("DELETE FROM withdrawals WHERE collection = $1 AND corpus_version = $2 AND undone = 1")
        .bind(lease.collection().0)
        .bind(version)
        .execute(&mut **transaction)
        .await?;
    Ok(settled)
}

async fn add_formats(
    ids: &[VersionId],
    sign: i64,
    formats: &mut Vec<(Format, i64, i64)>,
    transaction: &mut Transaction,
) -> StoreResult<()> {
    let sql = format!(
        "SELECT format, COUNT(*) AS documents, CAST(SUM(size) AS BIGINT) AS bytes FROM files WHERE document IN ({}) GROUP BY format",
        join(ids)
    );
    for row in made(sql, false).fetch_all(&mut **transaction).await? {
        let (documents, bytes): (i64, i64) = (row.value("documents")?, row.value("bytes")?);
        formats.push((row.parsed("format")?, sign * documents, sign * bytes));
    }
    Ok(())
}
