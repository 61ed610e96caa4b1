//! Packages: made once for equal requests, moved on by statuses in the order of their sequence.

use sqlx::any::AnyRow;

use super::connections::Transaction;
use super::rows::{Columns as _, Statement, int, query, to_json};
use super::sql::returned;
use super::{NewPackage, SqlStore, StatusUpdate, StoreError, StoreResult, errors, holdings, rights};
use crate::digest::Sha256;
use crate::domain::{Documents, Format, Package, Recipe, Status};
use crate::ids::{DocsetId, KeyId, PackageId, Salt};

pub(super) fn package_of(row: &AnyRow) -> StoreResult<Package> {
    Ok(Package {
        id: PackageId(row.value("id")?),
        salt: row.optional_parsed("salt")?,
        owner: KeyId(row.value("owner")?),
        docset: DocsetId(row.value("docset")?),
        recipe: Recipe { formats: formats_of(row)?, layout: row.parsed("layout")?, options: row.json("options")? },
        about: row.json("about")?,
        fingerprint: row.digest("fingerprint")?,
        status: row.parsed("status")?,
        content: row.parsed("content")?,
        sequence: row.value("sequence")?,
        documents: Documents {
            requested: row.number("requested")?,
            done: row.number("done")?,
            included: row.optional_number("included")?,
            omitted: row.optional_number("omitted")?,
            rights: row.number("withheld_rights")?,
            withdrawn: row.number("withheld_withdrawn")?,
        },
        bytes_done: row.number("bytes_done")?,
        bytes_total: row.optional_number("bytes_total")?,
        percent: row.number("percent")?,
        estimate_seconds: row.optional_number("estimate_seconds")?,
        location: row.value("location")?,
        size: row.optional_number("size")?,
        sha256: row.optional_digest("sha256")?,
        problem: row.value("problem")?,
        paid: row.value::<i64>("paid")? != 0,
        pay_later: row.value::<i64>("pay_later")? != 0,
        given_up: row.value("given_up")?,
        created: row.value("created")?,
        started: row.value("started")?,
        finished: row.value("finished")?,
        expires: row.value("expires")?,
        sent: row.value("sent")?,
        sends: row.number("sends")?,
        heard: row.value("heard")?,
    })
}

/// Formats are kept as `meta,txt`: no comma is in a format's name.
fn formats_of(row: &AnyRow) -> StoreResult<Vec<Format>> {
    let names = row.value::<&str>("formats")?.split(',').filter(|name| !name.is_empty());
    names
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| StoreError::Corrupt(format!("column formats: {error}")))
}

pub(super) async fn create(db: &SqlStore, package: &NewPackage, reuse: bool) -> StoreResult<(Package, bool)> {
    let mut transaction = db.begin().await?;
    let limits = holdings::lock_limits(package.owner, &mut transaction).await?;
    if reuse && let Some(found) = find_live(package, &mut transaction).await? {
        return Ok((found, false));
    }
    holdings::check_packages(&limits, package.owner, package.created, &mut transaction).await?;
    let names: Vec<&str> = package.recipe.formats.iter().map(Format::as_str).collect();
    let insert = query(
        "INSERT INTO packages (owner, docset, formats, layout, fingerprint, requested, created, options, about, \
         withheld_rights, withheld_withdrawn, salt) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         RETURNING *",
    )
    .bind(package.owner.0)
    .bind(package.docset.0)
    .bind(names.join(","))
    .bind(package.recipe.layout.as_str())
    .bind(&package.fingerprint.0[..])
    .bind(int(package.requested))
    .bind(package.created)
    .bind(to_json(&package.recipe.options)?)
    .bind(to_json(&package.about)?)
    .bind(int(package.clearance.rights.len()))
    .bind(int(package.clearance.withdrawn.len()))
    .bind(Salt::draw().to_string());
    let made = returned(insert, &mut *transaction).await?.ok_or(StoreError::NotFound("package"))?;
    let made = package_of(&made)?;
    rights::keep_clearance(made.id, &package.clearance, &mut transaction).await?;
    match transaction.commit().await {
        Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("docset")),
        committed => committed?,
    }
    Ok((made, true))
}

