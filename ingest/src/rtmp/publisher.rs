//! A connection's publisher: let in or refused, and its tags on their way to the feed.

use crest_core::StreamId;
use crest_core::codec::MediaEvent;
use crest_core::stream::SourceKind;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

use super::flv::{Chosen, Skip, TagKind, TagParser};
use super::message::{AUDIO, Message, VIDEO};
use crate::changes::Changes;
use crate::publish::{Publication, Publishers};

/// What publishes, from its admission on.
pub(super) struct Publisher {
    peer: SocketAddr,
    max_frame: usize,
    publication: Publication,
    parser: TagParser,
    told: HashSet<Skip>,
    changes: Changes,
}

/// Why a publisher's media is not taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// The feed has ended.
    Over,
    /// The configuration changes too often.
    Erratic,
    /// More is sent than may be, most of which is not taken.
    Flood,
}

impl Publisher {
    /// Asks whether `key` may publish; if not, why, for the publisher to read.
    pub(super) async fn admit(
        key: &str,
        peer: SocketAddr,
        publishers: &dyn Publishers,
        max_frame: usize,
    ) -> Result<Self, String> {
        match publishers.admit(key, SourceKind::Rtmp).await {
            Ok(publication) => {
                let chosen = Chosen { audio: publication.audio_track().unwrap_or_default(), ..Chosen::default() };
                Ok(Self {
                    peer,
                    max_frame,
                    publication,
                    parser: TagParser::new(max_frame, chosen),
                    told: HashSet::new(),
                    changes: Changes::new(Instant::now()),
                })
            }
            Err(refusal) => {
                metrics::counter!("crest_rtmp_connections_refused_total", "cause" => "publish").increment(1);
                let stream_id = refusal.stream.as_ref().map(StreamId::as_str);
                tracing::info!(%peer, stream_id, reason = refusal.reason, "an RTMP publisher was refused");
                Err(refusal.reason)
            }
        }
    }

    /// Cancelled when the feed does not want it any more.
    pub(super) fn disconnect(&self) -> CancellationToken {
        self.publication.disconnect()
    }

    /// Takes a message of media or metadata; waits while the feed is busy.
    pub(super) async fn take(&mut self, message: &Message) -> Result<(), Unwanted> {
        if !self.publication.may_send(message.body.len()) {
            return Err(Unwanted::Flood);
        }
        if message.body.len() <= self.max_frame {
            self.publication.relay(message.kind, message.timestamp, &message.body);
        }
        let kind = match message.kind {
            AUDIO => TagKind::Audio,
            VIDEO => TagKind::Video,
            _ => return Ok(()),
        };
        let read = self.parser.read(kind, message.timestamp, &message.body);
        for (kind, track) in self.parser.passed_by() {
            tracing::info!(
                peer = %self.peer, stream_id = %self.publication.stream(), ?kind, track,
                "an RTMP publisher sends a further track, which is not taken"
            );
        }
        match read {
            Ok(events) => {
                for event in events {
                    let configures = matches!(event, MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_));
                    if configures && self.changes.too_many(Instant::now()) {
                        return Err(Unwanted::Erratic);
                    }
                    if !self.publication.deliver(event).await {
                        return Err(Unwanted::Over);
                    }
                }
            }
            Err(skip) => self.skipped(kind, skip),
        }
        Ok(())
    }

    /// Counts a tag that is not used, and says it the first time.
    fn skipped(&mut self, kind: TagKind, skip: Skip) {
        metrics::counter!("crest_rtmp_tags_skipped_total", "cause" => skip.name()).increment(1);
        if !matches!(skip, Skip::NotMedia | Skip::OtherTrack) && self.told.insert(skip) {
            tracing::warn!(
                peer = %self.peer, stream_id = %self.publication.stream(), ?kind, cause = skip.name(),
                "an RTMP publisher sends tags that are skipped"
            );
        }
    }

    /// Says why nothing more will come.
    pub(super) async fn close(self, reason: impl Into<String>) {
        self.publication.close(reason).await;
    }
}
