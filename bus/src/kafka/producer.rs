//! Appending to durable topics: every record is acknowledged by all brokers that keep it, in order, and
//! what waits for that has a bound.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use crest_core::Result;

use super::cluster::{Cluster, kib, millis};
use super::watch::{Watch, code, request};

/// What a record costs beside its key and value while it waits.
const OVERHEAD_BYTES: usize = 256;
/// Records of one call that go on their way together: so many bytes, or one record.
const BATCH_BYTES: usize = 1 << 20;

/// A record to be sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) headers: OwnedHeaders,
}

impl Outgoing<'_> {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + OVERHEAD_BYTES
    }
}

/// Records that are on their way together. One answer for all of them.
pub(crate) struct Batch {
    left: AtomicUsize,
    failed: OnceLock<Code>,
    waiting: Mutex<Option<Waiting>>,
}

struct Waiting {
    answer: oneshot::Sender<Result<(), Code>>,
    _room: OwnedSemaphorePermit,
}

impl Batch {
    /// So many of them are answered.
    fn answered(&self, count: usize, error: Option<Code>) {
        if let Some(error) = error {
            let _ = self.failed.set(error);
        }
        if self.left.fetch_sub(count, Ordering::AcqRel) > count {
            return;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            // Whoever asked may have gone.
            let _ = waiting.answer.send(self.failed.get().map_or(Ok(()), |code| Err(*code)));
        }
    }
}

/// Hears what became of the records.
pub(crate) struct Deliveries(pub(crate) Watch);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
    fn stats(&self, statistics: Statistics) {
        self.0.stats(&statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        match result {
            Ok(_) => {
                if self.0.is_down() {
                    self.0.up();
                }
                batch.answered(1, None);
            }
            Err((error, _)) => batch.answered(1, Some(code(error))),
        }
    }
}

type Client = ThreadedProducer<Deliveries>;

/// Appends to durable topics.
pub(crate) struct Durable {
    cluster: Arc<Cluster>,
    client: RwLock<Arc<Client>>,
    room: Arc<Semaphore>,
}

impl Durable {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Result<Self> {
        let room = usize::try_from(cluster.config.queue_bytes.as_u64()).unwrap_or(usize::MAX);
        let client = RwLock::new(Arc::new(Self::connect(cluster)?));
        Ok(Self { cluster: cluster.clone(), client, room: Arc::new(Semaphore::new(room)) })
    }

    fn connect(cluster: &Arc<Cluster>) -> Result<Client> {
        let mut settings = cluster.settings();
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.timeout.ms", millis(cluster.config.append_timeout.0))
            .set("message.max.bytes", cluster.largest(None).to_string())
            // `room` is the bound; the library counts a little differently and is never to be the first.
            .set("queue.buffering.max.kbytes", kib(2 * cluster.config.queue_bytes.as_u64()))
            .set("queue.buffering.max.messages", "0")
            .set("statistics.interval.ms", "5000");
        let client = settings.create_with_context(Deliveries(Watch::new(cluster.clone())));
        client.map_err(|error| request(cluster, "making a producer", &error))
    }

    /// The client that appends now.
    pub(crate) fn client(&self) -> Arc<Client> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends records and waits until all of them are acknowledged, or one is known not to be.
    pub(crate) async fn send(&self, topic: &str, records: Vec<Outgoing<'_>>) -> Result<(), Code> {
        let mut records = records.into_iter().peekable();
        let mut answers = Vec::new();
        let mut failed = None;
        while records.peek().is_some() && failed.is_none() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(record) = records.next_if(|next| batch.is_empty() || bytes + next.bytes() <= BATCH_BYTES) {
                bytes += record.bytes();
                batch.push(record);
            }
            match self.send_batch(topic, batch, bytes).await {
                Ok(answer) => answers.push(answer),
                Err(code) => failed = Some(code),
            }
            // Where the first records of a call failed, those behind them are not to be there alone.
            if let Some(Ok(answered)) = answers.last_mut().map(oneshot::Receiver::try_recv) {
                answers.pop();
                failed = failed.or(answered.err());
            }
        }
        // The library answers in time; this is for when it does not.
        let patience = 2 * self.cluster.config.append_timeout.0 + Duration::from_secs(5);
        let end = Instant::now() + patience;
        for answer in answers {
            let answered = match timeout_at(end, answer).await {
                Ok(Ok(answered)) => answered,
                Ok(Err(_)) => Err(Code::Unknown),
                Err(_) => Err(Code::MessageTimedOut),
            };
            failed = failed.or(answered.err());
        }
        failed.map_or(Ok(()), Err)
    }

    async fn send_batch(
        &self,
        topic: &str,
        records: Vec<Outgoing<'_>>,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Result<(), Code>>, Code> {
        let permits = u32::try_from(bytes).map_err(|_| Code::MessageSizeTooLarge)?;
        let room = timeout(self.cluster.config.append_timeout.0, self.room.clone().acquire_many_owned(permits));
        let Ok(Ok(room)) = room.await else { return Err(Code::QueueFull) };
        let (answer, answered) = oneshot::channel();
        let count = records.len();
        let batch = Arc::new(Batch {
            left: AtomicUsize::new(count),
            failed: OnceLock::new(),
            waiting: Mutex::new(Some(Waiting { answer, _room: room })),
        });
        let client = self.client();
        for (sent, Outgoing { key, value, headers }) in records.into_iter().enumerate() {
            let record = BaseRecord::with_opaque_to(topic, batch.clone()).key(key).payload(value).headers(headers);
            if let Err((error, _)) = client.send(record) {
                batch.answered(count - sent, Some(code(&error)));
                if code(&error) == Code::Fatal {
                    self.renew(&client);
                }
                break;
            }
        }
        Ok(answered)
    }

    /// Puts a new client in the place of one that takes nothing any more: its sequence and the brokers' do
    /// not fit together.
    fn renew(&self, broken: &Arc<Client>) {
        let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return;
        }
        let why = broken.client().fatal_error().map(|(_, why)| why).unwrap_or_default();
        match Self::connect(&self.cluster) {
            Ok(new) => {
                warn!("appending begins anew after an error of the brokers: {why}");
                let old = std::mem::replace(&mut *current, Arc::new(new));
                // It waits for its own threads.
                std::thread::spawn(move || drop(old));
            }
            Err(error) => warn!("appending cannot begin anew after an error of the brokers ({why}): {error}"),
        }
    }
}
