//! Allowances of callers without a key, by address: requests a minute, and time of searches a
//! minute.
//!
//! Each process counts for itself and in memory: the allowance is there so that no stranger takes
//! what all have in common, not to bill anybody. What was used fades evenly within a minute, so
//! that nobody is shut out for long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, header};

use crate::client::ClientId;
use crate::problem::{ApiResult, Kind, Problem};

/// Time within which an allowance is new, in milliseconds.
const WINDOW_MS: f64 = 60_000.0;
/// Addresses that are counted apart; when there are more at once, the new ones share one account.
const MAX_ADDRESSES: usize = 65_536;
/// Milliseconds between two looks for idle addresses where there is no room for new ones.
const SWEEP_MS: i64 = 1000;

/// Allowances of one address for each minute; `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnonymousLimits {
    /// Requests below `/api`.
    pub requests: Option<u32>,
    /// Time for which its searches work, together.
    pub search_time: Option<Duration>,
}

impl Default for AnonymousLimits {
    /// 1,200 requests and 30 seconds of searching: a search commonly takes some milliseconds.
    fn default() -> Self {
        Self { requests: Some(1200), search_time: Some(Duration::from_secs(30)) }
    }
}

/// Requests and search times of addresses in the last minute.
#[derive(Debug, Default)]
pub struct AnonymousAllowance {
    limits: AnonymousLimits,
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    accounts: HashMap<ClientId, AddressAccount>,
    /// Time at which the idle ones were looked for, in milliseconds.
    swept: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct AddressAccount {
    requests: FadingUse,
    search_ms: FadingUse,
}

/// An amount that fades evenly: the whole limit in a minute.
#[derive(Debug, Clone, Copy, Default)]
struct FadingUse {
    used: f64,
    at: i64,
}

impl FadingUse {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since the last use")]
    fn fade(&mut self, limit: f64, now: i64) {
        let passed = now.saturating_sub(self.at).max(0) as f64;
        self.used = (self.used - passed * limit / WINDOW_MS).max(0.0);
        self.at = now;
    }

    /// Milliseconds until no more than so much is used.
    fn wait_for(self, most: f64, limit: f64) -> f64 {
        (self.used - most) * WINDOW_MS / limit
    }
}

impl AnonymousAllowance {
    /// Allowances with these limits.
    #[must_use]
    pub fn new(limits: AnonymousLimits) -> Self {
        Self { limits, addresses: Mutex::default() }
    }

    /// Takes a request out of an address's allowance.
    ///
    /// # Errors
    /// [`Kind::TooManyRequests`] with the time after which to try again.
    pub fn take_request(&self, client: ClientId, now: i64) -> ApiResult<()> {
        let Some(requests) = self.limits.requests else { return Ok(()) };
        let limit = f64::from(requests);
        self.with_account(client, now, |account| {
            account.requests.fade(limit, now);
            if account.requests.used + 1.0 > limit {
                let wait = account.requests.wait_for(limit - 1.0, limit);
                return Err(refuse_for_now(
                    format!("without a key, an address may make {requests} requests a minute"),
                    wait,
                ));
            }
            account.requests.used += 1.0;
            Ok(())
        })
    }

    /// Refuses a search of an address whose time for searches is used up.
    ///
    /// # Errors
    /// [`Kind::TooManyRequests`] with the time after which to try again.
    pub fn check_search(&self, client: ClientId, now: i64) -> ApiResult<()> {
        let Some(time) = self.limits.search_time else { return Ok(()) };
        let limit = milliseconds(time);
        self.with_account(client, now, |account| {
            account.search_ms.fade(limit, now);
            if account.search_ms.used < limit {
                return Ok(());
            }
            let wait = account.search_ms.wait_for(limit, limit);
            let detail = format!("without a key, an address may search for {} seconds a minute", time.as_secs());
            Err(refuse_for_now(detail, wait))
        })
    }

    /// Counts the time of a search that has ended, or whose client has gone.
    pub fn count_search(&self, client: ClientId, time: Duration, now: i64) {
        let Some(limit) = self.limits.search_time.map(milliseconds) else { return };
        self.with_account(client, now, |account| {
            account.search_ms.fade(limit, now);
            account.search_ms.used += milliseconds(time);
        });
    }

