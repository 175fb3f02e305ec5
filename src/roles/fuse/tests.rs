//! Restarts: what is rebuilt, and what is not told again.

use super::*;
use crest_core::bus::{Record, Start};
use crest_core::signal::{Modality, SignalEntry};
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

fn told(streams: &mut BTreeMap<StreamId, Running>, resume: &Resume, records: &[Record]) -> Vec<f64> {
    let (links, mut commit) = (Links::new("http://crest"), FusionCommit::default());
    for (position, record) in records.iter().enumerate() {
        let item = Received { position: position as u64, seen: false, record: record.clone() };
        assert_eq!(apply(streams, resume, &item, &links, WallTime(0), &mut commit), Ok(()));
    }
    let finals = commit.decisions.iter().filter(|(d, _)| matches!(d, Decision::Finalized { .. }));
    finals.map(|(d, _)| d.highlight().peak.secs_f64()).collect()
}

#[test]
fn a_state_of_another_version_is_rebuilt_and_what_was_told_is_not_told_again() {
    let stream = StreamId::from_raw("str_a");
    let snapshot = Snapshot { stream_id: stream.clone(), position: 2, version: STATE_VERSION + 1, state: vec![] };
    let (mut streams, resume) = restore_all(vec![snapshot], Some(2));
    assert_eq!(resume.start(), Start::At(0));
    assert_eq!(told(&mut streams, &resume, &log("str_a")), [25.0]);
    // Another stream's part of the log up to there is over.
    assert_eq!(told(&mut streams, &resume, &log("str_b")), [] as [f64; 0]);
}

#[test]
fn a_restart_from_a_snapshot_decides_the_rest() {
    let records = log("str_a");
    let (mut whole, fresh) = restore_all(Vec::new(), None);
    assert_eq!(told(&mut whole, &fresh, &records), [5.0, 25.0]);

    let (mut first, _) = restore_all(Vec::new(), None);
    assert_eq!(told(&mut first, &fresh, &records[..3]), [5.0]);
    let mut commit = FusionCommit::default();
    first.values_mut().for_each(|running| running.since_snapshot = SNAPSHOT_EVERY);
    assert!(conclude(&mut first, 2, &mut commit).is_ok());
    assert_eq!(commit.position, Some(2));
    let (mut second, resume) = restore_all(commit.snapshots, commit.position);
    assert_eq!(resume.start(), Start::At(3));
    assert_eq!(told(&mut second, &resume, &records), [25.0]);
}
