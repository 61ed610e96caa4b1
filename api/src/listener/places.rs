//! Which connections find a place.
//!
//! There are places for everybody, of which one address may have a share, and some that are
//! reserved: a connection that finds no public place gets a reserved one, on which only operators,
//! packagers and checks of health are answered. Before a connection is refused, the one that has
//! done nothing for the longest time is closed in its favour: of the same address, if that has its
//! share, else of anybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_shared::config::HttpConfig;
use ipnet::IpNet;
use tokio::sync::Notify;

use super::state::ConnectionState;
use crate::client::ClientId;

/// One of so many places is reserved.
const RESERVED_SHARE: usize = 16;
/// Most places that are reserved.
const MAX_RESERVED: usize = 64;
/// An address may have one of so many places, where the configuration says nothing.
const ADDRESS_SHARE: usize = 8;
/// The same of this machine itself: a proxy that is not declared, or all who try it out.
const LOOPBACK_SHARE: usize = 2;
/// Connections that were told to end and have not yet; while there are more, no new one is
/// accepted.
const MAX_CLOSING: usize = 32;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    config: HttpConfig,
    public: usize,
    reserved: usize,
    taken: Mutex<Taken>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    connections: HashMap<u64, Connection>,
    public: usize,
    reserved: usize,
    closing: usize,
    by_address: HashMap<ClientId, usize>,
    last_id: u64,
}

#[derive(Debug)]
struct Connection {
    client: ClientId,
    is_reserved: bool,
    state: Arc<ConnectionState>,
}

/// A place of a connection; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    peer: IpAddr,
    is_reserved: bool,
    state: Arc<ConnectionState>,
}

impl Place {
    pub(super) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        // One that was told to end is out of the list already.
        if !taken.remove(self.id) {
            taken.closing -= 1;
            self.places.closed.notify_one();
        }
    }
}

