//! From where partitions are read: what they hold, where the group is in them, and what to do where an offset
//! is not there.

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::warn;

use crest_core::bus::{Assigned, Partition, Start};

use super::super::super::metrics;
use super::super::context::{Client, list, offset_at};
use super::super::state::Phase;
use super::{Reading, Thread};

impl Thread {
    /// Learns what new partitions hold and where the group is in them, and tells it.
    pub(super) fn learn(&mut self, client: &Client) -> Result<(), KafkaError> {
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

    pub(super) fn in_phase(&self, wanted: impl Fn(Phase) -> bool) -> Vec<(Partition, Phase)> {
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
    pub(super) fn begin(&mut self, client: &Client) -> Result<(), KafkaError> {
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
    pub(super) fn reset(&mut self, client: &Client) {
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
                drop(state);
                warn!(topic = self.shared.topic.name(), partition, next, end, "the partition was made anew");
                self.give_anew(client, partition);
            } else {
                drop(state);
                // It was somebody else's error, or it has passed.
                self.fetch(client, partition, next, true);
            }
        }
    }

    /// Begins with a partition as if the group had just given it: where the group is in it is asked again.
    pub(super) fn give_anew(&mut self, client: &Client, partition: Partition) {
        let mut state = self.shared.lock();
        state.give_up(&[partition]);
        state.gone(&[partition]);
        state.give(partition);
        drop(state);
        self.reading.remove(&partition);
        if let Some(list) = list(self.shared.name(), [(partition, Offset::Invalid)].into_iter()) {
            let _ = client.incremental_unassign(&list);
        }
        self.shared.news.notify_one();
    }
}
