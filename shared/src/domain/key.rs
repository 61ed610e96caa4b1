//! API keys and the roles they carry.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Entitlement, Holdings, Limits, OwnLimit, Scope};
use crate::digest::Sha256;
use crate::ids::KeyId;

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, makes docsets, asks for packages; sees only its own.
    Miner,
    /// Builds packages, and does nothing else.
    Packager,
    /// Everything.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Miner, Self::Packager, Self::Operator];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Packager => "packager",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}; there are: miner, packager, operator"))
    }
}

/// A key, without its secret: only [`secret_hash`] of that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// What holds for it: its own limits, or else those of its role; `None`: unlimited.
    pub limits: Limits<Option<u64>>,
    /// Its own limits.
    pub own_limits: Limits<OwnLimit>,
    /// Limits of what it may have at one time: its own, or else those of its role; `None`:
    /// unlimited.
    pub holding_limits: Holdings<Option<u64>>,
    /// Its own limits of that.
    pub own_holding_limits: Holdings<OwnLimit>,
    /// What it is entitled to beyond what is open; an operator is to everything.
    pub entitlements: BTreeSet<Entitlement>,
    /// The scopes that it was given; `None`: all of its role.
    pub own_scopes: Option<BTreeSet<Scope>>,
    /// Hash of the secret.
    pub hash: Sha256,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// When it was revoked, if it was.
    pub revoked: Option<i64>,
    /// The first instant at which it is not valid any more; `None`: it does not expire.
    pub expires: Option<i64>,
    /// The beginning of the clock hour (since the epoch) in which it was last shown, as far as is
    /// stored.
    pub last_used: Option<i64>,
}

/// How a key stands at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It may be used.
    Valid,
    /// It expired then.
    Expired(i64),
    /// It was revoked then.
    Revoked(i64),
}

impl ApiKey {
    /// Tells how the key stands at an instant (milliseconds since the epoch).
    #[must_use]
    pub fn state(&self, now: i64) -> KeyState {
        match (self.revoked, self.expires) {
            (Some(revoked), _) => KeyState::Revoked(revoked),
            (None, Some(expires)) if expires <= now => KeyState::Expired(expires),
            _ => KeyState::Valid,
        }
    }

    /// Tells whether the key has a scope: its role must have it, and it must not have been given
    /// others only.
    #[must_use]
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.role.scopes().contains(&scope) && self.own_scopes.as_ref().is_none_or(|own| own.contains(&scope))
    }

    /// Tells whether the key is valid at an instant and has a scope.
    #[must_use]
    pub fn may_use(&self, scope: Scope, now: i64) -> bool {
        self.state(now) == KeyState::Valid && self.has_scope(scope)
    }

    /// Lists the scopes that the key has.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(|scope| self.has_scope(*scope))
    }
}

/// The stored form of a key's secret. A secret has 256 bits of its own randomness, so one round of SHA-256 is as good
/// as a slow hash: there is nothing to guess.
#[must_use]
pub fn secret_hash(secret: &str) -> Sha256 {
    Sha256::of(secret.as_bytes())
}
