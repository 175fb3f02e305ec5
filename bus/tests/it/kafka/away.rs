//! Brokers and topics that go away, and come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tracing::Level;

use crest_core::bus::{Bus, Next, SharedBus, Start, Subscription};
use crest_core::topic::Topic;
use crest_core::units::Span;
use crest_core::{Fault, StreamId};

use super::broker::Broker;
use super::{Cluster, figures, lines, raw};
use crate::conformance::{Home, LIMIT, acknowledge_all, number, record, subscribe, take};

/// The numbers that were read of each stream.
type Seen = BTreeMap<String, Vec<u64>>;

const T: Topic = Topic::Signals;
/// A broker that starts takes some seconds, and all others that are built and tested at the same time.
const LONG: Duration = Duration::from_secs(120);

const GROUPS: usize = 8;

/// Appends until it works, and counts how often it did not.
async fn append_again(bus: &SharedBus, key: &str, n: u64, failures: &AtomicU64) {
    while let Err(error) = bus.append(T, vec![record(T, key, n)]).await {
        assert!(error.retryable, "{error}");
        failures.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The numbers of a stream without those that came before.
fn without_repeats(numbers: &[u64]) -> Vec<u64> {
    let mut highest = None;
    numbers.iter().copied().filter(|n| highest < Some(*n) && highest.replace(*n) < Some(*n)).collect()
}

/// How far each stream came.
fn ends(seen: &BTreeMap<String, Vec<u64>>) -> BTreeMap<&str, Option<&u64>> {
    seen.iter().map(|(stream, numbers)| (stream.as_str(), numbers.last())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_broker_restarts() {
    lines::start();
    let broker = Broker::start();
    let mut cluster = Cluster::on(&broker.address);
    cluster.config.append_timeout = Span::secs(2);
    let bus: SharedBus = cluster.open().await;
    let over = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let (bus, over, failures) = (bus.clone(), over.clone(), failures.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while !over.load(Ordering::Relaxed) {
                    append_again(&bus, &format!("stream_{writer}"), n, &failures).await;
                    n += 1;
                }
                n
            })
        })
        .collect();
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut read_until = async |enough: &dyn Fn(&Seen) -> bool| {
        let reading = async {
            while !enough(&seen) {
                match reader.next(100).await {
                    Ok(Next::Records(records)) => {
                        for received in &records {
                            seen.entry(received.record.key.to_string()).or_default().push(number(received));
                        }
                        acknowledge_all(&mut reader, &records).await;
                    }
                    Ok(_) => {}
                    Err(error) => assert!(error.retryable, "{error}"),
                }
            }
        };
        if tokio::time::timeout(LONG, reading).await.is_err() {
            panic!("it does not go on; read so far: {:?}; said: {:#?}", ends(&seen), lines::with(&[&broker.address]));
        }
        seen.clone()
    };
    let highest = |seen: &BTreeMap<String, Vec<u64>>| seen.values().flatten().max().copied().unwrap_or(0);
    let before = read_until(&|seen| highest(seen) > 100).await;
    for _ in 0..2 {
        broker.stop();
        // Longer than an append may take: some of them fail.
        let failed = failures.load(Ordering::Relaxed);
        while failures.load(Ordering::Relaxed) < failed + 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        broker.start_again();
        let then = highest(&before);
        read_until(&|seen| highest(seen) > then + 100).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut written = BTreeMap::new();
    for (writer, task) in writers.into_iter().enumerate() {
        written.insert(format!("stream_{writer}"), task.await.unwrap());
    }
    let all = |seen: &BTreeMap<String, Vec<u64>>| {
        written
            .iter()
            .all(|(stream, count)| seen.get(stream).is_some_and(|seen| seen.iter().max() == Some(&(count - 1))))
    };
    let seen = read_until(&all).await;
    for (stream, count) in &written {
        // In order, with repeats at most.
        let seen = &seen[stream];
        assert_eq!(without_repeats(seen), (0..*count).collect::<Vec<_>>(), "{stream}");
        let mut last = 0;
        for n in seen {
            assert!(*n <= last + 1, "{stream}: {n} after {last}");
            last = *n;
        }
    }
}

/// Reads, and acknowledges each batch, until a record with a number this high comes.
async fn read_until(reader: &mut Box<dyn Subscription>, number_at_least: u64) {
    loop {
        match reader.next(100).await {
            Ok(Next::Records(records)) => {
                acknowledge_all(reader, &records).await;
                if records.iter().any(|received| number(received) >= number_at_least) {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => assert!(error.retryable, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_come_back_from_a_broker_that_said_nothing_for_longer_than_their_sessions() {
    lines::start();
    let broker = Broker::start();
    let mut cluster = Cluster::on(&broker.address);
    cluster.config.append_timeout = Span::secs(3);
    let bus: SharedBus = cluster.open().await;
    let mut readers = Vec::new();
    for group in 0..GROUPS {
        readers.push(subscribe(&*bus, T, &format!("g{group}"), Start::Acknowledged).await);
    }
    let (written, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (bus, written, over) = (bus.clone(), written.clone(), over.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let n = written.fetch_add(1, Ordering::Relaxed);
                append_again(&bus, &format!("stream_{}", n % 7), n, &AtomicU64::new(0)).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let all_read = async |readers: &mut Vec<_>, at_least: u64| {
        let each = readers.iter_mut().map(|reader| read_until(reader, at_least));
        if tokio::time::timeout(LONG, futures::future::join_all(each)).await.is_err() {
            panic!("not all go on; said: {:#?}", lines::with(&[]));
        }
    };
    all_read(&mut readers, 100).await;
    // While records are acknowledged.
    let going = async { all_read(&mut readers, u64::MAX).await };
    let _ = tokio::time::timeout(Duration::from_millis(700), going).await;
    broker.signal("STOP");
    let silent = async { all_read(&mut readers, u64::MAX).await };
    let _ = tokio::time::timeout(cluster.config.session_timeout.0 * 4, silent).await;
    broker.signal("CONT");
    let then = written.load(Ordering::Relaxed);
    all_read(&mut readers, then + 10).await;
    over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_named_and_samples_are_dropped() {
    figures::start();
    lines::start();
    let broker = Broker::start();
    let mut cluster = Cluster::on(&broker.address);
    cluster.config.append_timeout = Span::secs(3);
    let bus = cluster.open().await;
    bus.append(T, vec![record(T, "a", 1)]).await.unwrap();
    broker.stop();
    let error = tokio::time::timeout(LIMIT, bus.append(T, vec![record(T, "a", 2)])).await.unwrap().unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::Outside, true), "{error}");
    for named in ["bus.brokers", &broker.address, "signals", "bus.kafka.append_timeout"] {
        assert!(error.message.contains(named), "{error}");
    }
    // Samples do not wait; in the end they are counted as dropped.
    let stream = format!("away_{}", cluster.config.prefix);
    bus.append(Topic::MediaVideo, (0..5).map(|n| record(Topic::MediaVideo, &stream, n)).collect()).await.unwrap();
    let dropped = || figures::counter("crest_samples_dropped_total", &[("stream", &stream), ("cause", "bus")]);
    figures::until("the samples are dropped", || dropped() == 5).await;
    // Nothing of it is left to be waited for.
    tokio::time::timeout(LIMIT, bus.caught_up(Topic::MediaVideo, &StreamId::from_raw(stream))).await.unwrap().unwrap();
    broker.start_again();
    let shared: SharedBus = bus.clone();
    append_again(&shared, "a", 3, &AtomicU64::new(0)).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let numbers: Vec<u64> = take(&mut reader, 2).await.iter().map(number).collect();
    assert_eq!(numbers, [1, 3], "what was answered with an error was given up in time");
    // One line that it is away, whoever noticed, and one that it is back.
    let said = || lines::with(&["bus.brokers", &broker.address]);
    figures::until("it is said", || said().iter().any(|(_, line)| line.contains("can be reached again"))).await;
    let levels: Vec<Level> = said().iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::WARN, Level::INFO], "{:?}", said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_is_made_again_and_everybody_goes_on() {
    let cluster = Cluster::empty().await;
    let bus: SharedBus = cluster.open().await;
    let topic = format!("{}signals", cluster.config.prefix);
    for n in 0..20 {
        bus.append(T, vec![record(T, &format!("stream_{n}"), n)]).await.unwrap();
    }
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let read = take(&mut reader, 20).await;
    acknowledge_all(&mut reader, &read).await;
    raw::delete(&cluster.brokers, &topic).await;

    let going_on = async {
        let mut errors = Vec::new();
        for n in 100..120 {
            while let Err(error) = bus.append(T, vec![record(T, &format!("stream_{}", n - 100), n)]).await {
                assert!(error.retryable && error.message.contains(&topic), "{error}");
                errors.push(error);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        errors
    };
    let errors = tokio::time::timeout(LONG, going_on).await.expect("the topic is made again");
    assert!(errors.iter().any(|error| error.message.contains("does not exist")), "{errors:?}");
    assert_eq!(raw::topic(&cluster.brokers, &topic).await.unwrap()["partitions"], "4");

    let reading = async {
        let mut numbers = Vec::new();
        while numbers.len() < 20 {
            match reader.next(100).await {
                Ok(Next::Records(records)) => {
                    numbers.extend(records.iter().map(number));
                    acknowledge_all(&mut reader, &records).await;
                }
                Ok(_) => {}
                Err(error) => assert!(error.retryable && error.message.contains(&topic), "{error}"),
            }
        }
        numbers
    };
    let mut numbers = tokio::time::timeout(LONG, reading).await.expect("the reader goes on");
    numbers.sort_unstable();
    assert_eq!(numbers, (100..120).collect::<Vec<_>>());
}
