//! SRT, through libsrt: many publishers on one UDP port, each named by its stream id.

mod connection;
mod library;
mod reader;
mod socket;
mod stream_id;

use async_trait::async_trait;
use crest_core::crowd::{Crowd, Entry};
use crest_core::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::SrtConfig;
use crate::publish::{PublishServer, Publishers};
use connection::Accepted;
use socket::Socket;

/// Waits after the system refused to hand over a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The SRT listener.
#[derive(Debug)]
pub struct SrtServer {
    listener: Arc<Socket>,
    address: SocketAddr,
    config: SrtConfig,
}

impl SrtServer {
    /// Binds to `srt.listen`.
    ///
    /// # Errors
    /// `User` where the address or the passphrase cannot be used, with the setting; `Outside` where libsrt is missing.
    pub fn bind(config: SrtConfig) -> Result<Self> {
        let fail = |e: std::io::Error| {
            Error::user(format!(
                "srt.listen: cannot listen on {}: {e}; choose another address or port (0 picks a free one), or stop \
                 the program that uses it",
                config.listen
            ))
        };
        let udp = UdpSocket::bind(config.listen).map_err(fail)?;
        let address = udp.local_addr().map_err(fail)?;
        let passphrase = config.passphrase.as_ref().map(|passphrase| passphrase.0.as_str());
        let listener = Socket::listen(udp, config.latency.0, passphrase)
            .map_err(|e| e.context(format!("srt.listen: cannot listen on {}", config.listen)))?;
        Ok(Self { listener: Arc::new(listener), address, config })
    }

    /// What publishers connect to: `srt.public_url`, or the bound address as this machine reaches it.
    pub fn url(&self) -> String {
        if let Some(url) = &self.config.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("srt://{address}")
    }
}

#[async_trait]
impl PublishServer for SrtServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn run(self: Box<Self>, publishers: Arc<dyn Publishers>, shutdown: CancellationToken) {
        let crowd = Crowd::new(self.config.max_connections);
        let connections = TaskTracker::new();
        let (sender, mut callers) = mpsc::channel(1);
        let listener = Arc::clone(&self.listener);
        // The library waits for callers in a thread; closing the listener brings it back. The thread is not one of the
        // runtime's, which waits for its own.
        let closing = Closing(Arc::clone(&self.listener));
        let thread = std::thread::Builder::new().name("srt-accept".to_owned());
        let (alive, ended) = oneshot::channel::<()>();
        let accepting = thread.spawn(move || {
            let _alive = alive;
            while !sender.is_closed() {
                let accepted = listener.accept();
                let failed = accepted.is_err();
                if sender.blocking_send(accepted).is_err() {
                    break;
                }
                if failed {
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        });
        if let Err(error) = accepting {
            return tracing::error!(%error, "no thread to accept SRT publishers with");
        }
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = callers.recv() => accepted,
            };
            let (socket, peer) = match accepted {
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    tracing::warn!(%error, "an SRT connection could not be accepted");
                    continue;
                }
                None => break,
            };
            // Before it takes a place: whoever does not know the passphrase pushes nobody out.
            if let Err(reason) = socket.understood(self.config.passphrase.is_some()) {
                metrics::counter!("crest_srt_connections_refused_total", "cause" => "passphrase").increment(1);
                tracing::info!(%peer, reason, "an SRT publisher was refused");
                continue;
            }
            let make_room = CancellationToken::new();
            let leave = make_room.clone();
            let place = match crowd.enter(peer.ip(), move || leave.cancel()) {
                Entry::Room(place) | Entry::Instead(place) => place,
                Entry::Full => {
                    metrics::counter!("crest_srt_connections_refused_total", "cause" => "limit").increment(1);
                    tracing::warn!(%peer, limit = self.config.max_connections, "too many SRT publishers (srt.max_connections)");
                    continue;
                }
            };
            connections.spawn(connection::serve(
                Accepted { socket, peer, place, make_room },
                self.config.clone(),
                Arc::clone(&publishers),
                shutdown.clone(),
            ));
        }
        drop((callers, closing));
        connections.close();
        connections.wait().await;
        // The thread has let go of its end.
        let _ = ended.await;
    }
}

/// Closes the listener when it is dropped, whatever ends the task that has it.
struct Closing(Arc<Socket>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