/// Lets an owner's requests through one by one, by writing to its row: on PostgreSQL too, a second equal request then waits
/// here, and finds the first one's package.
pub(super) async fn lock_owner(owner: KeyId, transaction: &mut Transaction) -> StoreResult<()> {
    let locked =
        query("UPDATE api_keys SET name = name WHERE id = $1").bind(owner.0).execute(&mut **transaction).await?;
    if locked.rows_affected() == 0 { Err(StoreError::NotFound("key")) } else { Ok(()) }
}

async fn find_live(package: &NewPackage, transaction: &mut Transaction) -> StoreResult<Option<Package>> {
    let row = query(
        "SELECT * FROM packages WHERE owner = $1 AND fingerprint = $2 \
         AND status NOT IN ('failed', 'dismissed') AND content <> 'erased' AND (expires IS NULL OR expires > $3) \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(package.owner.0)
    .bind(&package.fingerprint.0[..])
    .bind(package.created)
    .fetch_optional(&mut **transaction)
    .await?;
    row.as_ref().map(package_of).transpose()
}

pub(super) async fn package(db: &SqlStore, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>> {
    let row = query("SELECT * FROM packages WHERE id = $1 AND ($2 IS NULL OR owner = $2)")
        .bind(id.0)
        .bind(owner.map(|key| key.0))
        .fetch_optional(&db.read)
        .await?;
    row.as_ref().map(package_of).transpose()
}

pub(super) async fn packages_of(db: &SqlStore, docset: DocsetId) -> StoreResult<Vec<Package>> {
    let rows =
        query("SELECT * FROM packages WHERE docset = $1 ORDER BY id DESC").bind(docset.0).fetch_all(&db.read).await?;
    rows.iter().map(package_of).collect()
}

pub(super) async fn like(db: &SqlStore, owner: KeyId, fingerprint: &Sha256, limit: u32) -> StoreResult<Vec<Package>> {
    let sql = "SELECT * FROM packages WHERE owner = $1 AND fingerprint = $2 ORDER BY id DESC LIMIT $3";
    let statement = query(sql).bind(owner.0).bind(&fingerprint.0[..]).bind(i64::from(limit));
    statement.fetch_all(&db.read).await?.iter().map(package_of).collect()
}

pub(super) async fn forgotten(db: &SqlStore, before: i64, limit: u32) -> StoreResult<Vec<Package>> {
    let sql = "SELECT * FROM packages WHERE status IN ('accepted', 'running') \
               AND COALESCE(heard, 0) < $1 AND COALESCE(sent, created) < $1 ORDER BY id LIMIT $2";
    let statement = query(sql).bind(before).bind(i64::from(limit));
    statement.fetch_all(&db.read).await?.iter().map(package_of).collect()
}

pub(super) async fn claim_sending(db: &SqlStore, package: &Package, now: i64) -> StoreResult<bool> {
    let sql = "UPDATE packages SET sent = $3, sends = sends + 1 \
               WHERE id = $1 AND sends = $2 AND status IN ('accepted', 'running')";
    let claim = query(sql).bind(package.id.0).bind(i64::from(package.sends)).bind(now);
    Ok(claim.execute(&db.write).await?.rows_affected() > 0)
}

pub(super) async fn unclaim_sending(db: &SqlStore, package: &Package) -> StoreResult<()> {
    let sql = "UPDATE packages SET sent = $3, sends = $2 WHERE id = $1 AND sends = $2 + 1";
    let back = query(sql).bind(package.id.0).bind(i64::from(package.sends)).bind(package.sent);
    back.execute(&db.write).await?;
    Ok(())
}

/// The guard stands in the statement itself, so statuses may be taken in by several processes at once, in any order.
const TAKE_STATUS: &str = "\
    UPDATE packages SET sequence = $2, heard = $3, started = COALESCE(started, $3), status = COALESCE($4, status), \
        finished = CASE WHEN $4 IN ('successful', 'failed', 'dismissed') THEN $3 ELSE finished END, \
        content = CASE WHEN $4 = 'successful' THEN 'available' ELSE content END, \
        requested = COALESCE($5, requested), done = COALESCE($6, done), included = COALESCE($7, included), \
        omitted = COALESCE($8, omitted), bytes_done = COALESCE($9, bytes_done), bytes_total = COALESCE($10, bytes_total), \
        percent = COALESCE($11, percent), estimate_seconds = COALESCE($12, estimate_seconds), \
        location = COALESCE($13, location), size = COALESCE($14, size), sha256 = COALESCE($15, sha256), \
        problem = COALESCE($16, problem), expires = COALESCE($17, expires) \
    WHERE id = $1 AND sequence < $2 AND status IN ('accepted', 'running') RETURNING *";

pub(super) async fn update(
    db: &SqlStore,
    id: PackageId,
    update: &StatusUpdate,
    now: i64,
) -> StoreResult<Option<Package>> {
    let documents = update.documents;
    let statement = query(TAKE_STATUS)
        .bind(id.0)
        .bind(update.sequence)
        .bind(now)
        .bind(update.status.map(Status::as_str))
        .bind(documents.map(|count| int(count.requested)))
        .bind(documents.map(|count| int(count.done)))
        .bind(documents.and_then(|count| count.included).map(int))
        .bind(documents.and_then(|count| count.omitted).map(int))
        .bind(update.bytes_done.map(int))
        .bind(update.bytes_total.map(int))
        .bind(update.percent.map(i64::from))
        .bind(update.estimate_seconds.map(int))
        .bind(&update.location)
        .bind(update.size.map(int))
        .bind(update.sha256.map(|digest| digest.0.to_vec()))
        .bind(&update.problem)
        .bind(update.expires);
    changed_or_as_it_stands(db, statement, id, None).await
}

pub(super) async fn dismiss(
    db: &SqlStore,
    id: PackageId,
    owner: Option<KeyId>,
    now: i64,
) -> StoreResult<Option<Package>> {
    let statement = query(
        "UPDATE packages SET status = 'dismissed', finished = $3 \
         WHERE id = $1 AND ($2 IS NULL OR owner = $2) AND status IN ('accepted', 'running') RETURNING *",
    )
    .bind(id.0)
    .bind(owner.map(|key| key.0))
    .bind(now);
    changed_or_as_it_stands(db, statement, id, owner).await
}

pub(super) async fn erase(db: &SqlStore, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>> {
    let statement = query(
        "UPDATE packages SET content = 'erased' \
         WHERE id = $1 AND ($2 IS NULL OR owner = $2) AND content = 'available' RETURNING *",
    )
    .bind(id.0)
    .bind(owner.map(|key| key.0));
    changed_or_as_it_stands(db, statement, id, owner).await
}

async fn changed_or_as_it_stands(
    db: &SqlStore,
    change: Statement<'_>,
    id: PackageId,
    owner: Option<KeyId>,
) -> StoreResult<Option<Package>> {
    match returned(change, &db.write).await? {
        Some(row) => package_of(&row).map(Some),
        None => package(db, id, owner).await,
    }
}

/// An archive that has expired already is not given up any more.
pub(super) async fn give_up(db: &SqlStore, id: PackageId, now: i64) -> StoreResult<()> {
    let sql = "UPDATE packages SET given_up = $2 WHERE id = $1 AND given_up IS NULL AND (status IN ('accepted', 'running') \
               OR content = 'available' AND (expires IS NULL OR expires > $2))";
    query(sql).bind(id.0).bind(now).execute(&db.write).await?;
    Ok(())
}

pub(super) async fn unfinished(db: &SqlStore, owner: KeyId, limit: u32) -> StoreResult<Vec<Package>> {
    let sql = "SELECT * FROM packages WHERE owner = $1 AND status IN ('accepted', 'running') ORDER BY id LIMIT $2";
    let statement = query(sql).bind(owner.0).bind(i64::from(limit));
    statement.fetch_all(&db.read).await?.iter().map(package_of).collect()
}

pub(super) async fn expired(db: &SqlStore, now: i64, limit: u32) -> StoreResult<Vec<Package>> {
    let rows =
        query("SELECT * FROM packages WHERE content = 'available' AND expires <= $1 ORDER BY expires, id LIMIT $2")
            .bind(now)
            .bind(i64::from(limit))
            .fetch_all(&db.read)
            .await?;
    rows.iter().map(package_of).collect()
}

pub(super) async fn available(db: &SqlStore, after: Option<PackageId>, limit: u32) -> StoreResult<Vec<Package>> {
    let rows = query("SELECT * FROM packages WHERE content = 'available' AND id > $1 ORDER BY id LIMIT $2")
        .bind(after.map_or(0, |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(&db.read)
        .await?;
    rows.iter().map(package_of).collect()
}
