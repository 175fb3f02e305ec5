//! Fuse: the signals log becomes decisions, committed with their events.

use crest_core::bus::{Position, Received};
use crest_core::crash::{Stage, around};
use crest_core::event::{Event, EventType};
use crest_core::highlight::Decision;
use crest_core::signal::SignalBatch;
use crest_core::store::{FusionCommit, Snapshot};
use crest_core::topic::Topic;
use crest_core::view::{HighlightView, Links};
use crest_core::{Result, StreamId, WallTime};
use crest_fusion::{DimensionSet, STATE_VERSION, StreamFusion};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{insist, next};
use crate::serve::Parts;
use resting::{TIDY, tidy};
use resume::{Resume, restore_all};

mod resting;
mod resume;

/// The consumer group of fusion.
const GROUP: &str = "fuse";
/// Records of a stream between two snapshots.
const SNAPSHOT_EVERY: u64 = 256;
/// Streams without an open session whose past is remembered for the next one; the one that has been
/// without longest is forgotten first.
const MAX_RESTING: usize = 1024;

/// One stream's fusion and how far its last snapshot goes.
struct Running {
    fusion: StreamFusion,
    /// Records up to and with this position are in the state.
    position: Option<Position>,
    /// The first record that is in the state and in no snapshot.
    unsaved_from: Option<Position>,
    since_snapshot: u64,
}

/// Runs until shutdown.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let shutdown = parts.shutdown.clone();
    let state = insist("reading fusion's state", &shutdown, || parts.store.fusion_state()).await?;
    let Some((snapshots, committed)) = state else {
        return Ok(());
    };
    let (mut streams, resume) = restore_all(snapshots, committed);
    let start = resume.start();
    let mut subscription = parts.bus.subscribe(Topic::Signals, GROUP, start).await?;
    let mut tidied = Instant::now();
    loop {
        let received = match tokio::time::timeout(TIDY, next(&mut subscription, &shutdown)).await {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(()),
            Err(_) => Vec::new(),
        };
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            if tidy(&mut streams, &parts).await?.is_none() {
                return Ok(());
            }
        }
        let Some(last) = received.last().map(|r| r.position) else { continue };
        let now = WallTime(jiff::Timestamp::now().as_millisecond());
        let mut commit = FusionCommit::default();
        for item in &received {
            if let Err(error) = apply(&mut streams, &resume, item, &parts.links, now, &mut commit) {
                let set_aside = || parts.bus.dead_letter(Topic::Signals, item, &error.message);
                if insist("setting a record aside", &shutdown, set_aside).await?.is_none() {
                    return Ok(());
                }
            }
        }
        conclude(&mut streams, last, &mut commit)?;
        let acknowledged = commit.position;
        let told = commit.decisions.len();
        if told > 0 || !commit.snapshots.is_empty() || !commit.finished.is_empty() {
            if keep(&parts, commit, now).await?.is_none() {
                return Ok(());
            }
            metrics::counter!("crest_decisions_total").increment(told as u64);
            if let Some(position) = acknowledged
                && let Err(error) = subscription.acknowledge(position).await
            {
                // It only says what of the log can go; the store knows where fusion goes on.
                tracing::warn!(%error, "the signals log could not be acknowledged");
            }
        }
    }
}

/// Commits until it is done. A decision that the store refuses for good must not hold up those of
/// every other stream: then each is committed alone, and what is refused is told in the log.
async fn keep(parts: &Parts, commit: FusionCommit, now: WallTime) -> Result<Option<()>> {
    let shutdown = &parts.shutdown;
    let whole = || around(Stage::Fuse, parts.store.commit_fusion(&commit, now));
    match insist("committing decisions", shutdown, whole).await {
        Err(error) if !commit.decisions.is_empty() => {
            tracing::error!(%error, "decisions are committed one by one");
        }
        done => return done,
    }
    let FusionCommit { decisions, snapshots, finished, position } = commit;
    for (decision, event) in decisions {
        let told = decision.highlight();
        let (id, stream, session) = (told.id.clone(), told.stream_id.clone(), told.session.number());
        let alone = FusionCommit { decisions: vec![(decision, event)], ..FusionCommit::default() };
        match insist("committing a decision", shutdown, || parts.store.commit_fusion(&alone, now)).await {
            Ok(Some(())) => {}
            Ok(None) => return Ok(None),
            Err(error) => {
                metrics::counter!("crest_decisions_refused_total").increment(1);
                tracing::error!(stream_id = %stream, session, highlight_id = %id, %error, "a decision was refused; please report this");
            }
        }
    }
    let rest = FusionCommit { decisions: Vec::new(), snapshots, finished, position };
    insist("committing fusion's state", shutdown, || parts.store.commit_fusion(&rest, now)).await
}

