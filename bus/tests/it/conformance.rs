//! What every bus must hold. A bus takes part by implementing [`Home`] and calling
//! [`conformance!`](crate::conformance!).

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crest_core::StreamId;
use crest_core::bus::{Bus, Position, Received, Record, SharedBus, Start, Subscription};
use crest_core::topic::Topic;

/// A place where a bus lives on while processes come and go.
pub trait Home {
    type Bus: Bus + 'static;
    /// A home with nothing in it.
    async fn empty() -> Self;
    /// Opens the bus as a process that starts does.
    async fn open(&self) -> Arc<Self::Bus>;
    /// What was set aside on a topic, with the reasons.
    async fn dead_letters(bus: &Self::Bus, topic: Topic) -> Vec<(Position, String)>;
}

/// One test per requirement for the bus that lives in `$home`.
#[macro_export]
macro_rules! conformance {
    ($home:ty: $($test:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let home = <$home as $crate::conformance::Home>::empty().await;
            $crate::conformance::$test(&home).await;
        }
    )*};
}

const LIMIT: Duration = Duration::from_secs(30);
const T: Topic = Topic::Signals;

pub fn record(topic: Topic, key: &str, n: u64) -> Record {
    Record::new(topic, StreamId::from_raw(key), n.to_string())
}

pub fn number(received: &Received) -> u64 {
    std::str::from_utf8(&received.record.payload).unwrap().parse().unwrap()
}

pub async fn subscribe(bus: &dyn Bus, topic: Topic, group: &str, start: Start) -> Box<dyn Subscription> {
    bus.subscribe(topic, group, start).await.unwrap()
}

/// The next `count` records; fails where they do not come.
pub async fn take(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = tokio::time::timeout(LIMIT, subscription.next(count - all.len())).await;
        let more = more.unwrap_or_else(|_| panic!("only {} of {count} records came", all.len())).unwrap();
        assert!(!more.is_empty() && more.len() <= count - all.len());
        all.extend(more);
    }
    all
}

/// That nothing is there to be read now.
pub async fn assert_waits(subscription: &mut Box<dyn Subscription>) {
    let mut next = pin!(subscription.next(10));
    poll_fn(|context| {
        assert!(next.as_mut().poll(context).is_pending(), "a record was there");
        Poll::Ready(())
    })
    .await;
}

async fn append(bus: &dyn Bus, key: &str, numbers: impl Iterator<Item = u64>) -> Position {
    bus.append(T, numbers.map(|n| record(T, key, n)).collect()).await.unwrap()
}

pub async fn a_streams_records_stay_in_order(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    for n in 0..50 {
        append(&*bus, if n % 3 == 0 { "a" } else { "b" }, n..n + 1).await;
    }
    append(&*bus, "a", 50..60).await;
    let mut last: HashMap<StreamId, u64> = HashMap::new();
    let mut position = None;
    for received in take(&mut reader, 60).await {
        assert!(position < Some(received.position));
        position = Some(received.position);
        let n = number(&received);
        assert_eq!(received.record, record(T, received.record.key.as_str(), n));
        assert!(last.insert(received.record.key.clone(), n) < Some(n));
    }
}

pub async fn a_waiting_reader_is_woken(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    for topic in [Topic::ChatMessages, Topic::MediaVideo] {
        let mut reader = subscribe(&*bus, topic, "g", Start::Latest).await;
        let mut next = pin!(reader.next(10));
        poll_fn(|context| {
            assert!(next.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        bus.append(topic, vec![record(topic, "a", 7)]).await.unwrap();
        let woken = tokio::time::timeout(LIMIT, next).await.unwrap().unwrap();
        assert_eq!(woken.iter().map(number).collect::<Vec<_>>(), [7]);
    }
}

pub async fn what_was_not_acknowledged_comes_again(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 0..5).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let first = take(&mut reader, 5).await;
    reader.acknowledge(first[2].position).await.unwrap();
    reader.acknowledge(first[0].position).await.unwrap();
    drop(reader);
    let mut again = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut again, 2).await, first[3..], "an older acknowledgement takes nothing back");
    let mut other = subscribe(&*bus, T, "other", Start::Acknowledged).await;
    assert_eq!(take(&mut other, 5).await, first, "groups do not disturb each other");
}

