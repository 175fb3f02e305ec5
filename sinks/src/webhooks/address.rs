//! Where webhooks may go: http(s) to public addresses.
//!
//! Tenants choose the URLs, so without this they could have crest knock at the operator's own
//! services. Names are checked where they are resolved, so that what was checked is what is
//! connected to; literal addresses never reach a resolver and are checked before the request.

use std::net::{IpAddr, SocketAddr};

use crest_core::address::is_public;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
