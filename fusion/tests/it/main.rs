//! Fusion from outside: what it decides, and that neither restarts nor the bus change it.

mod delivered;
mod golden;
mod logs;

use crest_core::signal::SignalBatch;
use crest_core::{OrganizationId, StreamId};
use crest_fusion::{DimensionSet, Outcome, StreamFusion};
use std::fmt::Write;

fn fresh(stream: &StreamId) -> StreamFusion {
    StreamFusion::new(OrganizationId::from_raw("org_3f9c2ab07d51"), stream.clone(), DimensionSet::default())
}

/// Writes down what came out, byte for byte: decisions, and the bits of the scores.
fn note(outcome: &Outcome, told: &mut String) {
    for decision in &outcome.decisions {
        told.push_str(&serde_json::to_string(decision).unwrap_or_else(|e| panic!("{e}")));
        told.push('\n');
    }
    for tick in &outcome.scores {
        let _ = writeln!(told, "{} {} {:016x}", tick.session, tick.bucket.index(), tick.score.to_bits());
    }
}

/// What one stream's log says, in one go, and how many decisions there are.
fn decided<'a>(log: impl Iterator<Item = &'a SignalBatch>) -> (String, usize) {
    let mut fusion = fresh(&StreamId::from_raw("str_9a1d77c20be4"));
    let (mut told, mut count) = (String::new(), 0);
    for batch in log {
        let outcome = fusion.apply(batch);
        note(&outcome, &mut told);
        count += outcome.decisions.len();
    }
    (told, count)
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
