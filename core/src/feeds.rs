//! What the API asks of the ingesting role.

use async_trait::async_trait;

use crate::error::Result;
use crate::id::StreamId;

/// Steers running feeds.
#[async_trait]
pub trait FeedControl: Send + Sync {
    /// Ends a stream: its publisher is disconnected, its session closed, its state `ended`.
    /// Stopping a stream that is over already changes nothing.
    async fn stop(&self, stream: &StreamId) -> Result<()>;

    /// Server and application that publishers connect to, `rtmp://host:1935/live`.
    fn rtmp_url(&self) -> String;
}