pub async fn a_reader_begins_where_it_asks_to(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    append(&*bus, "a", 0..10).await;
    let all = take(&mut subscribe(&*bus, T, "g", Start::Acknowledged).await, 10).await;
    let mut replay = subscribe(&*bus, T, "replay", Start::At(all[4].position)).await;
    assert_eq!(take(&mut replay, 6).await, all[4..]);
    let mut latest = subscribe(&*bus, T, "latest", Start::Latest).await;
    append(&*bus, "a", 10..11).await;
    assert_eq!(number(&take(&mut latest, 1).await[0]), 10);
}

/// A stage that keeps a little state sees again what it had worked off, marked as such.
pub async fn a_reader_rewinds_over_what_it_has_seen(home: &impl Home) {
    let bus = home.open().await;
    append(&*bus, "a", 0..10).await;
    let mut first = subscribe(&*bus, T, "g", Start::Rewound(4)).await;
    let all = take(&mut first, 10).await;
    assert!(all.iter().all(|r| !r.seen), "nothing was acknowledged yet");
    first.acknowledge(all[6].position).await.unwrap();
    drop(first);
    let mut again = subscribe(&*bus, T, "g", Start::Rewound(4)).await;
    let marked: Vec<(u64, bool)> = take(&mut again, 7).await.iter().map(|r| (number(r), r.seen)).collect();
    assert_eq!(marked, [(3, true), (4, true), (5, true), (6, true), (7, false), (8, false), (9, false)]);
    let mut from_the_first = subscribe(&*bus, T, "g", Start::Rewound(100)).await;
    assert_eq!(number(&take(&mut from_the_first, 1).await[0]), 0);
}

pub async fn it_goes_on_after_a_process_that_closed_nothing(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    let last = append(&*bus, "a", 0..5).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let before = take(&mut reader, 5).await;
    reader.acknowledge(before[1].position).await.unwrap();
    drop((reader, bus));
    let bus: SharedBus = home.open().await;
    assert!(append(&*bus, "a", 5..6).await > last, "no position is given out twice");
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let after = take(&mut reader, 4).await;
    assert_eq!(after[..3], before[2..]);
    assert_eq!(number(&after[3]), 5);
}

pub async fn nothing_is_lost_among_many_writers(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    append(&*bus, &format!("stream_{writer}"), n..n + 1).await;
                }
            })
        })
        .collect();
    let mut next: HashMap<StreamId, u64> = HashMap::new();
    for received in take(&mut reader, 400).await {
        let expected = next.entry(received.record.key.clone()).or_default();
        assert_eq!(number(&received), *expected, "{}", received.record.key);
        *expected += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_waits(&mut reader).await;
}

pub async fn a_poisonous_record_holds_nobody_up<H: Home>(home: &H) {
    let bus = home.open().await;
    append(&*bus, "a", 0..2).await;
    let newer = Record { schema_version: T.schema_version() + 1, ..record(T, "a", 666) };
    let poison = bus.append(T, vec![newer]).await.unwrap();
    append(&*bus, "a", 2..4).await;
    for group in ["g", "another"] {
        let mut reader = subscribe(&*bus, T, group, Start::Acknowledged).await;
        let rest = take(&mut reader, 4).await;
        assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        reader.acknowledge(rest[3].position).await.unwrap();
    }
    let set_aside = H::dead_letters(&bus, T).await;
    assert_eq!(set_aside.len(), 1, "{set_aside:?}");
    assert_eq!(set_aside[0].0, poison);
    assert!(set_aside[0].1.contains("schema version"), "{set_aside:?}");
}

pub async fn a_reader_sets_aside_what_it_cannot_use<H: Home>(home: &H) {
    let bus = home.open().await;
    append(&*bus, "a", 0..2).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let received = take(&mut reader, 2).await;
    bus.dead_letter(T, &received[0], "not an Arrow record").await.unwrap();
    bus.dead_letter(T, &received[0], "not an Arrow record").await.unwrap();
    let expected = [(received[0].position, "not an Arrow record".to_owned())];
    assert_eq!(H::dead_letters(&bus, T).await, expected);
    bus.flush().await.unwrap();
    drop((bus, reader));
    assert_eq!(H::dead_letters(&*home.open().await, T).await, expected);
}

pub async fn giving_up_waiting_loses_nothing(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    for topic in [T, Topic::MediaAudio] {
        let mut reader = subscribe(&*bus, topic, "g", Start::Latest).await;
        for n in 0..5 {
            assert_waits(&mut reader).await;
            bus.append(topic, vec![record(topic, "a", n)]).await.unwrap();
            assert_eq!(number(&take(&mut reader, 1).await[0]), n);
        }
    }
}
