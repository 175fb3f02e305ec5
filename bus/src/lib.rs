//! How records move between stages: the embedded log.
//!
//! [`EmbeddedBus`] serves one process from one directory. Durable topics are logs on `fjall`; the
//! media topics are rings in memory. Each subscription of a durable topic reads the whole topic:
//! two with the same group share an acknowledged position, not the work.

mod config;
mod dead_letters;
mod frame;
mod groups;
mod log;
mod reader;
mod ring;
mod upkeep;

use async_trait::async_trait;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crest_core::bus::{Bus, Position, Received, Record, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result};

pub use config::BusConfig;
pub use dead_letters::DeadLetter;

use dead_letters::DeadLetters;
use groups::Groups;
use log::Log;
use reader::LogReader;
use ring::{Ring, RingReader};

/// The largest payload of a record; larger things travel as references.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// What a topic may hold in memory before it is written out as a table.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// The bus of one process, in one directory.
pub struct EmbeddedBus {
    db: Database,
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
        other => Error::outside(format!("cannot open the bus in {}: {other}", dir.display())),
    };
    let db = Database::builder(dir).open().map_err(failed)?;
    let keyspace = |name: &str| {
        db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)).map_err(failed)
    };
    let dirty = Arc::new(AtomicBool::new(false));
    let groups = Arc::new(Groups::open(keyspace("groups")?, dirty.clone())?);
    let dead_letters = Arc::new(DeadLetters::new(keyspace("dead-letters")?, config.dead_letters, dirty.clone()));
    let mut logs = HashMap::new();
    let mut rings = HashMap::new();
    for topic in Topic::ALL {
        if topic.durable() {
            // A loss of power may have taken records that a group had acknowledged; their positions
            // are not given out again.
            let beyond = groups.highest(topic);
            let records = keyspace(&format!("topic-{}", topic.name()))?;
            logs.insert(topic, Arc::new(Log::open(topic, db.clone(), records, beyond, dirty.clone())?));
        } else {
            rings.insert(topic, Arc::new(Ring::new(topic, config.ring_records, config.ring_bytes)));
        }
    }
    let bus = Arc::new(EmbeddedBus { db, logs, rings, groups, dead_letters, dirty, config });
    upkeep::start(&runtime, &bus);
    Ok(bus)
}

impl EmbeddedBus {
    /// The newest records that were set aside on `topic`, at most `limit`, oldest first.
    pub fn dead_letters(&self, topic: Topic, limit: usize) -> Result<Vec<DeadLetter>> {
        self.dead_letters.newest(topic, limit)
    }

    fn log(&self, topic: Topic) -> Result<&Arc<Log>> {
        self.logs.get(&topic).ok_or_else(|| Error::ours(format!("{} is not a topic of this bus", topic.name())))
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<Position> {
        let count = records.len() as u64;
        let bytes: usize = records.iter().map(|r| r.payload.len()).sum();
        if let Some(large) = records.iter().find(|r| r.payload.len() > MAX_PAYLOAD_BYTES) {
            return Err(Error::user(format!(
                "a payload of {} bytes is over the limit of {MAX_PAYLOAD_BYTES} on {}; send a reference instead",
                large.payload.len(),
                topic.name()
            )));
        }
        let last = match self.rings.get(&topic) {
            Some(ring) => ring.append(records)?,
            None => self.log(topic)?.append(records).await?,
        };
        metrics::counter!("crest_bus_records_total", "topic" => topic.name()).increment(count);
        metrics::counter!("crest_bus_bytes_total", "topic" => topic.name()).increment(bytes as u64);
        Ok(last)
    }

    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>> {
        groups::check_name(group)?;
        if let Some(ring) = self.rings.get(&topic) {
            return Ok(Box::new(RingReader::open(ring.clone(), group, start)?));
        }
        let log = self.log(topic)?.clone();
        let reader = LogReader::open(log, self.groups.clone(), self.dead_letters.clone(), group, start).await?;
        Ok(Box::new(reader))
    }

    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()> {
        let frame = frame::encode(&received.record)?;
        self.dead_letters.add(topic, received.position, frame, reason.to_owned()).await
    }

    async fn caught_up(&self, topic: Topic, position: Position) -> Result<()> {
        match self.rings.get(&topic) {
            Some(ring) => ring.caught_up(position).await,
            None => Ok(()),
        }
    }

    async fn flush(&self) -> Result<()> {
        let db = self.db.clone();
        self.dirty.store(false, Ordering::Relaxed);
        blocking("flush the bus", move || db.persist(PersistMode::SyncAll).map_err(storage)).await
    }
}

/// Runs what may wait for the disk where it holds up no other task.
async fn blocking<T: Send + 'static>(doing: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| e.context(format!("cannot {doing}"))),
        Err(e) => Err(Error::ours(format!("cannot {doing}: {e}"))),
    }
}

/// A failure of the log's storage.
fn storage(error: fjall::Error) -> Error {
    match error {
        // It stays so until the files are opened anew.
        fjall::Error::Poisoned => Error {
            retryable: false,
            ..Error::outside("an earlier write to the bus failed; check the disk and restart crest")
        },
        other => Error::outside(format!("the storage of the bus failed: {other}")),
    }
}
