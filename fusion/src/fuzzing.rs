//! Entrances for `fuzz/`: what must hold of a dimension set, whatever its text, and of decisions, whatever
//! stands in the log.

use crest_core::signal::{Modality, Signal, SignalBatch, SignalEntry};
use crest_core::{Bucket, MediaTime, OrganizationId, Session, StreamId, WallTime};

use crate::dimensions::{DimensionSet, SIGNALS, Values};
use crate::{Outcome, StreamFusion};

/// A byte (which signals are there), one byte for the value of each, and a dimension set as JSON. A set that
/// passes the check scores from 0 to 1, and its shares add up.
pub fn dimension_set(data: &[u8]) {
    let Some((head, text)) = data.split_at_checked(1 + SIGNALS) else { return };
    let Ok(set) = serde_json::from_slice::<DimensionSet>(text) else { return };
    if set.check().is_err() {
        return;
    }
    let mut values: Values = [None; SIGNALS];
    for (index, value) in values.iter_mut().enumerate() {
        *value = (head[0] >> index & 1 == 1).then(|| f64::from(head[1 + index]) / 255.0);
    }
    let evaluation = set.evaluate(&values);
    let one = 0.0..=1.0 + 1e-9;
    assert!(one.contains(&evaluation.score), "a score of {}", evaluation.score);
    assert!(evaluation.dimensions.values().all(|value| one.contains(value)), "{evaluation:?}");
    let shares: f64 = evaluation.contributions.iter().map(|(_, share)| share).sum();
    assert!((shares - evaluation.score).abs() < 1e-6, "shares of {shares} for a score of {}", evaluation.score);
    assert_eq!(set.score(&values).unwrap_or(0.0), evaluation.score);
}

/// Entries of one stream's log, 7 bytes each: what it is, when (3 bytes, and a power of two to multiply it
/// with), how much (2 bytes). Fusion that is restored from snapshots on the way decides the same.
pub fn fusion_log(data: &[u8]) {
    let set = DimensionSet { enter: 0.2, leave: 0.1, ..DimensionSet::default() };
    let mut whole = StreamFusion::new(OrganizationId::from_raw("org_f"), StreamId::from_raw("str_f"), set);
    let mut restored = whole.clone();
    let mut session = 1;
    for (index, record) in data.as_chunks::<7>().0.iter().take(150).enumerate() {
        let &[kind, t0, t1, t2, power, v0, v1] = record;
        let at = u64::from(u32::from_be_bytes([0, t0, t1, t2])) << (power % 40);
        let time = MediaTime::from_nanos(i64::try_from(at).unwrap_or(i64::MAX));
        let entry = match kind % 16 {
            0 => {
                session += 1;
                SignalEntry::SessionStart { wall: WallTime(time.nanos()), media: v0 & 1 == 0 }
            }
            1 => SignalEntry::SessionEnd { at: time },
            2 => SignalEntry::Mark { at: time },
            3..=5 => SignalEntry::Watermark { modality: Modality::ALL[usize::from(kind % 16 - 3)], to: time },
            _ => SignalEntry::Value {
                bucket: Bucket::new(at),
                signal: Signal::CATALOGUE[usize::from(kind) % SIGNALS].signal,
                value: f64::from(i16::from_be_bytes([v0, v1])),
            },
        };
        let organization_id = OrganizationId::from_raw("org_f");
        let batch = SignalBatch { organization_id, session: Session::new(session), entries: vec![entry] };
        let outcome = whole.apply(&batch);
        sound(&outcome);
        // Not always: it takes its time.
        if index % 32 == 1 {
            let state = restored.snapshot().unwrap_or_else(|e| panic!("no snapshot: {e}"));
            restored = StreamFusion::restore(&state).unwrap_or_else(|e| panic!("a snapshot that is not taken: {e}"));
        }
        assert_eq!(format!("{outcome:?}"), format!("{:?}", restored.apply(&batch)), "a restart decides otherwise");
    }
}

fn sound(outcome: &Outcome) {
    for tick in &outcome.scores {
        assert!((0.0..=1.0 + 1e-9).contains(&tick.score), "{tick:?}");
    }
    for decision in &outcome.decisions {
        let highlight = decision.highlight();
        assert!(highlight.start <= highlight.peak && highlight.peak <= highlight.end, "{highlight:?}");
        assert!(highlight.start >= MediaTime::ZERO && highlight.score.is_finite(), "{highlight:?}");
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn kept_inputs_pass() {
        replay("dimension_set", super::dimension_set);
        replay("fusion_log", super::fusion_log);
    }
}