    fn with_account<T>(&self, client: ClientId, now: i64, work: impl FnOnce(&mut AddressAccount) -> T) -> T {
        let mut addresses = self.addresses();
        let has_room = |addresses: &Addresses| {
            addresses.accounts.len() < MAX_ADDRESSES || addresses.accounts.contains_key(&client)
        };
        if !has_room(&addresses) && now.abs_diff(addresses.swept) >= SWEEP_MS.unsigned_abs() {
            addresses.swept = now;
            self.forget_idle(&mut addresses.accounts, now);
        }
        let counted = if has_room(&addresses) { client } else { ClientId::Unknown };
        work(addresses.accounts.entry(counted).or_default())
    }

    fn forget_idle(&self, accounts: &mut HashMap<ClientId, AddressAccount>, now: i64) {
        let (requests, search_time) = (self.limits.requests.map(f64::from), self.limits.search_time.map(milliseconds));
        accounts.retain(|_, account| {
            account.requests.fade(requests.unwrap_or(f64::MAX), now);
            account.search_ms.fade(search_time.unwrap_or(f64::MAX), now);
            account.requests.used > 0.0 || account.search_ms.used > 0.0
        });
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        // Nobody panics while it is held.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_possible_truncation, reason = "seconds, some hours at most")]
fn refuse_for_now(detail: String, wait_ms: f64) -> Problem {
    let seconds = (wait_ms / 1000.0).ceil().max(1.0) as i64;
    Problem::new(Kind::TooManyRequests, format!("{detail}; wait, or show a key"))
        .header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn client(address: &str) -> ClientId {
        ClientId::of_address(address.parse().unwrap())
    }

    fn retry_after(refused: ApiResult<()>) -> String {
        let response = refused.unwrap_err().into_response();
        assert_eq!(response.status(), 429);
        response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_address_has_its_requests_back_within_a_minute_and_others_have_theirs() {
        let limits = AnonymousLimits { requests: Some(60), search_time: None };
        let (allowance, start) = (AnonymousAllowance::new(limits), 1_700_000_000_000);
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        for _ in 0..60 {
            allowance.take_request(one, start).unwrap();
        }
        assert_eq!(retry_after(allowance.take_request(one, start)), "1");
        allowance.take_request(other, start).unwrap();
        allowance.take_request(one, start + 1000).unwrap();
        retry_after(allowance.take_request(one, start + 1000));
        for _ in 0..60 {
            allowance.take_request(one, start + 61_000).unwrap();
        }
        allowance.check_search(one, start).unwrap();
    }

    #[test]
    fn a_search_may_go_beyond_the_time_and_the_next_one_waits_for_it() {
        let limits = AnonymousLimits { requests: None, search_time: Some(Duration::from_secs(30)) };
        let (allowance, start) = (AnonymousAllowance::new(limits), 1_700_000_000_000);
        let one = client("2001:db8::1");
        allowance.count_search(one, Duration::from_secs(29), start);
        allowance.check_search(one, start).unwrap();
        allowance.count_search(one, Duration::from_secs(6), start);
        assert_eq!(retry_after(allowance.check_search(client("2001:db8::2"), start)), "10", "one network");
        allowance.check_search(one, start + 10_001).unwrap();
        allowance.take_request(one, start).unwrap();
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_more_memory() {
        let limits = AnonymousLimits { requests: Some(2), search_time: None };
        let (allowance, start) = (AnonymousAllowance::new(limits), 1_700_000_000_000);
        let nth = |n: u32| ClientId::of_address(std::net::Ipv4Addr::from_bits(n).into());
        for n in 0..70_000 {
            _ = allowance.take_request(nth(n), start);
        }
        assert!(allowance.addresses().accounts.len() <= MAX_ADDRESSES + 1);
        retry_after(allowance.take_request(nth(80_000), start));
        allowance.take_request(nth(80_000), start + 120_000).unwrap();
        assert!(allowance.addresses().accounts.len() < 10, "the idle are forgotten");
    }
}
