//! The thread of a subscription: it polls Kafka's library and fills what the subscription takes from.
//!
//! How partitions come and go is provably right by three rules:
//!
//! - One thread does everything: it polls, and while it polls it is told of partitions that come and go. So
//!   nothing is read of a partition while it is being given up.
//! - The group is answered at once that a partition is taken, but with nothing to fetch. It is added to what
//!   is fetched later, by its offset: when it is known what it holds, and with [`Start::Asked`] when it was
//!   said from where. There is no moment at which it could be fetched from somewhere else, and nothing has to
//!   be paused or sought.
//! - A record carries the generation of its partition, which changes whenever reading it begins anew or ends.
//!   The subscription is handed only records of the present generation, under the same lock that changes it.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

use crest_core::bus::{Assigned, Partition, Position, Start};
use crest_core::{Error, Result};

use super::super::cluster::{kib, millis};
use super::super::metrics;
use super::super::watch::{code, forbidden, passes, request};
use super::super::wire::{self, Content};
use super::context::{Client, Group, list, offset_at};
use super::members::Seat;
use super::state::{Item, Phase, Shared};

/// Records that are handed over at once.
const BATCH: usize = 64;
/// How often polling is tried before the thread looks after the rest.
const POLLS: usize = 1024;
/// How often the brokers are told what was acknowledged.
const COMMIT: Duration = Duration::from_millis(100);
/// How long a full read-ahead waits for the stage before fetching is paused, and what was fetched is let go.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits before it tries again what failed.
const AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked for a topic that is missing, and how long it may take until all brokers know one.
const LOOK: Duration = Duration::from_millis(500);
const SPREAD: Duration = Duration::from_secs(3);
/// How often the same trouble is told.
const TELL: Duration = Duration::from_secs(5);
/// The longest that it sleeps.
const SLEEP: Duration = Duration::from_secs(1);

/// A partition that is being read.
struct Reading {
    generation: u64,
    /// Offset of the next record.
    next: u64,
    /// What lies before it was acknowledged before.
    seen: u64,
}

/// What polling came to.
enum Polled {
    /// There is nothing more now.
    Idle,
    More,
    /// The client can do nothing any more.
    Dead(String),
}

/// However the thread ends, nobody waits for it.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.news.notify_one();
    }
}

pub(crate) struct Thread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seat: Arc<Seat>,
    /// Where partitions end that were there when a subscription of the latest began.
    pub(crate) ends: BTreeMap<Partition, u64>,
    /// Called where the topic does not exist any more.
    pub(crate) missing: Arc<dyn Fn() + Send + Sync>,
    reading: BTreeMap<Partition, Reading>,
    batch: Vec<Item>,
    paused: bool,
    full_since: Option<Instant>,
    commit_at: Instant,
    try_at: Instant,
    failing_since: Option<Instant>,
    /// Since when the brokers answer and the group does not let this member in.
    outside_since: Option<Instant>,
    /// Since when the brokers do not know the topic, and when that is looked at again.
    unknown_since: Option<Instant>,
    look_at: Instant,
    tell_at: Instant,
}

