//! RTMP: connections are accepted and bounded here, over TLS or not. The protocol's layers, from the bytes up, are
//! `handshake`, `chunks`, `message`, `amf` and `command`; `session` is what a peer's messages lead to, `publisher` what
//! becomes of its media.

pub(crate) mod amf;
pub(crate) mod chunks;
pub(crate) mod command;
mod connection;
pub mod flv;
pub(crate) mod handshake;
pub(crate) mod message;
mod publisher;
mod session;
mod socket;
mod tls;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use chunks::fuzzing;

use async_trait::async_trait;
use crest_core::crowd::{Crowd, Entry};
use crest_core::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::RtmpConfig;
use crate::publish::{PublishServer, Publishers};
use connection::Accepted;
use tls::Tls;

/// The application that publishers name: `rtmp://host/live`.
pub const APPLICATION: &str = "live";

/// Waits after the system refused to hand over a connection, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The RTMP listener.
pub struct RtmpServer {
    listener: TcpListener,
    address: SocketAddr,
    secure: Option<Secure>,
    config: RtmpConfig,
}

/// The listener for RTMP over TLS.
struct Secure {
    listener: TcpListener,
    address: SocketAddr,
    tls: Tls,
}

impl RtmpServer {
    /// Binds to `rtmp.listen` and, where it is set, to `rtmp.tls_listen`.
    pub async fn bind(config: RtmpConfig) -> Result<Self> {
        let (listener, address) = listen("rtmp.listen", config.listen).await?;
        let secure = match config.tls_listen {
            Some(wanted) => {
                let tls = Tls::open(&config)?;
                let (listener, address) = listen("rtmp.tls_listen", wanted).await?;
                Some(Secure { listener, address, tls })
            }
            None => None,
        };
        Ok(Self { listener, address, secure, config })
    }

    /// What publishers connect to: `rtmp.public_url`, or the bound address as this machine reaches it.
    pub fn url(&self) -> String {
        told("rtmp", self.address, self.config.public_url.as_deref())
    }

    /// What publishers connect to over TLS, where that is taken: `rtmp.tls_public_url`, or the bound address as
    /// this machine reaches it.
    pub fn secure_url(&self) -> Option<String> {
        let address = self.secure.as_ref()?.address;
        Some(told("rtmps", address, self.config.tls_public_url.as_deref()))
    }

    /// The address that it is bound to for TLS.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|secure| secure.address)
    }
}

async fn listen(setting: &str, wanted: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let fail = |e: std::io::Error| {
        Error::user(format!(
            "{setting}: cannot listen on {wanted}: {e}; choose another address or port (0 picks a free one), or stop \
             the program that uses it"
        ))
    };
    let listener = TcpListener::bind(wanted).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address))
}

fn told(scheme: &str, mut address: SocketAddr, public: Option<&str>) -> String {
    if let Some(url) = public {
        return url.trim_end_matches('/').to_owned();
    }
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!("{scheme}://{address}/{APPLICATION}")
}

/// The next connection to the listener for TLS; none ever where there is no such listener.
async fn next_secure(secure: Option<&Secure>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match secure {
        Some(secure) => secure.listener.accept().await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl PublishServer for RtmpServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn run(mut self: Box<Self>, publishers: Arc<dyn Publishers>, shutdown: CancellationToken) {
        let crowd = Crowd::new(self.config.max_connections);
        let connections = TaskTracker::new();
        loop {
            let (accepted, over_tls) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => (accepted, false),
                accepted = next_secure(self.secure.as_ref()) => (accepted, true),
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an RTMP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let make_room = CancellationToken::new();
            let leave = make_room.clone();
            let place = match crowd.enter(peer.ip(), move || leave.cancel()) {
                Entry::Room(place) | Entry::Instead(place) => place,
                Entry::Full => {
                    metrics::counter!("crest_rtmp_connections_refused_total", "cause" => "limit").increment(1);
                    tracing::warn!(%peer, limit = self.config.max_connections, "too many RTMP publishers (rtmp.max_connections)");
                    continue;
                }
            };
            let tls = self.secure.as_mut().filter(|_| over_tls).map(|secure| secure.tls.acceptor());
            let accepted = Accepted { socket, tls, peer, place, make_room };
            connections.spawn(connection::serve(
                accepted,
                self.config.clone(),
                Arc::clone(&publishers),
                shutdown.clone(),
            ));
        }
        drop(self);
        connections.close();
        connections.wait().await;
    }
}
