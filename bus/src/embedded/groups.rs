//! How far each group has come: for each durable topic the offset after the last acknowledged one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::files::{Files, storage};
use super::{Offset, blocking};

/// Where the offsets lie.
pub(crate) const KEYSPACE: &str = "groups";
/// The most groups of all topics together: their names come from the program, not from outside.
const MAX_GROUPS: usize = 10_000;

pub(crate) struct Groups {
    files: Arc<Files>,
    next: Mutex<HashMap<Topic, HashMap<String, Offset>>>,
    /// Held while an offset is written.
    advancing: Mutex<()>,
    dirty: Arc<AtomicBool>,
}

fn key(topic: Topic, group: &str) -> String {
    format!("{}\0{group}", topic.name())
}

impl Groups {
    pub(crate) fn open(files: Arc<Files>, dirty: Arc<AtomicBool>) -> Result<Self> {
        let mut next: HashMap<Topic, HashMap<String, Offset>> = HashMap::new();
        let stored: Vec<_> = files.read(|opened| {
            let entries = opened.keyspace(KEYSPACE)?.iter().map(|guard| guard.into_inner().map_err(storage));
            entries.collect::<Result<_>>()
        })?;
        for (key, value) in stored {
            let parsed = std::str::from_utf8(&key).ok().and_then(|key| key.split_once('\0'));
            let (Some((topic, group)), Ok(offset)) = (parsed, <[u8; 8]>::try_from(&value[..])) else {
                return Err(Error::outside(
                    "the bus holds a group position that cannot be read; its files are damaged",
                ));
            };
            // A topic that this build does not know belongs to another version: leave it alone.
            if let Some(topic) = Topic::ALL.into_iter().find(|t| t.name() == topic) {
                next.entry(topic).or_default().insert(group.to_owned(), Offset::from_be_bytes(offset));
            }
        }
        Ok(Self { files, next: Mutex::new(next), advancing: Mutex::default(), dirty })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, HashMap<String, Offset>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the group goes on, if it is known.
    pub(crate) fn next(&self, topic: Topic, group: &str) -> Option<Offset> {
        self.lock().get(&topic)?.get(group).copied()
    }

    /// What the slowest group of a topic still needs; `None` where the topic has no group.
    pub(crate) fn lowest(&self, topic: Topic) -> Option<Offset> {
        self.lock().get(&topic)?.values().min().copied()
    }

    /// How far the fastest group of a topic has come.
    pub(crate) fn highest(&self, topic: Topic) -> Offset {
        self.lock().get(&topic).and_then(|groups| groups.values().max().copied()).unwrap_or(0)
    }

    /// Notes that the group goes on at `next`; it never goes back.
    pub(crate) async fn advance(self: &Arc<Self>, topic: Topic, group: &str, next: Offset) -> Result<()> {
        if self.next(topic, group).is_some_and(|known| known >= next) {
            return Ok(());
        }
        let (groups, group) = (self.clone(), group.to_owned());
        blocking("keep a group's position", move || {
            // One after the other, but readers of offsets never wait for the disk.
            let _order = groups.advancing.lock().unwrap_or_else(PoisonError::into_inner);
            {
                let all = groups.lock();
                match all.get(&topic).and_then(|of_topic| of_topic.get(&group)) {
                    Some(known) if *known >= next => return Ok(()),
                    None if all.values().map(HashMap::len).sum::<usize>() >= MAX_GROUPS => {
                        return Err(Error::ours(format!("the bus has {MAX_GROUPS} groups already")));
                    }
                    _ => {}
                }
            }
            groups.files.write(|opened| {
                opened.keyspace(KEYSPACE)?.insert(key(topic, &group), next.to_be_bytes()).map_err(storage)
            })?;
            groups.dirty.store(true, Ordering::Relaxed);
            groups.lock().entry(topic).or_default().insert(group, next);
            Ok(())
        })
        .await
    }
}
