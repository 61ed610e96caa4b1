//! Watches, and the notices of what they have found. When they look, and how notices are sent, is the business of the process that imports.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::keys::{k_has_scope, valid_key};
use super::rows::{Columns as _, int, made, query};
use super::sql::returned;
use super::{NewDocset, SqlStore, StoreError, StoreResult, docsets, errors};
use crate::clock::{is_lease_valid, latest_end};
use crate::domain::Scope;
use crate::ids::{CollectionId, DocsetId, KeyId, NoticeId, VersionId, WatchId};
use crate::webhook::WebhookSecret;

/// A watch to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWatch {
    /// The key that makes it.
    pub owner: KeyId,
    /// The collection.
    pub collection: CollectionId,
    /// A name for people.
    pub name: Option<String>,
    /// The query, as [`crate::search::Source::stored`] gives it.
    pub query: String,
    /// Who is told, and what signs the messages.
    pub webhook: Option<(String, WebhookSecret)>,
    /// What came up to this corpus version is not new.
    pub corpus_version: i64,
    /// Milliseconds since the epoch.
    pub created: i64,
}

/// A saved query: after an import, those of its hits that are new become a docset of the watch's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its id.
    pub id: WatchId,
    /// That collection's slug.
    pub collection_slug: String,
    /// When the receiver said that it wants no more messages.
    pub gone: Option<i64>,
    /// What it was made of; `corpus_version` is up to which one it has looked since.
    pub new: NewWatch,
}

/// How far the delivery of a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoticeState {
    /// Nobody is to be told.
    Silent,
    /// To be sent, perhaps once more.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// Given up.
    Failed,
}

impl NoticeState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for NoticeState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Silent, Self::Pending, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown state {text:?}"))
    }
}

/// What a watch has found once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// Its watch.
    pub watch: WatchId,
    /// Its name towards the receiver, the same at each attempt.
    pub message: String,
    /// Up to which corpus version the watch then looked.
    pub corpus_version: i64,
    /// The docset of what was new.
    pub docset: DocsetId,
    /// How much that is.
    pub documents: u64,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// How far its delivery is.
    pub state: NoticeState,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is to be sent next, if it is pending.
    pub next_attempt: Option<i64>,
    /// When it was taken.
    pub delivered: Option<i64>,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// What went wrong with the last attempt.
    pub problem: Option<String>,
}

/// Longest time from an attempt to deliver a notice to the next, in milliseconds.
pub const LONGEST_NOTICE_WAIT_MS: i64 = 95_040_000;

impl Notice {
    /// Tells how many milliseconds it is until the next attempt is due. One that is further ahead
    /// than it can be was written by a clock that was wrong, and is due.
    #[must_use]
    pub fn wait_ms(&self, now: i64) -> i64 {
        let longest = if self.attempts == 0 { 0 } else { LONGEST_NOTICE_WAIT_MS };
        self.next_attempt.filter(|due| is_lease_valid(*due, now, longest)).map_or(0, |due| due - now)
    }
}

/// What came of an attempt to deliver a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has taken it.
    Delivered {
        /// HTTP status of its answer.
        status: u16,
    },
    /// It has not.
    Failed {
        /// HTTP status of its answer, if there was one.
        status: Option<u16>,
        /// What went wrong.
        problem: String,
        /// When to try again; `None`: never.
        next: Option<i64>,
    },
    /// The receiver wants no more messages of this watch at all.
    Gone {
        /// HTTP status of its answer.
        status: u16,
    },
}

/// Selects watches.
macro_rules! select_watches {
    ($($rest:expr),+) => {
        concat!("SELECT w.*, c.slug FROM watches w JOIN collections c ON c.id = w.collection ", $($rest),+)
    };
}

fn watch_of(row: &AnyRow) -> StoreResult<Watch> {
    let (webhook, secret): (Option<String>, Option<Vec<u8>>) = (row.value("webhook")?, row.value("secret")?);
    Ok(Watch {
        id: WatchId(row.value("id")?),
        collection_slug: row.value("slug")?,
        gone: row.value("gone")?,
        new: NewWatch {
            owner: KeyId(row.value("owner")?),
            collection: CollectionId(row.value("collection")?),
            name: row.value("name")?,
            query: row.value("query")?,
            webhook: webhook.zip(secret).map(|(url, secret)| (url, WebhookSecret::new(secret))),
            corpus_version: row.value("corpus_version")?,
            created: row.value("created")?,
        },
    })
}

