//! What the API asks of the ingesting role, in this process or in others.

use async_trait::async_trait;

use crate::error::Result;
use crate::space::Room;
use crate::stream::Stream;

/// Steers running feeds.
#[async_trait]
pub trait FeedControl: Send + Sync {
    /// Ends a stream: its publisher is disconnected, its session closed, its state `ended`. Returns when
    /// that is so; an error that passes leaves it to be done later.
    /// Stopping a stream that is over already changes nothing.
    async fn stop(&self, stream: &Stream) -> Result<()>;

    /// Whether there is room for new feeds and their media.
    fn room(&self) -> Room {
        Room::Ample
    }

    /// Server and application that publishers connect to, `rtmp://host:1935/live`; `None` while no process
    /// takes feeds.
    async fn rtmp_url(&self) -> Result<Option<String>>;
}
