//! A subscription of a ring topic.

use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::watch;

use crest_core::bus::{Next, Position, Received, Start, Subscription};
use crest_core::{Error, Result};

use super::ring::{Reader, Ring, State};
use super::{Offset, PARTITION, asked, assigned, position};

pub(crate) struct RingReader {
    ring: Arc<Ring>,
    id: u64,
    group: String,
    start: Start,
    /// Whether the partition was told of.
    told: bool,
    /// Whether it was said from where on it reads.
    begun: bool,
    end: watch::Receiver<Offset>,
}

/// Offset of the oldest record that is kept, or of the next.
fn first(state: &State) -> Offset {
    state.kept.keys().next().copied().unwrap_or(state.next)
}

impl RingReader {
    pub(crate) fn open(ring: Arc<Ring>, group: &str, start: Start) -> Self {
        let mut state = ring.lock();
        let cursor = match start {
            Start::Latest => state.next,
            Start::Acknowledged | Start::Rewound(_) => state.groups.get(group).copied().unwrap_or(0),
            Start::Asked => first(&state),
        };
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Reader { group: group.to_owned(), cursor });
        drop(state);
        let end = ring.end.subscribe();
        Self { ring, id, group: group.to_owned(), start, told: false, begun: start != Start::Asked, end }
    }

    /// What is there, and where the next read begins.
    fn take(&self, max: usize) -> (Vec<Received>, Offset) {
        let mut state = self.ring.lock();
        let cursor = state.readers.get(&self.id).map_or(0, |reader| reader.cursor);
        let received = |(offset, record): (&Offset, &_)| Received {
            position: position(*offset),
            seen: false,
            record: Clone::clone(record),
        };
        let found: Vec<Received> = state.kept.range(cursor..).take(max).map(received).collect();
        let next = match found.last() {
            Some(last) => last.position.offset.saturating_add(1),
            // What was appended since is gone already.
            None => cursor.max(state.next),
        };
        if let Some(reader) = state.readers.get_mut(&self.id) {
            reader.cursor = next;
        }
        (found, next)
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.ring.lock().readers.remove(&self.id);
        self.ring.progress.send_replace(());
    }
}

#[async_trait]
impl Subscription for RingReader {
    async fn next(&mut self, max: usize) -> Result<Next> {
        if !self.told {
            self.told = true;
            let state = self.ring.lock();
            return Ok(Next::Assigned(assigned(first(&state), state.next)));
        }
        if !self.begun {
            return std::future::pending().await;
        }
        loop {
            let (found, next) = self.take(max.max(1));
            if !found.is_empty() {
                return Ok(Next::Records(found));
            }
            self.end.wait_for(|end| *end > next).await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    async fn begin(&mut self, position: Position) -> Result<()> {
        let from = asked(self.start, position)?;
        if let Some(reader) = self.ring.lock().readers.get_mut(&self.id) {
            reader.cursor = from;
        }
        self.begun = true;
        Ok(())
    }

    async fn acknowledge(&mut self, position: Position) -> Result<()> {
        if position.partition != PARTITION {
            return Ok(());
        }
        let mut state = self.ring.lock();
        let next = position.offset.saturating_add(1);
        let known = state.groups.entry(self.group.clone()).or_insert(next);
        *known = next.max(*known);
        state.let_go(self.ring.topic);
        drop(state);
        self.ring.progress.send_replace(());
        Ok(())
    }
}
