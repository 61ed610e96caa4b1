//! Opening, reopening, and what errors say.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Collection, Role, Selection};
use adit_shared::store::{NewDocset, SqlStore, Store as _, StoreError, measure};
use futures::future::join_all;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use url::Url;

use super::allowances::{forget_allowances, forget_text_rights};
use super::connections::Line;
use super::harness::{Database, on_postgres};
use super::keys::forget_key_rights;
use super::rights::forget_rights;
use super::samples::{HOUR, import, key, new_collection, new_docset};

pub(crate) async fn many_can_open_a_new_database_at_once(db: Database) {
    let mut url = db.url.clone();
    if db.is_sqlite() {
        url = url.replace("adit.db", "another/folder/adit.db");
    }
    let opening = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { SqlStore::open(&url).await })
    });
    for opened in join_all(opening).await {
        opened.unwrap().unwrap().ping().await.unwrap();
    }
}

pub(crate) async fn what_is_stored_outlives_the_process(db: Database) {
    let (collection, _) = import(&db.store, "kept", &["a"], &["txt"]).await;
    db.store.close().await;
    assert!(matches!(db.store.ping().await, Err(StoreError::Unavailable(_))));
    assert_eq!(db.open_again().await.collections().await.unwrap(), [collection]);
}

pub(crate) async fn a_trial_of_writing_changes_nothing_that_is_read(db: Database) {
    let (collection, _) = import(&db.store, "kept", &["a"], &["txt"]).await;
    let first = db.store.reserve_versions(1).await.unwrap();
    for _ in 0..3 {
        db.store.check_writes().await.unwrap();
    }
    assert_eq!(db.store.reserve_versions(1).await.unwrap().0, first.0 + 1);
    assert_eq!(db.store.collections().await.unwrap(), [collection]);
}

pub(crate) async fn versions_from_before_imports_were_recorded_stay(db: Database) {
    let (collection, ids) = import(&db.store, "kept", &["a"], &["txt"]).await;
    let owner = key(&db.store, "miner").await;
    let docset = new_docset(owner, collection.id, [ids[0].0].into());
    let of_query = db.store.create_docset(&docset).await.unwrap();
    let refs = Selection::Refs(1).into();
    let of_refs = db.store.create_docset(&NewDocset { origin: refs, ..docset }).await.unwrap();
    // The schema as it was before the second migration.
    let mut old = AnyConnection::connect(&db.url).await.unwrap();
    forget_text_rights(&mut old).await;
    forget_key_rights(&mut old).await;
    forget_allowances(&mut old).await;
    forget_rights(&mut old).await;
    for table in ["notices", "watches", "share_guests", "shares", "summaries"] {
        old.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await.unwrap();
    }
    old.execute("DROP INDEX docsets_by_fingerprint").await.unwrap();
    if !db.is_sqlite() {
        old.execute("DROP FUNCTION json_each(TEXT)").await.unwrap();
    }
    old.execute("ALTER TABLE docsets RENAME COLUMN origin TO query").await.unwrap();
    old.execute("UPDATE docsets SET query = CASE WHEN id = 1 THEN 'title:\"it''s\"' END").await.unwrap();
    old.execute("DROP TABLE corpus_versions").await.unwrap();
    old.execute("DROP TABLE secrets").await.unwrap();
    for (table, column) in [
        ("packages", "salt"),
        ("packages", "options"),
        ("packages", "about"),
        ("files", "deflate_crc32"),
        ("collections", "language"),
    ] {
        old.execute(AssertSqlSafe(format!("ALTER TABLE {table} DROP COLUMN {column}"))).await.unwrap();
    }
    old.execute("DELETE FROM _sqlx_migrations WHERE version > 1").await.unwrap();
    old.close().await.unwrap();

    let store = db.open_again().await;
    let found = store.collection("kept").await.unwrap().unwrap();
    assert_eq!(found, Collection { import: None, ..collection });
    assert_eq!(store.indexes(found.id, 9).await.unwrap(), [found.index()]);
    for docset in [of_query, of_refs] {
        assert_eq!(store.docset(docset.id, None).await.unwrap(), Some(docset));
    }
    let members = ids.iter().map(|id| id.0).collect();
    assert_eq!(measure(&store, &members).await.unwrap().1, found.formats, "without summaries");
    let (newer, _) = import(&store, "kept", &["a"], &["txt"]).await;
    assert_eq!(store.indexes(found.id, 9).await.unwrap(), [newer.index(), found.index()]);
}

pub(crate) async fn a_schema_from_the_future_is_refused(db: Database) {
    let mut connection = AnyConnection::connect(&db.url).await.unwrap();
    connection.execute("UPDATE _sqlx_migrations SET version = 1000 WHERE version = 1").await.unwrap();
    connection.close().await.unwrap();
    let error = SqlStore::open(&db.url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(reason) if reason.contains("newer than this program")), "{error}");
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_is_not_one_that_is_away() {
    on_postgres(async |db| {
        let mut url: Url = db.url.parse().unwrap();
        url.set_path("/nowhere");
        let error = SqlStore::open(url.as_str()).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(reason) if reason.contains("create it")), "{error}");
        url.set_path("/postgres");
        url.set_username("nobody").unwrap();
        let error = SqlStore::open(url.as_str()).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(reason) if reason.contains("user or password")), "{error}");
    })
    .await;
}

pub(crate) async fn errors_tell_neither_statements_nor_values(db: Database) {
    let hash = Sha256::of(b"secret");
    db.store.create_key("first", Role::Miner, None, &hash, 0).await.unwrap();
    let error = db.store.create_key("second", Role::Miner, None, &hash, 0).await.unwrap_err().to_string();
    assert!(error.contains("a value that must be unique is there already"), "{error}");
    for secret in ["INSERT", "api_keys", "second", &hash.to_string()] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("no database");
    std::fs::write(&file, "This is a letter and no database. ".repeat(100)).unwrap();
    let url = format!("sqlite://{}", file.display());
    let error = SqlStore::open(&url).await.unwrap_err().to_string();
    assert!(error.contains("no database") && error.contains("no SQLite database"), "{error}");

    let url = format!("sqlite://{}/adit.db", file.display());
    let error = SqlStore::open(&url).await.unwrap_err().to_string();
    assert!(error.contains("its folder") && error.contains("cannot be made"), "{error}");

    for (url, reason) in [
        ("mysql://host/db", "must begin with sqlite: or postgres:"),
        ("adit.db", "cannot be read"),
        ("sqlite:", "must name a file"),
        ("sqlite::memory:", "must name a file"),
        ("sqlite:///adit.db?mode=memory", "must name a file"),
        ("sqlite:///adit.db?speed=9", "unknown parameter"),
    ] {
        let error = SqlStore::open(url).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = SqlStore::open(&format!("postgres://adit:hidden@{nobody}/adit")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(_)), "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
}

#[tokio::test]
async fn a_lost_server_is_an_error_until_it_is_back() {
    on_postgres(async |db| {
        let mut url: Url = db.url.parse().unwrap();
        let line = Line::before(&mut url).await;
        let (server, port) = (line.server.clone(), line.port);
        let store = SqlStore::open(url.as_str()).await.unwrap();
        let lease = store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();

        drop(line);
        assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
        assert!(matches!(store.commit_import(&lease, 1).await, Err(StoreError::Unavailable(_))));

        let _line = Line::to(server, port).await;
        store.ping().await.unwrap();
        store.commit_import(&lease, 1).await.unwrap();
    })
    .await;
}