fn notice_of(row: &AnyRow) -> StoreResult<Notice> {
    Ok(Notice {
        id: NoticeId(row.value("id")?),
        watch: WatchId(row.value("watch")?),
        message: row.value("message")?,
        corpus_version: row.value("corpus_version")?,
        docset: DocsetId(row.value("docset")?),
        documents: row.number("documents")?,
        created: row.value("created")?,
        state: row.parsed("state")?,
        attempts: row.number("attempts")?,
        next_attempt: row.value("next_attempt")?,
        delivered: row.value("delivered")?,
        status: row.optional_number("status")?,
        problem: row.value("problem")?,
    })
}

pub(super) async fn create(db: &SqlStore, new: &NewWatch, most: u32) -> StoreResult<Option<Watch>> {
    let insert = query(
        "INSERT INTO watches (owner, collection, name, query, webhook, secret, corpus_version, created) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE (SELECT COUNT(*) FROM watches WHERE owner = $1) < $9 \
         RETURNING id, (SELECT slug FROM collections c WHERE c.id = watches.collection) AS slug",
    )
    .bind(new.owner.0)
    .bind(new.collection.0)
    .bind(&new.name)
    .bind(&new.query)
    .bind(new.webhook.as_ref().map(|(url, _)| url.as_str()))
    .bind(new.webhook.as_ref().map(|(_, secret)| secret.bytes()))
    .bind(new.corpus_version)
    .bind(new.created)
    .bind(i64::from(most));
    let rows = match insert.fetch_all(&db.write).await {
        Err(error) if errors::is_foreign_key_violation(&error) => {
            return Err(StoreError::NotFound("collection or key"));
        }
        rows => rows?,
    };
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Watch { id: WatchId(row.value("id")?), collection_slug: row.value("slug")?, gone: None, new: new.clone() }))
}

pub(super) async fn watch(db: &SqlStore, id: WatchId, owner: Option<KeyId>) -> StoreResult<Option<Watch>> {
    let select = query(select_watches!("WHERE w.id = $1 AND ($2 IS NULL OR w.owner = $2)"));
    let row = select.bind(id.0).bind(owner.map(|key| key.0)).fetch_optional(&db.read).await?;
    row.as_ref().map(watch_of).transpose()
}

