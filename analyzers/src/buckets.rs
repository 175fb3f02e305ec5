//! Values on their way into the log: collected per bucket and signal, emitted once their bucket is
//! complete.

use crest_core::signal::{Modality, Signal, SignalEntry};
use crest_core::{Bucket, MediaTime};
use std::collections::BTreeMap;

/// Buckets a modality may collect ahead of its watermark; older values leave first.
const MAX_PENDING: usize = 4096;

/// Collected values.
#[derive(Debug, Default)]
pub struct Values {
    pending: BTreeMap<(Bucket, Signal), f64>,
}

impl Values {
    /// Sets a value. What is not finite is not a measurement and is left out.
    pub fn set(&mut self, bucket: Bucket, signal: Signal, value: f64) {
        if value.is_finite() {
            self.pending.insert((bucket, signal), value);
        }
    }

    /// Sets a value where it is larger than what is there.
    pub fn raise(&mut self, bucket: Bucket, signal: Signal, value: f64) {
        if self.pending.get(&(bucket, signal)).is_none_or(|old| value > *old) {
            self.set(bucket, signal, value);
        }
    }

    /// Takes what was measured on `modality` in buckets that end at or before `to`.
    pub(crate) fn take(&mut self, modality: Modality, to: MediaTime) -> Vec<SignalEntry> {
        let over = self.pending.len() > MAX_PENDING;
        let mut taken = Vec::new();
        self.pending.retain(|(bucket, signal), value| {
            let ready = signal.modality() == modality && (over || bucket.end() <= to);
            if ready {
                taken.push(SignalEntry::Value { bucket: *bucket, signal: *signal, value: *value });
            }
            !ready
        });
        taken
    }
}
