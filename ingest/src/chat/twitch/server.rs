//! Where Twitch's chat is, and a connection to it.

use crest_core::{Error, Result};
use std::io;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::dial::{self, Socket};

/// The server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    host: String,
    port: u16,
    tls: bool,
}

impl Server {
    /// Of `ircs://host:port` or `irc://host:port`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::user(format!(
                "chat.twitch.server is '{text}', but must be ircs://host:port, or irc://host:port without TLS"
            ))
        };
        let (scheme, rest) = text.trim().trim_end_matches('/').split_once("://").ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let tls = match scheme {
            "ircs" => true,
            "irc" => false,
            _ => return Err(wrong()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || ServerName::try_from(host.to_owned()).is_err() {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// Connects; with TLS the certificate must be one that this machine trusts.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Socket>> {
        dial::connect(&self.host, self.port, self.tls).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::chat::TwitchConfig;

    #[test]
    fn the_setting_is_understood_or_named() {
        let server = |text: &str| Server::parse(text).map(|server| (server.host, server.port, server.tls));
        let default = server(&TwitchConfig::default().server).unwrap();
        assert_eq!(default, ("irc.chat.twitch.tv".to_owned(), 6697, true));
        assert_eq!(server("irc://127.0.0.1:7000/").unwrap(), ("127.0.0.1".to_owned(), 7000, false));
        assert_eq!(server("irc://[::1]:7000").unwrap().0, "::1");
        for wrong in
            ["", "irc.chat.twitch.tv", "https://irc.chat.twitch.tv:443", "irc://host", "irc://:6667", "irc://a b:1"]
        {
            assert!(server(wrong).unwrap_err().message.contains("chat.twitch.server"), "{wrong}");
        }
    }
}
