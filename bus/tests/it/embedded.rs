//! The embedded bus: the conformance suite, and what one directory and one process mean.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crest_bus::{BusConfig, EmbeddedBus, MAX_PAYLOAD_BYTES};
use crest_core::bus::{Bus, Position, Record, Start};
use crest_core::topic::Topic;
use crest_core::units::Span;
use crest_core::{Fault, StreamId};

use crate::conformance;
use crate::conformance::{Home, number, record, subscribe, take};
use crate::counters::Counters;

pub struct Folder(tempfile::TempDir);

impl Home for Folder {
    type Bus = EmbeddedBus;

    async fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    async fn open(&self) -> Arc<EmbeddedBus> {
        crest_bus::open(self.0.path(), BusConfig::default()).unwrap()
    }
    async fn dead_letters(bus: &EmbeddedBus, topic: Topic) -> Vec<(Position, String)> {
        bus.dead_letters(topic, 100).unwrap().into_iter().map(|l| (l.position, l.reason)).collect()
    }
}

conformance! { Folder:
    a_streams_records_stay_in_order,
    a_waiting_reader_is_woken,
    what_was_not_acknowledged_comes_again,
    a_reader_begins_where_it_asks_to,
    a_reader_rewinds_over_what_it_has_seen,
    it_goes_on_after_a_process_that_closed_nothing,
    nothing_is_lost_among_many_writers,
    a_poisonous_record_holds_nobody_up,
    a_reader_sets_aside_what_it_cannot_use,
    giving_up_waiting_loses_nothing,
}

#[tokio::test]
async fn a_directory_has_one_bus_at_a_time() {
    let home = Folder::empty().await;
    let first = home.open().await;
    let second = crest_bus::open(home.0.path(), BusConfig::default()).err().unwrap();
    assert_eq!(second.fault, Fault::User);
    assert!(second.message.contains("in use by another process"), "{second}");
    drop(first);
    home.open().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let home = Folder::empty().await;
    let wrong = BusConfig { ring_records: 0, ..BusConfig::default() };
    assert_eq!(crest_bus::open(home.0.path(), wrong).err().unwrap().fault, Fault::User);
    let bus = home.open().await;
    let large = Record::new(Topic::Marks, StreamId::from_raw("a"), vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert_eq!(bus.append(Topic::Marks, vec![large]).await.unwrap_err().fault, Fault::User);
    assert_eq!(bus.subscribe(Topic::Marks, "", Start::Latest).await.err().unwrap().fault, Fault::User);
    let mut reader = subscribe(&*bus, Topic::Marks, "g", Start::Latest).await;
    assert_eq!(reader.acknowledge(0).await.unwrap_err().fault, Fault::Ours);
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_rest_arrives() {
    let home = Folder::empty().await;
    let bus = home.open().await;
    bus.append(Topic::Marks, (0..3).map(|n| record(Topic::Marks, "a", n)).collect()).await.unwrap();
    drop(bus);
    let db = fjall::Database::builder(home.0.path()).open().unwrap();
    let records = db.keyspace("topic-marks", fjall::KeyspaceCreateOptions::default).unwrap();
    let mut frame = records.get(1u64.to_be_bytes()).unwrap().unwrap().to_vec();
    frame[6] ^= 0x10;
    records.insert(1u64.to_be_bytes(), frame).unwrap();
    drop((records, db));

    let bus = home.open().await;
    let mut reader = subscribe(&*bus, Topic::Marks, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut reader, 2).await.iter().map(number).collect::<Vec<_>>(), [0, 2]);
    let set_aside = Folder::dead_letters(&bus, Topic::Marks).await;
    assert_eq!(set_aside.len(), 1);
    assert!(set_aside[0].0 == 1 && set_aside[0].1.contains("checksum"), "{set_aside:?}");
}

/// Waits until the first record that a new reader gets is number `expected`.
async fn first_becomes(bus: &dyn Bus, expected: u64) {
    let trimmed = async {
        loop {
            let mut reader = subscribe(bus, Topic::Marks, "probe", Start::At(0)).await;
            if number(&take(&mut reader, 1).await[0]) == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), trimmed).await.unwrap();
}

#[tokio::test]
async fn old_records_go_but_none_that_a_group_needs() {
    let home = Folder::empty().await;
    let config = BusConfig { retention_records: 10, sync: Span(Duration::from_millis(5)), ..BusConfig::default() };
    let open = || crest_bus::open(home.0.path(), config.clone()).unwrap();
    let bus = open();
    let mut slow = subscribe(&*bus, Topic::Marks, "slow", Start::Acknowledged).await;
    let append = async |bus: &EmbeddedBus, from: u64, to: u64| {
        bus.append(Topic::Marks, (from..to).map(|n| record(Topic::Marks, "a", n)).collect()).await.unwrap()
    };
    append(&bus, 0, 100).await;
    let read = take(&mut slow, 100).await;
    slow.acknowledge(read[39].position).await.unwrap();
    first_becomes(&*bus, 40).await;
    slow.acknowledge(read[99].position).await.unwrap();
    first_becomes(&*bus, 90).await;

    drop((slow, bus));
    let bus = open();
    first_becomes(&*bus, 90).await;
    append(&bus, 100, 101).await;
    let mut slow = subscribe(&*bus, Topic::Marks, "slow", Start::Acknowledged).await;
    assert_eq!(number(&take(&mut slow, 1).await[0]), 100);
}

#[tokio::test]
async fn a_topic_that_nobody_reads_keeps_its_newest() {
    let home = Folder::empty().await;
    let config = BusConfig { retention_records: 7, sync: Span(Duration::from_millis(5)), ..BusConfig::default() };
    let bus = crest_bus::open(home.0.path(), config).unwrap();
    for n in 0..30 {
        bus.append(Topic::Marks, vec![record(Topic::Marks, "a", n)]).await.unwrap();
    }
    first_becomes(&*bus, 23).await;
}

#[tokio::test]
async fn appends_are_counted_by_topic() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let bus = Folder::empty().await;
    let bus = bus.open().await;
    bus.append(Topic::Marks, vec![record(Topic::Marks, "a", 1), record(Topic::Marks, "a", 22)]).await.unwrap();
    assert_eq!(counters.of("crest_bus_records_total", ("topic", "marks")), 2);
    assert_eq!(counters.of("crest_bus_bytes_total", ("topic", "marks")), 3);
}

const CHILD: &str = "CREST_TEST_BUS_OF_A_CHILD";

/// Not a test of its own: the process that [`what_was_appended_survives_a_kill`] kills.
#[test]
#[ignore = "runs as a child of another test"]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // No cadence comes round: what survives was with the operating system at once.
        let config = BusConfig { sync: Span::secs(3600), ..BusConfig::default() };
        let bus = crest_bus::open(dir.as_ref(), config).unwrap();
        for n in 0.. {
            bus.append(Topic::Signals, vec![record(Topic::Signals, "a", n)]).await.unwrap();
            println!("appended {n}");
        }
    });
}

#[tokio::test]
async fn what_was_appended_survives_a_kill() {
    let home = Folder::empty().await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::child_that_appends_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD, home.0.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut appended = lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("appended ")?.parse::<u64>().ok());
    assert!(appended.any(|n| n == 500));
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe still holds what the child said before it died.
    let last = appended.last().unwrap_or(500);

    let bus = home.open().await;
    let mut reader = subscribe(&*bus, Topic::Signals, "g", Start::Acknowledged).await;
    let survivors = take(&mut reader, last as usize + 1).await;
    assert_eq!(survivors.iter().map(number).collect::<Vec<_>>(), (0..=last).collect::<Vec<_>>());
}
