//! What a push protocol must provide, and what it is given: the protocol knows connections and
//! bytes, ingest knows keys, streams and sessions. A protocol's library can be replaced without
//! touching anything else.

use async_trait::async_trait;
use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_core::key::KeyDigest;
use crest_core::stream::SourceKind;
use crest_core::{MediaTime, StreamId, WallTime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::forward::Relay;
use crate::lifecycle::Ending;
use crate::limits::{Bucket, Gate, LimitsConfig, Permit};

/// Events of one publisher on their way to its feed; a full channel makes the publisher wait.
const DELIVERIES: usize = 16;

/// A server that publishers push to.
#[async_trait]
pub trait PublishServer: Send + Sync {
    /// The address it is bound to.
    fn address(&self) -> SocketAddr;

    /// Serves publishers until `shutdown`, then disconnects them and returns.
    ///
    /// For each publisher it asks `publishers` first; a refusal's reason must reach the publisher.
    /// It delivers what an admitted one sends through the [`Publication`], and disconnects when that
    /// says so.
    async fn run(self: Box<Self>, publishers: Arc<dyn Publishers>, shutdown: CancellationToken);
}

/// Who may publish.
#[async_trait]
pub trait Publishers: Send + Sync {
    /// Admits the publisher that presents `key`, or refuses it with a reason for its owner to read.
    async fn admit(&self, key: &str, kind: SourceKind) -> Result<Publication, Refusal>;
}

/// Why a publisher is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// One sentence for the publisher to read, without secrets.
    pub reason: String,
    /// The stream of its key, if there is one.
    pub stream: Option<StreamId>,
    /// What it lies with, for protocols that have a number for it.
    pub grounds: Grounds,
}

/// What a refusal lies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grounds {
    /// There is no stream with this key.
    Key,
    /// The stream, as it is now.
    Stream,
    /// The server; the same key may be admitted in a moment.
    Server,
}

/// What travels from a publisher to its feed.
#[derive(Debug)]
pub(crate) enum Delivery {
    Media(MediaEvent),
    /// Wall-clock time of the packet that follows.
    Anchor(WallTime),
    /// The packet that follows comes so long after the latest one, whatever its timestamp says.
    LeftOut(MediaTime),
    Gone(String),
    /// It has nothing more to give, ever.
    Over(Ending, oneshot::Sender<crest_core::Result<()>>),
}

/// An admitted publisher, as its server holds it. Dropping it means that the connection is lost.
#[derive(Debug)]
pub struct Publication {
    stream: StreamId,
    deliveries: mpsc::Sender<Delivery>,
    disconnect: CancellationToken,
    /// What it may send, what is not taken included.
    raw: Bucket,
    /// Which audio track to take, where the stream says so.
    pub(crate) audio_track: Option<u8>,
    /// Where what it sends goes as it came, if anywhere.
    pub(crate) relay: Option<Relay>,
}

impl Publication {
    /// Hands over a message as an RTMP publisher sent it, for servers that the stream is relayed to: the type of the
    /// message, the publisher's timestamp in milliseconds, the FLV tag body. Never waits.
    pub(crate) fn relay(&self, kind: u8, timestamp: u32, body: &Bytes) {
        if let Some(relay) = &self.relay {
            relay.send(kind, timestamp, body);
        }
    }

    /// Whether it may send so many bytes now. What is taken is counted by the feed's gate; this is for the rest, and
    /// twice as generous.
    pub(crate) fn may_send(&mut self, bytes: usize) -> bool {
        self.raw.take((bytes as u64).saturating_mul(8), Instant::now())
    }

    /// Which audio track is taken, counted from 0; `None` takes the first.
    pub fn audio_track(&self) -> Option<u8> {
        self.audio_track
    }

    /// The stream it feeds.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Hands over an event; packets carry the publisher's own timestamps, of which only differences
    /// count. Waits while the feed is busy. `false` when the publisher is not wanted any more.
    pub async fn deliver(&self, event: MediaEvent) -> bool {
        self.deliveries.send(Delivery::Media(event)).await.is_ok()
    }

    /// Says when the packet that is delivered next was recorded, where the source knows it: what begins with
    /// that packet began then, and not when it arrived.
    pub async fn anchor(&self, wall: WallTime) {
        // A feed that is over does not need to know.
        let _ = self.deliveries.send(Delivery::Anchor(wall)).await;
    }

    /// Says that something of the broadcast is left out: the packet that is delivered next comes `after` the latest
    /// one, by their decoding times, although its timestamp may not say so.
    pub(crate) async fn left_out(&self, after: MediaTime) {
        // A feed that is over does not need to know.
        let _ = self.deliveries.send(Delivery::LeftOut(after)).await;
    }

    /// Says why nothing more will come.
    pub async fn close(self, reason: impl Into<String>) {
        // A feed that is over already does not need to know.
        let _ = self.deliveries.send(Delivery::Gone(reason.into())).await;
    }

    /// Ends the stream after what was delivered, and returns how that went; `None` where the feed was over already.
    pub(crate) async fn end(self, ending: Ending) -> Option<crest_core::Result<()>> {
        let (reply, answer) = oneshot::channel();
        self.deliveries.send(Delivery::Over(ending, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Cancelled when the server must disconnect this publisher.
    pub fn disconnect(&self) -> CancellationToken {
        self.disconnect.clone()
    }
}

/// The feed's end of a [`Publication`]. Dropping it disconnects the publisher.
#[derive(Debug)]
pub(crate) struct Source {
    deliveries: mpsc::Receiver<Delivery>,
    disconnect: CancellationToken,
    /// Given back with the source: whoever comes next finds room.
    gate: Gate,
    key: Option<KeyDigest>,
}

impl Source {
    /// What every event passes before it is used.
    pub(crate) fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Whether its publisher came in with another key than this one; what is pulled came in with none.
    pub(crate) fn came_with_another(&self, key: KeyDigest) -> bool {
        self.key.is_some_and(|own| own != key)
    }

    /// The next delivery; a connection that broke is `Gone` too.
    pub(crate) async fn next(&mut self) -> Delivery {
        self.deliveries.recv().await.unwrap_or_else(|| Delivery::Gone("the connection was lost".to_owned()))
    }

    /// Takes nothing new, and returns what was delivered before, one by one.
    pub(crate) fn drain(&mut self) -> Option<MediaEvent> {
        self.deliveries.close();
        loop {
            match self.deliveries.try_recv() {
                Ok(Delivery::Media(event)) => return Some(event),
                Ok(Delivery::Anchor(_) | Delivery::LeftOut(_)) => {}
                Ok(Delivery::Gone(_) | Delivery::Over(..)) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.disconnect.cancel();
    }
}

/// Both ends of the way in to a stream, for whoever came in with `key`.
pub(crate) fn publication(stream: StreamId, permit: Permit, key: Option<KeyDigest>) -> (Publication, Source) {
    let (sender, receiver) = mpsc::channel(DELIVERIES);
    let disconnect = CancellationToken::new();
    let LimitsConfig { feed_bits_per_second, burst, .. } = *permit.config();
    let raw = Bucket::new(feed_bits_per_second.saturating_mul(2), burst.0);
    let publication =
        Publication { stream, deliveries: sender, disconnect: disconnect.clone(), raw, audio_track: None, relay: None };
    (publication, Source { deliveries: receiver, disconnect, gate: Gate::new(permit), key })
}
