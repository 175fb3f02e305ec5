//! What Kafka's library calls while the thread polls it: partitions come and go, offsets are committed.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

use crest_core::bus::Partition;

use super::super::metrics;
use super::super::watch::{Watch, code};
use super::state::Shared;

pub(crate) type Client = BaseConsumer<Group>;

/// This member's side of the group.
pub(crate) struct Group {
    shared: Arc<Shared>,
    watch: Watch,
    /// How often anything was called: polling that returns nothing may have done something.
    called: AtomicU64,
    /// Whether the group has let this member in since it joined or lost what it had, be it with nothing to read.
    inside: AtomicBool,
    /// Whether another client reads instead: what happens to this one concerns nobody any more.
    retired: AtomicBool,
    /// What the brokers were told last, and when.
    sent: Mutex<Option<(Offsets, Instant)>>,
}

/// Partitions, and offsets in them.
type Offsets = Vec<(Partition, u64)>;

/// How long after the last commit it is asked what became of it.
const CONFIRM: Duration = Duration::from_secs(2);
/// How long the brokers may take to answer that.
const ANSWER: Duration = Duration::from_secs(1);

impl Group {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let watch = Watch::new(shared.cluster.clone());
        Self {
            shared,
            watch,
            called: AtomicU64::new(0),
            inside: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            sent: Mutex::default(),
        }
    }

    pub(crate) fn inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn called(&self) -> u64 {
        self.called.load(Ordering::Relaxed)
    }

    fn call(&self) {
        self.called.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the brokers what was acknowledged, in the background. Whether something is left to be told.
    ///
    /// Kafka's library does not say what became of a commit that it was asked for and that nobody waits for:
    /// once nothing new was acknowledged for a while, the brokers are asked what they know.
    pub(crate) fn commit(&self, consumer: &Client) -> bool {
        let behind: Vec<(Partition, u64)> = self.shared.lock().uncommitted().collect();
        let Some(offsets) = self.list(behind.iter().copied()) else { return false };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sent {
            Some((known, since)) if *known == behind => {
                if since.elapsed() >= CONFIRM {
                    // What the brokers do not know by now is told again.
                    *sent = None;
                    match consumer.committed_offsets(offsets, ANSWER) {
                        Ok(known) => self.note(&known),
                        Err(error) => self.not_yet(&error),
                    }
                }
            }
            _ => match consumer.commit(&offsets, CommitMode::Async) {
                Ok(()) => *sent = Some((behind, Instant::now())),
                Err(error) => self.not_yet(&error),
            },
        }
        true
    }

    fn not_yet(&self, error: &KafkaError) {
        debug!(topic = self.shared.topic.name(), "what was acknowledged is not committed yet: {error}");
    }

    /// Tells the brokers what was acknowledged of these partitions, or of all, and waits.
    pub(crate) fn commit_now(&self, consumer: &Client, of: Option<&[Partition]>) {
        let wanted = |(partition, _): &(Partition, u64)| of.is_none_or(|of| of.contains(partition));
        let Some(offsets) = self.list(self.shared.lock().uncommitted().filter(wanted)) else { return };
        match consumer.commit(&offsets, CommitMode::Sync) {
            Ok(()) => self.note(&offsets),
            // It is handed out again.
            Err(error) => warn!(
                topic = self.shared.topic.name(),
                group = self.shared.group,
                "the last acknowledged records could not be committed: {error}"
            ),
        }
    }

    fn note(&self, offsets: &TopicPartitionList) {
        let mut state = self.shared.lock();
        for element in offsets.elements().iter().filter(|element| element.error().is_ok()) {
            if let (Ok(partition), Offset::Offset(offset)) =
                (Partition::try_from(element.partition()), element.offset())
            {
                state.committed(partition, u64::try_from(offset).unwrap_or(0));
            }
        }
    }

    fn list(&self, offsets: impl Iterator<Item = (Partition, u64)>) -> Option<TopicPartitionList> {
        list(self.shared.name(), offsets.map(|(partition, offset)| (partition, offset_at(offset))))
    }

    fn assigned(&self, consumer: &Client, partitions: &[Partition]) {
        self.inside.store(true, Ordering::Relaxed);
        let mut state = self.shared.lock();
        for partition in partitions {
            state.give(*partition);
        }
        drop(state);
        // The group is answered at once. What is fetched of the partitions, and from where, is decided by the
        // thread when it knows what they hold.
        if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
            warn!(topic = self.shared.topic.name(), "partitions could not be taken: {error}");
        }
    }

    fn revoked(&self, consumer: &Client, partitions: &[Partition]) {
        let lost = consumer.assignment_lost();
        // What it is to have instead is told next, be it nothing.
        self.inside.store(false, Ordering::Relaxed);
        let mut state = self.shared.lock();
        let stalled = state.left;
        let fetched: Vec<Partition> =
            partitions.iter().copied().filter(|p| state.partitions.get(p).is_some_and(|held| held.fetched)).collect();
        let told = state.give_up(partitions);
        drop(state);
        self.shared.news.notify_one();
        // Nobody else has them before this returns: the stage finishes what it was handed, so that it is not
        // done twice. What is lost already is not waited for.
        if let Some(ticket) = told
            && !lost
            && !stalled
        {
            self.wait_until_handled(ticket);
        }
        if !lost {
            self.commit_now(consumer, Some(partitions));
        }
        self.shared.lock().gone(partitions);
        self.give_back(consumer, &fetched);
    }

    /// Takes partitions out of what is fetched, and lets the group go on.
    fn give_back(&self, consumer: &Client, fetched: &[Partition]) {
        let some = |partitions: &[Partition]| {
            let partitions = partitions.iter().map(|partition| (*partition, Offset::Invalid));
            let some = list(self.shared.name(), partitions).unwrap_or_else(TopicPartitionList::new);
            consumer.incremental_unassign(&some)
        };
        let Err(error) = some(fetched) else { return };
        // One that is not fetched spoils it for all, and the group would wait for an answer for ever.
        warn!(topic = self.shared.topic.name(), "partitions were given up one by one: {error}");
        let given_up = fetched.iter().filter(|partition| some(&[**partition]).is_ok()).count();
        if given_up == 0
            && let Err(error) = some(&[])
        {
            warn!(topic = self.shared.topic.name(), "partitions could not be given up: {error}");
        }
    }

    /// Answers for a client that is on its way out, which would wait for the answer for ever.
    fn decline(&self, consumer: &Client, what: RDKafkaRespErr) {
        let answered = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            consumer.assignment().and_then(|fetched| consumer.incremental_unassign(&fetched))
        };
        if let Err(error) = answered {
            debug!(topic = self.shared.topic.name(), "a client that leaves could not answer its group: {error}");
        }
    }

    fn wait_until_handled(&self, ticket: u64) {
        let end = Instant::now() + self.shared.cluster.config.handover.0;
        loop {
            let state = self.shared.lock();
            if state.closing || state.handled(ticket) {
                return;
            }
            drop(state);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                warn!(
                    topic = self.shared.topic.name(),
                    group = self.shared.group,
                    "a partition goes to another process while its records are still worked on; the stage took longer \
                     than bus.kafka.handover"
                );
                return;
            }
            self.shared.signal.wait(left.min(Duration::from_millis(100)));
        }
    }
}

