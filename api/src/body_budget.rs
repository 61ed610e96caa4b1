//! Memory that the bodies of all unfinished requests may take together, with a share for each
//! client.
//!
//! Nobody waits for memory: requests that hold some and wait for more would wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderValue, header};

use crate::client::ClientId;
use crate::problem::{Kind, Problem};

/// Bytes of a body that are not counted: most bodies are smaller, and the connections bound their
/// number.
pub const FREE: usize = 16 * 1024;
/// Bytes that all bodies may take beyond that.
const ALL: usize = 64 * 1024 * 1024;
/// Bytes that the bodies of one client may take.
const SHARE: usize = ALL / 4;

/// Memory for bodies.
#[derive(Debug)]
pub struct BodyBudget {
    all: usize,
    share: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    by_client: HashMap<ClientId, usize>,
}

impl BodyBudget {
    /// A budget of `all` bytes, at most `share` of them for one client.
    #[must_use]
    pub fn new(all: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { all, share, held: Mutex::default() })
    }

    /// The budget of a process.
    #[must_use]
    pub fn usual() -> Arc<Self> {
        Self::new(ALL, SHARE)
    }

    /// Opens the account of one request.
    #[must_use]
    pub fn open_account(self: &Arc<Self>, client: ClientId) -> BodyAccount {
        BodyAccount(Arc::new(AccountState { budget: self.clone(), client, bytes: Mutex::new(0) }))
    }

    /// Counts the bytes that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock_held().bytes
    }

    fn lock_held(&self) -> MutexGuard<'_, Held> {
        // Nobody panics while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what a client holds from `old` to `new` bytes; false, if that is too much.
    fn change(&self, client: ClientId, old: usize, new: usize) -> bool {
        let mut held = self.lock_held();
        let own = held.by_client.get(&client).copied().unwrap_or_default() - old + new;
        let all = held.bytes - old + new;
        if new > old && (own > self.share || all > self.all) {
            return false;
        }
        held.bytes = all;
        if own == 0 {
            held.by_client.remove(&client);
        } else {
            held.by_client.insert(client, own);
        }
        true
    }
}

/// Account of what one request's body takes; cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyAccount(Arc<AccountState>);

#[derive(Debug)]
struct AccountState {
    budget: Arc<BodyBudget>,
    client: ClientId,
    bytes: Mutex<usize>,
}

impl BodyAccount {
    /// Holds so many bytes in all, more or less than before.
    ///
    /// # Errors
    /// A problem of kind `unavailable`, where all bodies or those of the client take too much; what
    /// was held stays.
    pub fn hold(&self, bytes: usize) -> Result<(), Problem> {
        let mut held = self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = bytes.saturating_sub(FREE);
        if !self.0.budget.change(self.0.client, *held, counted) {
            let detail = "too many large bodies are on their way; send them one after the other, or try again later";
            let problem = Problem::new(Kind::Unavailable, detail).with("part", "request bodies");
            return Err(problem.header(header::RETRY_AFTER, HeaderValue::from_static("5")));
        }
        *held = counted;
        Ok(())
    }

    /// Gives back what is held.
    pub fn hold_nothing(&self) {
        // Less can always be held.
        let _ = self.hold(0);
    }
}

impl Drop for AccountState {
    fn drop(&mut self) {
        let held = *self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.change(self.client, held, 0);
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::ids::KeyId;

    use super::*;

    #[test]
    fn a_client_has_its_share_and_all_have_the_whole() {
        let budget = BodyBudget::new(3000, 1000);
        let open = |key| budget.open_account(ClientId::Key(KeyId(key)));
        let (first, second) = (open(1), open(1));
        first.hold(FREE).unwrap();
        assert_eq!(budget.held(), 0, "small bodies are not counted");
        first.hold(FREE + 600).unwrap();
        assert!(second.hold(FREE + 401).is_err(), "one client");
        second.hold(FREE + 400).unwrap();
        let others = [2, 3].map(open);
        others.iter().for_each(|other| other.hold(FREE + 1000).unwrap());
        let late = open(4);
        assert!(late.hold(FREE + 1).is_err(), "all clients");
        late.hold(FREE).unwrap();
        first.hold_nothing();
        late.hold(FREE + 600).unwrap();
        drop((first, second, others, late));
        assert_eq!(budget.held(), 0);
        assert!(budget.lock_held().by_client.is_empty());
    }
}
