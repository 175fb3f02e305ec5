//! The bus: keyed records on topics, in order per key.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

use crate::error::Result;
use crate::id::StreamId;
use crate::topic::Topic;

/// What is put on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The stream it belongs to; records of one stream stay in order.
    pub key: StreamId,
    /// The schema version of the payload.
    pub schema_version: u16,
    /// The payload in the topic's encoding.
    pub payload: Bytes,
}

impl Record {
    /// A record for `topic`, in the schema version that this build writes.
    pub fn new(topic: Topic, key: StreamId, payload: impl Into<Bytes>) -> Self {
        Self { key, schema_version: topic.schema_version(), payload: payload.into() }
    }
}

/// Place of a record in its topic; the first is 0.
pub type Position = u64;

/// A record as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its place in the topic.
    pub position: Position,
    /// Whether the group acknowledged it before this subscription began: it was worked off, and is
    /// handed out again only because of [`Start::Rewound`].
    pub seen: bool,
    /// The record.
    pub record: Record,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the last position that the group acknowledged, or at the first record.
    Acknowledged,
    /// So many records before that, as far as they are still kept: a stage that keeps a little state
    /// builds it up again from what it has seen.
    Rewound(u64),
    /// At this position.
    At(Position),
    /// At what is appended from now on.
    Latest,
}

/// Moves records between stages.
///
/// Durable topics: `append` returns once the records survive a crash of the process; nothing is
/// dropped. Ring topics: `append` never waits, drops the oldest record when a bound is reached, and
/// counts the drop by stream.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Appends records and returns the position of the last one.
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<Position>;

    /// Opens a subscription for `group`.
    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>>;

    /// Sets aside a record that cannot be read, with the reason, and lets the topic go on.
    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()>;

    /// Waits until every open subscription of a ring topic has acknowledged `position`, so that what
    /// follows from it can be put in order behind it. On durable topics, and where nobody reads,
    /// returns at once. A subscription that never acknowledges is waited for in vain: bound the wait.
    async fn caught_up(&self, _topic: Topic, _position: Position) -> Result<()> {
        Ok(())
    }

    /// Makes everything appended so far survive a loss of power.
    async fn flush(&self) -> Result<()>;
}

/// A reader of one topic.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for at least one record and returns up to `max`, in order.
    async fn next(&mut self, max: usize) -> Result<Vec<Received>>;

    /// Declares everything up to and with `position` done for this group.
    async fn acknowledge(&mut self, position: Position) -> Result<()>;
}

/// A shared bus.
pub type SharedBus = Arc<dyn Bus>;
