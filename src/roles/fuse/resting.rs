//! Streams without an open session: their past is kept for the next one, until there can be none.

use crest_core::StreamId;
use crest_core::bus::Partition;
use crest_core::store::FusionCommit;
use crest_core::stream::StreamState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::partition::{PartitionFusion, Running};
use crate::serve::Parts;

/// How often it is looked whether resting streams are over.
pub(super) const TIDY: Duration = Duration::from_secs(5);

/// Lets go of the resting streams that are over, and says what is to be committed of that; `None` where
/// there are none. Where the store does not know them, it is asked again the next time.
pub(super) async fn over(
    partitions: &mut BTreeMap<Partition, PartitionFusion>,
    parts: &Parts,
) -> Option<Vec<FusionCommit>> {
    if partitions.values().flat_map(|p| p.streams.values()).all(|running| running.fusion.is_open()) {
        return None;
    }
    let going_on = parts.store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await;
    let going_on: BTreeSet<StreamId> = going_on
        .inspect_err(|error| tracing::warn!(%error, "it is not known which streams are over"))
        .ok()?
        .into_iter()
        .map(|stream| stream.id)
        .collect();
    let commits = partitions.values_mut().filter_map(|partition| {
        let finished = forget_over(&mut partition.streams, &going_on);
        (!finished.is_empty()).then(|| FusionCommit { finished, ..FusionCommit::new(partition.claim) })
    });
    Some(commits.collect())
}

/// A stream that had a session and does not go on is over.
fn forget_over(streams: &mut BTreeMap<StreamId, Running>, going_on: &BTreeSet<StreamId>) -> Vec<StreamId> {
    let mut finished = Vec::new();
    streams.retain(|stream, running| {
        // What is in no snapshot yet has its turn first.
        let over = !running.fusion.is_open() && running.unsaved_from.is_none() && !going_on.contains(stream);
        if over {
            finished.push(stream.clone());
        }
        !over
    });
    finished
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::signal::{SignalBatch, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session, WallTime};
    use crest_fusion::{DimensionSet, StreamFusion};

    fn running(stream: &StreamId, ended: bool) -> Running {
        let organization_id = OrganizationId::from_raw("org_a");
        let mut fusion = StreamFusion::new(organization_id.clone(), stream.clone(), DimensionSet::default());
        let mut entries = vec![SignalEntry::SessionStart { wall: WallTime(0), media: true }];
        entries.extend(ended.then_some(SignalEntry::SessionEnd { at: MediaTime::from_millis(1000) }));
        fusion.apply(&SignalBatch { organization_id, session: Session::new(1), entries });
        Running { fusion, offset: Some(1), unsaved_from: None, since_snapshot: 0 }
    }

    #[test]
    fn a_stream_that_is_over_is_forgotten_and_one_that_goes_on_is_not() {
        let [over, unsaved, between, live] = ["over", "unsaved", "between", "live"].map(StreamId::from_raw);
        let mut streams: BTreeMap<_, _> =
            [&over, &unsaved, &between].map(|stream| (stream.clone(), running(stream, true))).into();
        streams.insert(live.clone(), running(&live, false));
        streams.get_mut(&unsaved).into_iter().for_each(|running| running.unsaved_from = Some(1));
        // What the store says may be of before the session that is open.
        assert_eq!(forget_over(&mut streams, &[between.clone()].into()), [over]);
        assert_eq!(streams.into_keys().collect::<BTreeSet<_>>(), [unsaved, between, live].into());
    }
}
