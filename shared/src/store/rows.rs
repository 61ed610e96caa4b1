//! Reads typed values out of rows, and makes the pieces of statements that depend on how many values there are.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Decode, Row as _, Type};

use super::{StoreError, StoreResult};
use crate::digest::Sha256;

pub(super) type Statement<'q> = Query<'q, Any, AnyArguments>;

/// Most values of one IN list. Both databases take tens of thousands of parameters, but to SQLite `$1` is a name, and
/// looking up the names of a statement takes time with the square of their number.
pub(super) const BATCH: usize = 500;

/// A statement whose text is known; it stays prepared.
pub(super) fn query<'q>(sql: &'static str) -> Statement<'q> {
    sqlx::query(sql)
}

/// A statement made at run time out of constants, numbers and placeholders, never out of text from outside. It stays
/// prepared if `reused`: when few different texts come of it.
pub(super) fn made<'q>(sql: String, reused: bool) -> Statement<'q> {
    sqlx::query(AssertSqlSafe(sql)).persistent(reused)
}

/// `$first, …`: that many placeholders.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    join((first..first + count).map(|n| format!("${n}")))
}

/// `($1, $2), ($3, $4)`: placeholders for that many rows.
pub(super) fn tuples(rows: usize, columns: usize) -> String {
    join((0..rows).map(|row| format!("({})", placeholders(row * columns + 1, columns))))
}

/// The values, with commas between them.
pub(super) fn join<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for value in values {
        let comma = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!("{comma}{value}"));
    }
    text
}

/// A count as the database keeps it. What exceeds 2^63 - 1 cannot be true and is kept as that.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unreadable(column: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} does not hold what it should"))
}

/// Typed columns of a row.
pub(super) trait Columns {
    /// A value that the driver knows.
    fn value<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, column: &str) -> StoreResult<T>;

    /// A number that is never negative.
    fn number<T: TryFrom<i64>>(&self, column: &str) -> StoreResult<T> {
        T::try_from(self.value::<i64>(column)?).map_err(|_| unreadable(column))
    }

    /// The same, or nothing.
    fn optional_number<T: TryFrom<i64>>(&self, column: &str) -> StoreResult<Option<T>> {
        self.value::<Option<i64>>(column)?.map(T::try_from).transpose().map_err(|_| unreadable(column))
    }

    /// A name out of a fixed set.
    fn parsed<T: FromStr>(&self, column: &str) -> StoreResult<T> {
        self.value::<&str>(column)?.parse().map_err(|_| unreadable(column))
    }

    /// The same, or nothing.
    fn optional_parsed<T: FromStr>(&self, column: &str) -> StoreResult<Option<T>> {
        let name = self.value::<Option<&str>>(column)?;
        name.map(str::parse).transpose().map_err(|_| unreadable(column))
    }

    /// JSON.
    fn json<T: DeserializeOwned>(&self, column: &str) -> StoreResult<T> {
        serde_json::from_str(self.value::<&str>(column)?).map_err(|_| unreadable(column))
    }

    /// A digest.
    fn digest(&self, column: &str) -> StoreResult<Sha256> {
        self.value::<&[u8]>(column)?.try_into().map_err(|_| unreadable(column))
    }

    /// A digest, or nothing.
    fn optional_digest(&self, column: &str) -> StoreResult<Option<Sha256>> {
        let bytes = self.value::<Option<&[u8]>>(column)?;
        bytes.map(Sha256::try_from).transpose().map_err(|_| unreadable(column))
    }
}

impl Columns for AnyRow {
    fn value<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, column: &str) -> StoreResult<T> {
        Ok(self.try_get(column)?)
    }
}

/// JSON as it is stored.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(format!("a value that has no JSON: {error}")))
}
