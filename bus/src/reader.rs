//! A subscription of a durable topic.

use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::warn;

use crest_core::bus::{Position, Received, Start, Subscription};
use crest_core::{Error, Result};

use crate::dead_letters::DeadLetters;
use crate::frame;
use crate::groups::Groups;
use crate::log::Log;

pub(crate) struct LogReader {
    log: Arc<Log>,
    groups: Arc<Groups>,
    dead_letters: Arc<DeadLetters>,
    group: String,
    /// What is handed out next.
    next: Position,
    /// What lies before was acknowledged when the subscription began.
    seen: Position,
    end: watch::Receiver<Position>,
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
            Start::At(position) => (position, 0),
            Start::Latest => (log.end(), 0),
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
                (seen.saturating_sub(back).max(log.first()).min(seen), seen)
            }
        };
        let end = log.watch();
        Ok(Self { log, groups, dead_letters, group: group.to_owned(), next, seen, end })
    }
}

#[async_trait]
impl Subscription for LogReader {
    /// Losing the race in a `select!` loses no record.
    async fn next(&mut self, max: usize) -> Result<Vec<Received>> {
        loop {
            let first = self.log.first();
            if self.next < first {
                warn!(
                    topic = self.log.topic.name(),
                    group = self.group,
                    missed = first - self.next,
                    "records were trimmed before this reader came to them"
                );
                self.next = first;
            }
            // Before the read: what lies before it and is not found is not there.
            let end = *self.end.borrow();
            let stored = self.log.read(self.next, max.max(1))?;
            let mut readable = Vec::with_capacity(stored.len());
            let after = stored.last().map(|last| last.position.saturating_add(1));
            for record in stored {
                match frame::decode(self.log.topic, &record.frame) {
                    Ok(decoded) => {
                        let seen = record.position < self.seen;
                        readable.push(Received { position: record.position, seen, record: decoded });
                    }
                    // Seen before: it was set aside then.
                    Err(_) if record.position < self.seen => {}
                    Err(why) => {
                        let frame = record.frame.to_vec();
                        self.dead_letters.add(self.log.topic, record.position, frame, why.to_string()).await?;
                    }
                }
            }
            // Positions that a loss of power took are stepped over, or the wait below would be over at once.
            self.next = after.unwrap_or(self.next.max(end));
            if !readable.is_empty() {
                return Ok(readable);
            }
            let next = self.next;
            self.end.wait_for(|end| *end > next).await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    async fn acknowledge(&mut self, position: Position) -> Result<()> {
        if position >= self.log.end() {
            return Err(Error::ours(format!(
                "group {} acknowledges position {position} of {}, which has no such record",
                self.group,
                self.log.topic.name()
            )));
        }
        self.groups.advance(self.log.topic, &self.group, position.saturating_add(1)).await
    }
}
