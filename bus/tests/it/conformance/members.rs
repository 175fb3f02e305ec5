//! Members of a group, and the ledger of what each of them was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crest_core::StreamId;
use crest_core::bus::{Next, Partition, Position, Received, SharedBus, Start};

use super::{LIMIT, T, acknowledge_all, number};

type Name = &'static str;

/// What happened, in order.
#[derive(Debug, Clone)]
pub enum Event {
    Has(Name, Vec<Partition>),
    Lost(Name, Vec<Partition>),
    Gone(Name),
    Handled(Name, Box<Received>),
}

#[derive(Clone, Default)]
pub struct Ledger(Arc<watch::Sender<Vec<Event>>>);

impl Ledger {
    fn push(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    /// Waits until the ledger shows this.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Event]) -> bool) {
        let mut changes = self.0.subscribe();
        let waited = tokio::time::timeout(LIMIT, changes.wait_for(|events| holds(events))).await;
        if waited.is_err() {
            panic!("never: {what}; held: {:?}", held(&self.0.borrow()));
        }
    }

    /// Waits until exactly these members share that many partitions.
    pub async fn shared_by(&self, members: &[Name], partitions: usize) {
        let holds = |events: &[Event]| {
            let held = held(events);
            let all: BTreeSet<Partition> = held.values().flatten().copied().collect();
            let each = held.values().map(BTreeSet::len).sum::<usize>();
            held.keys().copied().eq(members.iter().copied()) && all.len() == partitions && each == partitions
        };
        self.until(&format!("{members:?} share {partitions} partitions"), holds).await;
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }
}

/// What each member has that has something.
fn held(events: &[Event]) -> BTreeMap<Name, BTreeSet<Partition>> {
    let mut held: BTreeMap<Name, BTreeSet<Partition>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Has(member, partitions) => held.entry(member).or_default().extend(partitions),
            Event::Lost(member, partitions) => held.entry(member).or_default().retain(|p| !partitions.contains(p)),
            Event::Gone(member) => drop(held.remove(member)),
            Event::Handled(..) => {}
        }
    }
    held.retain(|_, partitions| !partitions.is_empty());
    held
}

/// The highest number of each stream that was handled.
pub fn highest(events: &[Event]) -> HashMap<StreamId, u64> {
    let mut highest = HashMap::new();
    for event in events {
        if let Event::Handled(_, received) = event {
            let known = highest.entry(received.record.key.clone()).or_insert(0);
            *known = number(received).max(*known);
        }
    }
    highest
}

/// That one member at a time handles a partition, each stream in order and without a gap.
pub fn check(events: &[Event]) {
    let mut holder: HashMap<Partition, Name> = HashMap::new();
    // Of each stream: who handled its last record since it has the partition, and the next number.
    let mut streams: HashMap<StreamId, (Option<Name>, u64)> = HashMap::new();
    for event in events {
        match event {
            Event::Has(member, partitions) => {
                holder.extend(partitions.iter().map(|p| (*p, *member)));
                // What one of them handled last may come again.
                streams.values_mut().for_each(|(last, _)| *last = last.filter(|last| last != member));
            }
            Event::Lost(..) | Event::Gone(_) => {}
            Event::Handled(member, received) => {
                let (partition, n) = (received.position.partition, number(received));
                assert_eq!(holder.get(&partition), Some(member), "{partition} was handled by {member}");
                let (last, next) = streams.entry(received.record.key.clone()).or_insert((None, 0));
                match last {
                    Some(last) if last == member => {
                        assert_eq!(n, *next, "{}: a gap or a step back", received.record.key)
                    }
                    _ => assert!(n <= *next, "{}: {n} came after {next} others", received.record.key),
                }
                (*last, *next) = (Some(*member), n + 1);
            }
        }
    }
}

/// A member at work.
pub struct Member {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Member {
    /// Joins the group; with [`Start::Asked`] it begins at the first record of each partition.
    pub fn join(bus: SharedBus, name: Name, start: Start, ledger: Ledger) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut subscription = bus.subscribe(T, "shared", start).await.unwrap();
            loop {
                let told = tokio::select! {
                    told = subscription.next(16) => told.unwrap(),
                    _ = &mut stopped => break,
                };
                match told {
                    Next::Assigned(assigned) => {
                        ledger.push(Event::Has(name, assigned.iter().map(|a| a.partition).collect()));
                        for a in assigned.iter().filter(|_| start == Start::Asked) {
                            subscription.begin(Position { partition: a.partition, offset: a.first }).await.unwrap();
                        }
                    }
                    Next::Revoked(partitions) => ledger.push(Event::Lost(name, partitions)),
                    Next::Records(records) => {
                        for received in &records {
                            ledger.push(Event::Handled(name, Box::new(received.clone())));
                            tokio::task::yield_now().await;
                        }
                        acknowledge_all(&mut subscription, &records).await;
                    }
                }
            }
            ledger.push(Event::Gone(name));
        });
        Self { stop, task }
    }

    /// Leaves, with its bus.
    pub async fn leave(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}
