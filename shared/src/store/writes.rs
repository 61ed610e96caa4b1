//! Tries whether the database takes what it is given.

use super::rows::query;
use super::{SqlStore, StoreResult};

/// Commits a transaction that raises a counter which nobody reads. A transaction that is rolled
/// back would tell nothing of a full disk: SQLite and PostgreSQL both write at the commit.
pub(super) async fn check(db: &SqlStore) -> StoreResult<()> {
    let mut transaction = db.begin().await?;
    let raise = "INSERT INTO counters (name, value) VALUES ('write_trials', 1) \
                 ON CONFLICT (name) DO UPDATE SET value = counters.value + 1";
    query(raise).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}
