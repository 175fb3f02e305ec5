//! What the thread that reads and the subscription share: which partitions are held, what is to be told of
//! them, and the records that wait to be asked for.
//!
//! All of it is behind one lock. What is told of a partition is taken out of `told` by the subscription
//! alone, and by nobody once the thread has removed it there: so nothing of a partition is handed out after
//! it was given up.

mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crest_core::Error;
use crest_core::bus::{Assigned, Next, Partition, Position, Received};

use super::super::wire::{Content, Raw};

pub(crate) use shared::Shared;

/// What a record costs beside its payload and key while it waits.
const OVERHEAD_BYTES: usize = 256;

/// A record that waits to be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) position: Position,
    pub(crate) generation: u64,
    pub(crate) seen: bool,
    pub(crate) content: Content,
    /// As it was found, where it may have to be set aside.
    pub(crate) raw: Option<Arc<Raw>>,
}

impl Item {
    pub(crate) fn bytes(&self) -> usize {
        let payload = match &self.content {
            Content::Whole(record) => record.payload.len() + record.key.as_str().len(),
            Content::Claimed(record, _) => record.key.as_str().len(),
            Content::Unreadable(_) => 0,
        };
        OVERHEAD_BYTES + payload + self.raw.as_ref().map_or(0, |raw| raw.key.len() + raw.value.len())
    }
}

/// What is to be told, in order.
#[derive(Debug)]
enum Told {
    Assigned(Vec<Assigned>),
    Revoked(Vec<Partition>),
    Record(Item),
}

/// How far a partition is on its way to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What it holds is not known yet.
    New,
    /// Told, and not to be read before it is said from where.
    Asked,
    /// To be read from here on.
    Begin(u64),
    /// Being read.
    Reading,
    /// About to be somebody else's: what was handed out of it can still be acknowledged.
    Leaving,
}

/// A partition that the group has given to this member.
#[derive(Debug)]
pub(crate) struct Held {
    /// Changes whenever reading begins anew: records of another one are not handed out.
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    /// Whether Kafka's library fetches it.
    pub(crate) fetched: bool,
    /// Whether the subscription was told that it has it.
    pub(crate) known: bool,
    /// After the last record that was handed out.
    handed: u64,
    /// What the group acknowledged, and what of it the brokers know.
    pub(crate) acknowledged: u64,
    pub(crate) committed: u64,
    /// Offset that the next record will have, as far as is known.
    pub(crate) end: u64,
}

impl Held {
    /// After the last record that was handed out.
    pub(crate) fn handed(&self) -> u64 {
        self.handed
    }
}

pub(crate) struct State {
    told: VecDeque<Told>,
    bytes: usize,
    pub(crate) partitions: BTreeMap<Partition, Held>,
    generations: u64,
    error: Option<Error>,
    /// The subscription was dropped.
    pub(crate) closing: bool,
    /// The thread has ended.
    pub(crate) over: bool,
    /// The group was left because the stage did not ask for more.
    pub(crate) left: bool,
    /// Whether the subscription waits for something to be told; if not, since when.
    waiting: bool,
    since: Instant,
    /// How often partitions were given up, how often that was told, and how often the stage asked for more
    /// after that.
    given_up: u64,
    given_up_told: u64,
    given_up_handled: u64,
}

/// What the subscription takes.
pub(crate) enum Taken {
    Told(Next),
    /// It stands first, and something is to be done before it can be handed out.
    Unfinished(Item),
    Failed(Error),
    Nothing,
}

impl State {
    fn take(&mut self, max: usize) -> Taken {
        match self.told.front() {
            None if self.over => return Taken::Failed(Error::ours("the thread that reads from Kafka has ended")),
            None => return Taken::Nothing,
            Some(Told::Record(item)) if !matches!(item.content, Content::Whole(_)) => {
                return Taken::Unfinished(item.clone());
            }
            _ => {}
        }
        let mut records = Vec::new();
        while records.len() < max {
            match self.told.pop_front() {
                Some(Told::Record(item)) => {
                    let (bytes, position, seen) = (item.bytes(), item.position, item.seen);
                    let Content::Whole(record) = item.content else {
                        self.told.push_front(Told::Record(item));
                        break;
                    };
                    self.bytes = self.bytes.saturating_sub(bytes);
                    if let Some(held) = self.partitions.get_mut(&position.partition) {
                        held.handed = held.handed.max(position.offset.saturating_add(1));
                    }
                    records.push(Received { position, seen, record });
                }
                Some(other) if !records.is_empty() => {
                    self.told.push_front(other);
                    break;
                }
                Some(Told::Assigned(assigned)) => {
                    for Assigned { partition, .. } in &assigned {
                        if let Some(held) = self.partitions.get_mut(partition) {
                            held.known = true;
                        }
                    }
                    return Taken::Told(Next::Assigned(assigned));
                }
                Some(Told::Revoked(partitions)) => {
                    self.given_up_told += 1;
                    return Taken::Told(Next::Revoked(partitions));
                }
                None => break,
            }
        }
        if records.is_empty() { Taken::Nothing } else { Taken::Told(Next::Records(records)) }
    }

    /// The item that stands first if it is still this one.
    fn first(&mut self, item: &Item) -> Option<&mut Item> {
        let same = |first: &&mut Item| (first.position, first.generation) == (item.position, item.generation);
        match self.told.front_mut() {
            Some(Told::Record(first)) => Some(first).filter(same),
            _ => None,
        }
    }

