//! What a client of the cluster says of itself, and what is wrong with the connection.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{debug, info, warn};

use crest_core::{Error, Fault};

use super::cluster::Cluster;

/// Listens to one client. Of the clients that lose the brokers the first says so, and the first that
/// reaches them again.
pub(crate) struct Watch {
    pub(crate) cluster: Arc<Cluster>,
    /// Whether this client has lost all brokers.
    down: AtomicBool,
    /// What is wrong with the connection, as far as it was said.
    trouble: Mutex<Option<Error>>,
}

impl Watch {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, down: AtomicBool::new(false), trouble: Mutex::default() }
    }

    /// A line of the library's log.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            // Each attempt to connect fails anew; `error` says it once.
            _ if facility == "FAIL" || facility == "ERROR" => debug!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{line}"),
            _ => debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    /// An error that concerns the client as a whole.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = code(error);
        let explained = connection(&self.cluster, code, reason);
        if code == Code::AllBrokersDown {
            // "1/3 brokers are down"
            let numbers = reason.split(' ').next().and_then(|numbers| numbers.split_once('/'));
            if numbers.is_some_and(|(down, all)| down != all) {
                return;
            }
            let known = self.trouble();
            self.down.store(true, Ordering::Relaxed);
            if !self.cluster.away.swap(true, Ordering::Relaxed) {
                warn!("{}; trying again until they can be", known.unwrap_or(explained));
            }
            return;
        }
        match code {
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => debug!("{explained}"),
            _ => warn!("{explained}"),
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody can wait for says more than that nobody answers.
        if explained.fault == Fault::User || trouble.as_ref().is_none_or(|known| known.fault != Fault::User) {
            *trouble = Some(explained);
        }
    }

    /// Figures that the client gives out now and then.
    pub(crate) fn stats(&self, statistics: &Statistics) {
        if self.down.load(Ordering::Relaxed) && statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.up();
        }
    }

    /// A broker has answered.
    pub(crate) fn up(&self) {
        if self.down.swap(false, Ordering::Relaxed) && self.cluster.away.swap(false, Ordering::Relaxed) {
            info!("the brokers at {} (bus.brokers) can be reached again", self.cluster.brokers);
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether no broker could be reached when it was last tried.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// What is wrong with the connection.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    /// Whoever waits to be told that the brokers are back is told by somebody else.
    fn drop(&mut self) {
        if self.is_down() {
            self.cluster.away.store(false, Ordering::Relaxed);
        }
    }
}

/// The code in an error of Kafka's library.
pub(crate) fn code(error: &KafkaError) -> Code {
    match error {
        // The library's own answer leaves it out.
        KafkaError::AdminOp(code) => *code,
        other => other.rdkafka_error_code().unwrap_or(Code::Unknown),
    }
}

/// What is wrong with a connection, and what to do about it.
pub(crate) fn connection(cluster: &Cluster, code: Code, reason: &str) -> Error {
    let brokers = &cluster.brokers;
    let protocol = cluster.config.security_protocol.name();
    let speaks = || {
        Error::user(format!(
            "the brokers at {brokers} (bus.brokers) do not speak bus.kafka.security_protocol = {protocol}: {reason}"
        ))
    };
    match code {
        Code::UnsupportedSASLMechanism => mechanism(cluster, reason),
        Code::Authentication if reason.to_lowercase().contains("mechanism") => mechanism(cluster, reason),
        Code::Authentication | Code::SaslAuthenticationFailed => Error::user(format!(
            "the brokers at {brokers} (bus.brokers) refuse bus.kafka.username and bus.kafka.password: {reason}"
        )),
        Code::IllegalSASLState => speaks(),
        Code::SSL if reason.contains("certificate verify failed") => Error::user(format!(
            "the certificate of the brokers at {brokers} (bus.brokers) is not trusted; set bus.kafka.ca_file to the \
             certificate of the authority that signed it: {reason}"
        )),
        Code::SSL => speaks(),
        _ if reason.contains("PLAINTEXT broker listener") || reason.contains("SSL listener") => speaks(),
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            forbidden(cluster, reason)
        }
        Code::Resolve => Error::outside(format!("an address in bus.brokers ({brokers}) cannot be resolved: {reason}")),
        _ => Error::outside(format!("the brokers at {brokers} (bus.brokers) cannot be reached: {reason}")),
    }
}

fn mechanism(cluster: &Cluster, reason: &str) -> Error {
    Error::user(format!(
        "the brokers at {} (bus.brokers) do not take bus.kafka.sasl_mechanism = {}: {reason}",
        cluster.brokers,
        cluster.config.sasl_mechanism.name()
    ))
}

/// What this process may not do.
pub(crate) fn forbidden(cluster: &Cluster, what: &str) -> Error {
    let who = match cluster.config.username.as_str() {
        "" => "a process without bus.kafka.username".to_owned(),
        name => format!("'{name}' (bus.kafka.username)"),
    };
    Error::user(format!("the brokers at {} (bus.brokers) do not allow {who} to: {what}", cluster.brokers))
}

/// Whether it passes by itself, soon: brokers agree on who leads what, after a start or a new topic.
pub(crate) fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::ReplicaNotAvailable
            | Code::BrokerNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::UnstableOffsetCommit
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::NetworkException
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
    )
}

/// What went wrong with a request to the brokers.
pub(crate) fn request(cluster: &Cluster, doing: &str, error: &KafkaError) -> Error {
    match (error, code(error)) {
        (
            _,
            code @ (Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::Resolve
            | Code::AllBrokersDown
            | Code::BrokerTransportFailure),
        ) => connection(cluster, code, doing),
        (_, Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut | Code::WaitingForCoordinator) => {
            Error::outside(format!(
                "the brokers at {} (bus.brokers) did not answer within {} s (bus.kafka.request_timeout): {doing}",
                cluster.brokers,
                cluster.config.request_timeout.0.as_secs_f32()
            ))
        }
        (KafkaError::ClientConfig(_, why, setting, _), _) => unusable(setting, why),
        (KafkaError::ClientCreation(why), _) => unusable("", why),
        _ => Error::outside(format!("the brokers at {} (bus.brokers) failed: {doing}: {error}", cluster.brokers)),
    }
}

/// Settings that Kafka's library refuses.
fn unusable(setting: &str, why: &str) -> Error {
    let named = match setting {
        _ if why.contains("ssl.ca.location") => "bus.kafka.ca_file",
        "ssl.ca.location" => "bus.kafka.ca_file",
        "sasl.mechanism" | "sasl.mechanisms" => "bus.kafka.sasl_mechanism",
        "bootstrap.servers" => "bus.brokers",
        _ => "the settings of the bus (bus.brokers, bus.kafka)",
    };
    Error::user(format!("{named} cannot be used: {why}"))
}
