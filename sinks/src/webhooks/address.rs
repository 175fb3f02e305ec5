//! Where webhooks may go: http(s) to public addresses.
//!
//! Tenants choose the URLs, so without this they could have crest knock at the operator's own
//! services. Names are checked where they are resolved, so that what was checked is what is
//! connected to; literal addresses never reach a resolver and are checked before the request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Refuses what is not http(s), and literal addresses that are not public unless `allow_private`.
pub(crate) fn check_url(url: &Url, allow_private: bool) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme {} is not sent to; use https", url.scheme()));
    }
    let host = url.host_str().ok_or_else(|| "the address has no host".to_owned())?;
    // The URL parser has brought every spelling of an address (hexadecimal, one number) to this form.
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) if !allow_private && !is_public(address) => Err(refusal(host)),
        _ => Ok(()),
    }
}

fn refusal(host: &str) -> String {
    format!("{host} is a private or reserved address; webhooks.allow_private = true permits such endpoints")
}

/// Resolves names through the system and keeps the addresses that may be connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicResolver {
    pub(crate) allow_private: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = !found.is_empty();
            let usable: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || is_public(address.ip())).collect();
            if some && usable.is_empty() {
                return Err(refusal(name.as_str()).into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = match (a, b, c) {
        (0 | 10 | 127, ..) => true, // this network, private, loopback
        (100, 64..=127, _) => true, // shared by carriers
        (169, 254, _) => true,      // link-local, cloud metadata among it
        (172, 16..=31, _) => true,  // private
        (192, 0, 0 | 2) => true,    // protocol assignments, documentation
        (192, 88, 99) => true,      // 6to4 relays
        (192, 168, _) => true,      // private
        (198, 18 | 19, _) => true,  // benchmarks
        (198, 51, 100) => true,     // documentation
        (203, 0, 113) => true,      // documentation
        (224..=255, ..) => true,    // multicast, reserved, broadcast
        _ => false,
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: as public as the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, 0..=0x1ff, ..] => false, // protocol assignments: Teredo, ORCHID, benchmarks
        [0x2001, 0xdb8, ..] => false,     // documentation
        [0x2002, ..] => false,            // 6to4 carries any IPv4 address
        [0x3fff, 0..=0xfff, ..] => false, // documentation
        // Global unicast; everything else is local, mapped, multicast or not assigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "64:ff9b::808:808",
        ];
        let reserved = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in reserved {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn literal_addresses_are_seen_in_every_spelling() {
        let refused = [
            "http://127.0.0.1/",
            "http://127.0.0.1./",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/hook",
            "http://017700000001/",
            "https://[::1]:8443/",
            "https://[::ffff:10.0.0.1]/",
            "http://user:pass@192.168.0.1/",
            "http://0/",
        ];
        for url in refused {
            let url = Url::parse(url).unwrap();
            assert!(check_url(&url, false).is_err(), "{url}");
            assert!(check_url(&url, true).is_ok(), "{url}");
        }
        for url in ["https://hooks.example/", "http://8.8.8.8:9000/a", "https://[2606:4700::1]/"] {
            assert!(check_url(&Url::parse(url).unwrap(), false).is_ok(), "{url}");
        }
        for url in ["ftp://hooks.example/", "file:///etc/passwd", "unix:/run/x", "data:text/plain,hi"] {
            assert!(check_url(&Url::parse(url).unwrap(), true).is_err(), "{url}");
        }
    }
}
