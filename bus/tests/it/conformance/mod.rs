//! What every bus must hold. A bus takes part by implementing [`Home`] and calling
//! [`conformance!`](crate::conformance!).
//!
//! Nothing here counts on one partition: what has an order is compared by stream.

pub mod bounds;
pub mod group;
pub mod kill;
mod members;
pub mod order;
pub mod poison;
pub mod replay;
pub mod ring;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crest_core::StreamId;
use crest_core::bus::{Assigned, Bus, Next, Partition, Position, Received, Record, Start, Subscription};
use crest_core::topic::Topic;

/// A place where a bus lives on while processes come and go.
pub trait Home: Sized {
    type Bus: Bus + 'static;

    /// The name of the test `child` in the module that calls `conformance!`.
    const CHILD: &str;

    /// Whether the subscriptions of a group share the partitions.
    const SHARES: bool;

    /// A home with nothing in it.
    async fn empty() -> Self;

    /// What another process needs to find this home, in one line.
    fn address(&self) -> String;

    /// The home at this address, in another process. It stays when this value goes.
    fn at(address: &str) -> Self;

    /// Opens the bus as a process that starts does, and as the same one does again after its end.
    async fn open(&self) -> Arc<Self::Bus>;

    /// Opens the bus as one more process does, beside those that have it open; for homes that share.
    async fn open_beside(&self) -> Arc<Self::Bus> {
        self.open().await
    }

    /// What was set aside on a topic, with the reasons; what was set aside twice is there once or twice.
    async fn dead_letters(&self, bus: &Self::Bus, topic: Topic) -> Vec<(Position, String)>;
}

/// One test per requirement for the bus that lives in `$home`; to be called in a module of its own.
#[macro_export]
macro_rules! conformance {
    ($home:ty) => {
        $crate::conformance! { $home:
            order::a_streams_records_stay_in_order,
            order::nothing_is_lost_among_many_writers,
            order::a_waiting_reader_is_woken,
            order::giving_up_waiting_loses_nothing,
            order::a_trace_travels_along,
            replay::what_was_not_acknowledged_comes_again,
            replay::a_reader_begins_where_it_asks_to,
            replay::a_reader_rewinds_over_what_it_has_seen,
            replay::it_goes_on_after_a_process_that_closed_nothing,
            kill::nothing_is_lost_when_a_process_is_killed,
            poison::a_poisonous_record_holds_nobody_up,
            poison::a_reader_sets_aside_what_it_cannot_use,
            bounds::large_payloads_arrive_and_larger_ones_are_refused,
            bounds::a_reader_that_takes_nothing_costs_no_memory,
            ring::what_nobody_reads_is_taken_and_let_go,
            ring::caught_up_is_when_the_reader_has_acknowledged,
            group::members_share_or_read_everything,
            group::a_stream_stays_whole_while_members_come_and_go,
            group::what_moves_to_another_begins_where_that_one_asks_to,
        }

        /// Not a test of its own: the process that others start.
        #[test]
        #[ignore = "runs as a child of other tests"]
        fn child() {
            $crate::conformance::kill::child::<$home>();
        }
    };
    ($home:ty: $($part:ident::$test:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let home = <$home as $crate::conformance::Home>::empty().await;
            $crate::conformance::$part::$test(&home).await;
        }
    )*};
}

/// How long anything may take. Members of a group that come and go take seconds on Kafka.
pub const LIMIT: Duration = Duration::from_secs(60);
/// A durable topic.
const T: Topic = Topic::Signals;

pub fn record(topic: Topic, key: &str, n: u64) -> Record {
    Record::new(topic, StreamId::from_raw(key), n.to_string())
}

pub fn number(received: &Received) -> u64 {
    std::str::from_utf8(&received.record.payload).unwrap().parse().unwrap()
}

/// The numbers of each stream, in the order in which they came.
pub fn numbers(received: &[Received]) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in received {
        all.entry(one.record.key.to_string()).or_default().push(number(one));
    }
    all
}

async fn append(bus: &dyn Bus, key: &str, numbers: impl Iterator<Item = u64>) {
    bus.append(T, numbers.map(|n| record(T, key, n)).collect()).await.unwrap();
}

/// What a subscription tells next.
pub async fn next(subscription: &mut Box<dyn Subscription>, max: usize) -> Next {
    let told = tokio::time::timeout(LIMIT, subscription.next(max)).await;
    told.expect("the subscription has something to tell").unwrap()
}

/// A subscription that has its partitions, and what they hold.
pub async fn join(bus: &dyn Bus, topic: Topic, group: &str, start: Start) -> (Box<dyn Subscription>, Vec<Assigned>) {
    let mut subscription = bus.subscribe(topic, group, start).await.unwrap();
    loop {
        match next(&mut subscription, 1).await {
            Next::Assigned(assigned) if !assigned.is_empty() => return (subscription, assigned),
            Next::Records(records) => panic!("records of partitions that were not assigned: {records:?}"),
            _ => {}
        }
    }
}

/// A subscription that has its partitions.
pub async fn subscribe(bus: &dyn Bus, topic: Topic, group: &str, start: Start) -> Box<dyn Subscription> {
    join(bus, topic, group, start).await.0
}

/// A subscription that begins everywhere at this offset.
pub async fn subscribe_at(bus: &dyn Bus, topic: Topic, group: &str, offset: u64) -> Box<dyn Subscription> {
    let (mut subscription, assigned) = join(bus, topic, group, Start::Asked).await;
    for Assigned { partition, .. } in assigned {
        subscription.begin(Position { partition, offset }).await.unwrap();
    }
    subscription
}

/// The next `count` records, whatever else is told; fails where they do not come.
pub async fn take(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < count {
        let told = tokio::time::timeout(LIMIT, subscription.next(count - all.len())).await;
        let told = told.unwrap_or_else(|_| panic!("only {} of {count} records came", all.len())).unwrap();
        let Next::Records(more) = told else { continue };
        assert!(!more.is_empty() && more.len() <= count - all.len());
        all.extend(more);
    }
    all
}

/// That nothing is there to be read now, as far as one look shows.
pub async fn assert_waits(subscription: &mut Box<dyn Subscription>) {
    let mut next = pin!(subscription.next(10));
    poll_fn(|context| {
        assert!(next.as_mut().poll(context).is_pending(), "something was there");
        Poll::Ready(())
    })
    .await;
}

/// That there is nothing more in the partition of this stream: what is appended now comes next.
async fn assert_at_end(bus: &dyn Bus, subscription: &mut Box<dyn Subscription>, key: &str) {
    append(bus, key, [u64::MAX].into_iter()).await;
    let next = take(subscription, 1).await;
    assert_eq!((next[0].record.key.as_str(), number(&next[0])), (key, u64::MAX));
}

/// Acknowledges the last of these in each partition.
pub async fn acknowledge_all(subscription: &mut Box<dyn Subscription>, received: &[Received]) {
    let last: BTreeMap<Partition, Position> = received.iter().map(|r| (r.position.partition, r.position)).collect();
    for position in last.into_values() {
        subscription.acknowledge(position).await.unwrap();
    }
}
