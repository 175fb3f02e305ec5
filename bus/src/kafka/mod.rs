//! The bus on Apache Kafka, for many processes.
//!
//! Topics have the names of [`Topic`], groups those of the roles with the topic; both with
//! [`KafkaConfig::prefix`] in front. A record's key is its stream, so that a stream is in one partition.
//!
//! What is appended to a durable topic is acknowledged by every broker that is to have it before the append
//! returns. An append that fails may leave its records there all the same, and one that is tried again
//! leaves them twice; of one that the brokers stopped to answer just then, the later records may be there
//! without the earlier.

mod check;
mod claims;
mod cluster;
mod config;
mod dead_letters;
mod metrics;
mod producer;
mod progress;
mod reader;
mod repair;
mod rings;
mod topics;
mod watch;
mod wire;

use async_trait::async_trait;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::warn;

use crest_core::bus::{Bus, Received, Record, Start, Subscription};
use crest_core::instance::InstanceId;
use crest_core::objects::SharedObjects;
use crest_core::topic::Topic;
use crest_core::{Error, Result, StreamId};

pub use check::{Checked, check};
pub use config::{KafkaConfig, Password, SaslMechanism, SecurityProtocol};
pub use topics::Mismatch;

use crate::DeadLetter;
use claims::Claims;
use cluster::Cluster;
use dead_letters::DeadLetters;
use producer::{Durable, Outgoing};
use progress::Observers;
use repair::Repair;
use rings::Rings;

/// How long it is tried to reach a broker before it is looked at what is wrong.
const GLANCE: Duration = Duration::from_millis(200);

/// How long brokers must refuse this process until it is believed.
const REFUSED: Duration = Duration::from_secs(1);
/// The most addresses that are tried.
const MANY: usize = 5;

/// The bus of many processes, in a cluster of Kafka.
pub struct KafkaBus {
    cluster: Arc<Cluster>,
    durable: Arc<Durable>,
    rings: Arc<Rings>,
    claims: Arc<Claims>,
    dead_letters: Arc<DeadLetters>,
    repair: Arc<Repair>,
    observers: Observers,
}

impl KafkaBus {
    /// Connects to the cluster and makes the topics that are missing. Must be called within a Tokio runtime.
    ///
    /// Fails with a retryable error where no broker can be reached, and with one that is not where the
    /// settings cannot be used: they do not fit the cluster, or it refuses the credentials.
    pub async fn open(
        brokers: &[String],
        config: KafkaConfig,
        instance: &InstanceId,
        objects: SharedObjects,
    ) -> Result<Arc<Self>> {
        let cluster = Cluster::new(brokers, config, instance)?;
        let durable = Arc::new(Durable::new(&cluster)?);
        reach(&cluster, &durable).await?;
        let (mismatches, _) = topics::ensure(&cluster, &topics::wanted(&cluster)).await?;
        for mismatch in mismatches {
            warn!(topic = mismatch.topic, setting = mismatch.setting, "{mismatch}; it is used as it is");
        }
        let repair = Arc::new(Repair::new(cluster.clone()));
        let missing = repair.clone();
        let rings = Arc::new(Rings::new(&cluster, Box::new(move || missing.topics_are_missing()))?);
        let claims = Arc::new(Claims::new(objects));
        let dead_letters = Arc::new(DeadLetters::new(cluster.clone(), durable.clone(), claims.clone()));
        let observers = Observers::new(cluster.clone());
        Ok(Arc::new(Self { cluster, durable, rings, claims, dead_letters, repair, observers }))
    }

    /// The newest records that were set aside on `topic`, at most `limit`, oldest first.
    pub async fn dead_letters(&self, topic: Topic, limit: usize) -> Result<Vec<DeadLetter>> {
        let letters = self.dead_letters.clone();
        let found = tokio::task::spawn_blocking(move || letters.newest(topic, limit)).await;
        found.map_err(|error| Error::ours(format!("cannot read dead letters: {error}")))?
    }

    /// Removes large payloads from the object storage that no record refers to any more; how many. To be
    /// called now and then, by any process.
    pub async fn remove_old_claims(&self) -> Result<u64> {
        let retention = self.cluster.config.retention.0;
        let mut removed = self.claims.remove_old(&self.cluster.dead_letters, retention).await?;
        // Control is kept for good.
        for topic in Topic::ALL.into_iter().filter(|topic| topic.durable() && *topic != Topic::Control) {
            removed += self.claims.remove_old(self.cluster.topic(topic), retention).await?;
        }
        Ok(removed)
    }

    async fn append_durable(&self, topic: Topic, records: &[Record]) -> Result<()> {
        let name = self.cluster.topic(topic);
        let large = |record: &Record| record.payload.len() as u64 > self.cluster.config.max_inline_bytes.as_u64();
        let mut claims = Vec::new();
        for (number, record) in records.iter().enumerate().filter(|(_, record)| large(record)) {
            claims.push((number, self.claims.put(name, record.payload.clone()).await?));
        }
        let outgoing = |(number, record)| {
            let record: &Record = record;
            let claim = claims.iter().find(|(of, _)| *of == number).map(|(_, key)| key.as_str());
            let value = if claim.is_some() { &[] } else { &record.payload[..] };
            Outgoing { key: record.key.as_str().as_bytes(), value, headers: wire::headers(record, claim) }
        };
        let outgoing = records.iter().enumerate().map(outgoing).collect();
        let sent = self.durable.send(name, outgoing).await;
        if matches!(sent, Err(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)) {
            self.repair.topics_are_missing();
        }
        sent.map_err(|code| failed(&self.cluster, name, code))
    }
}

