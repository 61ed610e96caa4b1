//! Counts of use by month, collection and key, from which reports are made.

use sqlx::Row as _;

use super::rows::{Columns as _, int, made, query, tuples};
use super::{SqlStore, StoreResult};
use crate::domain::{Metric, Month, UsageSums};
use crate::ids::{CollectionId, KeyId};

/// Rows of one statement.
const AT_ONCE: usize = 100;
/// What stands in the place of a key where none was shown.
const NOBODY: i64 = 0;

/// What is to be added to a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageCount {
    /// The month.
    pub month: Month,
    /// The collection that was used.
    pub collection: CollectionId,
    /// Who used it; `None` where no key was shown.
    pub key: Option<KeyId>,
    /// What is counted.
    pub metric: Metric,
    /// How much is added.
    pub count: u64,
}

pub(super) async fn count(db: &SqlStore, counts: &[UsageCount]) -> StoreResult<()> {
    // In one order everywhere: two processes that lock the same rows in different orders would wait
    // for each other.
    let mut counts: Vec<&UsageCount> = counts.iter().collect();
    counts.sort_unstable_by_key(|count| (&count.month, count.collection, count.key, count.metric));
    let mut transaction = db.begin().await?;
    for counts in counts.chunks(AT_ONCE) {
        let sql = format!(
            "INSERT INTO usage_counts (month, collection, api_key, metric, count) VALUES {} \
             ON CONFLICT (month, collection, api_key, metric) DO UPDATE SET count = usage_counts.count + excluded.count",
            tuples(counts.len(), 5)
        );
        let mut statement = made(sql, true);
        for count in counts {
            statement = statement
                .bind(count.month.as_str())
                .bind(count.collection.0)
                .bind(count.key.map_or(NOBODY, |key| key.0))
                .bind(count.metric.as_str())
                .bind(int(count.count));
        }
        statement.execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn sums(db: &SqlStore, month: &Month, key: Option<KeyId>) -> StoreResult<UsageSums> {
    let rows = query(
        "SELECT collection, metric, CAST(SUM(count) AS BIGINT) AS sum FROM usage_counts \
         WHERE month = $1 AND ($2 IS NULL OR api_key = $2) GROUP BY collection, metric",
    )
    .bind(month.as_str())
    .bind(key.map(|key| key.0))
    .fetch_all(&db.read)
    .await?;
    rows.iter()
        .map(|row| Ok(((CollectionId(row.try_get("collection")?), row.parsed("metric")?), row.number("sum")?)))
        .collect()
}
