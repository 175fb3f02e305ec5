//! Where fusion goes on after a partition was claimed: from snapshots, and from the log where they cannot
//! be read.

use crest_core::StreamId;
use crest_core::bus::Assigned;
use crest_core::store::Snapshot;
use crest_fusion::{STATE_VERSION, StreamFusion};
use std::collections::BTreeMap;

use super::partition::Running;

/// From where the log is read after a start, and for whom.
#[derive(Default)]
pub(super) struct Resume {
    /// Everything up to and with this offset is in a snapshot or over.
    committed: Option<u64>,
    /// Streams whose snapshot cannot be read, and the offset it had: they are rebuilt from the log
    /// that is left. What they decide up to there was told already, and is not told again even where
    /// this version decides otherwise.
    rebuilt: BTreeMap<StreamId, u64>,
}

impl Resume {
    /// The first offset that is to be read.
    pub(super) fn from(&self, assigned: &Assigned) -> u64 {
        match self.committed {
            Some(offset) if self.rebuilt.is_empty() => offset.saturating_add(1).max(assigned.first),
            _ => assigned.first,
        }
    }

    /// Whether the log was read to here for this stream already.
    pub(super) fn is_done(&self, stream: &StreamId, offset: u64) -> bool {
        self.committed.is_some_and(|committed| offset <= committed) && !self.rebuilt.contains_key(stream)
    }

    /// Whether what is decided here was told by an earlier process.
    pub(super) fn is_told(&self, stream: &StreamId, offset: u64) -> bool {
        self.rebuilt.get(stream).is_some_and(|told| offset <= *told)
    }
}

/// The streams whose snapshots can be read, and how to go on with the rest.
pub(super) fn restore_all(
    snapshots: Vec<Snapshot>,
    committed: Option<u64>,
    assigned: &Assigned,
) -> (BTreeMap<StreamId, Running>, Resume) {
    let mut streams = BTreeMap::new();
    let mut resume = Resume { committed, rebuilt: BTreeMap::new() };
    for snapshot in snapshots {
        match restore(&snapshot) {
            Some(running) => {
                streams.insert(snapshot.stream_id, running);
            }
            None => {
                resume.rebuilt.insert(snapshot.stream_id, snapshot.offset);
            }
        }
    }
    if let Some(offset) = committed
        && assigned.first > offset.saturating_add(1)
    {
        tracing::error!(
            partition = assigned.partition,
            missing = assigned.first - offset - 1,
            "records of the signals log were removed before fusion had read them; keep them longer (bus.kafka.retention)"
        );
    }
    (streams, resume)
}

/// `None` for a state of another version, or one that cannot be read.
fn restore(snapshot: &Snapshot) -> Option<Running> {
    if snapshot.version != STATE_VERSION {
        tracing::warn!(stream_id = %snapshot.stream_id, version = snapshot.version, "fusion state of another version");
        return None;
    }
    match StreamFusion::restore(&snapshot.state) {
        Ok(fusion) => Some(Running { fusion, offset: Some(snapshot.offset), unsaved_from: None, since_snapshot: 0 }),
        Err(error) => {
            tracing::error!(stream_id = %snapshot.stream_id, %error, "fusion state cannot be read");
            None
        }
    }
}
