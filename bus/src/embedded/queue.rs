//! A durable topic as a queue: what one reader of this process takes from it and hands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

use crest_core::Result;
use crest_core::bus::Record;
use crest_core::topic::Topic;

use super::dead_letters::DeadLetters;
use super::groups::Groups;
use super::log::{Log, Stored};
use super::{EmbeddedBus, Offset, blocking, frame};

/// The group of the one reader.
const GROUP: &str = "queue";

/// A topic and how far it was taken.
pub(crate) struct Queue {
    pub(crate) topic: Topic,
    log: Arc<Log>,
    groups: Arc<Groups>,
    dead_letters: Arc<DeadLetters>,
    /// Offset of the first that waits. What is kept of it may be behind, where the disk takes no more.
    next: AtomicU64,
}

/// A record that waits.
pub(crate) struct Waiting {
    pub(crate) offset: Offset,
    pub(crate) record: Record,
}

impl EmbeddedBus {
    /// A durable topic as a queue. Nothing of it is trimmed that was not taken.
    pub(crate) async fn queue(&self, topic: Topic) -> Result<Queue> {
        let (log, groups, dead_letters) = (self.log(topic)?.clone(), self.groups.clone(), self.dead_letters.clone());
        let next = match groups.next(topic, GROUP) {
            Some(next) => next,
            None => {
                let first = log.first();
                groups.advance(topic, GROUP, first).await?;
                first
            }
        };
        Ok(Queue { topic, log, groups, dead_letters, next: AtomicU64::new(next) })
    }
}

impl Queue {
    /// Puts records at the end; they survive a crash of the process.
    pub(crate) async fn push(&self, records: Vec<Record>) -> Result<()> {
        self.log.append(records).await
    }

    /// How many records wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.log.end().saturating_sub(self.next())
    }

    fn next(&self) -> Offset {
        self.next.load(Ordering::Acquire)
    }

    /// Whether a later process begins where this one is.
    pub(crate) fn settled(&self) -> bool {
        self.groups.next(self.topic, GROUP) == Some(self.next())
    }

    /// Follows the end of the queue.
    pub(crate) fn watch(&self) -> watch::Receiver<Offset> {
        self.log.watch()
    }

    /// The records from `from` on, or from the first that waits, up to `max` of them and to a bound in bytes;
    /// and the offset after them. What cannot be read is set aside and left out.
    pub(crate) async fn peek(&self, from: Offset, max: usize) -> Result<(Vec<Waiting>, Offset)> {
        let (log, from) = (self.log.clone(), from.max(self.next()));
        let (stored, end) = blocking("read what waits", move || {
            // Before the read: what lies before it and is not found is not there.
            let end = log.end();
            Ok((log.read(from, max)?, end))
        })
        .await?;
        let after = stored.last().map_or(from.max(end), |last| last.offset.saturating_add(1));
        let mut waiting = Vec::with_capacity(stored.len());
        for Stored { offset, frame } in stored {
            match frame::decode(self.topic, &frame) {
                Ok(record) => waiting.push(Waiting { offset, record }),
                Err(why) => self.dead_letters.add(self.topic, offset, frame.to_vec(), why.to_string()).await?,
            }
        }
        Ok((waiting, after))
    }

    /// Takes everything before this offset off the queue. For this process that holds even where it fails:
    /// then a later one may find it again, until this was called once more.
    pub(crate) async fn take(&self, next: Offset) -> Result<()> {
        self.next.fetch_max(next.min(self.log.end()), Ordering::AcqRel);
        self.groups.advance(self.topic, GROUP, self.next()).await
    }

    /// Sets aside a record that nobody wants.
    pub(crate) async fn set_aside(&self, waiting: &Waiting, reason: &str) -> Result<()> {
        let frame = frame::encode(&waiting.record)?;
        self.dead_letters.add(self.topic, waiting.offset, frame, reason.to_owned()).await
    }
}
