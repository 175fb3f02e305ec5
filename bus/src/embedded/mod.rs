//! The embedded bus: one process, one directory.
//!
//! Durable topics are logs on `fjall`; the media topics are rings in memory. Each subscription of a
//! durable topic reads the whole topic: two with the same group share an acknowledged position, not the
//! work. Every topic is one partition.

pub mod check;
mod config;
mod dead_letters;
mod files;
pub(crate) mod frame;
mod groups;
mod log;
mod mend;
pub(crate) mod queue;
mod reader;
mod ring;
mod ring_reader;
mod upkeep;

use async_trait::async_trait;
use fjall::PersistMode;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::warn;

use crest_core::bus::{Assigned, Bus, Position, Received, Record, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

pub use config::BusConfig;
pub use dead_letters::DeadLetter;

use dead_letters::DeadLetters;
use files::{Files, topic_keyspace};
use groups::Groups;
use log::Log;
use reader::LogReader;
use ring::Ring;
use ring_reader::RingReader;

/// Place of a record in its topic, which is one partition; the first is 0.
type Offset = u64;

/// The partition that every topic is.
const PARTITION: u32 = 0;

/// What is outside a crate a position.
const fn position(offset: Offset) -> Position {
    Position { partition: PARTITION, offset }
}

/// What a subscription is told first.
fn assigned(first: Offset, end: Offset) -> Vec<Assigned> {
    vec![Assigned { partition: PARTITION, first, end }]
}

/// Where a subscription that began with [`Start::Asked`] is to begin.
fn asked(start: Start, position: Position) -> Result<Offset> {
    if start != Start::Asked || position.partition != PARTITION {
        return Err(Error::ours(format!("a subscription that began with {start:?} was told to begin at {position}")));
    }
    Ok(position.offset)
}

/// The bus of one process, in one directory.
pub struct EmbeddedBus {
    files: Arc<Files>,
    logs: HashMap<Topic, Arc<Log>>,
    rings: HashMap<Topic, Arc<Ring>>,
    groups: Arc<Groups>,
    dead_letters: Arc<DeadLetters>,
    /// Whether something was written since the disk was last waited for.
    dirty: Arc<AtomicBool>,
    config: BusConfig,
}

/// Opens the bus in `dir`, which is created where there is none. Must be called within a Tokio
/// runtime: records are brought to the disk in the background, until the bus is dropped.
///
/// Fails where another process has it open, and where the settings or the files cannot be used.
pub fn open(dir: &Path, config: BusConfig) -> Result<Arc<EmbeddedBus>> {
    config.check()?;
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|_| Error::ours("the bus was opened outside of a Tokio runtime"))?;
    let failed = |e: fjall::Error| match e {
        fjall::Error::Locked => Error::user(format!(
            "the bus in {} is in use by another process; stop that one, or choose another data directory",
            dir.display()
        )),
        fjall::Error::InvalidVersion(found) => Error::user(format!(
            "the bus in {} has a format this build does not read ({found:?}); start the version that wrote it",
            dir.display()
        )),
        other => Error::outside(format!(
            "cannot open the bus in {}: {other}; its files may be damaged: restore the data directory from a backup",
            dir.display()
        )),
    };
    mend::mend(dir)?;
    let mut names = vec![groups::KEYSPACE.to_owned(), dead_letters::KEYSPACE.to_owned()];
    names.extend(Topic::ALL.into_iter().filter(|topic| topic.durable()).map(topic_keyspace));
    let files = Arc::new(Files::open(dir, names).map_err(failed)?);
    let dirty = Arc::new(AtomicBool::new(false));
    let groups = Arc::new(Groups::open(files.clone(), dirty.clone())?);
    let dead_letters = Arc::new(DeadLetters::new(files.clone(), config.dead_letters, dirty.clone()));
    let mut logs = HashMap::new();
    let mut rings = HashMap::new();
    for topic in Topic::ALL {
        if topic.durable() {
            // A loss of power may have taken records that a group had acknowledged; their offsets
            // are not given out again.
            let beyond = groups.highest(topic);
            logs.insert(topic, Arc::new(Log::open(topic, files.clone(), beyond, dirty.clone())?));
        } else {
            rings.insert(topic, Arc::new(Ring::new(topic, config.ring_records, config.ring_bytes)));
        }
    }
    let bus = Arc::new(EmbeddedBus { files, logs, rings, groups, dead_letters, dirty, config });
    upkeep::start(&runtime, &bus);
    Ok(bus)
}

impl EmbeddedBus {
    /// The newest records that were set aside on `topic`, at most `limit`, oldest first.
    pub fn dead_letters(&self, topic: Topic, limit: usize) -> Result<Vec<DeadLetter>> {
        self.dead_letters.newest(topic, limit)
    }

    /// Gives out no offset before `next` on a durable topic from now on. To be called before the
    /// first record is appended, where somebody else knows how far an earlier process came: a loss of
    /// power may have taken the end of the log.
    pub fn reserve(&self, topic: Topic, next: u64) -> Result<()> {
        let log = self.log(topic)?;
        let lost = next.saturating_sub(log.end());
        if lost > 0 {
            warn!(
                topic = topic.name(),
                lost,
                next,
                "the log ends before what was committed from it, as a loss of power \
                leaves it; the offsets that are missing are not given out again"
            );
            log.reserve(next);
        }
        Ok(())
    }

    /// Opens the files again after a failed write. Blocks.
    fn reopen(&self) -> Result<()> {
        // What the failed files held may not have reached the disk.
        self.dirty.store(true, Ordering::Relaxed);
        self.files.reopen(|opened| self.logs.values().try_for_each(|log| log.settle(opened)))
    }

    fn log(&self, topic: Topic) -> Result<&Arc<Log>> {
        self.logs.get(&topic).ok_or_else(|| Error::ours(format!("{} is not a topic of this bus", topic.name())))
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        crate::check_payloads(topic, &records)?;
        let (count, bytes) = (records.len() as u64, records.iter().map(|r| r.payload.len()).sum());
        match self.rings.get(&topic) {
            Some(ring) => ring.append(records)?,
            None => self.log(topic)?.append(records).await?,
        }
        crate::count_appended(topic, count, bytes);
        Ok(())
    }

    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>> {
        crate::check_group(group)?;
        if let Some(ring) = self.rings.get(&topic) {
            return Ok(Box::new(RingReader::open(ring.clone(), group, start)));
        }
        let log = self.log(topic)?.clone();
        let reader = LogReader::open(log, self.groups.clone(), self.dead_letters.clone(), group, start).await?;
        Ok(Box::new(reader))
    }

    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()> {
        let frame = frame::encode(&received.record)?;
        self.dead_letters.add(topic, received.position.offset, frame, reason.to_owned()).await
    }

    async fn caught_up(&self, topic: Topic, key: &StreamId) -> Result<()> {
        match self.rings.get(&topic) {
            Some(ring) => ring.caught_up(key).await,
            None => Ok(()),
        }
    }

    async fn flush(&self) -> Result<()> {
        let files = self.files.clone();
        self.dirty.store(false, Ordering::Relaxed);
        blocking("flush the bus", move || files.persist(PersistMode::SyncAll)).await
    }
}

/// Runs what may wait for the disk where it holds up no other task.
async fn blocking<T: Send + 'static>(doing: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| e.context(format!("cannot {doing}"))),
        Err(e) => Err(Error::ours(format!("cannot {doing}: {e}"))),
    }
}
