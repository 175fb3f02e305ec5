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
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::{self, Dispatch};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::APPLICATION;
use super::flv::{Skip, TagKind, TagParser};
use crate::config::RtmpConfig;
use crate::publish::{Publication, Publishers};

/// Serves one connection until it ends, is not wanted any more, or says nothing for too long.
pub(super) async fn serve(
    number: u64,
    socket: TcpStream,
    peer: SocketAddr,
    config: RtmpConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    let (deadline, deadlines) = watch::channel(Instant::now() + config.handshake.0);
    let handler = Arc::new(Handler {
        peer,
        publishers,
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
    let mut connection = Connection::new(number, socket, peer, server, Arc::clone(&handler), registry);
    metrics::gauge!("crest_rtmp_connections").increment(1.0);
    let reason = tokio::select! {
        result = connection.run().with_subscriber(NoSubscriber::default()) => match result {
            Ok(()) => "the connection was closed".to_owned(),
            Err(error) => format!("the connection broke: {error}"),
        },
        () = handler.unwanted.cancelled() => "disconnected".to_owned(),
        () = shutdown.cancelled() => "server stopped".to_owned(),
        () = silence(deadlines) => "nothing was received for too long".to_owned(),
    };
    drop(connection);
    metrics::gauge!("crest_rtmp_connections").decrement(1.0);
    match handler.state.lock().await.take() {
        Some(publishing) => publishing.publication.close(reason).await,
        None => tracing::debug!(%peer, "an RTMP connection ended without publishing"),
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
