//! However a log reaches fusion, it decides the same: from snapshots, with records that were appended twice, and
//! spread over partitions whose readers change.

use crate::logs::{Rng, Shape, Writer, Written, batch, broadcast, live, wild};
use crate::{decided, fresh, note};
use crest_core::signal::{SignalBatch, SignalEntry};
use crest_core::{MediaTime, StreamId, WallTime};
use crest_fusion::StreamFusion;
use std::collections::{BTreeMap, VecDeque};

fn restored(fusion: &StreamFusion) -> StreamFusion {
    let state = fusion.snapshot().unwrap_or_else(|e| panic!("no snapshot: {e}"));
    let restored = StreamFusion::restore(&state).unwrap_or_else(|e| panic!("a snapshot that is not taken: {e}"));
    assert_eq!(restored.snapshot().ok(), Some(state), "what was restored is not what was kept");
    restored
}

/// The logs of these tests, by seed.
fn log(seed: u64) -> Vec<Written> {
    if seed.is_multiple_of(2) { broadcast(seed) } else { wild(seed, 2500) }
}

fn whole(log: &[Written]) -> String {
    decided(log.iter().map(|(_, batch)| batch)).0
}

/// Where two transcripts part, for the one who has to find out why.
fn assert_same(seed: u64, expected: &str, found: &str) {
    let parted = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
    assert!(expected == found, "seed {seed}: they part here: {parted:#?}");
}

#[test]
fn from_a_snapshot_at_any_point() {
    for seed in 0..12 {
        let (mut rng, log) = (Rng::new(seed), log(seed));
        let (mut fusion, mut told) = (fresh(&StreamId::from_raw("str_9a1d77c20be4")), String::new());
        for (_, batch) in &log {
            if rng.once_in(40) {
                fusion = restored(&fusion);
            }
            note(&fusion.apply(batch), &mut told);
        }
        assert_same(seed, &whole(&log), &told);
    }
}

/// The log as it is when writers are not sure whether a record was appended, and append it and those after it
/// again: their own stay in order, those of the others come in between.
fn appended_again(seed: u64, log: &[Written], same_writer: bool) -> Vec<SignalBatch> {
    let mut rng = Rng::new(seed ^ 0xa9a1);
    let mut before: BTreeMap<Writer, Vec<&SignalBatch>> = BTreeMap::new();
    let mut again: BTreeMap<Writer, VecDeque<&SignalBatch>> = BTreeMap::new();
    let mut disturbed = Vec::new();
    for (writer, batch) in log {
        let writer = if same_writer { Writer::Video } else { *writer };
        disturbed.extend(again.remove(&writer).into_iter().flatten().cloned());
        disturbed.push(batch.clone());
        let own = before.entry(writer).or_default();
        own.push(batch);
        if rng.once_in(15) {
            let count = 1 + rng.below(12) as usize;
            again.insert(writer, own[own.len().saturating_sub(count)..].iter().copied().collect());
        }
        for repeated in again.values_mut().filter(|_| rng.once_in(2)) {
            disturbed.extend(repeated.pop_front().cloned());
        }
    }
    disturbed.extend(again.into_values().flatten().cloned());
    disturbed
}

#[test]
fn with_records_that_were_appended_twice() {
    for seed in 0..24 {
        let log = log(seed);
        // In a log in which anything stands, one writer takes back what another wrote.
        let disturbed = appended_again(seed, &log, !seed.is_multiple_of(2));
        assert!(disturbed.len() > log.len() * 5 / 4);
        assert_same(seed, &whole(&log), &decided(disturbed.iter()).0);
    }
}

