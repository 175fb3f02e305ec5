//! RTMP, through `rtmp-rs`. Its own server neither enforces its connection limit nor tells every
//! disconnect, so connections are accepted, bounded and cleaned up here.

mod amf;
mod connection;
pub mod flv;
mod guard;
mod handler;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use guard::fuzzing;

use async_trait::async_trait;
use crest_core::crowd::{Crowd, Entry};
use crest_core::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::RtmpConfig;
use crate::publish::{PublishServer, Publishers};
use connection::Accepted;

/// The application that publishers name: `rtmp://host/live`.
pub const APPLICATION: &str = "live";

/// Waits after the system refused to hand over a connection, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The RTMP listener.
#[derive(Debug)]
pub struct RtmpServer {
    listener: TcpListener,
    address: SocketAddr,
    config: RtmpConfig,
}

impl RtmpServer {
    /// Binds to `rtmp.listen`.
    pub async fn bind(config: RtmpConfig) -> Result<Self> {
        let fail = |e: std::io::Error| {
            Error::user(format!(
                "rtmp.listen: cannot listen on {}: {e}; choose another address or port (0 picks a free one), or stop \
                 the program that uses it",
                config.listen
            ))
        };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, config })
    }

    /// What publishers connect to: `rtmp.public_url`, or the bound address as this machine reaches it.
    pub fn url(&self) -> String {
        if let Some(url) = &self.config.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("rtmp://{address}/{APPLICATION}")
    }
}

#[async_trait]
impl PublishServer for RtmpServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn run(self: Box<Self>, publishers: Arc<dyn Publishers>, shutdown: CancellationToken) {
        let crowd = Crowd::new(self.config.max_connections);
        let connections = TaskTracker::new();
        let mut number = 0u64;
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
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
            number += 1;
            let accepted = Accepted { number, socket, peer, place, make_room };
            connections.spawn(connection::serve(
                accepted,
                self.config.clone(),
                Arc::clone(&publishers),
                shutdown.clone(),
            ));
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}
