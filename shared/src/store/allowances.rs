//! Allowances as all processes share them: what is taken of each window, and payment for packages. What a process does with what it has taken is
//! its own business.

use std::sync::LazyLock;

use sqlx::any::AnyRow;
use sqlx::{Any, Executor};

use super::rows::{Columns as _, Statement, int, query};
use super::{SqlStore, StoreError, StoreResult, errors};
use crate::clock::{ALLOWED_SKEW_MS, is_lease_valid};
use crate::domain::Allowance;
use crate::ids::{KeyId, PackageId};

/// Which part of what is left one statement hands out at most, beyond what is needed at once: leases shrink with what is left, so that at the
/// end no process sits on what another one needs.
const SHARE: u64 = 16;
/// How long a process is given to bring a lease back, in milliseconds. After that it is taken for
/// dead.
pub const ALLOWANCE_LEASE_MS: i64 = 10_000;
/// How long rows of past minutes are kept, in milliseconds: for processes whose clocks are behind. Those of past days are the key's history.
const MINUTES_KEPT_MS: i64 = 600_000;

/// What a process says and asks of an allowance, in one step: it ends its lease, and takes anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The key.
    pub key: KeyId,
    /// The allowance.
    pub allowance: Allowance,
    /// When the window begins: see [`Allowance::window`].
    pub window: i64,
    /// How much there is in the window; `None`: unlimited.
    pub limit: Option<u64>,
    /// Size of the lease that ends; 0 without one.
    pub lease: u64,
    /// How much of that was not used, and comes back.
    pub unused: u64,
    /// How much is needed at once. Nothing is granted unless this is there.
    pub least: u64,
    /// How much would be of use. What is granted beyond `least` is the process's new lease.
    pub most: u64,
    /// Now; milliseconds since the epoch.
    pub now: i64,
    /// Until when others are to reckon with it that the new lease comes back.
    pub held_until: i64,
}

/// How an allowance of a key stands in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// What is used or leased.
    pub taken: u64,
    /// What of that lies in leases, and may come back.
    pub held: u64,
    /// When the last lease expires; milliseconds since the epoch. What is held then never comes back.
    pub held_until: i64,
}

impl Standing {
    /// What may still come back.
    #[must_use]
    pub fn returnable(&self, now: i64) -> u64 {
        if is_lease_valid(self.held_until, now, ALLOWANCE_LEASE_MS) { self.held } else { 0 }
    }
}

/// The row is locked when it is looked at, so that of exchanges at once each sees what those before it have left. $1 key, $2 kind, $3 window,
/// $4 limit, $5 lease, $6 unused, $7 least, $8 most, $9 now, $10 held_until.
static EXCHANGE: LazyLock<String> = LazyLock::new(|| {
    let granted = |taken: &str| {
        format!(
            "CASE WHEN $4 IS NULL THEN $8 WHEN $4 - ({taken}) < $7 THEN 0 WHEN ($4 - ({taken})) / {SHARE} <= $7 THEN $7 \
             WHEN ($4 - ({taken})) / {SHARE} < $8 THEN ($4 - ({taken})) / {SHARE} ELSE $8 END"
        )
    };
    let leased = |granted: &str| format!("CASE WHEN ({granted}) > $7 THEN ({granted}) - $7 ELSE 0 END");
    // Such an end was written by a clock that was ahead.
    let void = format!("allowances.held_until > $10 + {ALLOWED_SKEW_MS}");
    let (first, next) = (granted("0"), granted("allowances.taken - $6"));
    let (first_leased, next_leased) = (leased(&first), leased(&next));
    format!(
        "INSERT INTO allowances (api_key, kind, window_start, taken, held, held_until, granted) \
         VALUES ($1, $2, $3, {first}, {first_leased}, $10, {first}) \
         ON CONFLICT (api_key, kind, window_start) DO UPDATE SET \
         taken = allowances.taken - $6 + {next}, \
         held = CASE WHEN allowances.held_until <= $9 OR {void} OR allowances.held < $5 THEN 0 ELSE allowances.held - $5 END + {next_leased}, \
         held_until = CASE WHEN {void} OR {next_leased} > 0 AND allowances.held_until < $10 THEN $10 ELSE allowances.held_until END, \
         granted = {next} \
         RETURNING granted, taken, held, held_until"
    )
});

fn statement(exchange: &Exchange) -> Statement<'static> {
    query(&EXCHANGE)
        .bind(exchange.key.0)
        .bind(exchange.allowance.as_str())
        .bind(exchange.window)
        .bind(exchange.limit.map(int))
        .bind(int(exchange.lease))
        .bind(int(exchange.unused))
        .bind(int(exchange.least))
        .bind(int(exchange.most))
        .bind(exchange.now)
        .bind(exchange.held_until)
}

