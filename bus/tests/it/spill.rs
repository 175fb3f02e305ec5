//! The spill log: a bus that is away costs nothing but time.

use bytesize::ByteSize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crest_bus::{MAX_PAYLOAD_BYTES, Spill, SpillConfig};
use crest_core::bus::{Bus, Record, Start};
use crest_core::topic::Topic;
use crest_core::units::Span;
use crest_core::{Fault, StreamId};

use crate::conformance::{LIMIT, record};
use crate::counters::Counters;
use crate::flaky::{Flaky, Mode, REFUSED};

const T: Topic = Topic::ChatMessages;

pub fn quick() -> SpillConfig {
    let ms = |ms| Span(Duration::from_millis(ms));
    SpillConfig { after: ms(100), retry: ms(10), sync: ms(20), ..SpillConfig::default() }
}

/// Opens a spill log; the files of one that was dropped just now may still be open.
pub async fn open(dir: &Path, config: SpillConfig, inner: Arc<Flaky>) -> Arc<Spill> {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        match Spill::open(dir, config.clone(), inner.clone()).await {
            Err(error) if error.message.contains("in use") && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

pub async fn append(bus: &dyn Bus, key: &str, numbers: std::ops::Range<u64>) {
    bus.append(T, numbers.map(|n| record(T, key, n)).collect()).await.unwrap();
}

fn taken(flaky: &Flaky, key: &str) -> Vec<u64> {
    flaky.numbers(T).remove(key).unwrap_or_default()
}

#[tokio::test]
async fn while_the_bus_is_there_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Works);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    append(&*bus, "a", 0..3).await;
    assert_eq!((taken(&flaky, "a"), bus.waiting()), (vec![0, 1, 2], 0));
    let refused = bus.append(T, vec![Record::new(T, StreamId::from_raw("a"), REFUSED)]).await.unwrap_err();
    assert_eq!(refused.fault, Fault::User, "what the bus refuses for good is not kept");
    assert_eq!(bus.waiting(), 0);
}

#[tokio::test]
async fn what_was_kept_arrives_in_order_and_later_records_behind_it() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    for mode in [Mode::Fails, Mode::Hangs] {
        let folder = tempfile::tempdir().unwrap();
        let flaky = Flaky::new(mode);
        let bus = open(folder.path(), quick(), flaky.clone()).await;
        for n in 0..10 {
            append(&*bus, "a", n..n + 1).await;
            append(&*bus, "b", n..n + 1).await;
        }
        bus.append(Topic::Marks, vec![record(Topic::Marks, "a", 7)]).await.unwrap();
        assert_eq!((flaky.taken().len(), bus.waiting()), (0, 21));
        assert_eq!(counters.gauge("crest_bus_spilled_records", ("topic", T.name())), 20.0);
        assert!(counters.gauge("crest_bus_spilled_bytes", ("", "")) > 20.0);
        flaky.mode.send_replace(Mode::Works);
        for n in 10..20 {
            append(&*bus, "a", n..n + 1).await;
        }
        flaky.until("all are there", |taken| taken.len() == 31).await;
        assert_eq!(taken(&flaky, "a"), (0..20).collect::<Vec<_>>());
        assert_eq!(taken(&flaky, "b"), (0..10).collect::<Vec<_>>());
        emptied(&bus).await;
        append(&*bus, "a", 20..21).await;
        assert_eq!(taken(&flaky, "a").last(), Some(&20), "straight through again");
        let shown = async {
            while counters.gauge("crest_bus_spilled_records", ("topic", T.name())) > 0.0
                || counters.gauge("crest_bus_spilled_bytes", ("", "")) > 0.0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, shown).await.expect("the gauges go back to 0");
    }
    assert!(counters.of("crest_bus_spill_total", ("topic", T.name())) >= 40);
    assert_eq!(counters.of("crest_bus_spill_total", ("topic", "marks")), 2);
}

/// Waits until nothing is kept any more.
pub async fn emptied(bus: &Spill) {
    let empty = async {
        while bus.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, empty).await.expect("everything is handed over");
}

#[tokio::test]
async fn an_append_that_was_taken_and_not_answered_is_there_twice_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::TakesAndHangs);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    append(&*bus, "a", 0..2).await;
    append(&*bus, "a", 2..4).await;
    assert_eq!(taken(&flaky, "a")[..2], [0, 1]);
    flaky.mode.send_replace(Mode::Works);
    flaky.until("the last is there", |taken| taken.iter().any(|(_, r)| r.payload == "3")).await;
    emptied(&bus).await;
    assert_eq!(taken(&flaky, "a")[..2], [0, 1]);
    assert_eq!(first_of_each(&taken(&flaky, "a")), [0, 1, 2, 3]);
}

