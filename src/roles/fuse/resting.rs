//! Streams without an open session: their past is kept for the next one, until there can be none.

use crest_core::store::FusionCommit;
use crest_core::stream::StreamState;
use crest_core::{Result, StreamId, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::insist;
use super::Running;
use crate::serve::Parts;

/// How often it is looked whether resting streams are over.
pub(super) const TIDY: Duration = Duration::from_secs(5);

/// Forgets the resting streams that are over; `None` when it is time to stop. Where the store does not
/// know them, it is asked again the next time.
pub(super) async fn tidy(streams: &mut BTreeMap<StreamId, Running>, parts: &Parts) -> Result<Option<()>> {
    if streams.values().all(|running| running.fusion.is_open()) {
        return Ok(Some(()));
    }
    let mut commit = FusionCommit::default();
    match parts.store.streams_in(&[StreamState::Live, StreamState::Interrupted]).await {
        Ok(going_on) => {
            let going_on = going_on.into_iter().map(|stream| stream.id).collect();
            forget_over(streams, &going_on, &mut commit);
        }
        Err(error) => tracing::warn!(%error, "it is not known which streams are over"),
    }
    if commit.finished.is_empty() {
        return Ok(Some(()));
    }
    let now = WallTime(jiff::Timestamp::now().as_millisecond());
    insist("forgetting streams that are over", &parts.shutdown, || parts.store.commit_fusion(&commit, now)).await
}

/// A stream that had a session and does not go on is over.
fn forget_over(streams: &mut BTreeMap<StreamId, Running>, going_on: &BTreeSet<StreamId>, commit: &mut FusionCommit) {
    streams.retain(|stream, running| {
        // What is in no snapshot yet has its turn first.
        let over = !running.fusion.is_open() && running.unsaved_from.is_none() && !going_on.contains(stream);
        if over {
            commit.finished.push(stream.clone());
        }
        !over
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::signal::{SignalBatch, SignalEntry};
    use crest_core::{MediaTime, OrganizationId, Session};
    use crest_fusion::{DimensionSet, StreamFusion};

    fn running(stream: &StreamId, ended: bool) -> Running {
        let organization_id = OrganizationId::from_raw("org_a");
        let mut fusion = StreamFusion::new(organization_id.clone(), stream.clone(), DimensionSet::default());
        let mut entries = vec![SignalEntry::SessionStart { wall: WallTime(0), media: true }];
        entries.extend(ended.then_some(SignalEntry::SessionEnd { at: MediaTime::from_millis(1000) }));
        fusion.apply(&SignalBatch { organization_id, session: Session::new(1), entries });
        Running { fusion, position: Some(1), unsaved_from: None, since_snapshot: 0 }
    }

    #[test]
    fn a_stream_that_is_over_is_forgotten_and_one_that_goes_on_is_not() {
        let [over, unsaved, between, live] = ["over", "unsaved", "between", "live"].map(StreamId::from_raw);
        let mut streams: BTreeMap<_, _> =
            [&over, &unsaved, &between].map(|stream| (stream.clone(), running(stream, true))).into();
        streams.insert(live.clone(), running(&live, false));
        streams.get_mut(&unsaved).into_iter().for_each(|running| running.unsaved_from = Some(1));
        let mut commit = FusionCommit::default();
        // What the store says may be of before the session that is open.
        forget_over(&mut streams, &[between.clone()].into(), &mut commit);
        assert_eq!(commit.finished, [over]);
        assert_eq!(streams.into_keys().collect::<BTreeSet<_>>(), [unsaved, between, live].into());
    }
}
