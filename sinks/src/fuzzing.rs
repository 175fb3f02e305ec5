//! Entrances for `fuzz/`: no webhook goes to an address that is not public, however it is spelled.

use reqwest::Url;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::webhooks::address::check_url;
use crest_core::address::is_public;

/// An address: 4 or 16 bytes are one as it stands, everything else is the text of a URL.
pub fn address(data: &[u8]) {
    if let Ok(octets) = <[u8; 4]>::try_from(data) {
        literal(IpAddr::from(octets));
    } else if let Ok(octets) = <[u8; 16]>::try_from(data) {
        literal(IpAddr::from(octets));
    }
    let Ok(Ok(url)) = std::str::from_utf8(data).map(Url::parse) else { return };
    if check_url(&url, false).is_err() {
        return;
    }
    assert!(check_url(&url, true).is_ok(), "{url}: refused only where private addresses are allowed");
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    let host = url.host_str().unwrap_or_default();
    assert!(!host.is_empty(), "{url}: no host");
    // What reads as an address goes to no resolver, and none that leads inside may get this far.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let leads_inside = bare.parse::<IpAddr>().is_ok_and(is_inside);
    assert!(!leads_inside, "{url} is let through");
}

fn literal(address: IpAddr) {
    assert!(!is_public(address) || !is_inside(address), "{address} counts as public");
}

/// Addresses that lead inside, told by other means than those of `address.rs`.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inside_v4(v4),
        IpAddr::V6(v6) => is_inside_v6(v6),
    }
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let within = |network: [u8; 4], bits: u32| (address.to_bits() ^ u32::from_be_bytes(network)) >> (32 - bits) == 0;
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || within([0, 0, 0, 0], 8)
        || within([100, 64, 0, 0], 10)
        || within([192, 0, 0, 0], 24)
        || within([198, 18, 0, 0], 15)
        || within([240, 0, 0, 0], 4)
}

fn is_inside_v6(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    let embedded = |at: usize| octets.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
    let inside = |at: usize| embedded(at).is_some_and(|four| is_inside_v4(Ipv4Addr::from(four)));
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || address.to_ipv4().is_some_and(is_inside_v4)
        // NAT64 with the well-known prefix, NAT64 for local use, and 6to4.
        || (octets.starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]) && inside(12))
        || octets.starts_with(&[0, 0x64, 0xff, 0x9b, 0, 1])
        || (octets.starts_with(&[0x20, 0x02]) && inside(2))
        || octets.starts_with(&[0x20, 0x01, 0x0d, 0xb8])
        || octets.starts_with(&[0xfe, 0xc0])
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_pass() {
        super::replay::replay("webhook_address", super::address);
    }
}