impl Places {
    /// Divides at most `available` places, or as many as the configuration says if these are fewer.
    pub(super) fn new(config: &HttpConfig, available: usize) -> Arc<Self> {
        let all = config.connections.min(available).max(2);
        let reserved = all.div_ceil(RESERVED_SHARE).min(MAX_RESERVED);
        Arc::new(Self {
            config: config.clone(),
            public: all - reserved,
            reserved,
            taken: Mutex::default(),
            closed: Notify::new(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nobody panics while it is held.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most connections of one address.
    fn share_of(&self, address: IpAddr) -> usize {
        if is_in(&self.config.trusted_proxies, address) {
            return usize::MAX;
        }
        let share = if address.to_canonical().is_loopback() { LOOPBACK_SHARE } else { ADDRESS_SHARE };
        self.config.connections_per_address.unwrap_or(self.public / share).max(1)
    }

    /// Finds a place for a connection from there.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let client = ClientId::of_address(peer);
        let share = self.share_of(peer);
        let mut taken = self.taken();
        let own = taken.by_address.get(&client).copied().unwrap_or_default();
        let has_share = own < share || taken.evict(|other| !other.is_reserved && other.client == client);
        let has_place = has_share && (taken.public < self.public || taken.evict(|other| !other.is_reserved));
        if !has_place && taken.reserved >= self.reserved && !taken.evict(|other| other.is_reserved) {
            return None;
        }
        let (state, is_reserved) = (Arc::new(ConnectionState::new(&self.config)), !has_place);
        let id = taken.add(Connection { client, is_reserved, state: state.clone() });
        Some(Place { places: self.clone(), id, peer, is_reserved, state })
    }

    /// Closes the connection that has done nothing for the longest time, if there is one.
    pub(super) fn evict_oldest(&self) {
        self.taken().evict(|_| true);
    }

    /// Waits while many connections that were told to end are still open: they hold file
    /// descriptors.
    pub(super) async fn await_closing(&self) {
        while self.taken().closing > MAX_CLOSING {
            self.closed.notified().await;
        }
    }
}

impl Taken {
    fn add(&mut self, connection: Connection) -> u64 {
        *self.counter(connection.is_reserved) += 1;
        if !connection.is_reserved {
            *self.by_address.entry(connection.client).or_default() += 1;
        }
        self.last_id += 1;
        self.connections.insert(self.last_id, connection);
        self.last_id
    }

    fn counter(&mut self, is_reserved: bool) -> &mut usize {
        if is_reserved { &mut self.reserved } else { &mut self.public }
    }

    /// Takes a connection off the list; false, if it was not there.
    fn remove(&mut self, id: u64) -> bool {
        let Some(connection) = self.connections.remove(&id) else { return false };
        *self.counter(connection.is_reserved) -= 1;
        if !connection.is_reserved
            && let Some(count) = self.by_address.get_mut(&connection.client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&connection.client);
            }
        }
        true
    }

    /// Tells that one of these connections to end which has done nothing for the longest time;
    /// false, if all of them are busy.
    fn evict(&mut self, which: impl Fn(&Connection) -> bool) -> bool {
        let idle = self.connections.iter().filter(|(_, connection)| which(connection));
        let idle = idle.filter_map(|(id, connection)| Some((connection.state.idle_since()?, *id)));
        let Some((_, id)) = idle.min() else { return false };
        if let Some(connection) = self.connections.get(&id) {
            connection.state.evict();
        }
        self.remove(id);
        self.closing += 1;
        true
    }
}

/// Whether an address is in one of the networks.
pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: usize, per_address: usize) -> Arc<Places> {
        let config = HttpConfig {
            connections: all,
            connections_per_address: Some(per_address),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..HttpConfig::default()
        };
        Places::new(&config, usize::MAX)
    }

    fn admit(places: &Arc<Places>, peer: &str) -> Option<Place> {
        places.admit(peer.parse().unwrap())
    }

    fn busy(places: &Arc<Places>, peer: &str) -> Place {
        let place = admit(places, peer).unwrap();
        place.state().request_begun();
        place
    }

    #[test]
    fn an_address_has_its_share_and_a_declared_proxy_has_all_places() {
        let places = places(32, 3);
        let mut taken: Vec<Place> = (0..3).map(|_| busy(&places, "192.0.2.1")).collect();
        assert!(taken.iter().all(|place| !place.is_reserved()));
        assert!(admit(&places, "192.0.2.1").unwrap().is_reserved());
        assert!(!admit(&places, "192.0.2.2").unwrap().is_reserved());
        taken.extend((3..30).map(|_| busy(&places, "10.1.1.1")));
        assert!(taken.iter().all(|place| !place.is_reserved()));
        assert!(admit(&places, "10.1.1.1").unwrap().is_reserved());
        taken.clear();
        assert!(!admit(&places, "192.0.2.1").unwrap().is_reserved());
        assert!(places.taken().by_address.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_that_does_nothing_goes_first_and_of_the_same_address_where_that_has_its_share() {
        let places = places(5, 2);
        let first = admit(&places, "192.0.2.1").unwrap();
        let second = busy(&places, "192.0.2.2");
        let third = admit(&places, "192.0.2.2").unwrap();
        let fourth = admit(&places, "192.0.2.2").unwrap();
        third.state().evicted().await;
        assert!(!fourth.is_reserved());
        let fifth = busy(&places, "192.0.2.3");
        let sixth = busy(&places, "192.0.2.4");
        first.state().evicted().await;
        assert_eq!(places.taken().closing, 2);
        drop((first, third));
        assert_eq!(places.taken().closing, 0);
        fourth.state().request_begun();
        let seventh = busy(&places, "192.0.2.5");
        assert!(seventh.is_reserved());
        assert!(admit(&places, "192.0.2.6").is_none(), "all are busy");
        drop(second);
        assert!(!admit(&places, "192.0.2.6").unwrap().is_reserved());
        drop((fifth, sixth));
    }
}
