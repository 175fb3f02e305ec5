//! A ring topic in memory: bounded per stream by count and in all by bytes. What every open reader has
//! acknowledged is let go at once; where a bound is reached before that, the oldest is dropped, and
//! counted where nobody, or not everybody, had read it.

use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

use crest_core::bus::{Position, Received, Record, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

/// What a kept record costs beside its payload and key.
const OVERHEAD_BYTES: usize = 128;

pub(crate) struct Ring {
    topic: Topic,
    max_records: usize,
    max_bytes: usize,
    state: Mutex<State>,
    /// The position after the last record; what readers wait for.
    end: watch::Sender<Position>,
    /// Changes with each acknowledgement, and when a reader leaves.
    progress: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    next: Position,
    bytes: usize,
    kept: BTreeMap<Position, Record>,
    of_stream: HashMap<StreamId, VecDeque<Position>>,
    /// Of open subscriptions, by a number of their own.
    readers: HashMap<u64, Reader>,
    next_reader: u64,
    /// Where groups that acknowledged something go on.
    groups: HashMap<String, Position>,
}

struct Reader {
    group: String,
    cursor: Position,
}

fn size(record: &Record) -> usize {
    record.payload.len() + record.key.as_str().len() + OVERHEAD_BYTES
}

impl State {
    /// Removes one record. It counts as dropped where a reader has not read it, or nobody reads.
    fn evict(&mut self, topic: Topic, position: Position) {
        let Some(record) = self.kept.remove(&position) else { return };
        self.bytes = self.bytes.saturating_sub(size(&record));
        if let Some(positions) = self.of_stream.get_mut(&record.key) {
            // What goes is always the oldest of its stream.
            positions.pop_front();
            if positions.is_empty() {
                self.of_stream.remove(&record.key);
            }
        }
        let mut missed = self.readers.is_empty();
        for reader in self.readers.values().filter(|reader| reader.cursor <= position) {
            missed = true;
            metrics::counter!("crest_bus_missed_records_total", "topic" => topic.name(), "group" => reader.group.clone())
                .increment(1);
        }
        if missed {
            drop_counted(&record.key);
        }
    }

    /// Removes what every open reader has read and its group acknowledged.
    fn let_go(&mut self, topic: Topic) {
        let done = |reader: &Reader| reader.cursor.min(self.groups.get(&reader.group).copied().unwrap_or(0));
        let Some(done) = self.readers.values().map(done).min() else { return };
        while let Some(oldest) = self.kept.keys().next().copied().filter(|oldest| *oldest < done) {
            self.evict(topic, oldest);
        }
    }

    fn make_room(&mut self, ring: &Ring, record: &Record) {
        while let Some(positions) = self.of_stream.get(&record.key).filter(|p| p.len() >= ring.max_records) {
            let Some(oldest) = positions.front().copied() else { break };
            self.evict(ring.topic, oldest);
        }
        let room = ring.max_bytes.saturating_sub(size(record));
        while self.bytes > room {
            // First what everybody has read, else a stream that is over would crowd out the others;
            // then the stream's own oldest; then the oldest of all.
            let read_by_all = self.readers.values().map(|reader| reader.cursor).min().unwrap_or(0);
            let oldest = self.kept.keys().next().copied();
            let own = self.of_stream.get(&record.key).and_then(|positions| positions.front()).copied();
            match oldest.filter(|p| *p < read_by_all).or(own).or(oldest) {
                Some(position) => self.evict(ring.topic, position),
                None => break,
            }
        }
    }
}

fn drop_counted(stream: &StreamId) {
    metrics::counter!("crest_samples_dropped_total", "stream" => stream.to_string(), "cause" => "ring_full")
        .increment(1);
}

impl Ring {
    pub(crate) fn new(topic: Topic, max_records: usize, max_bytes: usize) -> Self {
        Self {
            topic,
            max_records,
            max_bytes,
            state: Mutex::default(),
            end: watch::Sender::new(0),
            progress: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the group of every open reader has acknowledged `position`.
    pub(crate) async fn caught_up(&self, position: Position) -> Result<()> {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            let done = {
                let state = self.lock();
                let behind = |r: &Reader| state.groups.get(&r.group).is_none_or(|next| *next <= position);
                !state.readers.values().any(behind)
            };
            if done {
                return Ok(());
            }
            progress.changed().await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    /// Appends at once; the oldest make room.
    pub(crate) fn append(&self, records: Vec<Record>) -> Result<Position> {
        let mut state = self.lock();
        for record in records {
            let position = state.next;
            state.next = position.checked_add(1).ok_or_else(|| Error::ours("a topic ran out of positions"))?;
            if size(&record) > self.max_bytes {
                drop_counted(&record.key);
                continue;
            }
            state.make_room(self, &record);
            state.bytes += size(&record);
            state.of_stream.entry(record.key.clone()).or_default().push_back(position);
            state.kept.insert(position, record);
        }
        let end = state.next;
        drop(state);
        // Another append may have published a later end already.
        self.end.send_if_modified(|known| {
            let later = end > *known;
            *known = end.max(*known);
            later
        });
        Ok(end.saturating_sub(1))
    }
}

pub(crate) struct RingReader {
    ring: Arc<Ring>,
    id: u64,
    group: String,
    end: watch::Receiver<Position>,
}

impl RingReader {
    pub(crate) fn open(ring: Arc<Ring>, group: &str, start: Start) -> Result<Self> {
        let mut state = ring.lock();
        let cursor = match start {
            Start::At(position) => position,
            Start::Latest => state.next,
            Start::Acknowledged | Start::Rewound(_) => state.groups.get(group).copied().unwrap_or(0),
        };
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Reader { group: group.to_owned(), cursor });
        drop(state);
        let end = ring.end.subscribe();
        Ok(Self { ring, id, group: group.to_owned(), end })
    }

    /// What is there, and where the next read begins.
    fn take(&self, max: usize) -> (Vec<Received>, Position) {
        let mut state = self.ring.lock();
        let cursor = state.readers.get(&self.id).map_or(0, |reader| reader.cursor);
        let found: Vec<Received> = state
            .kept
            .range(cursor..)
            .take(max)
            .map(|(position, record)| Received { position: *position, seen: false, record: record.clone() })
            .collect();
        let next = match found.last() {
            Some(last) => last.position.saturating_add(1),
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
    /// Losing the race in a `select!` loses no record.
    async fn next(&mut self, max: usize) -> Result<Vec<Received>> {
        loop {
            let (found, next) = self.take(max.max(1));
            if !found.is_empty() {
                return Ok(found);
            }
            self.end.wait_for(|end| *end > next).await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    async fn acknowledge(&mut self, position: Position) -> Result<()> {
        let mut state = self.ring.lock();
        let next = position.saturating_add(1);
        let known = state.groups.entry(self.group.clone()).or_insert(next);
        *known = next.max(*known);
        state.let_go(self.ring.topic);
        drop(state);
        self.ring.progress.send_replace(());
        Ok(())
    }
}
