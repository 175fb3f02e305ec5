//! A loss of power: what was not on the disk yet is gone, in part or in any order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crest_bus::{BusConfig, EmbeddedBus};
use crest_core::bus::{Bus, Position, Start};
use crest_core::topic::Topic;

use crate::conformance::{join, number, record, subscribe, subscribe_at, take};

const T: Topic = Topic::Signals;

/// Opens the bus; one that was dropped just now may still be syncing in the background.
async fn open(dir: &Path) -> Arc<EmbeddedBus> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match crest_bus::open(dir, BusConfig::default()) {
            Err(error) if error.message.contains("in use") && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Returns the offset of the last.
async fn append(bus: &EmbeddedBus, numbers: std::ops::Range<u64>) -> u64 {
    bus.append(T, numbers.map(|n| record(T, "a", n)).collect()).await.unwrap();
    join(bus, T, "end", Start::Asked).await.1[0].end - 1
}

/// The numbers of everything that is there.
async fn all(bus: &EmbeddedBus) -> Vec<u64> {
    // A record of our own marks the end.
    bus.append(T, vec![record(T, "a", u64::MAX)]).await.unwrap();
    let (mut reader, assigned) = join(bus, T, "all", Start::Asked).await;
    reader.begin(Position { partition: 0, offset: 0 }).await.unwrap();
    let mut numbers = Vec::new();
    loop {
        let next = take(&mut reader, 1).await.remove(0);
        numbers.extend(Some(number(&next)).filter(|n| *n != u64::MAX));
        if next.position.offset + 1 == assigned[0].end {
            return numbers;
        }
    }
}

fn journal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().unwrap()
}

/// How much of the journal is written; zeros follow.
fn written(dir: &Path) -> usize {
    fs::read(journal(dir)).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A bus with four batches of records, and where in the journal each ends.
async fn written_bus(dir: &Path) -> Vec<(usize, u64)> {
    let bus = open(dir).await;
    let mut ends = Vec::new();
    for batch in 0..4 {
        append(&bus, batch * 3..batch * 3 + 3).await;
        ends.push((written(dir), batch * 3 + 3));
    }
    drop(bus);
    // Without the 64 MiB of zeros that are put there beforehand: it is copied often.
    let end = ends.last().map_or(0, |(end, _)| *end as u64);
    fs::File::options().write(true).open(journal(dir)).unwrap().set_len(end).unwrap();
    ends
}

/// Damages a copy of `dir` and opens it: what was whole before `at` is there, in one piece, and it can
/// be written to and opened again.
async fn survives(dir: &Path, ends: &[(usize, u64)], at: usize, damage: impl Fn(&mut Vec<u8>)) {
    let copied = tempfile::tempdir().unwrap();
    copy(dir, copied.path());
    let file = journal(copied.path());
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let whole = ends.iter().filter(|(end, _)| *end <= at).map(|(_, records)| *records).max().unwrap_or(0);

    let bus = open(copied.path()).await;
    let found = all(&bus).await;
    assert!(found.len() as u64 >= whole, "damage at {at}: {found:?} of {whole}");
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "damage at {at}");
    append(&bus, 100..101).await;
    drop(bus);
    assert_eq!(all(&*open(copied.path()).await).await.iter().filter(|n| **n == 100).count(), 1, "damage at {at}");
}

#[tokio::test]
async fn a_journal_that_was_cut_short_opens_with_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let ends = written_bus(folder.path()).await;
    let (first, last) = (ends[0].0, ends[3].0);
    for at in (first..=last).step_by((last - first) / 5).chain([last - 1, last - 5, last - 13]) {
        survives(folder.path(), &ends, at, |bytes| bytes.truncate(at)).await;
        // Its length may be there, and what is in it not.
        survives(folder.path(), &ends, at, |bytes| bytes[at..].fill(0)).await;
    }
}

#[tokio::test]
async fn a_journal_with_damage_in_it_opens_with_what_lies_before() {
    let folder = tempfile::tempdir().unwrap();
    let ends = written_bus(folder.path()).await;
    let (first, last) = (ends[0].0, ends[3].0);
    for at in (first..last).step_by(37) {
        survives(folder.path(), &ends, at, |bytes| bytes[at] ^= 0x41).await;
    }
    // A page that never came, between two that did.
    survives(folder.path(), &ends, first, |bytes| bytes[first + 20..first + 60].fill(0)).await;
}

#[tokio::test]
async fn what_followed_the_damage_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let ends = written_bus(folder.path()).await;
    let file = journal(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    let (first, last) = (ends[0].0, ends[3].0);
    bytes[first + 30] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(all(&*open(folder.path()).await).await, [0, 1, 2]);
    let aside = fs::read(file.with_extension(format!("jnl.damaged-at-{first}"))).unwrap();
    assert_eq!(aside, bytes[first..last]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_that_were_committed_are_not_given_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path()).await;
    append(&bus, 0..3).await;
    // Somebody has committed what follows from position 9; the log has lost it.
    bus.reserve(T, 10).unwrap();
    let mut behind = subscribe(&*bus, T, "behind", Start::Acknowledged).await;
    let mut ahead = subscribe_at(&*bus, T, "ahead", 10).await;
    assert_eq!(take(&mut behind, 3).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
    crate::conformance::assert_waits(&mut behind).await;
    assert_eq!(append(&bus, 3..4).await, 10);
    for reader in [&mut behind, &mut ahead] {
        let next = take(reader, 1).await;
        assert_eq!((next[0].position.offset, number(&next[0])), (10, 3));
    }
    bus.reserve(T, 5).unwrap();
    assert_eq!(append(&bus, 4..5).await, 11, "a reservation never goes back");
    drop((behind, ahead, bus));
    assert_eq!(append(&*open(folder.path()).await, 5..6).await, 12);
}
