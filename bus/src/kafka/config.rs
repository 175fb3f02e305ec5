//! Settings of the bus on Apache Kafka.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crest_core::units::Span;
use crest_core::{Error, Result};

/// Settings of the bus on Kafka, beside the addresses of its brokers (`bus.brokers`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// In front of the names of topics and groups, for a cluster that others use too.
    pub prefix: String,
    /// Partitions of a topic that is created: how many processes can share its work.
    pub partitions: u32,
    /// Brokers that keep a copy of a topic that is created.
    pub replication: u16,
    /// How the brokers are spoken to.
    pub security_protocol: SecurityProtocol,
    /// How this process proves who it is, where the protocol is one with SASL.
    pub sasl_mechanism: SaslMechanism,
    /// Who this process is.
    pub username: String,
    /// Its password.
    pub password: Password,
    /// Certificates of the authorities that the brokers' certificates are trusted through, as PEM; those of
    /// the system where it is not set.
    pub ca_file: Option<PathBuf>,
    /// How long the records of durable topics are kept. Kafka knows no difference between what was read and
    /// what was not: a stage that is away for longer has lost what it missed, the signals of fusion among it.
    pub retention: Span,
    /// How long samples are kept: nobody wants them later.
    pub media_retention: Span,
    /// Bytes of samples that a partition keeps.
    pub media_bytes: ByteSize,
    /// A larger payload of a durable topic lies in the object storage, and its record says where.
    pub max_inline_bytes: ByteSize,
    /// Bytes that may wait for the brokers to acknowledge them; appending waits while there are more.
    pub queue_bytes: ByteSize,
    /// Bytes of samples that may wait for the brokers; while there are more, samples are dropped.
    pub media_queue_bytes: ByteSize,
    /// Bytes that a subscription brings along before they are asked for.
    pub prefetch_bytes: ByteSize,
    /// How long the brokers have to acknowledge what is appended.
    pub append_timeout: Span,
    /// How long the brokers have to answer anything else.
    pub request_timeout: Span,
    /// How long a process may be silent before its partitions go to others. One that is started again
    /// within that time has them as before, and nobody notices.
    pub session_timeout: Span,
    /// How long a stage may work on what it was handed before its partitions go to others.
    pub stall_timeout: Span,
    /// How long a stage has to finish what it was handed of a partition that another process is to have.
    pub handover: Span,
}

/// How brokers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encrypted nor with credentials.
    Plaintext,
    /// With TLS.
    Ssl,
    /// With credentials, not encrypted.
    SaslPlaintext,
    /// With credentials and TLS.
    SaslSsl,
}

impl SecurityProtocol {
    pub(crate) fn sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// How a process proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// The password itself.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A password, which is not shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "not set" } else { "set" })
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            partitions: 8,
            replication: 1,
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: SaslMechanism::Plain,
            username: String::new(),
            password: Password::default(),
            ca_file: None,
            retention: Span(Duration::from_secs(7 * 86400)),
            media_retention: Span::secs(600),
            media_bytes: ByteSize::mib(256),
            max_inline_bytes: ByteSize::kb(900),
            queue_bytes: ByteSize::mib(64),
            media_queue_bytes: ByteSize::mib(64),
            prefetch_bytes: ByteSize::mib(16),
            append_timeout: Span::secs(10),
            request_timeout: Span::secs(10),
            session_timeout: Span::secs(10),
            stall_timeout: Span::secs(300),
            handover: Span::secs(5),
        }
    }
}

/// The least that the queues and the read-ahead may be: a few batches.
const MIN_QUEUE: ByteSize = ByteSize::mib(4);
/// The most: they are counted in 32 bits.
const MAX_QUEUE: ByteSize = ByteSize::gib(2);
/// The largest payload that is put inline.
const MAX_INLINE: ByteSize = ByteSize::mib(8);
/// The longest of the times, but for those that records are kept.
const MAX_TIME: Duration = Duration::from_secs(3600);

