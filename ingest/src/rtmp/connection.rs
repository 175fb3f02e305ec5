//! One RTMP connection, from its handshake to its end, whichever way it ends.

use crest_core::crowd::Place;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::message::Violation;
use super::publisher::Unwanted;
use super::session::Session;
use super::socket::Socket;
use crate::config::RtmpConfig;
use crate::counted::Counted;
use crate::publish::Publishers;

/// How long a peer may take to read why it was refused.
const LINGER: Duration = Duration::from_secs(2);

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    /// What shakes hands first, where it came to the port for TLS.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) peer: SocketAddr,
    /// Its place among the others.
    pub(super) place: Place,
    /// Cancelled when it has to make room.
    pub(super) make_room: CancellationToken,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// Its name in metrics; none where nothing was wrong.
    cause: Option<&'static str>,
    reason: String,
    /// The peer is to be left the time to read what was said last.
    lingers: bool,
}

impl Ending {
    pub(super) fn new(cause: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into(), lingers: false }
    }

    /// What the peer asked for was refused, and it was told so.
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { cause: None, reason: reason.into(), lingers: true }
    }

    /// What the peer says makes no sense.
    pub(super) fn broken(reason: impl Into<String>) -> Self {
        Self::new(Some("broken"), reason)
    }

    fn closed() -> Self {
        Self::new(None, "the connection was closed")
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        Self::new(Some(violation.name()), violation.to_string())
    }
}

/// Serves one connection, over TLS or not, until it ends, is not wanted any more, or says nothing for too long.
pub(super) async fn serve(
    accepted: Accepted,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let Accepted { socket, tls, peer, place, make_room } = accepted;
    if let Err(error) = socket.set_nodelay(true) {
        return tracing::debug!(%peer, %error, "an RTMP connection was lost at once");
    }
    let who = Who { peer, place, make_room };
    let Some(tls) = tls else { return speak(Socket::plain(socket), who, config, publishers, shutdown).await };
    let secured = tokio::select! {
        secured = tokio::time::timeout(config.handshake.0, tls.accept(socket)) => secured,
        () = who.make_room.cancelled() => return,
        () = shutdown.cancelled() => return,
    };
    let reason = match secured {
        Ok(Ok(secured)) => return speak(Socket::secured(secured), who, config, publishers, shutdown).await,
        Ok(Err(error)) => format!("{error}; rtmp.tls_listen takes rtmps:// alone"),
        Err(_) => format!("it was not over within {:?} (rtmp.handshake)", config.handshake.0),
    };
    metrics::counter!("crest_rtmp_connections_failed_total", "cause" => "tls").increment(1);
    tracing::info!(%peer, reason, "an RTMPS connection ended with its TLS handshake");
}

/// Whose connection it is.
struct Who {
    peer: SocketAddr,
    place: Place,
    make_room: CancellationToken,
}

/// RTMP over whatever carries it.
async fn speak(
    mut socket: Socket,
    Who { peer, place, make_room }: Who,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let counted = Counted::new("crest_rtmp_connections");
    let (deadline, deadlines) = watch::channel(Instant::now() + config.handshake.0);
    let mut session = Session::new(peer, place, publishers, &config, deadline);
    let ending = tokio::select! {
        ending = converse(&mut socket, &mut session, config.gather.0) => ending,
        () = make_room.cancelled() => {
            Ending::new(Some("crowded"), "it had to make room for another connection (rtmp.max_connections)")
        }
        () = shutdown.cancelled() => Ending::new(None, "server stopped"),
        () = silence(deadlines) => Ending::new(Some("silent"), "nothing was received for too long"),
    };
    if let Some(cause) = ending.cause {
        metrics::counter!("crest_rtmp_connections_failed_total", "cause" => cause).increment(1);
    }
    match session.publisher.take() {
        Some(publisher) => publisher.close(ending.reason).await,
        None if ending.cause.is_some() => {
            tracing::info!(%peer, reason = ending.reason, "an RTMP connection ended without publishing");
        }
        None => tracing::debug!(%peer, reason = ending.reason, "an RTMP connection ended without publishing"),
    }
    if ending.lingers {
        let _ = tokio::time::timeout(LINGER, socket.linger()).await;
    }
    drop(counted);
}

/// Shakes hands, and takes what the peer says, message by message, until it ends.
async fn converse(socket: &mut Socket, session: &mut Session, gather: Duration) -> Ending {
    match socket.shake_hands().await {
        Ok(Ok(())) => {}
        Ok(Err(violation)) => return violation.into(),
        Err(_) => return Ending::closed(),
    }
    // A connection that breaks ends like one that is closed: what arrived before counts, so it is read on where
    // nothing can be written any more.
    let mut deaf = false;
    let mut publishes = false;
    loop {
        let mut rest = socket.bytes();
        let message = session.chunks.next(&mut rest);
        let left = rest.len();
        socket.left(left);
        let taken = match message {
            Ok(Some(message)) => {
                // Bytes may be there for ever, and messages that lead to nothing wait for nothing: others come first.
                tokio::task::consume_budget().await;
                session.take(message).await
            }
            Ok(None) => {
                if !publishes && session.publisher.is_some() {
                    publishes = true;
                    if socket.keep_beat(gather).is_err() {
                        return Ending::closed();
                    }
                }
                let read = tokio::select! {
                    read = socket.read() => read,
                    () = session.unwanted() => return Unwanted::Over.into(),
                };
                match read {
                    Ok(0) | Err(_) => return Ending::closed(),
                    Ok(count) => session.received(count),
                }
                Ok(())
            }
            Err(violation) => return violation.into(),
        };
        let answers = session.answers();
        if !answers.is_empty() && !deaf {
            deaf = socket.write(&answers).await.is_err();
        }
        if let Err(ending) = taken {
            return ending;
        }
    }
}

/// Returns when the deadline has passed without being moved.
async fn silence(mut deadlines: watch::Receiver<Instant>) {
    loop {
        let deadline = *deadlines.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            Ok(()) = deadlines.changed() => {}
        }
        if *deadlines.borrow() <= Instant::now() {
            return;
        }
    }
}
