//! Keys, their limits, and secrets.

use std::collections::{BTreeSet, HashSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::{ApiKey, Holdings, Limits, OwnLimit, Role};
use adit_shared::ids::KeyId;
use adit_shared::store::Store as _;
use futures::future::join_all;

use super::harness::Database;
use super::samples::key;

pub(crate) async fn a_key_is_found_by_its_hash_until_it_is_revoked(db: Database) {
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
        hash,
        created: 7,
        revoked: None,
    };
    assert_eq!(made, expected);
    assert_eq!(db.store.caller(&hash, 0).await.unwrap(), Some((expected.clone(), 0)));
    assert_eq!(db.store.caller(&Sha256::of(b"other"), 0).await.unwrap(), None);

    assert!(db.store.revoke_key(made.id, 9).await.unwrap());
    assert!(!db.store.revoke_key(made.id, 10).await.unwrap(), "it is revoked already");
    assert!(!db.store.revoke_key(KeyId(99), 10).await.unwrap(), "there is none");
    assert_eq!(db.store.caller(&hash, 0).await.unwrap(), None);

    let second = db.store.create_key("", Role::Packager, None, &Sha256::of(b"two"), 8).await.unwrap();
    assert_eq!(db.store.keys().await.unwrap(), [ApiKey { revoked: Some(9), ..expected }, second]);
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
}
