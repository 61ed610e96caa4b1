//! Keys, quotas and secrets.

use std::collections::{BTreeSet, HashSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::{ApiKey, Role};
use adit_shared::ids::KeyId;
use adit_shared::store::{Store as _, StoreError};
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
        quota: Some(u64::from(u32::MAX)),
        entitlements: BTreeSet::new(),
        hash,
        created: 7,
        revoked: None,
    };
    assert_eq!(made, expected);
    assert_eq!(db.store.key_by_hash(&hash).await.unwrap(), Some(expected.clone()));
    assert_eq!(db.store.key_by_hash(&Sha256::of(b"other")).await.unwrap(), None);

    assert!(db.store.revoke_key(made.id, 9).await.unwrap());
    assert!(!db.store.revoke_key(made.id, 10).await.unwrap(), "it is revoked already");
    assert!(!db.store.revoke_key(KeyId(99), 10).await.unwrap(), "there is none");
    assert_eq!(db.store.key_by_hash(&hash).await.unwrap(), None);

    let second = db.store.create_key("", Role::Packager, None, &Sha256::of(b"two"), 8).await.unwrap();
    assert_eq!(db.store.keys().await.unwrap(), [ApiKey { revoked: Some(9), ..expected }, second]);
}

pub(crate) async fn a_quota_bounds_the_use_of_a_day(db: Database) {
    let key = key(&db.store, "miner").await;
    let charge = async |day, documents, quota| db.store.charge(key, day, documents, quota).await.unwrap();
    assert_eq!(charge(1, 11, Some(10)).await, None, "too much at once");
    assert_eq!(charge(1, 4, Some(10)).await, Some(4));
    assert_eq!(charge(1, 6, Some(10)).await, Some(10), "the last one fits");
    assert_eq!(charge(1, 1, Some(10)).await, None);
    assert_eq!(charge(1, 0, Some(10)).await, Some(10));
    assert_eq!(charge(2, 3, Some(10)).await, Some(3), "a new day");
    assert_eq!(charge(3, 5_000_000_000, None).await, Some(5_000_000_000), "no quota");
    assert_eq!(charge(3, 1, Some(10)).await, None, "a quota that came later");

    assert_eq!(db.store.usage(key, 9).await.unwrap(), [(3, 5_000_000_000), (2, 3), (1, 10)]);
    assert_eq!(db.store.usage(key, 1).await.unwrap(), [(3, 5_000_000_000)]);
    let stranger = KeyId(99);
    assert_eq!(db.store.usage(stranger, 9).await.unwrap(), []);
    assert!(matches!(db.store.charge(stranger, 1, 1, None).await, Err(StoreError::NotFound("key"))));
}

pub(crate) async fn requests_at_once_never_pass_a_quota_together(db: Database) {
    let key = key(&db.store, "miner").await;
    let other = db.open_again().await;
    let charging = (0..50).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.charge(key, 1, 3, Some(100)).await.unwrap() })
    });
    let mut granted: Vec<u64> = join_all(charging).await.into_iter().filter_map(Result::unwrap).collect();
    granted.sort_unstable();
    assert_eq!(granted, (1..=33).map(|n| n * 3).collect::<Vec<_>>());
    assert_eq!(db.store.usage(key, 9).await.unwrap(), [(1, 99)]);
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