fn standing_of(row: &AnyRow) -> StoreResult<Standing> {
    Ok(Standing { taken: row.number("taken")?, held: row.number("held")?, held_until: row.value("held_until")? })
}

async fn run<'e>(exchange: &Exchange, executor: impl Executor<'e, Database = Any>) -> StoreResult<(u64, Standing)> {
    let rows = match statement(exchange).fetch_all(executor).await {
        Err(error) if errors::is_foreign_key_violation(&error) => return Err(StoreError::NotFound("key")),
        rows => rows?,
    };
    let row = rows.first().ok_or(StoreError::NotFound("key"))?;
    Ok((row.number("granted")?, standing_of(row)?))
}

pub(super) async fn exchange(db: &SqlStore, exchange: &Exchange) -> StoreResult<(u64, Standing)> {
    let (granted, standing) = run(exchange, &db.write).await?;
    let begins = granted > 0 && standing.taken == granted;
    if begins && exchange.allowance == Allowance::Requests {
        let old = query("DELETE FROM allowances WHERE api_key = $1 AND kind = $2 AND window_start < $3");
        let old = old.bind(exchange.key.0).bind(exchange.allowance.as_str());
        old.bind(exchange.window - MINUTES_KEPT_MS).execute(&db.write).await?;
    }
    Ok((granted, standing))
}

pub(super) async fn pay(db: &SqlStore, package: PackageId, charge: &Exchange) -> StoreResult<Option<(u64, Standing)>> {
    let mut transaction = db.begin().await?;
    if !mark_paid(package, &mut *transaction).await? {
        return Ok(None);
    }
    let (granted, standing) = run(charge, &mut *transaction).await?;
    if granted == charge.least {
        transaction.commit().await?;
    }
    Ok(Some((granted, standing)))
}

pub(super) async fn mark_paid<'e>(
    package: PackageId,
    executor: impl Executor<'e, Database = Any>,
) -> StoreResult<bool> {
    let mark =
        query("UPDATE packages SET paid = 1 WHERE id = $1 AND paid = 0 AND status NOT IN ('failed', 'dismissed')");
    Ok(mark.bind(package.0).execute(executor).await?.rows_affected() > 0)
}

pub(super) async fn dismiss_unpaid(db: &SqlStore, package: PackageId, now: i64) -> StoreResult<()> {
    let sql = "UPDATE packages SET status = 'dismissed', finished = $2 \
               WHERE id = $1 AND paid = 0 AND pay_later = 0 AND status = 'accepted'";
    query(sql).bind(package.0).bind(now).execute(&db.write).await?;
    Ok(())
}

pub(super) async fn defer_payment(db: &SqlStore, package: PackageId) -> StoreResult<()> {
    query("UPDATE packages SET pay_later = 1 WHERE id = $1 AND paid = 0").bind(package.0).execute(&db.write).await?;
    Ok(())
}

pub(super) async fn unpaid_documents(db: &SqlStore, owner: KeyId, since: i64) -> StoreResult<u64> {
    let sql = "SELECT CAST(COALESCE(SUM(requested - withheld_rights - withheld_withdrawn), 0) AS BIGINT) AS unpaid \
               FROM packages WHERE owner = $1 AND created >= $2 AND pay_later = 1 AND paid = 0 AND status <> 'failed'";
    query(sql).bind(owner.0).bind(since).fetch_one(&db.read).await?.number("unpaid")
}

pub(super) async fn charged(db: &SqlStore, key: KeyId, limit: u32) -> StoreResult<Vec<(i64, u64)>> {
    let rows = query(
        "SELECT window_start, taken FROM allowances WHERE api_key = $1 AND kind = $2 AND taken > 0 \
         ORDER BY window_start DESC LIMIT $3",
    )
    .bind(key.0)
    .bind(Allowance::Documents.as_str())
    .bind(i64::from(limit))
    .fetch_all(&db.read)
    .await?;
    rows.iter().map(|row| Ok((row.value("window_start")?, row.number("taken")?))).collect()
}

pub(super) async fn standing(db: &SqlStore, key: KeyId, allowance: Allowance, window: i64) -> StoreResult<Standing> {
    let sql = "SELECT taken, held, held_until FROM allowances WHERE api_key = $1 AND kind = $2 AND window_start = $3";
    let statement = query(sql).bind(key.0).bind(allowance.as_str()).bind(window);
    statement.fetch_optional(&db.read).await?.map_or(Ok(Standing::default()), |row| standing_of(&row))
}