    /// Puts the content of the item that stands first, if it is still this one.
    pub(crate) fn finish(&mut self, item: &Item, content: Content) {
        let Some(first) = self.first(item) else { return };
        let before = first.bytes();
        first.content = content;
        let after = first.bytes();
        self.bytes = (self.bytes + after).saturating_sub(before);
    }

    /// Passes over the item that stands first, if it is still this one.
    pub(crate) fn pass_over(&mut self, item: &Item) {
        if let Some(first) = self.first(item) {
            let bytes = first.bytes();
            self.bytes = self.bytes.saturating_sub(bytes);
            self.told.pop_front();
        }
    }

    /// Takes in records that were read; those of partitions that were given up since are not.
    pub(crate) fn read(&mut self, items: &mut Vec<Item>) {
        for item in items.drain(..) {
            let held = self.partitions.get(&item.position.partition);
            if held.is_some_and(|held| held.generation == item.generation) {
                self.bytes += item.bytes();
                self.told.push_back(Told::Record(item));
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The group gives this member a partition.
    pub(crate) fn give(&mut self, partition: Partition) {
        self.generations += 1;
        let held = Held {
            generation: self.generations,
            phase: Phase::New,
            fetched: false,
            known: false,
            handed: 0,
            acknowledged: 0,
            committed: 0,
            end: 0,
        };
        self.partitions.insert(partition, held);
    }

    /// What partitions hold is known: the subscription is told that it has them.
    pub(crate) fn tell(&mut self, assigned: Vec<Assigned>) {
        if !assigned.is_empty() {
            self.told.push_back(Told::Assigned(assigned));
        }
    }

    /// These partitions are about to be somebody else's: nothing of them is told any more but, where the
    /// subscription knows them, that. The answer is for [`State::handled`].
    pub(crate) fn give_up(&mut self, partitions: &[Partition]) -> Option<u64> {
        let mut known = Vec::new();
        for partition in partitions {
            self.forget(*partition);
            if let Some(held) = self.partitions.get_mut(partition) {
                (held.generation, held.phase) = (0, Phase::Leaving);
                known.extend(held.known.then_some(*partition));
            }
        }
        if known.is_empty() {
            return None;
        }
        self.told.push_back(Told::Revoked(known));
        self.given_up += 1;
        Some(self.given_up)
    }

    /// They are somebody else's.
    pub(crate) fn gone(&mut self, partitions: &[Partition]) {
        self.partitions.retain(|partition, _| !partitions.contains(partition));
    }

    /// Whether the stage has done all it had to do with what it held then.
    pub(crate) fn handled(&self, given_up: u64) -> bool {
        self.given_up_handled >= given_up
    }

    /// Removes what is to be told of a partition.
    fn forget(&mut self, partition: Partition) {
        let mut bytes = 0;
        for told in &mut self.told {
            if let Told::Assigned(assigned) = told {
                assigned.retain(|a| a.partition != partition);
            }
        }
        self.told.retain(|told| match told {
            Told::Assigned(assigned) => !assigned.is_empty(),
            Told::Record(item) if item.position.partition == partition => {
                bytes += item.bytes();
                false
            }
            _ => true,
        });
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A partition is to be read from here on; nothing that was read of it before is handed out.
    pub(crate) fn begin(&mut self, position: Position) {
        let asked = |held: &&mut Held| held.known && held.phase != Phase::Leaving;
        let Some(held) = self.partitions.get_mut(&position.partition).filter(asked) else { return };
        self.generations += 1;
        held.generation = self.generations;
        held.phase = Phase::Begin(position.offset);
        let partition = position.partition;
        self.told.retain(|told| !matches!(told, Told::Record(item) if item.position.partition == partition));
        let bytes = |told: &Told| if let Told::Record(item) = told { item.bytes() } else { 0 };
        self.bytes = self.told.iter().map(bytes).sum();
    }

    /// Notes that the stage has done everything up to and with this; whether the thread is to be woken, as it
    /// is not about to tell the brokers anyway. `Err` where it was not handed out.
    pub(crate) fn acknowledge(&mut self, position: Position) -> Result<bool, ()> {
        let Some(held) = self.partitions.get_mut(&position.partition).filter(|held| held.known) else {
            return Ok(false);
        };
        if position.offset >= held.handed {
            return Err(());
        }
        let told = held.acknowledged == held.committed;
        let news = position.offset >= held.acknowledged;
        if news {
            held.acknowledged = position.offset + 1;
        }
        Ok(news && told)
    }

    /// What the brokers do not know to be acknowledged.
    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = (Partition, u64)> {
        let behind = self.partitions.iter().filter(|(_, held)| held.acknowledged > held.committed);
        behind.map(|(partition, held)| (*partition, held.acknowledged))
    }

    /// The brokers know it.
    pub(crate) fn committed(&mut self, partition: Partition, offset: u64) {
        if let Some(held) = self.partitions.get_mut(&partition) {
            held.committed = held.committed.max(offset);
        }
    }

    /// For how long the stage has been working on what it was handed; `None` while it waits for more.
    pub(crate) fn at_work(&self) -> Option<Duration> {
        (!self.waiting).then(|| self.since.elapsed())
    }
}
