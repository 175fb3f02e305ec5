//! What follows from the logs when nothing disturbs it, compared with what crest told and shows.

use anyhow::{Context, Result, ensure};
use crest_core::chat::ChatMessage;
use crest_core::event::{Event, EventType};
use crest_core::highlight::{Decision, Highlight, HighlightState};
use crest_core::id::{EndpointId, WebhookId};
use crest_core::signal::{Signal, SignalBatch, SignalEntry};
use crest_core::topic::Topic;
use crest_core::view::{HighlightView, Links};
use crest_core::{Bucket, Session, StreamId, WallTime};
use crest_fusion::{DimensionSet, StreamFusion};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::logs::Logs;
use super::{Promised, first_arrivals};
use crate::receiver::{Received, Receiver};

/// A session of a stream, and a bucket of it.
type Place = (StreamId, Session, Bucket);

/// What fusion makes of a signals log, whole and in one go.
#[derive(Debug, Default)]
pub struct Undisturbed {
    /// The last word on each highlight, and when its session began.
    highlights: BTreeMap<String, (Highlight, WallTime)>,
    /// What is told of them.
    events: Vec<Event>,
    /// Where each session ends, in seconds.
    pub ends: BTreeMap<u64, f64>,
    /// How much chat was counted.
    counted: BTreeMap<Place, f64>,
    /// Records that cannot be read.
    unreadable: usize,
}

impl Undisturbed {
    /// Runs it; `base` is the address that events carry.
    pub fn run(logs: &Logs, base: &str) -> Result<Self> {
        let links = Links::new(base);
        let mut run = Self::default();
        let mut streams: HashMap<StreamId, StreamFusion> = HashMap::new();
        for record in &logs.signals {
            let known = record.version == Topic::Signals.schema_version();
            let Some(batch) = SignalBatch::decode(&record.payload).ok().filter(|_| known) else {
                run.unreadable += 1;
                continue;
            };
            for entry in &batch.entries {
                run.note(&record.key, batch.session, entry);
            }
            let fresh =
                || StreamFusion::new(batch.organization_id.clone(), record.key.clone(), DimensionSet::default());
            let fusion = streams.entry(record.key.clone()).or_insert_with(fresh);
            for decision in fusion.apply(&batch).decisions {
                let highlight = decision.highlight().clone();
                let started = fusion.started(highlight.session).context("a decision on a session that is forgotten")?;
                run.events.extend(event(&decision, started, &links));
                run.highlights.insert(highlight.id.to_string(), (highlight, started));
            }
        }
        Ok(run)
    }

    /// How often something is told.
    pub fn decisions(&self) -> usize {
        self.events.len()
    }

    fn note(&mut self, stream: &StreamId, session: Session, entry: &SignalEntry) {
        match entry {
            SignalEntry::Value { bucket, signal: Signal::ChatRate, value } => {
                self.counted.insert((stream.clone(), session, *bucket), *value);
            }
            SignalEntry::SessionEnd { at } => {
                self.ends.entry(u64::from(session.number())).or_insert_with(|| at.secs_f64());
            }
            _ => {}
        }
    }

