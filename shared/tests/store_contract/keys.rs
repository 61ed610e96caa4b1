//! Keys, their limits, and secrets.

use std::collections::{BTreeSet, HashSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::{Allowance, ApiKey, Holdings, KeyState, Limits, OwnLimit, Role, Scope};
use adit_shared::ids::KeyId;
use adit_shared::store::{Exchange, Store as _};
use futures::future::join_all;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use super::allowances::take;
use super::harness::Database;
use super::samples::{key, owned_docset};

pub(crate) async fn a_key_is_found_by_its_hash_and_number_whatever_its_state(db: Database) {
    let hash = Sha256::of(b"one");
    let made = db.store.create_key("Åsa's key", Role::Operator, Some(u64::from(u32::MAX)), &hash, 7).await.unwrap();
    let expected = ApiKey {
        id: made.id,
        name: "Åsa's key".to_owned(),
        role: Role::Operator,
        limits: Limits { documents: Some(u64::from(u32::MAX)), requests: None },
        own_limits: Limits { documents: OwnLimit::AtMost(u64::from(u32::MAX)), requests: OwnLimit::AsRole },
        holding_limits: Holdings::default(),
        own_holding_limits: Holdings::default(),
        entitlements: BTreeSet::new(),
        own_scopes: None,
        hash,
        created: 7,
        revoked: None,
        expires: None,
        last_used: None,
    };
    assert_eq!(made, expected);
    assert_eq!(db.store.caller(&hash, 0).await.unwrap(), Some((expected.clone(), 0)));
    assert_eq!(db.store.caller(&Sha256::of(b"other"), 0).await.unwrap(), None);

    assert!(db.store.revoke_key(made.id, 9).await.unwrap());
    assert!(!db.store.revoke_key(made.id, 10).await.unwrap(), "it is revoked already");
    assert!(!db.store.revoke_key(KeyId(99), 10).await.unwrap(), "there is none");
    let revoked = ApiKey { revoked: Some(9), ..expected };
    assert_eq!(db.store.caller(&hash, 0).await.unwrap(), Some((revoked.clone(), 0)));
    assert_eq!(db.store.key(made.id).await.unwrap(), Some(revoked.clone()));
    assert_eq!(db.store.key(KeyId(99)).await.unwrap(), None);

    let second = db.store.create_key("", Role::Packager, None, &Sha256::of(b"two"), 8).await.unwrap();
    assert_eq!(db.store.keys().await.unwrap(), [revoked, second]);
}

pub(crate) async fn a_keys_own_limits_go_before_those_of_its_role(db: Database) {
    let key = key(&db.store, "miner").await;
    let limits = async || db.store.caller(&Sha256::of(b"miner"), 0).await.unwrap().unwrap().0.limits;
    assert_eq!(limits().await, Limits { documents: None, requests: Some(6000) }, "what miners have in a new database");
    assert_eq!(db.store.role_limits(Role::Operator).await.unwrap(), Limits::default());
    let role = Limits { documents: Some(1000), requests: Some(60) };
    db.store.limit_role(Role::Miner, &role).await.unwrap();
    assert_eq!((limits().await, db.store.role_limits(Role::Miner).await.unwrap()), (role, role));

    let own = Limits { documents: OwnLimit::Unlimited, requests: OwnLimit::AtMost(0) };
    assert!(db.store.limit_key(key, &own).await.unwrap());
    assert_eq!(limits().await, Limits { documents: None, requests: Some(0) });
    let listed = db.store.keys().await.unwrap().pop().unwrap();
    assert_eq!((listed.own_limits, listed.limits), (own, limits().await));
    assert!(db.store.limit_key(key, &Limits::default()).await.unwrap());
    assert_eq!(limits().await, role);

    db.store.revoke_key(key, 9).await.unwrap();
    assert!(!db.store.limit_key(key, &own).await.unwrap(), "it is revoked");
    assert!(!db.store.limit_key(KeyId(99), &own).await.unwrap(), "there is none");
}

pub(crate) async fn a_key_is_narrowed_and_expires(db: Database) {
    let store = &db.store;
    let id = key(store, "miner").await;
    let found = async || store.key(id).await.unwrap().unwrap();
    let fresh = found().await;
    assert_eq!(fresh.scopes().collect::<Vec<_>>(), Role::Miner.scopes());
    // What its role does not have is not had by naming it.
    let own = BTreeSet::from([Scope::Search, Scope::DocsetsWrite, Scope::Usage]);
    assert!(store.set_key_scopes(id, Some(&own)).await.unwrap());
    assert!(store.set_key_expiry(id, Some(100)).await.unwrap());
    let narrowed = found().await;
    assert_eq!((&narrowed.own_scopes, narrowed.expires), (&Some(own), Some(100)));
    assert!(narrowed.scopes().eq([Scope::Search, Scope::DocsetsWrite]));
    assert_eq!((narrowed.state(99), narrowed.state(100)), (KeyState::Valid, KeyState::Expired(100)));
    assert!(narrowed.may_use(Scope::Search, 99) && !narrowed.may_use(Scope::Search, 100));
    assert!(!narrowed.may_use(Scope::Usage, 99) && !narrowed.may_use(Scope::Watches, 99));
    assert!(store.set_key_scopes(id, None).await.unwrap());
    assert!(store.set_key_expiry(id, None).await.unwrap());
    assert_eq!(found().await, fresh);

    store.revoke_key(id, 9).await.unwrap();
    for key in [id, KeyId(99)] {
        assert!(!store.set_key_expiry(key, Some(100)).await.unwrap());
        assert!(!store.set_key_scopes(key, None).await.unwrap());
    }
    assert_eq!(found().await.state(9), KeyState::Revoked(9));
}

pub(crate) async fn the_last_use_of_a_key_is_the_latest(db: Database) {
    let (one, two) = (key(&db.store, "one").await, key(&db.store, "two").await);
    let used = async || db.store.keys().await.unwrap().iter().map(|key| key.last_used).collect::<Vec<_>>();
    db.store.note_key_use(&[]).await.unwrap();
    db.store.note_key_use(&[(one, 7_200_000), (KeyId(99), 1)]).await.unwrap();
    assert_eq!(used().await, [Some(7_200_000), None]);
    // A process that comes late takes nothing back.
    db.store.note_key_use(&[(one, 3_600_000), (two, 3_600_000)]).await.unwrap();
    assert_eq!(used().await, [Some(7_200_000), Some(3_600_000)]);
}

/// Undoes the migration that gives keys scopes, an expiry and a last use.
pub(crate) async fn forget_key_rights(old: &mut AnyConnection) {
    for column in ["expires", "scopes", "last_used"] {
        old.execute(AssertSqlSafe(format!("ALTER TABLE api_keys DROP COLUMN {column}"))).await.unwrap();
    }
    old.execute("DELETE FROM _sqlx_migrations WHERE version = 12").await.unwrap();
}

pub(crate) async fn keys_from_before_they_had_scopes_may_do_as_much_as_before(db: Database) {
    let (used, unused) = (key(&db.store, "used").await, key(&db.store, "unused").await);
    let exchange = |window, now| Exchange {
        key: used,
        allowance: Allowance::Requests,
        window,
        limit: None,
        lease: 0,
        unused: 0,
        least: 1,
        most: 1,
        now,
        held_until: now,
    };
    db.store.exchange(&exchange(7_260_000, 7_260_001)).await.unwrap();
    let before = db.store.keys().await.unwrap();
    let mut old = AnyConnection::connect(&db.url).await.unwrap();
    forget_key_rights(&mut old).await;
    old.close().await.unwrap();

    let store = db.open_again().await;
    let after = store.keys().await.unwrap();
    assert_eq!(after[0], ApiKey { last_used: Some(7_200_000), ..before[0].clone() }, "as far as its quota tells");
    assert_eq!((after[1].id, &after[1]), (unused, &before[1]));
}

pub(crate) async fn a_secret_is_made_once_for_all(db: Database) {
    let other = db.open_again().await;
    let asking = (0..20_u8).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.secret("links", &[i; 32]).await.unwrap() })
    });
    let secrets: HashSet<[u8; 32]> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(secrets.len(), 1);
    assert!(secrets.contains(&other.secret("links", &[99; 32]).await.unwrap()));
    assert_eq!(db.store.secret("other", &[99; 32]).await.unwrap(), [99; 32]);
    db.store.replace_secret("links", &[100; 32]).await.unwrap();
    db.store.replace_secret("third", &[101; 32]).await.unwrap();
    for (name, replaced) in [("links", 100), ("third", 101), ("other", 99)] {
        assert_eq!(other.secret(name, &[1; 32]).await.unwrap(), [replaced; 32], "{name}");
    }
}

pub(crate) async fn a_key_that_nothing_belongs_to_is_removed(db: Database) {
    let own = key(&db.store, "own").await;
    db.store.exchange(&take(own, 1, 1)).await.unwrap();
    assert!(db.store.remove_key(own).await.unwrap());
    assert!(!db.store.remove_key(own).await.unwrap());
    assert_eq!(db.store.key(own).await.unwrap(), None);
    let (owner, docset) = owned_docset(&db.store, "miner").await;
    assert!(!db.store.remove_key(owner).await.unwrap());
    assert!(db.store.key(owner).await.unwrap().is_some());
    assert!(db.store.docset(docset, Some(owner)).await.unwrap().is_some());
}
