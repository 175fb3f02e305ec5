//! What the API asks of the ingesting role.

use async_trait::async_trait;

use crate::error::Result;
use crate::id::StreamId;
use crate::space::Room;

/// Steers running feeds.
#[async_trait]
pub trait FeedControl: Send + Sync {
    /// Ends a stream: its publisher is disconnected, its session closed, its state `ended`.
    /// Stopping a stream that is over already changes nothing.
    async fn stop(&self, stream: &StreamId) -> Result<()>;

    /// Whether there is room for new feeds and their media.
    fn room(&self) -> Room {
        Room::Ample
    }

    /// Server and application that publishers connect to, `rtmp://host:1935/live`.
    fn rtmp_url(&self) -> String;
}
