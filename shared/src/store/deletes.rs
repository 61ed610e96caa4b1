//! Deletes of packages' objects that no broker has confirmed yet. Each is recorded in the
//! transaction that it follows from, so that none is lost with a broker or a process.

use super::connections::Transaction;
use super::rows::{Columns as _, query};
use super::{SqlStore, StoreError, StoreResult};
use crate::domain::Package;
use crate::messaging::DeleteRequest;

/// Records that a package's objects are to be deleted.
pub(super) async fn record(package: &Package, transaction: &mut Transaction) -> StoreResult<()> {
    let request = DeleteRequest { package: package.salted() };
    let insert = query("INSERT INTO pending_deletes (message) VALUES ($1) ON CONFLICT DO NOTHING");
    insert.bind(request.to_string()).execute(&mut **transaction).await?;
    Ok(())
}

pub(super) async fn pending(db: &SqlStore, limit: u32) -> StoreResult<Vec<DeleteRequest>> {
    let select = query("SELECT message FROM pending_deletes ORDER BY message LIMIT $1").bind(i64::from(limit));
    let parse = |message: &str| {
        message.parse().map_err(|error| StoreError::Corrupt(format!("column message of pending_deletes: {error}")))
    };
    select.fetch_all(&db.read).await?.iter().map(|row| parse(row.value("message")?)).collect()
}

pub(super) async fn confirm(db: &SqlStore, request: &DeleteRequest) -> StoreResult<()> {
    let delete = query("DELETE FROM pending_deletes WHERE message = $1");
    delete.bind(request.to_string()).execute(&db.write).await?;
    Ok(())
}
