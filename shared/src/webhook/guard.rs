//! Keeps webhooks out of private networks (server-side request forgery): anybody with a key may name a URL, and it is we who call it, from
//! inside. So only addresses of the public internet are called, and those that the operator allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;
use url::{Host, Url};

/// Longest URL of a webhook, in characters.
const LONGEST: usize = 2000;

/// Networks that are no place of the public internet: all of IANA's registries of special-purpose
/// addresses (RFC 6890 and its updates), also those that are globally reachable, as no receiver of
/// webhooks stands there; multicast (RFC 5771); and platforms' own. Of IPv6 all but 2000::/3 is no
/// global unicast (RFC 4291); NAT64 is looked at by [`Guard::allows`].
const SPECIAL: [&str; 31] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    // Shared address space (RFC 6598); Alibaba's metadata is at 100.100.100.200.
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Link-local: metadata of most clouds is at 169.254.169.254.
    "169.254.0.0/16",
    "172.16.0.0/12",
    // Oracle's metadata is at 192.0.0.192.
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Public in the registries, but answered by the cloud that a machine stands in: Azure's host
    // (WireServer, DNS, health probes), the private service endpoints of IBM Cloud, and Google's
    // private and restricted APIs.
    "168.63.129.16/32",
    "161.26.0.0/16",
    "166.8.0.0/14",
    "199.36.153.4/30",
    "199.36.153.8/30",
    "::/3",
    // Teredo, ORCHID, benchmarks, AMT, AS112 and other protocols' own.
    "2001::/23",
    "2001:db8::/32",
    // 6to4: its relays are gone (RFC 7526), and what is behind it is an IPv4 address.
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
];
/// Least port that may be called beside 80 and 443: those below are for services of the system (RFC
/// 6335), such as mail and remote shells, which a request could be smuggled into.
const FIRST_USER_PORT: u16 = 1024;

#[expect(clippy::expect_used, reason = "a test reads them all")]
static SPECIAL_NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| SPECIAL.iter().map(|net| net.parse().expect("a network")).collect());

/// Why a URL can be no webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook cannot be used: {0}")]
pub struct InvalidWebhook(&'static str);

/// Says what may be called.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<IpNet>,
}

impl Guard {
    /// Lets through what is public, and these networks.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Reads a URL that may be a webhook. Where a name in it leads is seen when it is called.
    ///
    /// # Errors
    /// A URL that is not of http or https, holds a user or a fragment, is too long, or whose port
    /// or address may not be called.
    pub fn read(&self, text: &str) -> Result<Url, InvalidWebhook> {
        if text.len() > LONGEST {
            return Err(InvalidWebhook("its URL is longer than 2000 bytes"));
        }
        let url = Url::parse(text).map_err(|_| InvalidWebhook("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidWebhook("its URL must begin with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(InvalidWebhook("its URL must have no user, password or fragment; messages are signed instead"));
        }
        if url.port_or_known_default().is_none_or(|port| port < FIRST_USER_PORT && !matches!(port, 80 | 443)) {
            return Err(InvalidWebhook("its port must be 80, 443 or one from 1024 on"));
        }
        if !self.allows_literal(&url) {
            return Err(InvalidWebhook("its address is not public; the operator can allow it (ADIT_WEBHOOK_ALLOW)"));
        }
        Ok(url)
    }

    /// Whether the URL's host is a name, or an address that may be called: addresses in URLs are never looked up.
    #[must_use]
    pub fn allows_literal(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Domain(_)) => true,
            Some(Host::Ipv4(address)) => self.allows(address.into()),
            Some(Host::Ipv6(address)) => self.allows(address.into()),
            None => false,
        }
    }

    /// Whether an address may be called. One of IPv6 that leads to one of IPv4 (mapped, or by NAT64 of RFC 6052) is as good as that.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V6(v6) => inner(v6).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        within(&self.allowed) || !within(&SPECIAL_NETS)
    }
}