impl KafkaConfig {
    /// Whether the settings can be used at all.
    pub fn check(&self) -> Result<()> {
        let no = |setting: &str, rule: &str| Err(Error::user(format!("bus.kafka.{setting} must be {rule}")));
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.prefix.len() > 100 || !self.prefix.chars().all(legal) {
            return no("prefix", "at most 100 letters, digits, '.', '_' or '-'");
        }
        if !(1..=10_000).contains(&self.partitions) {
            return no("partitions", "1 to 10000");
        }
        if !(1..=100).contains(&self.replication) {
            return no("replication", "1 to 100");
        }
        let queues = [
            ("queue_bytes", self.queue_bytes),
            ("media_queue_bytes", self.media_queue_bytes),
            ("prefetch_bytes", self.prefetch_bytes),
        ];
        if let Some((name, _)) = queues.iter().find(|(_, size)| !(MIN_QUEUE..=MAX_QUEUE).contains(size)) {
            return no(name, &format!("{MIN_QUEUE} to {MAX_QUEUE}"));
        }
        if !(ByteSize::b(1)..=MAX_INLINE).contains(&self.max_inline_bytes) {
            return no("max_inline_bytes", &format!("1 B to {MAX_INLINE}"));
        }
        if self.max_inline_bytes.as_u64() > self.queue_bytes.as_u64() / 4 {
            return no("max_inline_bytes", "at most a quarter of bus.kafka.queue_bytes");
        }
        if self.media_bytes == ByteSize::b(0) || i64::try_from(self.media_bytes.as_u64()).is_err() {
            return no("media_bytes", "more than 0");
        }
        let times = [
            ("append_timeout", self.append_timeout),
            ("request_timeout", self.request_timeout),
            ("session_timeout", self.session_timeout),
            ("stall_timeout", self.stall_timeout),
        ];
        let bounds = Duration::from_secs(1)..=MAX_TIME;
        if let Some((name, _)) = times.iter().find(|(_, time)| !bounds.contains(&time.0)) {
            return no(name, "1s to 1h");
        }
        if self.handover.0 > MAX_TIME {
            return no("handover", "at most 1h");
        }
        let kept = [("retention", self.retention), ("media_retention", self.media_retention)];
        if let Some((name, _)) = kept.iter().find(|(_, time)| time.0 < Duration::from_secs(1)) {
            return no(name, "at least 1s");
        }
        if self.stall_timeout < self.session_timeout {
            return no("stall_timeout", "at least bus.kafka.session_timeout");
        }
        if self.security_protocol.sasl() && (self.username.is_empty() || self.password.0.is_empty()) {
            let missing = if self.username.is_empty() { "username" } else { "password" };
            return no(missing, &format!("set for bus.kafka.security_protocol = {}", self.security_protocol.name()));
        }
        if !self.security_protocol.sasl() && !self.username.is_empty() {
            return no("security_protocol", "sasl_plaintext or sasl_ssl for bus.kafka.username to be used");
        }
        Ok(())
    }
}

/// The addresses as Kafka's libraries take them.
pub(crate) fn addresses(brokers: &[String]) -> Result<String> {
    let wrong = |address: &&String| address.is_empty() || address.contains([',', ' ', '\n', '/']);
    match brokers.iter().find(wrong) {
        _ if brokers.is_empty() => {
            Err(Error::user("bus.brokers is not set; name at least one broker of Apache Kafka, as in kafka:9092"))
        }
        Some(address) => {
            Err(Error::user(format!("'{address}' in bus.brokers is not an address; write it as in kafka:9092")))
        }
        None => Ok(brokers.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_the_name_of_its_setting() {
        assert_eq!(KafkaConfig::default().check(), Ok(()));
        type Change = fn(&mut KafkaConfig);
        let wrong: [(&str, Change); 10] = [
            ("bus.kafka.prefix", |c| c.prefix = "a b".into()),
            ("bus.kafka.partitions", |c| c.partitions = 0),
            ("bus.kafka.queue_bytes", |c| c.queue_bytes = ByteSize::kib(1)),
            ("bus.kafka.max_inline_bytes", |c| c.max_inline_bytes = ByteSize::gib(1)),
            ("bus.kafka.max_inline_bytes", |c| {
                c.max_inline_bytes = ByteSize::mib(2);
                c.queue_bytes = ByteSize::mib(4);
            }),
            ("bus.kafka.append_timeout", |c| c.append_timeout = Span::secs(0)),
            ("bus.kafka.stall_timeout", |c| c.stall_timeout = Span::secs(2)),
            ("bus.kafka.username", |c| c.security_protocol = SecurityProtocol::SaslSsl),
            ("bus.kafka.password", |c| {
                c.security_protocol = SecurityProtocol::SaslSsl;
                c.username = "crest".into();
            }),
            ("bus.kafka.security_protocol", |c| c.username = "crest".into()),
        ];
        for (setting, change) in wrong {
            let mut config = KafkaConfig::default();
            change(&mut config);
            let message = config.check().map_err(|error| error.message);
            assert!(message.as_ref().is_err_and(|m| m.starts_with(setting)), "{setting}: {message:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = KafkaConfig { password: Password("hunter2".into()), ..KafkaConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(addresses(&["a:1".into(), "b:2".into()]), Ok("a:1,b:2".into()));
        for wrong in [vec![], vec![String::new()], vec!["http://a:1".into()], vec!["a:1,b:2".into()]] {
            assert!(addresses(&wrong).is_err_and(|e| e.message.contains("bus.brokers")), "{wrong:?}");
        }
    }
}