#[test]
fn a_mark_that_was_appended_twice_counts_once() {
    let shape = Shape { seconds: 120, ..Shape::WHOLE };
    let mut log: Vec<SignalBatch> = live(3, 1, Shape { marks: false, ..shape }).into_iter().map(|(_, b)| b).collect();
    let mark = |seconds: i64| batch(1, vec![SignalEntry::Mark { at: MediaTime::from_millis(seconds * 1000) }]);
    let at = log.len() / 2;
    // 10 is long over and nothing covers it; 200 is after the end.
    for (index, seconds) in [(at, 10), (at + 1, 14), (at + 2, 200)] {
        log.insert(index, mark(seconds));
    }
    let (once, decisions) = decided(log.iter());
    let mut twice = log.clone();
    let last = twice.len();
    for (index, seconds) in
        [(last, 14), (last, 10), (last, 200), (last - 20, 10), (at + 40, 14), (at + 40, 10), (at + 5, 10)]
    {
        twice.insert(index, mark(seconds));
    }
    assert_same(3, &once, &decided(twice.iter()).0);
    let markers = once.lines().filter(|line| line.contains(r#""type":"marker""#)).count();
    assert!(markers >= 4 && markers < decisions, "{markers} of {decisions}");
}

#[test]
fn a_session_starts_once_and_ends_once() {
    let first = live(5, 1, Shape { seconds: 90, ..Shape::WHOLE });
    let second = live(6, 2, Shape { seconds: 90, ..Shape::WHOLE });
    let log: Vec<SignalBatch> = first.iter().chain(&second).map(|(_, batch)| batch.clone()).collect();
    let (start, end) = (log[0].clone(), log[first.len() - 1].clone());
    // It was asked for again, a moment later and as something else.
    let other = SignalEntry::SessionStart { wall: WallTime(7), media: false };
    let mut twice = Vec::new();
    for (index, record) in log.iter().enumerate() {
        twice.push(record.clone());
        if index.is_multiple_of(50) {
            twice.extend([start.clone(), batch(1, vec![other])]);
        }
        if index >= first.len() - 1 && index.is_multiple_of(30) {
            twice.push(end.clone());
        }
    }
    assert_same(5, &decided(log.iter()).0, &decided(twice.iter()).0);
}

/// A partition as the bus keeps it, and what of it is committed: with each state the position that it goes to.
struct Partition {
    records: Vec<(usize, SignalBatch)>,
    committed: BTreeMap<usize, (usize, Vec<u8>)>,
    /// The owner's.
    running: BTreeMap<usize, (usize, StreamFusion)>,
    next: usize,
}

/// What was decided, by stream and position.
type Ledger = BTreeMap<(usize, usize), String>;

impl Partition {
    /// The next record, as `src/roles/fuse.rs` takes it; the state is committed now and then.
    fn step(&mut self, rng: &mut Rng, ledger: &mut Ledger) {
        let Some((stream, batch)) = self.records.get(self.next) else { return };
        let known = || self.committed.get(stream).map(|(to, state)| (*to, StreamFusion::restore(state)));
        let (done, fusion) = self.running.entry(*stream).or_insert_with(|| match known() {
            Some((to, state)) => (to, state.unwrap_or_else(|e| panic!("{e}"))),
            None => (0, fresh(&StreamId::from_raw(format!("str_{stream}")))),
        });
        self.next += 1;
        if self.next <= *done {
            return;
        }
        let mut told = String::new();
        note(&fusion.apply(batch), &mut told);
        *done = self.next;
        if let Some(before) = ledger.insert((*stream, self.next), told.clone()) {
            assert_eq!(before, told, "stream {stream}, record {}: decided otherwise the second time", self.next);
        }
        if rng.once_in(30) {
            let state = fusion.snapshot().unwrap_or_else(|e| panic!("{e}"));
            self.committed.insert(*stream, (self.next, state));
        }
    }

    /// Another process goes on, from what is committed.
    fn change_hands(&mut self) {
        self.running.clear();
        let streams: std::collections::BTreeSet<usize> = self.records.iter().map(|(stream, _)| *stream).collect();
        let position = |stream| self.committed.get(stream).map_or(0, |(to, _)| *to);
        self.next = streams.iter().map(position).min().unwrap_or(0);
    }
}

/// Decisions of each stream, from so many partitions whose records come in an order that the seed chooses.
fn over_partitions(seed: u64, logs: &[Vec<Written>], partitions: usize, mut changes: u32) -> Vec<String> {
    let mut rng = Rng::new(seed);
    let mut plane: Vec<Partition> = Vec::new();
    plane.resize_with(partitions, || Partition {
        records: Vec::new(),
        committed: BTreeMap::new(),
        running: BTreeMap::new(),
        next: 0,
    });
    let mut next = vec![0; logs.len()];
    loop {
        let open: Vec<usize> = (0..logs.len()).filter(|stream| next[*stream] < logs[*stream].len()).collect();
        if open.is_empty() {
            break;
        }
        let stream = open[rng.below(open.len() as u64) as usize];
        let count = 1 + rng.below(30) as usize;
        let records = logs[stream].iter().skip(next[stream]).take(count).map(|(_, batch)| (stream, batch.clone()));
        plane[stream % partitions].records.extend(records);
        next[stream] += count;
    }
    let mut ledger = Ledger::new();
    while plane.iter().any(|partition| partition.next < partition.records.len()) {
        let partition = &mut plane[rng.below(partitions as u64) as usize];
        for _ in 0..rng.below(200) {
            partition.step(&mut rng, &mut ledger);
        }
        if changes > 0 && rng.once_in(8) {
            partition.change_hands();
            changes -= 1;
        }
    }
    let of = |stream| ledger.range((stream, 0)..(stream + 1, 0)).map(|(_, told)| told.as_str()).collect();
    (0..logs.len()).map(of).collect()
}

#[test]
fn over_any_partitions_whose_readers_change() {
    let logs: Vec<_> = (0..6).map(|stream| broadcast(100 + stream)).collect();
    let expected = over_partitions(0, &logs, 1, 0);
    assert!(expected.iter().all(|told| told.contains("decision")));
    for (seed, partitions, changes) in [(1, 1, 4), (2, 8, 0), (3, 8, 20), (4, 3, 10)] {
        for (expected, found) in expected.iter().zip(over_partitions(seed, &logs, partitions, changes)) {
            assert_same(seed, expected, &found);
        }
    }
}
