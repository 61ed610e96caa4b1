//! The client's address behind proxies that the operator trusts: `X-Forwarded-For` and `Forwarded`
//! (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;

use super::places::is_in;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client of a request that came from `peer`: `peer` itself, unless it is a
/// trusted proxy that names another.
///
/// The lists are read from their ends, where each proxy adds the one it heard, up to the first
/// address that is no trusted proxy's: what stands before it, anybody can have written. Where both
/// headers stand and differ, one of them is the client's own invention, and neither is believed.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !is_in(trusted, peer) {
        return peer.to_canonical();
    }
    let by_list = last_untrusted(&list_values(headers, X_FORWARDED_FOR), whole_element, trusted);
    let by_standard = last_untrusted(&list_values(headers, header::FORWARDED.as_str()), for_parameter, trusted);
    match (by_list, by_standard) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
    .unwrap_or(peer)
    .to_canonical()
}

/// All values of a list header, in order.
fn list_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let texts = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    texts.flat_map(|text| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
}

fn last_untrusted(hops: &[String], node: impl Fn(&str) -> Option<&str>, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops.iter().rev() {
        // An address that cannot be read may be anybody's; the one that named it is the last that
        // is known.
        let Some(address) = node(hop).and_then(parse_address) else { return last };
        last = Some(address);
        if !is_in(trusted, address) {
            return last;
        }
    }
    last
}

/// The node of an element of `X-Forwarded-For`, which is nothing else.
fn whole_element(element: &str) -> Option<&str> {
    Some(element)
}

/// The node after `for=` of an element of `Forwarded`.
fn for_parameter(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(node.trim().trim_matches('"'))
}

/// Reads an address that may have a port.
fn parse_address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()));
        client_address(peer.parse().unwrap(), &headers.collect(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_their_own_words() {
        let forged = [("x-forwarded-for", "198.51.100.9")];
        assert_eq!(client("192.0.2.1", &forged), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &forged), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "127.0.0.1, 192.0.2.7, 10.2.2.2")]), "192.0.2.7");
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.7:443")]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        for nonsense in ["", "unknown", "_hidden", "192.0.2.7, ,"] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", nonsense)]), "10.0.0.1", "{nonsense}");
        }
    }

    #[test]
    fn forwarded_is_read_and_two_headers_must_agree() {
        let node = "for=\"[2001:db8::7]:47011\";proto=https, For=10.3.3.3";
        assert_eq!(client("::1", &[("forwarded", node)]), "2001:db8::7");
        assert_eq!(
            client("::1", &[("forwarded", "proto=http;for=192.0.2.7"), ("x-forwarded-for", "192.0.2.7")]),
            "192.0.2.7"
        );
        assert_eq!(client("::1", &[("forwarded", "for=192.0.2.8"), ("x-forwarded-for", "192.0.2.7")]), "::1");
    }
}
