//! One RTMP connection, from its handshake to its end, whichever way it ends.

use crest_core::stream::SourceKind;
use rtmp_rs::media::FlvTag;
use rtmp_rs::media::flv::FlvTagType;
use rtmp_rs::protocol::message::{ConnectParams, PlayParams, PublishParams};
use rtmp_rs::server::connection::Connection;
use rtmp_rs::server::handler::MediaDeliveryMode;
use rtmp_rs::session::{SessionContext, StreamContext};
use rtmp_rs::{AuthResult, RegistryConfig, RtmpHandler, ServerConfig, StreamRegistry};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::APPLICATION;
use super::flv::{Skip, TagKind, TagParser};
use super::guard::{self, Guard};
use crate::config::RtmpConfig;
use crate::publish::{Publication, Publishers};

/// Bytes that a peer may announce before it is known: commands are a few hundred.
const STRANGER: usize = 64 * 1024;
/// How long a closed connection may take to deliver what was sent on it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves one connection until it ends, is not wanted any more, or says nothing for too long.
pub(super) async fn serve(
    number: u64,
    socket: TcpStream,
    peer: SocketAddr,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let (inside, outside) = match socket.set_nodelay(true).map(|()| guard::pair()) {
        Ok(pair) => match pair.await {
            Ok(pair) => pair,
            Err(error) => return tracing::warn!(%peer, %error, "an RTMP connection could not be served"),
        },
        Err(error) => return tracing::debug!(%peer, %error, "an RTMP connection was lost at once"),
    };
    let (deadline, deadlines) = watch::channel(Instant::now() + config.handshake.0);
    let handler = Arc::new(Handler {
        peer,
        publishers,
        allowance: Arc::new(AtomicUsize::new(STRANGER)),
        max_frame: usize::try_from(config.max_frame.as_u64()).unwrap_or(usize::MAX),
        idle: config.idle,
        deadline,
        unwanted: CancellationToken::new(),
        // rtmp-rs writes stream keys to its log. It runs without one, what is ours with our own.
        log: dispatcher::get_default(Dispatch::clone),
        state: Mutex::new(None),
    });
    let server = ServerConfig {
        connection_timeout: config.handshake.0,
        // Ours comes first, and says why.
        idle_timeout: config.idle.0.saturating_mul(2),
        ..ServerConfig::default().disable_gop_buffer()
    };
    // A registry of its own: nobody plays from here, and it goes with the connection.
    let registry = RegistryConfig { broadcast_capacity: 1, max_gop_size: 0, ..RegistryConfig::default() };
    let registry = Arc::new(StreamRegistry::with_config(registry));
    let guard = Guard::new(Arc::clone(&handler.allowance));
    let mut relay = Box::pin(guard::relay(socket, outside, guard));
    let mut relayed = false;
    let mut connection = Connection::new(number, inside, peer, server, Arc::clone(&handler), registry);
    let counted = Counted::new();
    let reason = tokio::select! {
        result = connection.run().with_subscriber(NoSubscriber::default()) => match result {
            Ok(()) => "the connection was closed".to_owned(),
            Err(error) => format!("the connection broke: {error}"),
        },
        outcome = &mut relay => {
            relayed = true;
            outcome.err().map_or_else(|| "the connection was closed".to_owned(), |violation| violation.to_string())
        }
        () = handler.unwanted.cancelled() => "disconnected".to_owned(),
        () = shutdown.cancelled() => "server stopped".to_owned(),
        () = silence(deadlines) => "nothing was received for too long".to_owned(),
    };
    drop(connection);
    if !relayed {
        // The last words, a refusal's reason among them, are still on their way.
        let _ = tokio::time::timeout(LAST_WORDS, relay).await;
    }
    drop(counted);
    match handler.state.lock().await.take() {
        Some(publishing) => publishing.publication.close(reason).await,
        None => tracing::debug!(%peer, "an RTMP connection ended without publishing"),
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

struct Publishing {
    publication: Publication,
    parser: TagParser,
    told: HashSet<Skip>,
}

struct Handler {
    peer: SocketAddr,
    publishers: Arc<dyn Publishers>,
    /// What the guard lets the peer announce.
    allowance: Arc<AtomicUsize>,
    max_frame: usize,
    idle: crest_core::units::Span,
    deadline: watch::Sender<Instant>,
    unwanted: CancellationToken,
    log: Dispatch,
    state: Mutex<Option<Publishing>>,
}

impl Handler {
    async fn publish(&self, key: &str) -> AuthResult {
        let mut state = self.state.lock().await;
        if state.is_some() {
            return AuthResult::Reject("this connection publishes already".to_owned());
        }
        match self.publishers.admit(key, SourceKind::Rtmp).await {
            Ok(publication) => {
                // When the feed ends it, so does this connection.
                let (disconnect, unwanted) = (publication.disconnect(), self.unwanted.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = disconnect.cancelled() => unwanted.cancel(),
                        () = unwanted.cancelled() => {}
                    }
                });
                let parser = TagParser::new(self.max_frame);
                *state = Some(Publishing { publication, parser, told: HashSet::new() });
                self.allowance.store(self.max_frame.saturating_mul(3).max(STRANGER), Ordering::Relaxed);
                // From here on another limit holds, which may be the shorter one.
                self.deadline.send_replace(Instant::now() + self.idle.0);
                AuthResult::Accept
            }
            Err(refusal) => {
                metrics::counter!("crest_rtmp_connections_refused_total", "cause" => "publish").increment(1);
                tracing::info!(peer = %self.peer, reason = %refusal, "an RTMP publisher was refused");
                AuthResult::Reject(refusal.0)
            }
        }
    }

    async fn tag(&self, tag: &FlvTag) -> bool {
        let kind = match tag.tag_type {
            FlvTagType::Audio => TagKind::Audio,
            FlvTagType::Video => TagKind::Video,
            FlvTagType::Script => return true,
        };
        let mut state = self.state.lock().await;
        let Some(publishing) = state.as_mut() else { return false };
        self.heard();
        match publishing.parser.read(kind, tag.timestamp, &tag.data) {
            Ok(event) => {
                if !publishing.publication.deliver(event).await {
                    self.unwanted.cancel();
                }
            }
            Err(skip) => {
                metrics::counter!("crest_rtmp_tags_skipped_total", "cause" => skip.name()).increment(1);
                if skip != Skip::NotMedia && publishing.told.insert(skip) {
                    tracing::warn!(peer = %self.peer, ?kind, cause = skip.name(), "an RTMP publisher sends tags that are skipped");
                }
            }
        }
        // Delivering may have waited for the feed; that was not the publisher's silence.
        self.heard();
        true
    }

    /// Moves the deadline. Later is noticed when it passes, so that not every tag wakes somebody.
    fn heard(&self) {
        self.deadline.send_if_modified(|deadline| {
            *deadline = Instant::now() + self.idle.0;
            false
        });
    }
}

