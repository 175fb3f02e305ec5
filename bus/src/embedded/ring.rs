//! A ring topic in memory: bounded per stream by count and in all by bytes. What every open reader has
//! acknowledged is let go at once; where a bound is reached before that, the oldest is dropped, and
//! counted where nobody, or not everybody, had read it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

use super::Offset;

/// What a kept record costs beside its payload and key.
const OVERHEAD_BYTES: usize = 128;
/// The most streams whose last record is known while a reader acknowledges nothing; beyond that the one
/// that was silent longest is not waited for any more.
const MAX_STREAMS: usize = 100_000;

pub(crate) struct Ring {
    pub(super) topic: Topic,
    max_records: usize,
    max_bytes: usize,
    state: Mutex<State>,
    /// The offset after the last record; what readers wait for.
    pub(super) end: watch::Sender<Offset>,
    /// Changes with each acknowledgement, and when a reader leaves.
    pub(super) progress: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) next: Offset,
    bytes: usize,
    pub(super) kept: BTreeMap<Offset, Record>,
    of_stream: HashMap<StreamId, VecDeque<Offset>>,
    /// Of open subscriptions, by a number of their own.
    pub(super) readers: HashMap<u64, Reader>,
    pub(super) next_reader: u64,
    /// Where groups that acknowledged something go on.
    pub(super) groups: HashMap<String, Offset>,
    /// The last record of each stream that a reader may still be working on, and the reverse.
    last: HashMap<StreamId, Offset>,
    last_by_offset: BTreeMap<Offset, StreamId>,
}

pub(super) struct Reader {
    pub(super) group: String,
    pub(super) cursor: Offset,
}

fn size(record: &Record) -> usize {
    record.payload.len() + record.key.as_str().len() + OVERHEAD_BYTES
}

impl State {
    /// Removes one record. It counts as dropped where a reader has not read it, or nobody reads.
    fn evict(&mut self, topic: Topic, offset: Offset) {
        let Some(record) = self.kept.remove(&offset) else { return };
        self.bytes = self.bytes.saturating_sub(size(&record));
        if let Some(offsets) = self.of_stream.get_mut(&record.key) {
            // What goes is always the oldest of its stream.
            offsets.pop_front();
            if offsets.is_empty() {
                self.of_stream.remove(&record.key);
            }
        }
        let mut missed = self.readers.is_empty();
        for reader in self.readers.values().filter(|reader| reader.cursor <= offset) {
            missed = true;
            metrics::counter!("crest_bus_missed_records_total", "topic" => topic.name(), "group" => reader.group.clone())
                .increment(1);
        }
        if missed {
            drop_counted(&record.key);
        }
        if self.readers.is_empty() {
            self.forget_last(&record.key, offset);
        }
    }

    /// Nobody waits for this record of the stream any more, if it is the last.
    fn forget_last(&mut self, stream: &StreamId, offset: Offset) {
        if self.last_by_offset.remove(&offset).is_some() {
            self.last.remove(stream);
        }
    }

    /// Notes that this is the last record of its stream.
    fn note_last(&mut self, stream: &StreamId, offset: Offset) {
        if let Some(before) = self.last.insert(stream.clone(), offset) {
            self.last_by_offset.remove(&before);
        }
        self.last_by_offset.insert(offset, stream.clone());
        if self.last_by_offset.len() > MAX_STREAMS
            && let Some((_, silent)) = self.last_by_offset.pop_first()
        {
            self.last.remove(&silent);
        }
    }

    /// Removes what every open reader has read and its group acknowledged.
    pub(super) fn let_go(&mut self, topic: Topic) {
        let done = |reader: &Reader| reader.cursor.min(self.groups.get(&reader.group).copied().unwrap_or(0));
        let Some(done) = self.readers.values().map(done).min() else { return };
        while let Some(oldest) = self.kept.keys().next().copied().filter(|oldest| *oldest < done) {
            self.evict(topic, oldest);
        }
        while let Some(entry) = self.last_by_offset.first_entry().filter(|entry| *entry.key() < done) {
            self.last.remove(&entry.remove());
        }
    }

    fn make_room(&mut self, ring: &Ring, record: &Record) {
        while let Some(offsets) = self.of_stream.get(&record.key).filter(|o| o.len() >= ring.max_records) {
            let Some(oldest) = offsets.front().copied() else { break };
            self.evict(ring.topic, oldest);
        }
        let room = ring.max_bytes.saturating_sub(size(record));
        while self.bytes > room {
            // First what everybody has read, else a stream that is over would crowd out the others;
            // then the stream's own oldest; then the oldest of all.
            let read_by_all = self.readers.values().map(|reader| reader.cursor).min().unwrap_or(0);
            let oldest = self.kept.keys().next().copied();
            let own = self.of_stream.get(&record.key).and_then(|offsets| offsets.front()).copied();
            match oldest.filter(|o| *o < read_by_all).or(own).or(oldest) {
                Some(offset) => self.evict(ring.topic, offset),
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the group of every open reader has acknowledged what was appended for `key` so far.
    pub(crate) async fn caught_up(&self, key: &StreamId) -> Result<()> {
        let mut progress = self.progress.subscribe();
        let Some(last) = self.lock().last.get(key).copied() else { return Ok(()) };
        loop {
            progress.mark_unchanged();
            let done = {
                let state = self.lock();
                let behind = |r: &Reader| state.groups.get(&r.group).is_none_or(|next| *next <= last);
                !state.readers.values().any(behind)
            };
            if done {
                return Ok(());
            }
            progress.changed().await.map_err(|_| Error::outside("the bus was closed"))?;
        }
    }

    /// Appends at once; the oldest make room.
    pub(crate) fn append(&self, records: Vec<Record>) -> Result<()> {
        let mut state = self.lock();
        for record in records {
            let offset = state.next;
            state.next = offset.checked_add(1).ok_or_else(|| Error::ours("a topic ran out of offsets"))?;
            if size(&record) > self.max_bytes {
                drop_counted(&record.key);
                continue;
            }
            state.make_room(self, &record);
            state.bytes += size(&record);
            state.of_stream.entry(record.key.clone()).or_default().push_back(offset);
            state.note_last(&record.key, offset);
            state.kept.insert(offset, record);
        }
        let end = state.next;
        drop(state);
        // Another append may have published a later end already.
        self.end.send_if_modified(|known| {
            let later = end > *known;
            *known = end.max(*known);
            later
        });
        Ok(())
    }
}
