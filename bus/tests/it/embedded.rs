//! The embedded bus: the conformance suite, and what one directory and one process mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crest_bus::{BusConfig, EmbeddedBus, MAX_PAYLOAD_BYTES};
use crest_core::bus::{Bus, Position, Record, Start};
use crest_core::topic::Topic;
use crest_core::units::Span;
use crest_core::{Fault, StreamId};

use crate::conformance;
use crate::conformance::{Home, number, record, subscribe, subscribe_at, take};
use crate::counters::Counters;

pub struct Folder {
    path: PathBuf,
    /// Removes it in the end, where it was made.
    _made: Option<tempfile::TempDir>,
}

impl Home for Folder {
    type Bus = EmbeddedBus;
    const CHILD: &str = "embedded::child";
    const SHARES: bool = false;

    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().to_owned(), _made: Some(folder) }
    }
    fn address(&self) -> String {
        self.path.display().to_string()
    }
    fn at(address: &str) -> Self {
        Self { path: address.into(), _made: None }
    }
    async fn open(&self) -> Arc<EmbeddedBus> {
        crest_bus::open(&self.path, BusConfig::default()).unwrap()
    }
    async fn dead_letters(&self, bus: &EmbeddedBus, topic: Topic) -> Vec<(Position, String)> {
        bus.dead_letters(topic, 100).unwrap().into_iter().map(|l| (l.position, l.reason)).collect()
    }
}

conformance! { Folder }

#[tokio::test]
async fn a_directory_has_one_bus_at_a_time() {
    let home = Folder::empty().await;
    let first = home.open().await;
    let second = crest_bus::open(&home.path, BusConfig::default()).err().unwrap();
    assert_eq!(second.fault, Fault::User);
    assert!(second.message.contains("in use by another process"), "{second}");
    drop(first);
    home.open().await;
}

/// Tables in a folder and those below.
fn tables(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => tables(&path),
            path => usize::from(path.parent().is_some_and(|parent| parent.ends_with("tables"))),
        })
        .sum()
}

#[tokio::test]
async fn what_is_held_in_memory_is_written_out_when_nothing_comes() {
    const QUIET: Duration = Duration::from_millis(200);
    let home = Folder::empty().await;
    let config = || BusConfig { quiet: Span(QUIET), ..BusConfig::default() };
    let bus = crest_bus::open(&home.path, config()).unwrap();
    let before = tables(&home.path);
    let append = async |bus: &EmbeddedBus, size: usize| {
        let record = || Record::new(Topic::Signals, StreamId::from_raw("str_a"), vec![7; size]);
        bus.append(Topic::Signals, (0..4).map(|_| record()).collect()).await.unwrap();
    };
    let written = async |count: usize| {
        let there = async {
            while tables(&home.path) < before + count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), there).await.expect("it is written out, far below its bound");
        assert_eq!(tables(&home.path), before + count);
    };
    append(&bus, 300 << 10).await;
    written(1).await;
    // A little is no table each time: they would pile up.
    for _ in 0..3 {
        append(&bus, 10).await;
        tokio::time::sleep(QUIET * 3).await;
    }
    append(&bus, 300 << 10).await;
    written(2).await;
    drop(bus);
    let bus = crest_bus::open(&home.path, config()).unwrap();
    let mut subscription = subscribe(&*bus, Topic::Signals, "fuse", Start::Acknowledged).await;
    let sizes: Vec<usize> = take(&mut subscription, 20).await.iter().map(|r| r.record.payload.len()).collect();
    assert_eq!(sizes, [[300 << 10; 4].to_vec(), [10; 12].to_vec(), [300 << 10; 4].to_vec()].concat());
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let home = Folder::empty().await;
    let wrong = BusConfig { ring_records: 0, ..BusConfig::default() };
    assert_eq!(crest_bus::open(&home.path, wrong).err().unwrap().fault, Fault::User);
    let bus = home.open().await;
    let large = Record::new(Topic::Marks, StreamId::from_raw("a"), vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert_eq!(bus.append(Topic::Marks, vec![large]).await.unwrap_err().fault, Fault::User);
    assert_eq!(bus.subscribe(Topic::Marks, "", Start::Latest).await.err().unwrap().fault, Fault::User);
    let mut reader = subscribe(&*bus, Topic::Marks, "g", Start::Latest).await;
    assert_eq!(reader.acknowledge(Position { partition: 0, offset: 0 }).await.unwrap_err().fault, Fault::Ours);
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_rest_arrives() {
    let home = Folder::empty().await;
    let bus = home.open().await;
    bus.append(Topic::Marks, (0..3).map(|n| record(Topic::Marks, "a", n)).collect()).await.unwrap();
    drop(bus);
    let db = fjall::Database::builder(&home.path).open().unwrap();
    let records = db.keyspace("topic-marks", fjall::KeyspaceCreateOptions::default).unwrap();
    let mut frame = records.get(1u64.to_be_bytes()).unwrap().unwrap().to_vec();
    frame[6] ^= 0x10;
    records.insert(1u64.to_be_bytes(), frame).unwrap();
    drop((records, db));

    let bus = home.open().await;
    let mut reader = subscribe(&*bus, Topic::Marks, "g", Start::Acknowledged).await;
    assert_eq!(take(&mut reader, 2).await.iter().map(number).collect::<Vec<_>>(), [0, 2]);
    let set_aside = home.dead_letters(&bus, Topic::Marks).await;
    assert_eq!(set_aside.len(), 1);
    assert!(set_aside[0].0.offset == 1 && set_aside[0].1.contains("checksum"), "{set_aside:?}");
}

/// Waits until the first record that a new reader gets is number `expected`.
async fn first_becomes(bus: &dyn Bus, expected: u64) {
    let trimmed = async {
        loop {
            let mut reader = subscribe_at(bus, Topic::Marks, "probe", 0).await;
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
    let open = || crest_bus::open(&home.path, config.clone()).unwrap();
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
    let bus = crest_bus::open(&home.path, config).unwrap();
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