impl RtmpHandler for Handler {
    async fn on_connect(&self, _: &SessionContext, params: &ConnectParams) -> AuthResult {
        if params.app.trim_matches('/') == APPLICATION {
            return AuthResult::Accept;
        }
        AuthResult::Reject(format!(
            "no such application; publish to rtmp://HOST/{APPLICATION} with the stream key as the stream's name"
        ))
    }

    // A refusal of FCPublish would close the connection without telling why: `publish` refuses.

    async fn on_publish(&self, _: &SessionContext, params: &PublishParams) -> AuthResult {
        self.publish(&params.stream_key).with_subscriber(self.log.clone()).await
    }

    async fn on_play(&self, _: &SessionContext, _: &PlayParams) -> AuthResult {
        AuthResult::Reject("this server takes streams and plays none".to_owned())
    }

    async fn on_media_tag(&self, _: &StreamContext, tag: &FlvTag) -> bool {
        self.tag(tag).with_subscriber(self.log.clone()).await
    }

    async fn on_unpublish(&self, _: &StreamContext) {
        if let Some(publishing) = self.state.lock().await.take() {
            publishing.publication.close("the publisher stopped").await;
        }
        self.deadline.send_replace(Instant::now() + self.idle.0);
    }

    fn media_delivery_mode(&self) -> MediaDeliveryMode {
        MediaDeliveryMode::RawFlv
    }
}
