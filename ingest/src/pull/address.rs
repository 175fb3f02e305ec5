//! Where feeds may be pulled from. Tenants choose the addresses; what was checked is what is connected to:
//! names are checked where they are resolved, literal addresses before each request and each redirect.

use crest_core::address::is_public;
use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::config::PullConfig;

/// The addresses that may be connected to.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    private: bool,
    networks: Arc<[IpNet]>,
}

impl Allowed {
    /// As `pull.allow_private` and `pull.allow` say; the error names what cannot be read.
    pub(crate) fn new(config: &PullConfig) -> Result<Self, String> {
        let network = |text: &String| {
            let text = text.trim();
            let one = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>()
                .or_else(|_| one())
                .map_err(|_| format!("pull.allow: '{text}' is no network; write 192.168.1.0/24, or a single address"))
        };
        let networks = config.allow.iter().map(network).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { private: config.allow_private, networks: networks.into() })
    }

    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let mapped = address.to_canonical();
        self.private || is_public(address) || self.networks.iter().any(|network| network.contains(&mapped))
    }

    /// Refuses other schemes than these, and literal addresses that are not admitted.
    pub(crate) fn check(&self, url: &Url, schemes: &[&str]) -> Result<(), String> {
        if !schemes.contains(&url.scheme()) {
            return Err(format!("{}:// is not pulled from; use {}", url.scheme(), schemes.join(", ")));
        }
        let host = url.host_str().ok_or_else(|| "the address has no host".to_owned())?;
        // The URL parser has brought every spelling of an address (hexadecimal, one number) to this form.
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) if !self.admits(address) => Err(refusal(host)),
            _ => Ok(()),
        }
    }

    /// The addresses of a host that are admitted, for what resolves no names itself.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, std::io::Error> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        found
            .into_iter()
            .find(|address| self.admits(address.ip()))
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::PermissionDenied, refusal(host)))
    }
}

fn refusal(host: &str) -> String {
    format!(
        "{host} is a private or reserved address; the operator can permit its network with pull.allow, or all with \
         pull.allow_private"
    )
}

/// Resolves names through the system, and keeps the addresses that are admitted.
impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = !found.is_empty();
            let usable: Vec<SocketAddr> = found.into_iter().filter(|address| allowed.admits(address.ip())).collect();
            if some && usable.is_empty() {
                return Err(Box::from(refusal(name.as_str())) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn allowed(allow: &[&str]) -> Allowed {
        let allow = allow.iter().map(|network| (*network).to_owned()).collect();
        Allowed::new(&PullConfig { allow, ..PullConfig::default() }).unwrap()
    }

    #[test]
    fn a_private_network_is_pulled_from_only_where_it_is_named() {
        let check = |allowed: &Allowed, url: &str| allowed.check(&Url::parse(url).unwrap(), &["http", "rtsp"]).is_ok();
        let (none, lan) = (allowed(&[]), allowed(&["192.168.1.0/24", "::1", "127.0.0.1"]));
        for url in ["http://192.168.1.7/live.m3u8", "rtsp://192.168.1.7/cam", "http://[::1]/", "http://2130706433/"] {
            assert!(!check(&none, url), "{url}");
            assert!(check(&lan, url), "{url}");
        }
        for url in ["http://192.168.2.7/", "http://10.0.0.1/", "http://169.254.169.254/latest", "http://127.0.0.2/"] {
            assert!(!check(&lan, url), "{url}");
        }
        // Mapped into IPv6 it is the same address.
        assert!(check(&lan, "http://[::ffff:127.0.0.1]/") && !check(&none, "http://[::ffff:127.0.0.1]/"));
        assert!(check(&none, "http://1.1.1.1/") && check(&none, "http://live.example/"));
        assert!(!check(&lan, "file:///etc/passwd") && !check(&lan, "ftp://live.example/"));
        for wrong in ["192.168.1.0/33", "home", ""] {
            let config = PullConfig { allow: vec![wrong.to_owned()], ..PullConfig::default() };
            assert!(Allowed::new(&config).unwrap_err().contains("pull.allow"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_is_checked_where_it_is_resolved() {
        let none = Resolve::resolve(&allowed(&[]), "localhost".parse().unwrap()).await;
        assert!(none.is_err_and(|error| error.to_string().contains("pull.allow")));
        assert!(Resolve::resolve(&allowed(&["127.0.0.0/8", "::1"]), "localhost".parse().unwrap()).await.is_ok());
        assert!(Allowed::resolve(&allowed(&[]), "localhost", 554).await.is_err());
    }
}
