//! WHIP (RFC 9725): publishers that speak WebRTC. Their offers come in over HTTP, their media at one UDP port.
//!
//! `endpoint` answers offers, `session` drives what was agreed on through `str0m`, `socket` finds out which datagram
//! is whose, `tracks` makes events of frames.

mod clock;
mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod h264;
mod offer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod payloads_fuzzing;
mod problem;
mod secret;
mod session;
mod socket;
mod tracks;
mod vp8;

use axum::Router;
use crest_core::{Error, Result};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::WebRtcConfig;
use crate::publish::Publishers;
use offer::Terms;
use socket::Socket;

/// The path of the endpoint.
pub const PATH: &str = "/whip";

/// The WebRTC port, before publishers are let in.
pub struct WhipServer {
    socket: Arc<Socket>,
    terms: Terms,
}

impl WhipServer {
    /// Binds to `webrtc.listen`.
    pub async fn bind(config: WebRtcConfig) -> Result<Self> {
        let socket = Arc::new(Socket::bind(&config).await?);
        let candidates = socket.candidates(&config.public_ips)?;
        if candidates.is_empty() {
            return Err(Error::user(
                "webrtc.listen: this machine has no address that publishers could reach; set webrtc.public_ips",
            ));
        }
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        Ok(Self { socket, terms: Terms { config, candidates, crypto } })
    }

    /// The UDP address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// What publishers are told to send offers to: `webrtc.public_url`, or the endpoint at `http`, the address that
    /// this process's HTTP port is reached at.
    pub fn url(&self, http: &str) -> String {
        match &self.terms.config.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("{}{PATH}", http.trim_end_matches('/')),
        }
    }

    /// Takes publishers until `shutdown`: what is returned has to be served over HTTP, the media arrives in `tasks`.
    pub fn serve(self, publishers: Arc<dyn Publishers>, tasks: TaskTracker, shutdown: CancellationToken) -> Router {
        tracing::info!(address = %self.address(), candidates = ?self.terms.candidates, "WebRTC publishers are accepted");
        let (socket, until) = (Arc::clone(&self.socket), shutdown.clone());
        tasks.spawn(async move { socket.run(until).await });
        let places = Arc::new(Semaphore::new(self.terms.config.max_sessions.min(Semaphore::MAX_PERMITS)));
        let (socket, terms) = (self.socket, self.terms);
        let sessions = Mutex::default();
        endpoint::routes(Arc::new(Whip { socket, terms, publishers, places, sessions, tasks, shutdown }))
    }
}

/// What requests and sessions share.
struct Whip {
    socket: Arc<Socket>,
    terms: Terms,
    publishers: Arc<dyn Publishers>,
    places: Arc<Semaphore>,
    /// The sessions that run, by id.
    sessions: Mutex<HashMap<String, Handle>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Whip {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session as requests reach it.
struct Handle {
    /// The token that its publisher showed, and has to show again; none where the stream key was in the address.
    token: Option<String>,
    /// Names the agreement, in quotes.
    etag: String,
    publisher_ufrag: String,
    /// Cancelled when it is over, or is to be.
    over: CancellationToken,
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
