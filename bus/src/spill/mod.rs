//! A bus in front of a bus that can be away: what must not be lost is kept on this machine meanwhile.
//!
//! While nothing of a topic is kept here, its records go straight to the bus. When that fails, or takes
//! too long, they go into a log of this process; from then on later records of the topic queue behind
//! them, and a task hands all of them to the bus in order once it is back. What is kept survives the
//! process and is handed over by the next.

mod config;
mod handing;

use async_trait::async_trait;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crest_core::bus::{Bus, Received, Record, SharedBus, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

use crate::embedded::queue::Queue;
use crate::embedded::{BusConfig, EmbeddedBus};

pub use config::SpillConfig;

/// What a kept record costs beside its payload and key.
const OVERHEAD_BYTES: usize = 64;

/// A bus that keeps records in a local log while the bus behind it is away.
pub struct Spill {
    inner: SharedBus,
    local: Arc<EmbeddedBus>,
    topics: HashMap<Topic, Arc<Spilled>>,
    config: SpillConfig,
    /// They hand over what is kept, until this is dropped.
    _handing: JoinSet<()>,
}

/// What is kept of a topic.
struct Spilled {
    queue: Queue,
    /// Bytes kept of all topics together.
    bytes: Arc<AtomicU64>,
    /// Whether it was said that records are kept. Changed by those who hold it and have looked what waits.
    told: Mutex<bool>,
}

impl Spill {
    /// Puts a spill log in `dir` in front of `inner`, and begins to hand over what an earlier process left
    /// there. Must be called within a Tokio runtime.
    ///
    /// Fails where another process has the log open, and where the settings or the files cannot be used.
    pub async fn open(dir: &Path, config: SpillConfig, inner: SharedBus) -> Result<Arc<Self>> {
        config.check()?;
        // What was handed over is not needed any more.
        let local = BusConfig { sync: config.sync, retention_records: 1, ..BusConfig::default() };
        let local = crate::open(dir, local).map_err(|e| e.context("the spill log"))?;
        let bytes = Arc::new(AtomicU64::new(0));
        let mut topics = HashMap::new();
        let mut handing = JoinSet::new();
        for topic in Topic::ALL.into_iter().filter(|topic| topic.durable()) {
            let queue = local.queue(topic).await?;
            let spilled = Arc::new(Spilled { queue, bytes: bytes.clone(), told: Mutex::new(false) });
            spilled.take_stock().await?;
            handing.spawn(handing::run(spilled.clone(), inner.clone(), config.retry.0));
            topics.insert(topic, spilled);
        }
        Ok(Arc::new(Self { inner, local, topics, config, _handing: handing }))
    }

    /// Records that are kept on this machine and wait for the bus.
    pub fn waiting(&self) -> u64 {
        self.topics.values().map(|spilled| spilled.queue.waiting()).sum()
    }
}

impl Spilled {
    /// Counts what an earlier process left.
    async fn take_stock(&self) -> Result<()> {
        let mut from = 0;
        loop {
            let (waiting, after) = self.queue.peek(from, handing::AT_ONCE).await?;
            if after <= from || (waiting.is_empty() && self.queue.waiting() == 0) {
                break;
            }
            from = after;
            self.bytes.fetch_add(waiting.iter().map(|w| size(&w.record)).sum(), Ordering::Relaxed);
        }
        let waiting = self.queue.waiting();
        if waiting > 0 {
            *self.told() = true;
            info!(topic = self.queue.topic.name(), waiting, "an earlier process kept records for the bus");
        }
        self.show();
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, bool> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the gauges.
    fn show(&self) {
        let topic = self.queue.topic.name();
        metrics::gauge!("crest_bus_spilled_records", "topic" => topic).set(self.queue.waiting() as f64);
        metrics::gauge!("crest_bus_spilled_bytes").set(self.bytes.load(Ordering::Relaxed) as f64);
    }

    /// Keeps records, because of what the bus said, or because earlier ones wait already.
    async fn keep(&self, records: Vec<Record>, bound: u64, why: Option<Error>) -> Result<()> {
        let bytes: u64 = records.iter().map(size).sum();
        let count = records.len() as u64;
        let room = |kept: u64| kept.checked_add(bytes).filter(|sum| *sum <= bound);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Error::full(format!(
                "the bus is away, and as much as bus.spill.max_bytes allows waits for it on this machine{}",
                because(why.as_ref())
            )));
        }
        if let Err(error) = self.queue.push(records).await {
            self.release(bytes);
            return Err(error.context(format!("the bus is away{}, and the spill log failed", because(why.as_ref()))));
        }
        let topic = self.queue.topic.name();
        metrics::counter!("crest_bus_spill_total", "topic" => topic).increment(count);
        self.show();
        let mut told = self.told();
        if !*told && self.queue.waiting() > 0 {
            *told = true;
            let why = why.map_or_else(|| "earlier records wait".to_owned(), |error| error.message);
            warn!(topic, why, "the bus is away: records are kept on this machine until it is back");
        }
        Ok(())
    }

    /// So many bytes are not kept any more.
    fn release(&self, bytes: u64) {
        let less = |kept: u64| Some(kept.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

fn size(record: &Record) -> u64 {
    (record.payload.len() + record.key.as_str().len() + OVERHEAD_BYTES) as u64
}

fn because(why: Option<&Error>) -> String {
    why.map_or_else(String::new, |error| format!(" ({error})"))
}

#[async_trait]
impl Bus for Spill {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        let Some(spilled) = self.topics.get(&topic) else { return self.inner.append(topic, records).await };
        // Nothing is kept that the bus would never take.
        crate::check_payloads(topic, &records)?;
        let why = if spilled.queue.waiting() > 0 {
            None
        } else {
            match timeout(self.config.after.0, self.inner.append(topic, records.clone())).await {
                Ok(Err(error)) if error.retryable => Some(error),
                Ok(answer) => return answer,
                Err(_) => Some(Error::outside(format!("no answer within {:?} (bus.spill.after)", self.config.after.0))),
            }
        };
        let (spilled, bound) = (spilled.clone(), self.config.max_bytes.as_u64());
        // Goes on where the caller gives up: what is kept and what is counted must not part.
        let kept = tokio::spawn(async move { spilled.keep(records, bound, why).await });
        kept.await.map_err(|e| Error::ours(format!("cannot keep records for the bus: {e}")))?
    }

    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>> {
        self.inner.subscribe(topic, group, start).await
    }

    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()> {
        self.inner.dead_letter(topic, received, reason).await
    }

    async fn caught_up(&self, topic: Topic, key: &StreamId) -> Result<()> {
        self.inner.caught_up(topic, key).await
    }

    async fn flush(&self) -> Result<()> {
        self.local.flush().await?;
        match timeout(self.config.after.0, self.inner.flush()).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::outside(format!("the bus did not flush within {:?}", self.config.after.0))),
        }
    }
}
