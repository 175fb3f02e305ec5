//! The bus: keyed records on topics, in order per key.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::id::StreamId;
use crate::topic::Topic;
use crate::trace::Trace;

/// What is put on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The stream it belongs to; records of one stream stay in order.
    pub key: StreamId,
    /// The schema version of the payload.
    pub schema_version: u16,
    /// What it follows from, for those who watch: nothing is decided by it.
    pub trace: Option<Trace>,
    /// The payload in the topic's encoding.
    pub payload: Bytes,
}

impl Record {
    /// A record for `topic`, in the schema version that this build writes.
    pub fn new(topic: Topic, key: StreamId, payload: impl Into<Bytes>) -> Self {
        Self { key, schema_version: topic.schema_version(), trace: None, payload: payload.into() }
    }

    /// The same record, as part of a trace.
    #[must_use]
    pub fn traced(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }
}

/// A part of a topic, counted from 0. A stream's records are all in one; one reader of a group has it
/// to itself. The embedded bus has one per topic.
pub type Partition = u32;

/// Place of a record in its topic. Only places in the same partition have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// Place in the partition; the first is 0.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// A record as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its place in the topic.
    pub position: Position,
    /// Whether the group acknowledged it before this subscription had its partition: it was worked off,
    /// and is handed out again only because of [`Start::Rewound`].
    pub seen: bool,
    /// The record.
    pub record: Record,
}

/// Where reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the last record that the group acknowledged, or at the first.
    Acknowledged,
    /// So many records before that, as far as they are still kept: a stage that keeps a little state
    /// builds it up again from what it has seen.
    Rewound(u64),
    /// At what is appended from now on.
    Latest,
    /// Where [`Subscription::begin`] says, for each partition; nothing of it is handed out before.
    Asked,
}

/// A partition that a subscription has from now on, and what it holds at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: Partition,
    /// Offset of the first record that is still kept.
    pub first: u64,
    /// Offset that the next record will have.
    pub end: u64,
}

/// What a subscription tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These partitions are this subscription's from now on. Always told before their records.
    Assigned(Vec<Assigned>),
    /// These are somebody else's from now on: state that was kept for them goes, and what was handed
    /// out of them and not acknowledged is handed out there again.
    Revoked(Vec<Partition>),
    /// Records, at least one, in order within each partition.
    Records(Vec<Received>),
}

/// Moves records between stages.
///
/// Durable topics: `append` returns once the records survive a crash of the process, or of a broker;
/// nothing is dropped, but a record whose append was answered with an error may be there all the same,
/// so that trying again may add it twice. Ring topics: `append` never waits, drops records when a bound
/// is reached, and counts the drop by stream.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Appends records; those of one stream in this order.
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()>;

    /// Opens a subscription for `group`. The subscriptions of a group share the partitions where the
    /// bus has more than one process; on the embedded bus each of them reads everything.
    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>>;

    /// Sets aside a record that cannot be read, with the reason, and lets the topic go on.
    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()>;

    /// Waits until every group that reads a ring topic has acknowledged what this process appended to it
    /// for `key` so far, so that what follows from it can be put in order behind it. On durable topics,
    /// and where nobody reads, returns at once. A reader that never acknowledges is waited for in vain:
    /// bound the wait.
    async fn caught_up(&self, _topic: Topic, _key: &StreamId) -> Result<()> {
        Ok(())
    }

    /// Makes everything appended so far survive a loss of power.
    async fn flush(&self) -> Result<()>;
}

/// A reader of one topic.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next: a change of the partitions, or up to `max` records. Dropping the future
    /// before it is ready loses nothing.
    async fn next(&mut self, max: usize) -> Result<Next>;

    /// With [`Start::Asked`]: hands out a partition that is assigned from `position` on; where that was
    /// trimmed, or the partition was made anew and ends before it, from the first record that is kept.
    /// Called again for a partition that is being read, it goes back to `position`: nothing that was on its
    /// way is handed out before it. For a partition that is somebody else's by now, nothing happens.
    async fn begin(&mut self, position: Position) -> Result<()>;

    /// Declares everything in its partition up to and with `position` done for this group. For a
    /// partition that is somebody else's by now, nothing happens.
    async fn acknowledge(&mut self, position: Position) -> Result<()>;
}

/// A shared bus.
pub type SharedBus = Arc<dyn Bus>;
