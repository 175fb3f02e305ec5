//! Restarts: what is rebuilt, and what is not told again.

use super::*;
use crest_core::bus::{Position, Record};
use crest_core::signal::{Modality, SignalEntry};
use crest_core::topic::Topic;
use crest_core::{MediaTime, OrganizationId, Session};

/// A log in which a person marks second 5, then second 25.
fn log(stream: &str) -> Vec<Record> {
    let entries = [
        vec![SignalEntry::SessionStart { wall: WallTime(0), media: true }],
        vec![SignalEntry::Mark { at: MediaTime::from_millis(5000) }],
        vec![SignalEntry::Watermark { modality: Modality::Video, to: MediaTime::from_millis(20_000) }],
        vec![SignalEntry::Mark { at: MediaTime::from_millis(25_000) }],
        vec![SignalEntry::Watermark { modality: Modality::Video, to: MediaTime::from_millis(40_000) }],
    ];
    let record = |entries| {
        let organization_id = OrganizationId::from_raw("org_a");
        let batch = SignalBatch { organization_id, session: Session::new(1), entries };
        Record::new(Topic::Signals, StreamId::from_raw(stream), batch.encode().unwrap_or_default())
    };
    entries.into_iter().map(record).collect()
}

fn claimed(snapshots: Vec<Snapshot>, offset: Option<u64>) -> Claimed {
    Claimed { claim: Claim { partition: 3, epoch: 1 }, snapshots, offset }
}

/// A partition that holds so many records.
fn holding(end: u64) -> Assigned {
    Assigned { partition: 3, first: 0, end }
}

/// The peaks of what is final in these records, the first of which has this offset, and what is to be committed.
fn told(fusion: &mut PartitionFusion, first: u64, records: &[Record]) -> (Vec<f64>, FusionCommit) {
    let items: Vec<Received> = (first..)
        .zip(records)
        .map(|(offset, record)| {
            let position = Position { partition: 3, offset };
            Received { position, seen: false, record: record.clone() }
        })
        .collect();
    let applied = fusion.apply(&items, &Links::new("http://crest"), WallTime(0)).unwrap_or_default();
    assert_eq!(applied.unreadable, []);
    let commit = applied.commit.unwrap_or_else(|| FusionCommit::new(fusion.claim));
    let finals = commit.decisions.iter().filter(|d| matches!(d.decision, Decision::Finalized { .. }));
    (finals.map(|d| d.decision.highlight().peak.secs_f64()).collect(), commit)
}

#[test]
fn a_state_of_another_version_is_rebuilt_and_what_was_told_is_not_told_again() {
    let stream = StreamId::from_raw("str_a");
    let snapshot = Snapshot { stream_id: stream, offset: 2, version: STATE_VERSION + 1, state: vec![] };
    let (mut fusion, from) = PartitionFusion::resume(claimed(vec![snapshot], Some(2)), holding(5));
    assert_eq!(from, 0);
    assert_eq!(told(&mut fusion, 0, &log("str_a")).0, [25.0]);
    // Another stream's part of the log up to there is over.
    assert_eq!(told(&mut fusion, 0, &log("str_b")).0, [] as [f64; 0]);
}

#[test]
fn a_restart_from_a_snapshot_decides_the_rest() {
    let records = log("str_a");
    let (mut whole, _) = PartitionFusion::resume(claimed(Vec::new(), None), holding(5));
    assert_eq!(told(&mut whole, 0, &records).0, [5.0, 25.0]);

    let (mut first, _) = PartitionFusion::resume(claimed(Vec::new(), None), holding(5));
    let (peaks, commit) = told(&mut first, 0, &records[..3]);
    assert_eq!((peaks, commit.offset), (vec![5.0], Some(2)));
    let (mut second, from) = PartitionFusion::resume(claimed(commit.snapshots, commit.offset), holding(5));
    assert_eq!(from, 3);
    assert_eq!(told(&mut second, from, &records[3..]).0, [25.0]);
}

#[test]
fn a_log_that_was_made_anew_is_read_from_its_first_record() {
    let records = log("str_a");
    let (mut first, _) = PartitionFusion::resume(claimed(Vec::new(), None), holding(5));
    let (_, commit) = told(&mut first, 0, &records[..3]);
    let mut snapshots = commit.snapshots;
    snapshots.iter_mut().for_each(|snapshot| snapshot.offset = 1000);
    let (mut second, from) = PartitionFusion::resume(claimed(snapshots, Some(1000)), holding(2));
    assert_eq!(from, 1001);
    // The bus hands out what there is: its offsets lie below those of the snapshot, and count all the same.
    let other = log("str_b");
    let (_, commit) = told(&mut second, 0, &other[..2]);
    // Whoever goes on from there takes no old offset for a new one.
    let (mut third, from) = PartitionFusion::resume(claimed(commit.snapshots, commit.offset), holding(5));
    assert!(from <= 2, "{from}");
    assert_eq!(told(&mut third, 2, &records[3..]).0, [25.0]);
}

#[test]
fn what_was_committed_after_the_partition_was_assigned_is_no_sign_of_a_new_log() {
    let records = log("str_a");
    let (mut first, _) = PartitionFusion::resume(claimed(Vec::new(), None), holding(5));
    let (_, commit) = told(&mut first, 0, &records[..3]);
    // When it was assigned it held one record; the one before went on until this one claimed it.
    let (mut second, from) = PartitionFusion::resume(claimed(commit.snapshots, commit.offset), holding(1));
    assert_eq!(from, 3);
    assert_eq!(told(&mut second, from, &records[3..]).0, [25.0]);
}
