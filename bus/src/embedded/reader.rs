//! A subscription of a durable topic.

use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::warn;

use crest_core::bus::{Next, Position, Received, Start, Subscription};
use crest_core::{Error, Result};

use super::dead_letters::DeadLetters;
use super::groups::Groups;
use super::log::Log;
use super::{Offset, PARTITION, asked, assigned, frame, position};

pub(crate) struct LogReader {
    log: Arc<Log>,
    groups: Arc<Groups>,
    dead_letters: Arc<DeadLetters>,
    group: String,
    start: Start,
    /// Whether the partition was told of.
    told: bool,
    /// What is handed out next; `None` until it was asked for.
    next: Option<Offset>,
    /// What lies before was acknowledged when the subscription began.
    seen: Offset,
    end: watch::Receiver<Offset>,
}

impl LogReader {
    pub(crate) async fn open(
        log: Arc<Log>,
        groups: Arc<Groups>,
        dead_letters: Arc<DeadLetters>,
        group: &str,
        start: Start,
    ) -> Result<Self> {
        let (next, seen) = match start {
            Start::Asked => (None, 0),
            Start::Latest => (Some(log.end()), 0),
            Start::Acknowledged | Start::Rewound(_) => {
                let seen = match groups.next(log.topic, group) {
                    Some(next) => next,
                    None => {
                        // Known from now on, so that nothing it has not seen is trimmed.
                        let first = log.first();
                        groups.advance(log.topic, group, first).await?;
                        first
                    }
                };
                let back = if let Start::Rewound(records) = start { records } else { 0 };
                (Some(seen.saturating_sub(back).max(log.first()).min(seen)), seen)
            }
        };
        let end = log.watch();
        Ok(Self { log, groups, dead_letters, group: group.to_owned(), start, told: false, next, seen, end })
    }

    /// From where on there is something to read, past what was trimmed meanwhile.
    fn from(&self, next: Offset) -> Offset {
        let first = self.log.first();
        if next < first {
            warn!(
                topic = self.log.topic.name(),
                group = self.group,
                missed = first - next,
                "records were trimmed before this reader came to them"
            );
        }
        next.max(first)
    }

    /// What of the stored records from `from` on can be read, and what follows them.
    async fn read(&self, from: Offset, max: usize) -> Result<(Vec<Received>, Offset)> {
        // Before the read: what lies before it and is not found is not there.
        let end = *self.end.borrow();
        let stored = self.log.read(from, max)?;
        let mut readable = Vec::with_capacity(stored.len());
        let after = stored.last().map(|last| last.offset.saturating_add(1));
        for record in stored {
            let seen = record.offset < self.seen;
            match frame::decode(self.log.topic, &record.frame) {
                Ok(decoded) => readable.push(Received { position: position(record.offset), seen, record: decoded }),
                // Seen before: it was set aside then.
                Err(_) if seen => {}
                Err(why) => {
                    let frame = record.frame.to_vec();
                    self.dead_letters.add(self.log.topic, record.offset, frame, why.to_string()).await?;
                }
            }
        }
        // Offsets that a loss of power took are stepped over, or the reader would not come to wait.
        Ok((readable, after.unwrap_or(from.max(end))))
    }
}

#[async_trait]
impl Subscription for LogReader {
    async fn next(&mut self, max: usize) -> Result<Next> {
        if !self.told {
            self.told = true;
            return Ok(Next::Assigned(assigned(self.log.first(), self.log.end())));
        }
        let Some(mut next) = self.next else { return std::future::pending().await };
        loop {
            let (readable, after) = self.read(self.from(next), max.max(1)).await?;
            next = after;
            self.next = Some(next);
            if !readable.is_empty() {
                return Ok(Next::Records(readable));
            }
            self.end.wait_for(|end| *end > next).await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    async fn begin(&mut self, position: Position) -> Result<()> {
        let from = asked(self.start, position)?;
        self.next = Some(from.max(self.log.first()));
        Ok(())
    }

    async fn acknowledge(&mut self, position: Position) -> Result<()> {
        if position.partition != PARTITION {
            return Ok(());
        }
        if position.offset >= self.log.end() {
            return Err(Error::ours(format!(
                "group {} acknowledges position {position} of {}, which has no such record",
                self.group,
                self.log.topic.name()
            )));
        }
        self.groups.advance(self.log.topic, &self.group, position.offset.saturating_add(1)).await
    }
}
