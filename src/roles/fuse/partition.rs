//! One partition of the signals log: its streams, and what follows from its records.

use crest_core::bus::{Assigned, Received};
use crest_core::event::{Event, EventType};
use crest_core::highlight::Decision;
use crest_core::signal::SignalBatch;
use crest_core::store::{Claim, Claimed, Decided, FusionCommit, Snapshot};
use crest_core::view::{HighlightView, Links};
use crest_core::{Result, StreamId, WallTime};
use crest_fusion::{DimensionSet, STATE_VERSION, StreamFusion};
use std::collections::{BTreeMap, BTreeSet};

use super::resume::{Resume, restore_all};

/// Records of a stream between two snapshots.
const SNAPSHOT_EVERY: u64 = 256;
/// Streams of a partition without an open session whose past is remembered for the next one; the one
/// that has been without longest is forgotten first.
const MAX_RESTING: usize = 1024;

/// One stream's fusion and how far its last snapshot goes.
pub(super) struct Running {
    pub(super) fusion: StreamFusion,
    /// Records up to and with this offset are in the state.
    pub(super) offset: Option<u64>,
    /// The first record that is in the state and in no snapshot.
    pub(super) unsaved_from: Option<u64>,
    pub(super) since_snapshot: u64,
}

/// The streams of a partition, in the right of one claim.
pub(super) struct PartitionFusion {
    pub(super) claim: Claim,
    pub(super) streams: BTreeMap<StreamId, Running>,
    assigned: Assigned,
    resume: Resume,
    /// From where reading was asked to begin.
    from: u64,
}

/// What follows from some records.
#[derive(Default)]
pub(super) struct Applied {
    /// What is to be committed, if anything is.
    pub(super) commit: Option<FusionCommit>,
    /// Which records cannot be read, and why.
    pub(super) unreadable: Vec<(usize, String)>,
}

impl PartitionFusion {
    /// Goes on from what was committed, and says from which offset the log is to be read.
    pub(super) fn resume(claimed: Claimed, assigned: Assigned) -> (Self, u64) {
        let Claimed { claim, snapshots, offset } = claimed;
        let (streams, resume) = restore_all(snapshots, offset, &assigned);
        let from = resume.from(&assigned);
        (Self { claim, streams, assigned, resume, from }, from)
    }

    /// What the bus said of the partition.
    pub(super) fn assigned(&self) -> Assigned {
        self.assigned
    }

    /// Takes records in order.
    pub(super) fn apply(&mut self, items: &[Received], links: &Links, now: WallTime) -> anyhow::Result<Applied> {
        let mut commit = FusionCommit::new(self.claim);
        let mut unreadable = Vec::new();
        if items.iter().any(|item| item.position.offset < self.from) {
            self.begin_anew();
        }
        for (index, item) in items.iter().enumerate() {
            if let Err(error) = self.apply_one(item, links, now, &mut commit) {
                unreadable.push((index, error.message));
            }
        }
        if let Some(last) = items.last() {
            self.conclude(last.position.offset, &mut commit)?;
        }
        let any = !commit.decisions.is_empty() || !commit.snapshots.is_empty() || !commit.finished.is_empty();
        Ok(Applied { commit: any.then_some(commit), unreadable })
    }

    /// What is read lies before what was asked for: the topic was made anew, and its offsets begin again. What was
    /// committed of the old ones says nothing of them; what the streams remember stays, and is kept again with
    /// the first commit, so that no old offset is taken for a new one later.
    fn begin_anew(&mut self) {
        tracing::warn!(
            partition = self.claim.partition,
            asked = self.from,
            "the signals log is shorter than what was committed from it: it was made anew, and is read from its first record"
        );
        (self.from, self.resume) = (0, Resume::default());
        for running in self.streams.values_mut() {
            (running.offset, running.since_snapshot) = (None, SNAPSHOT_EVERY);
        }
    }