/// Without what came before.
fn first_of_each(numbers: &[u64]) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    numbers.iter().copied().filter(|n| seen.insert(*n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stream_stays_in_order_while_the_bus_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Works);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for n in 0..60 {
                    append(&*bus, &format!("stream_{writer}"), n * 2..n * 2 + 2).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    let modes = [Mode::Fails, Mode::Works, Mode::TakesAndHangs, Mode::Works, Mode::Hangs];
    for mode in modes.into_iter().cycle() {
        flaky.mode.send_replace(mode);
        tokio::time::sleep(Duration::from_millis(60)).await;
        if writers.iter().all(tokio::task::JoinHandle::is_finished) {
            break;
        }
    }
    flaky.mode.send_replace(Mode::Works);
    for writer in writers {
        writer.await.unwrap();
    }
    emptied(&bus).await;
    let expected: Vec<u64> = (0..120).collect();
    let all: BTreeMap<String, Vec<u64>> = flaky.numbers(T);
    assert_eq!(all.len(), 6);
    for (stream, numbers) in all {
        assert_eq!(first_of_each(&numbers), expected, "{stream}");
        let gap = numbers.windows(2).find(|w| w[1] > w[0] + 1);
        assert_eq!(gap, None, "{stream}: {numbers:?}");
    }
}

#[tokio::test]
async fn a_record_that_the_bus_refuses_later_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Fails);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    append(&*bus, "a", 0..2).await;
    bus.append(T, vec![Record::new(T, StreamId::from_raw("a"), REFUSED)]).await.unwrap();
    append(&*bus, "a", 2..4).await;
    flaky.mode.send_replace(Mode::Works);
    flaky.until("the others are there", |taken| taken.len() == 4).await;
    assert_eq!(taken(&flaky, "a"), [0, 1, 2, 3]);
    emptied(&bus).await;
    drop(bus);
    // Set aside in the log, with the reason.
    let local = loop {
        match crest_bus::open(folder.path(), crest_bus::BusConfig::default()) {
            Ok(local) => break local,
            Err(error) => assert!(error.message.contains("in use"), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let letters = local.dead_letters(T, 10).unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("this one is refused"), "{letters:?}");
}

#[tokio::test]
async fn it_is_bounded_and_takes_again_what_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Fails);
    let config = SpillConfig { max_bytes: ByteSize::mb(1), ..quick() };
    let bus = open(folder.path(), config.clone(), flaky.clone()).await;
    let large = |n: u8| Record::new(T, StreamId::from_raw("a"), vec![n; 300_000]);
    for n in 0..3 {
        bus.append(T, vec![large(n)]).await.unwrap();
    }
    let full = bus.append(T, vec![large(3)]).await.unwrap_err();
    assert_eq!((full.fault, full.retryable), (Fault::Full, true));
    assert!(full.message.contains("bus.spill.max_bytes"), "{full}");
    let marks = bus.append(Topic::Marks, vec![large(4)]).await.unwrap_err();
    assert!(marks.message.contains("bus.brokers"), "it says why the bus is away: {marks}");
    append(&*bus, "b", 0..1).await;
    // The next process knows how much there is.
    drop(bus);
    let bus = open(folder.path(), config, flaky.clone()).await;
    assert_eq!(bus.waiting(), 4);
    assert_eq!(bus.append(T, vec![large(3)]).await.unwrap_err().fault, Fault::Full);
    flaky.mode.send_replace(Mode::Works);
    emptied(&bus).await;
    for n in 3..9 {
        bus.append(T, vec![large(n)]).await.unwrap();
    }
    emptied(&bus).await;
    let first: Vec<u8> = flaky.taken().iter().filter(|(_, r)| r.payload.len() > 9).map(|(_, r)| r.payload[0]).collect();
    assert_eq!(first, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_no_bus_takes_is_refused_while_it_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path(), quick(), Flaky::new(Mode::Fails)).await;
    append(&*bus, "a", 0..1).await;
    let large = Record::new(T, StreamId::from_raw("a"), vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert_eq!(bus.append(T, vec![large]).await.unwrap_err().fault, Fault::User);
    assert_eq!(bus.waiting(), 1);
}

#[tokio::test]
async fn samples_and_readers_go_straight_to_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Fails);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    let video = Topic::MediaVideo;
    assert!(bus.append(video, vec![record(video, "a", 1)]).await.is_err());
    assert!(bus.subscribe(T, "g", Start::Latest).await.is_err());
    assert_eq!(bus.waiting(), 0);
    flaky.mode.send_replace(Mode::Works);
    bus.append(video, vec![record(video, "a", 2)]).await.unwrap();
    assert_eq!(flaky.numbers(video)["a"], [2]);
}

#[tokio::test]
async fn flush_answers_while_the_bus_is_away_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Flaky::new(Mode::Hangs);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    append(&*bus, "a", 0..3).await;
    let answered = tokio::time::timeout(LIMIT, bus.flush()).await.expect("it does not wait for the bus for ever");
    assert!(answered.unwrap_err().retryable);
    drop(bus);
    let works = Flaky::new(Mode::Works);
    let bus = open(folder.path(), quick(), works.clone()).await;
    emptied(&bus).await;
    assert_eq!(taken(&works, "a"), [0, 1, 2]);
    bus.flush().await.unwrap();
}

#[tokio::test]
async fn settings_outside_their_bounds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = SpillConfig { after: Span(Duration::ZERO), ..quick() };
    let error = Spill::open(folder.path(), wrong, Flaky::new(Mode::Works)).await.err().unwrap();
    assert!(error.fault == Fault::User && error.message.contains("bus.spill.after"), "{error}");
}
