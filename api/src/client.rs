//! The one who asks, as the unit of fairness: a key, else an address.
//!
//! Rights are not decided here (see [`crate::auth`]); only shares of what all callers have in common.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use adit_shared::ids::KeyId;
use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;

/// Bits of an IPv6 address that name a network: one customer commonly has all addresses of a /64.
const IPV6_NETWORK: u128 = !0 << 64;

/// Address of the client, put into each request by the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Identity by which shares of pools and allowances are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientId {
    /// The holder of a valid key.
    Key(KeyId),
    /// Everybody without a key at an IPv4 address or in an IPv6 network of 64 bits.
    Address(IpAddr),
    /// Everybody whose address is not known: requests made inside the process.
    Unknown,
}

impl ClientId {
    /// Names a caller without a key by its address. IPv4 addresses that are written as IPv6 are the same.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
            address @ IpAddr::V4(_) => address,
        })
    }

    /// Reads the identity that the quota layer found; before that layer, the address alone.
    #[must_use]
    pub fn of_request(extensions: &Extensions) -> Self {
        let address = || extensions.get::<PeerAddress>().map(|PeerAddress(address)| Self::of_address(*address));
        extensions.get::<Self>().copied().or_else(address).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Unknown => f.write_str("unknown address"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of_request(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
        let client = |address: &str| ClientId::of_address(address.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.7"), client("192.0.2.7"));
        assert_ne!(client("192.0.2.7"), client("192.0.2.8"));
    }

    #[test]
    fn the_key_counts_before_the_address() {
        let mut extensions = Extensions::new();
        assert_eq!(ClientId::of_request(&extensions), ClientId::Unknown);
        extensions.insert(PeerAddress("192.0.2.7".parse().unwrap()));
        assert_eq!(ClientId::of_request(&extensions).to_string(), "address 192.0.2.7");
        extensions.insert(ClientId::Key(KeyId(3)));
        assert_eq!(ClientId::of_request(&extensions), ClientId::Key(KeyId(3)));
    }
}