impl Thread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        seat: Arc<Seat>,
        ends: BTreeMap<Partition, u64>,
        missing: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            seat,
            ends,
            missing,
            reading: BTreeMap::new(),
            batch: Vec::new(),
            paused: false,
            full_since: None,
            commit_at: now,
            try_at: now,
            failing_since: None,
            outside_since: None,
            unknown_since: None,
            look_at: now,
            tell_at: now,
        }
    }

    /// A client that is a member of the group.
    pub(crate) fn connect(shared: &Arc<Shared>, seat: &Seat) -> Result<Client> {
        let (cluster, config) = (&shared.cluster, &shared.cluster.config);
        let mut settings = cluster.settings();
        settings
            .set("group.id", cluster.group(shared.topic, &shared.group))
            .set("group.instance.id", cluster.member(shared.topic, seat.number()))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(config.session_timeout.0))
            .set("heartbeat.interval.ms", millis(config.session_timeout.0 / 4))
            // The thread polls whatever the stage does, and looks itself whether that is stuck.
            .set("max.poll.interval.ms", millis(config.stall_timeout.0.max(config.handover.0 * 2)))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", kib(config.prefetch_bytes.as_u64() / 2))
            .set("fetch.max.bytes", (config.prefetch_bytes.as_u64() / 4).to_string())
            .set("fetch.message.max.bytes", (config.prefetch_bytes.as_u64() / 4).min(1 << 20).to_string())
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100")
            .set("statistics.interval.ms", "5000");
        let mut client: Client = settings
            .create_with_context(Group::new(shared.clone()))
            .map_err(|error| request(cluster, "making a consumer", &error))?;
        let signal = shared.signal.clone();
        client.set_nonempty_callback(move || signal.raise());
        subscribe(&client, shared)?;
        Ok(client)
    }

    /// Reads until the subscription is dropped.
    pub(crate) fn run(mut self, client: Client) {
        let _over = Over(self.shared.clone());
        let mut client = Some(client);
        loop {
            match client.take() {
                Some(connected) => {
                    let Some(why) = self.read(&connected) else { return self.close(connected) };
                    warn!(topic = self.shared.topic.name(), group = self.shared.group, "reading begins anew: {why}");
                    self.lose(connected);
                }
                None => match Self::connect(&self.shared, &self.seat) {
                    Ok(connected) => client = Some(connected),
                    Err(error) => self.tell(error),
                },
            }
            if client.is_none() {
                self.shared.signal.wait(SLEEP);
            }
            if self.shared.lock().closing && client.is_none() {
                return;
            }
        }
    }

    /// Reads until the subscription is dropped, or why it cannot.
    fn read(&mut self, client: &Client) -> Option<String> {
        loop {
            if self.shared.lock().closing {
                return None;
            }
            self.look_after(client);
            if let Some(why) = self.kept_out(client) {
                return Some(why);
            }
            match self.poll(client) {
                Polled::More => {}
                Polled::Idle => self.sleep(),
                Polled::Dead(why) => return Some(why),
            }
        }
    }

    /// Why it is better to join anew, with another client. Kafka's library, having lost what it had while the
    /// brokers were silent, was seen to wait for ever for what does not come.
    fn kept_out(&mut self, client: &Client) -> Option<String> {
        let cluster = &self.shared.cluster;
        if client.context().inside() || cluster.away.load(Ordering::Relaxed) || self.shared.lock().left {
            self.outside_since = None;
            return None;
        }
        // Members hear of a rebalance with a heartbeat, and have so long to finish what they were handed.
        let patience = cluster.config.session_timeout.0 * 2 + cluster.config.handover.0;
        let since = self.outside_since.get_or_insert_with(Instant::now);
        if since.elapsed() < patience {
            return None;
        }
        self.outside_since = None;
        Some(format!("the brokers answer, and the group has not let this process in for {} s", patience.as_secs()))
    }

    fn sleep(&self) {
        let now = Instant::now();
        let mut until = now + SLEEP;
        let state = self.shared.lock();
        if state.uncommitted().next().is_some() {
            until = until.min(self.commit_at);
        }
        if state.partitions.values().any(|held| matches!(held.phase, Phase::New | Phase::Begin(_))) {
            until = until.min(self.try_at);
        }
        drop(state);
        if self.unknown_since.is_some() {
            until = until.min(self.look_at);
        }
        self.shared.signal.wait(until.saturating_duration_since(now));
    }

    /// Takes what the library has, as far as there is room for it.
    fn poll(&mut self, client: &Client) -> Polled {
        if self.full(client) {
            return Polled::More;
        }
        for _ in 0..POLLS {
            let before = client.context().called();
            match client.poll(Duration::ZERO) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    self.hand_over();
                    if let Some(why) = self.failed(client, &error) {
                        return Polled::Dead(why);
                    }
                }
                None => {
                    self.hand_over();
                    if client.context().called() == before {
                        return Polled::Idle;
                    }
                }
            }
            if self.batch.len() >= BATCH && self.hand_over() >= self.shared.most {
                return Polled::More;
            }
        }
        self.hand_over();
        Polled::More
    }

    /// Where there is no room: waits a little, then pauses fetching, so that partitions can still come and go.
    fn full(&mut self, client: &Client) -> bool {
        let bytes = self.shared.lock().bytes();
        if self.paused {
            if bytes < self.shared.most / 2 {
                self.pause(client, false);
            }
            return false;
        }
        if bytes < self.shared.most {
            self.full_since = None;
            return false;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        match PATIENCE.checked_sub(since.elapsed()) {
            Some(left) => {
                self.shared.signal.wait(left.max(Duration::from_millis(1)));
                true
            }
            None => {
                self.pause(client, true);
                false
            }
        }
    }

    fn pause(&mut self, client: &Client, pause: bool) {
        let state = self.shared.lock();
        let fetched = state.partitions.iter().filter(|(_, held)| held.fetched);
        let fetched = list(self.shared.name(), fetched.map(|(partition, _)| (*partition, Offset::Invalid)));
        drop(state);
        let done = match &fetched {
            Some(fetched) if pause => client.pause(fetched),
            Some(fetched) => client.resume(fetched),
            None => Ok(()),
        };
        if let Err(error) = done {
            warn!(topic = self.shared.topic.name(), pause, "fetching could not be paused or resumed: {error}");
        }
        self.paused = pause;
        self.full_since = None;
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let place = Partition::try_from(message.partition()).ok().zip(u64::try_from(message.offset()).ok());
        let Some((partition, offset)) = place else { return };
        let Some(reading) = self.reading.get_mut(&partition) else { return };
        if offset < reading.next {
            // Fetched again after a pause.
            return;
        }
        reading.next = offset + 1;
        let seen = offset < reading.seen;
        let content = wire::read(self.shared.topic, message);
        let raw = match content {
            Content::Whole(_) => None,
            // It was set aside when it was seen first.
            Content::Unreadable(_) if seen => return,
            _ => Some(Arc::new(wire::raw(message))),
        };
        let position = Position { partition, offset };
        self.batch.push(Item { position, generation: reading.generation, seen, content, raw });
    }

    /// Hands over what was read; how many bytes wait now.
    fn hand_over(&mut self) -> usize {
        let mut state = self.shared.lock();
        if self.batch.is_empty() {
            return state.bytes();
        }
        state.read(&mut self.batch);
        let bytes = state.bytes();
        drop(state);
        self.shared.news.notify_one();
        bytes
    }

    /// What polling failed with; why nothing more can come, if so.
    fn failed(&mut self, client: &Client, error: &KafkaError) -> Option<String> {
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
                let group = cluster.group(self.shared.topic, &self.shared.group);
                let error = forbidden(cluster, &format!("read the topic {name} as the group {group} ({code})"));
                self.tell(Error { retryable: true, ..error });
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.reset(client),
            Code::InvalidSessionTimeout => self.tell(Error::user(
                "the brokers do not take bus.kafka.session_timeout; see group.min.session.timeout.ms and \
                 group.max.session.timeout.ms in their settings",
            )),
            _ => debug!(topic = self.shared.topic.name(), "reading failed for a moment: {error}"),
        }
        None
    }

    /// Looks whether the topic exists that a broker did not know: one that was just made is known to all of
    /// them only after a moment.
    fn look_for_topic(&mut self, client: &Client, since: Instant) {
        let name = self.shared.name();
        self.look_at = Instant::now() + LOOK;
        let Ok(metadata) = client.fetch_metadata(Some(name), LOOK) else { return };
        let there = |topic: &MetadataTopic| topic.error().is_none() && !topic.partitions().is_empty();
        if metadata.topics().iter().any(there) {
            self.unknown_since = None;
        } else if since.elapsed() >= SPREAD {
            (self.missing)();
            self.tell(Error::outside(format!("the topic {name} does not exist: it was deleted; it is made again")));
        }
    }

    /// Tells the stage of trouble, not too often.
    fn tell(&mut self, error: Error) {
        let now = Instant::now();
        if now >= self.tell_at {
            self.tell_at = now + TELL;
            self.shared.fail(error);
        }
    }

    /// Everything but polling.
    fn look_after(&mut self, client: &Client) {
        let now = Instant::now();
        if now >= self.commit_at && client.context().commit(client) {
            self.commit_at = now + COMMIT;
        }
        if now >= self.try_at && !self.paused {
            match self.learn(client).and_then(|()| self.begin(client)) {
                Ok(()) => self.failing_since = None,
                Err(error) => self.not_learned(&error),
            }
        }
        if let Some(since) = self.unknown_since
            && now >= self.look_at
        {
            self.look_for_topic(client, since);
        }
        self.look_at_stage(client);
    }

    /// What partitions hold could not be learned.
    fn not_learned(&mut self, error: &KafkaError) {
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

    /// Leaves the group when the stage is stuck, joins it again when it goes on.
    fn look_at_stage(&mut self, client: &Client) {
        let mut state = self.shared.lock();
        let limit = self.shared.cluster.config.stall_timeout.0;
        let stuck = state.at_work().is_some_and(|at_work| at_work >= limit);
        if stuck && !state.left && !state.partitions.is_empty() {
            state.left = true;
            drop(state);
            warn!(
                topic = self.shared.topic.name(),
                group = self.shared.group,
                "the stage did not ask for more for {} s (bus.kafka.stall_timeout); its partitions go to others",
                limit.as_secs_f32()
            );
            client.unsubscribe();
        } else if !stuck && state.left {
            state.left = false;
            drop(state);
            info!(topic = self.shared.topic.name(), group = self.shared.group, "the stage goes on");
            if let Err(error) = subscribe(client, &self.shared) {
                self.shared.lock().left = true;
                self.tell(error);
            }
        }
    }

    /// Learns what new partitions hold and where the group is in them, and tells it.
    fn learn(&mut self, client: &Client) -> Result<(), KafkaError> {
        let new = self.in_phase(|phase| phase == Phase::New);
        let Some(asked) = list(self.shared.name(), new.iter().map(|(p, _)| (*p, Offset::Invalid))) else {
            return Ok(());
        };
        let timeout = self.shared.cluster.config.request_timeout.0;
        let committed = client.committed_offsets(asked, timeout)?;
        let mut learned = Vec::new();
        for (partition, _) in new {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            let committed = match committed.find_partition(self.shared.name(), number) {
                Some(found) => found.error().map(|()| found.offset())?,
                None => Offset::Invalid,
            };
            let committed = if let Offset::Offset(offset) = committed { u64::try_from(offset).ok() } else { None };
            let (first, end) = self.holds(client, partition)?;
            learned.push((Assigned { partition, first, end }, committed));
        }
        let mut state = self.shared.lock();
        for (assigned, committed) in &learned {
            let begin = self.first_offset(*assigned, *committed);
            let Some(held) = state.partitions.get_mut(&assigned.partition) else { continue };
            let done = committed.unwrap_or(0).min(assigned.end);
            (held.acknowledged, held.committed, held.end) = (done, done, assigned.end);
            held.phase = begin.map_or(Phase::Asked, Phase::Begin);
            let seen = if matches!(self.shared.start, Start::Rewound(_)) { done } else { 0 };
            let reading = Reading { generation: held.generation, next: 0, seen };
            self.reading.insert(assigned.partition, reading);
        }
        state.tell(learned.into_iter().map(|(assigned, _)| assigned).collect());
        drop(state);
        self.shared.news.notify_one();
        Ok(())
    }

    fn in_phase(&self, wanted: impl Fn(Phase) -> bool) -> Vec<(Partition, Phase)> {
        let state = self.shared.lock();
        let found = state.partitions.iter().filter(|(_, held)| wanted(held.phase));
        found.map(|(partition, held)| (*partition, held.phase)).collect()
    }

    /// The first offset that is kept, and the one that comes next.
    fn holds(&self, client: &Client, partition: Partition) -> Result<(u64, u64), KafkaError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let timeout = self.shared.cluster.config.request_timeout.0;
        let (first, end) = client.fetch_watermarks(self.shared.name(), number, timeout)?;
        Ok((u64::try_from(first).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
    }

    /// Where reading begins; `None` where that is to be asked for.
    fn first_offset(&self, Assigned { partition, first, end }: Assigned, committed: Option<u64>) -> Option<u64> {
        Some(match self.shared.start {
            Start::Asked => return None,
            // Another member of the group may have come further meanwhile.
            Start::Latest => {
                let began = self.ends.get(&partition).copied().unwrap_or(first);
                committed.map_or(began, |committed| committed.max(began)).clamp(first, end.max(first))
            }
            Start::Acknowledged => committed.unwrap_or(first),
            Start::Rewound(records) => match committed {
                None => first,
                // What is not kept any more was worked off; only what was not is missed.
                Some(committed) => committed.saturating_sub(records).max(first).min(committed),
            },
        })
    }

    /// Begins to fetch what is to be read from somewhere.
    fn begin(&mut self, client: &Client) -> Result<(), KafkaError> {
        for (partition, phase) in self.in_phase(|phase| matches!(phase, Phase::Begin(_))) {
            let Phase::Begin(asked) = phase else { continue };
            let (first, end) = self.holds(client, partition)?;
            if asked < first {
                metrics::missed(&self.shared, first - asked);
                warn!(
                    topic = self.shared.topic.name(),
                    group = self.shared.group,
                    partition,
                    missed = first - asked,
                    "records were trimmed before this reader came to them"
                );
            } else if asked > end {
                warn!(
                    topic = self.shared.topic.name(),
                    group = self.shared.group,
                    partition,
                    asked,
                    end,
                    "the partition ends before what was read of it, as one does that was made anew; it is read from \
                     its first record"
                );
            }
            let from = if (first..=end).contains(&asked) { asked } else { first };
            let mut state = self.shared.lock();
            let Some(held) = state.partitions.get_mut(&partition) else { continue };
            if held.phase != phase {
                continue;
            }
            let (fetched, generation) = (held.fetched, held.generation);
            (held.phase, held.fetched, held.end) = (Phase::Reading, true, end);
            drop(state);
            let seen = self.reading.get(&partition).map_or(0, |reading| reading.seen);
            self.reading.insert(partition, Reading { generation, next: from, seen });
            self.fetch(client, partition, from, fetched);
        }
        Ok(())
    }

    /// Fetches a partition from here on.
    fn fetch(&self, client: &Client, partition: Partition, from: u64, fetched: bool) {
        let at = |offset| {
            list(self.shared.name(), [(partition, offset)].into_iter()).unwrap_or_else(TopicPartitionList::new)
        };
        let ended = if fetched { client.incremental_unassign(&at(Offset::Invalid)) } else { Ok(()) };
        let begun = ended
            // Kafka's library remembers a pause from when the partition was held before.
            .and_then(|()| client.resume(&at(Offset::Invalid)))
            .and_then(|()| client.incremental_assign(&at(offset_at(from))));
        if let Err(error) = begun {
            warn!(topic = self.shared.topic.name(), partition, "a partition could not be read: {error}");
        }
    }

    /// An offset is not there any more: finds out whose, and goes on where it can.
    fn reset(&mut self, client: &Client) {
        self.hand_over();
        for (partition, _) in self.in_phase(|phase| phase == Phase::Reading) {
            let Some(next) = self.reading.get(&partition).map(|reading| reading.next) else { continue };
            let Ok((first, end)) = self.holds(client, partition) else {
                // Asked again with the next error.
                continue;
            };
            let mut state = self.shared.lock();
            if next < first {
                if let Some(held) = state.partitions.get_mut(&partition) {
                    held.phase = Phase::Begin(next);
                }
            } else if next > end {
                warn!(topic = self.shared.topic.name(), partition, next, end, "the partition was made anew");
                state.give_up(&[partition]);
                state.gone(&[partition]);
                state.give(partition);
                drop(state);
                self.reading.remove(&partition);
                if let Some(list) = list(self.shared.name(), [(partition, Offset::Invalid)].into_iter()) {
                    let _ = client.incremental_unassign(&list);
                }
                self.shared.news.notify_one();
            } else {
                drop(state);
                // It was somebody else's error, or it has passed.
                self.fetch(client, partition, next, true);
            }
        }
    }

    /// Gives up everything; another client begins anew.
    fn lose(&mut self, client: Client) {
        let mut state = self.shared.lock();
        let held: Vec<Partition> = state.partitions.keys().copied().collect();
        state.give_up(&held);
        state.gone(&held);
        state.left = false;
        drop(state);
        self.shared.news.notify_one();
        self.reading.clear();
        self.batch.clear();
        self.paused = false;
        // Leaving may take as long as whatever went wrong.
        client.context().retire();
        let leaving = std::thread::Builder::new().name("kafka leaving".to_owned()).spawn(move || drop(client));
        if let Err(error) = leaving {
            warn!("no thread can be made to leave a group: {error}");
        }
    }

    /// The subscription was dropped.
    fn close(self, client: Client) {
        client.context().commit_now(&client, None);
        // A member that keeps its name does not leave the group, so that it can come back.
        drop::<BaseConsumer<Group>>(client);
        metrics::over(&self.shared);
        drop(self.seat);
    }
}

fn subscribe(client: &Client, shared: &Shared) -> Result<()> {
    let subscribed = client.subscribe(&[shared.name()]);
    subscribed.map_err(|error| request(&shared.cluster, "subscribing", &error))
}
