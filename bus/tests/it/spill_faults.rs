//! The spill log of a process that is killed, on a disk that is full; and in front of a real bus.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crest_bus::{BusConfig, Spill, SpillConfig};
use crest_core::Fault;
use crest_core::bus::{Bus, Position, Record};
use crest_core::topic::Topic;
use crest_core::units::Span;

use crate::conformance;
use crate::conformance::{Home, record};
use crate::flaky::{Flaky, Mode};
use crate::small_disk::{SmallDisk, may_mount};
use crate::spill::{append, emptied, open, quick};

const T: Topic = Topic::ChatMessages;

/// A spill log in front of an embedded bus, which is always there.
pub struct InFront {
    path: PathBuf,
    /// Removes it in the end, where it was made.
    _made: Option<tempfile::TempDir>,
}

impl Home for InFront {
    type Bus = Spill;
    const CHILD: &str = "spill_faults::child";
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
    async fn open(&self) -> Arc<Spill> {
        loop {
            let opened = match crest_bus::open(&self.path.join("bus"), BusConfig::default()) {
                Ok(bus) => {
                    // On a busy machine a slow answer is not one that failed: nothing may come twice here.
                    let config = SpillConfig { after: Span::secs(60), ..SpillConfig::default() };
                    Spill::open(&self.path.join("spill"), config, bus).await
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(bus) => return bus,
                Err(error) => assert!(error.message.contains("in use"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    async fn dead_letters(&self, _: &Spill, _: Topic) -> Vec<(Position, String)> {
        unreachable!("none of the requirements below sets something aside")
    }
}

conformance! { InFront:
    order::a_streams_records_stay_in_order,
    order::nothing_is_lost_among_many_writers,
    order::giving_up_waiting_loses_nothing,
    order::a_trace_travels_along,
    replay::it_goes_on_after_a_process_that_closed_nothing,
    bounds::large_payloads_arrive_and_larger_ones_are_refused,
    ring::caught_up_is_when_the_reader_has_acknowledged,
}

const CHILD: &str = "CREST_TEST_SPILL_OF_A_CHILD";

/// Not a test of its own: the process that [`what_was_kept_survives_a_kill`] kills.
#[test]
#[ignore = "runs as a child of another test"]
fn child_that_keeps_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        // No cadence comes round: what survives was with the operating system at once.
        let config = SpillConfig { sync: Span::secs(60), ..quick() };
        let flaky = Flaky::new(Mode::Fails);
        let bus = open(dir.as_ref(), config, flaky.clone()).await;
        for n in 0.. {
            append(&*bus, "a", n..n + 1).await;
            println!("appended {n}");
        }
    });
}

#[tokio::test]
async fn what_was_kept_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 0..2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spill_faults::child_that_keeps_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut appended = lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("appended ")?.parse::<u64>().ok());
        assert!(appended.any(|n| n == 300), "round {round}");
        child.kill().unwrap();
        child.wait().unwrap();
        // The pipe still holds what the child said before it died.
        promised = appended.last().unwrap_or(300);
    }
    let flaky = Flaky::new(Mode::Works);
    let bus = open(folder.path(), quick(), flaky.clone()).await;
    append(&*bus, "a", 1_000_000..1_000_001).await;
    emptied(&bus).await;
    let numbers = flaky.numbers(T).remove("a").unwrap();
    // Each round counted from 0; the last appends may have been written and not said.
    let second = numbers.iter().rposition(|n| *n == 0).unwrap();
    let (first, second) = numbers.split_at(second);
    assert_eq!(first, (0..first.len() as u64).collect::<Vec<_>>());
    assert!(first.len() > 300);
    let (last, second) = second.split_last().unwrap();
    assert_eq!(second, (0..second.len() as u64).collect::<Vec<_>>());
    assert!(second.len() as u64 > promised, "{promised} was promised, {} are there", second.len());
    assert_eq!(*last, 1_000_000, "what is new comes after what was kept");
}

/// A bus that is killed while it hands over has handed over some of it twice, and lost nothing.
#[tokio::test]
async fn a_process_that_ends_while_it_hands_over_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path(), quick(), Flaky::new(Mode::Fails)).await;
    append(&*bus, "a", 0..2500).await;
    drop(bus);
    // The bus has taken the first part, and the process never heard of it.
    let silent = Flaky::new(Mode::TakesAndHangs);
    let bus = open(folder.path(), quick(), silent.clone()).await;
    silent.until("a part was handed over", |taken| !taken.is_empty()).await;
    drop(bus);
    let works = Flaky::new(Mode::Works);
    let bus = open(folder.path(), quick(), works.clone()).await;
    emptied(&bus).await;
    assert_eq!(works.numbers(T)["a"], (0..2500).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_refuses_and_keeps_what_it_took() {
    if !may_mount("spill_faults::a_full_disk_refuses_and_keeps_what_it_took").unwrap() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(full_and_free_again());
}

/// A record that says which it is, and takes room.
fn large(n: u64) -> Record {
    let mut state = n + 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    });
    let payload: Vec<u8> = std::iter::once(n.to_be_bytes()).chain(noise.take(2500)).flatten().collect();
    Record { payload: payload.into(), ..record(T, "a", n) }
}

async fn full_and_free_again() {
    let disk = SmallDisk::mount(8 << 20).unwrap();
    let flaky = Flaky::new(Mode::Fails);
    let bus = open(&disk.data().join("spill"), quick(), flaky.clone()).await;
    let (mut kept, mut refused) = (0, 0);
    while refused < 5 {
        match bus.append(T, vec![large(kept)]).await {
            Ok(()) => kept += 1,
            Err(error) => {
                assert!(error.retryable && matches!(error.fault, Fault::Full | Fault::Outside), "{error}");
                refused += 1;
            }
        }
    }
    // The bus is back while the disk is full to the last byte: everything arrives, and what cannot be
    // noted here does not make it arrive over and over again.
    disk.fill("filler", 0).unwrap();
    flaky.mode.send_replace(Mode::Works);
    flaky.until("all are there", |taken| taken.len() as u64 >= kept).await;
    disk.clear("filler").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = bus.append(T, vec![large(kept)]).await {
        assert!(Instant::now() < end, "it does not go on: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    emptied(&bus).await;
    let expected: Vec<Record> = (0..=kept).map(large).collect();
    let taken: Vec<Record> = flaky.taken().into_iter().map(|(_, record)| record).collect();
    assert!(taken == expected, "{} of {} arrived, or not in order", taken.len(), expected.len());
}
