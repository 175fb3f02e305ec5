//! Records that could not be read, set aside with the reason. The newest of each topic are kept.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::warn;

use crest_core::bus::Position;
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::files::{Files, Opened, storage};
use super::{Offset, blocking, position};

/// A record that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in its topic.
    pub position: Position,
    /// Why it cannot be read.
    pub reason: String,
    /// Its bytes as they were stored.
    pub frame: Bytes,
}

/// The longest reason that is kept.
const REASON_BYTES: usize = 1000;

/// Where they lie.
pub(crate) const KEYSPACE: &str = "dead-letters";

pub(crate) struct DeadLetters {
    /// `topic NUL offset` -> length of the reason (2), reason, frame.
    files: Arc<Files>,
    /// Kept per topic.
    limit: usize,
    dirty: Arc<AtomicBool>,
}

fn prefix(topic: Topic) -> Vec<u8> {
    format!("{}\0", topic.name()).into_bytes()
}

fn key(topic: Topic, offset: Offset) -> Vec<u8> {
    let mut key = prefix(topic);
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

fn parse(key: &[u8], value: &[u8]) -> Option<DeadLetter> {
    let (_, offset) = key.split_last_chunk::<8>()?;
    let (length, rest) = value.split_first_chunk::<2>()?;
    let (reason, frame) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(DeadLetter {
        position: position(Offset::from_be_bytes(*offset)),
        reason: String::from_utf8_lossy(reason).into_owned(),
        frame: Bytes::copy_from_slice(frame),
    })
}

impl DeadLetters {
    pub(crate) fn new(files: Arc<Files>, limit: usize, dirty: Arc<AtomicBool>) -> Self {
        Self { files, limit, dirty }
    }

    /// Sets a record aside; one that is there already is not counted again.
    pub(crate) async fn add(
        self: &Arc<Self>,
        topic: Topic,
        offset: Offset,
        frame: Vec<u8>,
        reason: String,
    ) -> Result<()> {
        let letters = self.clone();
        blocking("set a record aside", move || {
            letters.files.write(|opened| letters.add_blocking(opened, topic, offset, &frame, &reason))
        })
        .await
    }

    fn add_blocking(&self, opened: &Opened, topic: Topic, offset: Offset, frame: &[u8], reason: &str) -> Result<()> {
        let stored = opened.keyspace(KEYSPACE)?;
        let key = key(topic, offset);
        // Rings count from 0 again in each process, so that there an equal key is not the same record.
        if topic.durable() && stored.contains_key(&key).map_err(storage)? {
            return Ok(());
        }
        let kept = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        let length = u16::try_from(kept.len()).map_err(|_| Error::ours("the reason is too long"))?;
        let mut value = Vec::with_capacity(2 + kept.len() + frame.len());
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(kept.as_bytes());
        value.extend_from_slice(frame);
        stored.insert(key, value).map_err(storage)?;
        self.dirty.store(true, Ordering::Relaxed);
        warn!(topic = topic.name(), offset, reason = kept, "a record cannot be read and was set aside");
        metrics::counter!("crest_dead_letters_total", "topic" => topic.name()).increment(1);
        // Few are ever there, so counting them each time is cheap enough.
        let keys = stored.prefix(prefix(topic)).map(fjall::Guard::key);
        let keys = keys.collect::<fjall::Result<Vec<_>>>().map_err(storage)?;
        for old in keys.iter().take(keys.len().saturating_sub(self.limit)) {
            stored.remove(old.clone()).map_err(storage)?;
        }
        Ok(())
    }

    /// The newest of a topic, oldest first.
    pub(crate) fn newest(&self, topic: Topic, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut found = Vec::new();
        self.files.read(|opened| {
            for guard in opened.keyspace(KEYSPACE)?.prefix(prefix(topic)).rev().take(limit) {
                let (key, value) = guard.into_inner().map_err(storage)?;
                found.push(parse(&key, &value).ok_or_else(|| Error::outside("a dead letter cannot be read"))?);
            }
            Ok(())
        })?;
        found.reverse();
        Ok(found)
    }
}
