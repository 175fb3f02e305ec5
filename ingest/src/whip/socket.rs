//! The one UDP port of all sessions: which datagram is whose.
//!
//! A session is known by its ICE name, which a publisher's checks bear (RFC 8445, 7.2.2), and by the addresses that
//! it has answered checks from: those proved to know its password. What comes from anywhere else is dropped.

use bytes::Bytes;
use crest_core::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use str0m::ice::StunMessage;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::WebRtcConfig;

/// The longest datagram that is read; WebRTC keeps below the MTU of Ethernet.
const DATAGRAM: usize = 2048;
/// What the system is asked to hold while this process is busy; it gives what it may.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Before the socket is read again after an error, which it tells at once again otherwise.
const PAUSE: Duration = Duration::from_millis(100);
/// Addresses of this machine that are told; a publisher tries each.
const CANDIDATES: usize = 16;
/// Addresses that one session is known by: as many as a publisher's machine may try at a time.
const ADDRESSES: usize = 16;
/// The first byte of STUN is below this (RFC 7983).
const STUN: u8 = 4;

/// A datagram on its way to its session.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) source: SocketAddr,
    pub(super) data: Bytes,
    pub(super) arrival: Instant,
}

/// Where a session takes its datagrams from.
pub(super) type Inbox = mpsc::Receiver<Datagram>;

/// The socket, and who is behind it.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    address: SocketAddr,
    queue: usize,
    routes: Mutex<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    names: HashMap<String, mpsc::Sender<Datagram>>,
    /// Which name an address belongs to.
    addresses: HashMap<SocketAddr, String>,
}

impl Socket {
    /// Binds to `webrtc.listen`.
    pub(super) async fn bind(config: &WebRtcConfig) -> Result<Self> {
        let fail = |e: std::io::Error| {
            Error::user(format!(
                "webrtc.listen: cannot listen on {} (UDP): {e}; choose another address or port (0 picks a free one), or \
                 stop the program that uses it",
                config.listen
            ))
        };
        let socket = UdpSocket::bind(config.listen).await.map_err(fail)?;
        // Without the room asked for it works too.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let address = socket.local_addr().map_err(fail)?;
        Ok(Self { socket, address, queue: config.queue.max(1), routes: Mutex::default() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses that publishers may reach this port at.
    pub(super) fn candidates(&self, public: &[IpAddr]) -> Result<Vec<SocketAddr>> {
        let at = |ip| SocketAddr::new(ip, self.address.port());
        if let Some(ip) = public.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return Err(Error::user(format!("webrtc.public_ips: {ip} is no address that a publisher could send to")));
        }
        if !public.is_empty() {
            return Ok(public.iter().copied().map(at).collect());
        }
        if !self.address.ip().is_unspecified() {
            return Ok(vec![self.address]);
        }
        let interfaces = if_addrs::get_if_addrs().map_err(|e| {
            Error::outside(format!("the addresses of this machine cannot be read: {e}; set webrtc.public_ips"))
        })?;
        let ips = interfaces.iter().map(if_addrs::Interface::ip);
        let mut ips: Vec<_> =
            ips.filter(|ip| ip.is_ipv4() || self.address.is_ipv6()).filter(|ip| reachable(*ip)).collect();
        // Publishers try them in this order: this machine's own last.
        ips.sort_by_key(|ip| (ip.is_loopback(), *ip));
        ips.dedup();
        ips.truncate(CANDIDATES);
        Ok(ips.into_iter().map(at).collect())
    }

    /// Makes a session known by its ICE name; it is forgotten when the returned [`Route`] is dropped.
    pub(super) fn route(self: &Arc<Self>, name: String) -> (Route, Inbox) {
        let (sender, inbox) = mpsc::channel(self.queue);
        self.lock().names.insert(name.clone(), sender);
        (Route { socket: self.clone(), name, known: VecDeque::new() }, inbox)
    }

    /// Reads until shutdown.
    pub(super) async fn run(&self, shutdown: CancellationToken) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((length, source)) => {
                    // On a socket of both kinds, version 4 arrives in the clothes of version 6.
                    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                    if let Err(cause) = self.hand_over(source, &buffer[..length]) {
                        metrics::counter!("crest_webrtc_datagrams_dropped_total", "cause" => cause).increment(1);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the WebRTC port could not be read");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn hand_over(&self, source: SocketAddr, data: &[u8]) -> Result<(), &'static str> {
        let named = match data.first() {
            Some(first) if *first < STUN => {
                let message = StunMessage::parse(data).map_err(|_| "broken")?;
                Some(message.split_username().ok_or("broken")?.0.to_owned())
            }
            Some(_) => None,
            None => return Err("broken"),
        };
        let routes = self.lock();
        let name = named.as_ref().or_else(|| routes.addresses.get(&source)).ok_or("stranger")?;
        let inbox = routes.names.get(name).ok_or("stranger")?;
        let datagram = Datagram { source, data: Bytes::copy_from_slice(data), arrival: Instant::now() };
        inbox.try_send(datagram).map_err(|_| "busy")
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address can be told to others as it is.
fn reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// A session's part of the socket.
#[derive(Debug)]
pub(super) struct Route {
    socket: Arc<Socket>,
    name: String,
    /// The addresses it has learnt, the oldest first.
    known: VecDeque<SocketAddr>,
}

impl Route {
    /// Sends to an address of the publisher's. What is lost on the way is WebRTC's affair.
    pub(super) async fn send(&mut self, data: &[u8], to: SocketAddr) {
        if data.first().is_some_and(|first| *first < STUN) {
            self.learn(to);
        }
        if let Err(error) = self.socket.socket.send_to(data, to).await {
            tracing::debug!(%to, %error, "a WebRTC datagram could not be sent");
        }
    }

    /// A check from there was answered: what comes from there is this session's. Where the address was another
    /// session's before, whoever has it now says so with the next check.
    fn learn(&mut self, address: SocketAddr) {
        let mut routes = self.socket.lock();
        if routes.addresses.get(&address) == Some(&self.name) {
            return;
        }
        routes.addresses.insert(address, self.name.clone());
        self.known.retain(|known| *known != address);
        self.known.push_back(address);
        if self.known.len() > ADDRESSES
            && let Some(oldest) = self.known.pop_front()
        {
            routes.forget(oldest, &self.name);
        }
    }
}

impl Routes {
    fn forget(&mut self, address: SocketAddr, name: &str) {
        if self.addresses.get(&address).is_some_and(|owner| owner == name) {
            self.addresses.remove(&address);
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let mut routes = self.socket.lock();
        routes.names.remove(&self.name);
        for address in self.known.drain(..) {
            routes.forget(address, &self.name);
        }
    }
}