/// An offset as Kafka's library takes it.
pub(crate) fn offset_at(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// A list of partitions of a topic, unless it is empty.
pub(crate) fn list(topic: &str, offsets: impl Iterator<Item = (Partition, Offset)>) -> Option<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        // Fails for no offset that is made here.
        let _ = list.add_partition_offset(topic, partition, offset);
    }
    (list.count() > 0).then_some(list)
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.call();
        self.watch.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.call();
        // Errors of a topic are errors of polling as well, and explained there.
        match code(&error) {
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::AutoOffsetReset => debug!("{reason}"),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => debug!("{reason}"),
            _ if self.retired.load(Ordering::Relaxed) => debug!("{reason}"),
            _ => self.watch.error(&error, reason),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.call();
        self.watch.stats(&statistics);
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        if let Some(group) = &statistics.cgrp {
            // A member with nothing to read is not called when its session ends.
            self.inside.store(group.join_state == "steady", Ordering::Relaxed);
        }
        let topic = statistics.topics.get(self.shared.name());
        let ends = topic.into_iter().flat_map(|topic| topic.partitions.iter());
        let mut state = self.shared.lock();
        for (partition, figures) in ends {
            let held = Partition::try_from(*partition).ok().and_then(|p| state.partitions.get_mut(&p));
            if let (Some(held), Ok(end)) = (held, u64::try_from(figures.hi_offset)) {
                held.end = end;
            }
        }
        metrics::held(&self.shared, &state);
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &Client, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.call();
        let elements = partitions.elements();
        let partitions: Vec<Partition> =
            elements.iter().filter_map(|element| Partition::try_from(element.partition()).ok()).collect();
        if self.retired.load(Ordering::Relaxed) {
            return self.decline(consumer, what);
        }
        if !partitions.is_empty() {
            metrics::rebalanced(&self.shared);
        }
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, &partitions);
        } else {
            self.revoked(consumer, &partitions);
        }
        metrics::held(&self.shared, &self.shared.lock());
    }
}
