//! Records that could not be read, on a topic of their own, as they were and with the reason.
//!
//! | header | value |
//! |---|---|
//! | `topic`, `partition`, `offset` | where the record lies |
//! | `reason` | why it cannot be read |
//!
//! beside the headers that it had. The key says where it lies: what is set aside twice is there once, as
//! soon as Kafka has compacted the topic; until then whoever reads takes the last.

use bytes::Bytes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

use crest_core::bus::{Position, Record};
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::claims::Claims;
use super::cluster::Cluster;
use super::failed;
use super::producer::{Durable, Outgoing};
use super::watch::request;
use super::wire::{self, Raw};
use crate::DeadLetter;

/// The longest reason that is kept.
const REASON_BYTES: usize = 1000;
/// The most headers of the record that are kept, and their bytes.
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;
/// The most records that were set aside lately and are not set aside again.
const KNOWN: usize = 4096;

/// The newest that are looked at for those of one topic.
const LOOKED_AT: i64 = 100_000;

pub(crate) struct DeadLetters {
    cluster: Arc<Cluster>,
    producer: Arc<Durable>,
    claims: Arc<Claims>,
    known: Mutex<BTreeMap<String, Instant>>,
}

fn key(topic: &str, position: Position) -> String {
    format!("{topic}/{}/{}", position.partition, position.offset)
}

impl DeadLetters {
    pub(crate) fn new(cluster: Arc<Cluster>, producer: Arc<Durable>, claims: Arc<Claims>) -> Self {
        Self { cluster, producer, claims, known: Mutex::default() }
    }

    /// Sets aside a record that was handed out.
    pub(crate) async fn add_record(&self, topic: Topic, at: Position, record: &Record, reason: &str) -> Result<()> {
        let mut value = record.payload.clone();
        let mut claim = None;
        if value.len() as u64 > self.cluster.config.max_inline_bytes.as_u64() {
            claim = Some(self.claims.put(&self.cluster.dead_letters, std::mem::take(&mut value)).await?);
        }
        let headers = wire::headers(record, claim.as_deref());
        let headers = headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect();
        self.add(topic, at, Raw { key: record.key.as_str().into(), value, headers }, reason).await
    }

    /// Sets aside a message as it was found. One that this process set aside already is not again.
    pub(crate) async fn add(&self, topic: Topic, at: Position, raw: Raw, reason: &str) -> Result<()> {
        let key = key(topic.name(), at);
        // A topic that was made anew gives out its offsets again.
        let lately = |known: &Instant| known.elapsed() < Duration::from_secs(60);
        if self.lock().get(&key).is_some_and(lately) {
            return Ok(());
        }
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        let (partition, offset) = (at.partition.to_string(), at.offset.to_string());
        let own = [("topic", topic.name()), ("partition", &partition), ("offset", &offset), ("reason", reason)];
        let mut headers = rdkafka::message::OwnedHeaders::new();
        let mut room = HEADER_BYTES;
        for (name, value) in raw.headers.iter().take(HEADERS) {
            room = room.saturating_sub(name.len() + value.len());
            if room > 0 {
                headers = headers.insert(Header { key: name, value: Some(value) });
            }
        }
        for (name, value) in own {
            headers = wire::with(headers, name, value.as_bytes());
        }
        headers = wire::with(headers, "key", &raw.key[..raw.key.len().min(HEADER_BYTES)]);
        // What somebody else wrote may be larger than crest writes.
        let most = usize::try_from(self.cluster.largest(Some(Topic::Signals))).unwrap_or(usize::MAX);
        let value = raw.value.get(..most).unwrap_or(&raw.value);
        let outgoing = Outgoing { key: key.as_bytes(), value, headers };
        let sent = self.producer.send(&self.cluster.dead_letters, vec![outgoing]).await;
        sent.map_err(|code| failed(&self.cluster, &self.cluster.dead_letters, code))?;
        warn!(topic = topic.name(), position = %at, reason, "a record cannot be read and was set aside");
        metrics::counter!("crest_dead_letters_total", "topic" => topic.name()).increment(1);
        let mut known = self.lock();
        known.insert(key, Instant::now());
        if known.len() > KNOWN {
            known.retain(|_, known| lately(known));
        }
        if known.len() > KNOWN {
            known.clear();
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest of a topic, oldest first. Blocks.
    pub(crate) fn newest(&self, topic: Topic, limit: usize) -> Result<Vec<DeadLetter>> {
        let (cluster, name) = (&self.cluster, self.cluster.dead_letters.as_str());
        let failed = |error| request(cluster, "reading dead letters", &error);
        let mut settings = cluster.settings();
        settings
            .set("group.id", format!("{name}.look"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set_log_level(RDKafkaLogLevel::Emerg);
        let client: BaseConsumer = settings.create().map_err(failed)?;
        let timeout = cluster.config.request_timeout.0;
        let metadata = client.fetch_metadata(Some(name), timeout).map_err(failed)?;
        let mut left = 0;
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (first, end) = client.fetch_watermarks(name, partition.id(), timeout).map_err(failed)?;
            let _ = all.add_partition_offset(name, partition.id(), Offset::Offset(first.max(end - LOOKED_AT)));
            left += 1;
        }
        client.assign(&all).map_err(failed)?;
        let mut found: Vec<(String, DeadLetter)> = Vec::new();
        let mut end = Instant::now() + timeout;
        while left > 0 {
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    end = Instant::now() + timeout;
                    let letter = letter(topic, &message);
                    if let Some((key, letter)) = letter {
                        // The last counts.
                        found.retain(|(known, _)| *known != key);
                        found.push((key, letter));
                    }
                    if found.len() > limit {
                        found.remove(0);
                    }
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => left -= 1,
                Some(Err(error)) => return Err(failed(error)),
                None if Instant::now() >= end => {
                    return Err(Error::outside(format!(
                        "the dead letters at {} (bus.brokers) did not come within {} s (bus.kafka.request_timeout)",
                        cluster.brokers,
                        timeout.as_secs_f32()
                    )));
                }
                None => {}
            }
        }
        Ok(found.into_iter().map(|(_, letter)| letter).collect())
    }
}

/// A message as a dead letter of this topic.
fn letter(topic: Topic, message: &BorrowedMessage<'_>) -> Option<(String, DeadLetter)> {
    let raw = wire::raw(message);
    let header = |name: &str| {
        let found = raw.headers.iter().rev().find(|(known, _)| known == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    if header("topic") != Some(topic.name()) {
        return None;
    }
    let position = Position { partition: header("partition")?.parse().ok()?, offset: header("offset")?.parse().ok()? };
    let reason = header("reason").unwrap_or_default().to_owned();
    let frame = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    Some((key(topic.name(), position), DeadLetter { position, reason, frame }))
}
