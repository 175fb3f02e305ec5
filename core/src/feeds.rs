//! What the API asks of the ingesting role, in this process or in others.

use async_trait::async_trait;

use crate::error::Result;
use crate::id::StreamId;
use crate::instance::InstanceId;
use crate::space::Room;
use crate::stream::Stream;

/// Steers running feeds.
#[async_trait]
pub trait FeedControl: Send + Sync {
    /// Ends a stream: its publisher is disconnected, its session closed, its state `ended`. Returns when
    /// that is so; an error that passes leaves it to be done later.
    /// Stopping a stream that is over already changes nothing.
    async fn stop(&self, stream: &Stream) -> Result<()>;

    /// Disconnects a publisher that came in with another key than the stream has now; the stream itself goes
    /// on, interrupted until somebody comes with the new key. Called once the new key is in the store.
    async fn rekeyed(&self, stream: &Stream) -> Result<()>;

    /// Whether there is room for new feeds and their media.
    fn room(&self) -> Room {
        Room::Ample
    }

    /// Where publishers connect to; none while no process takes feeds.
    async fn addresses(&self) -> Result<Option<Addresses>>;

    /// The process that is to pull a stream; `None` while none takes feeds.
    async fn puller(&self, stream: &StreamId) -> Result<Option<InstanceId>>;

    /// Begins to pull a stream that is pulled. Called once it is in the store; a process that misses the call
    /// finds the stream there.
    async fn pull(&self, stream: &Stream) -> Result<()>;
}

/// Where publishers connect to, by protocol; what is not taken is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Server and application: `rtmp://host:1935/live`.
    pub rtmp: Option<String>,
    /// The same over TLS: `rtmps://host:4433/live`.
    pub rtmps: Option<String>,
    /// `srt://host:8890`.
    pub srt: Option<String>,
    /// The WHIP endpoint: `http://host:8080/whip`.
    pub whip: Option<String>,
}
