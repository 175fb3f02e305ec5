//! A connection's publisher: let in or refused, and its tags on their way to the feed.

use crest_core::StreamId;
use crest_core::codec::MediaEvent;
use crest_core::crowd::Place;
use crest_core::stream::SourceKind;
use rtmp_rs::amf::AmfValue;
use rtmp_rs::media::FlvTag;
use rtmp_rs::media::flv::FlvTagType;
use rtmp_rs::protocol::message::{ConnectParams, PlayParams, PublishParams};
use rtmp_rs::server::handler::MediaDeliveryMode;
use rtmp_rs::session::{SessionContext, StreamContext};
use rtmp_rs::{AuthResult, RtmpHandler};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::Dispatch;
use tracing::instrument::WithSubscriber;

use super::APPLICATION;
use super::flv::{Chosen, Skip, TagKind, TagParser};
use crate::forward::{self, AUDIO, DATA, VIDEO};
use crate::publish::{Publication, Publishers};

/// Bytes that a peer may announce before it is known: commands are a few hundred.
pub(super) const STRANGER: usize = 64 * 1024;
/// Changes of configuration that are believed within [`CHANGES_WITHIN`]: each begins a new file.
const CHANGES: u32 = 20;
const CHANGES_WITHIN: Duration = Duration::from_secs(10);

/// What publishes, from its admission on.
pub(super) struct Publishing {
    pub(super) publication: Publication,
    parser: TagParser,
    told: HashSet<Skip>,
    changes: Changes,
    /// The timestamp of the latest tag.
    latest: u32,
}

/// Changes of configuration, counted from the first one on and afresh after a while.
struct Changes {
    since: Instant,
    count: u32,
}

impl Changes {
    /// Takes note of one; whether there are too many now.
    fn too_many(&mut self) -> bool {
        if self.since.elapsed() > CHANGES_WITHIN {
            *self = Self { since: Instant::now(), count: 0 };
        }
        self.count += 1;
        self.count > CHANGES
    }
}

/// What the library asks and tells.
pub(super) struct Handler {
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    pub(super) publishers: Arc<dyn Publishers>,
    /// What the guard lets the peer announce.
    pub(super) allowance: Arc<AtomicUsize>,
    pub(super) max_frame: usize,
    pub(super) idle: crest_core::units::Span,
    pub(super) deadline: watch::Sender<Instant>,
    pub(super) unwanted: CancellationToken,
    /// Cancelled when the configuration changes too often.
    pub(super) erratic: CancellationToken,
    pub(super) log: Dispatch,
    pub(super) state: Mutex<Option<Publishing>>,
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
                let chosen = Chosen { audio: publication.audio_track().unwrap_or_default(), ..Chosen::default() };
                let parser = TagParser::new(self.max_frame, chosen);
                *state = Some(Publishing {
                    publication,
                    parser,
                    told: HashSet::new(),
                    changes: Changes { since: Instant::now(), count: 0 },
                    latest: 0,
                });
                self.place.busy(true);
                self.allowance.store(self.max_frame.saturating_mul(3).max(STRANGER), Ordering::Relaxed);
                // From here on another limit holds, which may be the shorter one.
                self.deadline.send_replace(Instant::now() + self.idle.0);
                AuthResult::Accept
            }
            Err(refusal) => {
                metrics::counter!("crest_rtmp_connections_refused_total", "cause" => "publish").increment(1);
                let stream_id = refusal.stream.as_ref().map(StreamId::as_str);
                tracing::info!(peer = %self.peer, stream_id, reason = refusal.reason, "an RTMP publisher was refused");
                AuthResult::Reject(refusal.reason)
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
        publishing.latest = tag.timestamp;
        let message = if kind == TagKind::Audio { AUDIO } else { VIDEO };
        publishing.publication.relay(message, tag.timestamp, &tag.data);
        let read = publishing.parser.read(kind, tag.timestamp, &tag.data);
        for (kind, track) in publishing.parser.passed_by() {
            tracing::info!(
                peer = %self.peer, stream_id = %publishing.publication.stream(), ?kind, track,
                "an RTMP publisher sends a further track, which is not taken"
            );
        }
        match read {
            Ok(events) => {
                for event in events {
                    let configures = matches!(event, MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_));
                    if configures && publishing.changes.too_many() {
                        self.erratic.cancel();
                        return false;
                    }
                    if !publishing.publication.deliver(event).await {
                        self.unwanted.cancel();
                    }
                }
            }
            Err(skip) => {
                metrics::counter!("crest_rtmp_tags_skipped_total", "cause" => skip.name()).increment(1);
                if !matches!(skip, Skip::NotMedia | Skip::OtherTrack) && publishing.told.insert(skip) {
                    tracing::warn!(
                        peer = %self.peer, stream_id = %publishing.publication.stream(), ?kind, cause = skip.name(),
                        "an RTMP publisher sends tags that are skipped"
                    );
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

    async fn on_metadata(&self, _: &StreamContext, metadata: &HashMap<String, AmfValue>) {
        if let Some(publishing) = self.state.lock().await.as_ref()
            && publishing.publication.is_relayed()
        {
            // The library says neither when it came nor how it was written.
            publishing.publication.relay(DATA, publishing.latest, &forward::metadata(metadata));
        }
    }

    async fn on_media_tag(&self, _: &StreamContext, tag: &FlvTag) -> bool {
        self.tag(tag).with_subscriber(self.log.clone()).await
    }

    async fn on_unpublish(&self, _: &StreamContext) {
        if let Some(publishing) = self.state.lock().await.take() {
            publishing.publication.close("the publisher stopped").await;
        }
        self.place.busy(false);
        self.deadline.send_replace(Instant::now() + self.idle.0);
    }

    fn media_delivery_mode(&self) -> MediaDeliveryMode {
        MediaDeliveryMode::RawFlv
    }
}
