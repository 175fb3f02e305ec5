//! What goes wrong while it reads: what passes, what the stage is told, and what only another client can mend.

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};
use tracing::debug;

use crest_core::Error;

use super::super::super::watch::{code, forbidden, passes, request};
use super::super::context::Client;
use super::super::state::Phase;
use super::Thread;

/// How long it waits before it tries again what failed.
const AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked for a topic that is missing, and how long it may take until all brokers know one.
const LOOK: Duration = Duration::from_millis(500);
const SPREAD: Duration = Duration::from_secs(3);
/// How often the same trouble is told.
const TELL: Duration = Duration::from_secs(5);

impl Thread {
    /// What polling failed with; why nothing more can come, if so.
    pub(super) fn failed(&mut self, client: &Client, error: &KafkaError) -> Option<String> {
        match client.client().fatal_error() {
            Some((Code::FencedInstanceId, _)) => {
                return Some("another process has the same id; does it use a copy of this data directory?".to_owned());
            }
            Some((_, why)) => return Some(why),
            None => {}
        }
        let (cluster, name) = (&self.shared.cluster, self.shared.name());
        match code(error) {
            // Said by the one who watches the connection.
            Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {}
            Code::Authentication | Code::SSL => {}
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.unknown_since.get_or_insert_with(Instant::now);
            }
            code @ (Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
                // It is let in when it is allowed to, and not sooner by asking anew.
                self.outside_since = None;
                let group = cluster.group(self.shared.topic, &self.shared.group);
                let error = forbidden(cluster, &format!("read the topic {name} as the group {group} ({code})"));
                self.tell(Error { retryable: true, ..error });
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.reset(client),
            Code::InvalidSessionTimeout => {
                self.outside_since = None;
                self.tell(Error::user(
                    "the brokers do not take bus.kafka.session_timeout; see group.min.session.timeout.ms and \
                     group.max.session.timeout.ms in their settings",
                ));
            }
            _ => debug!(topic = self.shared.topic.name(), "reading failed for a moment: {error}"),
        }
        None
    }

    /// Looks whether the topic exists that a broker did not know: one that was just made is known to all of
    /// them only after a moment.
    pub(super) fn look_for_topic(&mut self, client: &Client, since: Instant) {
        let name = self.shared.name();
        self.look_at = Instant::now() + LOOK;
        let Ok(metadata) = client.fetch_metadata(Some(name), LOOK) else { return };
        let there = |topic: &MetadataTopic| topic.error().is_none() && !topic.partitions().is_empty();
        if metadata.topics().iter().any(there) {
            self.unknown_since = None;
            if std::mem::take(&mut self.was_missing) {
                // It is another one: its offsets begin again, however many there are by now.
                for (partition, _) in self.in_phase(|phase| phase == Phase::Reading) {
                    self.give_anew(client, partition);
                }
            }
        } else if since.elapsed() >= SPREAD {
            self.was_missing = true;
            (self.missing)();
            self.tell(Error::outside(format!("the topic {name} does not exist: it was deleted; it is made again")));
        }
    }

    /// Tells the stage of trouble, not too often.
    pub(super) fn tell(&mut self, error: Error) {
        let now = Instant::now();
        if now >= self.tell_at {
            self.tell_at = now + TELL;
            self.shared.fail(error);
        }
    }

    /// What partitions hold could not be learned.
    pub(super) fn not_learned(&mut self, error: &KafkaError) {
        let now = Instant::now();
        self.try_at = now + AGAIN;
        let (code, since) = (code(error), *self.failing_since.get_or_insert(now));
        if !passes(code) || now - since >= self.shared.cluster.config.request_timeout.0 {
            if matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) {
                (self.missing)();
            }
            let told = request(&self.shared.cluster, "asking what partitions hold", error);
            self.tell(Error { retryable: true, ..told });
        }
    }
}