pub(super) async fn watches(
    db: &SqlStore,
    owner: Option<KeyId>,
    before: Option<WatchId>,
    limit: u32,
) -> StoreResult<Vec<Watch>> {
    let select = query(select_watches!("WHERE ($1 IS NULL OR w.owner = $1) AND w.id < $2 ORDER BY w.id DESC LIMIT $3"));
    let rows = select
        .bind(owner.map(|key| key.0))
        .bind(before.map_or(i64::MAX, |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(&db.read)
        .await?;
    rows.iter().map(watch_of).collect()
}

pub(super) async fn delete(db: &SqlStore, id: WatchId, owner: Option<KeyId>) -> StoreResult<bool> {
    let deleted = query("DELETE FROM watches WHERE id = $1 AND ($2 IS NULL OR owner = $2)")
        .bind(id.0)
        .bind(owner.map(|key| key.0))
        .execute(&db.write)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn behind(db: &SqlStore, now: i64) -> StoreResult<Vec<Watch>> {
    let may_watch = k_has_scope(Scope::Watches);
    let select = select_watches!(
        "JOIN api_keys k ON k.id = w.owner WHERE w.corpus_version < c.corpus_version AND ",
        valid_key!("k", "$1")
    );
    let select = made(format!("{select} AND {may_watch} ORDER BY w.id"), true);
    select.bind(now).fetch_all(&db.read).await?.iter().map(watch_of).collect()
}

/// Ids rise with the corpus versions of a collection: imports into it, which take their ids while they hold its lease, come one after the other.
pub(super) async fn first_added_after(
    db: &SqlStore,
    collection: CollectionId,
    version: i64,
) -> StoreResult<Option<VersionId>> {
    let row = query(
        "SELECT MIN(d.id) AS id FROM documents d JOIN collections c ON c.id = d.collection \
         WHERE d.collection = $1 AND d.added > $2 AND d.added <= c.corpus_version",
    )
    .bind(collection.0)
    .bind(version)
    .fetch_one(&db.read)
    .await?;
    Ok(row.optional_number("id")?.map(VersionId))
}

/// The watch's row decides who of several was first: its update comes before all else, and locks it.
pub(super) async fn advance(
    db: &SqlStore,
    watch: &Watch,
    version: i64,
    found: Option<&NewDocset>,
) -> StoreResult<Option<DocsetId>> {
    let mut transaction = db.begin().await?;
    let advanced = query("UPDATE watches SET corpus_version = $3 WHERE id = $1 AND corpus_version = $2 RETURNING gone")
        .bind(watch.id.0)
        .bind(watch.new.corpus_version)
        .bind(version);
    let Some(row) = returned(advanced, &mut *transaction).await? else { return Ok(None) };
    let mut made = None;
    if let Some(found) = found {
        let docset = docsets::insert(&mut transaction, found).await?;
        let tell = watch.new.webhook.is_some() && row.value::<Option<i64>>("gone")?.is_none();
        let state = if tell { NoticeState::Pending } else { NoticeState::Silent };
        query(
            "INSERT INTO notices (watch, message, corpus_version, docset, documents, created, state, next_attempt) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(watch.id.0)
        .bind(format!("msg_{:032x}", rand::random::<u128>()))
        .bind(version)
        .bind(docset.id.0)
        .bind(int(docset.size))
        .bind(found.created)
        .bind(state.as_str())
        .bind(tell.then_some(found.created))
        .execute(&mut *transaction)
        .await?;
        made = Some(docset.id);
    }
    transaction.commit().await?;
    Ok(made)
}

pub(super) async fn notices(db: &SqlStore, watch: WatchId, limit: u32) -> StoreResult<Vec<Notice>> {
    let select = query("SELECT * FROM notices WHERE watch = $1 ORDER BY corpus_version DESC LIMIT $2");
    let rows = select.bind(watch.0).bind(i64::from(limit)).fetch_all(&db.read).await?;
    rows.iter().map(notice_of).collect()
}

pub(super) async fn due(db: &SqlStore, by: i64, now: i64) -> StoreResult<Vec<Notice>> {
    let may_watch = k_has_scope(Scope::Watches);
    let select = concat!(
        "SELECT n.* FROM notices n JOIN watches w ON w.id = n.watch JOIN api_keys k ON k.id = w.owner ",
        "WHERE n.state = 'pending' ",
        "AND (n.next_attempt <= $1 OR n.next_attempt > CASE WHEN n.attempts = 0 THEN $3 ELSE $4 END) AND ",
        valid_key!("k", "$2")
    );
    let select = made(format!("{select} AND {may_watch} ORDER BY n.next_attempt, n.id"), true);
    let select = select.bind(by).bind(now).bind(latest_end(now, 0)).bind(latest_end(now, LONGEST_NOTICE_WAIT_MS));
    let rows = select.fetch_all(&db.read).await?;
    rows.iter().map(notice_of).collect()
}

pub(super) async fn claim(db: &SqlStore, notice: &Notice, next: i64) -> StoreResult<bool> {
    let claimed = query(
        "UPDATE notices SET attempts = attempts + 1, next_attempt = $3 WHERE id = $1 AND attempts = $2 AND state = 'pending'",
    )
    .bind(notice.id.0)
    .bind(i64::from(notice.attempts))
    .bind(next)
    .execute(&db.write)
    .await?;
    Ok(claimed.rows_affected() > 0)
}

/// What is delivered, or given up, stays so: an answer that comes late changes nothing.
pub(super) async fn settle(db: &SqlStore, notice: &Notice, attempt: &Attempt, now: i64) -> StoreResult<()> {
    let (state, status, problem, next) = match attempt {
        Attempt::Delivered { status } => (NoticeState::Delivered, Some(*status), None, None),
        Attempt::Failed { status, problem, next } => {
            let state = if next.is_some() { NoticeState::Pending } else { NoticeState::Failed };
            (state, *status, Some(problem.as_str()), *next)
        }
        Attempt::Gone { status } => {
            (NoticeState::Failed, Some(*status), Some("the receiver wants no more messages (410)"), None)
        }
    };
    let mut transaction = db.begin().await?;
    let gone = matches!(attempt, Attempt::Gone { .. });
    if gone {
        query("UPDATE watches SET gone = $2 WHERE id = $1 AND gone IS NULL")
            .bind(notice.watch.0)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
    }
    let which = if gone { "watch = $7" } else { "id = $1 AND watch = $7" };
    made(
        format!(
            "UPDATE notices SET state = $2, status = CASE WHEN id = $1 THEN $3 ELSE status END, problem = $4, \
             next_attempt = $5, delivered = $6 WHERE {which} AND state = 'pending'"
        ),
        true,
    )
    .bind(notice.id.0)
    .bind(state.as_str())
    .bind(status.map(i64::from))
    .bind(problem)
    .bind(next)
    .bind((state == NoticeState::Delivered).then_some(now))
    .bind(notice.watch.0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