/// Waits until a broker answers, or what is wrong is known.
async fn reach(cluster: &Arc<Cluster>, durable: &Arc<Durable>) -> Result<()> {
    let (cluster, client) = (cluster.clone(), durable.client());
    let asked = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + cluster.config.request_timeout.0;
        let mut refused_since = None;
        loop {
            let error = match client.client().fetch_metadata(Some(&cluster.dead_letters), GLANCE) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let now = Instant::now();
            match client.client().context().0.trouble() {
                // A broker that is just going down may seem to refuse once.
                Some(trouble) if !trouble.retryable => {
                    let refused = now.duration_since(*refused_since.get_or_insert(now));
                    if refused >= REFUSED || now >= end {
                        return Err(trouble);
                    }
                }
                _ if now >= end && takes_connections(&cluster.brokers) => {
                    return Err(Error::outside(format!(
                        "the brokers at {} (bus.brokers) take connections and do not answer; is \
                         bus.kafka.security_protocol = {} what they speak?",
                        cluster.brokers,
                        cluster.config.security_protocol.name()
                    )));
                }
                Some(trouble) if now >= end => return Err(trouble),
                None if now >= end => return Err(watch::request(&cluster, "asking for topics", &error)),
                _ => {}
            }
            std::thread::sleep(GLANCE / 4);
        }
    });
    asked.await.map_err(|error| Error::ours(format!("cannot ask the brokers: {error}")))?
}

/// Whether anybody listens at one of the addresses. Blocks.
fn takes_connections(brokers: &str) -> bool {
    let addresses = brokers.split(',').flat_map(|broker| broker.to_socket_addrs().into_iter().flatten());
    addresses.take(MANY).any(|address| TcpStream::connect_timeout(&address, REFUSED).is_ok())
}

/// Why records were not appended to a topic.
fn failed(cluster: &Cluster, topic: &str, code: Code) -> Error {
    let (brokers, config) = (&cluster.brokers, &cluster.config);
    let seconds = config.append_timeout.0.as_secs_f32();
    match code {
        Code::MessageTimedOut | Code::RequestTimedOut | Code::NotEnoughReplicas => Error::outside(format!(
            "the brokers at {brokers} (bus.brokers) did not acknowledge records of {topic} within {seconds} s \
             (bus.kafka.append_timeout)"
        )),
        Code::QueueFull => Error::outside(format!(
            "more than {} (bus.kafka.queue_bytes) wait for the brokers at {brokers} (bus.brokers), for more than \
             {seconds} s (bus.kafka.append_timeout): records of {topic} were not appended",
            config.queue_bytes
        )),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Error::outside(format!("the topic {topic} does not exist: it was deleted; it is made again"))
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Error::user(format!(
            "the topic {topic} does not take a record this large; its max.message.bytes must be {} or more, or \
             bus.kafka.max_inline_bytes less",
            cluster.largest(Some(Topic::Signals))
        )),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            // It may be allowed later, and what is to be appended must not be lost until then.
            Error { retryable: true, ..watch::forbidden(cluster, &format!("append to the topic {topic}")) }
        }
        code => Error::outside(format!(
            "records of {topic} were not appended by the brokers at {brokers} (bus.brokers): {code}"
        )),
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        crate::check_payloads(topic, &records)?;
        records.iter().try_for_each(|record| wire::check_key(topic, record))?;
        if topic.durable() {
            let began = Instant::now();
            self.append_durable(topic, &records).await?;
            metrics::appended(topic, began.elapsed());
        } else {
            self.observers.prepare(topic);
            self.rings.append(self.cluster.topic(topic), topic, &records);
        }
        let bytes = records.iter().map(|record| record.payload.len()).sum();
        crate::count_appended(topic, records.len() as u64, bytes);
        Ok(())
    }

    async fn subscribe(&self, topic: Topic, group: &str, start: Start) -> Result<Box<dyn Subscription>> {
        crate::check_group(group)?;
        let repair = self.repair.clone();
        let missing = Arc::new(move || repair.topics_are_missing());
        let (claims, dead_letters) = (self.claims.clone(), self.dead_letters.clone());
        reader::open(&self.cluster, topic, group, start, claims, dead_letters, missing).await
    }

    async fn dead_letter(&self, topic: Topic, received: &Received, reason: &str) -> Result<()> {
        self.dead_letters.add_record(topic, received.position, &received.record, reason).await
    }

    async fn caught_up(&self, topic: Topic, key: &StreamId) -> Result<()> {
        let Some(tail) = self.rings.known(topic, key) else { return Ok(()) };
        let Some(last) = tail.settled().await else { return Ok(()) };
        for group in topic.groups() {
            self.observers.passed(topic, group, last).await?;
        }
        Ok(())
    }

    /// Also waits for subscriptions that were dropped to tell how far they came.
    async fn flush(&self) -> Result<()> {
        let patience = self.cluster.config.append_timeout.0;
        let (durable, rings) = (self.durable.client(), self.rings.clone());
        let flushed =
            tokio::task::spawn_blocking(move || rings.client().flush(patience).and_then(|()| durable.flush(patience)));
        let flushed = flushed.await.map_err(|error| Error::ours(format!("cannot flush the bus: {error}")))?;
        // Samples that are dropped are counted; what is durable was answered for where it was appended.
        if let Err(error) = flushed {
            warn!("records still wait for the brokers: {error}");
        }
        match timeout(patience, reader::none_leaving_of(self.cluster.number)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::outside(format!(
                "what was acknowledged last could not be told to the brokers at {} (bus.brokers)",
                self.cluster.brokers
            ))),
        }
    }
}
