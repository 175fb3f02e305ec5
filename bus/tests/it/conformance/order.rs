//! A stream's records come in order, all of them, as they were.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crest_core::StreamId;
use crest_core::bus::{Next, Partition, SharedBus, Start};
use crest_core::topic::Topic;
use crest_core::trace::Trace;

use super::{Home, LIMIT, T, append, assert_at_end, assert_waits, number, record, subscribe, take};

pub async fn a_streams_records_stay_in_order(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    for n in 0..50 {
        append(&*bus, if n % 3 == 0 { "a" } else { "b" }, n..n + 1).await;
    }
    append(&*bus, "a", 50..60).await;
    let mut last: HashMap<StreamId, u64> = HashMap::new();
    let mut offsets: HashMap<Partition, u64> = HashMap::new();
    let mut partitions: HashMap<StreamId, Partition> = HashMap::new();
    for received in take(&mut reader, 60).await {
        assert!(offsets.insert(received.position.partition, received.position.offset) < Some(received.position.offset));
        let n = number(&received);
        let key = received.record.key.clone();
        assert_eq!(received.record, record(T, key.as_str(), n));
        assert_eq!(*partitions.entry(key.clone()).or_insert(received.position.partition), received.position.partition);
        assert!(last.insert(key, n) < Some(n));
    }
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
    for writer in 0..8 {
        assert_at_end(&*bus, &mut reader, &format!("stream_{writer}")).await;
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
        let Next::Records(records) = woken else { panic!("{woken:?}") };
        assert_eq!(records.iter().map(number).collect::<Vec<_>>(), [7]);
    }
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
        // Given up at once, again and again, while records come.
        let appending = tokio::spawn({
            let bus = bus.clone();
            async move {
                for n in 5..50 {
                    bus.append(topic, vec![record(topic, "a", n)]).await.unwrap();
                }
            }
        });
        let mut numbers = Vec::new();
        let end = tokio::time::Instant::now() + LIMIT;
        while numbers.len() < 45 {
            assert!(tokio::time::Instant::now() < end, "only {numbers:?} came");
            tokio::select! {
                biased;
                told = reader.next(3) => {
                    if let Next::Records(records) = told.unwrap() {
                        numbers.extend(records.iter().map(number));
                    }
                }
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(numbers, (5..50).collect::<Vec<_>>(), "{topic:?}");
        appending.await.unwrap();
    }
}

pub async fn a_trace_travels_along(home: &impl Home) {
    let bus: SharedBus = home.open().await;
    for topic in [T, Topic::MediaVideo] {
        let mut reader = subscribe(&*bus, topic, "g", Start::Latest).await;
        let traced = record(topic, "a", 1).traced(Some(Trace::new([0xab; 16], [0xcd; 8])));
        let sent = vec![traced, record(topic, "a", 2)];
        bus.append(topic, sent.clone()).await.unwrap();
        let received = take(&mut reader, 2).await;
        assert_eq!(received.into_iter().map(|r| r.record).collect::<Vec<_>>(), sent);
    }
}
