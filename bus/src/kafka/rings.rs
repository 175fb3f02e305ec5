//! Appending samples: never waits. What the brokers do not take in time is dropped and counted.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use crest_core::bus::{Partition, Record};
use crest_core::topic::Topic;
use crest_core::{Result, StreamId};

use super::cluster::{Cluster, kib, millis};
use super::watch::{Watch, code, request};
use super::wire;

/// The fewest streams after which it is looked for those that are over.
const TIDY_FROM: usize = 1024;

/// The last of a stream's samples that this process appended.
pub(crate) struct Tail {
    stream: StreamId,
    state: Mutex<TailState>,
    settled: Notify,
}

struct TailState {
    /// Samples whose fate is not known.
    pending: usize,
    /// Where the last of those lies that the brokers took.
    last: Option<(Partition, u64)>,
    touched: Instant,
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, TailState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, place: Option<(Partition, u64)>) {
        let mut state = self.lock();
        state.pending = state.pending.saturating_sub(1);
        state.last = place.or(state.last);
        let settled = state.pending == 0;
        drop(state);
        if settled {
            self.settled.notify_waiters();
        }
    }

    /// Waits until the fate of all samples is known; where the last of them lies, if any was taken.
    pub(crate) async fn settled(&self) -> Option<(Partition, u64)> {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            {
                let state = self.lock();
                if state.pending == 0 {
                    return state.last;
                }
            }
            settled.await;
        }
    }
}

/// Hears what became of the samples.
pub(crate) struct Samples {
    watch: Watch,
    /// Called where a topic does not exist any more.
    missing: Box<dyn Fn() + Send + Sync>,
}

impl ClientContext for Samples {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.watch.log(level, facility, line);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(&error, reason);
    }
    fn stats(&self, statistics: Statistics) {
        self.watch.stats(&statistics);
    }
}

impl ProducerContext for Samples {
    type DeliveryOpaque = Arc<Tail>;

    fn delivery(&self, result: &DeliveryResult<'_>, tail: Arc<Tail>) {
        match result {
            Ok(message) => {
                let place = Partition::try_from(message.partition()).ok().zip(u64::try_from(message.offset()).ok());
                tail.answered(place);
            }
            Err((error, _)) => {
                self.failed(&tail, error);
                tail.answered(None);
            }
        }
    }
}

impl Samples {
    fn failed(&self, tail: &Tail, error: &KafkaError) {
        dropped(&tail.stream);
        match code(error) {
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => (self.missing)(),
            code => tracing::debug!(stream_id = %tail.stream, "a sample was not taken by the brokers: {code}"),
        }
    }
}

fn dropped(stream: &StreamId) {
    metrics::counter!("crest_samples_dropped_total", "stream" => stream.to_string(), "cause" => "bus").increment(1);
}

/// Appends samples.
pub(crate) struct Rings {
    client: ThreadedProducer<Samples>,
    tails: Mutex<Tails>,
    /// Nothing older is kept by the brokers, so nobody waits for it.
    kept: Duration,
}

#[derive(Default)]
struct Tails {
    of: HashMap<(Topic, StreamId), Arc<Tail>>,
    tidy_at: usize,
}

impl Rings {
    pub(crate) fn new(cluster: &Arc<Cluster>, missing: Box<dyn Fn() + Send + Sync>) -> Result<Self> {
        let mut settings = cluster.settings();
        settings
            .set("acks", "1")
            // One after the other, so that trying again keeps the order.
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.timeout.ms", millis(cluster.config.append_timeout.0))
            .set("message.max.bytes", cluster.largest(Some(Topic::MediaVideo)).to_string())
            .set("queue.buffering.max.kbytes", kib(cluster.config.media_queue_bytes.as_u64()))
            .set("queue.buffering.max.messages", "0")
            .set("statistics.interval.ms", "5000");
        let samples = Samples { watch: Watch::new(cluster.clone()), missing };
        let client = settings.create_with_context(samples);
        let client = client.map_err(|error| request(cluster, "making a producer", &error))?;
        Ok(Self { client, tails: Mutex::default(), kept: cluster.config.media_retention.0 })
    }

    pub(crate) fn client(&self) -> &ThreadedProducer<Samples> {
        &self.client
    }

    /// Appends at once, or not.
    pub(crate) fn append(&self, name: &str, topic: Topic, records: &[Record]) {
        for record in records {
            let tail = self.tail(topic, &record.key);
            let outgoing = BaseRecord::with_opaque_to(name, tail)
                .key(record.key.as_str())
                .payload(&record.payload[..])
                .headers(wire::headers(record, None));
            if let Err((error, outgoing)) = self.client.send(outgoing) {
                use rdkafka::producer::Producer;
                let tail = outgoing.delivery_opaque;
                self.client.context().failed(&tail, &error);
                tail.answered(None);
            }
        }
    }

    /// The tail of a stream, to which a sample is added.
    fn tail(&self, topic: Topic, stream: &StreamId) -> Arc<Tail> {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if tails.of.len() > tails.tidy_at.max(TIDY_FROM) {
            tails.of.retain(|_, tail| {
                let state = tail.lock();
                state.pending > 0 || state.touched.elapsed() < self.kept
            });
            tails.tidy_at = 2 * tails.of.len();
        }
        let fresh = || {
            let state = TailState { pending: 0, last: None, touched: Instant::now() };
            Arc::new(Tail { stream: stream.clone(), state: Mutex::new(state), settled: Notify::new() })
        };
        let tail = tails.of.entry((topic, stream.clone())).or_insert_with(fresh).clone();
        let mut state = tail.lock();
        state.pending += 1;
        state.touched = Instant::now();
        drop(state);
        tail
    }

    /// The tail of a stream of which this process appended something.
    pub(crate) fn known(&self, topic: Topic, stream: &StreamId) -> Option<Arc<Tail>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).of.get(&(topic, stream.clone())).cloned()
    }
}