/// The IPv4 address that a connection to this one ends at, if it does.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let nat64 = || match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    };
    address.to_ipv4_mapped().or_else(nat64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(address: &str) -> bool {
        Guard::default().allows(address.parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_may_be_called() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:200::1",
            "168.63.129.15",
            "168.63.129.17",
            "199.36.153.3",
            "199.36.153.12",
        ] {
            assert!(allows(public), "{public}");
        }
        for own in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::168.63.129.16",
            "161.26.0.10",
            "166.9.14.1",
            "199.36.153.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:101:101::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!allows(own), "{own}");
        }
    }

    /// IANA's registries (iana-ipv4-special-registry and iana-ipv6-special-registry, as of October
    /// 2025) but 64:ff9b::/96 and ::ffff:0:0/96, which are judged by the address of IPv4 in them.
    const REGISTRIES: &str = "0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
        192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24
        192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32
        ::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48
        2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16
        fc00::/7 fe80::/10";

    #[test]
    fn nothing_in_ianas_registries_of_special_addresses_is_called() {
        for net in REGISTRIES.split_whitespace() {
            let net: IpNet = net.parse().unwrap();
            for address in [net.network(), net.broadcast()] {
                assert!(!Guard::default().allows(address), "{address} of {net}");
            }
        }
    }

    #[test]
    fn ports_of_the_system_are_not_called_but_those_of_the_web() {
        let reads = |port: u16| Guard::default().read(&format!("https://example.org:{port}/")).is_ok();
        for port in [80, 443, 1024, 8080, 8443, 65_535] {
            assert!(reads(port), "{port}");
        }
        for port in [0, 1, 22, 25, 53, 110, 143, 445, 465, 587, 993, 1023] {
            assert!(!reads(port), "{port}");
        }
    }

    #[test]
    fn urls_are_those_of_the_web_without_secrets() {
        let guard = Guard::default();
        for good in [
            "https://example.org/hook?x=1",
            "http://example.org:8080",
            "https://1.1.1.1/",
            "https://xn--e1afmkfd.example/",
        ] {
            assert!(guard.read(good).is_ok(), "{good}");
        }
        // Numbers of every notation are addresses to a URL.
        for bad in [
            "ftp://example.org",
            "file:///etc/passwd",
            "//example.org/",
            "https://user@example.org/",
            "https://:x@example.org/",
            "https://example.org/#x",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:a00:1]/",
            "http://169.254.169.254/latest",
            "",
        ] {
            assert!(guard.read(bad).is_err(), "{bad}");
        }
        assert!(guard.read(&format!("https://example.org/{}", "x".repeat(LONGEST))).is_err());
    }

    proptest! {
        #[test]
        fn an_address_is_judged_alike_in_every_form(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let guard = Guard::default();
            let nat64: Ipv6Addr = format!("64:ff9b::{v4}").parse().unwrap();
            prop_assert_eq!(guard.allows(v4.into()), guard.allows(v4.to_ipv6_mapped().into()));
            prop_assert_eq!(guard.allows(v4.into()), guard.allows(nat64.into()));
            // What the standard library knows to be special is never called.
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified();
            prop_assert!(!(special && guard.allows(v4.into())));
        }

        #[test]
        fn no_special_address_of_ipv6_is_called(bits: u128) {
            let v6 = Ipv6Addr::from(bits);
            let special = v6.is_loopback() || v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local()
                || v6.is_unspecified() || v6.segments()[0] & 0xe000 != 0x2000;
            prop_assert!(!(special && inner(v6).is_none() && Guard::default().allows(v6.into())));
        }

        #[test]
        fn what_is_allowed_is_called_and_nothing_beside_it(bits: u32, length in 8_u8..=32) {
            let address = Ipv4Addr::from(bits);
            let net = IpNet::new(address.into(), length).unwrap();
            let guard = Guard::new(vec![net]);
            prop_assert!(guard.allows(address.into()));
            prop_assert!(guard.allows(address.to_ipv6_mapped().into()));
            let outside = Ipv4Addr::from(bits ^ (1 << (32 - u32::from(length))));
            prop_assert_eq!(guard.allows(outside.into()), Guard::default().allows(outside.into()));
        }
    }
}
