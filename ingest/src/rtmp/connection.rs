//! One RTMP connection, from its handshake to its end, whichever way it ends.

use crest_core::crowd::Place;
use rtmp_rs::media::fourcc::{AudioFourCc, VideoFourCc};
use rtmp_rs::protocol::enhanced::FourCcCapability;
use rtmp_rs::server::config::EnhancedServerCapabilities;
use rtmp_rs::server::connection::Connection;
use rtmp_rs::{RegistryConfig, ServerConfig, StreamRegistry};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::guard::{self, Guard};
use super::handler::{Handler, STRANGER};
use crate::config::RtmpConfig;
use crate::publish::Publishers;

/// The library's buffers: it reads a feed in pieces of this size, and writes answers of a few hundred bytes.
const READ_BUFFER: usize = 16 * 1024;
const WRITE_BUFFER: usize = 4 * 1024;
/// How long a closed connection may take to deliver what was sent on it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) number: u64,
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
struct Ending {
    /// Its name in metrics; none where nothing was wrong.
    cause: Option<&'static str>,
    reason: String,
}

impl Ending {
    fn new(cause: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }

    fn of_library(result: rtmp_rs::Result<()>) -> Self {
        match result {
            Ok(()) => Self::new(None, "the connection was closed"),
            // Whoever rejected it has counted it.
            Err(error @ (rtmp_rs::Error::Rejected(_) | rtmp_rs::Error::ConnectionClosed)) => {
                Self::new(None, format!("the connection broke: {error}"))
            }
            Err(error) => Self::new(Some("broken"), format!("the connection broke: {error}")),
        }
    }
}

/// Serves one connection, over TLS or not, until it ends, is not wanted any more, or says nothing for too long.
pub(super) async fn serve(
    accepted: Accepted,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let Accepted { number, socket, tls, peer, place, make_room } = accepted;
    if let Err(error) = socket.set_nodelay(true) {
        return tracing::debug!(%peer, %error, "an RTMP connection was lost at once");
    }
    let who = Who { number, peer, place, make_room };
    let Some(tls) = tls else { return speak(socket, who, config, publishers, shutdown).await };
    let secured = tokio::select! {
        secured = tokio::time::timeout(config.handshake.0, tls.accept(socket)) => secured,
        () = who.make_room.cancelled() => return,
        () = shutdown.cancelled() => return,
    };
    let reason = match secured {
        Ok(Ok(secured)) => return speak(secured, who, config, publishers, shutdown).await,
        Ok(Err(error)) => format!("{error}; rtmp.tls_listen takes rtmps:// alone"),
        Err(_) => format!("it was not over within {:?} (rtmp.handshake)", config.handshake.0),
    };
    metrics::counter!("crest_rtmp_connections_failed_total", "cause" => "tls").increment(1);
    tracing::info!(%peer, reason, "an RTMPS connection ended with its TLS handshake");
}

/// Whose connection it is.
struct Who {
    number: u64,
    peer: SocketAddr,
    place: Place,
    make_room: CancellationToken,
}

/// RTMP over whatever carries it.
async fn speak(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    Who { number, peer, place, make_room }: Who,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let (inside, outside) = match guard::pair().await {
        Ok(pair) => pair,
        Err(error) => return tracing::warn!(%peer, %error, "an RTMP connection could not be served"),
    };
    let (deadline, deadlines) = watch::channel(Instant::now() + config.handshake.0);
    let handler = Arc::new(Handler {
        peer,
        place,
        publishers,
        allowance: Arc::new(AtomicUsize::new(STRANGER)),
        max_frame: usize::try_from(config.max_frame.as_u64()).unwrap_or(usize::MAX),
        idle: config.idle,
        deadline,
        unwanted: CancellationToken::new(),
        erratic: CancellationToken::new(),
        // rtmp-rs writes stream keys to its log. It runs without one, what is ours with our own.
        log: dispatcher::get_default(Dispatch::clone),
        state: Mutex::new(None),
    });
    let server = ServerConfig {
        // Ours come first, and say why.
        connection_timeout: config.handshake.0.saturating_mul(2),
        idle_timeout: config.idle.0.saturating_mul(2),
        // Two of each are reserved for every connection, a stranger's too.
        read_buffer_size: READ_BUFFER,
        write_buffer_size: WRITE_BUFFER,
        enhanced_capabilities: capabilities(),
        ..ServerConfig::default().disable_gop_buffer()
    };
    // A registry of its own: nobody plays from here, and it goes with the connection.
    let registry = RegistryConfig { broadcast_capacity: 1, max_gop_size: 0, ..RegistryConfig::default() };
    let registry = Arc::new(StreamRegistry::with_config(registry));
    let guard = Guard::new(Arc::clone(&handler.allowance));
    let mut relay = Box::pin(guard::relay(socket, outside, guard));
    let mut connection = Connection::new(number, inside, peer, server, Arc::clone(&handler), registry);
    let counted = Counted::new();
    let mut last_words = true;
    let ending = tokio::select! {
        result = connection.run().with_subscriber(NoSubscriber::default()) => Ending::of_library(result),
        outcome = &mut relay => {
            last_words = false;
            match outcome {
                Ok(()) => Ending::new(None, "the connection was closed"),
                Err(violation) => Ending::new(Some(violation.name()), violation.to_string()),
            }
        }
        () = make_room.cancelled() => {
            last_words = false;
            Ending::new(Some("crowded"), "it had to make room for another connection (rtmp.max_connections)")
        }
        () = handler.unwanted.cancelled() => Ending::new(None, "disconnected"),
        () = handler.erratic.cancelled() => {
            Ending::new(Some("configurations"), "the publisher's configuration changes all the time")
        }
        () = shutdown.cancelled() => Ending::new(None, "server stopped"),
        () = silence(deadlines) => Ending::new(Some("silent"), "nothing was received for too long"),
    };
    drop(connection);
    if last_words {
        // A refusal's reason, for one, is still on its way.
        let _ = tokio::time::timeout(LAST_WORDS, relay).await;
    }
    drop(counted);
    if let Some(cause) = ending.cause {
        metrics::counter!("crest_rtmp_connections_failed_total", "cause" => cause).increment(1);
    }
    match handler.state.lock().await.take() {
        Some(publishing) => publishing.publication.close(ending.reason).await,
        None if ending.cause.is_some() => {
            tracing::info!(%peer, reason = ending.reason, "an RTMP connection ended without publishing");
        }
        None => tracing::debug!(%peer, reason = ending.reason, "an RTMP connection ended without publishing"),
    }
}

/// What a publisher that speaks Enhanced RTMP is told: everything that the tag parser takes.
fn capabilities() -> EnhancedServerCapabilities {
    let video = [VideoFourCc::Avc, VideoFourCc::Hevc, VideoFourCc::Av1, VideoFourCc::Vp9, VideoFourCc::Vp8];
    let audio = [AudioFourCc::Aac, AudioFourCc::Opus, AudioFourCc::Mp3];
    EnhancedServerCapabilities {
        reconnect: false,
        multitrack: true,
        modex: true,
        video_codecs: video.into_iter().map(|codec| (codec, FourCcCapability::full())).collect(),
        audio_codecs: audio.into_iter().map(|codec| (codec, FourCcCapability::full())).collect(),
    }
}

/// An open connection in the metrics, even if the library panics.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("crest_rtmp_connections").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("crest_rtmp_connections").decrement(1.0);
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
