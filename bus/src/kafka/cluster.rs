//! The cluster as its clients know it: addresses, settings, names.

use rdkafka::config::ClientConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crest_core::instance::InstanceId;
use crest_core::topic::Topic;
use crest_core::{Error, Result};

use super::config::{KafkaConfig, addresses};

/// Where records lie that cannot be read.
const DEAD_LETTERS: &str = "dead-letters";

/// What a record and its headers take beside the payload, at most, on the wire.
const AROUND: u64 = 64 << 10;
/// What the broker takes where a topic does not say.
const USUAL_MAX: u64 = 1_048_588;

/// How many buses this process has opened.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// A cluster, and how this process speaks to it.
pub(crate) struct Cluster {
    /// Which of the buses that this process has opened it is.
    pub(crate) number: u64,
    /// The addresses, for Kafka's libraries and for messages.
    pub(crate) brokers: String,
    pub(crate) config: KafkaConfig,
    instance: InstanceId,
    names: Vec<String>,
    pub(crate) dead_letters: String,
    /// Whether it was said that no broker can be reached.
    pub(crate) away: AtomicBool,
}

impl Cluster {
    pub(crate) fn new(brokers: &[String], config: KafkaConfig, instance: &InstanceId) -> Result<Arc<Self>> {
        config.check()?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if instance.as_str().is_empty() || instance.as_str().len() > 100 || !instance.as_str().chars().all(legal) {
            return Err(Error::ours(format!("'{instance}' cannot be the id of a member of a group")));
        }
        Ok(Arc::new(Self {
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            brokers: addresses(brokers)?,
            names: Topic::ALL.iter().map(|topic| format!("{}{}", config.prefix, topic.name())).collect(),
            dead_letters: format!("{}{DEAD_LETTERS}", config.prefix),
            config,
            instance: instance.clone(),
            away: AtomicBool::new(false),
        }))
    }

    /// The name that the topic has in this cluster.
    pub(crate) fn topic(&self, topic: Topic) -> &str {
        self.names.get(topic as usize).map_or(topic.name(), String::as_str)
    }

    /// The name that a group has in this cluster. Each topic has groups of its own: a member that comes or
    /// goes moves nothing on other topics.
    pub(crate) fn group(&self, topic: Topic, group: &str) -> String {
        format!("{}{group}.{}", self.config.prefix, topic.name())
    }

    /// The name of a member that stays the same over restarts. The subscriptions that one process has open of
    /// one topic and group are counted by `slot`.
    pub(crate) fn member(&self, topic: Topic, slot: usize) -> String {
        let (instance, topic) = (&self.instance, topic.name());
        if slot == 0 { format!("{instance}.{topic}") } else { format!("{instance}.{topic}.{slot}") }
    }

    /// The largest record that a topic must take. Samples are never put elsewhere, for that could wait.
    pub(crate) fn largest(&self, topic: Option<Topic>) -> u64 {
        let inline = self.config.max_inline_bytes.as_u64();
        match topic {
            Some(topic) if !topic.durable() => crate::MAX_PAYLOAD_BYTES as u64 + AROUND,
            Some(_) => (inline + AROUND).max(USUAL_MAX),
            // A dead letter says more than the record it was.
            None => (inline + 2 * AROUND).max(USUAL_MAX + AROUND),
        }
    }

    /// The settings that all clients have in common.
    pub(crate) fn settings(&self) -> ClientConfig {
        let config = &self.config;
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("crest-{}", self.instance))
            .set("security.protocol", config.security_protocol.name())
            // With its own settings, and nobody else makes topics.
            .set("allow.auto.create.topics", "false")
            // A topic that was deleted is noticed, and so is the one that replaces it.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.timeout.ms", millis(config.request_timeout.0))
            .set("socket.connection.setup.timeout.ms", millis(config.request_timeout.0))
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false")
            .set("enable.metrics.push", "false");
        if config.security_protocol.sasl() {
            settings
                .set("sasl.mechanism", config.sasl_mechanism.name())
                .set("sasl.username", &config.username)
                .set("sasl.password", &config.password.0);
        }
        if let Some(file) = &config.ca_file {
            settings.set("ssl.ca.location", file.to_string_lossy());
        }
        settings
    }
}

/// As Kafka's libraries take a time.
pub(crate) fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// As Kafka's libraries take a size in KiB.
pub(crate) fn kib(bytes: u64) -> String {
    (bytes >> 10).max(1).to_string()
}
