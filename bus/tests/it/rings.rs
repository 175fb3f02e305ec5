//! The media topics: bounded, never waiting, every drop counted.

use bytes::Bytes;
use std::sync::Arc;

use crest_bus::{BusConfig, EmbeddedBus};
use crest_core::StreamId;
use crest_core::bus::{Bus, Position, Record, Start};
use crest_core::topic::Topic;

use crate::conformance::{assert_waits, number, record, subscribe, subscribe_at, take};
use crate::counters::Counters;

const T: Topic = Topic::MediaVideo;

fn open(config: BusConfig) -> (tempfile::TempDir, Arc<EmbeddedBus>) {
    let folder = tempfile::tempdir().unwrap();
    let bus = crest_bus::open(folder.path(), config).unwrap();
    (folder, bus)
}

async fn append(bus: &dyn Bus, stream: &str, numbers: std::ops::Range<u64>) {
    bus.append(T, numbers.map(|n| record(T, stream, n)).collect()).await.unwrap();
}

fn at(offset: u64) -> Position {
    Position { partition: 0, offset }
}

fn dropped(counters: &Counters, stream: &str) -> u64 {
    counters.of("crest_samples_dropped_total", ("stream", stream))
}

#[tokio::test]
async fn without_a_reader_the_newest_stay_and_the_rest_is_counted() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig { ring_records: 10, ..BusConfig::default() });
    append(&*bus, "busy", 0..35).await;
    append(&*bus, "calm", 100..104).await;
    assert_eq!((dropped(&counters, "busy"), dropped(&counters, "calm")), (25, 0));
    assert_eq!(counters.of("crest_samples_dropped_total", ("cause", "ring_full")), 25);
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let kept = take(&mut reader, 14).await;
    let expected: Vec<u64> = (25..35).chain(100..104).collect();
    assert_eq!(kept.iter().map(number).collect::<Vec<_>>(), expected);
    assert_waits(&mut reader).await;
}

#[tokio::test]
async fn a_reader_that_keeps_up_loses_nothing_and_nothing_is_counted() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig { ring_records: 4, ..BusConfig::default() });
    let mut reader = subscribe(&*bus, T, "g", Start::Latest).await;
    for n in 0..100 {
        append(&*bus, "a", n..n + 1).await;
        assert_eq!(number(&take(&mut reader, 1).await[0]), n);
    }
    assert_eq!(dropped(&counters, "a"), 0);
}

#[tokio::test]
async fn a_slow_reader_goes_on_with_the_oldest_kept_and_counts_what_it_missed() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig { ring_records: 10, ..BusConfig::default() });
    let mut slow = subscribe(&*bus, T, "slow", Start::Latest).await;
    let mut quick = subscribe(&*bus, T, "quick", Start::Latest).await;
    append(&*bus, "a", 0..5).await;
    assert_eq!(take(&mut slow, 2).await.len(), 2);
    for n in 5..40 {
        append(&*bus, "a", n..n + 1).await;
        while number(&take(&mut quick, 1).await[0]) < n {}
    }
    // Of 0..40 the last ten are kept; of the thirty gone the slow one had read two.
    let rest = take(&mut slow, 10).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), (30..40).collect::<Vec<_>>());
    assert_waits(&mut slow).await;
    assert_eq!(counters.of("crest_bus_missed_records_total", ("group", "slow")), 28);
    assert_eq!(counters.of("crest_bus_missed_records_total", ("group", "quick")), 0);
    assert_eq!(dropped(&counters, "a"), 28, "a record counts once, however many missed it");
    drop((slow, quick));
}

fn heavy(stream: &str, bytes: usize) -> Record {
    Record::new(T, StreamId::from_raw(stream), Bytes::from(vec![0; bytes]))
}

#[tokio::test]
async fn bytes_are_bounded_over_all_streams() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig { ring_bytes: 100_000, ..BusConfig::default() });
    for _ in 0..20 {
        bus.append(T, vec![heavy("loud", 20_000)]).await.unwrap();
    }
    assert_eq!(dropped(&counters, "loud"), 16);
    bus.append(T, vec![heavy("calm", 20_000)]).await.unwrap();
    assert_eq!(
        (dropped(&counters, "loud"), dropped(&counters, "calm")),
        (17, 0),
        "the first of a stream displaces others"
    );
    bus.append(T, vec![heavy("calm", 20_000)]).await.unwrap();
    assert_eq!((dropped(&counters, "loud"), dropped(&counters, "calm")), (17, 1), "then it displaces itself");
    bus.append(T, vec![heavy("giant", 200_000)]).await.unwrap();
    assert_eq!((dropped(&counters, "giant"), dropped(&counters, "loud")), (1, 17), "what never fits displaces nothing");
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut reader, 4).await.len(), 4);
    assert_waits(&mut reader).await;
}

#[tokio::test]
async fn what_everybody_has_read_makes_room_first() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig { ring_bytes: 100_000, ..BusConfig::default() });
    let mut reader = subscribe(&*bus, T, "g", Start::Latest).await;
    for _ in 0..4 {
        bus.append(T, vec![heavy("over", 20_000)]).await.unwrap();
    }
    take(&mut reader, 4).await;
    for _ in 0..4 {
        bus.append(T, vec![heavy("live", 20_000)]).await.unwrap();
    }
    assert_eq!(take(&mut reader, 4).await.len(), 4);
    assert_eq!((dropped(&counters, "over"), dropped(&counters, "live")), (0, 0));
}

#[tokio::test]
async fn a_group_goes_on_after_what_it_acknowledged() {
    let (_folder, bus) = open(BusConfig::default());
    append(&*bus, "a", 0..6).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let read = take(&mut reader, 6).await;
    reader.acknowledge(read[3].position).await.unwrap();
    drop(reader);
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut reader, 2).await, read[4..]);
}

#[tokio::test]
async fn what_every_reader_has_acknowledged_is_let_go() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_folder, bus) = open(BusConfig::default());
    let mut first = subscribe(&*bus, T, "first", Start::Latest).await;
    let mut second = subscribe(&*bus, T, "second", Start::Latest).await;
    append(&*bus, "a", 0..4).await;
    assert_eq!((take(&mut first, 4).await.len(), take(&mut second, 4).await.len()), (4, 4));
    first.acknowledge(at(3)).await.unwrap();
    let mut late = subscribe_at(&*bus, T, "late", 0).await;
    assert_eq!(take(&mut late, 4).await.len(), 4, "the second may need it again");
    drop(late);
    second.acknowledge(at(2)).await.unwrap();
    let mut late = subscribe_at(&*bus, T, "late", 0).await;
    assert_eq!(number(&take(&mut late, 1).await[0]), 3);
    assert_waits(&mut late).await;
    assert_eq!(dropped(&counters, "a"), 0);
}

#[tokio::test]
async fn caught_up_is_when_every_reader_has_acknowledged() {
    let (_folder, bus) = open(BusConfig::default());
    append(&*bus, "a", 0..1).await;
    bus.caught_up(T, &StreamId::from_raw("a")).await.unwrap();

    let mut first = subscribe(&*bus, T, "first", Start::Acknowledged).await;
    let second = subscribe(&*bus, T, "second", Start::Acknowledged).await;
    append(&*bus, "a", 1..3).await;
    take(&mut first, 3).await;
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { bus.caught_up(T, &StreamId::from_raw("a")).await }
    });
    first.acknowledge(at(1)).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    first.acknowledge(at(2)).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "the second has read nothing");
    drop(second);
    waiting.await.unwrap().unwrap();
}