    fn apply_one(&mut self, item: &Received, links: &Links, now: WallTime, commit: &mut FusionCommit) -> Result<()> {
        let batch = SignalBatch::decode(&item.record.payload)?;
        let (stream, offset) = (&item.record.key, item.position.offset);
        if !self.streams.contains_key(stream) && self.resume.is_done(stream, offset) {
            return Ok(());
        }
        let running = self.streams.entry(stream.clone()).or_insert_with(|| Running {
            fusion: StreamFusion::new(batch.organization_id.clone(), stream.clone(), DimensionSet::default()),
            offset: None,
            unsaved_from: None,
            since_snapshot: 0,
        });
        if running.offset.is_some_and(|known| offset <= known) {
            return Ok(());
        }
        let outcome = running.fusion.apply(&batch);
        running.offset = Some(offset);
        running.unsaved_from.get_or_insert(offset);
        running.since_snapshot += 1;
        metrics::counter!("crest_signals_total").increment(batch.entries.len() as u64);
        if self.resume.is_told(stream, offset) {
            return Ok(());
        }
        for decision in outcome.decisions {
            let highlight = decision.highlight();
            let started = running.fusion.started(highlight.session).unwrap_or(now);
            let trace = item.record.trace;
            let event = event(&decision, started, links, now).map(|event| Event { trace, ..event });
            tracing::info!(
                stream_id = %stream,
                session = highlight.session.number(),
                highlight_id = %highlight.id,
                state = highlight.state.name(),
                score = highlight.score,
                start_s = highlight.start.secs_f64(),
                reason = highlight.reason,
                trace_id = trace.map(|trace| trace.id_hex()),
                "highlight decided"
            );
            commit.decisions.push(Decided { decision, event, trace });
        }
        Ok(())
    }

    /// Adds the snapshots that are due and the streams to forget, and says from where the log is still
    /// needed.
    fn conclude(&mut self, last: u64, commit: &mut FusionCommit) -> anyhow::Result<()> {
        let decided: BTreeSet<&StreamId> =
            commit.decisions.iter().map(|decided| &decided.decision.highlight().stream_id).collect();
        let mut snapshots = Vec::new();
        for (stream, running) in &mut self.streams {
            // With a decision, and with the end of a session, goes the state that it left.
            let now = decided.contains(stream) || !running.fusion.is_open();
            let due = running.since_snapshot >= SNAPSHOT_EVERY || (now && running.since_snapshot > 0);
            if due {
                // Of a log that was made anew it may have none up to here.
                let offset = running.offset.unwrap_or(last);
                let state = running.fusion.snapshot()?;
                snapshots.push(Snapshot { stream_id: stream.clone(), offset, version: STATE_VERSION, state });
                (running.since_snapshot, running.unsaved_from) = (0, None);
            }
        }
        commit.snapshots = snapshots;
        while let Some(stream) = self.forgettable() {
            self.streams.remove(&stream);
            commit.snapshots.retain(|s| s.stream_id != stream);
            commit.finished.push(stream);
        }
        // The log is needed from the first record that no snapshot holds.
        let unsaved = self.streams.values().filter_map(|running| running.unsaved_from).min();
        commit.offset = match unsaved {
            Some(first) => first.checked_sub(1),
            None => Some(last),
        };
        Ok(())
    }

    /// The stream that has been without a session longest, where too many are.
    fn forgettable(&self) -> Option<StreamId> {
        let resting = self.streams.iter().filter(|(_, running)| !running.fusion.is_open());
        let oldest = resting.clone().min_by_key(|(_, running)| running.offset).map(|(stream, _)| stream.clone());
        oldest.filter(|_| resting.count() > MAX_RESTING)
    }
}

/// What is told of a decision. A final one is told when its clip is ready.
fn event(decision: &Decision, session_started_at: WallTime, links: &Links, now: WallTime) -> Option<Event> {
    let event_type = match decision {
        Decision::Detected { .. } => EventType::HighlightDetected,
        Decision::Updated { .. } => EventType::HighlightUpdated,
        Decision::Deleted { .. } => EventType::HighlightDeleted,
        Decision::Finalized { .. } => return None,
    };
    let highlight = decision.highlight();
    let view = HighlightView::of_decision(highlight, session_started_at, links);
    Some(view.event(&highlight.organization_id, event_type, now))
}

#[cfg(test)]
mod tests;
