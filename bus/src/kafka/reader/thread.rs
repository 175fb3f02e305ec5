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

mod membership;
mod places;
mod trouble;

use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

use crest_core::bus::{Partition, Position};

use super::super::wire::{self, Content};
use super::context::{Client, list};
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
    /// Whether it was seen that there is no such topic.
    was_missing: bool,
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
            was_missing: false,
            look_at: now,
            tell_at: now,
        }
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
            match self.poll(client) {
                Polled::More => {}
                // Only where nothing waits to be answered.
                Polled::Idle => match self.kept_out(client) {
                    None => self.sleep(),
                    why => return why,
                },
                Polled::Dead(why) => return Some(why),
            }
        }
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
}