fn apply(
    streams: &mut BTreeMap<StreamId, Running>,
    resume: &Resume,
    item: &Received,
    links: &Links,
    now: WallTime,
    commit: &mut FusionCommit,
) -> Result<()> {
    let batch = SignalBatch::decode(&item.record.payload)?;
    let stream = &item.record.key;
    if !streams.contains_key(stream) && resume.is_done(stream, item.position) {
        return Ok(());
    }
    let running = streams.entry(stream.clone()).or_insert_with(|| Running {
        fusion: StreamFusion::new(batch.organization_id.clone(), stream.clone(), DimensionSet::default()),
        position: None,
        unsaved_from: None,
        since_snapshot: 0,
    });
    if running.position.is_some_and(|position| item.position <= position) {
        return Ok(());
    }
    let outcome = running.fusion.apply(&batch);
    running.position = Some(item.position);
    running.unsaved_from.get_or_insert(item.position);
    running.since_snapshot += 1;
    metrics::counter!("crest_signals_total").increment(batch.entries.len() as u64);
    if resume.is_told(stream, item.position) {
        return Ok(());
    }
    for decision in outcome.decisions {
        let highlight = decision.highlight();
        let started = running.fusion.started(highlight.session).unwrap_or(now);
        let event = event(&decision, started, links, now);
        tracing::info!(
            stream_id = %stream,
            session = highlight.session.number(),
            highlight_id = %highlight.id,
            state = highlight.state.name(),
            score = highlight.score,
            start_s = highlight.start.secs_f64(),
            reason = highlight.reason,
            "highlight decided"
        );
        commit.decisions.push((decision, event));
    }
    Ok(())
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

/// Adds the snapshots that are due and the streams to forget, and says from where the log is still
/// needed.
fn conclude(
    streams: &mut BTreeMap<StreamId, Running>,
    last: Position,
    commit: &mut FusionCommit,
) -> anyhow::Result<()> {
    let mut snapshots = Vec::new();
    let decided: BTreeSet<&StreamId> = commit.decisions.iter().map(|(d, _)| &d.highlight().stream_id).collect();
    for (stream, running) in streams.iter_mut() {
        // With a decision, and with the end of a session, goes the state that it left.
        let now = decided.contains(stream) || !running.fusion.is_open();
        let due = running.since_snapshot >= SNAPSHOT_EVERY || (now && running.since_snapshot > 0);
        if let (true, Some(position)) = (due, running.position) {
            let state = running.fusion.snapshot()?;
            snapshots.push(Snapshot { stream_id: stream.clone(), position, version: STATE_VERSION, state });
            (running.since_snapshot, running.unsaved_from) = (0, None);
        }
    }
    commit.snapshots = snapshots;
    let resting = |streams: &BTreeMap<StreamId, Running>| {
        let resting = streams.iter().filter(|(_, r)| !r.fusion.is_open());
        let oldest = resting.clone().min_by_key(|(_, r)| r.position).map(|(stream, _)| stream.clone());
        (resting.count() > MAX_RESTING).then_some(oldest).flatten()
    };
    while let Some(stream) = resting(streams) {
        streams.remove(&stream);
        commit.snapshots.retain(|s| s.stream_id != stream);
        commit.finished.push(stream);
    }
    // The log is needed from the first record that no snapshot holds.
    let unsaved = streams.values().filter_map(|r| r.unsaved_from).min();
    commit.position = match unsaved {
        Some(first) => first.checked_sub(1),
        None => Some(last),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