    /// Each accepted message is in the log and counts once.
    pub fn chat_counts(&self, logs: &Logs, promised: &Promised) -> Result<()> {
        let (mut arrived, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut rates: BTreeMap<Place, f64> = BTreeMap::new();
        let mut unreadable = self.unreadable;
        for record in &logs.chat {
            let known = record.version == Topic::ChatMessages.schema_version();
            let Some(message) = ChatMessage::decode(&record.payload).ok().filter(|_| known) else {
                unreadable += 1;
                continue;
            };
            let id = message.id.clone().context("a message without id")?;
            arrived.insert(id.clone());
            // Sent again after a restart it may have come to the next session, where it is new.
            if seen.insert((message.session, id)) {
                *rates.entry((record.key.clone(), message.session, message.at.bucket())).or_default() += 2.0;
            }
        }
        let lost: Vec<_> = promised.chat.difference(&arrived).collect();
        ensure!(lost.is_empty(), "messages that were answered 2xx are lost: {lost:?}");
        let wrong: Vec<_> = rates.iter().filter(|(place, rate)| self.counted.get(place) != Some(rate)).collect();
        ensure!(
            wrong.is_empty() && self.counted.len() == rates.len(),
            "chat is counted otherwise than it was accepted: {wrong:?} are counted {:?}",
            wrong.iter().map(|(place, _)| self.counted.get(place)).collect::<Vec<_>>()
        );
        // What was read again after a crash may have been set aside twice.
        ensure!(logs.set_aside.len() >= unreadable, "{unreadable} records cannot be read: {:?}", logs.set_aside);
        ensure!(unreadable > 0 || logs.set_aside.is_empty(), "records were set aside: {:?}", logs.set_aside);
        Ok(())
    }

    /// Each mark that was accepted lies in a highlight.
    pub fn marks_are_found(&self, promised: &Promised) -> Result<()> {
        for (session, second) in &promised.marks {
            let end = self.ends.get(session).copied().with_context(|| format!("session {session} does not end"))?;
            let second = second.min(end);
            let covers = |h: &Highlight| {
                u64::from(h.session.number()) == *session && h.start.secs_f64() <= second && h.end.secs_f64() >= second
            };
            let found = self.highlights.values().any(|(h, _)| covers(h) && h.state != HighlightState::Deleted);
            ensure!(found, "the mark at {second} s of session {session}, which ends at {end} s, is no highlight");
        }
        Ok(())
    }

    /// The API shows what was decided: the same highlights, with the same spans and scores.
    pub fn is_shown(&self, highlights: &[Value], base: &str) -> Result<()> {
        let links = Links::new(base);
        let found: BTreeSet<&str> = highlights.iter().filter_map(|h| h["id"].as_str()).collect();
        let decided: BTreeSet<&str> = self.highlights.keys().map(String::as_str).collect();
        ensure!(found == decided, "an undisturbed run decides {decided:?}, this one decided {found:?}");
        for shown in highlights {
            let (highlight, started) = &self.highlights[shown["id"].as_str().unwrap_or_default()];
            let mut view = HighlightView::of_decision(highlight, *started, &links);
            let state = shown["state"].as_str().and_then(HighlightState::parse).context("no state")?;
            if highlight.state == HighlightState::Final
                && matches!(state, HighlightState::Ready | HighlightState::Failed)
            {
                // What the clip adds.
                let added: HighlightView = serde_json::from_value(shown.clone())?;
                ensure!(added.revision == view.revision + 1, "{shown} follows {}", view.revision);
                (view.state, view.revision, view.reason) = (added.state, added.revision, added.reason);
                (view.clip_url, view.thumbnail_url) = (added.clip_url, added.thumbnail_url);
                (view.clip_start_s, view.clip_duration_s) = (added.clip_start_s, added.clip_duration_s);
            }
            let view = serde_json::to_value(view)?;
            ensure!(view == *shown, "an undisturbed run decides {view}, this one decided {shown}");
        }
        Ok(())
    }

    /// The receiver was told what was decided, byte for byte, and nothing else.
    pub fn was_told(&self, receiver: &Receiver) -> Result<()> {
        let received = receiver.received();
        let mut arrived = first_arrivals(&received)?;
        let endpoint = EndpointId::from_raw(receiver.id.clone());
        for event in &self.events {
            let id = WebhookId::derive(&event.id, &endpoint);
            let told = arrived.remove(id.as_str()).with_context(|| format!("was never told: {event:?}"))?;
            let body = as_told(event, told)?;
            ensure!(body.as_bytes() == told.body, "{body} was told as {:?}", told.body);
        }
        let decisions = [EventType::HighlightDetected, EventType::HighlightUpdated, EventType::HighlightDeleted];
        let more: Vec<Value> = arrived
            .values()
            .filter(|told| decisions.iter().any(|kind| kind.name() == told.kind()))
            .map(|told| told.json())
            .collect();
        ensure!(more.is_empty(), "an undisturbed run does not decide {more:?}");
        Ok(())
    }
}

/// Compares everything that a crest which has stopped left behind.
pub fn compare(
    logs: &Logs,
    promised: &Promised,
    highlights: &[Value],
    receiver: &Receiver,
    base: &str,
) -> Result<Undisturbed> {
    let run = Undisturbed::run(logs, base)?;
    run.chat_counts(logs, promised)?;
    run.marks_are_found(promised)?;
    run.is_shown(highlights, base)?;
    run.was_told(receiver)?;
    Ok(run)
}

/// The body of an event as this webhook has it, were it about this decision: when it was told and where it
/// stands among the endpoint's events is no part of a decision.
fn as_told(event: &Event, told: &Received) -> Result<String> {
    let body = told.json();
    let timestamp = body["timestamp"].as_str().and_then(WallTime::parse).context("no timestamp")?;
    let sequence = body["data"]["sequence"].as_u64().context("no sequence")?;
    Ok(Event { timestamp, ..event.clone() }.body(sequence))
}

/// What is told of a decision; of a final one nothing until its clip is there.
fn event(decision: &Decision, started: WallTime, links: &Links) -> Option<Event> {
    let kind = match decision {
        Decision::Detected { .. } => EventType::HighlightDetected,
        Decision::Updated { .. } => EventType::HighlightUpdated,
        Decision::Deleted { .. } => EventType::HighlightDeleted,
        Decision::Finalized { .. } => return None,
    };
    let highlight = decision.highlight();
    let view = HighlightView::of_decision(highlight, started, links);
    Some(view.event(&highlight.organization_id, kind, started))
}
