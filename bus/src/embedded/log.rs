//! A durable topic on `fjall`: the offset as key, the record's frame as value.

use fjall::{PersistMode, Slice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Mutex, watch};

use crest_core::bus::Record;
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::files::{Files, Opened, storage, topic_keyspace};
use super::{Offset, blocking, frame};

/// Bytes that one read hands out, unless its first record alone is larger.
const READ_BYTES: usize = 8 << 20;
/// The least that is written out as a table when nothing comes: tables of rising offsets are never merged, and each
/// takes a little memory for as long as its records are kept.
const TABLE_BYTES: u64 = 512 << 10;

pub(crate) struct Log {
    pub(crate) topic: Topic,
    files: Arc<Files>,
    keyspace: String,
    /// Held while offsets are given out and written, so that records become visible in order.
    appending: Arc<Mutex<()>>,
    /// The offset after the last record; what readers wait for.
    end: watch::Sender<Offset>,
    /// The first offset that has not been trimmed.
    first: AtomicU64,
    dirty: Arc<AtomicBool>,
    /// Bytes appended since [`Self::write_out`] had enough of them.
    held: AtomicU64,
}

/// A stored record, not yet decoded.
pub(crate) struct Stored {
    pub(crate) offset: Offset,
    pub(crate) frame: Slice,
}

fn offset_of(key: &[u8]) -> Result<Offset> {
    let bytes: [u8; 8] =
        key.try_into().map_err(|_| Error::outside("the bus holds a key that is no offset; its files are damaged"))?;
    Ok(Offset::from_be_bytes(bytes))
}

impl Log {
    /// Takes up the log where its last record ends, or at `beyond` if that is further on.
    pub(crate) fn open(topic: Topic, files: Arc<Files>, beyond: Offset, dirty: Arc<AtomicBool>) -> Result<Self> {
        let edge = |guard: Option<fjall::Guard>| -> Result<Option<Offset>> {
            guard.map(|g| offset_of(&g.key().map_err(storage)?)).transpose()
        };
        let keyspace = topic_keyspace(topic);
        let (last, first) = files.read(|opened| {
            let records = opened.keyspace(&keyspace)?;
            Ok((edge(records.last_key_value())?, edge(records.first_key_value())?))
        })?;
        let next = last.map_or(0, |last| last.saturating_add(1)).max(beyond);
        let first = first.unwrap_or(next);
        Ok(Self {
            topic,
            files,
            keyspace,
            appending: Arc::default(),
            end: watch::Sender::new(next),
            first: AtomicU64::new(first),
            dirty,
            held: AtomicU64::new(0),
        })
    }

    pub(crate) fn end(&self) -> Offset {
        *self.end.borrow()
    }

    pub(crate) fn first(&self) -> Offset {
        self.first.load(Ordering::Acquire)
    }

    /// Moves the end on to `next`, if it is not there yet.
    pub(crate) fn reserve(&self, next: Offset) {
        self.end.send_if_modified(|end| {
            let later = next > *end;
            *end = next.max(*end);
            later
        });
    }

    /// Follows the end of the log.
    pub(crate) fn watch(&self) -> watch::Receiver<Offset> {
        self.end.subscribe()
    }

    /// Appends records, all or none, and returns once the operating system has them.
    pub(crate) async fn append(self: &Arc<Self>, records: Vec<Record>) -> Result<()> {
        let frames = records.iter().map(frame::encode).collect::<Result<Vec<_>>>()?;
        // The guard goes along: a caller that gives up must not let the next one overtake.
        let guard = self.appending.clone().lock_owned().await;
        let log = self.clone();
        blocking("append to the bus", move || {
            let _guard = guard;
            let mut next = log.end();
            let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
            if frames.is_empty() {
                return Ok(());
            }
            // The end moves before the files can be opened again: what lies beyond it is removed then.
            log.files.write(|opened| {
                let records = opened.keyspace(&log.keyspace)?;
                let mut batch = opened.batch().durability(Some(PersistMode::Buffer));
                for frame in frames {
                    batch.insert(records, next.to_be_bytes(), frame);
                    next = next.checked_add(1).ok_or_else(|| Error::ours("a topic ran out of offsets"))?;
                }
                batch.commit().map_err(storage)?;
                log.dirty.store(true, Ordering::Relaxed);
                log.held.fetch_add(bytes as u64, Ordering::Relaxed);
                log.end.send_replace(next);
                Ok(())
            })
        })
        .await
    }

    /// Up to `max` records from `from` on, in order.
    pub(crate) fn read(&self, from: Offset, max: usize) -> Result<Vec<Stored>> {
        let (from, end) = (from.max(self.first()), self.end());
        let mut found = Vec::new();
        let mut bytes = 0;
        if from >= end {
            return Ok(found);
        }
        self.files.read(|opened| {
            for guard in opened.keyspace(&self.keyspace)?.range(from.to_be_bytes()..end.to_be_bytes()) {
                let (key, frame) = guard.into_inner().map_err(storage)?;
                bytes += frame.len();
                if bytes > READ_BYTES && !found.is_empty() {
                    break;
                }
                found.push(Stored { offset: offset_of(&key)?, frame });
                if found.len() >= max {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Removes what an append left that failed, in files that were just opened again: all or none.
    pub(crate) fn settle(&self, opened: &Opened) -> Result<()> {
        let records = opened.keyspace(&self.keyspace)?;
        let mut batch = opened.batch();
        for guard in records.range(self.end().to_be_bytes()..) {
            batch.remove(records, guard.key().map_err(storage)?);
        }
        batch.commit().map_err(storage)
    }

    /// Writes out what is held in memory, where it is worth a table; whether it was. Blocks no longer than a write.
    pub(crate) fn write_out(&self) -> Result<bool> {
        if self.held.load(Ordering::Relaxed) < TABLE_BYTES {
            return Ok(false);
        }
        self.held.store(0, Ordering::Relaxed);
        self.files.write_out(&self.keyspace).map(|()| true)
    }

    /// Removes the oldest records before `limit`, at most `max` of them. Blocks.
    pub(crate) fn trim(&self, limit: Offset, max: u64) -> Result<()> {
        let first = self.first();
        let limit = limit.min(self.end()).min(first.saturating_add(max));
        if limit <= first {
            return Ok(());
        }
        // Readers leave the range before its records go.
        self.first.store(limit, Ordering::Release);
        self.files.write(|opened| {
            let records = opened.keyspace(&self.keyspace)?;
            let mut batch = opened.batch();
            for offset in first..limit {
                batch.remove(records, offset.to_be_bytes());
            }
            batch.commit().map_err(storage)
        })
    }
}
