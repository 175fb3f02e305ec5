//! The topics of a crest on Kafka as somebody else sees them, who knows of crest nothing but their names.

use anyhow::{Context, Result, anyhow, ensure};
use crest_core::StreamId;
use crest_core::topic::{Topic, group};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

use super::logs::{Entry, Logs};

const LIMIT: Duration = Duration::from_secs(30);
/// Where records go that cannot be read.
const DEAD_LETTERS: &str = "dead-letters";

/// Topics and groups whose names begin with the same prefix.
#[derive(Debug, Clone)]
pub struct Topics {
    brokers: String,
    prefix: String,
}

impl Topics {
    /// Those of one crest.
    pub fn new(brokers: &str, prefix: &str) -> Self {
        Self { brokers: brokers.to_owned(), prefix: prefix.to_owned() }
    }

    /// What stands in them.
    pub async fn logs(&self) -> Result<Logs> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let reason = |message: &BorrowedMessage| header(message, "reason").unwrap_or_default();
            Ok(Logs {
                chat: this.read(Topic::ChatMessages.name(), entry)?,
                signals: this.read(Topic::Signals.name(), entry)?,
                segments: this.read(Topic::MediaSegments.name(), entry)?,
                set_aside: this.read(DEAD_LETTERS, |message| Ok(reason(message)))?,
            })
        })
        .await?
    }

    /// Why records were set aside.
    pub async fn dead_letters(&self) -> Result<Vec<String>> {
        let this = self.clone();
        let reason = |message: &BorrowedMessage| Ok(header(message, "reason").unwrap_or_default());
        tokio::task::spawn_blocking(move || this.read(DEAD_LETTERS, reason)).await?
    }

    /// Records of `chat.messages` and `marks` that no analyzer has acknowledged.
    pub async fn unread(&self) -> Result<i64> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut unread = 0;
            for topic in [Topic::ChatMessages, Topic::Marks] {
                unread += this.lag(topic, group::ANALYZE)?;
            }
            Ok(unread)
        })
        .await?
    }

    /// Puts bytes on a topic, in the stream's partition.
    pub async fn produce(&self, topic: Topic, stream: &str, version: &str, payload: &[u8]) -> Result<()> {
        let mut config = self.client();
        config.set("partitioner", "murmur2_random").set("message.timeout.ms", "30000");
        let producer: FutureProducer = config.create()?;
        let name = self.name(topic.name());
        let headers = OwnedHeaders::new().insert(Header { key: "schema-version", value: Some(version) });
        let record = FutureRecord::to(&name).key(stream).payload(payload).headers(headers);
        producer.send(record, LIMIT).await.map(drop).map_err(|(error, _)| error.into())
    }

    /// Deletes a topic.
    pub async fn delete(&self, topic: Topic) -> Result<()> {
        let name = self.name(topic.name());
        let deleted = self.admin()?.delete_topics(&[&name], &AdminOptions::new()).await?;
        deleted.into_iter().try_for_each(|one| one.map(drop).map_err(|(name, error)| anyhow!("{name}: {error}")))
    }

    /// Whether a topic exists.
    pub async fn exists(&self, topic: Topic) -> Result<Option<()>> {
        let (this, name) = (self.clone(), self.name(topic.name()));
        let found = tokio::task::spawn_blocking(move || -> Result<bool> {
            let metadata = this.consumer("ledger")?.fetch_metadata(None, LIMIT)?;
            Ok(metadata.topics().iter().any(|topic| topic.name() == name && topic.error().is_none()))
        });
        Ok(found.await??.then_some(()))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    /// The whole name of a topic or group.
    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        let mut config = self.client();
        config.set("group.id", self.name(group)).set("enable.auto.commit", "false");
        Ok(config.create()?)
    }

    /// The partitions of a topic, the first offset of each and the one after its last; none of a topic
    /// that does not exist.
    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64, i64)>> {
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic).context("no such topic")?;
        found
            .partitions()
            .iter()
            .map(|partition| {
                let (first, end) = consumer.fetch_watermarks(topic, partition.id(), LIMIT)?;
                Ok((partition.id(), first, end))
            })
            .collect()
    }

    /// Everything on a topic, one partition after the other.
    fn read<T>(&self, topic: &str, one: impl Fn(&BorrowedMessage) -> Result<T>) -> Result<Vec<T>> {
        let topic = self.name(topic);
        let consumer = self.consumer("ledger")?;
        let mut all = Vec::new();
        for (partition, first, end) in self.partitions(&consumer, &topic)? {
            let mut assigned = TopicPartitionList::new();
            assigned.add_partition_offset(&topic, partition, Offset::Offset(first))?;
            consumer.assign(&assigned)?;
            let (mut next, begun) = (first, Instant::now());
            while next < end {
                ensure!(begun.elapsed() < LIMIT, "{topic}/{partition} ends at {next} instead of {end}");
                let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
                let message = message?;
                next = message.offset() + 1;
                all.push(one(&message)?);
            }
        }
        Ok(all)
    }

    fn lag(&self, topic: Topic, group: &str) -> Result<i64> {
        let consumer = self.consumer(&format!("{group}.{}", topic.name()))?;
        let name = self.name(topic.name());
        let partitions = self.partitions(&consumer, &name)?;
        let mut list = TopicPartitionList::new();
        for (partition, ..) in &partitions {
            list.add_partition(&name, *partition);
        }
        let committed = consumer.committed_offsets(list, LIMIT)?;
        let of = |partition: i32, first: i64| match committed.find_partition(&name, partition).map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => first,
        };
        Ok(partitions.into_iter().map(|(partition, first, end)| end - of(partition, first)).sum())
    }
}

fn header(message: &BorrowedMessage, name: &str) -> Option<String> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}

fn entry(message: &BorrowedMessage) -> Result<Entry> {
    let key = String::from_utf8(message.key().unwrap_or_default().to_vec())?;
    let version = header(message, "schema-version").context("no schema version")?;
    ensure!(header(message, "claim").is_none(), "the ledger follows no claims");
    Ok(Entry {
        key: StreamId::from_raw(key),
        version: version.parse().unwrap_or(0),
        payload: message.payload().unwrap_or_default().to_vec(),
    })
}
